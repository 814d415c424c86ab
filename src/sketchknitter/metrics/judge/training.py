"""Training of the judge, on distorted drawings and on scribbles that show nothing.

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
from torch import Tensor
from torch.nn import functional as F

from sketchknitter.data.distort import Distortion, distort
from sketchknitter.metrics.judge.network import SCRIBBLE_KINDS, Judge, as_ink, in_channels_last
from sketchknitter.metrics.precision_recall import precision_and_recall
from sketchknitter.raster import render_batch
from sketchknitter.recognizers.picture_training import Pictures
from sketchknitter.recognizers.training import Examples, Splits, go_on
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import TrainingConfig
from sketchknitter.sketch import Sketch
from sketchknitter.training.objective import Loss, Streams

JUDGE_LAW = Distortion(damaged=0.3)
JUDGE_CONFIG = TrainingConfig(
    iterations=8000, batch_size=64, lr=3e-3, weight_decay=0.05, ema_rate="0.995", seed=1
)
# the first kinds of scribbles show nothing at all, and are kept far from everything
NOISE_KINDS = 3


SPREAD = 1.5  # times the margin between noise and noise: an odd drawing among them covers few


def scribbles(sketches: Sequence[Sketch], count: int, rng: np.random.Generator) -> list[Sketch]:
    """``count`` scribbles that show nothing; the i-th is of kind i mod 5, see :func:`scribble`."""
    return [scribble(sketches, i % SCRIBBLE_KINDS, rng) for i in range(count)]


def scribble(sketches: Sequence[Sketch], kind: int, rng: np.random.Generator) -> Sketch:
    """A scribble that shows nothing, of kind 0 … 4.

    A random walk; random points (uniform or Gaussian); a drawing's points in random order; a
    drawing jittered by a tenth to a third of its size; a drawing whose strokes, three at least
    where there is such a drawing, are scattered.
    """
    for _ in range(1000):
        sketch = sketches[int(rng.integers(len(sketches)))]
        if kind < 4 or len(sketch) >= 3:
            break
    points, size = sketch.points, sketch.extent
    cuts = np.cumsum([len(stroke) for stroke in sketch.strokes])[:-1]
    if kind < 2:
        scatter = rng.random if rng.random() < 0.5 else rng.standard_normal
        points = _walk(rng) if kind == 0 else scatter(points.shape)
        lifts = rng.choice((0.0, 0.1, 0.2, 0.5)) * rng.uniform(0.5, 1.2)
        cuts = np.flatnonzero(rng.random(len(points) - 1) < lifts) + 1
    elif kind == 2:
        points = rng.permutation(points)
    elif kind == 3:
        points = points + rng.normal(0, size * rng.uniform(0.1, 0.33), points.shape)
    strokes = np.split(points, cuts)
    if kind == 4:
        strokes = [stroke + rng.normal(0, 0.35 * size, 2) for stroke in strokes]
    return Sketch(strokes)


def _walk(rng: np.random.Generator) -> NDArray[np.float64]:
    """10 to 100 points whose steps are Gaussian, uniform, whole numbers, or of heavy tails."""
    shape = (int(rng.integers(10, 101)), 2)
    steps = (
        rng.normal(size=shape),
        rng.uniform(-1, 1, shape),
        rng.integers(-5, 6, shape).astype(np.float64),
        rng.standard_t(3, shape),
    )
    return steps[rng.integers(4)].cumsum(axis=0)


def crowding(vectors: Tensor, noise: Tensor, margin: float) -> Tensor:
    """How much nearer than ``margin`` noise comes to anything else, noise included; a mean square.

    Precision counts what lies in the ball of any real drawing, and an odd drawing's ball is large:
    where all noise sits in one place, one such drawing lets all of it pass.

    Args:
        vectors: (B, D) features.
        noise: (B,) bool, which of them show nothing.
    """
    near = torch.cdist(
        vectors[noise], vectors, compute_mode="donot_use_mm_for_euclid_dist"
    )  # exact, so that itself is at 0
    lack = (1 - near / (margin * torch.where(noise, SPREAD, 1.0))).clamp(min=0) * (
        near.detach() > 0
    )
    return lack.square().mean() if len(near) else near.sum()


class JudgeLesson:
    """The judge sees drawings, distorted and damaged, and scribbles that show nothing.

    Args:
        sets: drawings with labels.
        law: how they are varied.
        scribbled: scribbles for each drawing.
        margin: how far noise is kept from everything, in raw features; a drawing's third neighbor
            is about 10 away.
        start: weights to go on from.
    """

    def __init__(
        self,
        sets: Splits,
        law: Distortion = JUDGE_LAW,
        scribbled: float = 0.3,
        margin: float = 24.0,
        start: Judge | None = None,
    ) -> None:
        self.sets, self.law, self.scribbled, self.margin = sets, law, scribbled, margin
        self.classes = sets.classes
        self.count = len(sets.train) + round(scribbled * len(sets.train))
        self.network = in_channels_last(Judge(sets.classes))
        self.before = go_on(self.network, start)
        kinds = len(self.classes) + np.arange(self.count - len(sets.train)) % SCRIBBLE_KINDS
        self.labels = np.append(sets.numbers(sets.train), kinds)
        self.seen = self._render(sets.valid)
        scrawls = scribbles(sets.valid, 100 * SCRIBBLE_KINDS, stream(0, Stream.SCRIBBLE))
        self.noise = self._render(
            [s for i, s in enumerate(scrawls) if i % SCRIBBLE_KINDS < NOISE_KINDS]
        )

    def _render(self, sketches: Sequence[Sketch]) -> Pictures:
        return render_batch(sketches, self.network.size, width=self.network.width)

    def examples(self, chosen: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> Examples:
        drawn: list[Sketch] = []
        damage = np.zeros((len(chosen), 2), np.float32)
        for k, (i, rng) in enumerate(zip(chosen.tolist(), rngs, strict=True)):
            if i < len(self.sets.train):
                (sketch,), damage[k : k + 1] = distort([self.sets.train[i]], self.law, rng)
            else:
                sketch = scribble(self.sets.train, (i - len(self.sets.train)) % SCRIBBLE_KINDS, rng)
            drawn.append(sketch)
        labels = torch.from_numpy(self.labels[chosen])
        return Examples(as_ink(self._render(drawn)), labels, torch.from_numpy(damage))

    def loss(self, batch: Examples, streams: Streams) -> Loss:
        """Cross-entropy, the damage's error, and noise that crowds other drawings of the batch."""
        vectors, logits = self.network(batch.seen)
        each = F.cross_entropy(logits, batch.label, label_smoothing=0.05, reduction="none")
        kind = batch.label - len(self.classes)
        real = kind < 0
        error = F.smooth_l1_loss(self.network.damage(vectors), batch.damage, reduction="none")
        each = each + 0.2 * error.mean(dim=1) * real * (len(batch) / real.sum().clamp(min=1))
        noise = (kind >= 0) & (kind < NOISE_KINDS)
        each = each + 0.5 * crowding(vectors, noise, self.margin)
        return Loss(each, torch.ones_like(each))

    def _top1(self, pictures: Pictures, labels: NDArray[np.int64]) -> float:
        guess = self.network.embed_pictures(pictures).probabilities.argmax(1)
        return float((guess == labels).mean())

    def score(self) -> float:
        """Top-1 on the validation split, less the share of noise that passes for a drawing."""
        real, fake = (self.network.embed_pictures(p).vectors for p in (self.seen, self.noise))
        passing = precision_and_recall(real, fake).precision
        return self._top1(self.seen, self.sets.numbers(self.sets.valid)) - passing

    def finish(self) -> dict[str, Any]:
        sets = self.sets
        unseen = self._render(sets.test)
        figures = {
            "valid_top1": round(self._top1(self.seen, sets.numbers(sets.valid)), 4),
            "test_top1": round(self._top1(unseen, sets.numbers(sets.test)), 4),
        }
        self.network.whiten(self._render(sets.train), sets.numbers(sets.train))
        recipe = {"distortion": asdict(self.law), "scribbled": self.scribbled}
        return figures | sets.record() | self.before | recipe | {"margin": self.margin}

    def save(self, path: Path, record: Mapping[str, Any]) -> None:
        self.network.save(path, record)
