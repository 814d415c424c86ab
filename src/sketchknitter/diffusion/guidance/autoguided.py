"""Autoguidance: away from what a worse version of the same network makes of it."""

from __future__ import annotations

from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised
from sketchknitter.diffusion.guidance.classifier_free import HasRows
from sketchknitter.diffusion.sampler import Model
from sketchknitter.diffusion.schedule import Schedule


class Autoguided:
    """Autoguidance (Karras et al. 2024, eq. 3): x_0 = x_0,weak + w (x_0,strong - x_0,weak).

    Where two networks disagree, the one that learned less is wrong in the same way as the other,
    and more so. Unlike classifier-free guidance it gives no variety away, and needs no label.

    Args:
        strong: the network.
        weak: one of its kind that was trained less; it is asked about the same rows.
        weight: w; 1 is the strong network alone.
    """

    def __init__(self, strong: Model, weak: Model, weight: float) -> None:
        self.strong, self.weak, self.weight = strong, weak, weight

    @property
    def schedule(self) -> Schedule:
        return self.strong.schedule

    def rows(self, index: Tensor) -> Autoguided:
        """The same for the drawings ``index`` (b,) of its batch."""
        strong, weak = (
            m.rows(index) if isinstance(m, HasRows) else m for m in (self.strong, self.weak)
        )
        return Autoguided(strong, weak, self.weight)

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        out, worse = (model(x_t, t, label, mask) for model in (self.strong, self.weak))
        extra = self.weight - 1
        return Denoised(
            out.x0 + extra * (out.x0 - worse.x0), out.eps + extra * (out.eps - worse.eps), out.head
        )
