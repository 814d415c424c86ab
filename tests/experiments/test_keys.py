"""A part is done anew when anything it depends on changes, and only then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.diffusion.sampler import Ddim, Denoises, State
from sketchknitter.errors import UserError
from sketchknitter.experiments.cache import Cache, digest
from sketchknitter.experiments.declare import Table, read_table
from sketchknitter.experiments.plan import Plan
from sketchknitter.experiments.probe import Probe, small
from sketchknitter.experiments.steps import Context
from sketchknitter.metrics import fid
from sketchknitter.metrics.judge.network import Judge, load_judge
from sketchknitter.systems.registry import SYSTEMS, make
from sketchknitter.systems.sketchknitter import recognizability


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.fixture
def keys(prepared: PreparedSet, judge: Judge, tmp_path: Path) -> Callable[..., list[str]]:
    """Digests of the model, of its first drawings, of their measurement and of the floor's."""

    def make(table: Table, data: PreparedSet = prepared, network: Any = judge) -> list[str]:
        plan = Plan(table, Context(data, network), tmp_path, Probe(table.models))
        row = plan.rows[0]
        steps = [
            plan.training(row.model),
            plan.drawing(row, 0)[0],
            plan.measurement(row, 0),
            plan.measurement(None, 0, row.drawings),
        ]
        return [step.part.digest for step in steps]

    return make


def changed(before: list[str], after: list[str]) -> list[str]:
    names = ("model", "drawings", "figures", "floor")
    return [n for n, a, b in zip(names, before, after, strict=True) if a != b]


@pytest.fixture
def other(minimal: dict[str, Any]) -> Callable[..., Table]:
    """The smallest table with some values changed: ``measure__seeds=3``."""

    def make(**changes: Any) -> Table:
        content = deepcopy(minimal)
        for path, value in changes.items():
            place: Any = content
            *way, last = path.split("__")
            for step in way:
                place = place[int(step) if step.isdigit() else step]
            place[last] = value
        return read_table(content, "t")

    return make


ALL = ["model", "drawings", "figures"]


def test_what_is_declared_counts(
    keys: Callable[..., list[str]], plain: Table, other: Callable[..., Table]
) -> None:
    base = keys(plain)
    assert keys(plain) == base
    assert changed(base, keys(other(models__tiny__optim__iterations=5))) == ALL
    assert changed(base, keys(other(models__tiny__shuffle="strokes"))) == ALL
    assert changed(base, keys(other(rows__0__settings__steps=2))) == ALL[1:]
    assert changed(base, keys(other(measure__batch_size=2))) == ALL[1:]
    assert changed(base, keys(other(rows__0__finish="reconnect"))) == ALL[2:]
    assert changed(base, keys(other(measure__geometry_repeats=2))) == ["figures", "floor"]
    assert changed(base, keys(other(measure__drawings=4))) == ["figures", "floor"]


def test_names_and_notes_do_not(
    keys: Callable[..., list[str]], plain: Table, other: Callable[..., Table]
) -> None:
    table = other(rows__0__name="another", rows__0__note="new", measure__shown=1, measure__seeds=3)
    assert changed(keys(plain), keys(table)) == []


def test_data_and_judge_count(
    keys: Callable[..., list[str]], plain: Table, prepared: PreparedSet, judge: Judge
) -> None:
    base = keys(plain)
    fewer = dataclasses.replace(prepared, fingerprint="other")
    assert changed(base, keys(plain, data=fewer)) == [*ALL, "floor"]

    class Another:
        name, identity, classes, embed = "fid_sketch", "another", judge.classes, judge.embed

    assert changed(base, keys(plain, network=Another())) == ["figures", "floor"]


def test_code_that_computes_something_else_counts(
    keys: Callable[..., list[str]],
    other: Callable[..., Table],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = other(rows__0__settings__sampler="ddim")
    base = keys(table)
    with monkeypatch.context() as m:
        true = Codec.filter
        m.setattr(Codec, "filter", lambda self, rows: true(self, rows) ** 3)
        assert changed(base, keys(table)) == ALL
    with monkeypatch.context() as m:
        step = Ddim.step
        m.setattr(Ddim, "step", lambda self, model, state, *a: step(self, model, state, *a))
        assert changed(base, keys(table)) == []  # another way to compute the same

        def louder(self: Ddim, model: Denoises, state: State, t: Tensor, s: Tensor) -> State:
            out = state.asked(model, t)
            louder = dataclasses.replace(out, eps=1.1 * out.eps)
            return step(self, model, dataclasses.replace(state, out=louder), t, s)

        m.setattr(Ddim, "step", louder)
        assert changed(base, keys(table)) == ALL[1:]
    with monkeypatch.context() as m:
        m.setattr(fid, "frechet_distance", lambda x, y: float(np.abs(x - y).sum()))
        assert changed(base, keys(table)) == ["figures", "floor"]


STAGE = {"drawings": 16, "trajectories": 8, "levels": 4, "updates": 2, "stage_batch": 8}


def test_a_recipe_of_the_recognizability_stage_counts(
    keys: Callable[..., list[str]],
    other: Callable[..., Table],
    minimal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored = {"kind": "recognizability", "of": "tiny", **STAGE, "hidden": 8}

    def table(best_of: int = 1, **more: Any) -> Table:
        models = {"tiny": minimal["models"]["tiny"], "scored": scored | more}
        settings = {"steps": 3, "guidance": 1.0, "timesteps": "shortcut-static"}
        settings["best_of"] = best_of
        return other(models=models, rows__0__model="scored", rows__0__settings=settings)

    base = keys(table())
    assert changed(base, keys(table(updates=3))) == ALL
    assert changed(base, keys(table(warp_weight=0.25))) == ALL
    assert changed(base, keys(table(best_of=2))) == ALL[1:]  # needs the stage, even in the probe
    monkeypatch.setattr(recognizability, "turned", lambda points, rng: points)
    assert changed(base, keys(table())) == ALL


def test_drawings_must_be_shared_evenly(
    prepared: PreparedSet, judge: Judge, other: Callable[..., Table], tmp_path: Path
) -> None:
    for table, message in (
        (other(measure__drawings=9), "cannot be shared evenly by 2 classes"),
        (other(measure__drawings=8, measure__chunk=3), "cannot be shared evenly"),
        (other(measure__drawings=400), "are needed, there are 12"),
    ):
        with pytest.raises(UserError, match=message):
            Plan(table, Context(prepared, judge), tmp_path).check()


def test_parts(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
    part = cache.part("thing", {"a": 1})
    assert not part.done
    with pytest.raises(UserError, match="remove the folder"):
        _ = part.record
    part.finish({"x": 1.5})
    again = cache.part("thing", {"a": 1})
    assert again.done
    assert again.record == {"x": 1.5}
    assert cache.part("other", {"a": 1}).folder != part.folder
    with pytest.raises(ValueError, match="nan"):
        part.finish({"x": float("nan")})


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_system_is_tried_in_two_updates_whatever_its_budget(kind: str) -> None:
    budgeted = {"budget": {"seconds": 1200.0}} if kind != "recognizability" else {}
    least = small(make(kind, budgeted))
    spent = getattr(least, "spent", least.budget)
    assert (spent.updates, spent.seconds) == (2, 0) or getattr(least, "updates", 0) == 2
