"""Small layers shared by the backbones. Tensors are (B, N, C): points are the sequence axis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoid(value: Tensor, dim: int, period: float = 10_000.0) -> Tensor:
    """Sinusoidal embedding (B, dim) of a scalar (B,) (Vaswani et al. 2017)."""
    half = dim // 2
    rates = torch.exp(-math.log(period) * torch.arange(half, device=value.device) / half)
    angles = value.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


PLACES = 10  # channels that tell a point's place in its drawing


def progress(mask: Tensor) -> Tensor:
    """Where in the drawing each point stands, (B, N, PLACES), from the mask (B, N) alone.

    The share of the drawing done, its sines at four rates, and how long the drawing is: a network
    that knows them need not count.
    """
    count = mask.sum(dim=1, keepdim=True).clamp(min=1).float()
    place = torch.arange(mask.shape[1], device=mask.device) + 0.5
    u = place / count
    rates = math.pi * torch.tensor([1.0, 2.0, 4.0, 8.0], device=mask.device)
    waves = u[..., None] * rates
    plain = torch.stack([u, (count / 64).expand_as(u)], dim=-1)
    return torch.cat([plain, waves.cos(), waves.sin()], dim=-1) * mask[..., None]


class Conv3(nn.Module):
    """Convolution of width 3 over points, as one matrix product over three shifted copies.

    On CPUs this is as fast as conv1d, and (B, N, C) needs no transposes around it.
    """

    def __init__(self, channels: int, out: int, *, zero: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * channels, out)
        if zero:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        padded = F.pad(x, (0, 0, 1, 1))
        return self.linear(torch.cat([padded[:, :n], x, padded[:, 2:]], dim=-1))


class ResBlock(nn.Module):
    """LayerNorm-SiLU-conv, twice, with FiLM by the embedding (Perez et al. 2018) in between.

    Normalization is over channels, never over points, so padding cannot leak into statistics.
    """

    def __init__(
        self, channels: int, out: int, embedding: int, *, dropout: float, film: bool
    ) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(channels)
        self.conv_in = Conv3(channels, out)
        self.film = film
        self.embed = nn.Linear(embedding, 2 * out if film else out)
        self.norm_out = nn.LayerNorm(out, elementwise_affine=not film)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = Conv3(out, out, zero=True)
        self.skip = nn.Linear(channels, out) if channels != out else nn.Identity()

    @property
    def outer(self) -> tuple[nn.Module, ...]:
        """The layer that reads the embedding: orthogonal steps cost it much and gain nothing."""
        return (self.embed,)

    def forward(self, x: Tensor, embedding: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, C), embedding (B, E), mask (B, N, 1) -> (B, N, out)."""
        h = self.conv_in(F.silu(self.norm_in(x)) * mask)
        e = self.embed(embedding)[:, None]
        if self.film:
            scale, shift = e.chunk(2, dim=-1)
            h = torch.addcmul(shift, self.norm_out(h), 1 + scale)
        else:
            h = self.norm_out(h + e)
        h = self.conv_out(self.dropout(F.silu(h)) * mask)
        return self.skip(x) + h


class Attention(nn.Module):
    """Multi-head self-attention over the valid points, residual, zero at the start."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, N, C), mask (B, N, 1) -> (B, N, C)."""
        b, n, c = x.shape
        qkv = self.qkv(self.norm(x)).view(b, n, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        # plain products: fused attention's backward pass costs ten times as much for a few dozen
        # points on a processor
        scores = (q * (c // self.heads) ** -0.5) @ k.mT
        scores = scores.float().masked_fill((mask <= 0).view(b, 1, 1, n), -math.inf)
        h = scores.softmax(dim=-1).to(v.dtype) @ v
        return x + self.out(h.transpose(1, 2).reshape(b, n, c))


WEIGHT_UNIT = 100.0  # levels of time that a guidance weight of 1 is embedded like


class Embedding(nn.Module):
    """Time, label and (``guided``) guidance weight -> one vector (B, dim), already through its MLP
    and SiLU."""

    def __init__(self, dim: int, classes: int, *, guided: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(classes + 1, dim)  # the last row is "no label"
        self.weight = nn.Linear(dim, dim) if guided else None
        if self.weight is not None:
            # at first the weight says nothing: the network starts as the one it is distilled from
            nn.init.zeros_(self.weight.weight)
            nn.init.zeros_(self.weight.bias)

    def forward(self, t: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
        """t, label, weight (B,) -> (B, dim); no weight reads as 1."""
        e = self.time(sinusoid(t, self.dim)) + self.label(label)
        if self.weight is not None:
            weight = torch.ones_like(t, dtype=torch.float32) if weight is None else weight
            e = e + self.weight(sinusoid(WEIGHT_UNIT * weight, self.dim))
        return F.silu(e)
