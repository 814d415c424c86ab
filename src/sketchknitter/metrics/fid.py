"""The Fréchet distance of two clouds of features (FID)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.metrics.features import as_pair
from sketchknitter.metrics.metric import Comparison, Metric

Array = NDArray[np.float64]


def frechet_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½) of two feature clouds (n, D) (Heusel et al. 2017).

    With Σ = AᵀA, the trace of (Σ₁ Σ₂)^½ is the nuclear norm of A₁ A₂ᵀ: exact to rounding even for
    singular Σ, where the usual matrix root loses half its digits.

    Raises:
        UserError: fewer than two rows, or values that are not finite.
    """
    x, y = as_pair(real, fake)
    mean_gap = x.mean(0) - y.mean(0)
    first, second = _root(x), _root(y)
    traces = float((first**2).sum() + (second**2).sum())
    cross = float(np.linalg.norm(first @ second.T, ord="nuc"))
    return max(0.0, float(mean_gap @ mean_gap) + traces - 2.0 * cross)


def _root(x: Array) -> Array:
    """R of (min(n, D), D) with RᵀR the covariance of ``x``."""
    return np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1))[1]


def _fid(c: Comparison) -> float:
    return frechet_distance(c.real.features.vectors, c.drawn.features.vectors)


METRICS = (Metric("fid_sketch", "FID (sketch)", _fid, headline=True, place=10),)
