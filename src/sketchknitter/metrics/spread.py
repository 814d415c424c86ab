"""How far apart drawings lie, as ink: from what they were made of, and from each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from sketchknitter.geometry import resample
from sketchknitter.metrics.metric import Comparison, Metric
from sketchknitter.sketch import Sketch

MOST = 4096  # points along a drawing that exploded, which may be a thousand times too large


def spread_of(
    sketches: Sequence[Sketch], kept: Sketch | None = None, extent: float | None = None
) -> float:
    """Mean distance between the drawings of every pair, as a share of the longer side: from a
    drawing's ink to the other's nearest, both ways; 0 for one drawing.

    Args:
        kept: what all of them have in common; ink on it is passed over, so that endings are
            compared by what they add.
        extent: the longer side meant, px; default: that of the largest drawing.
    """
    extent = extent or max(s.extent for s in sketches)
    ink = [_ink(s, extent) for s in sketches]
    new = ink if kept is None else [_away(i, _ink(kept, extent), 0.01 * extent) for i in ink]
    pairs = permutations(range(len(ink)), 2)
    gaps = [_gaps(new[a], ink[b]).mean() / extent for a, b in pairs if len(new[a])]
    return float(np.mean(gaps)) if gaps else 0.0


def _ink(sketch: Sketch, extent: float, steps: int = 64) -> np.ndarray:
    """Points (n, 2) along the ink, one for each ``steps``-th of ``extent``; at most about MOST."""
    step = max(extent / steps, sketch.ink_length / MOST, 1e-300)
    return np.concatenate([resample(s, step) for s in sketch.strokes])


def _away(points: np.ndarray, others: np.ndarray, far: float) -> np.ndarray:
    """Those of ``points`` that are farther than ``far`` from all ``others``."""
    return points[_gaps(points, others) > far]


def _gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance from each of the points a (n, 2) to the nearest of b (m, 2)."""
    return np.asarray(np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)).min(axis=1))


def _from_original(c: Comparison) -> float | None:
    if c.originals is None:
        return None
    # of the original's side: a deformed drawing is larger, and must not gain by that
    pairs = zip(c.originals.sketches, c.drawn.sketches, strict=True)
    return 100 * float(np.mean([spread_of([a, b], extent=a.extent) for a, b in pairs]))


def _from_each_other(c: Comparison) -> float | None:
    if not c.endings:
        return None
    return 100 * float(np.mean([spread_of(made, kept) for made, kept in c.endings]))


METRICS = (
    Metric(
        "chamfer",
        "Chamfer",
        _from_original,
        unit="% of longer side",
        note="mean distance to the original's ink and back",
        place=610,
    ),
    Metric(
        "apart",
        "endings apart",
        _from_each_other,
        "higher",
        unit="% of longer side",
        note="mean distance between several endings of one drawing, what they share left out",
        place=611,
    ),
)
