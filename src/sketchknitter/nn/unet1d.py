"""``unet1d``: a 1-D U-Net over the points of a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.nn.layers import PLACES, Attention, Conv3, Embedding, ResBlock, progress


def _halve(x: Tensor) -> Tensor:
    """(B, N, C) -> (B, ceil(N / 2), 2C): neighbors side by side, zero after an odd end."""
    b, n, c = x.shape
    if n % 2:
        x = F.pad(x, (0, 0, 0, 1))
    return x.reshape(b, (n + 1) // 2, 2 * c)


class Level(nn.Module):
    """Residual blocks of one resolution, each with optional attention."""

    def __init__(
        self, inputs: Sequence[int], out: int, embedding: int, heads: int, **block: Any
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(c, out, embedding, **block) for c in inputs)
        self.attention = nn.ModuleList(Attention(out, heads) for _ in inputs if heads)

    def forward(self, x: Tensor, embedding: Tensor, mask: Tensor) -> Tensor:
        for j, block in enumerate(self.blocks):
            x = block(x, embedding, mask)
            if self.attention:
                x = self.attention[j](x, mask)
        return x


class UNet1d(nn.Module):
    """A U-Net whose sequence axis is the drawing's points.

    Each level halves the number of points (odd counts included) by joining neighbors, so any N
    works; padding outside the mask never changes what is inside it.

    Args:
        inputs: channels of x (state, and positions where shown).
        outputs: channels of the result (state, and pen logits where predicted).
        classes: number of labels; index ``classes`` is "no label".
        widths: channels of each level, finest first.
        blocks: residual blocks for each level, on the way down and again on the way up.
        attention: levels, counted from the finest, that attend; the middle always does if any.
        heads: attention heads.
        dropout: inside residual blocks.
        film: scale and shift by the embedding (``use_scale_shift_norm``), or only add it.
        guided: the guidance weight is an input.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        classes: int,
        *,
        widths: Sequence[int] = (64, 128, 192),
        blocks: int = 2,
        attention: Sequence[int] = (2,),
        heads: int = 4,
        dropout: float = 0.0,
        film: bool = True,
        guided: bool = False,
    ) -> None:
        super().__init__()
        size = 4 * widths[0]
        options: dict[str, Any] = {"dropout": dropout, "film": film}
        self.embedding = Embedding(size, classes, guided=guided)
        self.first = Conv3(inputs + PLACES, widths[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.pool, self.spread, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            h = heads if i in attention else 0
            self.down.append(Level([width] * blocks, width, size, h, **options))
            self.merge.append(nn.Linear(2 * width, width))
            self.up.append(Level([width] * blocks, width, size, h, **options))
            if i + 1 < len(widths):
                self.pool.append(nn.Linear(2 * width, widths[i + 1]))
                self.spread.append(nn.Linear(widths[i + 1], 2 * width))
        deepest = widths[-1]
        self.middle = Level([deepest] * 2, deepest, size, heads if attention else 0, **options)
        self.norm = nn.LayerNorm(widths[0])
        self.last = Conv3(widths[0], outputs, zero=True)

    @property
    def outer(self) -> tuple[nn.Module, nn.Module]:
        """First and last layer: their matrices do not lead from hidden values to hidden values."""
        return self.first, self.last

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor, mask: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """x (B, N, inputs), t, label, guidance weight (B,), mask (B, N) bool -> (B, N, outputs)."""
        e = self.embedding(t, label, weight)
        masks = [mask[..., None].to(x.dtype)]
        h = self.first(torch.cat([x, progress(mask).to(x.dtype)], dim=-1) * masks[0])
        skips = []
        for i, level in enumerate(self.down):
            h = level(h, e, masks[i])
            skips.append(h)
            if i < len(self.pool):
                masks.append(_halve(masks[i]).amax(dim=-1, keepdim=True))
                h = self.pool[i](_halve(h * masks[i]))
        h = self.middle(h, e, masks[-1])
        for i in reversed(range(len(self.up))):
            h = self.up[i](self.merge[i](torch.cat([h, skips[i]], dim=-1)), e, masks[i])
            if i:
                b, n, _ = h.shape
                h = self.spread[i - 1](h).view(b, 2 * n, -1)[:, : masks[i - 1].shape[1]]
        return self.last(F.silu(self.norm(h)) * masks[0])
