"""Augmentation of what recognizers learn from: distorted drawings, trembling and broken lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.sketch import Sketch


@dataclass(frozen=True)
class Distortion:
    """How drawings are varied before they are rendered; lengths as a share of the longer side."""

    rotation: float = 12.0  # degrees, uniform in ±
    stretch: float = 0.18  # log of the aspect ratio, uniform in ±
    shear: float = 0.12
    mirror: float = 0.5  # probability
    wobble: float = 0.004  # jitter of every point, standard deviation: a hand's own tremor
    damaged: float = 0.0  # share of drawings that get more jitter and extra pen lifts
    jitter: float = 0.015  # mean of the exponential law of a damaged drawing's jitter
    lifts: float = 0.10  # mean share of a damaged drawing's segments that are cut out


def distort(
    sketches: Sequence[Sketch], law: Distortion, rng: np.random.Generator
) -> tuple[list[Sketch], NDArray[np.float32]]:
    """Randomly turned, stretched, mirrored, jittered drawings.

    Returns:
        The drawings, and (n, 2) float32: jitter in percent of the longer side, and percent of
        segments cut out, both divided by 3 and 10 to be of order one; 0 where nothing was damaged.
    """
    out: list[Sketch] = []
    damage = np.zeros((len(sketches), 2), np.float32)
    for i, sketch in enumerate(sketches):
        angle = np.deg2rad(rng.uniform(-law.rotation, law.rotation))
        cos, sin = np.cos(angle), np.sin(angle)
        aspect = np.exp(rng.uniform(-law.stretch, law.stretch) / 2)
        flip = -1.0 if rng.random() < law.mirror else 1.0
        matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array(
            [[flip * aspect, rng.uniform(-law.shear, law.shear)], [0.0, 1.0 / aspect]]
        )
        jitter, lifts = law.wobble * rng.random(), 0.0
        if rng.random() < law.damaged:
            jitter += min(rng.exponential(law.jitter), 4 * law.jitter)
            lifts = min(rng.exponential(law.lifts), 4 * law.lifts) * (rng.random() < 0.5)
            damage[i] = jitter * 100 / 3, lifts * 100 / 10
        spread = jitter * sketch.extent
        strokes: list[NDArray[np.float64]] = []
        for stroke in sketch.strokes:
            moved = stroke @ matrix.T + rng.normal(0.0, spread, stroke.shape)
            cuts = np.flatnonzero(rng.random(len(stroke) - 1) < lifts) + 1 if lifts else ()
            strokes += np.split(moved, cuts)
        out.append(Sketch(strokes, sketch.label))
    return out, damage


def turned(points: Tensor, rng: np.random.Generator) -> Tensor:
    """Drawings (B, N, 2k + 1) mirrored at random and turned by up to 15 degrees, pens as they are.

    Few drawings make many examples; without this a network learns the drawings by heart.
    """
    angle = np.deg2rad(15) * rng.uniform(-1, 1, len(points))
    flip = np.where(rng.random(len(points)) < 0.5, -1.0, 1.0)
    c, s = np.cos(angle), np.sin(angle)
    matrix = torch.from_numpy(np.stack([flip * c, flip * s, -s, c], -1)).to(points.dtype)
    pairs = points[..., :-1].unflatten(-1, (-1, 2)) @ matrix.view(-1, 1, 2, 2)
    return torch.cat([pairs.flatten(-2), points[..., -1:]], dim=-1)
