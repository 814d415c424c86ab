"""Diff-HW: handwriting by diffusion over pen offsets, here without text and style.

Paper: T. Luhman and E. Luhman, *Diffusion models for Handwriting Generation*, arXiv 2011.06704.
Code read: github.com/tcl9876/Diffusion-Handwriting-Generation, commit 26a2dc33 (MIT). Everything
below is written anew from its facts.

What it does
    A row is (dx, dy, p), where p = 1 says that *this* displacement is made with the pen up: our
    "lift after the point" rolled by one. Offsets are divided by the drawing's own standard
    deviation, drawings are padded to N rows with (0, 0, 1), nothing is masked: a drawing's length
    is learned as a tail of pen-up rows, which is cut off. Offsets alone are diffused; p is a
    sigmoid head, read at the last step. Training draws the noise level continuously between
    neighboring entries of a table of 60, and the network is given sqrt(abar).
Network
    A U-Net over points, widths 128, 192, 256 with averages of pairs between them; attention at 1/2,
    1/4 and (two blocks of width 384) 1/8 of the points; every layer is scaled and shifted by an
    embedding of sqrt(abar). 10,028,451 parameters with text and style, 6,001,251 without
    (the attention to text removed, the drawing's attention to itself kept), 8,224,035 with
    attention to a single token.
Learning
    Squared error of the noise, summed over x and y, plus mean(abar) times the pens' cross-entropy.
    Adam (.9, .98), learning rate 256^-.5 min(s^-.5, s 10000^-1.5), norms of single variables
    clipped at 100, batches of 96, 60,000 updates, no dropout, no averaged weights.
Drawing
    From N(0, I) through all 60 levels, ``new`` step (default): predict x0 and noise it again to the
    next level; ``standard`` step: DDPM's with variance beta. The last two steps add no noise
    (``new``), respectively the last one (``standard``). The table ends at abar = .0175, not 0,
    although drawing starts from pure noise.

Where we differ, and the option that says so
    ===================== =======================================================================
    classes               there are none in the original: a learned vector is added to the embedding
                          of the noise level (``classes="vector"``), or is the one token of the
                          text's attention (``classes="token"``, 8,224,035 parameters and a table)
    ``size="cpu"``        48, 72, 96 and one block of 144: 803,467 parameters, for training in
                          minutes; ``"published"`` is the original
    ``pen_weight``        the original multiplies the batch's mean cross-entropy by the batch's mean
                          abar (``"batch"``), since Keras had reduced it already; ``"drawing"``
                          weights each drawing by its own abar, the evident intention
    ``scale``             ``"drawing"`` as the original, ``"data"`` one number for all
    ``length``            ``"padding"`` as the original; ``"given"`` masks padding and draws the
                          number of points from the training drawings' histogram
    points                N = 96 instead of 488, as for every row of the table; drawings with an
                          offset beyond 15 deviations are left out, as in the original
    merging of points     the original merges the most collinear fifth of all neighbors three times:
                          simplified drawings have been through that already, so we do not
    ===================== =======================================================================

A dot at the very end of a drawing cannot be told from padding and is lost, here as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.errors import UserError
from sketchknitter.nn.layers import Conv3
from sketchknitter.seeds import Stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.drawing import DrawingGenerator, Request, drawn_lengths
from sketchknitter.systems.learning import (
    Encoded,
    Habits,
    LearnedSystem,
    Learner,
    check_choice,
    length_counts,
)
from sketchknitter.systems.learning import Rows as Drawings
from sketchknitter.systems.stored import Stored
from sketchknitter.training.objective import Loss, Streams

Rows = NDArray[np.float64]

LEVELS = 60
SIGMA = 32  # width of the embedding of the noise level
LIMIT = 15.0  # offsets beyond so many deviations leave a drawing out


# -- noise levels --------------------------------------------------------------------------------
def betas() -> Tensor:
    """beta_i = .02 + exp(linspace(ln 1e-5, ln .4, 60)), (60,) float64."""
    ramp = torch.linspace(math.log(1e-5), math.log(0.4), LEVELS, dtype=torch.float64)
    return 0.02 + ramp.exp()


def alpha_bars() -> Tensor:
    """abar_i, the products of 1 - beta up to i, (60,) float64: .98 … .0175."""
    return (1 - betas()).cumprod(dim=0)


def between_levels(u: Tensor, v: Tensor) -> Tensor:
    """abar, (B,), uniform between neighbors of the table, from two uniform numbers each, (B,)."""
    table = alpha_bars().to(u.device)
    i = (u.double() * (LEVELS - 1)).long().clamp(max=LEVELS - 2)
    return table[i] + v.double() * (table[i + 1] - table[i])


# -- drawings and rows ---------------------------------------------------------------------------
def to_rows(stroke3: ArrayLike) -> Rows:
    """Stroke-3 (n, 3), lift *after* a point -> (dx, dy, p), p = 1 where the move *to* it is pen-up.

    Lifts are rolled by one, so the first row carries the last row's lift, as in the original.
    """
    rows = np.array(stroke3, dtype=np.float64)
    lift = (rows[:, 2] > 0.5).astype(np.float64)
    lift[-1] = 1.0  # a drawing ends with the pen up, whether or not its last row says so
    rows[:, 2] = np.roll(lift, 1)
    return rows


def to_stroke3(rows: ArrayLike) -> Rows:
    """The inverse of :func:`to_rows`, after the tail of pen-up rows (padding) is cut off.

    The first row is ink whatever its p says: a drawing starts with the pen down.
    """
    rows = np.array(rows, dtype=np.float64)
    drawn = np.flatnonzero(rows[:, 2] <= 0.5)
    rows = rows[: max(int(drawn[-1]) + 1 if len(drawn) else 1, 1)]
    lift = np.append(rows[1:, 2] > 0.5, True)
    rows[:, 2] = lift
    return rows


def padded(rows: Rows, points: int) -> Rows:
    """Rows padded to N with (0, 0, 1)."""
    out = np.zeros((points, 3))
    out[:, 2] = 1.0
    out[: len(rows)] = rows
    return out


# -- the network ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Size:
    """What a network is made of.

    Attributes:
        widths: channels at 1, 1/2 and 1/4 of the points.
        bottom: channels at 1/8.
        blocks: attention blocks at 1/8.
        heads: of attention at 1/2, 1/4, 1/8.
    """

    widths: tuple[int, int, int]
    bottom: int
    blocks: int
    heads: tuple[int, int, int] = (3, 4, 6)


SizeName = Literal["published", "cpu"]
SIZES: dict[str, Size] = {
    "published": Size((128, 192, 256), 384, 2),
    "cpu": Size((48, 72, 96), 144, 1),
}


class Film(nn.Module):
    """x gamma + beta, both linear in the embedding of the noise level; gamma starts at 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Linear(SIGMA, channels)
        self.beta = nn.Linear(SIGMA, channels)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x (B, N, C), sigma (B, 32) -> (B, N, C)."""
        return x * self.gamma(sigma)[:, None] + self.beta(sigma)[:, None]


class ConvBlock(nn.Module):
    """Two convolutions and a dense layer, each scaled and shifted, beside a convolution's skip."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.skip = Conv3(channels, out)
        self.conv_in, self.film_in = Conv3(channels, out // 2), Film(out // 2)
        self.conv_out, self.film_out = Conv3(out // 2, out), Film(out)
        self.dense, self.film_dense = nn.Linear(out, out), Film(out)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        h = self.film_in(self.conv_in(F.silu(x)), sigma)
        h = self.film_out(self.conv_out(F.silu(h)), sigma)
        return self.film_dense(self.dense(F.silu(h)), sigma) + self.skip(x)


class MultiHead(nn.Module):
    """Scaled dot-product attention with four dense layers (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None) -> Tensor:
        """Queries (B, N, D), keys and values (B, M, D), keep (B, M) bool or None -> (B, N, D)."""
        b, n, d = query.shape

        def split(x: Tensor) -> Tensor:
            return x.view(b, -1, self.heads, d // self.heads).transpose(1, 2)

        h = F.scaled_dot_product_attention(
            split(self.query(query)),
            split(self.key(key)),
            split(self.value(value)),
            attn_mask=None if keep is None else keep[:, None, None],
        )
        return self.out(h.transpose(1, 2).reshape(b, n, d))


def place(points: int, width: int, factor: float, like: Tensor) -> Tensor:
    """Sinusoids of place times ``factor``, sine and cosine interleaved, (points, width)."""
    channel = torch.arange(width, dtype=torch.float64)
    rate = 10_000.0 ** (-2 * (channel // 2) / width)
    angle = torch.arange(points, dtype=torch.float64)[:, None] * rate * factor
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).to(like)


def _norm(x: Tensor) -> Tensor:
    """Layer normalization without scale and shift, as the original's untrained one."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class AttentionBlock(nn.Module):
    """Attention to a text (if there is one) and to the drawing itself, then two dense layers."""

    def __init__(self, width: int, heads: int, factor: float, text: int = 0) -> None:
        super().__init__()
        self.factor = factor
        self.text = nn.Linear(text, width) if text else None
        if text:
            self.text_film, self.cross_film = Film(width), Film(width)
            self.cross = MultiHead(width, heads)
        self.attention, self.film = MultiHead(width, heads), Film(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.film_out = Film(width)

    def forward(
        self, x: Tensor, sigma: Tensor, text: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """x (B, N, C), sigma (B, 32), text (B, M, T), keep (B, N) bool -> (B, N, C)."""
        where = place(x.shape[1], x.shape[2], self.factor, x)
        if self.text is not None:
            assert text is not None
            words = self.text_film(_norm(self.text(F.silu(text))), sigma)
            key = words + place(words.shape[1], words.shape[2], 1.0, x)
            x = self.cross_film(_norm(self.cross(x + where, key, words, None)), sigma) + x
        h = self.attention(x + where, x + where, x, keep)
        h = self.film(_norm(x + h), sigma)
        h = h + self.down(F.silu(self.up(F.silu(h))))
        return self.film_out(_norm(h), sigma)


def _halved(x: Tensor) -> Tensor:
    """Means of neighbors, (B, N, C) -> (B, N / 2, C)."""
    b, n, c = x.shape
    return x.view(b, n // 2, 2, c).mean(dim=2)


def _doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=1)


class DiffHwNetwork(nn.Module):
    """(x_t, sqrt(abar)) -> (noise, logit of a pen-up move), for N a multiple of 8.

    Args:
        size: widths and blocks.
        classes: number of classes, index ``classes`` is "no label"; 0 has no table.
        token: tell the class by the one token of the text's attention instead of by the embedding
            of the noise level; without classes the token is a constant.
    """

    def __init__(self, size: Size, classes: int = 0, *, token: bool = False) -> None:
        super().__init__()
        c1, c2, c3 = size.widths
        self.size = size
        text = self.text_width = size.bottom if token else 0
        self.label = nn.Embedding(classes + 1, text or SIGMA) if classes else None
        self.sigma = nn.Sequential(nn.SiLU(), nn.Linear(1, 2048), nn.SiLU(), nn.Linear(2048, SIGMA))
        self.first = nn.Linear(2, c1)
        self.down1, self.down2, self.down3 = ConvBlock(c1, c1), ConvBlock(c1, c2), ConvBlock(c2, c3)
        self.at_half = AttentionBlock(c2, size.heads[0], 4.0, text)
        self.at_quarter = AttentionBlock(c3, size.heads[1], 2.0, text)
        self.dense = nn.Linear(c3, size.bottom)
        self.bottom = nn.ModuleList(
            AttentionBlock(size.bottom, size.heads[2], 1.0, text) for _ in range(size.blocks)
        )
        self.skip3, self.up3 = Conv3(c3, size.bottom), ConvBlock(size.bottom, c3)
        self.skip2, self.up2 = Conv3(c2, c3), ConvBlock(c3, c2)
        self.skip1, self.up1 = Conv3(c1, c2), ConvBlock(c2, c1)
        self.noise, self.pen = nn.Linear(c1, 2), nn.Linear(c1, 1)
        _initialize(self)

    def forward(
        self, x: Tensor, root: Tensor, label: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, N, 2), sqrt(abar) (B,), label (B,), mask (B, N) bool -> (B, N, 2), (B, N).

        What stands in padding is never seen where there is a mask; how much of it there is, is.

        Raises:
            UserError: N is not a multiple of 8.
        """
        if x.shape[1] % 8:
            raise UserError(f"Diff-HW needs a multiple of 8 points, not {x.shape[1]}")
        sigma = self.sigma(root[:, None].to(x.dtype))
        vector = None if self.label is None else self.label(label)
        text = None
        if self.text_width:
            blank = x.new_zeros(len(x), self.text_width)
            text = (blank if vector is None else vector)[:, None]
        elif vector is not None:
            sigma = sigma + vector
        keep = [None, None, None, None] if mask is None else _kept(mask)
        h1 = self.down1(self.first(_masked(x, keep[0])), sigma)
        h2 = self.down2(_masked(_halved(h1), keep[1]), sigma)
        h2 = self.at_half(h2, sigma, text, keep[1])
        h3 = self.down3(_masked(_halved(h2), keep[2]), sigma)
        h3 = self.at_quarter(h3, sigma, text, keep[2])
        h = self.dense(_halved(h3))
        for block in self.bottom:
            h = block(h, sigma, text, keep[3])
        h = self.up3(_masked(_doubled(h) + self.skip3(h3), keep[2]), sigma)
        h = self.up2(_masked(_doubled(h) + self.skip2(h2), keep[1]), sigma)
        h = self.up1(_masked(_doubled(h) + self.skip1(h1), keep[0]), sigma)
        return self.noise(h), self.pen(h).squeeze(-1)


def _kept(mask: Tensor) -> list[Tensor | None]:
    """The mask at 1, 1/2, 1/4 and 1/8 of the points: a joint point counts if any of its own do."""
    out: list[Tensor | None] = [mask]
    for _ in range(3):
        mask = mask.view(len(mask), -1, 2).any(dim=2)
        out.append(mask)
    return out


def _masked(x: Tensor, keep: Tensor | None) -> Tensor:
    return x if keep is None else x * keep[..., None]


def _initialize(network: nn.Module) -> None:
    """Keras' defaults: uniform by Glorot & Bengio 2010, biases 0; the scales of Film start at 1."""
    convolutions = {m.linear for m in network.modules() if isinstance(m, Conv3)}
    for module in network.modules():
        if isinstance(module, nn.Linear):
            fan_in, fan_out = module.in_features, module.out_features
            if module in convolutions:
                fan_out *= 3
            bound = (6 / (fan_in + fan_out)) ** 0.5
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    for module in network.modules():
        if isinstance(module, Film):
            nn.init.ones_(module.gamma.bias)


# -- the loss ------------------------------------------------------------------------------------
def losses(
    eps: Tensor,
    noise: Tensor,
    pen: Tensor,
    logit: Tensor,
    abar: Tensor,
    pen_weight: Literal["batch", "drawing"] = "batch",
    mask: Tensor | None = None,
) -> Tensor:
    """Loss of each point, (B, N): squared error summed over x and y, and weighted cross-entropy.

    Args:
        eps, noise: true and predicted noise, (B, N, 2).
        pen: 1 where the move is pen-up, (B, N) float.
        logit: of that, (B, N).
        abar: noise level of each drawing, (B,).
        pen_weight: by the batch's mean abar (original) or by each drawing's own.
        mask: points that count, (B, N); None counts padding as well (original).
    """
    weight = abar.to(eps.dtype)
    if pen_weight == "batch":
        weight = weight.mean().expand_as(weight)
    entropy = F.binary_cross_entropy_with_logits(logit.float(), pen, reduction="none")
    each = (eps - noise).float().square().sum(dim=-1) + weight[:, None] * entropy
    return each if mask is None else each * mask


# -- drawing -------------------------------------------------------------------------------------
def new_step(x: Tensor, eps: Tensor, i: int, normal: Tensor | None) -> Tensor:
    """Predict x0 and noise it again to level i - 1 (to none at i = 0 and i = 1, as the original).

    The first term equals sqrt(abar_(i-1)) x0.
    """
    table, beta = alpha_bars(), betas()
    out = (x - float((1 - table[i]).sqrt()) * eps) / float((1 - beta[i]).sqrt())
    if i > 1 and normal is not None:
        out = out + float((1 - table[i - 1]).sqrt()) * normal
    return out


def standard_step(x: Tensor, eps: Tensor, i: int, normal: Tensor | None) -> Tensor:
    """DDPM's step with variance beta; no noise at i = 0."""
    table, beta = alpha_bars(), betas()
    out = (x - float(beta[i] / (1 - table[i]).sqrt()) * eps) / float((1 - beta[i]).sqrt())
    if i > 0 and normal is not None:
        out = out + float(beta[i].sqrt()) * normal
    return out


def learning_rate(step: int, width: int = 256, warmup: int = 10_000) -> float:
    """Inverse square root with linear warm-up (Vaswani et al. 2017): 6.25e-4 at 10,000."""
    s = max(1, step)
    return width**-0.5 * min(s**-0.5, s * warmup**-1.5)


def clip_each(largest: float = 100.0) -> Callable[[Sequence[nn.Parameter]], float]:
    """Every variable's gradient shortened to a norm of ``largest`` (Keras' ``clipnorm``)."""

    def clip(parameters: Sequence[nn.Parameter]) -> float:
        return math.hypot(*(float(nn.utils.clip_grad_norm_([p], largest)) for p in parameters))

    return clip


# -- the system ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class DiffHW(LearnedSystem):
    """Diff-HW; what the options are is said at the top of this file.

    Attributes:
        points: N, a multiple of 8.
        classes: how the network is given the class: "vector" or "token".
        pen_weight: "batch" or "drawing".
        scale: "drawing" or "data".
        length: "padding" or "given".
    """

    points: int = 96
    classes: Literal["vector", "token"] = "vector"
    pen_weight: Literal["batch", "drawing"] = "batch"
    scale: Literal["drawing", "data"] = "drawing"
    length: Literal["padding", "given"] = "padding"

    def __post_init__(self) -> None:
        check_choice("size", self.size, ("published", "cpu"))
        check_choice("classes", self.classes, ("vector", "token"))
        check_choice("pen_weight", self.pen_weight, ("batch", "drawing"))
        check_choice("scale", self.scale, ("drawing", "data"))
        check_choice("length", self.length, ("padding", "given"))
        if self.points < 8 or self.points % 8:
            raise UserError(f"points must be a multiple of 8, not {self.points}")

    def habits(self, drawings: int = 1) -> Habits:
        if self.size == "cpu":
            return Habits(updates=4_000, batch_size=64, weight_decay=0.0)
        return Habits(
            updates=60_000,
            batch_size=96,
            ema=0.0,
            optimizer=lambda network: torch.optim.Adam(
                network.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-7
            ),
            course=lambda updates, share: learning_rate(updates + 1),
            clipping=clip_each(),
        )

    def fitting(self, data: PreparedSet) -> Callable[[NDArray[Any]], bool]:
        unit = self.unit(data.train.take(range(len(data.train))))

        def fits(rows: NDArray[Any]) -> bool:
            own = unit or _deviation(rows)
            if not own or len(rows) > self.points:
                return False
            return bool(np.abs(rows[:, :2]).max() <= LIMIT * own)

        return fits

    def unit(self, drawings: Drawings) -> float:
        """Px of a model unit where it is one for all drawings, else 0."""
        if self.scale == "drawing":
            return 0.0
        short = [d[:, :2] for d in drawings if len(d) <= self.points]
        return float(np.concatenate(short).std()) if short else 0.0

    def learner(self, data: PreparedSet) -> DiffHWLearner:
        return DiffHWLearner(self, data)

    def network(self, classes: int) -> DiffHwNetwork:
        """A fresh network."""
        return DiffHwNetwork(SIZES[self.size], classes, token=self.classes == "token")

    def generator(self, stored: Stored, device: str) -> DiffHWGenerator:
        return DiffHWGenerator(self, stored, device)


def _deviation(rows: ArrayLike) -> float:
    """A drawing's own standard deviation of offsets, x and y together, px."""
    return float(np.asarray(rows, dtype=np.float64)[:, :2].std())


class DiffHWLearner(Learner):
    """One training of Diff-HW."""

    def __init__(self, system: DiffHW, data: PreparedSet) -> None:
        super().__init__()
        self.system = system
        drawings = data.train.take(range(len(data.train)))
        self.unit = system.unit(drawings)
        usual = self.unit or float(np.median([_deviation(d) for d in drawings]))
        self.facts = {"unit": usual}
        self.network = system.network(len(data.classes))
        labels = np.asarray(data.train.labels)
        self.extras["lengths"] = length_counts(
            np.asarray(data.train.lengths), labels, len(data.classes), system.points
        )

    def encode(self, rows: Drawings, labels: NDArray[np.int64]) -> Encoded:
        return encode(rows, labels, self.system.points, self.unit)

    def loss(self, batch: Encoded, streams: Streams) -> Loss:
        rngs = streams.each(Stream.NOISE)
        u, v = torch.tensor([rng.random(2).tolist() for rng in rngs], dtype=torch.float64).T
        abar = between_levels(u, v).to(batch.x.device)
        b, n, _ = batch.x.shape
        eps = SketchNoise(rngs).normal([n] * b, n, 2).to(batch.x)
        x0, pen = batch.x[..., :2], batch.x[..., 2]
        share = abar.to(batch.x.dtype)[:, None, None]
        mask = batch.mask if self.system.length == "given" else None
        noise, logit = self.network(
            share.sqrt() * x0 + (1 - share).sqrt() * eps, abar.sqrt(), batch.label, mask
        )
        each = losses(eps, noise, pen, logit, abar, self.system.pen_weight, mask)
        count = torch.full_like(each[:, 0], n) if mask is None else mask.sum(dim=1)
        return Loss(each.sum(dim=1), count)


def encode(rows: Drawings, labels: NDArray[np.int64], points: int, unit: float = 0.0) -> Encoded:
    """Stroke-3 drawings in px -> (dx, dy, p) in units of ``unit`` px, or of their own deviation."""
    x = np.zeros((len(rows), points, 3), dtype=np.float32)
    mask = np.zeros((len(rows), points), dtype=bool)
    for i, drawing in enumerate(rows):
        own = to_rows(drawing)
        own[:, :2] /= unit or _deviation(drawing)
        x[i] = padded(own, points)
        mask[i, : len(own)] = True
    return Encoded(torch.from_numpy(x), torch.from_numpy(mask), torch.from_numpy(labels))


STEPS = {"new": new_step, "standard": standard_step}


class DiffHWGenerator(DrawingGenerator):
    """Draws through all 60 levels; heals by noising a drawing part of the way.

    Settings:
        step: "new" or "standard".
        strength: how far a source is noised, as a share of the levels.
    """

    name = "Diff-HW"
    tasks = ("draw", "heal")
    settings: ClassVar[Mapping[str, Any]] = {"step": "new", "strength": 0.4}

    def __init__(self, system: DiffHW, stored: Stored, device: str) -> None:
        super().__init__(stored.classes, device)
        self.system, self.stored = system, stored
        self.network = stored.fill(system.network(len(stored.classes)), device)

    def check(self, settings: Mapping[str, Any]) -> None:
        check_choice("step", settings["step"], tuple(STEPS))
        if not 0 < settings["strength"] <= 1:
            raise UserError(f"strength must lie between 0 and 1, not {settings['strength']}")

    def draw(self, request: Request) -> list[Sketch]:
        n, system = self.system.points, self.system
        count, level = len(request.numbers), LEVELS - 1
        units = [float(self.stored.facts["unit"])] * count
        origins = np.zeros((count, 2))
        noise = request.noise()
        mask = torch.ones(count, n, dtype=torch.bool, device=self.device)
        normal = noise.normal([n] * count, n, 2).to(self.device)
        x = normal
        if request.source is not None:
            rows = [s.to_stroke3() for s in request.source]
            if (longest := max(map(len, rows))) > n:
                raise UserError(f"a drawing of {longest} rows; this model takes up to {n}")
            if system.scale == "drawing":
                units = [_deviation(r) or 1.0 for r in rows]
            origins = np.stack([s.points[0] for s in request.source])
            pairs = zip(rows, units, strict=True)
            given = [np.column_stack([r[:, :2] / u, r[:, 2]]) for r, u in pairs]
            made = encode(given, request.label.cpu().numpy(), n, 1.0).to(self.device)
            level = round(float(request.settings["strength"]) * (LEVELS - 1))
            share = float(alpha_bars()[level])
            x = share**0.5 * made.x[..., :2] + (1 - share) ** 0.5 * normal
            mask = made.mask
        elif system.length == "given":
            counts = self.stored.extras["lengths"].numpy()
            drawn = drawn_lengths(counts, request.label.tolist(), request.streams(Stream.LENGTH))
            mask = (
                torch.arange(n, device=self.device)
                < torch.tensor(drawn, device=self.device)[:, None]
            )
        seen = mask if system.length == "given" else None
        table, pen = alpha_bars().sqrt().tolist(), x[..., 0]
        for i in range(level, -1, -1):
            root = x.new_full((count,), table[i])
            eps, pen = self.network(x, root, request.label, seen)
            self.evaluations += count
            normal = noise.normal([n] * count, n, 2).to(self.device)
            x = STEPS[request.settings["step"]](x, eps, i, normal)
        rows_out = torch.cat([x, (pen > 0).to(x)[..., None]], dim=-1).double().cpu().numpy()
        out = []
        for i, (rows_i, unit) in enumerate(zip(rows_out, units, strict=True)):
            kept = rows_i[: int(mask[i].sum())] if seen is not None else rows_i
            stroke3 = to_stroke3(kept)
            stroke3[:, :2] *= unit
            out.append(Sketch.from_stroke3(stroke3, origin=(origins[i, 0], origins[i, 1])))
        return out
