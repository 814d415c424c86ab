"""What all systems that train by the common run do alike: budgets, saves, resuming, interrupts."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from torch import nn

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.errors import UserError
from sketchknitter.files import STATE
from sketchknitter.processes import place
from sketchknitter.progress import Progress, silent
from sketchknitter.systems.contract import Budget, TrainRecord
from sketchknitter.systems.stored import Stored
from sketchknitter.training.run import Run
from sketchknitter.training.trainer import Update

SAVES, BETWEEN = 8, 25  # full saves of a training, and updates between two at least
PLOTTED = {
    "loss": "training, every update, augmented",
    "train_loss": "training drawings",
    "valid_loss": "held-out drawings",
}


class Trainable(ABC):
    """A system that trains in a folder by :class:`training.run.Run`.

    Attributes:
        budget: of training; nothing means :attr:`usual` updates.
    """

    budget: Budget

    @property
    @abstractmethod
    def usual(self) -> int:
        """Updates where no budget is given."""

    @abstractmethod
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
    ) -> Run:
        """A training in ``folder``, which has not begun.

        Args:
            save_interval: updates between full saves; 0 makes about eight of them (of a budget of
                seconds, :meth:`train` does).

        Raises:
            UserError: data that it cannot learn from, a ``start`` of another system.
        """

    @property
    def save_interval(self) -> int:
        """Updates between two of about eight full saves, where updates are what is counted."""
        updates = self.spent.updates
        return max(BETWEEN, updates // SAVES) if updates else 10**9

    @abstractmethod
    def over(self, folder: Path) -> bool:
        """Whether the model in ``folder`` is the last one: a kill may come between the last update
        and what follows it."""

    @abstractmethod
    def record(self, folder: Path) -> TrainRecord:
        """What a report says of the training in ``folder``."""

    @property
    def spent(self) -> Budget:
        """The budget, or the usual one where none is given."""
        if self.budget.updates or self.budget.seconds:
            return self.budget
        return dataclasses.replace(self.budget, updates=self.usual)

    def begin(self, network: nn.Module, start: Path, data: PreparedSet) -> None:
        """Give a network the weights of an earlier model.

        Raises:
            UserError: it is of another system, or draws other classes.
        """
        earlier = Stored.read(start).check(type(self), start)
        if earlier.classes != data.classes:
            raise UserError(
                f"{start}: draws {len(earlier.classes)} other classes than the"
                f" {len(data.classes)} of the data; to go on from it take data of the same classes"
            )
        earlier.fill(network, "cpu")

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
        if self.spent.seconds and place()[1] > 1:
            raise UserError("a budget of seconds is one process's; several share one of updates")
        run = self.run(data, folder, start=start, seed=seed, device=device)
        broken: list[BaseException] = []
        try:
            if (folder / STATE).exists():
                run.resume()
            if not (run.trainer.done and self.over(folder)):
                report = self._reporter(run, progress, broken)
                run.go(stop=lambda: bool(broken), report=report)
        finally:
            run.close()
        if broken:
            raise broken[0]
        return self.record(folder)

    def _reporter(
        self, run: Run, progress: Progress, broken: list[BaseException]
    ) -> Callable[[Update], None]:
        """Tells of updates, and saves at each eighth of a budget of seconds; what ``progress``
        raises ends the training."""
        trainer, budget = run.trainer, self.spent
        part = int(SAVES * trainer.spent)

        def report(update: Update) -> None:
            nonlocal part
            share = trainer.spent
            total = budget.updates or round(update.iteration / max(share, 1e-9))
            try:
                progress("updates", update.iteration, total)
            except BaseException as error:  # kept until the state is saved
                broken.append(error)
            if budget.seconds and int(SAVES * share) > part and share < 1:
                run.save()
                part = int(SAVES * share)

        return report
