"""From a drawing to the noise it comes from, and between two noises."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.sampler import Model, Task
from sketchknitter.diffusion.schedule import Schedule


class Blended:
    """The mean of what a model believes under two labels: (1 - w) D(·, a) + w D(·, b).

    Args:
        model: denoiser or wrapper.
        first, second: label indices, (B,).
        weight: w, (B,).
    """

    def __init__(self, model: Model, first: Tensor, second: Tensor, weight: Tensor) -> None:
        self.model, self.first, self.second, self.weight = model, first, second, weight

    @property
    def schedule(self) -> Schedule:
        return self.model.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        if torch.equal(self.first, self.second):
            return self.model(x_t, t, self.first, mask)
        b = len(x_t)
        labels = torch.cat([self.first, self.second])
        both = self.model(x_t.repeat(2, 1, 1), t.repeat(2), labels, mask.repeat(2, 1))
        w = expand(self.weight, x_t)
        mean = lambda v: torch.lerp(v[:b], v[b:], w)  # noqa: E731
        head = None if both.head is None else mean(both.head.log_softmax(dim=-1))
        return Denoised(mean(both.x0), mean(both.eps), head)


@torch.no_grad()
def inverted(model: Model, x0: Tensor, task: Task, levels: Sequence[int]) -> Tensor:
    """The noise (B, N, D) at the highest level from which DDIM draws ``x0`` (B, N, D).

    DDIM (Song et al. 2021, section 4.3) run backward. Each step is made exact by a few rounds of
    fixed-point iteration on the noise found at its far end (Pan et al. 2023).

    Args:
        levels: any order; the same that will be visited on the way back.
    """
    x = x0
    below = torch.full((len(x0),), -1, dtype=torch.int64, device=x0.device)
    for level in sorted(set(levels)):
        t = torch.full_like(below, level)
        alpha_s, sigma_s = (expand(c, x) for c in model.schedule(below))
        alpha_t, sigma_t = (expand(c, x) for c in model.schedule(t))
        guess = alpha_t / alpha_s * x
        for _ in range(3):
            eps = model(guess, t, task.label, task.mask).eps * task.mask[..., None]
            guess = alpha_t * (x - sigma_s * eps) / alpha_s + sigma_t * eps
        x, below = guess, t
    return x


def slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Between noises on the sphere (Shoemake 1985): a, b (B, N, D), weight (B,) in 0 … 1."""
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cosine = (flat_a * flat_b).sum(1) / (flat_a.norm(dim=1) * flat_b.norm(dim=1) + 1e-12)
    angle = cosine.clamp(-1, 1).arccos()
    w = weight.to(angle)
    near = angle.sin() < 1e-4  # parallel: the straight line is the arc
    safe = torch.where(near, 1.0, angle.sin())
    from_a = torch.where(near, 1 - w, ((1 - w) * angle).sin() / safe)
    from_b = torch.where(near, w, (w * angle).sin() / safe)
    return expand(from_a, a) * a + expand(from_b, b) * b
