"""A system of the family: trains with the common trainer, loads what it trained."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.errors import UserError
from sketchknitter.progress import Progress, silent
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
from sketchknitter.systems.contract import Budget, Curve, Size, TrainRecord
from sketchknitter.systems.mixture import CodeMixture
from sketchknitter.systems.registry import name_of
from sketchknitter.systems.stored import MODEL, Stored
from sketchknitter.training.run import LOG, STATE, Run
from sketchknitter.training.trainer import Trainer, Update, place

CPU_UPDATES = 4_000  # where no budget is given
SAVES, BETWEEN = 8, 25  # full saves of a training, and updates between two at least
MINUTE = 60.0  # between brief saves: what a kill can lose
PLOTTED = {
    "loss": "training, every update, augmented",
    "train_loss": "training drawings",
    "valid_loss": "held-out drawings",
}


@dataclass(frozen=True)
class StrokeSystem:
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

    def design(self) -> Design[Any]:
        """What makes the system itself."""
        raise NotImplementedError

    @property
    def spent(self) -> Budget:
        """The budget, or the usual one where none is given."""
        if self.budget.updates or self.budget.seconds:
            return self.budget
        usual = self.design().updates if self.size == "published" else CPU_UPDATES
        return dataclasses.replace(self.budget, updates=usual)

    def least(self) -> Sizes:
        """The sizes of the least network."""
        raise NotImplementedError

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
            self._begin(objective, start, data)
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
            save_interval=save_interval or max(BETWEEN, (budget.updates or 8_000) // SAVES),
            log_interval=log_interval,
            plotted=PLOTTED,
        )

    def _recipe(self) -> dict[str, Any]:
        """The system's options as JSON, without its budget: what a state must fit."""
        out = dataclasses.asdict(self)
        del out["budget"]
        return {"recipe": out}

    def _begin(self, objective: StrokeObjective, start: Path, data: PreparedSet) -> None:
        """Give a network the weights of an earlier model."""
        earlier = Stored.read(start).check(type(self), start)
        if earlier.classes != data.classes:
            raise UserError(
                f"{start}: draws {len(earlier.classes)} other classes than the"
                f" {len(data.classes)} of the data; to go on from it take data of the same classes"
            )
        earlier.fill(objective.network, "cpu")

    def train(
        self,
        data: PreparedSet,
        folder: Path,
        *,
        start: Path | None = None,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> TrainRecord:
        """Train to the end of the budget (:meth:`contract.System.train`)."""
        run = self.run(data, folder, start=start, seed=seed, device=device)
        try:
            if (folder / STATE).exists():
                run.resume()
            if not (run.trainer.done and self._finished(folder)):
                run.go(report=self._reporter(run, progress))
        finally:
            run.close()
        return self.record(folder)

    def _finished(self, folder: Path) -> bool:
        """Whether the model there is the last one: a kill may come between updates and choices."""
        return (folder / MODEL).exists() and Facts.of(Stored.read(folder)).finished

    def _reporter(self, run: Run, progress: Progress) -> Callable[[Update], None]:
        """Tells of updates, and saves now and then."""
        trainer, saved = run.trainer, time.monotonic()

        def report(update: Update) -> None:
            nonlocal saved
            share = trainer.share(update.iteration, update.cpu)
            total = self.spent.updates or round(update.iteration / max(share, 1e-9))
            try:
                progress("updates", update.iteration, total)
            except BaseException:  # it asks to end: nothing of what was learned is lost
                run.save(brief=True)
                raise
            if time.monotonic() > saved + MINUTE:
                run.save(brief=True)
                saved = time.monotonic()

        return report

    def record(self, folder: Path) -> TrainRecord:
        """What a report says of the training in ``folder``."""
        stored = Stored.read(folder)
        facts = Facts.of(stored)
        remarks: dict[str, Any] = {"temperature": facts.temperature}
        if facts.temperatures:
            remarks["distance to validation drawings by temperature"] = facts.temperatures
        if "mixture.means" in stored.extras:
            mixture = CodeMixture.from_tensors(stored.extras)
            remarks["Gaussians over codes"] = len(mixture.weights)
        return dataclasses.replace(
            stored.record,
            losses=_curve(folder, "loss"),
            held_out=_curve(folder, "valid_loss"),
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


def _curve(folder: Path, key: str) -> Curve:
    """(updates, loss) pairs of a run's log."""
    out = []
    if (folder / LOG).exists():
        for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.get(key) is not None:
                out.append((float(entry["iteration"]), float(entry[key])))
    return tuple(out)
