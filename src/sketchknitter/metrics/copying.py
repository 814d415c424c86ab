"""Is a drawing a copy? The nearest training drawing of each, and how near real ones come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sketchknitter.errors import UserError
from sketchknitter.metrics.metric import Comparison, Metric
from sketchknitter.sketch import Sketch

Array = NDArray[np.float64]

CANDIDATES = 8
COPY_DISTANCE = 1.0  # % of the longer side: the lines lie on top of each other
_POINTS = 128  # evenly spaced along the ink, for the exact distance
_PICTURE = 16  # px, for the search
_BLOCK = 512


@dataclass(frozen=True)
class Neighbors:
    """The nearest training drawing of each of n drawings.

    Args:
        index: (n,) its place in the training set.
        distance: (n,) symmetric mean distance from ink to ink, % of the longer side.
    """

    index: NDArray[np.int64]
    distance: Array

    @property
    def copied(self) -> float:
        """Share of drawings nearer than 1 % of the longer side to a training drawing."""
        return float((self.distance < COPY_DISTANCE).mean())

    @property
    def median(self) -> float:
        """Median distance, % of the longer side."""
        return float(np.median(self.distance))


def nearest_training(
    sketches: Sequence[Sketch],
    train: Sequence[Sketch],
    candidates: int = CANDIDATES,
    progress: bool = False,
) -> Neighbors:
    """Each drawing's nearest in ``train`` by ink-to-ink distance, position and size set aside.

    Blurred 16 px pictures pick ``candidates`` each; among these the exact distance decides: the
    mean over both drawings of the way from each of 128 points along the ink to the other's nearest
    (symmetric Chamfer distance), drawings scaled to a longer side of 100 and centered.

    Raises:
        UserError: no drawings on one side, or a sketch without points.
    """
    if not len(sketches) or not len(train):
        raise UserError("a copy check needs drawings and training drawings, at least one of each")
    ours, theirs = ink_points(sketches), ink_points(train)
    pictures, shelf = _pictures(ours), _pictures(theirs)
    squares = (shelf**2).sum(1)
    best = np.empty(len(ours), np.int64)
    distance = np.empty(len(ours))
    count = min(candidates, len(shelf))
    for start in tqdm(
        range(0, len(ours), _BLOCK), "copy check", disable=not progress or len(ours) < 4 * _BLOCK
    ):
        rows = slice(start, start + _BLOCK)
        apart = squares[None] - 2.0 * pictures[rows] @ shelf.T
        near = np.argpartition(apart, count - 1, axis=1)[:, :count]
        for i, choice in enumerate(near, start):
            exact = chamfer(ours[i], theirs[choice])
            best[i], distance[i] = choice[exact.argmin()], exact.min()
    return Neighbors(best, distance)


def chamfer(points: Array, others: Array) -> Array:
    """Symmetric mean nearest distance between (p, 2) and each of (m, q, 2): (m,)."""
    apart = points[None, :, None] - others[:, None]
    squared = apart[..., 0] ** 2 + apart[..., 1] ** 2
    forth, back = np.sqrt(squared.min(2)).mean(1), np.sqrt(squared.min(1)).mean(1)
    return (forth + back) / 2


def ink_points(sketches: Sequence[Sketch], count: int = _POINTS) -> Array:
    """(n, count, 2): points evenly spaced along each drawing's ink, longer side 100, centered.

    Raises:
        UserError: a sketch has no points.
    """
    return np.stack([_along(sketch, count) for sketch in sketches])


def _along(sketch: Sketch, count: int) -> Array:
    x0, y0, x1, y1 = sketch.bounds
    points = (sketch.points - [(x0 + x1) / 2, (y0 + y1) / 2]) * (100.0 / max(sketch.extent, 1e-9))
    steps = np.diff(points, axis=0)
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    lengths[np.cumsum([len(s) for s in sketch.strokes])[:-1] - 1] = 0.0  # moves leave no ink
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    if along[-1] <= 0:
        return points[np.linspace(0, len(points) - 1, count).round().astype(int)]
    where = (np.arange(count) + 0.5) / count * along[-1]
    at = np.clip(np.searchsorted(along, where, side="right") - 1, 0, len(lengths) - 1)
    share = (where - along[at]) / np.maximum(lengths[at], 1e-12)
    return points[at] + share[:, None] * steps[at]


def _pictures(points: Array) -> NDArray[np.float32]:
    """(n, 256): ink points counted bilinearly on a 16 × 16 grid, unit length: blurred pictures."""
    cells = (points + 50.0) * ((_PICTURE - 1) / 100.0)
    low = np.clip(np.floor(cells).astype(int), 0, _PICTURE - 2)
    part = np.clip(cells - low, 0.0, 1.0)
    out: NDArray[Any] = np.zeros((len(points), _PICTURE, _PICTURE), np.float32)
    rows = np.arange(len(points))[:, None]
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - part[..., 0]) * np.abs(1 - dy - part[..., 1])
            np.add.at(out, (rows, low[..., 1] + dy, low[..., 0] + dx), weight.astype(np.float32))
    for axis in (1, 2):  # a binomial blur forgives a line that runs beside the other
        padded = np.pad(out, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        lo, mid, hi = (np.take(padded, range(k, k + _PICTURE), axis) for k in (0, 1, 2))
        out = (lo + 2 * mid + hi) / 4
    flat = np.sqrt(out.reshape(len(out), -1))
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def neighbors(c: Comparison) -> Neighbors | None:
    """The nearest training drawing of each of a comparison's drawings; None without any."""
    if c.train is None:
        return None
    train, progress = c.train.sketches, c.drawn.progress
    return nearest_training(c.drawn.sketches, train, progress=progress)


def _copied(c: Comparison) -> float | None:
    found = c.once(neighbors)
    return None if found is None else found.copied


def _median(c: Comparison) -> float | None:
    found = c.once(neighbors)
    return None if found is None else found.median


METRICS = (
    Metric(
        "copied",
        "copies %",
        _copied,
        factor=100,
        note=f"ink within {COPY_DISTANCE:g} % of a training drawing's",
        headline=True,
        halvings=1,
        place=110,
    ),
    Metric(
        "nearest_training",
        "nearest training drawing",
        _median,
        "floor",
        unit="% of longer side",
        note="median distance; far below its floor: memorized",
        halvings=1,
        place=111,
    ),
)
