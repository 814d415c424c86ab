"""Shuffles of training drawings: the paper's Stroke-Shuffle and Point-Shuffle ablations.

Each is an object ``(rows, rng) -> rows`` for the loader, which hands it a fresh random stream for
every drawing of every epoch. Reconstructed: the paper names the two and shows their scores only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sketchknitter.errors import UserError
from sketchknitter.sketch import Array, Sketch

RowChange = Callable[[NDArray, np.random.Generator], NDArray]

CLOSED = 0.1  # share of a stroke's longer side within which its ends meet


@dataclass(frozen=True)
class StrokeShuffle:
    """Strokes in random order, each drawn as before.

    A dot never comes first where anything else can: stroke-3 rows cannot begin with one.
    """

    def __call__(self, rows: NDArray, rng: np.random.Generator) -> NDArray:
        """Stroke-3 rows (n, 3) -> rows (n, 3), float64."""
        strokes = Sketch.from_stroke3(rows).strokes
        order = rng.permutation(len(strokes)).tolist()
        first = next(i for i, k in enumerate(order) if len(strokes[k]) > 1)
        order[0], order[first] = order[first], order[0]
        return Sketch([strokes[k] for k in order]).to_stroke3()


@dataclass(frozen=True)
class PointShuffle:
    """Points in another order; how thoroughly is a matter of reading.

    ``in-stroke`` reverses every other stroke and starts closed ones anywhere: all ink stays.
    ``full`` permutes all points of the drawing, each with its pen: only :func:`reconnect` makes
    lines of them again. The pen state of the point that comes first is lost with the format.
    """

    reading: Literal["in-stroke", "full"] = "in-stroke"

    def __post_init__(self) -> None:
        if self.reading not in ("in-stroke", "full"):
            raise UserError(f"point shuffle is read as in-stroke or full, not {self.reading!r}")

    def __call__(self, rows: NDArray, rng: np.random.Generator) -> NDArray:
        """Stroke-3 rows (n, 3) -> rows (n, 3), float64."""
        sketch = Sketch.from_stroke3(rows)
        if self.reading == "in-stroke":
            return Sketch([_turned(stroke, rng) for stroke in sketch.strokes]).to_stroke3()
        lift = np.zeros(sketch.num_points)
        lift[np.cumsum([len(s) for s in sketch.strokes]) - 1] = 1.0
        order = rng.permutation(sketch.num_points)
        return np.column_stack([np.diff(sketch.points[order], axis=0), lift[order[1:]]])


def _turned(stroke: Array, rng: np.random.Generator) -> Array:
    out = stroke[::-1] if rng.random() < 0.5 else stroke
    gap = np.hypot(*(out[-1] - out[0]))
    if len(out) > 3 and gap <= CLOSED * np.ptp(out, axis=0).max():
        start = int(rng.integers(len(out) - 1))
        out = np.concatenate([out[start:-1], out[: start + 1]])
    return out


SHUFFLES: dict[str, RowChange] = {
    "strokes": StrokeShuffle(),
    "points in strokes": PointShuffle("in-stroke"),
    "all points": PointShuffle("full"),
}


@dataclass(frozen=True)
class Chain:
    """One change after another."""

    changes: tuple[RowChange, ...]

    def __call__(self, rows: NDArray, rng: np.random.Generator) -> NDArray:
        for change in self.changes:
            rows = change(rows, rng)
        return rows


def reconnect(sketch: Sketch) -> Sketch:
    """Lines through the points of a fully shuffled drawing: always on to the nearest one left.

    The pen lifts after a point that ended a stroke, and nowhere else: a limit on how far a line may
    jump tore more drawings apart than it mended.
    """
    points = sketch.points
    if len(points) < 2:
        return sketch
    ends = np.zeros(len(points), dtype=bool)
    ends[np.cumsum([len(s) for s in sketch.strokes]) - 1] = True
    left = np.ones(len(points), dtype=bool)
    at, strokes = 0, [[0]]
    left[0] = False
    for _ in range(len(points) - 1):
        apart = np.hypot(*(points - points[at]).T)
        apart[~left] = np.inf
        nearest = int(apart.argmin())
        if ends[at]:
            strokes.append([])
        strokes[-1].append(nearest)
        left[nearest] = False
        at = nearest
    return Sketch([points[s] for s in strokes], sketch.label)
