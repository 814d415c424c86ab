"""A person's drawing among the model's points, and back into the person's own coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchknitter.data.batch import DRAW, LIFT
from sketchknitter.data.codec import Codec
from sketchknitter.diffusion.condition import FREE
from sketchknitter.errors import UserError
from sketchknitter.geometry import QUICKDRAW_EPSILON, QUICKDRAW_SIZE, rdp
from sketchknitter.sketch import Array, Sketch

Indices = NDArray[np.int64]


def check(sketch: Sketch, what: str = "the drawing") -> None:
    """Refuse what no model can look at.

    Raises:
        UserError: an empty drawing, a dot, or coordinates too large to measure.
    """
    if not sketch.num_points:
        raise UserError(f"{what} is empty: there is nothing to go on; draw a stroke first")
    with np.errstate(over="ignore"):
        extent = float(np.ptp(sketch.points, axis=0).max())
    if not np.isfinite(extent):
        raise UserError(f"{what} is too large to measure; scale its coordinates down")
    # float64 keeps 15 digits: a drawing tiny against its own coordinates has no shape left
    if extent <= 1e-9 * max(1e-300, float(np.abs(sketch.points).max())):
        raise UserError(f"{what} is a single dot: it has no shape to go on; draw a stroke first")


# how rough drawings are whose points are off at random, by how much, and how much wider their box
# is than it should be: medians over training drawings
_ROUGH = (0.039, 0.059, 0.092, 0.135, 0.162, 0.183)
_ERROR = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
_WIDER = (1.0, 1.06, 1.19, 1.47, 1.91, 2.63)


def error_of(sketch: Sketch) -> float:
    """How far a drawing's points seem to be off at random, as a share of its true longer side.

    Read off its roughness: the size of second differences along its strokes.
    """
    bends = [np.diff(s, 2, axis=0) for s in sketch.strokes if len(s) > 2]
    if not bends:
        return 0.0
    each = (np.concatenate(bends) / sketch.extent) ** 2
    return float(np.interp((each.sum(axis=1).mean() / 12) ** 0.5, _ROUGH, _ERROR))


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
        epsilon: px by which the drawing was simplified.
    """

    source: Sketch
    points: Array
    stroke: Indices
    epsilon: float

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
    return Outline(sketch, points, np.repeat(*np.array([(i, len(s)) for i, s in kept]).T), epsilon)


def _thinned(stroke: Array, epsilon: float) -> Array:
    # a stroke has two points at least in the model's data: a dot is one point twice
    return np.repeat(stroke, 2, axis=0) if len(stroke) == 1 else rdp(stroke - 0.0, epsilon)


@dataclass(frozen=True)
class Plan:
    """Where an outline's points stand in a model drawing.

    Attributes:
        outline: the known points.
        place: model point of each, ascending, (k,).
        count: points of the model drawing.
        scale: model px for one px of the drawing.
    """

    outline: Outline
    place: Indices
    count: int
    scale: float

    @property
    def extent(self) -> float:
        """Longer side of the drawing, its own px."""
        return self.outline.source.extent

    @property
    def center(self) -> Array:
        """Middle of the known points' box, the drawing's px."""
        points = self.outline.points
        return (points.min(axis=0) + points.max(axis=0)) / 2

    def model_points(self) -> Array:
        """Known points in model px, their box centered at 0, (k, 2)."""
        return (self.outline.points - self.center) * self.scale

    def pens(self) -> Indices:
        """Pen state after each model point, (count,); ``FREE`` where the model decides.

        A stroke may be continued where something new follows it; where the next known stroke
        follows at once, the pen lifts.
        """
        out = np.full(self.count, FREE, dtype=np.int64)
        ends = self.outline.ends
        out[self.place[~ends]] = DRAW
        next_known = np.append(np.diff(self.place) == 1, False)
        out[self.place[ends & next_known]] = LIFT
        return out


def rows_of(plan: Plan, codec: Codec) -> int:
    """Model rows of a plan: offsets have one row less than points."""
    return plan.count - (1 - codec.extra)


def emitted(plan: Plan, drawn: Sketch, kept: frozenset[int], label: str | None) -> Sketch:
    """A model drawing in the person's coordinates, with the strokes ``kept`` re-emitted untouched.

    Args:
        plan: what was known; ``drawn`` agrees with it up to displacement.
        drawn: model px; may end early.
        kept: strokes of the source drawing that stay exactly as they were drawn.
        label: of the result.
    """
    n = drawn.num_points
    place = plan.place[plan.place < n]
    stroke = plan.outline.stroke[: len(place)]
    held = np.isin(stroke, list(kept))
    points = _home(plan, drawn.points, held)
    owner = np.full(n, -1)
    owner[place[held]] = stroke[held]
    points[place[held]] = plan.outline.points[: len(place)][held]
    out: list[Array] = []
    seen: set[int] = set()
    bounds = np.cumsum([0, *(len(s) for s in drawn.strokes)])
    for start, end in pairwise(bounds.tolist()):
        cuts = start + 1 + np.flatnonzero(np.diff(owner[start:end]))
        for a, b in pairwise([start, *cuts.tolist(), end]):
            mine = int(owner[a])
            if mine < 0:
                # joined to the kept points that it starts from and leads to
                out.append(points[a - (a > start) : b + (b < end)])
            elif mine not in seen:
                seen.add(mine)
                out.append(plan.outline.source.strokes[mine])
    # strokes that the model was not shown, or did not come to
    out += [plan.outline.source.strokes[i] for i in sorted(kept - seen)]
    return Sketch(out, label)


def _home(plan: Plan, points: Array, held: NDArray[np.bool_]) -> Array:
    """Model points in the person's px, displaced so that the points ``held`` (or all that are
    known, where none is) come to lie where they were drawn."""
    known = np.flatnonzero(held) if held.any() else np.arange(len(held))
    moved = points / plan.scale
    if len(known):
        away = plan.outline.points[known] - moved[plan.place[known]]
        return moved + away.mean(axis=0)
    return moved + plan.center


def subdivided(plan: Plan, count: int) -> dict[str, Any]:
    """Changes that bring a plan without gaps to ``count`` points: its longest segments halved."""
    points, stroke = plan.outline.points, plan.outline.stroke
    while len(points) < count:
        length = np.hypot(*np.diff(points, axis=0).T) * (stroke[1:] == stroke[:-1])
        i = int(np.argmax(length)) + 1
        points = np.insert(points, i, (points[i - 1] + points[i]) / 2, axis=0)
        stroke = np.insert(stroke, i, stroke[i - 1])
    finer = replace(plan.outline, points=points, stroke=stroke)
    return {"outline": finer, "place": np.arange(count), "count": max(count, plan.count)}
