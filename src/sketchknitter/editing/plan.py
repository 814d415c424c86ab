"""A person's drawing among the model's points, and back into the person's own coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchknitter.data.batch import DRAW, LIFT
from sketchknitter.data.codec import Codec
from sketchknitter.data.outline import Indices, Outline
from sketchknitter.diffusion.guidance.known import FREE
from sketchknitter.geometry import turning
from sketchknitter.sketch import Array, Sketch


@dataclass(frozen=True)
class Plan:
    """Where an outline's points stand in a model drawing.

    Attributes:
        outline: the known points.
        place: model point of each, ascending, (k,).
        count: points of the model drawing.
        scale: model px for one px of the drawing.
        origin: where the model's frame has its middle, the drawing's px; None is the middle of the
            known points' box.
        goes_on: whether something new may continue a known stroke, or lead to one.
    """

    outline: Outline
    place: Indices
    count: int
    scale: float
    origin: Array | None = None
    goes_on: bool = True

    @property
    def extent(self) -> float:
        """Longer side of the drawing, its own px."""
        return self.outline.source.extent

    @property
    def center(self) -> Array:
        """Middle of the model's frame, the drawing's px."""
        if self.origin is not None:
            return self.origin
        points = self.outline.points
        return (points.min(axis=0) + points.max(axis=0)) / 2

    def model_points(self) -> Array:
        """Known points in model px, (k, 2)."""
        return (self.outline.points - self.center) * self.scale

    def pens(self) -> Indices:
        """Pen state after each model point, (count,); ``FREE`` where the model decides.

        The pen lifts before and after each known stroke; where ``goes_on``, the model decides
        whether it does so beside something new.
        """
        out = np.full(self.count, FREE, dtype=np.int64)
        ends = self.outline.ends
        out[self.place[~ends]] = DRAW
        next_known = np.append(np.diff(self.place) == 1, False)
        out[self.place[ends & next_known]] = LIFT
        if not self.goes_on:
            before = self.place[np.append(True, ends[:-1])] - 1
            lifted = np.append(self.place[ends], before[before >= 0])
            out[lifted[lifted < self.count - 1]] = LIFT
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
    # strokes that the model was not shown stay, and those to keep that it did not come to
    strokes = plan.outline.source.strokes
    unseen = set(range(len(strokes))) - set(plan.outline.stroke.tolist())
    out += [strokes[i] for i in sorted((unseen | kept) - seen)]
    return Sketch(out, label)


BENT = 1.0  # radians that a stroke turns in all


def unmoved(
    plan: Plan, drawn: Sketch, share: float, smoother: float = 0.0, most: float = np.inf
) -> frozenset[int]:
    """Strokes to keep as drawn: those that ``drawn`` moves by less than ``share`` (nothing to
    repair) or by more than ``most`` (a failed repair).

    Args:
        plan: of a whole drawing.
        drawn: what the model made of it; of another number of points, it keeps no stroke.
        share: root mean square displacement of a stroke's points, as a share of the drawing's
            longer side.
        smoother: a bent stroke that now turns less than this share of what it did is repaired,
            however little it moved.
        most: displacement, as ``share``.
    """
    n = len(plan.outline)
    if drawn.num_points != n:
        return frozenset()
    now, before = _home(plan, drawn.points, np.zeros(n, dtype=bool)), plan.outline.points
    stroke = plan.outline.stroke

    def same(i: int) -> bool:
        mine = stroke == i
        square = ((now[mine] - before[mine]) ** 2).sum(axis=1).mean()
        away, bends = float(square) ** 0.5 / plan.extent, turning(before[mine])
        trifle = away < share and (bends < BENT or turning(now[mine]) >= smoother * bends)
        return trifle or away > most

    return frozenset(int(i) for i in np.unique(stroke) if same(int(i)))


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
