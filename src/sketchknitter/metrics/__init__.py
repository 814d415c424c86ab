"""Metrics: arrays in, float64 out; pictures come from the one renderer.

``features`` (the judge) and ``inception`` turn drawings into arrays; ``fid``,
``precision_recall``, ``geometry_score``, ``recognition``, ``statistics`` and ``copying`` compare
them. :func:`sketchknitter.evaluate.evaluate` runs them all, with floors. The judge is not offered
here: what generates may use these metrics and never the judge.
"""

from sketchknitter.metrics.copying import Neighbors, nearest_training
from sketchknitter.metrics.fid import (
    bootstrap_kernel_distance,
    frechet_distance,
    inception_score,
    kernel_distance,
)
from sketchknitter.metrics.geometry_score import (
    mean_relative_living_times,
    score_geometry,
    stroke_vectors,
)
from sketchknitter.metrics.precision_recall import PrecisionRecall, precision_and_recall
from sketchknitter.metrics.recognition import Recognition, recognize
from sketchknitter.metrics.statistics import (
    STATISTICS,
    statistic_distances,
    stroke_statistics,
    wasserstein,
)

__all__ = [
    "STATISTICS",
    "Neighbors",
    "PrecisionRecall",
    "Recognition",
    "bootstrap_kernel_distance",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "mean_relative_living_times",
    "nearest_training",
    "precision_and_recall",
    "recognize",
    "score_geometry",
    "statistic_distances",
    "stroke_statistics",
    "stroke_vectors",
    "wasserstein",
]
