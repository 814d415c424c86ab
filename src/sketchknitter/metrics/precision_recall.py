"""Precision and recall, density and coverage: two clouds compared by nearest-neighbor balls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.errors import UserError
from sketchknitter.metrics.features import as_pair
from sketchknitter.metrics.metric import Comparison, Metric

Array = NDArray[np.float64]
K = 3  # of the nearest-neighbor balls


@dataclass(frozen=True)
class PrecisionRecall:
    """Four shares: of good drawings (precision, density) and of kinds reached (recall, coverage).

    ``density`` may exceed 1; the other three lie in [0, 1].
    """

    precision: float
    recall: float
    density: float
    coverage: float


def squared_distances(x: Array, y: Array) -> Array:
    """|xᵢ − yⱼ|² for all pairs, (n, m); what is below rounding is 0, so that equals touch."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
    distances = squares - 2.0 * (x @ y.T)
    distances[distances < 1e-12 * squares] = 0.0
    return distances


def precision_and_recall(real: ArrayLike, fake: ArrayLike, k: int = K) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem 2020).

    A ball around each row reaches to its k-th nearest neighbor in its own set, itself excluded,
    and is closed. Precision: share of fakes inside any real ball; recall: share of reals inside
    any fake ball; density: mean number of real balls around a fake, over k; coverage: share of
    real balls with a fake inside.

    Args:
        real, fake: features (n, D) and (m, D).

    Raises:
        UserError: a set has fewer than k + 1 rows, or values that are not finite.
    """
    if k < 1:
        raise UserError(f"k = {k}: precision and recall need k >= 1")
    x, y = as_pair(real, fake, least=k + 1)
    middle = x.mean(0)  # a common shift changes no distance and saves digits
    x, y = x - middle, y - middle
    between = squared_distances(x, y)
    inside_real = between <= _radii(x, k)[:, None]
    inside_fake = between <= _radii(y, k)[None]
    return PrecisionRecall(
        precision=float(inside_real.any(0).mean()),
        recall=float(inside_fake.any(1).mean()),
        density=float(inside_real.sum(0).mean() / k),
        coverage=float(inside_real.any(1).mean()),
    )


def _radii(x: Array, k: int) -> Array:
    distances = squared_distances(x, x)
    np.fill_diagonal(distances, -1.0)  # itself comes first whatever the rounding
    return np.partition(distances, k, axis=1)[:, k]


def _shares(c: Comparison) -> PrecisionRecall:
    return precision_and_recall(c.real.features.whitened, c.drawn.features.whitened)


_NOTE = f"k = {K}"
METRICS = (
    Metric(
        "precision",
        "precision",
        lambda c: c.once(_shares).precision,
        "higher",
        note=_NOTE,
        headline=True,
        place=40,
    ),
    Metric(
        "recall",
        "recall",
        lambda c: c.once(_shares).recall,
        "higher",
        note=_NOTE,
        headline=True,
        place=41,
    ),
    Metric("density", "density", lambda c: c.once(_shares).density, "higher", note=_NOTE, place=42),
    Metric(
        "coverage",
        "coverage",
        lambda c: c.once(_shares).coverage,
        "higher",
        note=_NOTE,
        headline=True,
        place=43,
    ),
)
