"""Many drawings laid out flat: the form in which thousands are looked at and turned into rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchknitter import geometry
from sketchknitter.geometry import Array, Counts, starts_of
from sketchknitter.io.ndjson import Block
from sketchknitter.io.npz import Rows
from sketchknitter.sketch import Sketch

QUICKDRAW_EXTENT = 256  # px; what is larger or not in whole numbers was not simplified
MAX_COORDINATE = 1e9  # px; beyond it sums of offsets lose their digits


@dataclass(frozen=True)
class Flat:
    """Drawings one after another.

    Attributes:
        xy: (P, 2) points of all drawings, int16 or float64.
        stroke_lengths: (S,) points in each stroke, all >= 1.
        drawing_strokes: (D,) strokes in each drawing, all >= 1.
        words: D labels or None.
        places: where each drawing stands: index of its line in the block, or words.
    """

    xy: NDArray[Any]
    stroke_lengths: Counts
    drawing_strokes: Counts
    words: Sequence[str | None]
    places: Sequence[int | str]

    def __len__(self) -> int:
        return len(self.drawing_strokes)

    @cached_property
    def points(self) -> Counts:
        """(D,) points in each drawing."""
        return np.add.reduceat(self.stroke_lengths, starts_of(self.drawing_strokes))

    def pick(self, wanted: NDArray[np.bool_]) -> Flat:
        """Only the drawings where ``wanted`` (D,) is True."""
        of_stroke = np.repeat(wanted, self.drawing_strokes)
        kept = np.flatnonzero(wanted).tolist()
        return Flat(
            self.xy[np.repeat(of_stroke, self.stroke_lengths)],
            self.stroke_lengths[of_stroke],
            self.drawing_strokes[wanted],
            [self.words[i] for i in kept],
            [self.places[i] for i in kept],
        )

    def simplified(self) -> Flat:
        """QuickDraw's simplification of every drawing."""
        xy, lengths = geometry.simplify_quickdraw_many(
            self.xy, self.stroke_lengths, self.drawing_strokes
        )
        return Flat(xy, lengths, self.drawing_strokes, self.words, self.places)

    def far(self) -> NDArray[np.bool_]:
        """Which drawings have points too far out to reckon with, (D,)."""
        if not len(self) or np.abs(self.xy).max() <= MAX_COORDINATE:
            return np.zeros(len(self), dtype=bool)
        furthest = np.abs(self.xy).max(axis=1)
        return np.maximum.reduceat(furthest, starts_of(self.points)) > MAX_COORDINATE

    def unlike_quickdraw(self) -> NDArray[np.bool_]:
        """Which drawings are not within 256 px in whole numbers, (D,)."""
        if not len(self):
            return np.zeros(0, dtype=bool)
        _, longer = geometry.extents_many(self.xy, self.points)
        unlike = longer > QUICKDRAW_EXTENT
        broken = (self.xy != np.rint(self.xy)).any(axis=1)
        if broken.any():
            unlike |= np.logical_or.reduceat(broken, starts_of(self.points))
        return unlike

    def rows(self) -> tuple[NDArray[Any], Counts]:
        """``Sketch.to_stroke3`` of every drawing.

        Returns:
            (M, 3) rows in the dtype of ``xy``, and (D,) rows of each drawing.
        """
        xy, lengths = self.xy, self.stroke_lengths
        starts = starts_of(self.points)
        rows = np.zeros((len(xy), 3), dtype=xy.dtype)
        steps = xy[1:] - xy[:-1]
        rows[1:, 0], rows[1:, 1] = (
            steps[:, 0],
            steps[:, 1],
        )  # column by column is three times faster
        rows[np.cumsum(lengths) - 1, 2] = 1
        rows[starts, :2] = 0
        # the first point is the implicit origin, unless its stroke is a dot: then a zero row
        origin = lengths[starts_of(self.drawing_strokes)] > 1
        keep = np.ones(len(xy), dtype=bool)
        keep[starts[origin]] = False
        return where(rows, keep), self.points - origin


def where(rows: NDArray[Any], keep: NDArray[np.bool_]) -> NDArray[Any]:
    """``rows[keep]`` of a contiguous (M, 3) array, several times faster: each row is one item."""
    whole = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    return whole[keep[:, None]].view(rows.dtype).reshape(-1, rows.shape[1])


def merge_rows(
    first: tuple[NDArray[Any], Counts], second: tuple[NDArray[Any], Counts], of: NDArray[np.bool_]
) -> tuple[Array, Counts]:
    """Rows and lengths of two sets of drawings in one order: ``of`` (D,) is True for the first."""
    lengths = np.empty(len(of), dtype=np.int64)
    lengths[of], lengths[~of] = first[1], second[1]
    rows = np.empty((int(lengths.sum()), 3))
    rows[np.repeat(of, lengths)] = first[0]
    rows[np.repeat(~of, lengths)] = second[0]
    return rows, lengths


# -- from what readers yield -------------------------------------------------------------------
def of_block(block: Block) -> Flat:
    """The drawings of a parsed block of ndjson."""
    return Flat(block.xy, block.stroke_lengths, block.drawing_strokes, block.words, block.lines)


def of_sketches(sketches: Sequence[Sketch], places: Sequence[str]) -> Flat:
    """Drawings with points, one at least."""
    strokes = [stroke for sketch in sketches for stroke in sketch.strokes]
    return Flat(
        np.concatenate(strokes),
        np.array([len(s) for s in strokes], dtype=np.int64),
        np.array([len(s) for s in sketches], dtype=np.int64),
        [s.label for s in sketches],
        places,
    )


def of_rows(drawings: Sequence[Rows]) -> Flat:
    """Drawings of an archive, one at least; each begins at (0, 0)."""
    lengths = np.array([len(d.rows) for d in drawings], dtype=np.int64)
    rows = np.concatenate([d.rows for d in drawings]).astype(np.float64)
    ends = np.cumsum(lengths)
    xy = np.zeros((len(rows) + len(drawings), 2))  # n rows are n + 1 points from the origin
    for i, (a, b) in enumerate(pairwise([0, *ends.tolist()])):
        np.cumsum(rows[a:b, :2], axis=0, out=xy[a + i + 1 : b + i + 1])
    lift = rows[:, 2] > 0.5
    lift[ends - 1] = True
    strokes = np.add.reduceat(lift, ends - lengths, dtype=np.int64)
    own = np.diff(np.flatnonzero(lift), prepend=-1)
    own[starts_of(strokes)] += 1
    return Flat(xy, own, strokes, [d.label for d in drawings], [d.position for d in drawings])
