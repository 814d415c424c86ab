"""How students are trained: a network that draws in few steps, kept in the file of its model.

=================== ==========================================================================
``distilled.…``     the student's weights, in the checkpoint's extras
``notes.distilled`` its number of steps, and how each stage was trained
=================== ==========================================================================
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sketchknitter.data.conditions import NOTHING, ConditionLoader, Mixture
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.loader import Loader
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.errors import UserError
from sketchknitter.files import MODEL, STATE, read_tensors
from sketchknitter.seeds import Stream
from sketchknitter.settings import (
    AugmentConfig,
    OptimConfig,
    StudentConfig,
    StudentName,
)
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.systems.sketchknitter.model import DrawingModel
from sketchknitter.systems.sketchknitter.objective import Denoising
from sketchknitter.systems.sketchknitter.refiner import without_refiner
from sketchknitter.systems.sketchknitter.run import digest
from sketchknitter.systems.sketchknitter.student import PREFIX, student_of
from sketchknitter.systems.sketchknitter.teacher import Teacher
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer
from sketchknitter.training.objective import Streams
from sketchknitter.training.run import Run, Saved
from sketchknitter.training.saving import finite, loss_words, preview

PREVIEW = 16


def guidance_weights(
    streams: Streams, label: Tensor, span: tuple[float, float], null: int
) -> Tensor:
    """Guidance weights (b,) that are learned in an update, evenly from ``span``; 1 without a label
    (``null``)."""
    low, high = span
    places = streams.whole(Stream.GUIDANCE).random(streams.size)[streams.rows]
    weight = torch.from_numpy(low + (high - low) * places).to(label.device, torch.float32)
    return torch.where(label == null, 1.0, weight)


class StudentTrainer(DenoiserTrainer):
    """Trains a student of a checkpoint.

    Args:
        data: drawings of the checkpoint's classes.
        checkpoint: the model.
        teacher: whom the student learns from.
        start: the network that the student starts as.
        way: what its steps will be.
        how: how to learn.
        augment: random changes of drawings.
        device: where the networks live.
        optimizer: made of the network; default: what ``how`` names.

    Raises:
        UserError: a model without given lengths and pens as bits.
    """

    def __init__(
        self,
        data: PreparedSet,
        checkpoint: Checkpoint,
        teacher: Teacher,
        start: Denoiser,
        way: StudentName,
        how: StudentConfig,
        augment: AugmentConfig | None = None,
        device: str = "cpu",
        optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    ) -> None:
        diffusion = checkpoint.config.diffusion
        if diffusion.pens != "bits" or diffusion.length != "given":
            raise UserError("distillation needs a model with pens as bits and given lengths")
        self.base, self.teacher, self.way, self.steps = checkpoint, teacher, way, how.steps
        fresh = build_denoiser(checkpoint.config, guided=True).state_dict()
        weights = fresh | {k: v.clone() for k, v in start.state_dict().items()}
        super().__init__(data, checkpoint.config, how, augment, device, weights, optimizer)
        self.identity |= {
            "teacher": digest(teacher.denoiser.state_dict()),
            "student": [way, how.steps],
        }

    def build(self, model: ModelConfig) -> Denoiser:
        return build_denoiser(model, guided=True)

    def task(
        self, denoiser: Denoiser, loader: Loader, optim: OptimConfig
    ) -> tuple[Denoising, Callable[[int], Any]]:
        return self.objective_of(denoiser), ConditionLoader(loader, self.mixture)

    @abstractmethod
    def objective_of(self, student: Denoiser) -> Denoising:
        """What the student is trained for."""

    @property
    def mixture(self) -> Mixture:
        """What the teacher knows how to see; nothing where it was trained without conditions."""
        if self.model.diffusion.conditions:
            return Mixture()
        return NOTHING

    def checkpoint(self, ema: int = 0, record: dict[str, Any] | None = None) -> Checkpoint:
        """The model with its student."""
        made = super().checkpoint(ema, record)
        base = self.base
        earlier = base.notes.get("distilled", {}).get("stages", [])
        note = {"steps": self.steps, "way": self.way, "stages": [*earlier, made.record]}
        # another student draws other lines
        kept = without_refiner(base).items()
        others = {k: v for k, v in kept if not k.startswith(PREFIX)}
        return dataclasses.replace(
            base,
            extras=others | {PREFIX + k: v for k, v in made.weights.items()},
            notes={k: v for k, v in base.notes.items() if k != "refiner"} | {"distilled": note},
        )


class Students:
    """What a run keeps: the model with its student, and a preview."""

    def __init__(self, trainer: StudentTrainer, record: Mapping[str, Any]) -> None:
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


class StudentRun(Run):
    """A run that keeps :class:`Students`; ``folder/model.safetensors`` draws with its student."""

    trainer: StudentTrainer

    def __init__(
        self,
        trainer: StudentTrainer,
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
