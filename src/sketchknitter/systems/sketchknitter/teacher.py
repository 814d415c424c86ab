"""The teacher of a student: a many-step network with guidance, or an earlier student; frozen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sketchknitter.data.conditions import ConditionedBatch
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.diffusion.guidance.autoguided import Autoguided
from sketchknitter.diffusion.guidance.classifier_free import Absorbed, Guided
from sketchknitter.diffusion.guidance.conditioned import Conditioned
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import Ddim, Model, Posed, State, Task


def frozen(denoiser: Denoiser, device: str) -> Denoiser:
    """A denoiser that teaches on ``device`` and learns nothing."""
    return denoiser.to(device).requires_grad_(False)


@dataclass(frozen=True)
class Teacher:
    """Who the student learns from: a denoiser with classifier-free guidance, or an earlier student.

    Attributes:
        denoiser: frozen.
        steps: of its trailing grid.
        null: label index that means "no label".
        interval: shares of T between which guidance acts; an earlier student has its own.
        weak: a less trained denoiser to steer away from, frozen; an earlier student has absorbed
            its own.
        autoguidance: the weight of that.
    """

    denoiser: Denoiser
    steps: int
    null: int
    interval: tuple[float, float]
    weak: Denoiser | None = None
    autoguidance: float = 1.0

    def model(self, batch: ConditionedBatch, weight: Tensor) -> Model:
        """Asked for the drawings of ``batch`` at guidance weights (B,)."""
        if self.denoiser.guided:
            absorbed = Absorbed(self.denoiser, weight, self.null)
            return Conditioned(self.denoiser, batch, absorbed)
        model: Model = Conditioned(self.denoiser, batch)
        if self.weak is not None:
            model = Autoguided(model, Conditioned(self.weak, batch), self.autoguidance)
        return Guided(model, weight, self.null, self.interval)

    @torch.no_grad()
    def ahead(
        self,
        batch: ConditionedBatch,
        x_t: Tensor,
        t: Tensor,
        until: Tensor,
        label: Tensor,
        weight: Tensor,
    ) -> Tensor:
        """Where DDIM steps lead from states x_t (B, N, D) at levels t (B,) of the teacher's grid:
        states at levels ``until`` (B,), on the grid as well, -1 for the data."""
        grid = policies.trailing(self.steps, self.denoiser.schedule)
        x, t, method = x_t.clone(), t.clone(), Ddim()
        while len(on := (t > until).nonzero()[:, 0]):
            part = batch[on]
            task = Task(label[on], part.batch.mask, SketchNoise([]))
            posed = Posed(self.model(part, weight[on]), task, x.shape[-1])
            s = grid.next(t[on])
            x[on] = method.step(posed, State(x[on]), t[on], s).x
            t[on] = s
        return x
