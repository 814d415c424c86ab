"""Training of the reader, on drawings made rough and taken apart.

python -m sketchknitter.cli.train_recognizer reader --data DATA --out reader.safetensors
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.data.outline import outline
from sketchknitter.recognizers.learning import Epoch, Splits, fit, go_on
from sketchknitter.recognizers.points import INPUTS, LONGEST, Reader, as_read
from sketchknitter.sketch import Sketch


@dataclass(frozen=True)
class Roughness:
    """What is done to drawings before the reader sees them.

    Attributes:
        rotation: degrees, uniform in ±.
        stretch: log of the aspect ratio, uniform in ±.
        mirror: probability.
        smooth: share of drawings whose points stay where they are.
        deformation: of the others, a share of the longer side, uniform between the two.
        cut, late, torn: shares of drawings that lack their end, their beginning, or pieces.
        left: share of points left of these, uniform between the two.
    """

    rotation: float = 12.0
    stretch: float = 0.18
    mirror: float = 0.5
    smooth: float = 0.3
    deformation: tuple[float, float] = (0.0, 0.6)
    cut: float = 0.25
    late: float = 0.05
    torn: float = 0.1
    left: tuple[float, float] = (0.2, 1.0)


def roughened(
    points: NDArray[np.float64], ends: NDArray[np.bool_], law: Roughness, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], bool]:
    """A drawing's points (n, 2) and stroke ends (n,) as the reader may meet them, and whether
    nothing is missing."""
    angle = np.deg2rad(rng.uniform(-law.rotation, law.rotation))
    aspect = np.exp(rng.uniform(-law.stretch, law.stretch) / 2)
    flip = -1.0 if rng.random() < law.mirror else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = points @ (turn * [flip * aspect, 1 / aspect]).T
    if rng.random() > law.smooth:
        size = float(np.ptp(points, axis=0).max())
        points = points + rng.normal(0.0, size * rng.uniform(*law.deformation), points.shape)
    n, fate = len(points), rng.random()
    if fate > law.cut + law.late + law.torn:
        return points, ends, True
    left = max(2, round(n * rng.uniform(*law.left)))
    if fate < law.cut:
        here = np.arange(n) < left
    elif fate < law.cut + law.late:
        here = np.arange(n) >= n - left
    else:  # pieces of the line, a few points each
        pieces = np.arange(n) // 3
        kept = rng.permutation(pieces[-1] + 1)[: max(1, round(left / 3))]
        here = np.isin(pieces, kept)
    # a line ends where the next point of its stroke is gone
    ends = ends | ~np.append(here[1:], False)
    return points[here], ends[here], False


def train_reader(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    seconds: float = 900,
    seed: int = 4,
    start: str | os.PathLike[str] | None = None,
    lr: float = 2e-3,
) -> dict[str, Any]:
    """Train the reader on ``data`` (a folder or file we read) and write it to ``out``.

    Args:
        start: a reader to go on from; its classes must be those of ``data``.

    Returns:
        The record that the file's header carries: top-1 on test drawings as they are, deformed by
        10 and 30 % of the longer side, and without their second half.
    """
    sets, law = Splits.open(data), Roughness()
    torch.manual_seed(seed)
    network = Reader(sets.classes)
    before = go_on(network, None if start is None else Reader.load(start), data)
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=0.02)
    train = _outlines(sets.train)

    def loss(rows: NDArray[np.float32], labels: Tensor, damage: Tensor) -> Tensor:
        return cross_entropy(network(*_inputs(rows)), labels)

    def epochs() -> Iterator[Epoch]:
        labels, none = sets.numbers(sets.train), np.zeros((len(train), 0), np.float32)
        for epoch in range(10**9):
            yield _rough(train, law, [seed, 1, epoch]), labels, none

    def top1(net: nn.Module, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        with torch.inference_mode():
            parts = np.array_split(rows, max(1, len(rows) // 256))
            guess = np.concatenate([net(*_inputs(part)).argmax(1).numpy() for part in parts])
        return float((guess == labels).mean())

    seen = _rough(_outlines(sets.valid), law, [seed, 2])
    best, record = fit(
        network,
        epochs(),
        loss,
        lambda net: top1(net, seen, sets.numbers(sets.valid)),
        seconds,
        seed,
        lr,
    )
    test, labels = _outlines(sets.test), sets.numbers(sets.test)
    plain = Roughness(0, 0, 0, smooth=1, cut=0, late=0, torn=0)
    for name, damage in {
        "test_top1": plain,
        "test_top1_at_10": replace(plain, smooth=0, deformation=(0.1, 0.1)),
        "test_top1_at_30": replace(plain, smooth=0, deformation=(0.3, 0.3)),
        "test_top1_half": replace(plain, cut=1, left=(0.5, 0.5)),
    }.items():
        record[name] = round(top1(best, _rough(test, damage, [seed, 3]), labels), 4)
    record |= sets.record() | before
    best.save(out, record | {"roughness": asdict(law)})  # type: ignore[operator]
    return record


_Outlines = list[tuple[NDArray[np.float64], NDArray[np.bool_]]]


def _rough(drawings: _Outlines, law: Roughness, key: Sequence[int]) -> NDArray[np.float32]:
    """What the reader sees of drawings, (n, LONGEST, 6); NaN after their last point."""
    rng = np.random.default_rng(key)
    rows = np.full((len(drawings), LONGEST, INPUTS), np.nan, np.float32)
    for i, (points, ends) in enumerate(drawings):
        read = as_read(*roughened(points, ends, law, rng))
        rows[i, : len(read)] = read
    return rows


def _inputs(rows: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Points and mask, no wider than the longest drawing."""
    there = ~np.isnan(rows[..., 0])
    wide = int(there.sum(axis=1).max())
    return torch.from_numpy(np.nan_to_num(rows[:, :wide])), torch.from_numpy(there[:, :wide])


def _outlines(sketches: Sequence[Sketch]) -> _Outlines:
    drawings = [outline(s, most=LONGEST) for s in sketches]
    return [(d.points, d.ends) for d in drawings]
