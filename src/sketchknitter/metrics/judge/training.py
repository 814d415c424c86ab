"""Training of the judge, on distorted drawings and on scribbles that show nothing.

The training split alone is seen, and the validation split picks the best epoch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.metrics.judge.network import (
    SCRIBBLE_KINDS,
    Judge,
    as_ink,
    in_channels_last,
    load_judge,
)
from sketchknitter.metrics.precision_recall import precision_and_recall
from sketchknitter.raster import render_batch
from sketchknitter.recognizers.learning import Epoch, Splits, fit, go_on
from sketchknitter.recognizers.picture_training import Distortion, Pictures, distort
from sketchknitter.sketch import Sketch

# the first kinds of scribbles show nothing at all, and are kept far from everything
NOISE_KINDS = 3


SPREAD = 1.5  # times the margin between noise and noise: an odd drawing among them covers few


def scribbles(sketches: Sequence[Sketch], count: int, rng: np.random.Generator) -> list[Sketch]:
    """``count`` scribbles that show nothing; the i-th is of kind i mod 5.

    A random walk; random points (uniform or Gaussian); a drawing's points in random order; a
    drawing jittered by a tenth to a third of its size; a drawing whose strokes, three at least, are
    scattered.
    """
    out: list[Sketch] = []
    while len(out) < count:
        sketch = sketches[int(rng.integers(len(sketches)))]
        kind = len(out) % 5
        if kind == 4 and len(sketch) < 3:
            continue
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
        out.append(Sketch(strokes))
    return out


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


def train_judge(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    seconds: float = 1700,
    seed: int = 1,
    start: str | os.PathLike[str] | None = None,
    lr: float = 3e-3,
    scribbled: float = 0.3,
    margin: float = 24.0,
) -> dict[str, Any]:
    """Train the judge on ``data`` (a folder or file we read) and write it to ``out``.

    Args:
        start: a judge to go on from; its classes must be those of ``data``.
        scribbled: scribbles for each drawing.
        margin: how far noise is kept from everything, in raw features; a drawing's third neighbor
            is about 10 away.

    Returns:
        The record that the file's header carries; ``test_top1`` is among it.
    """

    sets = Splits.open(data)
    law = Distortion(damaged=0.3)
    torch.manual_seed(seed)
    network = in_channels_last(Judge(sets.classes))
    before = go_on(network, None if start is None else load_judge(start), data)
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=0.05)

    def render(sketches: Sequence[Sketch]) -> Pictures:
        return render_batch(sketches, network.size, width=network.width)

    def loss(pictures: Pictures, labels: Tensor, damage: Tensor) -> Tensor:
        vectors, logits = network(as_ink(pictures))
        kind = labels - len(sets.classes)
        error = nn.functional.smooth_l1_loss(network.damage(vectors)[kind < 0], damage[kind < 0])
        noise = (kind >= 0) & (kind < NOISE_KINDS)
        return cross_entropy(logits, labels) + 0.2 * error + 0.5 * crowding(vectors, noise, margin)

    def epochs() -> Iterator[Epoch]:
        rng = np.random.default_rng([seed, 1])
        count = round(scribbled * len(sets.train))
        kinds = len(sets.classes) + np.arange(count) % SCRIBBLE_KINDS
        labels = np.append(sets.numbers(sets.train), kinds)
        while True:
            drawn, damage = distort(sets.train, law, rng)
            pictures = render([*drawn, *scribbles(sets.train, count, rng)])
            yield pictures, labels, np.pad(damage, ((0, count), (0, 0)))

    def top1(net: nn.Module, pictures: Pictures, labels: NDArray[np.int64]) -> float:
        guess = net.embed_pictures(pictures).probabilities.argmax(1)  # type: ignore[operator]
        return float((guess == labels).mean())

    seen, unseen = render(sets.valid), render(sets.test)
    scrawls = scribbles(sets.valid, 100 * SCRIBBLE_KINDS, np.random.default_rng([seed, 2]))
    noise = render([s for i, s in enumerate(scrawls) if i % SCRIBBLE_KINDS < NOISE_KINDS])

    def worth(net: nn.Module) -> float:
        """Top-1 on the validation split, less the share of noise that passes for a drawing."""
        real, fake = (net.embed_pictures(p).vectors for p in (seen, noise))  # type: ignore[operator]
        passing = precision_and_recall(real, fake).precision
        return top1(net, seen, sets.numbers(sets.valid)) - passing

    best, record = fit(network, epochs(), loss, worth, seconds, seed, lr)
    record |= {
        "valid_top1": round(top1(best, seen, sets.numbers(sets.valid)), 4),
        "test_top1": round(top1(best, unseen, sets.numbers(sets.test)), 4),
        **sets.record(),
        **before,
    }
    best.whiten(render(sets.train), sets.numbers(sets.train))  # type: ignore[operator]
    settings = {"distortion": asdict(law), "scribbled": scribbled, "margin": margin}
    best.save(out, record | settings)  # type: ignore[operator]
    return record
