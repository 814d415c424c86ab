"""Kinds of models that a table can train: each turns options into a Generator.

A new system is one entry of ``KINDS``: an object that trains in a folder (going on from what a
killed run left there), loads what it trained and draws with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import Generator

Tick = Callable[[float], object]  # told of each bit of work: network evaluations of one drawing


@dataclass(frozen=True)
class Facts:
    """What a report says of a trained model.

    Attributes:
        parameters: how many numbers were learned.
        updates, batch_size: of training.
        seconds, cpu: wall-clock and processor seconds of training.
        threads: of training.
        curves: name to (updates, losses).
    """

    parameters: int = 0
    updates: int = 0
    batch_size: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    threads: int = 0
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawn:
    """Drawings, and the mean number of network evaluations each took (None: not counted)."""

    sketches: list[Sketch]
    evaluations: float | None = None


class Kind(Protocol):
    """One system of the table."""

    def check(self, options: dict[str, Any], where: str) -> None:
        """Raise a UserError for options that :meth:`train` would not understand."""

    def behavior(self, options: dict[str, Any], settings: dict[str, Any] | None) -> Any:
        """JSON that changes whenever the code would train, or (with settings) draw, differently."""

    def training_work(self, options: dict[str, Any]) -> float:
        """Estimated evaluations of one drawing that training takes, backward passes included."""

    def drawing_work(self, settings: dict[str, Any]) -> float:
        """Estimated evaluations for one drawing."""

    def train(
        self,
        options: dict[str, Any],
        data: PreparedSet,
        folder: Path,
        start: Path | None,
        device: str,
        tick: Tick,
    ) -> None:
        """Train to the end in ``folder``, going on from what is there.

        Args:
            start: folder of the model that this one starts ``of``, if any.
            tick: told of the work as it is done.
        """

    def facts(self, folder: Path) -> Facts: ...

    def load(self, folder: Path, device: str) -> Generator: ...

    def draw(
        self,
        generator: Generator,
        n: int,
        seed: int,
        settings: dict[str, Any],
        batch_size: int,
        tick: Tick,
    ) -> Drawn:
        """``n`` drawings, evenly over the classes where it knows classes.

        Raises:
            UserError: settings it does not understand, or cannot follow.
        """


KINDS = {
    "sketchknitter": "knitter:Knitter",
    "recognizability": "knitter:Scored",
    "pretrained": "knitter:Pretrained",
}


def kind(name: str, where: str = "") -> Kind:
    """The kind called ``name``.

    Raises:
        UserError: no such kind.
    """
    if name not in KINDS:
        raise UserError(f"{where}no kind of model {name!r}; one of: {', '.join(KINDS)}")
    module, _, thing = KINDS[name].partition(":")
    return getattr(import_module(f"sketchknitter.experiments.{module}"), thing)()
