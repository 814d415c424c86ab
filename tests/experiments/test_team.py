"""Processes that share the steps of an experiment: each step is done once, by one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from sketchknitter.errors import UserError
from sketchknitter.experiments.cache import Cache
from sketchknitter.experiments.runner import Runner
from sketchknitter.experiments.steps import Step
from sketchknitter.experiments.team import Team
from sketchknitter.progress import Progress

DONE: list[tuple[str, int]] = []  # (step, rank), in order
RANK = threading.local()


@dataclass(frozen=True, eq=False)
class Note:
    """Writes down who does it; it needs the files of its inputs."""

    name: str
    fault: str = ""
    seconds: float = 0.02

    def __call__(
        self, context: Any, folder: Path, inputs: Sequence[Path], progress: Progress
    ) -> dict[str, Any]:
        assert all((place / "file").exists() for place in inputs)
        time.sleep(self.seconds)
        DONE.append((self.name, RANK.number))
        if self.fault:
            raise UserError(self.fault)
        (folder / "file").write_text(self.name)
        return {}


def steps(folder: Path) -> list[Step]:
    """Two models, one of which cannot be made, and drawings of both."""
    cache = Cache(folder)

    def step(name: str, *needs: Step, fault: str = "") -> Step:
        part = cache.part("p", {"name": name})
        return Step(part, name, Note(name, fault), needs, optional=bool(fault or name > "bad"))

    good, bad = step("a model"), step("bad", fault="no memory")
    drawn = [step(f"a drawing {i}", good) for i in range(8)]
    hopeless = [step(f"hopeless {i}", bad) for i in range(2)]
    return [*hopeless, step("a figure", *drawn)]


def together(folder: Path, world: int = 2) -> list[Runner]:
    """What each of the processes (here, threads) has of it."""
    store, runners, faults = dist.HashStore(), [], []

    def work(rank: int) -> None:
        RANK.number = rank
        runner = Runner(None, folder, team=Team(store, rank, world))
        runners.append(runner)
        try:
            runner.run(steps(folder))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(r,), daemon=True) for r in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults
    assert not any(thread.is_alive() for thread in threads)
    return runners


def test_each_step_is_done_once(tmp_path: Path) -> None:
    DONE.clear()
    runners = together(tmp_path, 3)
    names = [name for name, _ in DONE]
    assert sorted(names) == [
        *(f"a drawing {i}" for i in range(8)),
        *("a figure", "a model", "bad"),
    ]
    assert names.index("a model") < names.index("a drawing 0")
    assert names[-1] == "a figure" or names[-1] == "bad"
    assert len({rank for _, rank in DONE}) > 1
    hopeless = {s.part.folder for s in steps(tmp_path)[:2]}
    for runner in runners:  # every process knows what cannot be done
        assert hopeless < set(runner.failed)
        assert set(runner.failed.values()) == {"no memory"}


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    """A process was lost: the next run, of any number of processes, goes on."""
    RANK.number = 0
    figure = steps(tmp_path)[-1]
    for step in (figure.needs[0].needs[0], *figure.needs[:3]):
        step.part.finish(step.work(None, step.part.begin(), [], lambda *a: None))
    DONE.clear()
    together(tmp_path)
    assert sorted(n for n, _ in DONE if n < "b") == [f"a drawing {i}" for i in range(3, 8)] + [
        "a figure"
    ]
    DONE.clear()
    together(tmp_path, 1)
    assert {name for name, _ in DONE} == {"bad"}  # it might be possible now


def test_jobs_and_a_team_are_too_much(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave jobs out"):
        Runner(None, tmp_path, jobs=2, team=Team(dist.HashStore(), 0, 2))
