"""The drawings that are compared: real ones, and those of each row."""

from __future__ import annotations

from functools import cached_property

from sketchknitter import io
from sketchknitter.data.shuffle import PointShuffle, reconnect
from sketchknitter.errors import UserError
from sketchknitter.experiments import measuring
from sketchknitter.experiments.declare import REAL, Row
from sketchknitter.experiments.parts import Parts
from sketchknitter.metrics.precision_recall import K
from sketchknitter.seeds import stream
from sketchknitter.sketch import Sketch

DRAWN = "drawn.npz"
SHUFFLED, SHOWN = 68, 69  # what a random stream is for
Folded = dict[str, list[Sketch]]  # fold, or all of them, to drawings


class Gallery:
    """All drawings of a table, by fold."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.table, self.data = parts, parts.table, parts.data
        self._references: dict[int, Folded] = {}

    @cached_property
    def folds(self) -> dict[str, tuple[str, ...]]:
        """Fold to its classes."""
        return measuring.folds(self.data.train)

    def reference(self, count: int) -> Folded:
        """Real test drawings, the same objects at every call.

        Raises:
            UserError: a class has too few.
        """
        if count not in self._references:
            classes, key = self.data.classes, measuring.REFERENCE
            self._references[count] = self.by_fold(
                measuring.draw_real([self.data.test], classes, count, key)
            )
        return self._references[count]

    def halves(self, count: int, seed: int) -> tuple[list[Sketch], list[Sketch]]:
        """Two disjoint halves of held-out real drawings."""
        both = [self.data.valid, self.data.test]
        return measuring.draw_halves(both, self.data.classes, count, seed)

    def by_fold(self, sketches: list[Sketch]) -> Folded:
        """All drawings, and where classes span several folds also those of each."""
        out = {measuring.ALL: sketches}
        labeled = all(s.label is not None for s in sketches)
        if self.table.measure.folds and labeled and len(self.folds) > 1:
            for fold, classes in self.folds.items():
                part = [s for s in sketches if s.label in classes]
                if len(part) > K:
                    out[fold] = part
        return out

    def drawn(self, row: Row, seed: int) -> list[Sketch]:
        """What a row drew, finished as the row says.

        Raises:
            UserError: drawings of classes that the data have not.
        """
        if row.model == REAL:
            found = self.halves(self.table.drawings(row), seed)[0]
        else:
            parts = self.parts.drawing(row, seed)
            found = [s for p in parts for s in io.read(p.folder / DRAWN, split="test")]
        if strangers := {s.label for s in found} - {None, *self.data.classes}:
            raise UserError(f"it draws {', '.join(map(str, strangers))}, which the data have not")
        if row.finish == "shuffle and reconnect":
            change = PointShuffle("full")
            found = [
                Sketch.from_stroke3(change(s.to_stroke3(), stream(seed, SHUFFLED, i)), s.label)
                for i, s in enumerate(found)
            ]
        return [reconnect(s) for s in found] if row.finish else found

    def shown(self, row: Row) -> tuple[Sketch, ...]:
        """Some drawings of a row's first seed, at random."""
        found = self.drawn(row, 0)
        chosen = stream(0, SHOWN).permutation(len(found))[: self.table.measure.shown]
        return tuple(found[i] for i in sorted(chosen))
