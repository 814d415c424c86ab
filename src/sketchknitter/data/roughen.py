"""Augmentation of what the reader learns from: drawings made rough and taken apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Roughness:
    """What is done to drawings before the reader sees them.

    Attributes:
        rotation: degrees, uniform in ±.
        stretch: log of the aspect ratio, uniform in ±.
        mirror: probability.
        smooth: share of drawings whose points stay where they are.
        deformation: of the others, a share of the longer side, uniform between the two.
        cut, late, torn: shares of drawings that lack their end, their beginning, or pieces.
        left: share of points left of these, uniform between the two.
    """

    rotation: float = 12.0
    stretch: float = 0.18
    mirror: float = 0.5
    smooth: float = 0.3
    deformation: tuple[float, float] = (0.0, 0.6)
    cut: float = 0.25
    late: float = 0.05
    torn: float = 0.1
    left: tuple[float, float] = (0.2, 1.0)


def roughened(
    points: NDArray[np.float64], ends: NDArray[np.bool_], law: Roughness, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], bool]:
    """A drawing's points (n, 2) and stroke ends (n,) as the reader may meet them, and whether
    nothing is missing."""
    angle = np.deg2rad(rng.uniform(-law.rotation, law.rotation))
    aspect = np.exp(rng.uniform(-law.stretch, law.stretch) / 2)
    flip = -1.0 if rng.random() < law.mirror else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = points @ (turn * [flip * aspect, 1 / aspect]).T
    if rng.random() > law.smooth:
        size = float(np.ptp(points, axis=0).max())
        points = points + rng.normal(0.0, size * rng.uniform(*law.deformation), points.shape)
    n, part = len(points), rng.random()
    if part > law.cut + law.late + law.torn:
        return points, ends, True
    left = max(2, round(n * rng.uniform(*law.left)))
    if part < law.cut:
        here = np.arange(n) < left
    elif part < law.cut + law.late:
        here = np.arange(n) >= n - left
    else:  # pieces of the line, a few points each
        pieces = np.arange(n) // 3
        kept = rng.permutation(pieces[-1] + 1)[: max(1, round(left / 3))]
        here = np.isin(pieces, kept)
    # a line ends where the next point of its stroke is gone
    ends = ends | ~np.append(here[1:], False)
    return points[here], ends[here], False
