"""Training of the picture recognizer, the guide of generation, on distorted drawings.

The training split alone is seen, and the validation split picks the best epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.data.distort import Distortion, distort
from sketchknitter.raster import render_batch
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.recognizers.training import Examples, Splits, go_on
from sketchknitter.seeds import Stream
from sketchknitter.settings import TrainingConfig
from sketchknitter.sketch import Sketch
from sketchknitter.training.objective import Loss, Streams

Pictures = NDArray[np.uint8]


GUIDE_LAW = Distortion(rotation=15.0, stretch=0.25, wobble=0.006, damaged=0.15, jitter=0.01)
GUIDE_CONFIG = TrainingConfig(
    iterations=3000, batch_size=64, lr=3e-3, weight_decay=0.05, ema_rate="0.995", seed=2
)


class GuideLesson:
    """The guide sees lines of many widths, and every other picture blurred, since it will look at
    soft renderings.

    Args:
        sets: drawings with labels.
        law: how they are varied.
        start: weights to go on from.
    """

    def __init__(
        self, sets: Splits, law: Distortion = GUIDE_LAW, start: Recognizer | None = None
    ) -> None:
        self.sets, self.law = sets, law
        self.classes, self.count = sets.classes, len(sets.train)
        self.network = Recognizer(sets.classes)
        self.before = go_on(self.network, start)
        self.labels = sets.numbers(sets.train)
        self.seen = self._render(sets.valid, [self.network.width])

    def _render(self, sketches: Sequence[Sketch], widths: Sequence[float]) -> Pictures:
        size = self.network.size
        out = np.empty((len(sketches), size, size), np.uint8)
        for i, width in enumerate(widths):
            rows = range(i, len(sketches), len(widths))
            out[rows] = render_batch([sketches[j] for j in rows], size, width=width)
        return out

    def examples(self, chosen: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> Examples:
        pairs = [
            distort([self.sets.train[i]], self.law, rng)
            for i, rng in zip(chosen, rngs, strict=True)
        ]
        widths = self.network.width * np.exp(rngs[0].uniform(-0.7, 0.7, 8))
        pictures = self._render([drawn[0] for drawn, _ in pairs], list(widths))
        damage = np.concatenate([d for _, d in pairs])
        return Examples(
            _ink(pictures), torch.from_numpy(self.labels[chosen]), torch.from_numpy(damage)
        )

    def loss(self, batch: Examples, streams: Streams) -> Loss:
        rng = streams.whole(Stream.SOFTNESS)
        ink = batch.seen.clone()
        ink[::2] = blur(ink[::2], float(rng.uniform(0.3, 1.2)))
        ink = ink * float(rng.uniform(0.7, 1.0))
        each = F.cross_entropy(
            self.network(ink), batch.label, label_smoothing=0.05, reduction="none"
        )
        return Loss(each, torch.ones_like(each))

    def _top1(self, pictures: Pictures, labels: NDArray[np.int64]) -> float:
        with torch.inference_mode():
            parts = np.array_split(pictures, max(1, len(pictures) // 256))
            guess = np.concatenate([self.network(_ink(part)).argmax(1).numpy() for part in parts])
        return float((guess == labels).mean())

    def score(self) -> float:
        return self._top1(self.seen, self.sets.numbers(self.sets.valid))

    def finish(self) -> dict[str, Any]:
        unseen = self._render(self.sets.test, [self.network.width])
        figures = {
            "valid_top1": round(self.score(), 4),
            "test_top1": round(self._top1(unseen, self.sets.numbers(self.sets.test)), 4),
        }
        return figures | self.sets.record() | self.before | {"distortion": asdict(self.law)}

    def save(self, path: Path, record: Mapping[str, Any]) -> None:
        self.network.save(path, record)


def _ink(pictures: Pictures) -> Tensor:
    """(n, s, s) uint8 with 255 = paper to (n, 1, s, s) float32 with 1 = ink."""
    return 1.0 - torch.from_numpy(pictures).float().unsqueeze(1) / 255.0


def blur(ink: Tensor, sigma: float) -> Tensor:
    """(B, 1, s, s) blurred by a Gaussian of standard deviation ``sigma`` px."""
    reach = max(1, round(3 * sigma))
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    bell = bell / bell.sum()
    ink = nn.functional.conv2d(ink, bell.view(1, 1, 1, -1), padding=(0, reach))
    return nn.functional.conv2d(ink, bell.view(1, 1, -1, 1), padding=(reach, 0))
