"""Random streams: one number for each purpose, and no two keys that draw alike."""

from __future__ import annotations

import ast
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import sketchknitter
from sketchknitter.seeds import Stream, derived_seed, stream, taken_turn

ROOT = Path(sketchknitter.__file__).parent


def drawn(*key: int, seed: int = 3, purpose: Stream = Stream.NOISE) -> tuple[int, ...]:
    return tuple(stream(seed, purpose, *key).integers(2**62, size=4).tolist())


def test_a_key_is_another_one_when_zeros_are_added() -> None:
    keys = [(), (0,), (0, 0), (1,), (1, 0), (1, 0, 0), (0, 1), (2**32 - 1,)]
    assert len({drawn(*k) for k in keys}) == len(keys)


def test_seeds_purposes_and_keys_do_not_collide() -> None:
    seen = {
        drawn(*key, seed=seed, purpose=purpose)
        for seed, purpose in product((0, 1, 2**32, 2**63), Stream)
        for key in ((), (0,), (int(purpose),))
    }
    assert len(seen) == 4 * len(Stream) * 3


def test_a_stream_is_the_same_again() -> None:
    assert drawn(5, 6) == drawn(5, 6)
    assert drawn(5, seed=-1) == drawn(5, seed=2**64 - 1)


@pytest.mark.parametrize("key", [-1, 2**32])
def test_a_key_that_could_be_another_is_refused(key: int) -> None:
    with pytest.raises(ValueError, match="key"):
        stream(0, Stream.NOISE, key)


def test_derived_seeds_are_keyed() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1)]
    seeds = {derived_seed(s, Stream.DROPOUT, *k) for s in (0, 1) for k in keys}
    assert len(seeds) == 8
    assert all(0 <= s < 2**63 for s in seeds)


def test_classes_take_turns() -> None:
    turns = [taken_turn(0, i, 5) for i in range(40)]
    rounds = [tuple(turns[k : k + 5]) for k in range(0, 40, 5)]
    assert all(sorted(r) == list(range(5)) for r in rounds)
    assert len(set(rounds)) > 1


# -- every use of randomness is in the list ------------------------------------------------------
# which argument is the purpose, of functions and of methods
FUNCTIONS = {"stream": 1, "derived_seed": 1, "streams": 0}
METHODS = {"each": 0, "whole": 0, "streams": 0}


def purposes(source: str) -> Counter[str]:
    """Members of Stream, and other things, given as purposes in one file."""
    found: Counter[str] = Counter()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).split(".")[-1]
        places = METHODS if isinstance(node.func, ast.Attribute) else FUNCTIONS
        if name in ("default_rng", "SeedSequence", "RandomState"):
            found[f"{name} instead of stream"] += 1
        elif len(node.args) > places.get(name, len(node.args)):
            given = ast.unparse(node.args[places[name]])
            found[given.removeprefix("Stream.") if given.startswith("Stream.") else given] += 1
    return found


def test_every_stream_of_the_package_is_in_the_list() -> None:
    found: Counter[str] = Counter()
    for path in ROOT.rglob("*.py"):
        if path.name != "seeds.py":
            found += purposes(path.read_text(encoding="utf-8"))
    handed_on = {"purpose", "iteration", "i"}  # functions that are given the purpose, or streams
    assert set(found) - set(Stream.__members__) - handed_on == set()


def test_the_search_finds_what_it_should() -> None:
    text = "stream(0, 3)\nnp.random.default_rng(1)\nof.each(NOISE)\nstream(0, Stream.INK)"
    found = purposes(text)
    assert found == Counter({"3": 1, "default_rng instead of stream": 1, "NOISE": 1, "INK": 1})


def test_generators_are_philox() -> None:
    assert isinstance(stream(0, Stream.NOISE).bit_generator, np.random.Philox)
