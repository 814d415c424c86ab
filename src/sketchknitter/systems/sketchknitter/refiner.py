"""The refiner: a small network that cleans the lines of what a student has drawn.

Few steps leave fine noise, of some 2 px where a drawing has 255. The refiner looks at a few points
at a time and moves the middle one; what is drawn, and what a person drew, stays.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.data.batch import DRAW, LIFT, PEN_STATES
from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.sampler import Model
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.errors import UserError
from sketchknitter.files import described_by
from sketchknitter.nn.layers import Conv3
from sketchknitter.nn.stored import build
from sketchknitter.representation import Representation
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.windows import cross, length

PREFIX = "refiner."  # of its weights in a checkpoint's extras
SEEN = 11  # numbers that it reads of each point


class Refiner(nn.Module):
    """Moves each point of a drawing by what it sees of those around it; at first not at all.

    It reads directions, lengths, turns and distances from chords, not places on the sheet, so a
    drawing is cleaned alike wherever it lies.

    Args:
        width: channels.
        layers: convolutions; a point's move depends on ``layers + 1`` points to either side.
    """

    def __init__(self, width: int = 96, layers: int = 4) -> None:
        super().__init__()
        self.first = Conv3(SEEN, width)
        self.further = nn.ModuleList(Conv3(width, width) for _ in range(layers - 1))
        self.last = nn.Linear(width, 2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, points: Tensor, drawn: Tensor, mask: Tensor) -> Tensor:
        """Points (B, P, 2) px with lines to the next where ``drawn`` (B, P - 1), valid where
        ``mask`` (B, P) -> moved points (B, P, 2)."""
        there = mask[..., None].to(points)
        h = F.gelu(self.first(self.seen(points, drawn, there))) * there
        for layer in self.further:
            h = h + F.gelu(layer(h)) * there
        return points + self.last(h) * there

    def seen(self, points: Tensor, drawn: Tensor, there: Tensor) -> Tensor:
        """What is read of each point, (B, P, SEEN); ``there`` (B, P, 1) is 1 for valid points."""
        step = F.pad(points.diff(dim=1) * there[:, 1:], (0, 0, 1, 0))  # that leads to the point
        after = F.pad(step[:, 1:], (0, 0, 0, 1))
        long = length(step)
        unit, next_unit = step / long[..., None], after / length(after)[..., None]
        height = cross(step, after) / length(step + after)
        read = (
            (long / 10).log(),
            (long / 4).tanh(),
            (unit * next_unit).sum(dim=-1),
            cross(unit, next_unit),
            (height / 2).tanh(),
            (height / 6).tanh(),
            (height.square() + 0.25).sqrt().log(),
            F.pad(drawn.to(points), (0, 1)),
            there[..., 0],
        )
        return torch.cat([unit, torch.stack(read, dim=-1)], dim=-1) * there


class Refined:
    """A student whose drawing is refined: its estimate at the last level.

    Args:
        model: the student, in the wrappers that it is asked in.
        refiner: of its lines.
        representation: of its coordinates.
        last: the level of its last step.
        held: points that stay where they are, (B, N) bool; None for none.
    """

    def __init__(
        self,
        model: Model,
        refiner: Refiner,
        representation: Representation,
        last: int,
        held: Tensor | None = None,
    ) -> None:
        self.model, self.refiner, self.representation = model, refiner, representation
        self.last, self.held = last, held

    @property
    def schedule(self) -> Schedule:
        return self.model.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        out = self.model(x_t, t, label, mask)
        if int(t.max()) > self.last:  # all drawings of a batch are at one level
            return out
        points, drawn, there = lines_of(out.x0, mask, self.representation)
        moved = self.refiner(points, drawn, there)
        if self.held is not None:
            held = F.pad(self.held, (self.representation.implied, 0), value=True)
            moved = torch.where(held[..., None], points, moved)
        xy = self.representation.filter(moved)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        return out.with_x0(torch.cat([xy, out.x0[..., 2:]], dim=-1), x_t, alpha, sigma)


def lines_of(
    state: Tensor, mask: Tensor, representation: Representation
) -> tuple[Tensor, Tensor, Tensor]:
    """Points (B, P, 2) px of clean states (B, N, 2 + pen bits), whether a line leads to the next
    (B, P - 1), and which are valid (B, P)."""
    points = representation.positions(state)
    pens = state[..., -PEN_STATES:]
    down = pens[..., DRAW] >= pens[..., LIFT]
    if representation.implied:  # the pen is down after the first point, which has no row
        mask = F.pad(mask, (1, 0), value=True)
        down = F.pad(down, (1, 0), value=True)
    return points, down[:, :-1] & mask[:, 1:], mask


def refiner_of(checkpoint: Checkpoint) -> Refiner | None:
    """The refiner that a checkpoint holds, in evaluation mode; None where it has none.

    Raises:
        UserError: weights that do not fit together.
    """
    found = {
        k.removeprefix(PREFIX): v.float()
        for k, v in checkpoint.extras.items()
        if k.startswith(PREFIX)
    }
    if not found:
        return None
    width = found["last.weight"].shape[-1] if "last.weight" in found else 0
    layers = 1 + sum(k.startswith("further.") and k.endswith(".weight") for k in found)
    with described_by(checkpoint.path or "the checkpoint"):
        refiner = build(lambda: Refiner(width, layers), found)
    try:
        refiner.load_state_dict(found)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UserError(f"the checkpoint's refiner does not fit together: {first}") from None
    return refiner.eval().requires_grad_(False)


def without_refiner(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The checkpoint's extras, but for the refiner's."""
    return {k: v for k, v in checkpoint.extras.items() if not k.startswith(PREFIX)}
