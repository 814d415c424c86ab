"""Retrieval: do drawings find their class in a gallery of real ones?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sketchknitter.metrics.metric import Comparison, Metric

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Retrieval:
    """How well drawings find their class in a gallery, by cosine similarity of features.

    Attributes:
        mean_precision: mAP.
        first, ten: shares with a drawing of their class first, among the first ten.
    """

    mean_precision: float
    first: float
    ten: float


def retrieve(
    queries: Array,
    query_labels: Sequence[str],
    own: Sequence[int],
    gallery: Array,
    gallery_labels: Sequence[str],
) -> Retrieval:
    """Retrieval of each query's class.

    Args:
        queries, gallery: features (n, D) and (m, D).
        own: gallery index of each query's own original, which is left out.
    """
    first, second = (
        v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (queries, gallery)
    )
    likeness = first @ second.T
    likeness[np.arange(len(own)), list(own)] = -np.inf
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :-1]
    hits = np.array(gallery_labels)[order] == np.array(query_labels)[:, None]
    ranks = np.arange(1, hits.shape[1] + 1)
    found = np.maximum(hits.sum(axis=1), 1)
    precision = (hits.cumsum(axis=1) / ranks * hits).sum(axis=1) / found
    return Retrieval(
        float(precision.mean()), float(hits[:, 0].mean()), float(hits[:, :10].any(axis=1).mean())
    )


def _found(c: Comparison) -> Retrieval | None:
    if c.originals is None or c.labels is None:
        return None
    places = {id(s): i for i, s in enumerate(c.real.sketches)}
    own = [places[id(s)] for s in c.originals.sketches]
    names = [s.label or "" for s in c.real.sketches]
    return retrieve(c.drawn.features.vectors, c.labels, own, c.real.features.vectors, names)


def _map(c: Comparison) -> float | None:
    found = c.once(_found)
    return None if found is None else found.mean_precision


def _first(c: Comparison) -> float | None:
    found = c.once(_found)
    return None if found is None else found.first


def _ten(c: Comparison) -> float | None:
    found = c.once(_found)
    return None if found is None else found.ten


_NOTE = "gallery: real drawings without the query's own original; a hit is one of its class"
METRICS = (
    Metric("map", "mAP", _map, "higher", note=_NOTE, place=600),
    Metric("retrieval1", "retrieval@1 %", _first, "higher", factor=100, note=_NOTE, place=601),
    Metric("retrieval10", "retrieval@10 %", _ten, "higher", factor=100, note=_NOTE, place=602),
)
