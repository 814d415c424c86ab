"""Distances between two clouds of feature vectors, and the Inception Score; all in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.errors import UserError

Array = NDArray[np.float64]


def as_features(features: ArrayLike, what: str, least: int = 2) -> Array:
    """``features`` as a finite (n, D) float64 array with n >= ``least``.

    Raises:
        UserError: another shape, too few rows, or a value that is not finite.
    """
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2:
        raise UserError(f"{what}: features have shape (n, D), not {array.shape}")
    if len(array) < least:
        raise UserError(f"{what}: {len(array)} drawing(s); this metric needs at least {least}")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise UserError(f"{what}: the features of drawing {bad} are not finite")
    return array


def as_pair(real: ArrayLike, fake: ArrayLike, least: int = 2) -> tuple[Array, Array]:
    """Both sets checked by :func:`as_features`, and of the same D.

    Raises:
        UserError: as :func:`as_features`, or the widths differ.
    """
    x, y = as_features(real, "reference", least), as_features(fake, "drawings", least)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"features of two networks: {x.shape[1]} and {y.shape[1]} wide")
    return x, y


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
    rng = np.random.default_rng(seed)
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
    rng = np.random.default_rng(seed)
    u = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=draws).astype(np.float64)
    v = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=draws).astype(np.float64)

    def within(z: Array, weights: Array) -> Array:
        kernel = polynomial_kernel(z, z)
        np.fill_diagonal(kernel, 0.0)
        pairs = len(z) ** 2 - (weights**2).sum(1)
        return ((weights @ kernel) * weights).sum(1) / np.maximum(pairs, 1.0)

    cross = ((u @ polynomial_kernel(x, y)) * v).sum(1) / (len(x) * len(y))
    return float(np.std(within(x, u) + within(y, v) - 2.0 * cross, ddof=1))


def inception_score(probabilities: ArrayLike, splits: int = 1) -> tuple[float, float]:
    """exp of the mean KL divergence of each row from the mean row (Salimans et al. 2016).

    Args:
        probabilities: (n, C), rows that sum to 1; 0 · log 0 counts as 0.
        splits: the score is averaged over this many consecutive parts.

    Returns:
        Mean and standard deviation over the splits; between 1 and C.

    Raises:
        UserError: fewer rows than splits, rows that do not sum to 1, or values not finite.
    """
    p = as_features(probabilities, "probabilities", max(1, splits))
    if (p < 0).any() or not np.allclose(p.sum(1), 1.0, atol=1e-6):
        raise UserError("probabilities: every row must be non-negative and sum to 1")
    scores = []
    for part in np.array_split(p, splits):
        mean = np.broadcast_to(part.mean(0), part.shape)
        inside = part > 0
        ratio = np.divide(part, mean, out=np.ones_like(part), where=inside)
        scores.append(np.exp((part * np.log(ratio)).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))
