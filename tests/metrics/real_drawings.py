"""Real drawings, and ways to spoil them by degrees."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import Sketch, io

CLASSES = ("airplane", "apple", "butterfly", "cactus", "crab", "face")


def quickdraw(split: str, per_class: int, classes: tuple[str, ...] = CLASSES) -> list[Sketch]:
    root = os.environ.get("SKETCHKNITTER_DATA")
    if not root:
        pytest.skip("needs real drawings: set SKETCHKNITTER_DATA")
    found: list[Sketch] = []
    for name in classes:
        archive = Path(root) / "quickdraw" / f"{name}.npz"
        found += [s for s, _ in zip(io.read(archive, split=split), range(per_class), strict=False)]
    return found


def jitter(sketches: list[Sketch], share: float, seed: int = 0) -> list[Sketch]:
    """Every point moved by Gaussian noise, ``share`` of the longer side."""
    rng = np.random.default_rng(seed)
    return [
        Sketch([p + rng.normal(0, share * s.extent, p.shape) for p in s.strokes], s.label)
        for s in sketches
    ]


def drop_strokes(sketches: list[Sketch], share: float, seed: int = 0) -> list[Sketch]:
    """Each stroke left out with probability ``share``, one always kept."""
    rng = np.random.default_rng(seed)
    out = []
    for s in sketches:
        kept = rng.random(len(s)) >= share
        kept[rng.integers(len(s))] = True
        out.append(Sketch([p for p, k in zip(s.strokes, kept, strict=True) if k], s.label))
    return out


def shuffle_points(sketches: list[Sketch], share: float, seed: int = 0) -> list[Sketch]:
    """``share`` of each drawing's points change places at random."""
    rng = np.random.default_rng(seed)
    out = []
    for s in sketches:
        points = np.array(s.points)
        rows = np.flatnonzero(rng.random(len(points)) < share)
        points[rows] = points[rng.permutation(rows)]
        cuts = np.cumsum([len(p) for p in s.strokes])[:-1]
        out.append(Sketch(np.split(points, cuts), s.label))
    return out


def lift_pens(sketches: list[Sketch], share: float, seed: int = 0) -> list[Sketch]:
    """``share`` of the segments cut out: dashed lines."""
    rng = np.random.default_rng(seed)
    return [
        Sketch(
            [
                part
                for p in s.strokes
                for part in np.split(p, np.flatnonzero(rng.random(len(p) - 1) < share) + 1)
            ],
            s.label,
        )
        for s in sketches
    ]
