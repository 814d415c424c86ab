"""How far an estimate looks from a given drawing: what healing keeps small while it redraws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sketchknitter.diffusion.denoiser import Denoised
from sketchknitter.diffusion.guidance.soft_raster import blurred, soft_raster
from sketchknitter.representation import Representation

DRAW, LIFT = 0, 1
MARGIN = 0.06  # free paper around the drawing, as in the pictures the guide learned from


@dataclass(frozen=True)
class Target:
    """Drawings to look like.

    Attributes:
        points: (B, P, 2) px in the model's frame, the frame's middle at (0, 0).
        ink: 1 on pen-down segments, 0 on lifts and padding, (B, P - 1).
        off: px by which the drawings may be off: finer blurs do not count.
    """

    points: Tensor
    ink: Tensor
    off: float = 0.0


class Perceptual:
    """Distance between pictures of the estimate and of a target, a loss for ``Steered``.

    Pictures are compared at several blurs: ink for ink, and, with a guide, at the finest and at the
    coarsest in the features of its stages, of unit length at each place (as LPIPS does, Zhang et
    al. 2018). Each part is relative to the target's own size, so all count alike.

    Args:
        representation: from state to positions.
        target: as many drawings as the batches it will see.
        side: px of the model's frame that fill the picture.
        guide: a network whose ``trunk`` is a sequence of stages, or None.
        size: of the pictures, px.
        width: of the lines, as a share of the picture.
        blurs: radii, px of the picture; the last one always counts.
    """

    def __init__(
        self,
        representation: Representation,
        target: Target,
        side: float,
        guide: nn.Module | None = None,
        *,
        size: int = 48,
        width: float = 0.03,
        blurs: Sequence[int] = (0, 1, 3, 6),
    ) -> None:
        self.representation, self.side, self.guide = representation, side, guide
        self.size, self.width = size, width
        least = target.off / side * size / 2 - 0.5
        self.blurs = tuple(r for r in blurs if r >= least) or tuple(blurs[-1:])
        # segments that the target's length rules out, whatever the pens say
        last = torch.arange(target.ink.shape[1], device=target.ink.device)
        used = torch.where(target.ink > 0, last, -1).amax(dim=1)
        self.valid = last <= used[:, None]
        with torch.no_grad():
            self.seen = self.describe(self.picture(target.points, target.ink))

    def picture(self, points: Tensor, ink: Tensor) -> Tensor:
        """(B, size, size) of points in the model's frame."""
        unit = points / self.side * (1 - 2 * MARGIN) + 0.5
        return soft_raster(unit.float(), ink.float(), self.size, self.width, self.width / 3)

    def describe(self, pictures: Tensor) -> list[list[Tensor]]:
        """For each blur: the picture and the guide's features, each (B, …) flattened."""
        out = []
        for radius in self.blurs:
            soft = blurred(pictures, radius)
            judged = self.guide is not None and radius in (self.blurs[0], self.blurs[-1])
            out.append([soft.flatten(1), *(features(self.guide, soft) if judged else ())])
        return out

    def __call__(self, out: Denoised, t: Tensor) -> Tensor:
        """Loss of each sketch, (B,)."""
        points = self.representation.positions(out.x0)
        down = torch.sigmoid(out.pen[..., DRAW] - out.pen[..., LIFT])
        if self.representation.implied:  # the implied first point is always pen-down
            down = torch.cat([torch.ones_like(down[:, :1]), down], dim=1)
        ink = down[:, : self.valid.shape[1]] * self.valid
        loss = points.new_zeros(len(points))
        described = self.describe(self.picture(points, ink))
        for mine, theirs in zip(described, self.seen, strict=True):
            for a, b in zip(mine, theirs, strict=True):
                loss = loss + ((a - b) ** 2).sum(dim=1) / ((b**2).sum(dim=1) + 1e-6)
        return loss


def features(guide: nn.Module | None, pictures: Tensor) -> list[Tensor]:
    """What the guide's stages of several layers say of pictures (B, S, S), each (B, …) flat."""
    out, h = [], pictures[:, None]
    trunk = guide.trunk if guide is not None else None
    assert isinstance(trunk, nn.Sequential)
    for stage in trunk:
        h = stage(h)
        if any(True for _ in stage.children()):
            out.append((h / (h.norm(dim=1, keepdim=True) + 1e-6)).flatten(1))
    return out
