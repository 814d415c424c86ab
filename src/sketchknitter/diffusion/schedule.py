"""The noise schedule: t -> (alpha_t, sigma_t), x_t = alpha_t x_0 + sigma_t eps.

x_0 is data; t counts 0 … T-1; t = -1 stands for the data themselves (alpha 1, sigma 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sketchknitter.errors import UserError
from sketchknitter.settings import ScheduleName


def _betas(name: str, steps: int) -> np.ndarray:
    if name == "linear":
        # DDPM's 1e-4 … 0.02 at T = 1000 (Ho et al. 2020), rescaled so that another T ends as noisy
        scale = 1000 / steps
        return np.clip(np.linspace(1e-4 * scale, 0.02 * scale, steps), 0, 0.999)
    if name == "cosine":
        # Nichol & Dhariwal 2021, eq. 17; the clip keeps the last step invertible
        def bar(u: np.ndarray) -> np.ndarray:
            return np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2

        u = np.arange(steps + 1) / steps
        return np.clip(1 - bar(u[1:]) / bar(u[:-1]), 0, 0.999)
    raise UserError(f"no noise schedule {name!r}; one of: linear, cosine")


MOST_STEPS = 1_000_000  # whoever asks for more means something else, and fills the memory


@dataclass(frozen=True)
class Schedule:
    """A discrete variance-preserving schedule, tables in float64.

    Args:
        name: ``linear`` (DDPM, the paper's) or ``cosine`` (improved DDPM).
        steps: T, how many noise levels.

    Raises:
        UserError: an unknown name, or fewer than two steps.
    """

    name: ScheduleName = "cosine"
    steps: int = 1000

    def __post_init__(self) -> None:
        if not 2 <= self.steps <= MOST_STEPS:
            raise UserError(f"diffusion_steps must lie in 2 … {MOST_STEPS:,}, not {self.steps}")
        _betas(self.name, 2)

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Products of 1 - beta, shape (T + 1,): entry t + 1 is level t, entry 0 the data."""
        bars = np.concatenate([[1.0], np.cumprod(1 - _betas(self.name, self.steps))])
        return torch.from_numpy(bars)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t) in float64, of t's shape and on t's device; t in -1 … T-1."""
        bar = self.alpha_bar.to(t.device)[t + 1]
        return bar.sqrt(), (1 - bar).sqrt()

    def half_log_snr(self, t: Tensor) -> Tensor:
        """lambda_t = log(alpha_t / sigma_t), float64; infinite at t = -1."""
        alpha, sigma = self(t)
        return alpha.log() - sigma.log()
