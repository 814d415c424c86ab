"""Classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised
from sketchknitter.diffusion.sampler import Model
from sketchknitter.diffusion.schedule import Schedule


class Guided:
    """Classifier-free guidance (Ho & Salimans 2022): eps = eps_0 + w (eps_c - eps_0).

    Outside ``interval`` of levels the conditional estimate is used as it is: guidance at the
    noisiest and at the cleanest levels costs variety and evaluations and gains little
    (Kynkaanniemi et al. 2024).

    Args:
        denoiser: trained with label dropout.
        weight: w; 1 is the plain conditional model.
        null: label index that means "no label".
        interval: (low, high) as shares of T.
    """

    def __init__(
        self,
        denoiser: Model,
        weight: float,
        null: int,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.denoiser, self.weight, self.null = denoiser, weight, null
        self.low, self.high = (round(share * denoiser.schedule.steps) for share in interval)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        on = (t >= self.low) & (t <= self.high) & (label != self.null)
        if self.weight == 1 or not bool(on.any()):
            return self.denoiser(x_t, t, label, mask)
        b = len(x_t)
        every, some = bool(on.all()), on.nonzero()[:, 0]
        twice: Callable[[Tensor], Tensor] = lambda v: torch.cat([v, v if every else v[some]])  # noqa: E731
        labels = torch.cat([label, torch.full_like(label[some], self.null)])
        both = self.denoiser(twice(x_t), twice(t), labels, twice(mask))
        extra = self.weight - 1

        def pushed(values: Tensor) -> Tensor:
            out = values[:b].clone()
            out[some] += extra * (values[:b][some] - values[b:])
            return out

        head = None if both.head is None else both.head[:b]
        return Denoised(pushed(both.x0), pushed(both.eps), head)
