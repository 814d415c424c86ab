"""Drawings as vectors: what the metrics ask of a network, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """What a feature network says of n drawings.

    Args:
        vectors: (n, D) float64, the penultimate layer: for distances between distributions.
        probabilities: (n, C) float64 over ``classes``; rows sum to 1.
        classes: names of the network's classes; empty if they are none of ours (Inception).
        scribble: (n,) probability of being no drawing of anything; None from Inception.
        whitening: (D, D), see :attr:`whitened`; None leaves vectors as they are.
    """

    vectors: Array
    probabilities: Array
    classes: tuple[str, ...]
    scribble: Array | None = None
    whitening: Array | None = None

    @property
    def whitened(self) -> Array:
        """(n, D) for distances between single drawings, in units of how far drawings of one class
        lie apart (the within-class whitening of linear discriminant analysis): otherwise the few
        directions in which drawings of a class differ most decide who is near whom, and odd
        drawings get balls that take in noise."""
        return self.vectors if self.whitening is None else self.vectors @ self.whitening

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: Any) -> Features:
        scribble = None if self.scribble is None else self.scribble[index]
        return replace(
            self,
            vectors=self.vectors[index],
            probabilities=self.probabilities[index],
            scribble=scribble,
        )


class FeatureNetwork(Protocol):
    """What the metrics ask of a network: drawings in, features out, and a name for the report."""

    name: str
    identity: str
    classes: tuple[str, ...]

    def embed(self, sketches: Sequence[Sketch], progress: bool = False) -> Features: ...


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
