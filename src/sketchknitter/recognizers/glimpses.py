"""Glimpses: drawings taken apart and made rough, for networks that say what was meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sketchknitter.data.augment import Augment
from sketchknitter.data.batch import DRAW
from sketchknitter.data.codec import Codec
from sketchknitter.data.conditions import (
    Example,
    Flags,
    cut_anywhere,
    cut_at_stroke,
    deformed,
    moved_by,
    outside_disk,
    plain_example,
    whole_strokes,
)
from sketchknitter.data.outline import outline
from sketchknitter.recognizers.outlook import LONGEST, as_seen
from sketchknitter.sketch import Sketch

CODEC = Codec(max_rows=LONGEST - 1)
CELLS = 8  # a side of the grid whose cells are blanked


@dataclass(frozen=True)
class Glimpses:
    """What is done to drawings before a recognizer sees them.

    Attributes:
        mirror, rotate, resize, drop: see :class:`~sketchknitter.data.augment.Augment`.
        prefix, suffix, strokes, disk, cells: shares of drawings of which the beginning, the end,
            some strokes, all but a disk, or all but some cells of a grid are seen; what is left
            is seen whole.
        left: share of points before the cut of a prefix; None cuts anywhere.
        lifted: share of prefixes that end where a stroke does, as what a person drew always does.
        loose: share of prefixes of which it is said that parts anywhere may be missing.
        between: share of prefixes cut within a stroke whose last point lies between two of it.
        rough, rough_part: shares of whole drawings and of parts whose points are off.
        white: share of these whose points are moved each by itself, evenly up to ``farthest``
            longer sides; the others are deformed as the denoiser sees it.
        wary: share of exact drawings of which it is said that points may be off.
        declared: share of whole drawings of which it is said that nothing is missing.
    """

    mirror: float = 0.5
    rotate: float = 12.0
    resize: float = 0.3
    drop: float = 0.03
    prefix: float = 0.32
    suffix: float = 0.03
    strokes: float = 0.06
    disk: float = 0.03
    cells: float = 0.04
    left: float | None = None
    lifted: float = 0.5
    loose: float = 0.1
    between: float = 0.25
    rough: float = 0.55
    rough_part: float = 0.2
    white: float = 0.6
    farthest: tuple[float, float] = (0.0, 0.5)
    wary: float = 0.3
    declared: float = 0.5

    def __call__(self, rows: NDArray[np.float64], rng: np.random.Generator) -> Glimpse:
        """What is seen of a drawing with stroke-3 ``rows`` (n, 3)."""
        change = Augment(self.mirror, self.rotate, self.resize, self.drop)
        e = plain_example(change(rows, rng), CODEC)
        kinds = ("prefix", "suffix", "strokes", "disk", "cells")
        place = int(
            np.searchsorted(np.cumsum([getattr(self, k) for k in kinds]), rng.random(), "right")
        )
        kind = kinds[place] if place < len(kinds) else "whole"
        off = rng.random() < (self.rough if kind == "whole" else self.rough_part)
        if off and rng.random() < self.white:
            e = moved_by(e, rng.uniform(*self.farthest), rng)
        elif off:
            e = deformed(e, rng, LONGEST)
        n, between = len(e.points), False
        if kind == "prefix":
            k = self._cut(e, rng)
            seen = np.arange(n) < k
            within = k > 1 and e.pens[k - 2] == DRAW == e.pens[k - 1]
            between = within and rng.random() < self.between
            if between:
                shown = e.shown.copy()
                shown[k - 1] += rng.uniform(0.1, 0.9) * (shown[k - 2] - shown[k - 1])
                e = replace(e, shown=shown)
            where = "anywhere" if rng.random() < self.loose else "end"
        elif kind == "suffix":
            seen, where = np.arange(n) >= cut_anywhere(n, rng), "start"
        elif kind == "strokes":
            seen, where = whole_strokes(e, rng), "anywhere"
        elif kind == "disk":
            seen, where = outside_disk(e, rng), "anywhere"
        elif kind == "cells":
            seen, where = outside_cells(e, rng), "anywhere"
        else:
            seen = np.ones(n, bool)
            if rng.random() < self.declared:
                where = "nothing"
            else:
                where = "end" if rng.random() < 0.75 else "anywhere"
        if not (seen.any() and np.ptp(e.shown[seen], axis=0).max() > 0):  # a dot shows nothing
            return self.glimpse(e, np.ones(n, bool), "nothing", True, False)
        return self.glimpse(e, seen, where, off or rng.random() < self.wary, between)

    def _cut(self, e: Example, rng: np.random.Generator) -> int:
        """How many points of a prefix are seen."""
        if self.left is not None:
            return max(2, round(len(e.points) * self.left))
        if rng.random() < self.lifted:
            return cut_at_stroke(e.pens, rng)
        return cut_anywhere(len(e.points), rng)

    @staticmethod
    def glimpse(e: Example, seen: Flags, where: str, rough: bool, between: bool) -> Glimpse:
        """The record of an example of which ``seen`` (n,) points are shown."""
        # a line ends where the next point of its stroke is gone
        ends = (e.pens != DRAW) | ~np.append(seen[1:], False)
        shown = e.shown[seen]
        low, high = shown.min(axis=0), shown.max(axis=0)
        first, last = e.points.min(axis=0), e.points.max(axis=0)
        whole = max(float((last - first).max()), 1e-9)
        size = max(float((high - low).max()), 1e-9)
        frame = np.append(np.log(whole / size), (first + last - low - high) / (2 * whole))
        missing = len(e.points) - len(shown) + between
        exact = missing == 0 and bool((e.shown == e.points).all())
        return Glimpse(
            as_seen(shown, ends[seen], where, rough),
            missing,
            frame,
            counted=where != "nothing",
            framed=not exact and abs(frame[0]) < 3,
        )


AS_DRAWN = Glimpses(
    mirror=0,
    rotate=0,
    resize=0,
    drop=0,
    prefix=0,
    suffix=0,
    strokes=0,
    disk=0,
    cells=0,
    lifted=0,
    loose=0,
    between=0,
    rough=0,
    rough_part=0,
    white=1,
    wary=0,
    declared=1,
)


@dataclass(frozen=True)
class Glimpse:
    """What is seen of a drawing, and what is to be said of it.

    Attributes:
        rows: the outlook's input, (n, INPUTS).
        missing: how many points.
        frame: of the whole, (FRAME,).
        counted, framed: whether ``missing`` and ``frame`` are to be guessed: not where it is
            declared, or where the drawing itself is the whole.
    """

    rows: NDArray[np.float32]
    missing: int
    frame: NDArray[np.float64]
    counted: bool
    framed: bool

    def sketch(self) -> Sketch:
        """What is seen, as a drawing whose longer side is 2."""
        ends = np.flatnonzero(self.rows[:, 4]) + 1
        strokes = np.split(self.rows[:, :2].astype(np.float64), ends)
        return Sketch([stroke for stroke in strokes if len(stroke)])


def outside_cells(e: Example, rng: np.random.Generator) -> Flags:
    """The points outside some inked cells of a grid over the box (Su et al. 2020), (n,)."""
    low = e.points.min(axis=0)
    size = max(float(np.ptp(e.points, axis=0).max()), 1e-9)
    cell = np.minimum(((e.points - low) / size * CELLS).astype(int), CELLS - 1)
    number = cell[:, 0] * CELLS + cell[:, 1]
    inked = np.unique(number)
    blank = rng.choice(inked, max(1, round(rng.uniform(0.05, 0.5) * len(inked))), replace=False)
    return np.asarray(~np.isin(number, blank))


def rows_of(sketches: Sequence[Sketch]) -> list[NDArray[np.float64]]:
    """Stroke-3 rows (n, 3) of what a network sees of drawings."""
    out = []
    for sketch in sketches:
        drawn = outline(sketch, most=LONGEST)
        out.append(np.column_stack([np.diff(drawn.points, axis=0), drawn.ends[1:]]).astype(float))
    return out
