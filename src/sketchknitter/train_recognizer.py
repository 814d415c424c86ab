"""Training of the two recognizers: the judge (metrics) and the guide (generation).

    python -m sketchknitter.train_recognizer judge --data DATA --out judge.safetensors
    python -m sketchknitter.train_recognizer guide --data DATA --out guide.safetensors

Both see the training split of DATA only, and the validation split picks the best epoch.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch

Pictures = NDArray[np.uint8]
Epoch = tuple[Pictures, NDArray[np.int64], NDArray[np.float32]]  # pictures, labels, damage


SCRIBBLES = 0.2  # of the judge's training pictures, beside the drawings


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

    A random walk; random points; a drawing's points in random order; a drawing jittered by a tenth
    to a third of its size; a drawing whose strokes, three at least, are scattered.
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
            points = _walk(rng) if kind == 0 else rng.random(points.shape)
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


def fit(
    network: nn.Module,
    epochs: Iterator[Epoch],
    loss: Callable[[Pictures, Tensor, Tensor], Tensor],
    score: Callable[[nn.Module], float],
    seconds: float,
    seed: int,
    lr: float = 3e-3,
    batch: int = 64,
    ema: float = 0.995,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train for ``seconds`` of processor time with a one-cycle learning rate; keep the best epoch.

    Processor time (of all threads), so that a busy machine makes it slower and not worse.

    Args:
        loss: of (pictures, labels, damage) under ``network``.
        score: of the averaged network, higher is better; asked after every epoch.
        ema: decay of the averaged weights, which are what is scored and returned.

    Returns:
        The averaged network at its best epoch, and a record of the run.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    best, best_score, scores, updates = copy.deepcopy(average), -1.0, [], 0
    start = time.process_time()
    bar = tqdm(
        total=seconds,
        desc="training",
        mininterval=2.0,
        bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s of processor time {postfix}",
    )
    elapsed = 0.0
    while elapsed < seconds:
        pictures, labels, damage = next(epochs)
        network.train()
        order = rng.permutation(len(labels))
        for first in range(0, len(order) - batch + 1, batch):
            elapsed = time.process_time() - start
            if elapsed >= seconds:
                break
            phase = elapsed / seconds
            rate = lr * min(phase / 0.05 + 0.02, 1.0) * (0.5 + 0.5 * np.cos(np.pi * phase) + 1e-3)
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = np.sort(order[first : first + batch])
            value = loss(
                pictures[rows], torch.from_numpy(labels[rows]), torch.from_numpy(damage[rows])
            )
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            updates += 1
            bar.update(min(elapsed, seconds) - bar.n)
            decay = min(ema, (1 + updates) / (10 + updates))
            with torch.no_grad():
                for kept, new in zip(
                    average.state_dict().values(), network.state_dict().values(), strict=True
                ):
                    if kept.is_floating_point():
                        kept.lerp_(new, 1 - decay)
                    else:
                        kept.copy_(new)
        scores.append(round(score(average), 4))
        bar.set_postfix(valid=scores[-1], loss=f"{value.item():.3f}")
        if scores[-1] >= best_score:
            best, best_score = copy.deepcopy(average), scores[-1]
    bar.close()
    record = {
        "cpu_seconds": round(elapsed),
        "updates": updates,
        "epochs": len(scores),
        "batch": batch,
    }
    return best, record | {"lr": lr, "seed": seed, "valid_top1": best_score, "valid_curve": scores}


def train_judge(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    seconds: float = 1200,
    seed: int = 1,
    start: str | os.PathLike[str] | None = None,
    lr: float = 3e-3,
) -> dict[str, Any]:
    """Train the judge on ``data`` (a folder or file we read) and write it to ``out``.

    Args:
        start: a judge to go on from; its classes must be those of ``data``.

    Returns:
        The record that the file's header carries; ``test_top1`` is among it.
    """
    from sketchknitter.metrics.features import Judge, as_ink, in_channels_last, load_judge
    from sketchknitter.raster import render_batch

    sets = _Sets.open(data)
    law = Distortion(damaged=0.3)
    torch.manual_seed(seed)
    network = in_channels_last(Judge(sets.classes))
    before: dict[str, Any] = {}
    if start is not None:
        earlier = load_judge(start)
        if earlier.classes != network.classes:
            raise UserError(f"{start}: a judge of other classes than {data}")
        network.load_state_dict(earlier.state_dict())
        before = {"start": earlier.record}
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=0.05)

    def render(sketches: Sequence[Sketch]) -> Pictures:
        return render_batch(sketches, network.size, width=network.width)

    def loss(pictures: Pictures, labels: Tensor, damage: Tensor) -> Tensor:
        vectors, logits = network(as_ink(pictures))
        drawn = labels < len(sets.classes)
        error = nn.functional.smooth_l1_loss(network.damage(vectors)[drawn], damage[drawn])
        return cross_entropy(logits, labels) + 0.2 * error

    def epochs() -> Iterator[Epoch]:
        rng = np.random.default_rng([seed, 1])
        count = round(SCRIBBLES * len(sets.train))
        labels = np.append(sets.numbers(sets.train), len(sets.classes) + np.arange(count) % 5)
        while True:
            drawn, damage = distort(sets.train, law, rng)
            pictures = render([*drawn, *scribbles(sets.train, count, rng)])
            yield pictures, labels, np.pad(damage, ((0, count), (0, 0)))

    def top1(net: nn.Module, pictures: Pictures, labels: NDArray[np.int64]) -> float:
        guess = net.embed_pictures(pictures).probabilities.argmax(1)  # type: ignore[operator]
        return float((guess == labels).mean())

    seen, unseen = render(sets.valid), render(sets.test)
    best, record = fit(
        network,
        epochs(),
        loss,
        lambda net: top1(net, seen, sets.numbers(sets.valid)),
        seconds,
        seed,
        lr,
    )
    record |= {
        "test_top1": round(top1(best, unseen, sets.numbers(sets.test)), 4),
        **sets.record(),
        **before,
    }
    best.save(out, record | {"distortion": asdict(law)})  # type: ignore[operator]
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

    sets = _Sets.open(data)
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
    record |= {"test_top1": round(top1(best, unseen, sets.numbers(sets.test)), 4), **sets.record()}
    best.save(out, record | {"distortion": asdict(law)})  # type: ignore[operator]
    return record


def blur(ink: Tensor, sigma: float) -> Tensor:
    """(B, 1, s, s) blurred by a Gaussian of standard deviation ``sigma`` px."""
    reach = max(1, round(3 * sigma))
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    bell = bell / bell.sum()
    ink = nn.functional.conv2d(ink, bell.view(1, 1, 1, -1), padding=(0, reach))
    return nn.functional.conv2d(ink, bell.view(1, 1, -1, 1), padding=(reach, 0))


@dataclass(frozen=True)
class _Sets:
    """The three splits as sketches with class numbers."""

    classes: tuple[str, ...]
    train: list[Sketch]
    valid: list[Sketch]
    test: list[Sketch]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> _Sets:
        from sketchknitter.data.sides import read_splits

        splits = read_splits(path, progress=True)
        labels = {s.label for part in splits.values() for s in part}
        classes = tuple(sorted(label for label in labels if label is not None))
        if None in labels or len(classes) < 2 or not all(splits.values()):
            raise UserError(
                f"{path}: a recognizer needs labels on every drawing, two classes, and drawings in "
                "train, valid and test"
            )
        return cls(classes, **splits)

    def numbers(self, sketches: Sequence[Sketch]) -> NDArray[np.int64]:
        """Class numbers of labeled sketches."""
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[sketch.label or ""] for sketch in sketches])

    def record(self) -> dict[str, Any]:
        return {
            "drawings": len(self.train),
            "classes": len(self.classes),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }


def main(argv: Sequence[str] | None = None) -> None:
    """``judge`` or ``guide``, where the data are, and where the weights go."""
    parser = argparse.ArgumentParser(prog="python -m sketchknitter.train_recognizer")
    parser.add_argument("which", choices=("judge", "guide"))
    parser.add_argument("--data", required=True, help="training data: a folder or file we read")
    parser.add_argument("--out", required=True, help="where the .safetensors file goes")
    parser.add_argument("--seconds", type=float, help="processor time (judge 1200, guide 600)")
    parser.add_argument("--seed", type=int, help="default: judge 1, guide 2")
    parser.add_argument("--start", help="a judge to go on from (judge only)")
    parser.add_argument("--lr", type=float, help="highest learning rate (judge only)")
    options = vars(parser.parse_args(argv))
    train = {"judge": train_judge, "guide": train_guide}[options.pop("which")]
    options = {name: value for name, value in options.items() if value is not None}
    if train is train_guide and (strange := {"start", "lr"} & set(options)):
        parser.error(f"--{min(strange)} is for the judge")
    try:
        record = train(**options)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"top-1 on test {record['test_top1']:.2%}, on valid {record['valid_top1']:.2%}")


if __name__ == "__main__":
    main()
