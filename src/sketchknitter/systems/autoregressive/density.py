"""The density of the next row: a mixture of bivariate Gaussians and three pen states, in log space.

Weights are softmaxed, sigma = exp, rho = tanh (Graves 2013, equations 18-23). Every formula below
stays finite for log-sigmas within ±20, whatever the target; beyond that they are clamped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_SIGMA = 20.0  # largest log-sigma either way
ATANH_RHO = 9.0  # beyond it 1 - rho^2 cannot be told from 0 in float32
LOG_2 = math.log(2.0)


def head_size(mixtures: int) -> int:
    """Numbers of one step: three pen logits and six for each Gaussian."""
    return 3 + 6 * mixtures


@dataclass(frozen=True)
class Density:
    """Parameters of the next row's distribution, for any leading shape (…).

    Attributes:
        log_weight: of the M Gaussians, (…, M), normalized.
        mean: (…, M, 2), model units.
        log_sigma: (…, M, 2).
        atanh_rho: correlation before its tanh, (…, M).
        log_pen: of draw, lift, end, (…, 3), normalized.
    """

    log_weight: Tensor
    mean: Tensor
    log_sigma: Tensor
    atanh_rho: Tensor
    log_pen: Tensor

    @classmethod
    def of(cls, head: Tensor) -> Density:
        """From the network's output (…, 3 + 6 M): pen logits, then M each of weight logits, x and
        y means, x and y log-sigmas, correlations (magenta's order).
        """
        head = head.float()
        mixtures = (head.shape[-1] - 3) // 6
        parts = head[..., 3:].unflatten(-1, (6, mixtures))
        weight, x, y, sigma_x, sigma_y, rho = parts.unbind(-2)
        return cls(
            F.log_softmax(weight, dim=-1),
            torch.stack([x, y], dim=-1),
            torch.stack([sigma_x, sigma_y], dim=-1).clamp(-LOG_SIGMA, LOG_SIGMA),
            rho.clamp(-ATANH_RHO, ATANH_RHO),
            F.log_softmax(head[..., :3], dim=-1),
        )

    def log_density(self, xy: Tensor) -> Tensor:
        """log p(dx, dy), (…), of offsets (…, 2)."""
        u = (xy[..., None, :] - self.mean) * torch.exp(-self.log_sigma)
        a = self.atanh_rho.abs()
        # log(1 - tanh(a)^2) without the cancellation
        log_rest = 2 * (LOG_2 - a - torch.log1p(torch.exp(-2 * a)))
        residual = u[..., 1] - torch.tanh(self.atanh_rho) * u[..., 0]
        squares = u[..., 0] ** 2 + residual**2 * torch.exp(-log_rest)
        log_norm = math.log(2 * math.pi) + self.log_sigma.sum(dim=-1) + 0.5 * log_rest
        return torch.logsumexp(self.log_weight - log_norm - 0.5 * squares, dim=-1)


def stroke_loss(density: Density, xy: Tensor, floor: float) -> Tensor:
    """-log(p(dx, dy) + floor) of offsets (…, 2), (…); ``floor`` is the released code's epsilon."""
    log_p = density.log_density(xy)
    return -torch.logaddexp(log_p, log_p.new_tensor(math.log(floor)))


def pen_loss(density: Density, pen: Tensor, floor: float = 0.0) -> Tensor:
    """-log(p(pen) + floor), (…), of one-hot pens (…, 3)."""
    log_p = density.log_pen
    if floor:
        log_p = torch.logaddexp(log_p, log_p.new_tensor(math.log(floor)))
    return -(pen * log_p).sum(dim=-1)
