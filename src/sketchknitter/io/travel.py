"""The order and direction of strokes in which a plotter's pen travels least above the paper.

A path through the strokes, each taken forward or backward: built by always going to the nearest
end, then shortened by reversing runs of strokes (2-opt, Croes 1958) and by moving short runs
elsewhere (Or 1976) until nothing helps. What is drawn stays the same, point by point.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sketchknitter.sketch import Array

_REACH = 300  # strokes ahead that an exchange looks: bounds the work on huge pages
_WORK = 50_000  # strokes looked at, all sweeps together
_RUN = 3  # strokes that move together
_GAIN = 1e-9  # share of the page below which a gain is rounding


def pen_up(strokes: Sequence[Array]) -> float:
    """Length of the way from the end of each stroke to the start of the next, in their unit."""
    gaps = [b[0] - a[-1] for a, b in pairwise(strokes)]
    return float(np.hypot(*np.array(gaps).T).sum()) if gaps else 0.0


def shortened(strokes: Sequence[Array]) -> list[Array]:
    """The same strokes, reordered and some of them reversed, for a short way above the paper.

    Args:
        strokes: each (n, 2), n >= 1, in one unit.

    Returns:
        As many strokes; :func:`pen_up` of them is at most what it was.
    """
    if len(strokes) < 2:
        return list(strokes)
    ends = np.array([(s[0], s[-1]) for s in strokes])  # (S, 2, 2)
    given = np.arange(len(strokes)), np.zeros(len(strokes), bool)
    better = _improve(_nearest(ends), ends)
    order, flipped = min(given, better, key=lambda tour: _length(tour, ends))
    pairs = zip(order.tolist(), flipped.tolist(), strict=True)
    return [strokes[i][::-1] if back else strokes[i] for i, back in pairs]


Tour = tuple[NDArray[np.int64], NDArray[np.bool_]]  # strokes in order, and which go backward


def _length(tour: Tour, ends: Array) -> float:
    order, flipped = tour
    start, stop = ends[order, flipped.astype(int)], ends[order, 1 - flipped.astype(int)]
    return float(np.hypot(*(start[1:] - stop[:-1]).T).sum())


def _nearest(ends: Array) -> Tour:
    """Always on to the nearest end of a stroke not yet drawn, from the top left corner."""
    count = len(ends)
    left = ends.reshape(-1, 2).copy()
    here = left.min(axis=0)
    order, flipped = np.empty(count, np.int64), np.empty(count, bool)
    for k in range(count):
        best = int(((left - here) ** 2).sum(axis=1).argmin())
        order[k], flipped[k] = best // 2, best % 2
        here = ends[order[k], 1 - best % 2]
        left[2 * order[k] : 2 * order[k] + 2] = np.inf
    return order, flipped


def _improve(tour: Tour, ends: Array) -> Tour:
    order, flipped = tour[0].copy(), tour[1].copy()
    least = _GAIN * float(np.ptp(ends.reshape(-1, 2), axis=0).max())
    for _ in range(1 + _WORK // len(order)):
        gained = _reverse_runs(order, flipped, ends, least)
        gained |= _move_runs(order, flipped, ends, least)
        if not gained:
            break
    return order, flipped


def _points(order: NDArray[np.int64], flipped: NDArray[np.bool_], ends: Array) -> Array:
    """First and last point of each stroke as the tour takes it, (S, 2, 2)."""
    way = flipped.astype(int)
    return np.stack([ends[order, way], ends[order, 1 - way]], axis=1)


def _distance(a: Array, b: Array) -> Array:
    return np.hypot(a[..., 0] - b[..., 0], a[..., 1] - b[..., 1])


def _reverse_runs(
    order: NDArray[np.int64], flipped: NDArray[np.bool_], ends: Array, least: float
) -> bool:
    """Strokes i … j backward and in reverse order, wherever that shortens; one sweep over i."""
    count, gained = len(order), False
    at = _points(order, flipped, ends)
    for i in range(count):
        stop = min(count, i + _REACH)
        # before run i … j lies stroke i - 1, behind it stroke j + 1; a path has open ends
        enter = _distance(at[i - 1, 1], at[i:stop, 1]) - _distance(at[i - 1, 1], at[i, 0])
        change = enter if i else np.zeros(stop - i)
        inner = min(stop, count - 1)
        after = at[i + 1 : inner + 1, 0]
        change[: inner - i] += _distance(at[i, 0], after) - _distance(at[i:inner, 1], after)
        j = i + int(change.argmin())
        if change[j - i] < -least:
            order[i : j + 1] = order[i : j + 1][::-1]
            flipped[i : j + 1] = ~flipped[i : j + 1][::-1]
            at[i : j + 1] = at[i : j + 1][::-1, ::-1]
            gained = True
    return gained


def _move_runs(
    order: NDArray[np.int64], flipped: NDArray[np.bool_], ends: Array, least: float
) -> bool:
    """Runs of one to three strokes put between two others, either way round."""
    count, gained = len(order), False
    at = _points(order, flipped, ends)
    for size in range(1, min(_RUN, count - 1) + 1):
        for i in range(count - size + 1):
            first, last = at[i, 0], at[i + size - 1, 1]
            before, behind = i > 0, i + size < count
            freed = 0.0
            if before:
                freed += float(_distance(at[i - 1, 1], first))
            if behind:
                freed += float(_distance(last, at[i + size, 0]))
            if before and behind:
                freed -= float(_distance(at[i - 1, 1], at[i + size, 0]))
            low, high = max(0, i - _REACH), min(count, i + size + _REACH)
            places = np.r_[low:i, i + size : high]  # the strokes that it may come before
            rest = np.delete(at[low:high], np.s_[i - low : i - low + size], axis=0)
            if not len(rest):
                continue
            cost, turned = _insertion(rest, first, last, low == 0, high == count)
            best = int(cost.argmin())
            if cost[best] - freed >= -least:
                continue
            moved = np.arange(i, i + size)
            if turned[best]:
                moved = moved[::-1]
            target = int(places[best]) if best < len(places) else high
            kept = np.r_[0:i, i + size : count]
            cut = target if target <= i else target - size
            way = np.concatenate([kept[:cut], moved, kept[cut:]])
            if turned[best]:
                flipped[i : i + size] ^= True
                at[i : i + size] = at[i : i + size, ::-1]
            order[:], flipped[:], at[:] = order[way], flipped[way], at[way]
            gained = True
    return gained


def _insertion(
    rest: Array, first: Array, last: Array, opens: bool, closes: bool
) -> tuple[Array, NDArray[np.bool_]]:
    """What it costs to put a run before each stroke of ``rest`` or behind all, the better way.

    ``opens`` and ``closes`` say that the path begins or ends with ``rest``: only there is nothing
    before or behind.
    """
    starts, stops = rest[:, 0], rest[:, 1]
    ways = []
    for a, b in ((first, last), (last, first)):
        cost = np.zeros(len(rest) + 1)
        cost[:-1] += _distance(b, starts)
        cost[1:] += _distance(stops, a)
        cost[1:-1] -= _distance(stops[:-1], starts[1:])
        if not opens:
            cost[0] = np.inf
        if not closes:
            cost[-1] = np.inf
        ways.append(cost)
    turned = ways[1] < ways[0]
    return np.where(turned, ways[1], ways[0]), turned
