"""A network that was trained for conditions, asked under one: plain sampling finishes and heals."""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor

from sketchknitter.data.conditions import ConditionedBatch
from sketchknitter.diffusion.denoiser import Denoised, Denoiser, expand
from sketchknitter.diffusion.schedule import Schedule


class Sees(Protocol):
    """A network, or a wrapper of one, that takes the condition as its last argument."""

    def __call__(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mask: Tensor,
        condition: Tensor | None = None,
    ) -> Denoised: ...


class Conditioned:
    """A denoiser that sees what is known of the drawings of one batch.

    Known entries of the state are shown clean at every level, as in training, and come back as they
    are; the network's estimate fills the others.

    Args:
        denoiser: trained with conditions (``denoiser.condition`` is their number of channels).
        batch: what is known; batches it is asked about have these rows.
        model: a wrapper that is asked in the denoiser's place.
    """

    def __init__(
        self, denoiser: Denoiser, batch: ConditionedBatch, model: Sees | None = None
    ) -> None:
        self.denoiser, self.model = denoiser, model or denoiser
        device = denoiser.device
        self.clean = denoiser.state(batch.batch.xy, batch.batch.pen).to(device)
        self.condition, self.free = batch.condition.to(device), batch.free.to(device)

    def rows(self, index: Tensor) -> Conditioned:
        """The same for the drawings ``index`` (b,) of its batch."""
        out = copy.copy(self)
        out.clean, out.condition, out.free = (
            v[index] for v in (self.clean, self.condition, self.free)
        )
        return out

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        x_t = torch.where(self.free, x_t, self.clean)
        out = self.model(x_t, t, label, mask, self.condition)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        return out.with_x0(torch.where(self.free, out.x0, self.clean), x_t, alpha, sigma)
