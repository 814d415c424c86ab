"""Geometry Score: do two clouds of drawings have holes alike? (Khrulkov & Oseledets 2018)

Written anew on gudhi from the published algorithm; the reference code carries no license.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from sketchknitter.metrics.features import as_features
from sketchknitter.metrics.metric import Comparison, DrawingSet, Metric
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch

LANDMARKS = 64
MOST_HOLES = 100

Array = NDArray[np.float64]


def stroke_vectors(sketches: Sequence[Sketch], points: int = 96) -> Array:
    """Offsets (dx, dy) of each sketch's first ``points`` segments, flattened, (n, 2 · points).

    In shares of the longer side of the bounding box, pen-up moves included, zeros after the end:
    the vectors the paper scores, without the pen.

    Raises:
        UserError: a sketch has no points.
    """
    vectors = np.zeros((len(sketches), points, 2))
    for vector, sketch in zip(vectors, sketches, strict=True):
        offsets = np.diff(sketch.points, axis=0)[:points]
        vector[: len(offsets)] = offsets / max(sketch.extent, 1e-9)
    return vectors.reshape(len(sketches), 2 * points)


def mean_relative_living_times(
    cloud: ArrayLike,
    repeats: int = 100,
    seed: int = 0,
    landmarks: int = LANDMARKS,
    gamma: float | None = None,
    progress: bool = False,
) -> Array:
    """MRLT(i): the mean share of scales at which the cloud (n, D) has i one-dimensional holes.

    Args:
        landmarks: drawn with replacement, anew for each of ``repeats`` draws; all rows witness.
        gamma: the largest scale as a share of the largest landmark distance; None for
            1/128 · n/5000.

    Returns:
        (100,) float64; sums to at most 1.
    """
    x = as_features(cloud, "cloud")
    share = gamma if gamma is not None else len(x) / 5000 / 128
    rng = stream(seed, Stream.LANDMARK)
    total = np.zeros(MOST_HOLES)
    for _ in tqdm(range(repeats), "Geometry Score", disable=not progress):
        rows = rng.integers(0, len(x), landmarks)
        total += relative_living_times(*holes(distance_table(x, x[rows]), share))
    return total / repeats


def distance_table(witnesses: Array, landmarks: Array) -> Array:
    """Euclidean distances (n, L); exactly 0 between equal rows."""
    squares = (witnesses**2).sum(1)[:, None] + (landmarks**2).sum(1)[None]
    squared = squares - 2.0 * (witnesses @ landmarks.T)
    squared[squared < 1e-12 * squares] = 0.0
    return np.sqrt(squared)


def holes(table: Array, gamma: float) -> tuple[list[tuple[float, float]], float]:
    """Births and deaths of one-dimensional holes of the weak witness complex, over Z/2.

    The complex is gudhi's, up to triangles, on plain distances, as in the reference code. Its
    graph counts too where no triangle appears, which gudhi leaves out unless it is asked.

    Args:
        table: (n, L) distances from witnesses to landmarks.

    Returns:
        The intervals (death may be infinite), and the largest scale α = ``gamma`` · max distance.
    """
    from gudhi import WitnessComplex

    largest = gamma * float(table.max())
    complex_ = WitnessComplex(nearest_landmark_table=_nearest(table, largest))
    tree = complex_.create_simplex_tree(max_alpha_square=largest, limit_dimension=2)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    intervals = tree.persistence_intervals_in_dimension(1)
    return [(float(birth), float(death)) for birth, death in intervals], largest


def _nearest(table: Array, largest: float) -> list[list[tuple[int, float]]]:
    """Each witness's landmarks, nearest first, as far as a triangle within ``largest`` can reach.

    A simplex of up to three landmarks asks for none beyond the third nearest plus ``largest``; one
    more stays in as the first that is left out.
    """
    order = np.argsort(table, axis=1, kind="stable")
    rows = np.take_along_axis(table, order, axis=1)
    third = rows[:, min(2, rows.shape[1] - 1)]
    counts = np.minimum((rows <= (third + largest)[:, None]).sum(1) + 1, rows.shape[1])
    return [
        list(zip(names[:n].tolist(), distances[:n].tolist(), strict=True))
        for names, distances, n in zip(order, rows, counts, strict=True)
    ]


def relative_living_times(intervals: Sequence[tuple[float, float]], largest: float) -> Array:
    """RLT(i): the share of scales in [0, ``largest``] at which exactly i intervals are alive.

    Returns:
        (100,) float64; RLT(0) = 1 without intervals; scales with 100 holes or more are left out.
    """
    times = np.zeros(MOST_HOLES)
    if not intervals or largest <= 0:
        times[0] = 1.0
        return times
    spans = np.minimum(np.array(intervals), largest)
    edges = np.unique(np.concatenate([[0.0, largest], spans.ravel()]))
    middles = (edges[1:] + edges[:-1]) / 2
    alive = ((spans[:, :1] <= middles) & (middles < spans[:, 1:])).sum(0)
    kept = alive < MOST_HOLES
    np.add.at(times, alive[kept], np.diff(edges)[kept] / largest)
    return times


def _living_times(drawings: DrawingSet, repeats: int, seed: int) -> Array:
    vectors = stroke_vectors(drawings.sketches)
    return mean_relative_living_times(vectors, repeats, seed, progress=drawings.progress)


def _score(c: Comparison) -> float | None:
    """Σᵢ (MRLT₁(i) − MRLT₂(i))², the landmarks of both from one seed: 0 against itself."""
    if not c.repeats or len(c.real) != len(c.drawn):  # γ depends on the size
        return None
    real, drawn = (s.once(_living_times, c.repeats, c.seed) for s in (c.real, c.drawn))
    return float(((real - drawn) ** 2).sum())


_NOTE = "mean over landmark draws; the paper's table seems to print it × 1000"
METRICS = (
    Metric(
        "geometry_score",
        "GS × 1000",
        _score,
        factor=1000,
        note=_NOTE,
        headline=True,
        halvings=1,
        place=30,
    ),
)
