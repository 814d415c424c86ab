"""``official``: the network that the paper released, for parity and as the yardstick of speed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.errors import UserError
from sketchknitter.nn.layers import sinusoid

GROUPS = 32  # of every GroupNorm
CELLS = 128  # what each point is embedded in, and what the convolutions slide over
COORDINATES = 2


def _zeroed(layer: nn.Conv1d | nn.Linear) -> nn.Module:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class OfficialBlock(nn.Module):
    """GroupNorm-SiLU-conv, FiLM (or addition) by the embedding, GroupNorm-SiLU-dropout-conv.

    Dhariwal & Nichol 2021's residual block in one dimension; the last convolution starts at zero.
    """

    def __init__(self, channels: int, out: int, embedding: int, dropout: float, film: bool) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(GROUPS, channels)
        self.conv_in = nn.Conv1d(channels, out, 3, padding=1)
        self.film = film
        self.embed = nn.Linear(embedding, 2 * out if film else out)
        self.norm_out = nn.GroupNorm(GROUPS, out)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = _zeroed(nn.Conv1d(out, out, 3, padding=1))
        self.skip = nn.Conv1d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (B, C, L), embedding (B, E) -> (B, out, L)."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        e = self.embed(F.silu(embedding))[..., None]
        if self.film:
            scale, shift = e.chunk(2, dim=1)
            h = self.norm_out(h) * (1 + scale) + shift
        else:
            h = self.norm_out(h + e)
        return self.skip(x) + self.conv_out(self.dropout(F.silu(h)))


class OfficialAttention(nn.Module):
    """Self-attention over the cells, residual, zero at the start."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = _zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, L) -> (B, C, L)."""
        b, c, n = x.shape
        qkv = self.qkv(self.norm(x)).view(b, 3, self.heads, c // self.heads, n)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(-1, -2).reshape(b, c, n))


class OfficialUp(nn.Module):
    """Every cell twice, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, L) -> (B, C, 2L)."""
        return self.conv(x.repeat_interleave(2, dim=-1))


class OfficialUNet(nn.Module):
    """The U-Net of the released code, in which points are *channels*.

    Each point is embedded in 128 cells by one linear layer; a guided-diffusion U-Net then slides
    its convolutions over the cells, with the N points as its channels: widths N, 2N, 3N, 4N at 128,
    64, 32, 16 cells, attention at the bottom alone. So N is fixed, moving a drawing along the
    sequence is a new problem to it, and padding is seen: shorter batches are padded to N with zeros
    and the mask is ignored, as the original does. It reads t on the scale of T = 1000.

    The released count, 20,334,276 parameters with 2 blocks (3: 26,527,236; 4: 32,720,196), is that
    of ``OfficialUNet(2, 4, 0, points=96)``: (dx, dy) in; eps and two pen logits out; no classes.
    What goes beyond: 128 weights for each further input, 129 for each further output (our pens have
    a third state, ``end``), and the label's embedding, ``(classes + 1) * 384``, if there are
    classes.

    Args:
        inputs: channels of x.
        outputs: channels of the result. If the network is shown fewer channels than it returns, the
            first two are noise and the rest pen logits; otherwise all are noise.
        classes: number of labels, index ``classes`` is "no label"; 0 adds no embedding.
        points: N; rounded up to a multiple of 32, which group normalization needs.
        blocks: residual blocks for each level, one more on the way up.
        heads: attention heads.
        dropout: inside residual blocks.
        film: scale and shift by the embedding (``use_scale_shift_norm``), or only add it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        classes: int,
        *,
        points: int = 96,
        blocks: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        film: bool = True,
    ) -> None:
        super().__init__()
        base = self.points = -(-points // GROUPS) * GROUPS
        size = 4 * base
        widths = [base, 2 * base, 3 * base, 4 * base]
        noises = outputs if inputs >= outputs else COORDINATES
        self.time = nn.Sequential(nn.Linear(base, size), nn.SiLU(), nn.Linear(size, size))
        self.label = nn.Embedding(classes + 1, size) if classes else None
        self.embed = nn.Linear(inputs, CELLS)

        def block(channels: int, out: int) -> OfficialBlock:
            return OfficialBlock(channels, out, size, dropout, film)

        # every layer on the way down leaves what it made for the way up
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        left, width = [base], base
        for level, out in enumerate(widths):
            for _ in range(blocks):
                self.down.append(block(width, out))
                width = out
                left.append(width)
            if level + 1 < len(widths):
                self.down.append(nn.Conv1d(width, width, 3, stride=2, padding=1))
                left.append(width)
        self.middle_in = block(width, width)
        self.attention = OfficialAttention(width, heads)
        self.middle_out = block(width, width)
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(block(width + left.pop(), out))
                width = out
            if level:
                self.up.append(OfficialUp(width))
        self.norm = nn.GroupNorm(GROUPS, base)
        self.noise = _zeroed(nn.Linear(CELLS, noises))
        self.pen = nn.Linear(CELLS, outputs - noises) if outputs > noises else None

    def forward(self, x: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        """x (B, n <= N, inputs), t (B,), label (B,), mask (B, n) ignored -> (B, n, outputs).

        Raises:
            UserError: more than N points.
        """
        n = x.shape[1]
        if n > self.points:
            raise UserError(f"the official network takes up to {self.points} points, not {n}")
        e = self.time(sinusoid(t, self.points))
        if self.label is not None:
            e = e + self.label(label)
        h = self.embed(F.pad(x, (0, 0, 0, self.points - n)))
        left = [h]
        for layer in self.down:
            h = layer(h, e) if isinstance(layer, OfficialBlock) else layer(h)
            left.append(h)
        h = self.middle_out(self.attention(self.middle_in(h, e)), e)
        for layer in self.up:
            if isinstance(layer, OfficialBlock):
                h = layer(torch.cat([h, left.pop()], dim=1), e)
            else:
                h = layer(h)
        out = self.noise(F.silu(self.norm(h)))
        if self.pen is not None:
            out = torch.cat([out, self.pen(h)], dim=-1)
        return out[:, :n]
