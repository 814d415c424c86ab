"""A denoiser that follows the slope of a loss on its own estimate (gradient guidance)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle

import torch
from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.guidance.known import clipped
from sketchknitter.diffusion.sampler import Model
from sketchknitter.diffusion.schedule import Schedule


class Steered:
    """A model that follows the slope of a loss on its own estimate of x_0.

    eps' = eps + w(t) sigma_t g with g the gradient in x_t of the loss times the number of
    coordinates, through the network (or, cheaper, in x_0 through the estimate alone), its root mean
    square clipped at 1 for each sketch.

    Args:
        model: denoiser or wrapper.
        loss: (what the model believes, t) -> loss of each sketch, (B,).
        weight: w at the noisiest level; it falls in proportion to t.
        network: whether the gradient passes through the network.
        interval: steer between these shares of T.
        every: steer at every k-th evaluation only, k times as strongly.
    """

    def __init__(
        self,
        model: Model,
        loss: Callable[[Denoised, Tensor], Tensor],
        weight: float,
        *,
        network: bool = True,
        interval: tuple[float, float] = (0.0, 1.0),
        every: int = 1,
    ) -> None:
        self.model, self.loss, self.weight, self.network = model, loss, weight * every, network
        self.low, self.high = interval
        self.turn = cycle(range(every))

    @property
    def schedule(self) -> Schedule:
        return self.model.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        share = t.double() / self.schedule.steps
        acting = (share >= self.low) & (share <= self.high)
        if not self.weight or next(self.turn) or not bool(acting.any()):
            return self.model(x_t, t, label, mask)
        with torch.enable_grad():
            if self.network:
                source = x_t.detach().requires_grad_(True)
                out = self.model(source, t, label, mask)
            else:
                out = self.model(x_t, t, label, mask)
                source = out.x0.detach().requires_grad_(True)
                out = replace(out, x0=source)
            (slope,) = torch.autograd.grad(self.loss(out, t).sum(), source)
        # a coordinate's share of the loss shrinks with their number; its pull should not
        slope = clipped(slope * mask.sum(dim=1)[:, None, None] * x_t.shape[-1], mask)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        weight = expand(self.weight * share * acting, x_t)
        eps = out.eps.detach() + weight * sigma * slope
        return out.detach().with_x0((x_t - sigma * eps) / alpha, x_t, alpha, sigma)
