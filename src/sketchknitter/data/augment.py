"""Augmentation of training drawings: mirror, rotate, scale, drop points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sketchknitter.settings import AugmentConfig


@dataclass(frozen=True)
class Augment:
    """Random changes a drawing survives as the same thing.

    Attributes:
        mirror: probability of a left-right flip.
        rotate: largest rotation, degrees either way.
        scale: largest relative change of size, each axis of its own by half of it.
        drop: probability of dropping each point inside a stroke (sketch-rnn's point drop).
    """

    mirror: float = 0.5
    rotate: float = 8.0
    scale: float = 0.12
    drop: float = 0.0

    @classmethod
    def of(cls, config: AugmentConfig) -> Augment | None:
        """What the settings ask for; None where they ask for nothing."""
        out = cls(config.mirror, config.rotate, config.resize, config.point_drop)
        return None if out == cls(0, 0, 0, 0) else out

    def __call__(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Stroke-3 rows (n, 3) in px -> augmented rows, float64."""
        out = np.array(rows, dtype=np.float64)
        angle = np.deg2rad(self.rotate) * rng.uniform(-1, 1)
        size = 1 + self.scale * rng.uniform(-1, 1) + 0.5 * self.scale * rng.uniform(-1, 1, 2)
        if rng.random() < self.mirror:
            size[0] = -size[0]
        c, s = np.cos(angle), np.sin(angle)
        out[:, :2] = (out[:, :2] * size) @ np.array([[c, s], [-s, c]])
        return self._dropped(out, rng) if self.drop else out

    def _dropped(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Merge a point into the next one where neither ends a stroke."""
        inner = (rows[:-1, 2] < 0.5) & (np.append(0.0, rows[:-2, 2]) < 0.5)
        gone = np.append(inner & (rng.random(len(rows) - 1) < self.drop), False)
        points = np.cumsum(rows[:, :2], axis=0)[~gone]
        return np.column_stack([np.diff(points, axis=0, prepend=0.0), rows[~gone, 2]])
