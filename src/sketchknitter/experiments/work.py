"""The three kinds of work of a table: train a system, draw with it, measure what was drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sketchknitter.editing.system import mixed
from sketchknitter.errors import UserError
from sketchknitter.experiments import damage, sets
from sketchknitter.experiments.declare import CLEAN, REAL, Measure, Model, Row
from sketchknitter.experiments.steps import Context
from sketchknitter.metrics.features import Features
from sketchknitter.metrics.metric import Comparison, DrawingSet, choose, measure
from sketchknitter.progress import Progress
from sketchknitter.raster import render_batch
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.contract import Generator
from sketchknitter.systems.registry import make

CONDITIONAL = ("top1", "top10", "map", "retrieval1", "retrieval10", "chamfer", "apart")


@dataclass(frozen=True, eq=False)
class Train:
    """Trains a model; of the input, if there is one, it starts."""

    model: Model

    def __call__(
        self, context: Context, folder: Path, inputs: Sequence[Path], progress: Progress
    ) -> dict[str, Any]:
        system = make(self.model.kind, self.model.options, f"models.{self.model.name}")
        start = inputs[0] if inputs else None
        record = system.train(
            context.data, folder, start=start, device=context.device, progress=progress
        )
        return {"model": self.model.name, "record": record.to_dict()}


@dataclass(frozen=True, eq=False)
class Draw:
    """Draws a chunk of a row with the model of the input.

    Attributes:
        first, n: drawing ``first`` of the row and the n - 1 after it.
        seed: of the row.
    """

    model: Model
    row: Row
    first: int
    n: int
    chunk: int
    seed: int
    batch_size: int

    def __call__(
        self, context: Context, folder: Path, inputs: Sequence[Path], progress: Progress
    ) -> dict[str, Any]:
        generator = self._generator(context, inputs[0])
        before = getattr(generator, "evaluations", None)
        start, cpu = time.perf_counter(), time.process_time()
        drawn = self._drawn(context, generator, progress)
        spent = time.perf_counter() - start, time.process_time() - cpu
        strangers = {s.label for s in drawn} - {None, *context.data.classes}
        if strangers and self.row.task == "draw":  # of an edit, the class may be a wrong guess
            raise UserError(f"it draws {', '.join(map(str, strangers))}, which the data have not")
        sets.store(drawn, folder / sets.DRAWN)
        count = None if before is None else (generator.evaluations - before) / len(drawn)  # type: ignore[attr-defined]
        return {
            "n": len(drawn),
            "seconds": round(spent[0], 3),
            "cpu": round(spent[1], 3),
            "threads": torch.get_num_threads(),
            "evaluations": count or None,
        }

    def _generator(self, context: Context, trained: Path) -> Generator:
        def load() -> Generator:
            system = make(self.model.kind, self.model.options, f"models.{self.model.name}")
            return system.load(trained, context.device)

        return context.latest("generator", trained, load)

    def _drawn(self, context: Context, generator: Generator, progress: Progress) -> list[Sketch]:
        # every chunk has a seed of its own, alike for all rows: pairs of rows share their noise
        seed, settings = 1000 * self.seed + self.chunk, dict(self.row.settings)
        classes = context.data.classes
        labels: list[str] | None = mixed(classes, self.n, seed)
        source: list[Sketch] | None = None
        count = self.n
        if self.row.task != "draw":
            clean = originals(context, self.row)[self.first : self.first + self.n]
            bad = damaged(context, self.row, self.seed)[self.first : self.first + self.n]
            source = [b for b in bad for _ in range(self.row.endings)]
            names = [str(s.label) for s in clean for _ in range(self.row.endings)]
            labels = names if self.row.labeled else None
            settings["task"], count = self.row.task, len(source)
        drawn = list(
            generator.generate(
                count,
                labels=labels,
                source=source,
                seed=seed,
                batch_size=self.batch_size,
                progress=progress,
                **settings,
            )
        )
        if len(drawn) != count:
            raise UserError(f"{count} drawings were asked for, and {len(drawn)} came")
        return drawn


def originals(context: Context, row: Row) -> list[Sketch]:
    """The clean drawings of a conditional row."""
    gallery = _gallery(context).sketches
    return [gallery[i] for i in sets.chosen(context.data, row.drawings)]


def damaged(context: Context, row: Row, seed: int) -> list[Sketch]:
    """The same, damaged; the same objects at every call."""
    key = ("damaged", row.damage, row.drawings, seed)
    return context.once(key, lambda: damage.damaged(originals(context, row), row.damage, seed))


def _gallery(context: Context) -> DrawingSet:
    test = context.data.test
    return context.once(
        "gallery",
        lambda: DrawingSet([test.sketch(i) for i in range(len(test))], context.network),
    )


@dataclass(frozen=True, eq=False)
class Score:
    """Measures one seed of a row; without a row, of the floor. Inputs are its drawings.

    Attributes:
        count: drawings on each side.
    """

    how: Measure
    row: Row | None
    seed: int
    count: int

    def __call__(
        self, context: Context, folder: Path, inputs: Sequence[Path], progress: Progress
    ) -> dict[str, Any]:
        if self.row is not None and self.row.damage:
            return self._conditional(context, inputs)
        data = context.data
        cut = sets.folds(data.train) if self.how.folds else {}
        if self.row is None or self.row.model == REAL:
            first, second = sets.draw_halves(data, self.count, self.seed)
            drawn, real = first, self._sets(context, second, cut)
            if self.row is not None:
                drawn = sets.finished(drawn, self.row.finish, self.seed)
        else:
            found = [s for place in inputs for s in sets.read(place / sets.DRAWN)]
            drawn = sets.finished(found, self.row.finish, self.seed)
            real = context.once(
                ("reference", self.count, self.how.folds),
                lambda: self._sets(context, sets.reference(data, self.count), cut),
            )
        copies = self.how.copies and self.seed == 0 and self.row is not None
        figures, sizes = {}, {}
        for fold, sketches in sets.by_fold(drawn, cut).items():
            train = self._train(context) if copies and fold == sets.ALL else None
            if len(sketches) != len(real[fold]):
                raise UserError(f"{len(sketches)} drawings against {len(real[fold])}")
            made = DrawingSet(sketches, context.network)
            figures[fold] = figures_of(made, real[fold], train, self.how.geometry_repeats)
            sizes[fold] = len(sketches)
        return {"figures": figures, "drawings": sizes}

    def _sets(
        self, context: Context, sketches: list[Sketch], cut: dict[str, tuple[str, ...]]
    ) -> dict[str, DrawingSet]:
        parts = sets.by_fold(sketches, cut).items()
        return {fold: DrawingSet(part, context.network) for fold, part in parts}

    def _train(self, context: Context) -> DrawingSet:
        train = context.data.train
        return context.once(
            "train",
            lambda: DrawingSet([train.sketch(i) for i in range(len(train))], context.network),
        )

    def _conditional(self, context: Context, inputs: Sequence[Path]) -> dict[str, Any]:
        row = self.row
        assert row is not None
        gallery = _gallery(context)
        clean = gallery[sets.chosen(context.data, row.drawings)]
        endings: tuple[tuple[tuple[Sketch, ...], Sketch], ...] = ()
        if row.model == CLEAN:
            drawn = clean.sketches
        elif row.model == REAL:
            drawn = damaged(context, row, self.seed)
        else:
            every = [s for place in inputs for s in sets.read(place / sets.DRAWN)]
            k, bad = row.endings, damaged(context, row, self.seed)
            drawn = every[::k]
            if k > 1:
                groups = [tuple(every[a : a + k]) for a in range(0, len(every), k)]
                endings = tuple(zip(groups, bad, strict=True))
        made = DrawingSet(drawn, context.network)
        found = measure(Comparison(made, gallery, None, clean, endings), choose(CONDITIONAL))
        return {"figures": {sets.ALL: found}, "drawings": {sets.ALL: len(drawn)}}


def figures_of(
    drawn: DrawingSet, real: DrawingSet, train: DrawingSet | None, repeats: int
) -> dict[str, float]:
    """Every figure of drawings against equally many real ones."""
    return measure(Comparison(drawn, real, train, repeats=repeats))


def measuring_behavior() -> Any:
    """Figures of fixed drawings, to five digits: they change when a metric computes differently."""

    class Plain:
        name = identity = "plain"
        classes: tuple[str, ...] = ("a", "b", "c")

        def embed(self, sketches: Sequence[Sketch], progress: bool = False) -> Features:
            pictures = render_batch(sketches, 8).reshape(len(sketches), -1) / 255.0
            p = np.exp(pictures[:, :3] + pictures[:, 30:33])
            return Features(pictures, p / p.sum(1, keepdims=True), self.classes)

    parts = []
    for k in range(2):
        rng = stream(0, Stream.METRIC_PROBE, k)
        strokes = [[rng.normal(0, 9 + k, (6, 2)), rng.normal(9, 9, (4, 2))] for _ in range(12)]
        parts.append(DrawingSet([Sketch(s, "abc"[i % 3]) for i, s in enumerate(strokes)], Plain()))
    first, second = parts
    ends = ((tuple(first.sketches[:2]), second.sketches[0]),)
    both = Comparison(first, second, second, second, ends, repeats=3)
    return {name: float(f"{value:.5g}") for name, value in sorted(measure(both).items())}
