"""The kernel distance of two clouds of features (KID)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.errors import UserError
from sketchknitter.metrics.features import as_pair
from sketchknitter.metrics.metric import Comparison, Metric
from sketchknitter.seeds import Stream, stream

Array = NDArray[np.float64]


def polynomial_kernel(x: Array, y: Array) -> Array:
    """(x·y / D + 1)³ for all pairs, (n, m) (Bińkowski et al. 2018)."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def kernel_distance(
    real: ArrayLike,
    fake: ArrayLike,
    subset_size: int | None = None,
    subsets: int = 100,
    seed: int = 0,
) -> tuple[float, float]:
    """KID: the unbiased squared maximum mean discrepancy under a cubic kernel.

    Args:
        subset_size: rows of each random subset (without replacement); None takes all rows once.
        subsets: how many subsets are averaged.

    Returns:
        Mean over the subsets, and their standard deviation (0 for all rows at once).

    Raises:
        UserError: fewer than two rows, values that are not finite, or too large a subset.
    """
    x, y = as_pair(real, fake)
    if subset_size is None:
        return _unbiased_mmd(x, y), 0.0
    if not 2 <= subset_size <= min(len(x), len(y)):
        raise UserError(
            f"a KID subset of {subset_size} needs 2 <= size <= {min(len(x), len(y))} drawings"
        )
    rng = stream(seed, Stream.KID_SUBSET)
    values = [
        _unbiased_mmd(
            x[rng.permutation(len(x))[:subset_size]], y[rng.permutation(len(y))[:subset_size]]
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def _unbiased_mmd(x: Array, y: Array) -> float:
    xx, yy, xy = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    within = (xx.sum() - np.trace(xx)) / (len(x) * (len(x) - 1))
    within += (yy.sum() - np.trace(yy)) / (len(y) * (len(y) - 1))
    return float(within - 2.0 * xy.mean())


def bootstrap_kernel_distance(
    real: ArrayLike, fake: ArrayLike, draws: int = 200, seed: int = 0
) -> float:
    """Standard deviation of KID over bootstrap draws of both sets.

    A draw is a vector of counts w; pairs of one row with itself stay out of the sums, as they do
    in the estimate, so that repeated rows add no bias.

    Raises:
        UserError: fewer than two rows, or values that are not finite.
    """
    x, y = as_pair(real, fake)
    rng = stream(seed, Stream.BOOTSTRAP)
    u = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=draws).astype(np.float64)
    v = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=draws).astype(np.float64)

    def within(z: Array, weights: Array) -> Array:
        kernel = polynomial_kernel(z, z)
        np.fill_diagonal(kernel, 0.0)
        pairs = len(z) ** 2 - (weights**2).sum(1)
        return ((weights @ kernel) * weights).sum(1) / np.maximum(pairs, 1.0)

    cross = ((u @ polynomial_kernel(x, y)) * v).sum(1) / (len(x) * len(y))
    return float(np.std(within(x, u) + within(y, v) - 2.0 * cross, ddof=1))


def _kid(c: Comparison) -> float:
    return kernel_distance(c.real.features.vectors, c.drawn.features.vectors)[0]


def _spread(c: Comparison) -> float:
    both = c.real.features.vectors, c.drawn.features.vectors
    return bootstrap_kernel_distance(*both, c.draws, c.seed)


_NOTE = "one subset of all drawings"
METRICS = (
    Metric(
        "kid", "KID × 1000", _kid, factor=1000, spread=_spread, note=_NOTE, headline=True, place=20
    ),
)
