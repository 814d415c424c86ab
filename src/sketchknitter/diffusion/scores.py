"""What sampling may ask of a moment: how recognizable the drawing is, how much noise is left."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised


class Scores(Protocol):
    """Anything that tells how recognizable drawings are while they are being denoised."""

    def __call__(
        self, x_t: Tensor, out: Denoised, t: Tensor, label: Tensor, mask: Tensor
    ) -> Tensor:
        """Recognizability of each sketch, 0 … 1, (B,); differentiable in ``out.x0``."""
        ...


def estimated_noise(out: Denoised, mask: Tensor) -> Tensor:
    """Mean |eps| over the valid points' coordinates, (B,)."""
    total = (out.eps[..., :2].abs().mean(dim=-1) * mask).sum(dim=1)
    return total / mask.sum(dim=1).clamp(min=1)
