"""What generators of the table's systems do alike: check what is asked, draw it in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.data.lengths import counts_of, drawn_length
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.errors import UserError
from sketchknitter.progress import Progress
from sketchknitter.seeds import Stream, stream, taken_turn
from sketchknitter.sketch import Sketch
from sketchknitter.systems.contract import Task, check_task
from sketchknitter.systems.registry import plain


@dataclass(frozen=True)
class Request:
    """A batch of drawings to make.

    Attributes:
        numbers: of the drawings.
        task: one of the system's.
        label: class indices, (B,); the number of classes means "not known".
        source: what a person drew, for each; None where all is new.
        seed: of the drawings' random streams.
        settings: the system's, complete.
    """

    numbers: range
    task: Task
    label: Tensor
    source: list[Sketch] | None
    seed: int
    settings: Mapping[str, Any]

    def streams(self, purpose: Stream) -> list[np.random.Generator]:
        """One stream for each drawing: the same whatever batch it is in."""
        return [stream(self.seed, purpose, i) for i in self.numbers]

    def noise(self) -> SketchNoise:
        """Gaussian noise for each drawing, from its own stream."""
        return SketchNoise(self.streams(Stream.DRAWING))


def drawn_lengths(
    counts: NDArray[Any], labels: Sequence[int], streams: Sequence[np.random.Generator]
) -> list[int]:
    """A number of rows for each drawing, as often as its class has it.

    Args:
        counts: drawings of each class with each number of rows, (classes + 1, N + 1).
    """
    pairs = zip(labels, streams, strict=True)
    return [drawn_length(counts_of(counts, label), rng) for label, rng in pairs]


class DrawingGenerator(ABC):
    """Draws batch by batch.

    Attributes:
        name: of the system.
        tasks: that it can do.
        classes: that it can draw.
        settings: names and defaults; a value must be of its default's type. One whose default is
            None is for :meth:`check` to look at.
        evaluations: of the network, of single drawings.
    """

    name: str
    tasks: tuple[Task, ...]
    settings: ClassVar[Mapping[str, Any]]

    def __init__(self, classes: tuple[str, ...], device: str) -> None:
        self.classes, self.device = classes, torch.device(device)
        self.evaluations = 0

    @abstractmethod
    def draw(self, request: Request) -> list[Sketch]:
        """The drawings of one batch, without labels; a source's are in its coordinates."""

    def check(self, settings: Mapping[str, Any]) -> None:  # noqa: B027 - nothing to refuse
        """Refuse values that make no sense.

        Raises:
            UserError: says which.
        """

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
        """``n`` drawings (:meth:`contract.Generator.generate`).

        Raises:
            UserError: an unknown class or setting, a setting of another type, n < 1, a task that it
                cannot do.
        """
        task: Task = settings.pop("task", None) or ("heal" if source is not None else "draw")
        check_task(task, self.tasks, self.name, source is not None)
        if unknown := sorted(set(settings) - set(self.settings)):
            raise UserError(
                f"{self.name} has no setting {unknown[0]!r}; one of: {', '.join(self.settings)}"
            )
        if n < 1 or batch_size < 1:
            raise UserError(f"n and batch_size must be at least 1, not {n} and {batch_size}")
        for what, given in (("labels", labels), ("source", source)):
            if given is not None and len(given) != n:
                raise UserError(f"{len(given)} {what} for {n} drawings; give one for each")
        if source is not None and not all(s.num_points for s in source):
            raise UserError("an empty drawing has nothing to go on; draw a stroke first")
        if source is not None and task == "heal" and any(s.num_points < 2 for s in source):
            raise UserError("a drawing of fewer than two points has nothing to heal")
        whole = {
            k: v if settings.get(k) is None else plain(settings[k], v, k)
            for k, v in self.settings.items()
        }
        self.check(whole)
        numbers = self._labels(n, labels, source is not None, seed)
        return self._batches(n, task, numbers, source, seed, batch_size, progress, whole)

    def _batches(
        self,
        n: int,
        task: Task,
        labels: NDArray[np.int64],
        source: Sequence[Sketch] | None,
        seed: int,
        batch_size: int,
        progress: Progress | None,
        settings: Mapping[str, Any],
    ) -> Iterator[Sketch]:
        for first in range(0, n, batch_size):
            part = range(first, min(n, first + batch_size))
            label = torch.from_numpy(labels[part.start : part.stop]).to(self.device)
            given = None if source is None else list(source[part.start : part.stop])
            with torch.no_grad():
                sketches = self.draw(Request(part, task, label, given, seed, settings))
            for i, sketch in zip(part, sketches, strict=True):
                known = int(labels[i]) < len(self.classes)
                name = self.classes[int(labels[i])] if known else None
                if name is None and source is not None:
                    name = source[i].label
                yield sketch.with_label(name)
            if progress is not None:
                progress("drawings", part.stop, n)

    def _labels(
        self, n: int, labels: Sequence[str] | None, given: bool, seed: int
    ) -> NDArray[np.int64]:
        """Class indices (n,); the number of classes means that the class is not known."""
        k = len(self.classes)
        if labels is not None:
            if unknown := sorted(set(labels) - set(self.classes)):
                raise UserError(
                    f"no class {unknown[0]!r}; one of: {', '.join(self.classes) or 'no classes'}"
                )
            return np.array([self.classes.index(name) for name in labels], dtype=np.int64)
        if given or not k:
            return np.full(n, k, dtype=np.int64)
        return np.array([taken_turn(seed, i, k) for i in range(n)], dtype=np.int64)
