"""Flow matching with our own network: what the diffusion itself is worth.

Papers: Y. Lipman, R. Chen, H. Ben-Hamu, M. Nickel and M. Le, *Flow Matching for Generative
Modeling*, ICLR 2023; X. Liu, C. Gong and Q. Liu, *Flow Straight and Fast*, ICLR 2023 (rectified
flow). No released code for drawings is known to us; this row is ours.

What it does
    Everything but the path is that of our own default row: leaky offsets and pen bits as the state,
    the 1-D U-Net, the number of points drawn from the data, label dropout and classifier-free
    guidance. State and noise are joined by a straight line, x_u = (1 - u) x_0 + u eps, u uniform in
    0 … 1 (stratified over the batch), and the network learns the velocity eps - x_0.
Learning
    Squared error of the velocity, averaged over channels and over the valid points of the batch.
Drawing
    dx/du = velocity from u = 1 to 0 on an even grid, by Euler's method (an evaluation each step) or
    Heun's (two). A given drawing is healed by noising it to u = strength and flowing back.

Where it differs from our own row
    The path and the target alone: no noise schedule, no T. The network is told 1000 u, which is the
    scale of the levels it is made for.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from sketchknitter.errors import UserError

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x (B, N, D), u (B,)) -> dx/du
SolverName = Literal["euler", "heun"]
SCALE = 1000.0  # of u, as the network is told it


def between(x0: Tensor, eps: Tensor, u: Tensor) -> Tensor:
    """x_u on the line from state to noise, (B, N, D), at u (B,)."""
    share = u.to(x0)[:, None, None]
    return (1 - share) * x0 + share * eps


def losses(velocity: Tensor, x0: Tensor, eps: Tensor, mask: Tensor) -> Tensor:
    """Loss of each point, (B, N): squared error of the velocity, mean over channels."""
    return (velocity - (eps - x0)).float().square().mean(dim=-1) * mask


def guided(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Classifier-free guidance of a velocity (Ho & Salimans 2022)."""
    return unconditional + weight * (conditional - unconditional)


def solve(
    velocity: Velocity, x: Tensor, steps: int, solver: SolverName = "euler", start: float = 1.0
) -> Tensor:
    """x at u = 0, from x at u = ``start``, in ``steps`` even steps.

    Args:
        velocity: asked once a step by ``euler``, twice by ``heun``.

    Raises:
        UserError: an unknown solver, or no steps.
    """
    if solver not in ("euler", "heun"):
        raise UserError(f"no solver {solver!r}; one of: euler, heun")
    if steps < 1:
        raise UserError(f"steps must be at least 1, not {steps}")
    grid = torch.linspace(start, 0.0, steps + 1, dtype=torch.float64).tolist()
    for u, v in pairwise(grid):
        slope = velocity(x, x.new_full((len(x),), u))
        there = x + (v - u) * slope
        if solver == "heun":
            slope = (slope + velocity(there, x.new_full((len(x),), v))) / 2
            there = x + (v - u) * slope
        x = there
    return x


class FlowNetwork(nn.Module):
    """A backbone read as a velocity.

    Args:
        backbone: (x (B, N, D_in), t (B,), label (B,), mask (B, N)) -> (B, N, D).
        positions: of a state (B, N, D) -> (B, N, 2), shown beside it; None shows the state alone.
    """

    def __init__(self, backbone: nn.Module, positions: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.backbone, self.positions = backbone, positions

    def forward(self, x: Tensor, u: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        """Velocity (B, N, D) at x (B, N, D), u (B,) in 0 … 1."""
        seen = x if self.positions is None else torch.cat([x, self.positions(x)], dim=-1)
        return self.backbone(seen, u * SCALE, label, mask).float()
