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
                          resampled ones (``spacing=0``), a quarter of them
    lengths               from the training drawings' histogram of the class, never of test drawings
    jitter                the original adds Perlin noise of .1 at each access; we augment as every
                          row of the table does
    variance at t = 1     never used: no noise is added at the last step, here as there
    ===================== =======================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sketchknitter.errors import UserError
from sketchknitter.geometry import arc_lengths, resample_evenly

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
def to_rows(stroke3: ArrayLike, spacing: float = 0.0) -> tuple[Floats, float]:
    """Stroke-3 (n, 3) -> (x, y, p), first point at the origin and left out, farthest at radius 10.

    Args:
        spacing: resample strokes by arc length to this, in radii; 0 keeps the points.

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
    return np.column_stack([points[1:] * RADIUS, ends]), farthest / RADIUS


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
        told = FEATURES + (size.hidden if classes else 0)
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.randn(FEATURES // 2))
        self.gru = nn.GRU(5 + told, size.hidden, size.layers, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * size.hidden, size.hidden)
        self.noise = nn.Linear(size.hidden + told, 3)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None, lengths: Tensor) -> Tensor:
        """x (B, N, 3), t (B,) of 1 … T, label (B,), lengths (B,) -> (B, N, 3)."""
        angle = 2 * math.pi * SCALE * self.frequencies * (t.to(x) / self.steps)[:, None]
        told = torch.cat([angle.sin(), angle.cos()], dim=-1)
        if self.label is not None:
            told = torch.cat([told, self.label(label)], dim=-1)
        n = x.shape[1]
        along = told[:, None].expand(-1, n, -1)
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
