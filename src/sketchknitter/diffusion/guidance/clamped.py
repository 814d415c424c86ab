"""Estimates kept within bounds, as the original code does."""

from __future__ import annotations

from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.sampler import Model
from sketchknitter.diffusion.schedule import Schedule


class Clamped:
    """Estimates of x_0 clamped to ±bound, as the original code does at 1 (``clip_denoised``)."""

    def __init__(self, denoiser: Model, bound: float) -> None:
        self.denoiser, self.bound = denoiser, bound

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        out = self.denoiser(x_t, t, label, mask)
        x0 = out.x0.clamp(-self.bound, self.bound)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        return out.with_x0(x0, x_t, alpha, sigma)
