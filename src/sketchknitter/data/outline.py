"""What a network sees of a person's drawing: some of its points, never one moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sketchknitter.errors import UserError
from sketchknitter.geometry import QUICKDRAW_EPSILON, QUICKDRAW_SIZE, rdp
from sketchknitter.sketch import Array, Sketch

Indices = NDArray[np.int64]


FARTHEST = 1e12  # px, of a coordinate: float64 keeps a thousandth of a px there


def check(sketch: Sketch, what: str = "the drawing") -> None:
    """Refuse what no model can look at.

    Raises:
        UserError: an empty drawing, a dot, or coordinates too large to measure.
    """
    if not sketch.num_points:
        raise UserError(f"{what} is empty: there is nothing to go on; draw a stroke first")
    with np.errstate(over="ignore"):
        extent = float(np.ptp(sketch.points, axis=0).max())
    if not extent <= FARTHEST or np.abs(sketch.points).max() > FARTHEST:
        raise UserError(
            f"{what} is too large: coordinates lie within ±{FARTHEST:.0e}; scale it down"
        )
    # float64 keeps 15 digits: a drawing tiny against its own coordinates has no shape left
    if extent <= 1e-9 * max(1e-300, float(np.abs(sketch.points).max())):
        raise UserError(f"{what} is a single dot: it has no shape to go on; draw a stroke first")


# how rough drawings are whose points are off at random, by how much, and how much wider their box
# is than it should be: medians over training drawings
_ROUGH = (0.039, 0.059, 0.092, 0.135, 0.162, 0.183)


_ERROR = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)


_FEW = (4, 20)  # second differences that tell nothing of roughness, and that tell all


_WIDER = (1.0, 1.06, 1.19, 1.47, 1.91, 2.63)


def error_of(sketch: Sketch) -> float:
    """How far a drawing's points seem to be off at random, as a share of its true longer side.

    Read off its roughness: the size of second differences along its strokes. A few corners look
    rough as well, so a drawing of few points is believed to be meant as it is.
    """
    bends = [np.diff(s, 2, axis=0) for s in sketch.strokes if len(s) > 2]
    if not bends:
        return 0.0
    each = (np.concatenate(bends) / sketch.extent) ** 2
    error = np.interp((each.sum(axis=1).mean() / 12) ** 0.5, _ROUGH, _ERROR)
    return float(error * np.interp(len(each), _FEW, (0.0, 1.0)))


def widening(error: float) -> float:
    """How much wider a drawing's box has become whose points are off by ``error``."""
    return float(np.interp(error, _ERROR, _WIDER))


@dataclass(frozen=True)
class Outline:
    """What the model sees of a drawing: a subset of its points.

    Attributes:
        source: the drawing.
        points: (k, 2) in the drawing's own px.
        stroke: which of the drawing's strokes each belongs to, (k,).
    """

    source: Sketch
    points: Array
    stroke: Indices

    def __len__(self) -> int:
        return len(self.points)

    @property
    def ends(self) -> NDArray[np.bool_]:
        """Which points are the last of their stroke, (k,)."""
        return np.append(self.stroke[1:] != self.stroke[:-1], True)


def outline(sketch: Sketch, share: float = 1.0, most: int = 97) -> Outline:
    """The drawing as QuickDraw would simplify it, but only dropping points, never moving one.

    Args:
        sketch: any coordinates.
        share: its longer side as a share of that of the finished drawing: details that small would
            not be seen there.
        most: points wanted at most; beyond them the simplification grows coarser, and when the
            strokes alone are too many the shortest are left out of the model's sight.
    """
    unit = sketch.extent / (QUICKDRAW_SIZE * share)
    strokes = list(enumerate(sketch.strokes))
    if 2 * len(strokes) > most:
        by_size = sorted(strokes, key=lambda item: -float(np.ptp(item[1], axis=0).sum()))
        strokes = sorted(by_size[: most // 2], key=lambda item: item[0])
    epsilon = QUICKDRAW_EPSILON * unit
    while True:
        kept = [(i, _thinned(s, epsilon)) for i, s in strokes]
        if sum(len(s) for _, s in kept) <= most or all(len(s) == 2 for _, s in kept):
            break
        epsilon *= 1.2
    points = np.concatenate([s for _, s in kept])
    return Outline(sketch, points, np.repeat(*np.array([(i, len(s)) for i, s in kept]).T))


def _thinned(stroke: Array, epsilon: float) -> Array:
    # a stroke has two points at least in the model's data: a dot is one point twice
    return np.repeat(stroke, 2, axis=0) if len(stroke) == 1 else rdp(stroke - 0.0, epsilon)
