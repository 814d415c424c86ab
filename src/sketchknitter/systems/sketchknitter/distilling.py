"""Distillation: a student draws in a few evaluations what its teacher draws in many.

Progressive distillation (Salimans & Ho 2022, algorithm 2) of a teacher with classifier-free
guidance, whose weight becomes an input of the student (Meng et al. 2023): the student takes one
DDIM step where the teacher takes several. Autoguidance by a less trained network (Karras et al.
2024) is absorbed as well, at one weight. Or consistency distillation: each step leads to the data,
and sampling adds fresh noise in between. Conditions and pens are distilled with the rest of the
state. A model file holds its student beside its own weights, so both are one download:

=================== ==========================================================================
``distilled.…``     the student's weights, in the checkpoint's extras
``notes.distilled`` its number of steps, and how each stage was trained
=================== ==========================================================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.data.conditions import (
    NOTHING,
    ConditionedBatch,
    ConditionLoader,
    Mixture,
    collate,
)
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.data.loader import Loader
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.denoiser import Denoiser, expand
from sketchknitter.diffusion.guidance.autoguided import Autoguided
from sketchknitter.diffusion.guidance.classifier_free import Absorbed, Guided
from sketchknitter.diffusion.guidance.conditioned import Conditioned
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import Ddim, Model, Posed, State, Task
from sketchknitter.errors import SettingError, UserError
from sketchknitter.files import MODEL, STATE, read_tensors
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import AugmentConfig, DistillationName, DistillConfig, OptimConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.systems.sketchknitter.model import DrawingModel
from sketchknitter.systems.sketchknitter.objective import ConditionalDenoising, Denoising
from sketchknitter.systems.sketchknitter.run import digest
from sketchknitter.systems.sketchknitter.student import PREFIX, student_of
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer
from sketchknitter.training.objective import Loss, Streams
from sketchknitter.training.run import Run, Saved
from sketchknitter.training.saving import finite, loss_words, preview

JUDGED = 256  # held-out drawings that a save measures the loss on
PREVIEW = 16


# -- the teacher ---------------------------------------------------------------------------------
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


# -- what is learned -----------------------------------------------------------------------------
class GridLevels:
    """Levels of a grid, each equally often (a :class:`~diffusion.importance.LevelSampler`)."""

    def __init__(self, grid: policies.Grid) -> None:
        self.levels = np.array(grid.levels)

    def draw(self, uniforms: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        place = np.minimum((uniforms * len(self.levels)).astype(np.int64), len(self.levels) - 1)
        return self.levels[place], np.ones(len(place))

    def observe(self, t: NDArray[np.int64], loss: NDArray[np.float64]) -> None:
        pass

    def state(self) -> dict[str, NDArray[Any]]:
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        pass


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
        super().__init__(student, teacher.null, GridLevels(self.grid), label_dropout)
        self.teacher, self.way, self.weights = teacher, way, weights

    def part_loss(
        self, part: ConditionedBatch, label: Tensor, t: Tensor, eps: Tensor, streams: Streams
    ) -> Loss:
        student, own = self.network, part.batch
        low, high = self.weights
        places = streams.whole(Stream.GUIDANCE).random(streams.size)[streams.rows]
        weight = torch.from_numpy(low + (high - low) * places).to(eps)
        weight = torch.where(label == self.classes, 1.0, weight)
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
class DistillTrainer(DenoiserTrainer):
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
        diffusion = checkpoint.config.diffusion
        if diffusion.pens != "bits" or diffusion.length != "given":
            raise UserError("distillation needs a model with pens as bits and given lengths")
        self.base, self.how = checkpoint, how
        earlier = student_of(checkpoint)
        if earlier is not None and earlier.way != "progressive":
            raise UserError(
                "a student of consistency distillation cannot teach: its steps lead to the data;"
                " go on from a progressive one, or from a model without a student"
            )
        steps = how.teacher_steps if earlier is None else earlier.steps
        if steps <= how.steps or steps % how.steps:
            raise SettingError(
                "steps", f"must divide the teacher's {steps} and be fewer, not {how.steps}"
            )
        teacher = checkpoint.denoiser() if earlier is None else earlier.denoiser
        if weak is not None and earlier is not None:
            raise UserError("a student teaches here, which has no use for a weak model")
        if weak is not None and weak.config != checkpoint.config:
            raise UserError(
                "the weak model has another configuration; take the same training stopped early"
            )
        self.teacher = Teacher(
            _frozen(teacher, device),
            steps,
            len(checkpoint.config.classes),
            how.interval,
            None if weak is None else _frozen(weak.denoiser(), device),
            how.autoguidance,
        )
        fresh = build_denoiser(checkpoint.config, guided=True).state_dict()
        weights = fresh | {k: v.clone() for k, v in teacher.state_dict().items()}
        super().__init__(data, checkpoint.config, how, augment, device, weights)
        self.identity |= {
            "teacher": digest(teacher.state_dict()),
            "student": [how.distillation, how.steps],
            "weak": None if weak is None else [digest(weak.weights), how.autoguidance],
        }

    def build(self, model: ModelConfig) -> Denoiser:
        return build_denoiser(model, guided=True)

    def task(
        self, denoiser: Denoiser, loader: Loader, optim: OptimConfig
    ) -> tuple[Denoising, Callable[[int], Any]]:
        how = self.how
        objective = Distilling(
            denoiser,
            self.teacher,
            how.steps,
            how.distillation,
            how.guidance,
            optim.label_dropout,
        )
        return objective, ConditionLoader(loader, self.mixture)

    @property
    def mixture(self) -> Mixture:
        """What the teacher knows how to see; nothing where it was trained without conditions."""
        if self.model.diffusion.conditions:
            return Mixture()
        return NOTHING

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

    def checkpoint(self, ema: int = 0, record: dict[str, Any] | None = None) -> Checkpoint:
        """The model with its student."""
        made = super().checkpoint(ema, record)
        base = self.base
        earlier = base.notes.get("distilled", {}).get("stages", [])
        note = {
            "steps": self.how.steps,
            "way": self.how.distillation,
            "stages": [*earlier, made.record],
        }
        others = {k: v for k, v in base.extras.items() if not k.startswith(PREFIX)}
        return dataclasses.replace(
            base,
            extras=others | {PREFIX + k: v for k, v in made.weights.items()},
            notes=base.notes | {"distilled": note},
        )


def _frozen(denoiser: Denoiser, device: str) -> Denoiser:
    return denoiser.to(device).requires_grad_(False)


class Students:
    """What a run keeps: the model with its student, and a preview."""

    def __init__(self, trainer: DistillTrainer, record: Mapping[str, Any]) -> None:
        self.trainer, self.record = trainer, dict(record)
        self.losses: dict[str, float] = {}

    def resume(self, folder: Path) -> None:
        path = folder / MODEL
        if path.exists():
            stages = Checkpoint.load(path).notes.get("distilled", {}).get("stages", [])
            self.losses = dict(stages[-1].get("losses", {})) if stages else {}

    def save(self, folder: Path, brief: bool) -> Saved:
        trainer = self.trainer
        if not brief:
            self.losses = finite({"valid_loss": trainer.evaluate(trainer.data.valid)})
        made = trainer.checkpoint(0, self.record | {"losses": self.losses})
        made.save(folder / MODEL)
        if brief:
            return Saved()
        picture = preview(
            folder,
            trainer.iteration,
            lambda: DrawingModel(made, str(trainer.device)).sample(None, PREVIEW),
            captions=bool(made.config.classes),
        )
        return Saved(self.losses, loss_words(self.losses, digits=5) + picture)


class DistillRun(Run):
    """A run that keeps :class:`Students`; ``folder/model.safetensors`` draws with its student."""

    trainer: DistillTrainer

    def __init__(
        self,
        trainer: DistillTrainer,
        folder: Path,
        *,
        save_interval: int = 200,
        record: Mapping[str, Any] | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        super().__init__(
            trainer,
            folder,
            Students(trainer, record or {}),
            save_interval=save_interval,
            plotted={"loss": "training, every update", "valid_loss": "held-out drawings"},
            say=say,
        )

    def digests(self) -> tuple[str, str]:
        """sha256 of the saved student's weights, and of the whole saved state."""
        made = student_of(Checkpoint.load(self.folder / MODEL))
        assert made is not None
        return digest(made.denoiser.state_dict()), digest(read_tensors(self.folder / STATE)[0])
