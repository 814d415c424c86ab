"""Training of the outlook, on drawings taken apart and made rough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sketchknitter.classes import WELL_KNOWN
from sketchknitter.recognizers.glimpses import AS_DRAWN, Glimpse, Glimpses, rows_of
from sketchknitter.recognizers.outlook import (
    INPUTS,
    LONGEST,
    Outlook,
    OutlookShape,
    frame_log_density,
)
from sketchknitter.recognizers.training import Splits, go_on
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import TrainingConfig
from sketchknitter.training.objective import Loss, Streams

OUTLOOK_CONFIG = TrainingConfig(
    iterations=6000,
    batch_size=128,
    microbatch=64,
    optimizer="muon",
    lr=2e-3,
    weight_decay=0.05,
    ema_rate="0.998",
    seed=5,
)
MISSING_WEIGHT, FRAME_WEIGHT = 0.4, 0.15  # of these losses beside the class's


@dataclass(frozen=True)
class GlimpseBatch:
    """Glimpses of drawings (B, N, INPUTS), padded with NaN, and what is to be said of them."""

    rows: Tensor
    label: Tensor
    missing: Tensor
    frame: Tensor
    counted: Tensor
    framed: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, part: slice | Tensor) -> GlimpseBatch:
        return GlimpseBatch(*(value[part] for value in self._values()))

    def to(self, device: torch.device | str) -> GlimpseBatch:
        return GlimpseBatch(*(value.to(device) for value in self._values()))

    def _values(self) -> tuple[Tensor, ...]:
        return self.rows, self.label, self.missing, self.frame, self.counted, self.framed

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """Points and mask, no wider than the longest drawing."""
        there = ~self.rows[..., 0].isnan()
        wide = int(there.sum(dim=1).max())
        return self.rows[:, :wide].nan_to_num(), there[:, :wide]

    @classmethod
    def of(cls, glimpses: Sequence[Glimpse], labels: NDArray[np.int64]) -> GlimpseBatch:
        """Shortest first, so that parts of a batch are no wider than they must be."""
        lengths = np.array([len(g.rows) for g in glimpses])
        order = np.argsort(lengths, kind="stable")
        rows = np.full((len(glimpses), int(lengths.max()), INPUTS), np.nan, np.float32)
        for i, j in enumerate(order):
            rows[i, : lengths[j]] = glimpses[j].rows
        chosen = [glimpses[j] for j in order]
        return cls(
            torch.from_numpy(rows),
            torch.from_numpy(labels[order]),
            torch.tensor([g.missing for g in chosen]).clamp(max=LONGEST - 1),
            torch.tensor(np.array([g.frame for g in chosen]), dtype=torch.float32),
            torch.tensor([g.counted for g in chosen]),
            torch.tensor([g.framed for g in chosen]),
        )


class OutlookLesson:
    """The outlook sees drawings taken apart and made rough.

    What is missing and where the whole lies is asked twice of each: with the class, and without.

    Args:
        sets: drawings with labels.
        law: what is done to them.
        shape: size of the network.
        start: weights to go on from.
    """

    def __init__(
        self,
        sets: Splits,
        law: Glimpses | None = None,
        shape: OutlookShape | None = None,
        start: Outlook | None = None,
    ) -> None:
        self.sets, self.law = sets, law or Glimpses()
        self.classes, self.count = sets.classes, len(sets.train)
        self.network = Outlook(sets.classes, start.shape if start else shape)
        self.before = go_on(self.network, start)
        self.train, self.labels = rows_of(sets.train), sets.numbers(sets.train)
        self.valid = _batch(
            rows_of(sets.valid),
            sets.numbers(sets.valid),
            self.law,
            stream(0, Stream.ROUGH_VALIDATION),
        )

    def examples(
        self, chosen: NDArray[np.int64], rngs: Sequence[np.random.Generator]
    ) -> GlimpseBatch:
        seen = [self.law(self.train[i], rng) for i, rng in zip(chosen, rngs, strict=True)]
        return GlimpseBatch.of(seen, self.labels[chosen])

    def loss(self, batch: GlimpseBatch, streams: Streams) -> Loss:
        network = self.network
        read = network.read(*batch.inputs)
        each = F.cross_entropy(
            network.named(read), batch.label, label_smoothing=0.02, reduction="none"
        )
        none = torch.full_like(batch.label, len(self.classes))
        for label in (batch.label, none):
            h = network.features(read, label)
            count = F.cross_entropy(network.missing(h), batch.missing, reduction="none")
            frame = frame_log_density(network.frames(h, batch.missing), batch.frame)
            each = each + MISSING_WEIGHT / 2 * count * batch.counted
            each = each - FRAME_WEIGHT / 2 * frame * batch.framed
        return Loss(each, torch.ones_like(each))

    def score(self) -> float:
        """Top-1 on validation drawings, made rough and taken apart once and for all."""
        log_p = self._named(self.valid)
        return float((log_p.argmax(dim=1) == self.valid.label).double().mean())

    @torch.inference_mode()
    def _named(self, batch: GlimpseBatch) -> Tensor:
        """Class log-probabilities (B, C)."""
        parts = [batch[a : a + 256] for a in range(0, len(batch), 256)]
        network = self.network
        return torch.cat([network.named(network.read(*p.inputs)) for p in parts]).log_softmax(dim=1)

    # -- figures ---------------------------------------------------------------------------------
    def finish(self) -> dict[str, Any]:
        """On test drawings of the well-known classes, no label: top-1 as they are, deformed by 10
        and 30 % of the longer side, and of their first halves (top-3 as well); how often a
        finished drawing, and one that lacks its last strokes, is taken for a finished one; and of
        prefixes the mean log-likelihood, in nats, of
        the missing points and of the frame, beside that of the missing points by the histogram of
        training drawings (of the class, of all) that are longer than the prefix."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        well = counts >= min(WELL_KNOWN, counts.max())
        test, labels = rows_of(self.sets.test), self.sets.numbers(self.sets.test)
        mine = [i for i, label in enumerate(labels) if well[label]]
        test, labels = [test[i] for i in mine], labels[mine]
        half = replace(AS_DRAWN, prefix=1, left=0.5)
        off = replace(AS_DRAWN, rough=1)
        laws = {
            "test_top1": AS_DRAWN,
            "test_top1_at_10": replace(off, farthest=(0.1, 0.1)),
            "test_top1_at_30": replace(off, farthest=(0.3, 0.3)),
            "test_top1_half": half,
        }
        figures: dict[str, Any] = {}
        for name, law in laws.items():
            batch = _batch(test, labels, law, stream(0, Stream.ROUGH_TEST))
            best = self._named(batch).topk(min(3, len(self.classes)), dim=1).indices
            right = best == batch.label[:, None]
            figures[name] = round(float(right[:, 0].double().mean()), 4)
            if law is half:
                figures["test_top3_half"] = round(float(right.any(dim=1).double().mean()), 4)
        for name, law in {
            "test_finished": replace(AS_DRAWN, declared=0),
            "test_part_finished": replace(AS_DRAWN, prefix=1, lifted=1),
        }.items():
            batch = _batch(test, labels, law, stream(0, Stream.ROUGH_TEST))
            likely = self._missing(batch, labeled=False)[0].exp()[:, 0] > 0.5
            figures[name] = round(float(likely.double().mean()), 4)
        cut = _batch(test, labels, replace(AS_DRAWN, prefix=1), stream(0, Stream.ROUGH_TEST))
        return (
            figures
            | self._prefixes(cut[cut.missing > 0])
            | self.sets.record()
            | self.before
            | {"well_known": int(well.sum()), "glimpses": asdict(self.law)}
        )

    @torch.inference_mode()
    def _missing(self, batch: GlimpseBatch, labeled: bool) -> tuple[Tensor, Tensor]:
        """log-probabilities of missing points (B, LONGEST), log-density of the frame (B,)."""
        counts, frames = [], []
        for a in range(0, len(batch), 256):
            part = batch[a : a + 256]
            label = part.label if labeled else torch.full_like(part.label, len(self.classes))
            h = self.network.features(self.network.read(*part.inputs), label)
            counts.append(self.network.missing(h).log_softmax(dim=1))
            frames.append(frame_log_density(self.network.frames(h, part.missing), part.frame))
        return torch.cat(counts), torch.cat(frames)

    def _prefixes(self, cut: GlimpseBatch) -> dict[str, float]:
        """Log-likelihoods of unfinished drawings, given that something is missing."""
        out = {}
        for name, labeled in (("labeled", True), ("unlabeled", False)):
            log_p, frame = self._missing(cut, labeled)
            own = log_p[:, 1:].log_softmax(dim=1).gather(1, cut.missing[:, None] - 1)
            out[f"missing_{name}"] = round(float(own.mean()), 4)
            out[f"frame_{name}"] = round(float(frame[cut.framed].mean()), 4)
            by_length = np.full((len(self.classes), LONGEST + 1), 1e-3)
            label = self.labels if labeled else np.zeros(len(self.labels), np.int64)
            np.add.at(by_length, (label, np.array([len(r) + 1 for r in self.train])), 1)
            mine = cut.label.numpy() if labeled else np.zeros(len(cut), np.int64)
            seen = (~cut.rows[..., 0].isnan()).sum(dim=1).numpy()
            total = seen + cut.missing.numpy()
            by_length = by_length[mine]
            longer = np.where(np.arange(LONGEST + 1) > seen[:, None], by_length, 0)
            chance = by_length[np.arange(len(cut)), total] / longer.sum(axis=1)
            out[f"histogram_{name}"] = round(float(np.log(chance).mean()), 4)
        return out

    def save(self, path: Path, record: Mapping[str, Any]) -> None:
        self.network.save(path, record)


def _batch(
    drawings: Sequence[NDArray[np.float64]],
    labels: NDArray[np.int64],
    law: Glimpses,
    rng: np.random.Generator,
) -> GlimpseBatch:
    return GlimpseBatch.of([law(rows, rng) for rows in drawings], labels)
