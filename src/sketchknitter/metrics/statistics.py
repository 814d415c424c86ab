"""Stroke statistics that a person understands, and how far two sets of drawings differ in them.

A feature network hardly sees ragged lines; a person does at once, and so do these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.errors import UserError
from sketchknitter.metrics.metric import Comparison, DrawingSet, Metric
from sketchknitter.sketch import Sketch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Statistic:
    """One measurable property of drawings.

    Args:
        name: the key in every report.
        unit: what its values, and the Wasserstein distance between two sets of them, are in.
        meaning: one line for the reader of a report.
    """

    name: str
    unit: str
    meaning: str


STATISTICS = (
    Statistic("strokes", "strokes", "strokes of a drawing"),
    Statistic("points", "points", "points of a drawing"),
    Statistic("ink_length", "% of longer side", "length of all lines of a drawing"),
    Statistic("lift_rate", "%", "share of a drawing's moves that are made with the pen up"),
    Statistic("segment_length", "% of longer side", "from one point to the next, pen down"),
    Statistic("turning_angle", "degrees", "change of direction at a point inside a stroke, 0–180"),
    Statistic("gap", "% of longer side", "from the end of a stroke to the nearest other ink point"),
)


def stroke_statistics(sketches: Sequence[Sketch]) -> dict[str, Array]:
    """The values of every statistic over all drawings, pooled; lengths over the longer side.

    The first four have one value for each drawing; segment lengths one for each segment, turning
    angles one for each inner point (repeated points aside), gaps two for each stroke of a drawing
    of two strokes or more.

    Returns:
        Name (see :data:`STATISTICS`) to values (n,) float64, possibly none.

    Raises:
        UserError: a sketch has no points.
    """
    pooled: dict[str, list[Array]] = {statistic.name: [] for statistic in STATISTICS}
    for sketch in sketches:
        for name, values in _of_one(sketch).items():
            pooled[name].append(values)
    empty = [np.zeros(0)]
    return {name: np.concatenate(values or empty) for name, values in pooled.items()}


def _of_one(sketch: Sketch) -> dict[str, Array]:
    percent = 100.0 / max(sketch.extent, 1e-9)
    steps = [np.diff(stroke, axis=0) for stroke in sketch.strokes]
    lengths = [np.hypot(step[:, 0], step[:, 1]) for step in steps]
    moves = max(sketch.num_points - 1, 1)
    segments = np.concatenate(lengths) * percent
    return {
        "strokes": np.array([float(len(sketch))]),
        "points": np.array([float(sketch.num_points)]),
        "ink_length": np.array([segments.sum()]),
        "lift_rate": np.array([100.0 * (len(sketch) - 1) / moves]),
        "segment_length": segments,
        "turning_angle": np.concatenate(
            [_turns(step[length > 0]) for step, length in zip(steps, lengths, strict=True)]
        ),
        "gap": _gaps(sketch) * percent,
    }


def _turns(steps: Array) -> Array:
    a, b = steps[:-1], steps[1:]
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return np.rad2deg(np.abs(np.arctan2(cross, (a * b).sum(1))))


def _gaps(sketch: Sketch) -> Array:
    if len(sketch) < 2:
        return np.zeros(0)
    owner = np.repeat(np.arange(len(sketch)), [len(s) for s in sketch.strokes])
    ends = np.array([end for stroke in sketch.strokes for end in (stroke[0], stroke[-1])])
    apart = ends[:, None] - sketch.points[None]
    distances = np.hypot(apart[..., 0], apart[..., 1])
    distances[np.repeat(np.arange(len(sketch)), 2)[:, None] == owner[None]] = np.inf
    return distances.min(1)


def wasserstein(x: ArrayLike, y: ArrayLike) -> float:
    """∫ |F⁻¹(u) − G⁻¹(u)| du of two samples: the mean distance one must move to become the other.

    Raises:
        UserError: a sample is empty or holds values that are not finite.
    """
    a = np.sort(np.asarray(x, dtype=np.float64).ravel())
    b = np.sort(np.asarray(y, dtype=np.float64).ravel())
    if not len(a) or not len(b):
        raise UserError("a Wasserstein distance needs values on both sides")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("a Wasserstein distance needs finite values")
    both = np.sort(np.concatenate([a, b]))
    below_a = np.searchsorted(a, both[:-1], side="right") / len(a)
    below_b = np.searchsorted(b, both[:-1], side="right") / len(b)
    return float((np.abs(below_a - below_b) * np.diff(both)).sum())


def statistic_distances(
    real: dict[str, Array], fake: dict[str, Array]
) -> dict[str, tuple[float, float, float] | None]:
    """For every statistic: Wasserstein distance, mean of ``real``, mean of ``fake``.

    None where one side has no values (no drawing has a second stroke, say): then there is nothing
    to compare, and a report says so instead of printing NaN.
    """
    return {
        name: (wasserstein(x, fake[name]), float(x.mean()), float(fake[name].mean()))
        if len(x) and len(fake[name])
        else None
        for name, x in real.items()
    }


def values_of(drawings: DrawingSet) -> dict[str, Array]:
    """:func:`stroke_statistics` of a set of drawings."""
    return stroke_statistics(drawings.sketches)


def _distance(name: str) -> Callable[[Comparison], float | None]:
    def compute(c: Comparison) -> float | None:
        real, drawn = c.real.once(values_of)[name], c.drawn.once(values_of)[name]
        return wasserstein(real, drawn) if len(real) and len(drawn) else None

    return compute


HEADLINES = ("turning_angle", "lift_rate", "gap", "points")
METRICS = tuple(
    Metric(
        f"w_{s.name}",
        f"W of {s.name.replace('_', ' ')}",
        _distance(s.name),
        unit=s.unit,
        note=s.meaning,
        headline=s.name in HEADLINES,
        halvings=3,
        place=90 + i,
    )
    for i, s in enumerate(STATISTICS)
)
