"""Classifier-free guidance: by two evaluations, or by one of a network that has absorbed it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised, Denoiser
from sketchknitter.diffusion.sampler import Model
from sketchknitter.diffusion.schedule import Schedule


@runtime_checkable
class HasRows(Protocol):
    """A model that holds something of each sketch of a batch."""

    def rows(self, index: Tensor) -> Model:
        """The model for the sketches ``index`` (b,) of its batch."""
        ...


class Guided:
    """Classifier-free guidance (Ho & Salimans 2022): eps = eps_0 + w (eps_c - eps_0).

    Outside ``interval`` of levels the conditional estimate is used as it is: guidance at the
    noisiest and at the cleanest levels costs variety and evaluations and gains little
    (Kynkaanniemi et al. 2024).

    Args:
        denoiser: trained with label dropout.
        weight: w, one for all or one for each sketch (B,); 1 is the plain conditional model.
        null: label index that means "no label".
        interval: (low, high) as shares of T.
    """

    def __init__(
        self,
        denoiser: Model,
        weight: float | Tensor,
        null: int,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.denoiser, self.weight, self.null = denoiser, weight, null
        self.low, self.high = (round(share * denoiser.schedule.steps) for share in interval)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        weight = torch.as_tensor(self.weight, device=x_t.device)
        on = (t >= self.low) & (t <= self.high) & (label != self.null) & (weight != 1)
        if not bool(on.any()):
            return self.denoiser(x_t, t, label, mask)
        # both evaluations in one, of the guided rows alone
        b, guided = len(x_t), on.nonzero()[:, 0]
        index = torch.cat([torch.arange(b, device=guided.device), guided])
        labels = torch.cat([label, torch.full_like(guided, self.null)])
        model = self.denoiser.rows(index) if isinstance(self.denoiser, HasRows) else self.denoiser
        both = model(x_t[index], t[index], labels, mask[index])
        out, plain = both.rows(slice(b)), both.rows(slice(b, None))
        extra = (weight.to(x_t) - 1).expand(len(x_t))[on, None, None]

        def pushed(values: Tensor, base: Tensor) -> Tensor:
            moved = values.clone()
            moved[on] += extra * (values[on] - base)
            return moved

        return Denoised(pushed(out.x0, plain.x0), pushed(out.eps, plain.eps), out.head)


class Absorbed:
    """Guidance by one evaluation of a network distilled to take its weight as an input (Meng et al.
    2023).

    Args:
        denoiser: trained with ``guided``.
        weight: w of :class:`Guided`, one for all or one for each sketch (B,).
        null: label index that means "no label"; there the weight is 1, as in training.
    """

    def __init__(self, denoiser: Denoiser, weight: float | Tensor, null: int) -> None:
        self.denoiser, self.weight, self.null = denoiser, weight, null

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mask: Tensor,
        condition: Tensor | None = None,
    ) -> Denoised:
        weight = torch.as_tensor(self.weight, dtype=torch.float32, device=x_t.device)
        weight = torch.where(label == self.null, 1.0, weight)
        return self.denoiser(x_t, t, label, mask, condition, weight)
