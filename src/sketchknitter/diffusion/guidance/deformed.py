"""Drawings whose points are off, as samples of the noise level that covers the errors."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.representation import Representation


def noised(
    x0: Tensor,
    representation: Representation,
    off: float,
    level: Tensor,
    schedule: Schedule,
    noise: Tensor,
) -> Tensor:
    """States at ``level`` (a scalar) of drawings whose points are off by ``off`` px already.

    Their own error counts as part of the noise: only the rest is added, so that what comes out is
    as noisy as any state of that level, and as white. The level must be at least
    :func:`covering_level`.

    Args:
        x0: (B, N, D) states of the drawings as they are, errors and all.
        noise: standard normal, (B, N, D).
    """
    alpha, sigma = (float(c) for c in schedule(level))
    rows = x0.shape[1]
    f = torch.tensor(representation.inverse(rows)) * off
    rest = (sigma / alpha) ** 2 * torch.eye(rows, dtype=torch.float64) - f @ f.T
    root = torch.linalg.cholesky(rest + 1e-9 * torch.eye(rows, dtype=torch.float64)).to(x0)
    extra = torch.cat([root @ noise[..., :2], sigma / alpha * noise[..., 2:]], dim=-1)
    return alpha * (x0 + extra)


def covering_level(representation: Representation, off: float, schedule: Schedule) -> int:
    """The lowest level whose noise covers errors of ``off`` px of every point; -1 for no error."""
    if off <= 0:
        return -1
    # an error of every point makes up to 1 + rho times as much of a row
    hidden = off * (1 + representation.rho) / representation.scale
    alpha, sigma = schedule(torch.arange(schedule.steps))
    return min(int(torch.searchsorted(sigma / alpha, hidden * 1.001)), schedule.steps - 1)
