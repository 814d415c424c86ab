"""``transformer``: attention over the points of a drawing, the convolutional U-Net's rival."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.nn.layers import Embedding, progress, sinusoid


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


class Block(nn.Module):
    """Attention, then an MLP, each normalized before and modulated and gated by the embedding.

    The gates start at zero, so every block starts as the identity (adaLN-zero, Peebles & Xie 2023).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.embed = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
        )
        nn.init.zeros_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)

    def forward(self, x: Tensor, embedding: Tensor, keep: Tensor) -> Tensor:
        """x (B, N, C), embedding (B, C), keep (B, 1, 1, N) bool -> (B, N, C)."""
        b, n, c = x.shape
        scale, shift, gate, mlp_scale, mlp_shift, mlp_gate = self.embed(embedding)[:, None].chunk(
            6, dim=-1
        )
        qkv = self.qkv(_modulated(self.norm_attention(x), scale, shift))
        q, k, v = qkv.view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        x = x + gate * self.out(h.transpose(1, 2).reshape(b, n, c))
        return x + mlp_gate * self.mlp(_modulated(self.norm_mlp(x), mlp_scale, mlp_shift))


class Transformer(nn.Module):
    """A pre-norm transformer with one token for each point.

    Any N works. No point attends to padding, and every other layer looks at one point alone, so
    padding never changes what is inside the mask.

    Args:
        inputs: channels of x (state, and positions where shown).
        outputs: channels of the result (state, and pen logits where predicted).
        classes: number of labels; index ``classes`` is "no label".
        width: channels; even and a multiple of ``heads``.
        depth: blocks.
        heads: attention heads.
        dropout: inside the MLPs.
        guided: the guidance weight is an input.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        classes: int,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
        guided: bool = False,
    ) -> None:
        super().__init__()
        self.width = width
        self.embedding = Embedding(width, classes, guided=guided)
        self.first = nn.Linear(inputs + 10, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.embed = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, outputs)
        for layer in (self.embed, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def outer(self) -> tuple[nn.Module, nn.Module]:
        """First and last layer: their matrices do not lead from hidden values to hidden values."""
        return self.first, self.last

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor, mask: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """x (B, N, inputs), t, label, guidance weight (B,), mask (B, N) bool -> (B, N, outputs)."""
        e = self.embedding(t, label, weight)
        # progress says where in the drawing, the sinusoid which points are neighbors
        place = sinusoid(torch.arange(x.shape[1], device=x.device), self.width)
        h = self.first(torch.cat([x, progress(mask).to(x.dtype)], dim=-1)) + place.to(x.dtype)
        keep = mask[:, None, None]
        for block in self.blocks:
            h = block(h, e, keep)
        scale, shift = self.embed(e)[:, None].chunk(2, dim=-1)
        return self.last(_modulated(self.norm(h), scale, shift))
