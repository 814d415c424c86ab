"""Classifier guidance by a recognizability score."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.sampler import Model
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.diffusion.scores import Scores


class Encouraged:
    """A model whose estimates are pushed toward higher recognizability.

    With Tweedie's formula, x_0 <- x_0 + w sigma_t^2 grad log score(x_0): classifier guidance
    (Dhariwal & Nichol 2021) on the predicted x_0, whose Jacobian is taken as alpha_t times the
    identity, which spares the backward pass through the denoiser.

    Args:
        model: what to wrap.
        scorer: must look at the estimate.
        weight: w.
        bound: largest root-mean-square push of a sketch, in model units.
    """

    def __init__(self, model: Model, scorer: Scores, weight: float, bound: float = 0.2) -> None:
        self.model, self.scorer, self.weight, self.bound = model, scorer, weight, bound

    @property
    def schedule(self) -> Schedule:
        return self.model.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        out = self.model(x_t, t, label, mask)
        # cuDNN refuses to differentiate a recurrence that is not in training mode
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            x0 = out.x0.detach().requires_grad_(True)
            score = self.scorer(x_t, Denoised(x0, out.eps, out.head), t, label, mask)
            (slope,) = torch.autograd.grad(score.clamp(min=1e-6).log().sum(), x0)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        push = self.weight * sigma**2 * slope * mask[..., None]
        size = (push**2).sum(dim=(1, 2), keepdim=True) / mask.sum(dim=1).clamp(min=1)[:, None, None]
        push = push * (self.bound / size.sqrt().clamp(min=self.bound))
        return out.with_x0(out.x0 + push, x_t, alpha, sigma)
