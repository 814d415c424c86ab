"""Distillation: a student does in one step what its teacher does in several.

Progressive distillation (Salimans & Ho 2022, algorithm 2) of a teacher with classifier-free
guidance, whose weight becomes an input of the student (Meng et al. 2023): the student takes one
DDIM step where the teacher takes several. Autoguidance by a less trained network (Karras et al.
2024) is absorbed as well, at one weight. Or consistency distillation: each step leads to the data,
and sampling adds fresh noise in between. Conditions and pens are distilled with the rest of the
state.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sketchknitter.data.conditions import ConditionedBatch, collate
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.denoiser import Denoiser, expand
from sketchknitter.diffusion.importance import UniformLevels
from sketchknitter.errors import SettingError, UserError
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import AugmentConfig, DistillationName, DistillConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.objective import ConditionalDenoising
from sketchknitter.systems.sketchknitter.run import digest
from sketchknitter.systems.sketchknitter.student import student_of
from sketchknitter.systems.sketchknitter.teacher import Teacher, frozen
from sketchknitter.systems.sketchknitter.teaching import StudentTrainer, guidance_weights
from sketchknitter.training.objective import Loss, Streams

JUDGED = 256  # held-out drawings that a save measures the loss on


class Distilling(ConditionalDenoising):
    """The student's loss: its one step against the teacher's several, at weights drawn evenly.

    Args:
        student: a denoiser with ``guided``.
        teacher: whose steps are a multiple of ``steps``.
        steps: of the student's trailing grid.
        way: "progressive": a step leads to the next level of that grid; "consistency": from every
            level to the data (Song et al. 2023, with all of the teacher's steps for a target).
        weights: the least and the largest guidance weight.
        label_dropout: share of drawings without their label.
    """

    def __init__(
        self,
        student: Denoiser,
        teacher: Teacher,
        steps: int,
        way: DistillationName,
        weights: tuple[float, float],
        label_dropout: float,
    ) -> None:
        self.grid = policies.trailing(steps, student.schedule)
        super().__init__(student, teacher.null, UniformLevels(self.grid.levels), label_dropout)
        self.teacher, self.way, self.weights = teacher, way, weights

    def part_loss(
        self, part: ConditionedBatch, label: Tensor, t: Tensor, eps: Tensor, streams: Streams
    ) -> Loss:
        student, own = self.denoiser, part.batch
        weight = guidance_weights(streams, label, self.weights, self.classes)
        clean = student.state(own.xy, own.pen)
        alpha, sigma = (expand(c, clean) for c in student.schedule(t))
        x_t = torch.where(part.free, alpha * clean + sigma * eps, clean)
        s = self.grid.next(t) if self.way == "progressive" else torch.full_like(t, -1)
        x_s = self.teacher.ahead(part, x_t, t, s, label, weight)
        # the estimate that leads there in one DDIM step (Salimans & Ho 2022, appendix G)
        alpha_s, sigma_s = (expand(c, clean) for c in student.schedule(s))
        ratio = sigma_s / sigma
        x0 = (x_s - ratio * x_t) / (alpha_s - ratio * alpha)
        wanted = student.parametrization.target(x0, (x_t - alpha * x0) / sigma, alpha, sigma)
        found = student(x_t, t, label, own.mask, part.condition, weight)
        error = (student.parametrization.target(found.x0, found.eps, alpha, sigma) - wanted) ** 2
        counted = (part.free & own.mask[..., None]).to(error)
        return Loss((error * counted).mean(dim=-1).sum(dim=-1), counted.mean(dim=-1).sum(dim=-1))


# -- training ------------------------------------------------------------------------------------
class DistillTrainer(StudentTrainer):
    """Trains the student of a checkpoint; starts as its teacher.

    Args:
        data: drawings of the checkpoint's classes.
        checkpoint: the model; if it has a student already, that one is the teacher.
        how: steps of student and teacher, and how to learn.
        augment: random changes of drawings.
        device: where the networks live.
        weak: the same model, trained less, that the teacher steers away from; None for no
            autoguidance.

    Raises:
        UserError: a model without given lengths and pens as bits, a student to whom the teacher has
            nothing to teach, a weak model of another kind or where a student teaches.
    """

    def __init__(
        self,
        data: PreparedSet,
        checkpoint: Checkpoint,
        how: DistillConfig,
        augment: AugmentConfig | None = None,
        device: str = "cpu",
        weak: Checkpoint | None = None,
    ) -> None:
        self.how = how
        earlier = student_of(checkpoint)
        if earlier is not None and earlier.way == "consistency":
            raise UserError(
                "a student of consistency distillation cannot teach: its steps lead to the data;"
                " go on from a progressive one, or from a model without a student"
            )
        steps = how.teacher_steps if earlier is None else earlier.steps
        if steps <= how.steps or steps % how.steps:
            raise SettingError(
                "steps", f"must divide the teacher's {steps} and be fewer, not {how.steps}"
            )
        denoiser = checkpoint.denoiser() if earlier is None else earlier.denoiser
        if weak is not None and earlier is not None:
            raise UserError("a student teaches here, which has no use for a weak model")
        if weak is not None and weak.config != checkpoint.config:
            raise UserError(
                "the weak model has another configuration; take the same training stopped early"
            )
        teacher = Teacher(
            frozen(denoiser, device),
            steps,
            len(checkpoint.config.classes),
            how.interval,
            None if weak is None else frozen(weak.denoiser(), device),
            how.autoguidance,
        )
        super().__init__(
            data, checkpoint, teacher, denoiser, how.distillation, how, augment, device
        )
        self.identity["weak"] = None if weak is None else [digest(weak.weights), how.autoguidance]

    def objective_of(self, student: Denoiser) -> Distilling:
        how = self.how
        return Distilling(
            student, self.teacher, how.steps, how.distillation, how.guidance, how.label_dropout
        )

    @torch.no_grad()
    def evaluate(self, split: Split, limit: int = JUDGED) -> float:
        """Mean loss of the averaged weights on (up to ``limit``) drawings of ``split``."""
        chosen = stream(0, Stream.VALIDATION).permutation(len(split))[:limit]
        labels = np.asarray(split.labels)[chosen].astype(np.int64)
        labels[labels < 0] = self.objective.classes
        examples = [
            self.mixture(r, self.model.codec, stream(1, Stream.VALIDATION, int(i)))
            for r, i in zip(split.take(chosen), chosen, strict=True)
        ]
        batches = [
            collate(examples[a : a + 64], labels[a : a + 64].tolist(), self.model.codec)
            for a in range(0, len(chosen), 64)
        ]
        return self.held_out(batches)
