"""ChiroDiff: diffusion over whole drawings with a recurrent denoiser.

Paper: A. Das, Y. Yang, T. Hospedales, T. Xiang and Y.-Z. Song, *ChiroDiff: Modelling chirographic
data with diffusion models*, ICLR 2023. Code read: github.com/dasayan05/chirodiff, commit d46f3894
(MIT), with the values of its ``config.yml``. Everything below is written anew from its facts.

What it does
    The first point moves to the origin and is left out, the farthest lies at radius 10; strokes are
    resampled by arc length to a spacing of .05 of that radius. A row is (x, y, p), p = 1 on the
    last point of each stroke; all three are diffused (``representation="positions"``, the released
    default; ``"offsets"`` diffuses (dx, dy, p) instead). Drawings of 300 rows and more are left
    out. T = 35 levels, beta linear from 1e-4 to .02, both times 1000 / 35.
Network
    Three layers of bidirectional GRU, 96 each way, over noisy positions and velocities (differences
    or sums of what is diffused) and eight random Fourier features of t / T (scale 4, drawn once and
    kept); a dense layer to 96, and one to the noise, which sees the level again. 416,859
    parameters. Padding is masked by packing.
Learning
    Squared error of the noise, averaged over the three channels, over each drawing's own points,
    then over drawings. AdamW 1e-3, weight decay .01, times .9995 an epoch, gradient norm clipped at
    .1, batches of 128, averaged weights .9999.
Drawing
    All 35 levels, DDPM's mean and the posterior's variance, its noise times .75 (the variance knob:
    .5 to .75 looked cleaner than 1 to the authors). Lengths are copied from data. p > .8 ends a
    stroke. A drawing is healed by noising it part of the way and denoising it again.

Where we differ, and the option that says so
    ===================== =======================================================================
    classes               the original's own class mode: a learned vector of 96 numbers beside the
                          level's features, at the network's input and at its last layer
    ``size="cpu"``        the same network: it is small; but a drawing's own points instead of the
                          resampled ones (``spacing=0``), a quarter of them; the farthest at radius
                          3 (``radius``), which is about unit variance, and a learning rate of 3e-3
                          on a cosine, so that it learns in minutes
    lengths               from the training drawings' histogram of the class, never of test drawings
    jitter                the original adds Perlin noise of .1 at each access; we augment as every
                          row of the table does
    variance at t = 1     never used: no noise is added at the last step, here as there
    ===================== =======================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.errors import UserError
from sketchknitter.geometry import arc_lengths, resample_evenly
from sketchknitter.seeds import Stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.drawing import DrawingGenerator, Request, drawn_lengths
from sketchknitter.systems.learning import (
    Encoded,
    Habits,
    LearnedSystem,
    Learner,
    Rows,
    check_choice,
    length_counts,
)
from sketchknitter.systems.stored import Stored
from sketchknitter.training.objective import Loss, Streams

Floats = NDArray[np.float64]

STEPS = 35
RADIUS = 10.0
SPACING = 0.05  # of resampled points, in radii
LONGEST = 299  # rows
CUT = 0.8  # a larger p ends a stroke
FEATURES = 8  # of the level
SCALE = 4.0  # of the random Fourier features

Representation = Literal["positions", "offsets"]


# -- noise levels --------------------------------------------------------------------------------
def betas(steps: int = STEPS) -> Tensor:
    """beta_t, t = 1 … T, linear, (T,) float64."""
    low, high = 1e-4 * 1000 / steps, 0.02 * 1000 / steps
    return torch.linspace(low, high, steps, dtype=torch.float64)


def alpha_bars(steps: int = STEPS) -> Tensor:
    """Products of 1 - beta, (T,) float64."""
    return (1 - betas(steps)).cumprod(dim=0)


# -- drawings and rows ---------------------------------------------------------------------------
def to_rows(
    stroke3: ArrayLike, spacing: float = 0.0, radius: float = RADIUS
) -> tuple[Floats, float]:
    """Stroke-3 (n, 3) -> (x, y, p), first point at the origin and left out.

    Args:
        spacing: resample strokes by arc length to this, in radii; 0 keeps the points.
        radius: where the farthest point lies.

    Returns:
        Rows (m, 3), and how many px one unit is.

    Raises:
        UserError: all points coincide.
    """
    rows = np.asarray(stroke3, dtype=np.float64)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(rows[:, :2], axis=0)])
    farthest = float(np.hypot(*points.T).max())
    if not farthest > 0:
        raise UserError("all points of a drawing coincide")
    ends = rows[:, 2] > 0.5
    ends[-1] = True
    points = points / farthest
    if spacing:
        strokes = np.split(points, np.flatnonzero(ends[:-1]) + 2)
        strokes = [_resampled(s, spacing) for s in strokes]
        points = np.concatenate(strokes)
        ends = np.zeros(len(points), dtype=bool)
        ends[np.cumsum([len(s) for s in strokes]) - 1] = True
        ends = ends[1:]
    return np.column_stack([points[1:] * radius, ends]), farthest / radius


def _resampled(stroke: Floats, spacing: float) -> Floats:
    """A stroke resampled by arc length to two points at least; a dot stays a dot."""
    if len(stroke) < 2:
        return stroke
    return resample_evenly(stroke, max(2, int(arc_lengths(stroke)[-1] / spacing)))


def to_stroke3(rows: ArrayLike, unit: float = 1.0) -> Floats:
    """The inverse of :func:`to_rows`: p > .8 lifts the pen after a point."""
    rows = np.asarray(rows, dtype=np.float64)
    steps = np.diff(rows[:, :2], axis=0, prepend=np.zeros((1, 2))) * unit
    lift = rows[:, 2] > CUT
    lift[-1] = True
    return np.column_stack([steps, lift])


# -- the network ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Size:
    """Layers of the GRU, and units of each in each direction."""

    layers: int = 3
    hidden: int = 96


class ChiroDiffNetwork(nn.Module):
    """The noise in (x, y, p), or in (dx, dy, p), at level t.

    Args:
        size: of the GRU.
        classes: number of classes, index ``classes`` is "no label"; 0 has no table.
        representation: what x holds.
        steps: T.
    """

    def __init__(
        self,
        size: Size | None = None,
        classes: int = 0,
        representation: Representation = "positions",
        steps: int = STEPS,
    ) -> None:
        super().__init__()
        size = size or Size()
        self.representation, self.steps = representation, steps
        self.label = nn.Embedding(classes + 1, size.hidden) if classes else None
        condition = FEATURES + (size.hidden if classes else 0)
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.randn(FEATURES // 2))
        self.gru = nn.GRU(
            5 + condition, size.hidden, size.layers, batch_first=True, bidirectional=True
        )
        self.dense = nn.Linear(2 * size.hidden, size.hidden)
        self.noise = nn.Linear(size.hidden + condition, 3)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None, lengths: Tensor) -> Tensor:
        """x (B, N, 3), t (B,) of 1 … T, label (B,), lengths (B,) -> (B, N, 3)."""
        angle = 2 * math.pi * SCALE * self.frequencies * (t.to(x) / self.steps)[:, None]
        condition = torch.cat([angle.sin(), angle.cos()], dim=-1)
        if self.label is not None:
            condition = torch.cat([condition, self.label(label)], dim=-1)
        n = x.shape[1]
        along = condition[:, None].expand(-1, n, -1)
        seen = torch.cat([x, other_view(x, self.representation), along], dim=-1)
        packed = pack_padded_sequence(seen, lengths.cpu(), batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=n)
        return self.noise(torch.cat([self.dense(hidden), along], dim=-1))


def other_view(x: Tensor, representation: Representation) -> Tensor:
    """Velocities (B, N, 2) of noisy positions x (B, N, 3), or positions of noisy offsets."""
    if representation == "offsets":
        return x[..., :2].cumsum(dim=1)
    return torch.diff(x[..., :2], dim=1, prepend=torch.zeros_like(x[:, :1, :2]))


# -- the loss ------------------------------------------------------------------------------------
def losses(noise: Tensor, eps: Tensor, mask: Tensor) -> Tensor:
    """Loss of each drawing, (B,): squared error, mean over channels and over its own points.

    Args:
        noise, eps: predicted and true, (B, N, 3).
        mask: its points, (B, N).
    """
    each = (noise - eps).float().square().mean(dim=-1) * mask
    return each.sum(dim=1) / mask.sum(dim=1)


# -- drawing -------------------------------------------------------------------------------------
def step(x: Tensor, eps: Tensor, t: int, normal: Tensor, variance: float, steps: int) -> Tensor:
    """From level t to t - 1: DDPM's mean, the posterior's deviation times ``variance``."""
    beta, bar = betas(steps), alpha_bars(steps)
    i = t - 1
    mean = (x - float(beta[i] / (1 - bar[i]).sqrt()) * eps) / float((1 - beta[i]).sqrt())
    if t == 1:
        return mean
    posterior = (1 - bar[i - 1]) / (1 - bar[i]) * beta[i]
    return mean + variance * float(posterior.sqrt()) * normal


# -- the system ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class ChiroDiff(LearnedSystem):
    """ChiroDiff; what the options are is said at the top of this file.

    Attributes:
        representation: "positions" or "offsets".
        spacing: of resampled points, in radii; 0 keeps a drawing's own points. None is the size's:
            .05 as published, 0 on a CPU.
        radius: of drawings in model units; None is the size's: 10 as published, 3 on a CPU.
    """

    representation: Representation = "positions"
    spacing: float | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        check_choice("size", self.size, ("published", "cpu"))
        check_choice("representation", self.representation, ("positions", "offsets"))
        if self.spacing is not None and not 0 <= self.spacing <= 1:
            raise UserError(f"spacing must lie between 0 and 1, not {self.spacing}")
        if self.radius is not None and not 0 < self.radius <= 100:
            raise UserError(f"radius must lie between 0 and 100, not {self.radius}")

    @property
    def between(self) -> float:
        """The spacing that counts."""
        if self.spacing is not None:
            return self.spacing
        return SPACING if self.size == "published" else 0.0

    @property
    def reach(self) -> float:
        """The radius that counts."""
        if self.radius is not None:
            return self.radius
        return RADIUS if self.size == "published" else 3.0

    def habits(self, drawings: int = 1) -> Habits:
        if self.size == "cpu":
            return Habits(updates=4_000, batch_size=64, lr=3e-3)
        epoch = max(1, drawings // 128)
        return Habits(
            updates=200_000,
            batch_size=128,
            clip=0.1,
            ema=0.9999,
            optimizer=lambda network: torch.optim.AdamW(
                network.parameters(), lr=1e-3, weight_decay=1e-2
            ),
            course=lambda updates, share: 1e-3 * 0.9995 ** (updates // epoch),
        )

    def fitting(self, data: PreparedSet) -> Callable[[NDArray[Any]], bool]:
        def fits(rows: NDArray[Any]) -> bool:
            if not np.asarray(rows)[:, :2].any():
                return False
            return (
                len(rows) <= LONGEST and len(to_rows(rows, self.between, self.reach)[0]) <= LONGEST
            )

        return fits

    def learner(self, data: PreparedSet) -> ChiroDiffLearner:
        return ChiroDiffLearner(self, data)

    def network(self, classes: int) -> ChiroDiffNetwork:
        """A fresh network."""
        return ChiroDiffNetwork(Size(), classes, self.representation)

    def generator(self, stored: Stored, device: str) -> ChiroDiffGenerator:
        return ChiroDiffGenerator(self, stored, device)


def encode(rows: list[Floats], representation: Representation) -> tuple[Tensor, Tensor]:
    """Rows of positions -> what is diffused, (B, N, 3), and its mask (B, N)."""
    longest = max(map(len, rows))
    x = np.zeros((len(rows), longest, 3), dtype=np.float32)
    mask = np.zeros((len(rows), longest), dtype=bool)
    for i, own in enumerate(rows):
        x[i, : len(own)] = own
        if representation == "offsets":
            x[i, : len(own), :2] = np.diff(own[:, :2], axis=0, prepend=np.zeros((1, 2)))
        mask[i, : len(own)] = True
    return torch.from_numpy(x), torch.from_numpy(mask)


class ChiroDiffLearner(Learner):
    """One training of ChiroDiff."""

    def __init__(self, system: ChiroDiff, data: PreparedSet) -> None:
        super().__init__()
        self.system = system
        made = [
            to_rows(d, system.between, system.reach)
            for d in data.train.take(range(len(data.train)))
        ]
        self.facts = {"unit": float(np.median([unit for _, unit in made]))}
        lengths = np.array([len(rows) for rows, _ in made])
        self.extras["lengths"] = length_counts(
            lengths, np.asarray(data.train.labels), len(data.classes), LONGEST
        )
        self.network = system.network(len(data.classes))

    def encode(self, rows: Rows, labels: NDArray[np.int64]) -> Encoded:
        made = [to_rows(r, self.system.between, self.system.reach)[0] for r in rows]
        x, mask = encode(made, self.system.representation)
        return Encoded(x, mask, torch.from_numpy(labels))

    def loss(self, batch: Encoded, streams: Streams) -> Loss:
        rngs = streams.each(Stream.NOISE)
        t = torch.tensor([int(rng.integers(1, STEPS + 1)) for rng in rngs])
        lengths = batch.mask.sum(dim=1)
        n = batch.x.shape[1]
        eps = SketchNoise(rngs).normal(lengths.tolist(), n, 3).to(batch.x)
        bar = alpha_bars()[t - 1].to(batch.x)[:, None, None]
        x = bar.sqrt() * batch.x + (1 - bar).sqrt() * eps
        noise = self.network(x, t.to(x.device), batch.label, lengths)
        each = losses(noise, eps, batch.mask)
        return Loss(each, torch.ones_like(each))


class ChiroDiffGenerator(DrawingGenerator):
    """Draws through all levels; heals by noising a drawing part of the way.

    Settings:
        variance: of the noise of each step, times the posterior's deviation.
        strength: how far a source is noised, as a share of the levels.
    """

    name = "ChiroDiff"
    tasks = ("draw", "heal")
    settings: ClassVar[Mapping[str, Any]] = {"variance": 0.75, "strength": 0.3}

    def __init__(self, system: ChiroDiff, stored: Stored, device: str) -> None:
        super().__init__(stored.classes, device)
        self.system, self.stored = system, stored
        self.network = stored.fill(system.network(len(stored.classes)), device)

    def check(self, settings: Mapping[str, Any]) -> None:
        if not 0 <= settings["variance"] <= 2:
            raise UserError(f"variance must lie between 0 and 2, not {settings['variance']}")
        if not 0 < settings["strength"] <= 1:
            raise UserError(f"strength must lie between 0 and 1, not {settings['strength']}")

    def draw(self, request: Request) -> list[Sketch]:
        system, count, level = self.system, len(request.numbers), STEPS
        units, origins = [float(self.stored.facts["unit"])] * count, np.zeros((count, 2))
        noise = request.noise()
        if request.source is None:
            counts = self.stored.extras["lengths"].numpy()
            lengths = drawn_lengths(counts, request.label.tolist(), request.streams(Stream.LENGTH))
            x = noise.normal(lengths, max(lengths), 3).to(self.device)
        else:
            made = [to_rows(s.to_stroke3(), system.between, system.reach) for s in request.source]
            units = [unit for _, unit in made]
            origins = np.stack([s.points[0] for s in request.source])
            x0, mask = encode([rows for rows, _ in made], system.representation)
            lengths = mask.sum(dim=1).tolist()
            level = max(1, round(float(request.settings["strength"]) * STEPS))
            bar = float(alpha_bars()[level - 1])
            x = bar**0.5 * x0 + (1 - bar) ** 0.5 * noise.normal(lengths, x0.shape[1], 3)
            x = x.to(self.device)
        n, long = x.shape[1], torch.tensor(lengths)
        for t in range(level, 0, -1):
            eps = self.network(x, x.new_full((count,), t), request.label, long)
            self.evaluations += count
            normal = noise.normal(lengths, n, 3).to(self.device)
            x = step(x, eps, t, normal, float(request.settings["variance"]), STEPS)
        if system.representation == "offsets":
            x = torch.cat([x[..., :2].cumsum(dim=1), x[..., 2:]], dim=-1)
        rows = x.double().cpu().numpy()
        return [
            Sketch.from_stroke3(to_stroke3(r[:m], unit), origin=(o[0], o[1]))
            for r, m, unit, o in zip(rows, lengths, units, origins, strict=True)
        ]
