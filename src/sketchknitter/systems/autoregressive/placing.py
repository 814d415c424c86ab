"""A redrawn drawing put where the drawing is that it was made from."""

from __future__ import annotations

import numpy as np

from sketchknitter.geometry import resample
from sketchknitter.sketch import Array, Sketch

POINTS = 128  # of ink compared
ROUNDS = 12  # of finding nearest points and moving
FREEDOM = 1.25  # how far the size may depart from that of the bounding boxes, either way


def placed_over(drawing: Sketch, source: Sketch) -> Sketch:
    """``drawing`` moved and scaled so that the source's ink lies close to its ink.

    A code knows neither place nor size. The bounding boxes are matched first, then the source's
    points with their nearest points of the drawing, by least squares over shift and size (iterated
    closest points, Besl and McKay 1992): what is missing in the source does not count.
    """
    if not drawing.num_points or not source.num_points:
        return drawing
    (a, b), (c, d) = _box(drawing), _box(source)
    first = (d / b) if b > 0 and d > 0 else 1.0
    scale, shift = first, c - first * a
    ink, goal = _ink(drawing), _ink(source)
    for _ in range(ROUNDS):
        at = ink * scale + shift
        near = ink[((goal[:, None] - at[None]) ** 2).sum(axis=2).argmin(axis=1)]
        centered, aims = near - near.mean(axis=0), goal - goal.mean(axis=0)
        square = float((centered**2).sum())
        wanted = float((centered * aims).sum()) / square if square > 0 else first
        scale = min(max(wanted, first / FREEDOM), first * FREEDOM)
        shift = goal.mean(axis=0) - scale * near.mean(axis=0)
    return drawing.transformed(scale, shift)


def _box(sketch: Sketch) -> tuple[Array, float]:
    """Center (2,) and longer side of the bounding box."""
    x0, y0, x1, y1 = sketch.bounds
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2]), sketch.extent


def _ink(sketch: Sketch) -> Array:
    """Points evenly along the strokes, about :data:`POINTS`."""
    length = sketch.ink_length
    if not length > 0:
        return np.asarray(sketch.points)
    return np.concatenate([resample(stroke, length / POINTS) for stroke in sketch.strokes])
