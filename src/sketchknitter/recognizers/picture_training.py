"""Training of the picture recognizer, the guide of generation, on distorted glimpses of drawings.

The training split alone is seen, and the validation split picks the best epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.data.distort import Distortion, distort
from sketchknitter.raster import render_batch
from sketchknitter.recognizers.glimpses import AS_DRAWN, Glimpses, rows_of
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.recognizers.training import Examples, Splits, go_on
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import TrainingConfig
from sketchknitter.sketch import Sketch
from sketchknitter.training.objective import Loss, Streams

Pictures = NDArray[np.uint8]


GUIDE_LAW = Distortion(rotation=15.0, stretch=0.25, wobble=0.006, damaged=0.1, jitter=0.01)
# mirrored, turned and stretched they are already
GUIDE_GLIMPSES = Glimpses(
    mirror=0,
    rotate=0,
    resize=0,
    drop=0,
    prefix=0.38,
    suffix=0.02,
    strokes=0.05,
    disk=0.03,
    cells=0.04,
    rough=0.35,
    rough_part=0.12,
    farthest=(0.0, 0.4),
)
GUIDE_CONFIG = TrainingConfig(
    iterations=9000, batch_size=64, lr=3e-3, weight_decay=0.05, ema_rate="0.995", seed=2
)


class GuideLesson:
    """The guide sees drawings, parts of drawings and rough ones, with lines of many widths, and
    every other picture blurred, since it will look at soft renderings.

    Args:
        sets: drawings with labels.
        law: how they are varied.
        glimpses: what of them is seen, and how rough, after that.
        start: weights to go on from.
    """

    def __init__(
        self,
        sets: Splits,
        law: Distortion = GUIDE_LAW,
        glimpses: Glimpses = GUIDE_GLIMPSES,
        start: Recognizer | None = None,
    ) -> None:
        self.sets, self.law, self.glimpses = sets, law, glimpses
        self.classes, self.count = sets.classes, len(sets.train)
        self.network = Recognizer(sets.classes)
        self.before = go_on(self.network, start)
        self.labels = sets.numbers(sets.train)
        self.valid = self._views(sets.valid, Stream.ROUGH_VALIDATION)

    def _render(self, sketches: Sequence[Sketch], widths: Sequence[float]) -> Pictures:
        size = self.network.size
        out = np.empty((len(sketches), size, size), np.uint8)
        for i, width in enumerate(widths):
            rows = range(i, len(sketches), len(widths))
            out[rows] = render_batch([sketches[j] for j in rows], size, width=width)
        return out

    def examples(self, chosen: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> Examples:
        glimpses = []
        for i, rng in zip(chosen, rngs, strict=True):
            drawn, _ = distort([self.sets.train[i]], self.law, rng)
            glimpses.append(self.glimpses(rows_of(drawn)[0], rng).sketch())
        widths = self.network.width * np.exp(rngs[0].uniform(-0.7, 0.7, 8))
        pictures = self._render(glimpses, list(widths))
        labels = torch.from_numpy(self.labels[chosen])
        return Examples(_ink(pictures), labels, torch.zeros(len(labels), 0))

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

    def _views(self, sketches: Sequence[Sketch], purpose: Stream) -> dict[str, Pictures]:
        """Pictures of drawings: whole, of first halves, and of their points moved by a tenth of
        the longer side."""
        out = {"": self._render(sketches, [self.network.width])}
        for name, law in (
            ("_half", replace(AS_DRAWN, prefix=1, left=0.5)),
            ("_at_10", replace(AS_DRAWN, rough=1, farthest=(0.1, 0.1))),
        ):
            chance = stream(0, purpose)
            seen = [law(rows, chance).sketch() for rows in rows_of(sketches)]
            out[name] = self._render(seen, [self.network.width])
        return out

    def score(self) -> float:
        labels = self.sets.numbers(self.sets.valid)
        return float(np.mean([self._top1(views, labels) for views in self.valid.values()]))

    def finish(self) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for split, sketches, views in (
            ("valid", self.sets.valid, self.valid),
            ("test", self.sets.test, self._views(self.sets.test, Stream.ROUGH_TEST)),
        ):
            labels = self.sets.numbers(sketches)
            for name, pictures in views.items():
                figures[f"{split}_top1{name}"] = round(self._top1(pictures, labels), 4)
        laws = {"distortion": asdict(self.law), "glimpses": asdict(self.glimpses)}
        return figures | self.sets.record() | self.before | laws

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
