"""Conditions: what the network sees of a drawing beside noise.

Nothing, some of its points exactly, or a rough (deformed) copy of them. Training draws an
:class:`Example` for each drawing and iteration; editing makes one of a person's drawing. Either way
:func:`collate` turns them into one :class:`ConditionedBatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.data.batch import END, LIFT, PEN_STATES, Batch
from sketchknitter.data.codec import Codec
from sketchknitter.data.loader import Loader
from sketchknitter.geometry import rdp_mask_many
from sketchknitter.seeds import Stream, stream

CHANNELS = 7  # known, rough, x, y, lift, strength, blind
STRENGTH_UNIT = 0.25  # rms displacement, as a share of the longer side, that reads as 1
Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Example:
    """A drawing and what the network sees of it.

    Attributes:
        points: the drawing itself in the model's frame, (n, 2) px.
        pens: state after each point, (n,) draw, lift, end.
        known: points that are seen exactly where they are, (n,).
        rough: points that are seen deformed, (n,).
        shown: where each of these is seen, (n, 2) px; ignored elsewhere.
        strength: root mean square displacement of the deformed drawing's points along each axis,
            as a share of the longer side, over all of them, also where only some are rough; None
            where the network does not know it (blind).
        lifted: points after which the pen is known to lift, whatever follows, (n,); None for none.
    """

    points: Array
    pens: NDArray[np.int64]
    known: Flags
    rough: Flags
    shown: Array
    strength: float | None = None
    lifted: Flags | None = None

    @property
    def seen(self) -> Flags:
        """Points that are known or rough, (n,)."""
        return self.known | self.rough

    @property
    def pens_seen(self) -> Flags:
        """Pens that are known, (n,): those between two points that are seen, the last one's, and
        those that are known to lift."""
        between = self.seen & np.append(self.seen[1:], True)
        return between if self.lifted is None else between | self.lifted


@dataclass(frozen=True)
class ConditionedBatch:
    """A batch with conditions.

    Attributes:
        batch: the drawings.
        condition: what is seen of each point, (B, N, CHANNELS) float32, 0 where nothing is.
        free: entries of the clean state (B, N, 2 + pen bits) that the condition does not determine.
    """

    batch: Batch
    condition: Tensor
    free: Tensor

    def __len__(self) -> int:
        return len(self.batch)

    def __getitem__(self, index: slice | Tensor) -> ConditionedBatch:
        return ConditionedBatch(self.batch[index], self.condition[index], self.free[index])

    def to(self, device: torch.device | str) -> ConditionedBatch:
        return ConditionedBatch(
            self.batch.to(device), self.condition.to(device), self.free.to(device)
        )

    def narrowed(self, points: int) -> ConditionedBatch:
        """Without the padding after so many points."""
        own = self.batch
        batch = Batch(own.xy[:, :points], own.pen[:, :points], own.mask[:, :points], own.label)
        return ConditionedBatch(batch, self.condition[:, :points], self.free[:, :points])

    @property
    def known(self) -> Tensor:
        """Points that are given as they are, (B, N) bool."""
        return self.condition[..., 0] > 0

    @property
    def plain(self) -> Tensor:
        """Drawings of which nothing is seen, (B,) bool."""
        return ~(self.condition[..., :2] > 0).any(dim=2).any(dim=1)


def collate(examples: Sequence[Example], labels: Sequence[int], codec: Codec) -> ConditionedBatch:
    """Examples -> one batch, padded to the longest."""
    count, width = len(examples), max(len(e.points) for e in examples)
    xy = np.zeros((count, width, 2), np.float32)
    pen = np.full((count, width), END, np.int64)
    mask = np.zeros((count, width), bool)
    condition = np.zeros((count, width, CHANNELS), np.float32)
    free = np.ones((count, width, 2 + PEN_STATES), bool)
    unit = (1 - codec.rho**2) ** 0.5
    for i, e in enumerate(examples):
        n = len(e.points)
        xy[i, :n], pen[i, :n], mask[i, :n] = codec.map.filter(e.points), e.pens, True
        seen, pens_seen = e.seen, e.pens_seen
        c = condition[i, :n]
        c[:, 0], c[:, 1] = e.known, e.rough
        c[:, 2:4] = np.where(seen[:, None], e.shown * (unit / codec.scale), 0.0)
        c[:, 4] = np.where(pens_seen, np.where(e.pens == LIFT, 1.0, -1.0), 0.0)
        c[:, 5] = e.rough * (e.strength or 0.0) / STRENGTH_UNIT
        c[:, 6] = e.rough & (e.strength is None)
        # an offset is determined where both of its ends are
        placed = e.known & np.append(True, e.known[:-1])
        free[i, :n, :2] = ~placed[:, None]
        free[i, :n, 2:] = ~pens_seen[:, None]
    label = torch.as_tensor(np.asarray(labels, np.int64))
    batch = Batch(torch.from_numpy(xy), torch.from_numpy(pen), torch.from_numpy(mask), label)
    return ConditionedBatch(batch, torch.from_numpy(condition), torch.from_numpy(free))


@dataclass(frozen=True)
class ConditionLoader:
    """Training batches under conditions, as pure a function of the iteration as the loader's own.

    Args:
        loader: which drawings, in which order, and how they are augmented.
        mixture: what is seen of them.
    """

    loader: Loader
    mixture: Mixture

    def __call__(self, iteration: int) -> ConditionedBatch:
        """This process's batch at ``iteration``."""
        own = self.loader
        rows, labels = own.drawings(iteration)
        mine = range(own.rank, own.batch_size, own.world)
        examples = [
            self.mixture(r, own.codec, stream(own.seed, Stream.CONDITION, iteration, j))
            for r, j in zip(rows, mine, strict=True)
        ]
        return collate(examples, labels.tolist(), own.codec)


def length_groups(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Indices of a batch in up to three groups of similar length that cost least when each is
    padded to its longest: deformed drawings may be longer than their batch."""
    order = np.argsort(lengths, kind="stable")
    sizes, n = lengths[order], len(lengths)
    whole, best = n * sizes[-1], [n]
    for i in range(12, n - 3, 2):
        for j in [n, *range(i + 8, n - 3, 4)]:
            cuts = [i, n] if j == n else [i, j, n]
            # a group more costs about as much as two drawings
            cost = 2 * sizes[-1] * (len(cuts) - 1) + sum(
                (b - a) * sizes[b - 1] for a, b in pairwise([0, *cuts])
            )
            if cost < whole:
                whole, best = cost, cuts
    return [order[a:b] for a, b in pairwise([0, *best])]


# -- training examples ---------------------------------------------------------------------------
@dataclass(frozen=True)
class Mixture:
    """How often training shows what; what is left is plain drawing, with nothing seen.

    Attributes:
        prefix: the beginning known, cut anywhere, within strokes too.
        suffix: the end known.
        strokes: whole strokes known, at random.
        patch: everything known but what lies in a disk.
        deformed: all points rough, of which ``clean`` have nothing wrong.
        deformed_prefix: the beginning rough.
        repaired: some strokes known, the others rough.
        clean: share of rough drawings with nothing wrong.
        blind: share of rough drawings whose strength is not known.
        shift, zoom: how far the frame is off, a standard deviation: share of the size, logarithm.
    """

    prefix: float = 0.25
    suffix: float = 0.03
    strokes: float = 0.07
    patch: float = 0.05
    deformed: float = 0.22
    deformed_prefix: float = 0.03
    repaired: float = 0.02
    clean: float = 0.20
    blind: float = 0.5
    shift: float = 0.04
    zoom: float = 0.07

    def __call__(
        self, rows: NDArray[np.float64], codec: Codec, rng: np.random.Generator
    ) -> Example:
        """An example of the drawing with stroke-3 ``rows`` (n, 3)."""
        plain = plain_example(rows, codec)
        kinds = ("prefix", "suffix", "strokes", "patch", "deformed", "deformed_prefix", "repaired")
        shares = np.cumsum([getattr(self, k) for k in kinds])
        place = int(np.searchsorted(shares, rng.random(), side="right"))
        if place == len(kinds):
            return plain
        kind = kinds[place]
        e = _reframed(plain, rng, self.shift, self.zoom)
        if kind == "prefix":
            return _known(e, np.arange(len(e.points)) < cut_anywhere(len(e.points), rng))
        if kind == "suffix":
            return _known(e, np.arange(len(e.points)) >= cut_anywhere(len(e.points), rng))
        if kind == "strokes":
            return _known(e, whole_strokes(e, rng))
        if kind == "patch":
            return _known(e, outside_disk(e, rng))
        if not (kind == "deformed" and rng.random() < self.clean):
            e = deformed(e, rng, codec.max_points)
        e = replace(e, rough=np.ones(len(e.points), bool), strength=e.strength or 0.0)
        if rng.random() < self.blind:
            e = replace(e, strength=None)
        if kind == "deformed_prefix":
            return replace(e, rough=np.arange(len(e.points)) < cut_anywhere(len(e.points), rng))
        if kind == "repaired":
            known = whole_strokes(e, rng)
            shown = np.where(known[:, None], e.points, e.shown)
            return replace(e, known=known, rough=~known, shown=shown)
        return e


NOTHING = Mixture(prefix=0, suffix=0, strokes=0, patch=0, deformed=0, deformed_prefix=0, repaired=0)
"""Plain drawing alone."""


def plain_example(rows: NDArray[np.float64], codec: Codec) -> Example:
    """A drawing of which nothing is seen, its box centered."""
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(np.asarray(rows[:, :2], float), axis=0)])
    points -= (points.min(axis=0) + points.max(axis=0)) / 2
    nothing = np.zeros(len(points), bool)
    return Example(points, codec.pens(rows), nothing, nothing, points)


def _reframed(e: Example, rng: np.random.Generator, shift: float, zoom: float) -> Example:
    """The drawing a little off its place and size: nobody knows where an unfinished one ends."""
    size = float(np.ptp(e.points, axis=0).max())
    points = e.points * np.exp(zoom * rng.standard_normal())
    points = points + shift * size * rng.standard_normal(2)
    return replace(e, points=points, shown=points)


def _known(e: Example, known: Flags) -> Example:
    return replace(e, known=known)


def cut_anywhere(n: int, rng: np.random.Generator) -> int:
    """How many of ``n`` points lie before a cut."""
    return int(np.clip(round(n * rng.uniform(0.05, 0.95)), 1, max(1, n - 1)))


def cut_at_stroke(pens: NDArray[np.int64], rng: np.random.Generator) -> int:
    """How many points lie before the end of a stroke that is not the last; of one stroke alone,
    before a cut anywhere."""
    lifts = np.flatnonzero(pens[:-1] == LIFT)
    return int(rng.choice(lifts)) + 1 if len(lifts) else cut_anywhere(len(pens), rng)


def stroke_of(pens: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which stroke each point belongs to, (n,)."""
    return np.cumsum(np.append(0, pens[:-1] == LIFT))


def whole_strokes(e: Example, rng: np.random.Generator) -> Flags:
    """The points of some strokes, (n,); of one alone, its beginning."""
    stroke = stroke_of(e.pens)
    count = int(stroke[-1]) + 1
    if count == 1:
        return np.arange(len(stroke)) < cut_anywhere(len(stroke), rng)
    known = rng.random(count) < rng.uniform(0.15, 0.9)
    known[rng.integers(count)] = True
    if known.all():
        known[rng.integers(count)] = False
    return known[stroke]


def outside_disk(e: Example, rng: np.random.Generator) -> Flags:
    """The points outside a disk around one of them, (n,)."""
    size = float(np.ptp(e.points, axis=0).max())
    middle = e.points[rng.integers(len(e.points))]
    away = np.hypot(*(e.points - middle).T)
    outside = away > size * rng.uniform(0.05, 0.4)
    return outside if outside.any() else np.arange(len(outside)) < cut_anywhere(len(outside), rng)


# -- deformations --------------------------------------------------------------------------------
def deformed(e: Example, rng: np.random.Generator, most: int) -> Example:
    """The drawing with what is shown of it deformed in one way, or in two."""
    kinds: tuple[Callable[[Example, np.random.Generator, int], Example], ...]
    kinds = (white, warped, misplaced, wobbly)
    chosen = [kinds[rng.choice(4, p=(0.4, 0.2, 0.2, 0.2))]]
    if rng.random() < 0.25:
        chosen.append(kinds[rng.integers(4)])
    # what adds points comes first: displacements are of points that are there
    for kind in sorted(chosen, key=lambda k: k is not wobbly):
        e = kind(e, rng, most)
    size = max(1e-9, float(np.ptp(e.points, axis=0).max()))
    return replace(e, strength=float(((e.shown - e.points) ** 2).mean() ** 0.5 / size))


def _moved(e: Example, by: Array) -> Example:
    return replace(e, shown=e.shown + by)


def white(e: Example, rng: np.random.Generator, most: int) -> Example:
    """Every point moved by itself, weakly or strongly."""
    return moved_by(e, np.exp(rng.uniform(np.log(0.008), np.log(0.5))), rng)


def moved_by(e: Example, strength: float, rng: np.random.Generator) -> Example:
    """Every point moved by itself (the protocol of the paper's Table 4), along each axis by a
    standard deviation of ``strength`` longer sides."""
    size = float(np.ptp(e.points, axis=0).max())
    return _moved(e, size * strength * rng.standard_normal(e.points.shape))


def warped(e: Example, rng: np.random.Generator, most: int) -> Example:
    """A smooth warp of the paper: a few plane waves, and a shear."""
    size = float(np.ptp(e.points, axis=0).max())
    waves = 4
    turns = rng.uniform(0.4, 1.8, waves) * 2 * np.pi / size
    angle = rng.uniform(0, 2 * np.pi, waves)
    phase = e.points @ np.stack([np.cos(angle), np.sin(angle)]) * turns
    field = np.sin(phase + rng.uniform(0, 2 * np.pi, waves)) @ rng.standard_normal((waves, 2))
    amplitude = size * np.exp(rng.uniform(np.log(0.005), np.log(0.08)))
    shear = e.points @ (rng.uniform(0, 0.15) * rng.standard_normal((2, 2)))
    return _moved(e, amplitude * field / waves**0.5 + shear)


def misplaced(e: Example, rng: np.random.Generator, most: int) -> Example:
    """Strokes moved, turned and resized, each for itself."""
    size = float(np.ptp(e.points, axis=0).max())
    stroke = stroke_of(e.pens)
    share, far = rng.uniform(0.3, 1.0), rng.uniform(0.02, 0.15)
    shown = e.shown.copy()
    for i in range(int(stroke[-1]) + 1):
        if rng.random() > share:
            continue
        mine = stroke == i
        center = shown[mine].mean(axis=0)
        angle = np.deg2rad(12) * rng.standard_normal()
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        zoom = np.exp(0.12 * rng.standard_normal())
        shown[mine] = (shown[mine] - center) @ turn * zoom + center
        shown[mine] += far * size * rng.standard_normal(2)
    return replace(e, shown=shown)


def wobbly(e: Example, rng: np.random.Generator, most: int) -> Example:
    """The line of a slow hand: smooth noise along it, with the points that it takes to draw it.

    The drawing itself gets the same points on its own line, so each rough point has its true place.
    """
    amplitude = np.exp(rng.uniform(np.log(1.0), np.log(8.0)))  # px
    length = rng.uniform(6, 30)  # px along the line
    spacing = 3.0
    points, shown, pens = [], [], []
    stroke = stroke_of(e.pens)
    epsilon = rng.choice((2.0, 3.0, 4.5))
    for i in range(int(stroke[-1]) + 1):
        mine = np.flatnonzero(stroke == i)
        line = e.points[mine]
        along = np.append(0, np.cumsum(np.hypot(*np.diff(line, axis=0).T)))
        at = np.union1d(np.arange(0, along[-1], spacing), along) if along[-1] > 0 else along
        dense = np.stack([np.interp(at, along, line[:, k]) for k in (0, 1)], axis=1)
        knots = np.arange(0, along[-1] + 2 * length, length)
        noise = amplitude * rng.standard_normal((len(knots), 2))
        wobble = np.stack([np.interp(at, knots, noise[:, k]) for k in (0, 1)], axis=1)
        keep = rdp_mask_many(dense + wobble, np.array([len(at)]), epsilon) | np.isin(at, along)
        points.append(dense[keep])
        shown.append((dense + wobble)[keep])
        state = np.zeros(int(keep.sum()), np.int64)
        state[-1] = e.pens[mine[-1]]
        pens.append(state)
    out = np.concatenate(points)
    # batches are of similar lengths: a drawing that grows makes all of its batch longer
    if len(out) > min(most, 1.4 * len(e.points) + 8) or len(out) < len(e.points):
        return white(e, rng, most)
    nothing = np.zeros(len(out), bool)
    return Example(out, np.concatenate(pens), nothing, nothing, np.concatenate(shown))
