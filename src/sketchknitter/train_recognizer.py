"""Training of the recognizers: the judge (metrics), the guide and the reader (generation).

    python -m sketchknitter.train_recognizer judge --data DATA --out judge.safetensors
    python -m sketchknitter.train_recognizer guide --data DATA --out guide.safetensors
    python -m sketchknitter.train_recognizer reader --data DATA --out reader.safetensors

All see the training split of DATA only, and the validation split picks the best epoch.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.errors import UserError
from sketchknitter.learning import Epoch, Splits, fit, go_on
from sketchknitter.sketch import Sketch

Pictures = NDArray[np.uint8]
# the first kinds of scribbles show nothing at all, and are kept far from everything
NOISE_KINDS = 3
SPREAD = 1.5  # times the margin between noise and noise: an odd drawing among them covers few


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
    from sketchknitter.metrics.features import (
        SCRIBBLE_KINDS,
        Judge,
        as_ink,
        in_channels_last,
        load_judge,
    )
    from sketchknitter.metrics.precision_recall import precision_and_recall
    from sketchknitter.raster import render_batch

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


def train_guide(
    data: str | os.PathLike[str], out: str | os.PathLike[str], seconds: float = 600, seed: int = 2
) -> dict[str, Any]:
    """Train the guide on ``data`` (a folder or file we read) and write it to ``out``.

    Lines are of many widths and every other picture is blurred, since the guide will look at soft
    renderings.

    Returns:
        The record that the file's header carries; ``test_top1`` is among it.
    """
    from sketchknitter.nn.recognizer import Recognizer
    from sketchknitter.raster import render_batch

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


def main(argv: Sequence[str] | None = None) -> None:
    """``judge``, ``guide`` or ``reader``, where the data are, and where the weights go."""
    from sketchknitter.train_reader import train_reader

    parser = argparse.ArgumentParser(prog="python -m sketchknitter.train_recognizer")
    parser.add_argument("which", choices=("judge", "guide", "reader"))
    parser.add_argument("--data", required=True, help="training data: a folder or file we read")
    parser.add_argument("--out", required=True, help="where the .safetensors file goes")
    parser.add_argument(
        "--seconds", type=float, help="processor time (judge 1700, guide 600, reader 900)"
    )
    parser.add_argument("--seed", type=int, help="default: judge 1, guide 2, reader 4")
    parser.add_argument("--start", help="weights to go on from (judge and reader)")
    parser.add_argument("--lr", type=float, help="highest learning rate (judge and reader)")
    parser.add_argument("--scribbled", type=float, help="scribbles for each drawing (judge only)")
    parser.add_argument("--margin", type=float, help="how far noise is kept off (judge only)")
    options = vars(parser.parse_args(argv))
    trainers: dict[str, Callable[..., dict[str, Any]]] = {
        "judge": train_judge,
        "guide": train_guide,
        "reader": train_reader,
    }
    train = trainers[options.pop("which")]
    options = {name: value for name, value in options.items() if value is not None}
    known = set(inspect.signature(train).parameters)
    if strange := set(options) - known:
        parser.error(f"--{min(strange)} is not for this one")
    try:
        record = train(**options)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"top-1 on test {record['test_top1']:.2%}")


if __name__ == "__main__":
    main()
