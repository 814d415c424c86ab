"""How recognizable a drawing is while it is being denoised, and the best of several by that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import Drawn, Task
from sketchknitter.diffusion.scores import estimated_noise
from sketchknitter.errors import SettingError
from sketchknitter.recognizers.recognizability import Recognizability
from sketchknitter.representation import Representation

InputName = Literal["state", "estimate", "both", "placed"]


INPUTS: dict[InputName, int] = {"state": 3, "estimate": 3, "both": 5, "placed": 5}


DRAW, LIFT = 0, 1


def offsets(x: Tensor, rho: float) -> Tensor:
    """(dx, dy) between the positions that states (B, N, >=2) stand for, 0 before the first point.

    Args:
        rho: the codec's leak: 1 for offsets, 0 for positions, between for leaky offsets. With
            offsets the first row is a step of its own.
    """
    if rho >= 1:
        return x[..., :2]
    where = Representation(rho).unit_positions(x)
    steps = where[:, 1:] - where[:, :-1]
    return torch.cat([torch.zeros_like(where[:, :1]), steps], dim=1)


def _unit(steps: Tensor, mask: Tensor) -> Tensor:
    """Steps with root mean square 1 over the valid points: size says nothing about the class."""
    steps = steps * mask[..., None]
    square = (steps**2).sum(dim=(1, 2)) / (2 * mask.sum(dim=1).clamp(min=1))
    return steps / (square + 1e-8).sqrt()[:, None, None]


def _placed(steps: Tensor, mask: Tensor) -> Tensor:
    """Centered positions of steps, of deviation 1."""
    keep = mask[..., None]
    where = steps.cumsum(dim=1)
    count = keep.sum(dim=1, keepdim=True).clamp(min=1)
    where = (where - (where * keep).sum(dim=1, keepdim=True) / count) * keep
    return _unit(where, mask)


def seen(inputs: InputName, x_t: Tensor, out: Denoised, mask: Tensor, rho: float) -> Tensor:
    """What the network is shown of a moment of sampling, (B, N, channels).

    Args:
        inputs: ``state`` is the noisy drawing, ``estimate`` the predicted x_0, ``both`` the two
            side by side, ``placed`` the predicted x_0 with its positions.
    """
    lift = torch.sigmoid(out.pen[..., LIFT] - out.pen[..., DRAW])[..., None] * mask[..., None]
    if inputs == "state":
        return torch.cat([_unit(offsets(x_t, rho), mask), lift], dim=-1)
    estimate = _unit(offsets(out.x0, rho), mask)
    if inputs == "estimate":
        return torch.cat([estimate, lift], dim=-1)
    if inputs == "both":
        return torch.cat([_unit(offsets(x_t, rho), mask), estimate, lift], dim=-1)
    return torch.cat([estimate, _placed(estimate, mask), lift], dim=-1)


class Scorer:
    """A trained recognizability network, applied to moments of sampling.

    Args:
        network: its weights are not changed.
        inputs: what it is shown (see :func:`seen`).
        rho: the codec's leak.
        labels: the network's class for each of the model's labels, "no label" last, (C + 1,).
        rest: mean |eps| that the denoiser still estimates at level 0.
    """

    def __init__(
        self,
        network: Recognizability,
        inputs: InputName,
        rho: float,
        labels: Tensor,
        rest: float = 0.0,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.inputs, self.rho, self.labels, self.rest = inputs, rho, labels, rest

    def __call__(
        self, x_t: Tensor, out: Denoised, t: Tensor, label: Tensor, mask: Tensor
    ) -> Tensor:
        """Recognizability of each sketch, 0 … 1, (B,)."""
        own = self.labels.to(label.device)[label]
        points = seen(self.inputs, x_t, out, mask, self.rho)
        logits = self.network(points, estimated_noise(out, mask), t, own, mask)
        return self.network.score(logits, own)

    @torch.no_grad()
    def finished(self, drawn: Drawn, task: Task) -> Tensor:
        """Recognizability of finished drawings, (B,)."""
        out = Denoised(drawn.x0, torch.full_like(drawn.x0, self.rest), drawn.head)
        return self(drawn.x0, out, torch.zeros_like(task.label), task.label, task.mask)


def best_of(
    count: int,
    drawn: Drawn,
    draw: Callable[[Task, Tensor], Drawn],
    task: Task,
    channels: int,
    scorer: Scorer,
) -> Drawn:
    """The most recognizable of ``count`` drawings of each row.

    Args:
        drawn: the first ones, from each row's own noise.
        draw: makes further ones of a task and noise (B, N, channels).

    Raises:
        UserError: count < 1.
    """
    if count < 1:
        raise SettingError("best_of", f"must be at least 1, not {count}")
    children = [s.spawn(count - 1) for s in task.noise.streams]
    score = scorer.finished(drawn, task)
    for k in range(count - 1):
        again = replace(task, noise=SketchNoise([row[k] for row in children]))
        other = draw(again, again.normal(channels))
        new = scorer.finished(other, task)
        drawn = drawn.where(new > score, other)
        score = torch.maximum(score, new)
    return drawn
