"""The Inception Score: are drawings clear, and are they many kinds of things?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sketchknitter.errors import UserError
from sketchknitter.metrics.features import as_features
from sketchknitter.metrics.metric import Comparison, Metric


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


def _score(c: Comparison) -> float:
    return inception_score(c.drawn.features.probabilities)[0]


METRICS = (Metric("is", "IS", _score, "higher", headline=True, place=70),)
