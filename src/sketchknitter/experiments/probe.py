"""What the code does, in a few numbers: they change when it would train or draw differently.

A hash of source text would throw away hours of training for a renamed variable, and a version
number is forgotten; a tiny run that is part of every key is neither.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sketchknitter.data.dataset import SPLITS, PreparedSet, Split
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.experiments.cache import digest
from sketchknitter.experiments.recipes import Recipe, drawing_settings, recipe
from sketchknitter.seeds import stream
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer

PROBE = 62  # what a random stream is for
SHORT = 12  # evaluations that a probe takes for a drawing, about


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, for sums that come out alike however many there are otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Probe:
    """Tiny models, one for each recipe that was asked about."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, SketchKnitter]] = {}

    def _tiny(self, options: dict[str, Any]) -> tuple[Any, SketchKnitter]:
        name = digest(options)
        if name not in self._made:
            trainer = _trainer(recipe(options))
            losses = [[r.loss, r.grad_norm, r.lr] for r in trainer.run(until=2)]
            rates = [trainer.learning_rate(i) for i in (0, 10, 1000)]
            self._made[name] = rounded([*losses, rates]), SketchKnitter(trainer.checkpoint())
        return self._made[name]

    def training(self, options: dict[str, Any]) -> Any:
        """Losses of two updates, and learning rates."""
        with one_thread():
            return self._tiny(options)[0]

    def drawing(self, options: dict[str, Any], settings: dict[str, Any]) -> Any:
        """Sizes of three drawings, at few steps."""
        with one_thread():
            return _drawn(self._tiny(options)[1], settings)


def _trainer(made: Recipe) -> DenoiserTrainer:
    """A trainer of the same recipe with a small network, on eight random drawings."""
    network = made.model.network
    if network.backbone != "official":
        network = dataclasses.replace(network, widths=(16, 24), attention_levels=(1,), num_heads=2)
    optim = dataclasses.replace(made.optim, batch_size=4, microbatch=-1)
    model = dataclasses.replace(made.model, network=network)
    return DenoiserTrainer(_toys(), model, optim, made.change)


def _toys() -> PreparedSet:
    rows = []
    for i in range(8):
        rng = stream(0, PROBE, i)
        n = int(rng.integers(5, 20))
        rows.append(np.column_stack([rng.normal(0, 9, (n, 2)).round(), rng.random(n) < 0.2]))
    ends = np.cumsum([len(r) for r in rows], dtype=np.int64)
    starts = ends - np.array([len(r) for r in rows], dtype=np.int64)
    flat, labels = np.concatenate(rows).astype(np.float32), np.array([0, 1] * 4, dtype=np.int16)
    names = ("a", "b")
    parts = {s: Split(s, flat, starts, ends, labels, names) for s in SPLITS}
    return PreparedSet(Path(), **parts, classes=names, fingerprint="toys", info={})


def _drawn(model: SketchKnitter, settings: dict[str, Any]) -> Any:
    made = drawing_settings(settings)
    if made.steps > SHORT and made.timesteps == "uniform":
        made = dataclasses.replace(made, steps=SHORT)
    if made.steps > 3 * SHORT or made.timesteps.startswith("shortcut"):
        made = dataclasses.replace(made, steps=SHORT, timesteps="uniform")
    sketches = list(model.stream(None, 3, seed=0, batch_size=2, settings=made))
    return [[len(s), s.num_points, *rounded([s.ink_length, s.extent])] for s in sketches]


def rounded(values: Any) -> Any:
    """Numbers to five digits, in lists however deep."""
    if isinstance(values, list):
        return [rounded(v) for v in values]
    return float(f"{values:.5g}")


def file_hash(path: Path) -> str:
    """16 hex digits of a file's sha256.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(f"no {path.name} here ({error.strerror})") from None
