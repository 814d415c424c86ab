"""A network that was trained for conditions, asked under one: plain sampling finishes and heals."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchknitter.data.conditions import ConditionedBatch
from sketchknitter.diffusion.denoiser import Denoised, Denoiser, expand
from sketchknitter.diffusion.schedule import Schedule


class Conditioned:
    """A denoiser that sees what is known of the drawings of one batch.

    Known entries of the state are shown clean at every level, as in training, and come back as they
    are; the network's estimate fills the others.

    Args:
        denoiser: trained with conditions (``denoiser.condition`` is their number of channels).
        batch: what is known; batches it is asked about have these rows, once or several times over.
    """

    def __init__(self, denoiser: Denoiser, batch: ConditionedBatch) -> None:
        self.denoiser = denoiser
        device = next(denoiser.parameters()).device
        self.clean = denoiser.state(batch.batch.xy, batch.batch.pen).to(device)
        self.condition, self.free = batch.condition.to(device), batch.free.to(device)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        times = len(x_t) // len(self.clean)
        clean, condition, free = (
            v.repeat(times, 1, 1) for v in (self.clean, self.condition, self.free)
        )
        x_t = torch.where(free, x_t, clean)
        out = self.denoiser(x_t, t, label, mask, condition)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        return out.with_x0(torch.where(free, out.x0, clean), x_t, alpha, sigma)
