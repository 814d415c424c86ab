"""The work of an experiment, in steps that are cached one by one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.experiments.cache import Part
from sketchknitter.metrics.features import FeatureNetwork
from sketchknitter.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Context:
    """What all steps of an experiment share; each process has its own.

    Attributes:
        data: with train, valid and test drawings.
        network: the judge.
        device: where models train and draw.
    """

    data: PreparedSet
    network: FeatureNetwork
    device: str = "cpu"
    _found: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """What ``find`` returns, found once."""
        if key not in self._found:
            self._found[key] = find()
        return self._found[key]

    def latest(self, what: str, key: Hashable, find: Callable[[], T]) -> T:
        """As :meth:`once`, but of each ``what`` only the latest is kept: models are large."""
        kept = self._found.get(what)
        if kept is None or kept[0] != key:
            self._found[what] = key, find()
        return self._found[what][1]


class Work(Protocol):
    """What a step does; a frozen dataclass, so that another process can do it."""

    def __call__(
        self, context: Any, folder: Path, inputs: Sequence[Path], progress: Progress
    ) -> dict[str, Any]:
        """Leave files in ``folder``, going on from what a killed run left there.

        Args:
            context: what the steps of its experiment share, such as :class:`Context`.
            inputs: the folders of the steps that this one needs.
            progress: called as work is done; it may raise to end it.

        Returns:
            JSON to remember.

        Raises:
            UserError: it cannot be done.
        """
        ...


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work.

    Attributes:
        part: where it is cached, under a key of all that it depends on.
        title: what a person reads while it runs.
        work: how it is done.
        needs: steps that come first.
        seconds: a guess of how long it takes, until one of its ``family`` was timed.
        family: steps that take about equally long.
        optional: where it cannot be done, the experiment goes on without it.
    """

    part: Part
    title: str
    work: Work
    needs: tuple[Step, ...] = ()
    seconds: float = 20.0
    family: str = ""
    optional: bool = False


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Every step and what it needs, once, each after what it needs."""
    out: dict[Path, Step] = {}

    def add(step: Step) -> None:
        if step.part.folder not in out:
            for need in step.needs:
                add(need)
            out[step.part.folder] = step

    for step in steps:
        add(step)
    return list(out.values())
