"""Drawing with the decoder, row by row; three conventions of what a temperature T does.

=========== ============================ =============== ==========================================
convention  log-weights and log-pens     sigma           where it comes from
=========== ============================ =============== ==========================================
``magenta`` divided by T                 times T         magenta's TensorFlow, SketchPix2seq
``browser`` divided by 0.5 + 0.5 T       times sqrt(T)   npm @magenta/sketch
``healer``  divided by T                 times sqrt(T)   SketchHealer; SketchRNN's paper
=========== ============================ =============== ==========================================

T = 0 is greedy everywhere: the likeliest Gaussian's mean, the likeliest pen. As T falls,
``magenta`` and ``healer`` approach it; ``browser`` approaches the mean of a Gaussian drawn with
squared weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.errors import UserError
from sketchknitter.systems.autoregressive.decoder import Decoder
from sketchknitter.systems.autoregressive.density import Density
from sketchknitter.systems.autoregressive.tokens import DRAW, START

GREEDY = 1e-12  # temperatures up to this are 0: dividing by them would overflow
FARTHEST = 1000.0  # model units; no offset of a drawing is longer


@dataclass(frozen=True)
class Convention:
    """What a temperature does.

    Attributes:
        divisor: what log-weights and log-pens are divided by, of T.
        spread: what sigmas are multiplied with, of T.
    """

    divisor: Callable[[float], float]
    spread: Callable[[float], float]


CONVENTIONS = {
    "magenta": Convention(lambda t: t, lambda t: t),
    "browser": Convention(lambda t: 0.5 + 0.5 * t, lambda t: t**0.5),
    "healer": Convention(lambda t: t, lambda t: t**0.5),
}


@dataclass(frozen=True)
class Chance:
    """The random numbers of B drawings of at most L rows; each drawing has a stream of its own.

    Attributes:
        choices: uniform, for the Gaussian and the pen, (B, L, 2).
        normals: for the offset, (B, L, 2).
    """

    choices: Tensor
    normals: Tensor

    @classmethod
    def of(cls, streams: Sequence[np.random.Generator], length: int) -> Chance:
        choices = np.stack([rng.random((length, 2)) for rng in streams])
        normals = np.stack([rng.standard_normal((length, 2)) for rng in streams])
        return cls(torch.from_numpy(choices).float(), torch.from_numpy(normals).float())

    def to(self, device: torch.device) -> Chance:
        return Chance(self.choices.to(device), self.normals.to(device))


def check_temperature(temperature: float) -> None:
    """Raise a UserError for what is no temperature."""
    if not 0 <= temperature < float("inf"):
        raise UserError(f"temperature must be 0 or more, not {temperature}")


def pick(
    density: Density, temperature: float, convention: str, choices: Tensor, normals: Tensor
) -> Tensor:
    """One row for each drawing, (B, 5).

    Args:
        density: of leading shape (B,).
        choices, normals: (B, 2), see :class:`Chance`.
    """
    rows = torch.arange(len(choices), device=choices.device)
    out = density.mean.new_zeros(len(choices), 5)
    if temperature <= GREEDY:
        out[:, :2] = density.mean[rows, density.log_weight.argmax(dim=-1)]
        out[rows, DRAW + density.log_pen.argmax(dim=-1)] = 1
        return out
    rule = CONVENTIONS[convention]
    divisor, spread = rule.divisor(temperature), rule.spread(temperature)
    k = _chosen(density.log_weight, divisor, choices[:, 0])
    sigma = torch.exp(density.log_sigma[rows, k]) * spread
    rho = torch.tanh(density.atanh_rho[rows, k])
    second = rho * normals[:, 0] + torch.sqrt((1 - rho**2).clamp(min=0)) * normals[:, 1]
    noise = sigma * torch.stack([normals[:, 0], second], dim=-1)
    out[:, :2] = (density.mean[rows, k] + noise).nan_to_num().clamp(-FARTHEST, FARTHEST)
    out[rows, DRAW + _chosen(density.log_pen, divisor, choices[:, 1])] = 1
    return out


def _chosen(log_p: Tensor, divisor: float, uniform: Tensor) -> Tensor:
    """Indices (B,) drawn from the probabilities exp(log_p / divisor), renormalized."""
    # the maximum goes first, so that a small divisor makes the others vanish and nothing overflow
    p = torch.softmax((log_p - log_p.amax(dim=-1, keepdim=True)) / divisor, dim=-1)
    above = p.double().cumsum(dim=-1) <= uniform[:, None]
    return above.sum(dim=-1).clamp(max=log_p.shape[-1] - 1)


def _given(known: Tensor, drawn: Tensor) -> Tensor:
    """Known rows (B, 5), their pens taken from drawn ones where they are zero."""
    pen = drawn[:, DRAW:].clone()
    pen[:, 1] += pen[:, 2]  # what is known is a point: where the pen says end, it lifts
    pen[:, 2] = 0
    undecided = ~(known[:, DRAW:] > 0.5).any(dim=-1, keepdim=True)
    return torch.cat([known[:, :DRAW], torch.where(undecided, pen, known[:, DRAW:])], dim=-1)


@torch.no_grad()
def draw(
    decoder: Decoder,
    condition: Tensor,
    length: int,
    temperature: float,
    convention: str,
    chance: Chance,
    known: Tensor | None = None,
    known_rows: Tensor | None = None,
) -> NDArray[Any]:
    """Stroke-5 rows (B, length, 5) of drawings; what follows the first end means nothing.

    Args:
        condition: (B, K).
        chance: of the same device.
        known: rows that are given, (B, m, 5), followed as far as they go. A row whose pen is zero
            leaves the pen to the decoder, which draws on or lifts it.
        known_rows: how many of them each drawing has, (B,).

    Raises:
        UserError: a negative temperature.
    """
    check_temperature(temperature)
    row = condition.new_tensor(START).expand(len(condition), 5)
    state = None
    open_ = torch.ones(len(condition), dtype=torch.bool, device=condition.device)
    out = condition.new_zeros(len(condition), length, 5)
    for i in range(length):
        head, state = decoder(row[:, None], condition, state)
        row = pick(
            Density.of(head[:, 0]),
            temperature,
            convention,
            chance.choices[:, i],
            chance.normals[:, i],
        )
        if known is not None and known_rows is not None and i < known.shape[1]:
            row = torch.where((i < known_rows)[:, None], _given(known[:, i], row), row)
        out[:, i] = row
        open_ = open_ & (row[:, -1] < 0.5)
        if not bool(open_.any()):
            break
    if i + 1 < length:
        out[:, i + 1 :, -1] = 1
    return out.cpu().numpy()
