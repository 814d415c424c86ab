"""Policies: which noise levels a sampler visits.

A policy starts every sketch of a batch at some level and then names, after each network
evaluation, the next lower one; -1 ends the drawing. ``steps`` is always a budget of evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.errors import SettingError, UserError


@dataclass(frozen=True)
class StepRecord:
    """What a policy may look at after an evaluation.

    Attributes:
        t: levels just evaluated, (B,).
        x_t: the states there, (B, N, D).
        denoised: what the model made of them.
        mask: valid points, (B, N).
        label: class indices, (B,).
        left: evaluations left in the budget, this one not counted.
    """

    t: Tensor
    x_t: Tensor
    denoised: Denoised
    mask: Tensor
    label: Tensor
    left: int


class Timesteps(Protocol):
    """A policy; ``steps`` bounds how many levels it visits."""

    steps: int

    def start(self, batch: int) -> Tensor:
        """First levels, (batch,) int64."""
        ...

    def next(self, t: Tensor, record: StepRecord) -> Tensor:
        """Next levels (B,), each below t; -1 means that the estimate of x_0 is the drawing."""
        ...


class Grid:
    """The same levels for every sketch.

    Args:
        levels: any order; duplicates count once.
        total: T of the schedule.

    Raises:
        UserError: no level, or one outside 0 … T-1.
    """

    def __init__(self, levels: Sequence[int] | np.ndarray, total: int) -> None:
        distinct = sorted({int(t) for t in levels}, reverse=True)
        if not distinct:
            raise UserError("sampling needs at least 1 step")
        if distinct[0] >= total or distinct[-1] < 0:
            raise UserError(f"timesteps must lie in 0 … {total - 1}")
        self.levels = tuple(distinct)
        self.steps = len(distinct)
        following = torch.full((total,), -1, dtype=torch.int64)
        for t, s in zip(distinct, [*distinct[1:], -1], strict=True):
            following[t] = s
        self._following = following

    def start(self, batch: int) -> Tensor:
        return torch.full((batch,), self.levels[0], dtype=torch.int64)

    def next(self, t: Tensor, record: StepRecord | None = None) -> Tensor:
        return self._following.to(t.device)[t]


def _rounded(levels: np.ndarray) -> np.ndarray:
    return np.round(levels).astype(int)


def uniform(steps: int, schedule: Schedule) -> Grid:
    """Evenly spaced from T-1 down to 0."""
    return Grid(_rounded(np.linspace(schedule.steps - 1, 0, steps)), schedule.steps)


def trailing(steps: int, schedule: Schedule) -> Grid:
    """T (N - i) / N - 1 for i = 0 … N - 1 (Lin et al. 2024, table 2): from T-1, with no level spent
    on what is clean already. Every second level of 2 N is one of N: distillation halves this grid.
    """
    levels = schedule.steps * np.arange(steps, 0, -1) / steps
    return Grid(_rounded(levels) - 1, schedule.steps)


def linear(steps: int, schedule: Schedule) -> Grid:
    """The original scripts' ``ddimN``: the smallest stride that gives N levels from 0.

    N = 30 of T = 1000 gives 0, 34 … 986: it starts a little below T-1, as the paper's Linear-DDIM
    row did.
    """
    total = schedule.steps
    for stride in range(1, total):
        if len(range(0, total, stride)) == steps:
            return Grid(range(0, total, stride), total)
    raise UserError(f"no integer stride visits exactly {steps} of {total} levels; use uniform")


def quadratic(steps: int, schedule: Schedule) -> Grid:
    """Squares of an even grid, dense near 0, from T-1 (Song et al. 2021, appendix D.2)."""
    return Grid(_rounded(np.linspace(0, np.sqrt(schedule.steps - 1), steps) ** 2), schedule.steps)


def quadratic_ddim(steps: int, schedule: Schedule) -> Grid:
    """The released DDIM code's quadratic grid, which starts at 0.8 T; its double 0 counts once."""
    levels = np.linspace(0, np.sqrt(0.8 * schedule.steps), steps) ** 2
    return Grid(levels.astype(int).clip(max=schedule.steps - 1), schedule.steps)


def geometric(steps: int, schedule: Schedule) -> Grid:
    """Constant ratio from 0.98 T to 1, then 0: each jump removes the same share of t."""
    levels = (
        np.geomspace(0.98 * schedule.steps, 1, steps - 1) if steps > 2 else [schedule.steps - 1]
    )
    return Grid([*_filled(np.asarray(levels), schedule.steps - 1), 0], schedule.steps)


def logsnr(steps: int, schedule: Schedule) -> Grid:
    """Evenly spaced in log signal-to-noise ratio (DPM-Solver's own choice)."""
    lam = schedule.half_log_snr(torch.arange(schedule.steps)).numpy()
    wanted = np.linspace(lam[-1], lam[0], steps)
    levels = np.interp(wanted, lam[::-1], np.arange(schedule.steps)[::-1])
    return Grid(_filled(levels, schedule.steps - 1), schedule.steps)


def marks(steps: int, schedule: Schedule) -> Grid:
    """The eight levels marked in the paper's overview figure, scaled to T."""
    if steps != 8:
        raise SettingError(
            "steps", f"must be 8 with the timesteps marks (the paper marks 8 levels), not {steps}"
        )
    paper = np.array([980, 550, 350, 200, 100, 50, 30, 10])
    return Grid(_rounded(paper * schedule.steps / 1000), schedule.steps)


def _filled(levels: np.ndarray, top: int) -> list[int]:
    """Levels rounded to distinct integers up to ``top``, making room on collisions."""
    out: list[int] = []
    for level in sorted(_rounded(levels)):
        out.append(max(int(level), out[-1] + 1) if out else int(level))
    for i in reversed(range(len(out))):  # what crowded over the top moves back down
        out[i] = min(out[i], top - (len(out) - 1 - i))
    return out


POLICIES = {
    "uniform": uniform,
    "trailing": trailing,
    "linear": linear,
    "quadratic": quadratic,
    "quadratic-ddim": quadratic_ddim,
    "geometric": geometric,
    "logsnr": logsnr,
    "marks": marks,
}


def grid(name: str, steps: int, schedule: Schedule) -> Grid:
    """The grid policy called ``name`` with a budget of ``steps`` evaluations.

    Raises:
        UserError: an unknown name, S < 2 (trailing: 1) or S > T.
    """
    if name not in POLICIES:
        raise UserError(f"no timesteps policy {name!r}; one of: {', '.join(POLICIES)}")
    least = 1 if name == "trailing" else 2
    if not least <= steps <= schedule.steps:
        raise SettingError("steps", f"must lie in {least} … {schedule.steps}, not {steps}")
    return POLICIES[name](steps, schedule)
