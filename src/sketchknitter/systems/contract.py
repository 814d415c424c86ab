"""The contract of the results table: a system learns from prepared drawings, then draws.

Whatever draws stands behind these two protocols: diffusion, autoregressive and ODE models, and what
a user brings (``docs/your-own-system.md``). A system is a *frozen dataclass*; its fields are the
options of its table in a TOML file, nested dataclasses are nested tables::

    [models.sketchrnn]
    kind = "sketchknitter.systems.sketchrnn:SketchRNN"    # or a short name of the registry
    size = "cpu"
    budget.seconds = 1200

The runner (:mod:`sketchknitter.experiments`) owns everything else: costs, cache keys, labels, even
shares of the classes, seeds, measuring. To find out whether code changed, it trains the same system
for two updates on a few made-up drawings and lets it draw three, so both must work on little data.
A system may offer three things more:

- ``small() -> System``, the same recipe at its least size, where two updates would take long;
  otherwise the budget alone is made small;
- ``reads() -> list[Path]``, files beside the data that decide what it makes;
- ``spent -> Budget``, what it trains for where no budget is given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.errors import UserError
from sketchknitter.progress import Progress, silent
from sketchknitter.sketch import Sketch

Size = Literal["published", "cpu"]  # the authors' numbers, or such as learn in minutes on one core
Task = Literal["draw", "complete", "heal"]


@dataclass(frozen=True)
class Budget:
    """How long a system trains: one of two numbers, the other 0.

    Attributes:
        updates: of the weights. The same seed then gives the same weights, interrupted or not.
        seconds: of training: the processor's, of all threads together (on a GPU those of the
            clock). Validation, saving and preparation do not count. Courses of learning rates
            follow :meth:`share`.
        batch_size: drawings of each update; 0 takes the system's own number.
    """

    updates: int = 0
    seconds: float = 0.0
    batch_size: int = 0

    def __post_init__(self) -> None:
        numbers = (self.updates, self.seconds, self.batch_size)
        if min(numbers) < 0 or not all(map(math.isfinite, numbers)):
            raise UserError("budget: updates, seconds and batch_size are not negative")
        if self.updates and self.seconds:
            raise UserError("budget: give updates or seconds, not both")

    def share(self, updates: int, seconds: float) -> float:
        """How much is spent after so many updates and seconds, 0 … 1; 1 is the end."""
        if self.updates:
            return min(1.0, updates / self.updates)
        return min(1.0, seconds / self.seconds) if self.seconds else 1.0


Curve = tuple[tuple[float, float], ...]  # (updates, loss) pairs


@dataclass(frozen=True)
class TrainRecord:
    """What a report says of a training.

    Attributes:
        parameters: how many numbers were learned.
        updates, batch_size: of training.
        seconds, cpu: wall-clock and processor seconds of training, all interrupted parts together.
        threads: of training.
        losses: of training, smoothed or not.
        held_out: loss on validation drawings with the weights that draw; its own, not comparable
            with another system's.
        remarks: what else a reader must know, such as a temperature chosen on validation drawings.
    """

    parameters: int = 0
    updates: int = 0
    batch_size: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    threads: int = 0
    losses: Curve = ()
    held_out: Curve = ()
    remarks: dict[str, Any] = field(default_factory=dict)

    def said(self) -> list[str]:
        """Remarks as a person reads them, "temperature 0.4"; figures by name side by side."""
        return [f"{name} {_words(value)}" for name, value in self.remarks.items()]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> TrainRecord:
        """The inverse of :meth:`to_dict`; names of other versions are passed over."""
        known = {f.name for f in dataclasses.fields(cls)}
        own = {k: v for k, v in found.items() if k in known}
        for name in ("losses", "held_out"):
            own[name] = tuple((float(a), float(b)) for a, b in own.get(name, ()))
        return cls(**own)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_words(part)}" for name, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Generator(Protocol):
    """Draws. It may count its network's evaluations of single drawings in ``evaluations``."""

    def generate(
        self,
        n: int,
        *,
        labels: Sequence[str] | None = None,
        source: Sequence[Sketch] | None = None,
        seed: int = 0,
        batch_size: int = 64,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Iterator[Sketch]:
        """``n`` drawings, one after another.

        The randomness of drawing i comes from streams keyed by i alone, such as
        ``stream(seed, Stream.DRAWING, i)``, not from the batch that it is in.

        Args:
            labels: a class name for each drawing. None: all classes of the training data evenly,
                or, where there is a ``source``, the class is not known.
            source: for each drawing, what a person drew; ``task`` says what to do with it.
            seed: same seed, same drawings.
            batch_size: drawings made together.
            progress: called with "drawings".
            **settings: the system's own (temperature, steps, …). ``task`` is known to all: "draw"
                without a source; with one "complete" (its points come first and stay, the rest is
                new) or "heal" (all of it is drawn anew, like the source). Drawings carry their
                label, and come in the source's coordinates.

        Raises:
            UserError: an unknown class or setting, n < 1, a task that it cannot do.
        """
        ...


class System(Protocol):
    """A row of the results table: a frozen dataclass of options with a ``budget``."""

    @property
    def budget(self) -> Budget:
        """How long it trains; nothing for what is not trained."""
        ...

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
        """Train to the end of the budget in ``folder``, going on from what a killed run left there.

        Only ``data.train`` is learned from; ``data.valid`` may choose among models and settings;
        ``data.test`` is never looked at.

        Args:
            start: the folder of a finished model that this one starts from, if any.
            progress: called with "updates".

        Raises:
            UserError: data that it cannot learn from, a ``start`` that is missing or not fit.
        """
        ...

    def load(self, folder: Path, device: str = "cpu") -> Generator:
        """What was trained in ``folder``.

        Raises:
            UserError: nothing there, damaged, or of another system.
        """
        ...


def check_task(task: str, known: Sequence[Task], name: str, given: bool) -> None:
    """Refuse a task that a system cannot do, or one without its source.

    Args:
        task: the setting.
        known: tasks of the system.
        name: of the system.
        given: whether there is a source.

    Raises:
        UserError: says which.
    """
    if task not in known:
        raise UserError(f"{name} cannot {task}; it can {', '.join(known)}")
    if (task == "draw") == given:
        raise UserError(
            "task = 'draw' takes no source" if given else f"task = {task!r} needs a source"
        )
