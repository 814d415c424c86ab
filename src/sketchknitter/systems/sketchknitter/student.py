"""The student that a model file may hold beside its own weights: the same drawings in few steps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import get_args

import torch

from sketchknitter.data.conditions import ConditionedBatch
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.diffusion.guidance.classifier_free import Absorbed
from sketchknitter.diffusion.guidance.conditioned import Conditioned
from sketchknitter.diffusion.sampler import Ddim, Method, Model, Renoised
from sketchknitter.errors import UserError
from sketchknitter.representation import Representation
from sketchknitter.settings import StudentName
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.refiner import Refined, Refiner, refiner_of

PREFIX = "distilled."


@dataclass(frozen=True)
class Student:
    """A distilled denoiser: it takes the guidance weight as an input, and draws in ``steps`` steps
    over the trailing grid, one evaluation each.

    Attributes:
        denoiser: with ``guided``.
        representation: of its coordinates.
        steps: evaluations of a drawing.
        way: how it was distilled, which says how it steps.
        guidance: the weight when nobody says.
        refiner: what cleans the lines of its drawings; None for nothing.
    """

    denoiser: Denoiser
    representation: Representation
    steps: int
    way: StudentName = "progressive"
    guidance: float = 3.0
    refiner: Refiner | None = None

    @property
    def timesteps(self) -> policies.Grid:
        """The levels that it was trained at."""
        return policies.trailing(self.steps, self.denoiser.schedule)

    @property
    def method(self) -> Method:
        """The step that it was trained for."""
        return Renoised() if self.way == "consistency" else Ddim()

    def model(self, weight: float, null: int, batch: ConditionedBatch | None = None) -> Model:
        """What is evaluated at guidance ``weight``; ``null`` is the label that means "no label".

        Args:
            batch: what is known of the drawings; None for nothing.
        """
        absorbed = Absorbed(self.denoiser, weight, null)
        model: Model = absorbed
        held = None
        if batch is not None:
            model = Conditioned(self.denoiser, batch, absorbed)
            held = batch.known.to(self.denoiser.device)
        if self.refiner is None:
            return model
        last = self.timesteps.levels[-1]
        return Refined(model, self.refiner, self.representation, last, held)

    def on(self, device: torch.device) -> Student:
        """The same where ``device`` is; its networks move there."""
        self.denoiser.to(device)
        if self.refiner is not None:
            self.refiner.to(device)
        return self


def student_of(checkpoint: Checkpoint) -> Student | None:
    """The student that a checkpoint holds, in evaluation mode; None where it has none.

    Raises:
        UserError: weights that do not fit the model's configuration, or a number of steps that
            cannot be.
    """
    note = checkpoint.notes.get("distilled")
    if note is None:
        return None
    steps = note.get("steps") if isinstance(note, dict) else None
    if not isinstance(steps, int) or not 1 <= steps <= checkpoint.config.diffusion.diffusion_steps:
        raise UserError(f"the checkpoint's distilled student has no number of steps ({steps!r})")
    weights = {
        k.removeprefix(PREFIX): v for k, v in checkpoint.extras.items() if k.startswith(PREFIX)
    }
    denoiser = dataclasses.replace(checkpoint, weights=weights).denoiser(guided=True)
    guidance = note.get("guidance", 3.0)
    if not isinstance(guidance, int | float):
        raise UserError(f"the checkpoint's distilled student has no guidance weight ({guidance!r})")
    way = note.get("way")
    if way not in get_args(StudentName):
        raise UserError(f"the checkpoint's distilled student has no known way ({way!r})")
    representation = checkpoint.config.codec.map
    refiner = refiner_of(checkpoint)
    return Student(denoiser, representation, steps, way, float(guidance), refiner)
