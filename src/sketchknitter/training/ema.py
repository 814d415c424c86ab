"""Averages of weights over the course of training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sketchknitter.errors import SettingError


class Ema:
    """Exponential moving average of parameters: avg <- rate avg + (1 - rate) weight.

    The rate ramps up as (1 + k) / (10 + k) at update k, so that early averages are not stuck at the
    random start. Buffers are averaged too (the statistics of batch normalization), those of whole
    numbers taken over.

    Attributes:
        average: tensors in the order of :func:`averaged`.
    """

    def __init__(self, rate: float, module: nn.Module) -> None:
        self.rate = rate
        self.average = [v.detach().clone() for v in averaged(module).values()]

    @torch.no_grad()
    def update(self, module: nn.Module, iteration: int) -> None:
        rate = min(self.rate, (1 + iteration) / (10 + iteration))
        pairs = list(zip(self.average, averaged(module).values(), strict=True))
        floats = [(a, v.detach()) for a, v in pairs if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [v for _, v in floats], 1 - rate)
        for kept, new in pairs:
            if not kept.is_floating_point():
                kept.copy_(new)

    def weights(self, module: nn.Module) -> dict[str, Tensor]:
        """A state dict of ``module`` with averaged values."""
        return dict(module.state_dict()) | dict(zip(averaged(module), self.average, strict=True))

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with averaged values, for the time of a with block."""
        places = list(averaged(module).values())
        own = [v.detach().clone() for v in places]
        _fill(places, self.average)
        try:
            yield
        finally:
            _fill(places, own)


def averaged(module: nn.Module) -> dict[str, Tensor]:
    """What is averaged: parameters, then buffers that are saved, by name."""
    saved = module.state_dict(keep_vars=True)
    parameters: dict[str, Tensor] = dict(module.named_parameters())
    return parameters | {k: v for k, v in module.named_buffers() if k in saved}


@torch.no_grad()
def _fill(places: list[Tensor], values: list[Tensor]) -> None:
    for place, value in zip(places, values, strict=True):
        place.copy_(value)


def ema_rates(text: str) -> list[float]:
    """``"0.999,0.9999"`` -> [0.999, 0.9999].

    Raises:
        UserError: not a comma list of numbers between 0 and 1.
    """
    try:
        rates = [float(part) for part in str(text).split(",")]
    except ValueError:
        rates = []
    if not rates or not all(0 <= r < 1 for r in rates):
        raise SettingError("ema_rate", f"takes a comma list of numbers in [0, 1), not {text!r}")
    return rates
