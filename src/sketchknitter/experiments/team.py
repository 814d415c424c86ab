"""The processes of a ``torchrun``, on any number of machines, that share an experiment's steps.

Each takes the next step that nobody has taken and whose needs are done. Finished steps are parts of
the cache, in a folder that all of them see: when a process is lost torchrun stops the others, and
the same command, with any number of processes, goes on with what is missing. Trainings and drawings
are those of one process, because each step is done by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from sketchknitter.experiments.cache import Part
from sketchknitter.processes import end_with_launcher

_PATIENCE = timedelta(days=30)  # that a process waits for the slowest one


class Team:
    """One of the processes.

    Args:
        store: in which they leave word.
        rank: this process's number.
        world: how many there are.
    """

    def __init__(self, store: dist.Store, rank: int, world: int) -> None:
        self.store, self.rank, self.world = store, rank, world
        store.set_timeout(_PATIENCE)

    @classmethod
    def joined(cls) -> Team | None:
        """This process's team, as torchrun's environment names it; None when it is alone."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return None
        end_with_launcher()
        return cls(*next(dist.rendezvous("env://", timeout=_PATIENCE)))

    @contextmanager
    def first(self, what: str) -> Iterator[None]:
        """The first process does ``what`` while the others wait; then they do."""
        if self.rank:
            self.store.wait([f"first {what}"])
        yield
        if not self.rank:
            self.store.set(f"first {what}", "")

    def claim(self, part: Part) -> bool:
        """Take a part, unless another process has."""
        return self.store.add(f"claim {part.folder.name}", 1) == 1

    def claimed(self, part: Part) -> bool:
        """Whether a process has taken it."""
        return self.store.check([f"claim {part.folder.name}"])

    def tell(self, part: Part, fault: str) -> None:
        """Let the others know that a part is done, or why it cannot be."""
        self.store.set(f"done {part.folder.name}", fault)

    def answered(self, part: Part) -> bool:
        """Whether :meth:`heard` would answer at once."""
        return self.store.check([f"done {part.folder.name}"])

    def heard(self, part: Part) -> str:
        """Waits for a part that another process has taken; why it cannot be done, or nothing."""
        return self.store.get(f"done {part.folder.name}").decode()

    def part_company(self) -> None:
        """Wait for each other: the first process may hold the store."""
        if self.store.add("over", 1) == self.world:
            self.store.set("all over", "")
        self.store.wait(["all over"])


@contextmanager
def first(team: Team | None, what: str) -> Iterator[None]:
    """:meth:`Team.first`, where there is a team."""
    if team is None:
        yield
        return
    with team.first(what):
        yield
