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
from sketchknitter.data.augment import Augment
from sketchknitter.data.batch import DRAW
from sketchknitter.data.codec import Codec
from sketchknitter.data.conditions import (
    Example,
    Flags,
    cut_anywhere,
    deformed,
    moved_by,
    outside_disk,
    plain_example,
    whole_strokes,
)
from sketchknitter.data.outline import outline
from sketchknitter.recognizers.outlook import (
    INPUTS,
    LONGEST,
    Outlook,
    OutlookShape,
    as_seen,
    frame_log_density,
)
from sketchknitter.recognizers.training import Splits, go_on
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import TrainingConfig
from sketchknitter.sketch import Sketch
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
CODEC = Codec(max_rows=LONGEST - 1)
MISSING_WEIGHT, FRAME_WEIGHT = 0.4, 0.15  # of these losses beside the class's
CELLS = 8  # a side of the grid whose cells are blanked


@dataclass(frozen=True)
class Glimpses:
    """What is done to drawings before the outlook sees them.

    Attributes:
        mirror, rotate, resize, drop: see :class:`~sketchknitter.data.augment.Augment`.
        prefix, suffix, strokes, disk, cells: shares of drawings of which the beginning, the end,
            some strokes, all but a disk, or all but some cells of a grid are seen; what is left
            is seen whole.
        left: share of points before the cut of a prefix; None cuts anywhere.
        loose: share of prefixes of which it is said that parts anywhere may be missing.
        between: share of prefixes whose last point lies between two of the drawing's.
        rough, rough_part: shares of whole drawings and of parts whose points are off.
        white: share of these whose points are moved each by itself, evenly up to ``farthest``
            longer sides; the others are deformed as the denoiser sees it.
        wary: share of exact drawings of which it is said that points may be off.
        declared: share of whole drawings of which it is said that nothing is missing.
    """

    mirror: float = 0.5
    rotate: float = 12.0
    resize: float = 0.3
    drop: float = 0.03
    prefix: float = 0.32
    suffix: float = 0.03
    strokes: float = 0.06
    disk: float = 0.03
    cells: float = 0.04
    left: float | None = None
    loose: float = 0.1
    between: float = 0.25
    rough: float = 0.55
    rough_part: float = 0.2
    white: float = 0.6
    farthest: tuple[float, float] = (0.0, 0.5)
    wary: float = 0.3
    declared: float = 0.5

    def __call__(self, rows: NDArray[np.float64], rng: np.random.Generator) -> Glimpse:
        """What is seen of a drawing with stroke-3 ``rows`` (n, 3)."""
        change = Augment(self.mirror, self.rotate, self.resize, self.drop)
        e = plain_example(change(rows, rng), CODEC)
        kinds = ("prefix", "suffix", "strokes", "disk", "cells")
        place = int(
            np.searchsorted(np.cumsum([getattr(self, k) for k in kinds]), rng.random(), "right")
        )
        kind = kinds[place] if place < len(kinds) else "whole"
        off = rng.random() < (self.rough if kind == "whole" else self.rough_part)
        if off and rng.random() < self.white:
            e = moved_by(e, rng.uniform(*self.farthest), rng)
        elif off:
            e = deformed(e, rng, LONGEST)
        n, between = len(e.points), False
        if kind == "prefix":
            k = cut_anywhere(n, rng) if self.left is None else max(2, round(n * self.left))
            seen = np.arange(n) < k
            between = k > 1 and e.pens[k - 2] == DRAW and rng.random() < self.between
            if between:
                shown = e.shown.copy()
                shown[k - 1] += rng.uniform(0.1, 0.9) * (shown[k - 2] - shown[k - 1])
                e = replace(e, shown=shown)
            where = "anywhere" if rng.random() < self.loose else "end"
        elif kind == "suffix":
            seen, where = np.arange(n) >= cut_anywhere(n, rng), "start"
        elif kind == "strokes":
            seen, where = whole_strokes(e, rng), "anywhere"
        elif kind == "disk":
            seen, where = outside_disk(e, rng), "anywhere"
        elif kind == "cells":
            seen, where = outside_cells(e, rng), "anywhere"
        else:
            seen = np.ones(n, bool)
            if rng.random() < self.declared:
                where = "nothing"
            else:
                where = "end" if rng.random() < 0.75 else "anywhere"
        if not (seen.any() and np.ptp(e.shown[seen], axis=0).max() > 0):  # a dot shows nothing
            return self.glimpse(e, np.ones(n, bool), "nothing", True, False)
        return self.glimpse(e, seen, where, off or rng.random() < self.wary, between)

    @staticmethod
    def glimpse(e: Example, seen: Flags, where: str, rough: bool, between: bool) -> Glimpse:
        """The record of an example of which ``seen`` (n,) points are shown."""
        # a line ends where the next point of its stroke is gone
        ends = (e.pens != DRAW) | ~np.append(seen[1:], False)
        shown = e.shown[seen]
        low, high = shown.min(axis=0), shown.max(axis=0)
        first, last = e.points.min(axis=0), e.points.max(axis=0)
        whole = max(float((last - first).max()), 1e-9)
        size = max(float((high - low).max()), 1e-9)
        frame = np.append(np.log(whole / size), (first + last - low - high) / (2 * whole))
        missing = len(e.points) - len(shown) + between
        exact = missing == 0 and bool((e.shown == e.points).all())
        return Glimpse(
            as_seen(shown, ends[seen], where, rough),
            missing,
            frame,
            counted=where != "nothing",
            framed=not exact and abs(frame[0]) < 3,
        )


AS_DRAWN = Glimpses(
    mirror=0,
    rotate=0,
    resize=0,
    drop=0,
    prefix=0,
    suffix=0,
    strokes=0,
    disk=0,
    cells=0,
    loose=0,
    between=0,
    rough=0,
    rough_part=0,
    white=1,
    wary=0,
    declared=1,
)


@dataclass(frozen=True)
class Glimpse:
    """What is seen of a drawing, and what is to be said of it.

    Attributes:
        rows: the network's input, (n, INPUTS).
        missing: how many points.
        frame: of the whole, (FRAME,).
        counted, framed: whether ``missing`` and ``frame`` are to be guessed: not where it is
            declared, or where the drawing itself is the whole.
    """

    rows: NDArray[np.float32]
    missing: int
    frame: NDArray[np.float64]
    counted: bool
    framed: bool


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


def outside_cells(e: Example, rng: np.random.Generator) -> Flags:
    """The points outside some inked cells of a grid over the box (Su et al. 2020), (n,)."""
    low = e.points.min(axis=0)
    size = max(float(np.ptp(e.points, axis=0).max()), 1e-9)
    cell = np.minimum(((e.points - low) / size * CELLS).astype(int), CELLS - 1)
    number = cell[:, 0] * CELLS + cell[:, 1]
    inked = np.unique(number)
    blank = rng.choice(inked, max(1, round(rng.uniform(0.05, 0.5) * len(inked))), replace=False)
    return np.asarray(~np.isin(number, blank))


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
        self.train, self.labels = _rows(sets.train), sets.numbers(sets.train)
        self.valid = _batch(
            _rows(sets.valid),
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
        finished drawing is taken for one; and of prefixes the mean log-likelihood, in nats, of
        the missing points and of the frame, beside that of the missing points by the histogram of
        training drawings (of the class, of all) that are longer than the prefix."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        well = counts >= min(WELL_KNOWN, counts.max())
        test, labels = _rows(self.sets.test), self.sets.numbers(self.sets.test)
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
        whole = _batch(test, labels, replace(AS_DRAWN, declared=0), stream(0, Stream.ROUGH_TEST))
        nothing = self._missing(whole, labeled=False)[0].argmax(dim=1) == 0
        figures["test_finished"] = round(float(nothing.double().mean()), 4)
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


def _rows(sketches: Sequence[Sketch]) -> list[NDArray[np.float64]]:
    """Stroke-3 rows (n, 3) of what a network sees of drawings."""
    out = []
    for sketch in sketches:
        drawn = outline(sketch, most=LONGEST)
        out.append(np.column_stack([np.diff(drawn.points, axis=0), drawn.ends[1:]]).astype(float))
    return out
