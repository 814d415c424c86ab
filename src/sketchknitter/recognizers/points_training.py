"""Training of the reader, on drawings made rough and taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sketchknitter.data.outline import outline
from sketchknitter.data.roughen import Roughness, roughened
from sketchknitter.recognizers.points import INPUTS, LONGEST, Reader, as_read
from sketchknitter.recognizers.training import Examples, Splits, go_on
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import TrainingConfig
from sketchknitter.sketch import Sketch
from sketchknitter.training.objective import Loss, Streams

READER_CONFIG = TrainingConfig(
    iterations=6000, batch_size=64, lr=2e-3, weight_decay=0.05, ema_rate="0.995", seed=4
)


class ReaderLesson:
    """The reader sees drawings made rough and taken apart.

    Args:
        sets: drawings with labels.
        law: what is done to them.
        start: weights to go on from.
    """

    def __init__(
        self, sets: Splits, law: Roughness | None = None, start: Reader | None = None
    ) -> None:
        self.sets, self.law = sets, law or Roughness()
        self.classes, self.count = sets.classes, len(sets.train)
        self.network = Reader(sets.classes)
        self.before = go_on(self.network, start)
        self.train, self.labels = _outlines(sets.train), sets.numbers(sets.train)
        self.seen = _rough(_outlines(sets.valid), self.law, stream(0, Stream.ROUGH_VALIDATION))

    def examples(self, chosen: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> Examples:
        rows = [_rough([self.train[i]], self.law, rng) for i, rng in zip(chosen, rngs, strict=True)]
        labels = torch.from_numpy(self.labels[chosen])
        return Examples(torch.from_numpy(np.concatenate(rows)), labels, torch.zeros(len(rows), 0))

    def loss(self, batch: Examples, streams: Streams) -> Loss:
        logits = self.network(*_inputs(batch.seen))
        each = F.cross_entropy(logits, batch.label, label_smoothing=0.02, reduction="none")
        return Loss(each, torch.ones_like(each))

    def _top1(self, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        with torch.inference_mode():
            parts = torch.from_numpy(rows).split(256)
            guess = np.concatenate(
                [self.network(*_inputs(part)).argmax(1).numpy() for part in parts]
            )
        return float((guess == labels).mean())

    def score(self) -> float:
        return self._top1(self.seen, self.sets.numbers(self.sets.valid))

    def finish(self) -> dict[str, Any]:
        """Top-1 on test drawings as they are, deformed by 10 and 30 % of the longer side, and
        without their second half."""
        test, labels = _outlines(self.sets.test), self.sets.numbers(self.sets.test)
        plain = Roughness(0, 0, 0, smooth=1, cut=0, late=0, torn=0)
        laws = {
            "test_top1": plain,
            "test_top1_at_10": replace(plain, smooth=0, deformation=(0.1, 0.1)),
            "test_top1_at_30": replace(plain, smooth=0, deformation=(0.3, 0.3)),
            "test_top1_half": replace(plain, cut=1, left=(0.5, 0.5)),
        }
        figures = {
            name: round(self._top1(_rough(test, law, stream(0, Stream.ROUGH_TEST)), labels), 4)
            for name, law in laws.items()
        }
        return figures | self.sets.record() | self.before | {"roughness": asdict(self.law)}

    def save(self, path: Path, record: Mapping[str, Any]) -> None:
        self.network.save(path, record)


_Outlines = list[tuple[NDArray[np.float64], NDArray[np.bool_]]]


def _rough(drawings: _Outlines, law: Roughness, rng: np.random.Generator) -> NDArray[np.float32]:
    """What the reader sees of drawings, (n, LONGEST, 6); NaN after their last point."""
    rows = np.full((len(drawings), LONGEST, INPUTS), np.nan, np.float32)
    for i, (points, ends) in enumerate(drawings):
        read = as_read(*roughened(points, ends, law, rng))
        rows[i, : len(read)] = read
    return rows


def _inputs(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Points and mask, no wider than the longest drawing."""
    there = ~rows[..., 0].isnan()
    wide = int(there.sum(dim=1).max())
    return rows[:, :wide].nan_to_num(), there[:, :wide]


def _outlines(sketches: Sequence[Sketch]) -> _Outlines:
    drawings = [outline(s, most=LONGEST) for s in sketches]
    return [(d.points, d.ends) for d in drawings]
