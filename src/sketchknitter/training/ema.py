"""Averages of weights over the course of training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sketchknitter.errors import UserError


class Ema:
    """Exponential moving average of parameters: avg <- rate avg + (1 - rate) weight.

    The rate ramps up as (1 + k) / (10 + k) at update k, so that early averages are not stuck at the
    random start.
    """

    def __init__(self, rate: float, module: nn.Module) -> None:
        self.rate = rate
        self.average = [p.detach().clone() for p in module.parameters()]

    @torch.no_grad()
    def update(self, module: nn.Module, iteration: int) -> None:
        rate = min(self.rate, (1 + iteration) / (10 + iteration))
        torch._foreach_lerp_(self.average, [p.detach() for p in module.parameters()], 1 - rate)

    def weights(self, module: nn.Module) -> dict[str, Tensor]:
        """A state dict of ``module`` with averaged parameters; buffers are the module's own."""
        names = [n for n, _ in module.named_parameters()]
        return dict(module.state_dict()) | dict(zip(names, self.average, strict=True))

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with averaged parameters, for the time of a with block."""
        own = [p.detach().clone() for p in module.parameters()]
        with torch.no_grad():
            torch._foreach_copy_(list(module.parameters()), self.average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(module.parameters()), own)


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
        raise UserError(f"--ema-rate {text!r} is not a comma list of numbers in [0, 1)")
    return rates
