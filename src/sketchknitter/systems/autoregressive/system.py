"""A system of the family: trains with the common trainer, loads what it trained."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.files import LOG, MODEL
from sketchknitter.processes import place
from sketchknitter.settings import TrainingConfig
from sketchknitter.systems.autoregressive.design import Design
from sketchknitter.systems.autoregressive.generator import Facts, StrokeGenerator
from sketchknitter.systems.autoregressive.learning import (
    Source,
    StrokeObjective,
    StrokeProducts,
    adam,
    clip_of,
    longest_of,
)
from sketchknitter.systems.autoregressive.model import Sizes
from sketchknitter.systems.contract import Budget, Size, TrainRecord
from sketchknitter.systems.mixture import CodeMixture
from sketchknitter.systems.registry import name_of
from sketchknitter.systems.stored import Stored
from sketchknitter.systems.trainable import BETWEEN, PLOTTED, Trainable
from sketchknitter.training.run import Log, Run
from sketchknitter.training.trainer import Trainer

CPU_UPDATES = 4_000  # where no budget is given


@dataclass(frozen=True)
class StrokeSystem(Trainable):
    """What SketchRNN, SketchPix2seq and SketchHealer do alike.

    Attributes:
        size: "published" or "cpu".
        budget: of training; nothing means as many updates as published, or 4,000 of size "cpu".
        augmented: learn from rows that are changed as the authors change them; else from the
            drawings as they are.
    """

    size: Size = "published"
    budget: Budget = dataclasses.field(default_factory=Budget)
    augmented: bool = True

    @abstractmethod
    def design(self) -> Design[Any]:
        """What makes the system itself."""

    @property
    def usual(self) -> int:
        """Updates where no budget is given."""
        return self.design().updates if self.size == "published" else CPU_UPDATES

    def over(self, folder: Path) -> bool:
        """Whether the model in ``folder`` is the last one."""
        return (folder / MODEL).exists() and Facts.of(Stored.read(folder)).finished

    @abstractmethod
    def least(self) -> Sizes:
        """The sizes of the least network."""

    def small(self) -> Self:
        """The same recipe at its least size, for two updates."""
        made: Any = dataclasses.replace
        return made(self, net=self.least(), budget=Budget(updates=2, batch_size=4))

    # -- training ----------------------------------------------------------------------------------
    def run(
        self,
        data: PreparedSet,
        folder: Path,
        *,
        start: Path | None = None,
        seed: int = 0,
        device: str = "cpu",
        save_interval: int = 0,
        log_interval: int = BETWEEN,
        made: Mapping[str, Any] | None = None,
    ) -> Run:
        """A training in ``folder``, which has not begun.

        Args:
            save_interval: updates between full saves; 0 makes about eight of them.
            made: what the model's file shall say of how it was made.

        Raises:
            UserError: data that cannot be learned from, a ``start`` of another system.
        """
        design, budget = self.design(), self.spent
        data, longest = longest_of(data, design.sizes.max_rows)
        rank, world = place()
        size = min(budget.batch_size or design.batch_size, len(data.train))
        size -= size % world
        scale = design.scale_of(data.train.take(range(len(data.train))))
        config = TrainingConfig(
            iterations=budget.updates or 10**9,
            batch_size=size,
            lr=design.rate.lr,
            ema_rate="0",  # the originals keep the weights of the last update
            seed=seed,
        )
        torch.manual_seed(seed)
        objective = StrokeObjective(design, len(data.classes))
        if start is not None:
            self.begin(objective.network, start, data)
        source = Source.of(design, data.train, longest, scale, size, seed, rank, world)
        trainer = Trainer(
            objective,
            source,
            config,
            device=device,
            identity={"system": name_of(type(self)), **self._recipe(), "data": data.fingerprint},
            optimizer=adam,
            course=objective.rate,
            clip=clip_of(design, objective.network),
            share=budget.share,
        )
        products = StrokeProducts(trainer, source, data, self, made)
        return Run(
            trainer,
            folder,
            products,
            save_interval=save_interval or self.save_interval,
            log_interval=log_interval,
            plotted=PLOTTED,
        )

    def _recipe(self) -> dict[str, Any]:
        """The system's options as JSON, without its budget: what a state must fit."""
        out = dataclasses.asdict(self)
        del out["budget"]
        return {"recipe": out}

    def record(self, folder: Path) -> TrainRecord:
        """What a report says of the training in ``folder``."""
        stored, log = Stored.read(folder), Log(folder / LOG).read()
        facts = Facts.of(stored)
        remarks: dict[str, Any] = {"temperature": facts.temperature}
        if facts.temperatures:
            remarks["distance to validation drawings by temperature"] = facts.temperatures
        if "mixture.means" in stored.extras:
            mixture = CodeMixture.from_tensors(stored.extras)
            remarks["Gaussians over codes"] = len(mixture.weights)
        return dataclasses.replace(
            stored.record,
            losses=log.curve("loss"),
            held_out=log.curve("valid_loss"),
            remarks=remarks,
        )

    # -- drawing -----------------------------------------------------------------------------------
    def load(self, folder: Path, device: str = "cpu") -> StrokeGenerator:
        """What was trained in ``folder``; the model says itself of which size it is.

        Raises:
            UserError: nothing there, damaged, or of another system.
        """
        stored = Stored.read(folder).check(type(self), folder)
        system = stored.rebuild()
        assert isinstance(system, StrokeSystem)
        return StrokeGenerator(system.design(), stored, device)
