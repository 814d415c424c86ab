"""Training of the picture recognizer, the guide of generation, on distorted drawings.

The training split alone is seen, and the validation split picks the best epoch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.raster import render_batch
from sketchknitter.recognizers.learning import Epoch, Splits, fit
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.sketch import Sketch

Pictures = NDArray[np.uint8]


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


def train_guide(
    data: str | os.PathLike[str], out: str | os.PathLike[str], seconds: float = 600, seed: int = 2
) -> dict[str, Any]:
    """Train the guide on ``data`` (a folder or file we read) and write it to ``out``.

    Lines are of many widths and every other picture is blurred, since the guide will look at soft
    renderings.

    Returns:
        The record that the file's header carries; ``test_top1`` is among it.
    """

    sets = Splits.open(data)
    law = Distortion(rotation=15.0, stretch=0.25, wobble=0.006, damaged=0.15, jitter=0.01)
    torch.manual_seed(seed)
    network = Recognizer(sets.classes)
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=0.05)
    rng = np.random.default_rng([seed, 1])

    def render(sketches: Sequence[Sketch], widths: Sequence[float]) -> Pictures:
        out = np.empty((len(sketches), network.size, network.size), np.uint8)
        for i, width in enumerate(widths):
            rows = range(i, len(sketches), len(widths))
            out[rows] = render_batch([sketches[j] for j in rows], network.size, width=width)
        return out

    def ink_of(pictures: Pictures) -> Tensor:
        return 1.0 - torch.from_numpy(pictures).float().unsqueeze(1) / 255.0

    def loss(pictures: Pictures, labels: Tensor, damage: Tensor) -> Tensor:
        ink = ink_of(pictures)
        ink[::2] = blur(ink[::2], float(rng.uniform(0.3, 1.2)))
        ink = ink * float(rng.uniform(0.7, 1.0))
        return cross_entropy(network(ink), labels)

    def epochs() -> Iterator[Epoch]:
        while True:
            drawn, damage = distort(sets.train, law, rng)
            widths = network.width * np.exp(rng.uniform(-0.7, 0.7, 8))
            yield render(drawn, list(rng.permutation(widths))), sets.numbers(sets.train), damage

    def top1(net: nn.Module, pictures: Pictures, labels: NDArray[np.int64]) -> float:
        with torch.inference_mode():
            guess = np.concatenate(
                [net(ink_of(part)).argmax(1).numpy() for part in np.array_split(pictures, 8)]
            )
        return float((guess == labels).mean())

    middle = [network.width]
    seen, unseen = render(sets.valid, middle), render(sets.test, middle)
    best, record = fit(
        network,
        epochs(),
        loss,
        lambda net: top1(net, seen, sets.numbers(sets.valid)),
        seconds,
        seed,
    )
    record |= {
        "valid_top1": record["valid_score"],
        "test_top1": round(top1(best, unseen, sets.numbers(sets.test)), 4),
        **sets.record(),
    }
    best.save(out, record | {"distortion": asdict(law)})  # type: ignore[operator]
    return record


def blur(ink: Tensor, sigma: float) -> Tensor:
    """(B, 1, s, s) blurred by a Gaussian of standard deviation ``sigma`` px."""
    reach = max(1, round(3 * sigma))
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    bell = bell / bell.sum()
    ink = nn.functional.conv2d(ink, bell.view(1, 1, 1, -1), padding=(0, reach))
    return nn.functional.conv2d(ink, bell.view(1, 1, -1, 1), padding=(reach, 0))
