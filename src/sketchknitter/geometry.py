"""Geometry of strokes as pure functions: resampling, simplification, alignment, scale.

The ``*_many`` functions work on the strokes of thousands of drawings at once, laid one after
another in flat arrays; the others take one stroke, or the strokes of one drawing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.errors import UserError

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

QUICKDRAW_SIZE = 255.0  # px of the longer side
QUICKDRAW_EPSILON = 2.0  # px
_DOT = 1e-9  # px; a drawing smaller than this has no size to scale


def _points(points: ArrayLike) -> Array:
    out = np.asarray(points, dtype=np.float64)
    if out.ndim != 2 or out.shape[1] != 2 or not len(out):
        raise UserError(f"points have shape (n, 2) with n >= 1, not {out.shape}")
    return out


def _flat(strokes: Sequence[ArrayLike]) -> tuple[Array, Counts]:
    if not len(strokes):
        raise UserError("a drawing without strokes has no geometry")
    arrays = [_points(s) for s in strokes]
    return np.concatenate(arrays), np.array([len(a) for a in arrays], dtype=np.int64)


def starts_of(lengths: Counts) -> Counts:
    """Index at which each of many consecutive runs begins, (n,)."""
    return np.cumsum(lengths) - lengths


# -- boxes -------------------------------------------------------------------------------------
def bounds(strokes: Sequence[ArrayLike]) -> tuple[float, float, float, float]:
    """(x_min, y_min, x_max, y_max) of the strokes of a drawing, each (n, 2).

    Raises:
        UserError: no strokes, or one of another shape.
    """
    xy, _ = _flat(strokes)
    (x0, y0), (x1, y1) = xy.min(axis=0), xy.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def align_and_scale(strokes: Sequence[ArrayLike], size: float = QUICKDRAW_SIZE) -> list[Array]:
    """Move the top left of the bounding box to (0, 0) and scale its longer side to ``size`` px.

    A drawing without extent is moved only. Strokes and result: (n, 2) arrays.
    """
    xy, lengths = _flat(strokes)
    whole = np.array([len(xy)])
    return np.split(align_and_scale_many(xy, whole, size), np.cumsum(lengths)[:-1])


def normalize(strokes: Sequence[ArrayLike]) -> list[Array]:
    """Center the bounding box at (0, 0) and scale its longer side to 1; aspect kept."""
    x0, y0, x1, y1 = bounds(strokes)
    longer = max(x1 - x0, y1 - y0)
    scale = 1 / longer if longer > _DOT else 1.0
    center = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return [(_points(s) - center) * scale for s in strokes]


# -- along a stroke ----------------------------------------------------------------------------
def arc_lengths(points: ArrayLike) -> Array:
    """Distance along the stroke from its first point to each point, (n,) px."""
    steps = np.diff(_points(points), axis=0)
    return np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])


def turning(points: ArrayLike) -> float:
    """How much a line turns in all, radians: the sum of its absolute turning angles, (n, 2)."""
    steps = np.diff(_points(points), axis=0)
    steps = steps[np.hypot(steps[:, 0], steps[:, 1]) > 0]
    a, b = steps[:-1], steps[1:]
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return float(np.abs(np.arctan2(cross, (a * b).sum(axis=1))).sum())


def resample(points: ArrayLike, spacing: float = 1.0) -> Array:
    """Points every ``spacing`` px along a stroke, and its last point.

    Args:
        points: (n, 2) px, n >= 1.
        spacing: px along the stroke, not the chord.

    Returns:
        (m, 2): the points at 0, spacing, 2 spacing, …, then the last point, even where it repeats
        the one before; so a dot becomes two equal points, as in QuickDraw's simplified files.

    Raises:
        UserError: a wrong shape, or a spacing that is not positive.
    """
    p = _points(points)
    if not spacing > 0:
        raise UserError(f"spacing must be positive, not {spacing}")
    along = arc_lengths(p)
    at = np.arange(int(along[-1] / spacing) + 1) * spacing
    xy = np.column_stack([np.interp(at, along, p[:, 0]), np.interp(at, along, p[:, 1])])
    return np.concatenate([xy, p[-1:]])


def resample_evenly(points: ArrayLike, count: int) -> Array:
    """``count`` >= 2 points at equal distances along a stroke, both ends included, (count, 2) px.

    Raises:
        UserError: a wrong shape.
    """
    p = _points(points)
    along = arc_lengths(p)
    at = np.linspace(0.0, along[-1], count)
    return np.column_stack([np.interp(at, along, p[:, 0]), np.interp(at, along, p[:, 1])])


def rdp(points: ArrayLike, epsilon: float) -> Array:
    """Ramer-Douglas-Peucker: the fewest of a stroke's points that keep its shape.

    A point splits its run when it lies farther than ``epsilon`` px from the infinite LINE through
    the run's ends (the original and QuickDraw's distance; libraries often take the segment's).

    Args:
        points: (n, 2) px, n >= 1.
        epsilon: px.

    Returns:
        (m, 2), m <= n, first and last point included.
    """
    p = _points(points)
    return p[rdp_mask_many(p, np.array([len(p)]), epsilon)]


def simplify_quickdraw(strokes: Sequence[ArrayLike]) -> list[NDArray[np.int64]]:
    """QuickDraw's own way from raw to simplified strokes.

    Top-left align, scale the longer side to 255, resample every px (last point kept), RDP with
    epsilon 2 and point-to-line distance, round (https://github.com/googlecreativelab/
    quickdraw-dataset, "Simplified Drawing files").

    Args:
        strokes: of one drawing, each (n, 2), any unit, y down.

    Returns:
        As many strokes, (m, 2) whole numbers within 0…255, each of two points at least.
    """
    xy, lengths = _flat(strokes)
    xy, lengths = simplify_quickdraw_many(xy, lengths, np.array([len(lengths)]))
    return np.split(xy.astype(np.int64), np.cumsum(lengths)[:-1])


# -- many drawings at once ---------------------------------------------------------------------
def extents_many(xy: Array, points: Counts) -> tuple[Array, Array]:
    """Top left corner (D, 2) and longer side (D,) of many drawings.

    Args:
        xy: (P, 2) points of all drawings, one after another.
        points: (D,) how many points each has, all >= 1.
    """
    starts = starts_of(points)
    low = np.minimum.reduceat(xy, starts, axis=0)
    return low, (np.maximum.reduceat(xy, starts, axis=0) - low).max(axis=1)


def align_and_scale_many(xy: Array, points: Counts, size: float = QUICKDRAW_SIZE) -> Array:
    """:func:`align_and_scale` of many drawings; arguments as in :func:`extents_many`."""
    low, longer = extents_many(xy, points)
    scale = np.divide(size, longer, out=np.ones_like(longer), where=longer > _DOT)
    return (xy - np.repeat(low, points, axis=0)) * np.repeat(scale, points)[:, None]


def resample_corners_many(xy: Array, lengths: Counts) -> tuple[Array, Counts]:
    """Of the points that :func:`resample` at 1 px gives, those that RDP can ever choose.

    Distance to a line is convex along a straight piece, so only the first and the last sample on
    each original segment matter. That leaves at most two points a segment, however long it is.

    Args:
        xy: (P, 2) points of all strokes, one after another.
        lengths: (S,) how many points each stroke has, all >= 1.

    Returns:
        (Q, 2) points and (S,) lengths.
    """
    starts, ends = starts_of(lengths), np.cumsum(lengths) - 1
    steps = np.diff(xy, axis=0, prepend=xy[:1])
    size = np.hypot(steps[:, 0], steps[:, 1])
    size[starts] = 0.0
    along = np.empty_like(size)
    for a, b in zip(starts.tolist(), (ends + 1).tolist(), strict=True):
        # stroke by stroke: a sum over all would make digits depend on the neighbors
        np.cumsum(size[a:b], out=along[a:b])
    before = np.concatenate([[0.0], along[:-1]])
    before[starts] = 0.0
    # samples k = first … last lie on the segment that ends at each point
    first, last = np.floor(before) + 1, np.floor(along)
    samples = np.clip(last - first + 1, 0, 2).astype(np.int64)
    samples[starts] = 1  # sample 0 of the stroke
    slots = samples.copy()
    slots[ends] += 1  # its last point
    at = starts_of(slots)
    out = np.empty((int(slots.sum()), 2))
    out[at[starts]] = xy[starts]
    samples[starts] = 0
    for extra, k in ((0, first), (1, last)):
        i = np.flatnonzero(samples > extra)
        share = (k[i] - before[i]) / size[i]
        out[at[i] + extra] = xy[i - 1] + share[:, None] * steps[i]
    out[at[ends] + slots[ends] - 1] = xy[ends]
    return out, np.add.reduceat(slots, starts)


def rdp_mask_many(xy: Array, lengths: Counts, epsilon: float) -> NDArray[np.bool_]:
    """Which points :func:`rdp` keeps, for many strokes at once: all runs of a level together.

    Args:
        xy: (P, 2) points of all strokes, one after another.
        lengths: (S,) how many points each stroke has, all >= 1.
        epsilon: px.

    Returns:
        (P,), True where kept.
    """
    keep = np.zeros(len(xy), dtype=bool)
    low, high = starts_of(lengths), np.cumsum(lengths) - 1
    keep[low] = keep[high] = True
    while len(low):
        wide = high - low > 1
        low, high = low[wide], high[wide]
        if not len(low):
            break
        split, far = _farthest(xy, low, high)
        cut = far > epsilon
        low, high, split = low[cut], high[cut], split[cut]
        keep[split] = True
        low, high = np.concatenate([low, split]), np.concatenate([split, high])
    return keep


def _farthest(xy: Array, low: Counts, high: Counts) -> tuple[Counts, Array]:
    """Inner point farthest from the line through the ends of each run, and its distance, px."""
    inner = high - low - 1
    starts = starts_of(inner)
    run = np.repeat(np.arange(len(low)), inner)
    index = np.arange(len(run)) + np.repeat(low + 1 - starts, inner)
    chord = xy[high] - xy[low]
    length = np.hypot(chord[:, 0], chord[:, 1])
    closed = length == 0  # no line: distance to the point
    unit = chord / np.where(closed, 1.0, length)[:, None]
    away = xy[index] - xy[low][run]
    distance = np.abs(unit[run, 0] * away[:, 1] - unit[run, 1] * away[:, 0])
    if closed.any():
        distance = np.where(closed[run], np.hypot(away[:, 0], away[:, 1]), distance)
    far = np.maximum.reduceat(distance, starts)
    best = np.flatnonzero(distance == far[run])
    return index[best[np.searchsorted(best, starts)]], far


def simplify_quickdraw_many(
    xy: Array, stroke_lengths: Counts, drawing_strokes: Counts
) -> tuple[Array, Counts]:
    """:func:`simplify_quickdraw` of many drawings.

    Args:
        xy: (P, 2) points of all drawings, one after another.
        stroke_lengths: (S,) points in each stroke, all >= 1.
        drawing_strokes: (D,) strokes in each drawing, all >= 1.

    Returns:
        (Q, 2) whole numbers as float64, and (S,) points in each stroke.
    """
    points = np.add.reduceat(stroke_lengths, starts_of(drawing_strokes))
    xy, lengths = resample_corners_many(align_and_scale_many(xy, points), stroke_lengths)
    keep = rdp_mask_many(xy, lengths, QUICKDRAW_EPSILON)
    kept = np.add.reduceat(keep, starts_of(lengths), dtype=np.int64)
    return np.rint(xy[keep]), kept
