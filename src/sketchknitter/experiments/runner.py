"""Runs the steps of an experiment: whatever the cache does not hold yet, on one core or on many."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import torch

from sketchknitter.errors import UserError
from sketchknitter.experiments.cache import held
from sketchknitter.experiments.steps import Step, Work, in_order
from sketchknitter.experiments.team import Team
from sketchknitter.progress import Progress

BEAT = 0.5  # seconds between two looks at what the processes report


class Meter(Protocol):
    """Told what goes on, in estimated seconds of work."""

    def plan(self, total: float, finished: float) -> None: ...

    def start(self, what: str) -> None: ...

    def tick(self, work: float) -> None: ...


class Silent:
    """A meter that says nothing."""

    def plan(self, total: float, finished: float) -> None:
        pass

    def start(self, what: str) -> None:
        pass

    def tick(self, work: float) -> None:
        pass


class Runner:
    """Does steps and remembers them.

    Args:
        context: what they share; another process gets a copy.
        folder: of the cache; held while steps run, so that no two runs meet there.
        meter: of progress.
        jobs: steps done at the same time, each in a process with one thread; 1 does all here.
        team: the processes that share the steps; each has a runner of the same steps.

    Raises:
        UserError: jobs below 1, or more beside a team.
    """

    def __init__(
        self,
        context: Any,
        folder: Path,
        meter: Meter | None = None,
        jobs: int = 1,
        team: Team | None = None,
    ) -> None:
        if jobs < 1:
            raise UserError(f"jobs must be at least 1, not {jobs}")
        if team is not None and jobs > 1:
            raise UserError("torchrun shares out the work; leave jobs out")
        self.context, self.folder, self.jobs, self.team = context, folder, jobs, team
        self.meter = meter or Silent()
        self.failed: dict[Path, str] = {}

    def run(self, steps: Iterable[Step]) -> dict[Path, str]:
        """Do what is left to do.

        Returns:
            Folders of optional steps that could not be done, and of all that need them, with the
            reason.

        Raises:
            UserError: a step cannot be done, another run works in the folder, or a process died.
        """
        todo = in_order(steps)
        with self._held():
            costs = _costs(todo)
            self.meter.plan(
                sum(costs.values()), sum(costs[s.part.folder] for s in todo if s.part.done)
            )
            left = [s for s in todo if not s.part.done]
            if self.team is not None:
                self._together(self.team, left, costs)
            elif self.jobs == 1 or len(left) < 2:
                for step in left:
                    if self._possible(step):
                        self.meter.start(step.title)
                        self._finish(step, lambda s=step: self._here(s, costs))
            else:
                self._spread(left, costs)
        return self.failed

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The folder, held by the first process of a team for all of them."""
        if self.team is None:
            with held(self.folder):
                yield
            return
        with ExitStack() as stack:
            with self.team.first("holding"):
                if not self.team.rank:
                    stack.enter_context(held(self.folder))
            yield
            self.team.part_company()

    def _possible(self, step: Step) -> bool:
        """Whether nothing that a step needs has failed."""
        for need in step.needs:
            if reason := self.failed.get(need.part.folder):
                self.failed[step.part.folder] = reason
                return False
        return True

    def _finish(self, step: Step, outcome: Any) -> None:
        """Remember what a step returned, or that it cannot be done."""
        try:
            step.part.finish(outcome())
        except UserError as error:
            if not step.optional:
                raise UserError(f"{step.title}: {error}") from None
            self.failed[step.part.folder] = str(error)

    def _here(self, step: Step, costs: dict[Path, float]) -> dict[str, Any]:
        progress = _Share(self.meter, costs[step.part.folder])
        inputs = [need.part.folder for need in step.needs]
        found = _timed(step.work, self.context, step.part.begin(), inputs, progress)
        progress("", 1, 1)
        return found

    # -- with others -----------------------------------------------------------------------------
    def _together(self, team: Team, left: list[Step], costs: dict[Path, float]) -> None:
        """Of the steps whose needs are done, one after the other that no process has taken."""
        waiting = list(left)
        while waiting:
            ready = (s for s in waiting if all(self._over(team, need) for need in s.needs))
            step = next((s for s in ready if team.claim(s.part)), None)
            if step is None:
                waiting = [s for s in waiting if not team.claimed(s.part)]
                if waiting:
                    time.sleep(BEAT)
                continue
            waiting.remove(step)
            if self._possible(step):
                self.meter.start(step.title)
                self._finish(step, lambda s=step: self._here(s, costs))
            team.tell(step.part, self.failed.get(step.part.folder, ""))
        for step in left:
            self._over(team, step, wait=True)

    def _over(self, team: Team, step: Step, wait: bool = False) -> bool:
        """Whether a step is done or cannot be, by whichever process."""
        if not wait and not team.answered(step.part):
            return step.part.done
        if fault := team.heard(step.part):
            self.failed[step.part.folder] = fault
        return True

    # -- many at once ----------------------------------------------------------------------------
    def _spread(self, left: list[Step], costs: dict[Path, float]) -> None:
        """Steps whose needs are done, as many at once as there are processes."""
        processes = get_context("spawn")
        stop, reports = processes.Event(), processes.SimpleQueue()
        blob = pickle.dumps(self.context)
        waiting = list(left)
        running: dict[Future[dict[str, Any]], Step] = {}
        shares: dict[str, _Share] = {}
        pool = ProcessPoolExecutor(
            self.jobs, mp_context=processes, initializer=_begin, initargs=(blob, stop, reports)
        )
        try:
            while waiting or running:
                self._submit(pool, waiting, running, shares, costs)
                if not running:
                    continue
                over, _ = wait(running, timeout=BEAT, return_when=FIRST_COMPLETED)
                while not reports.empty():
                    name, done, total = reports.get()
                    shares[name]("", done, total)
                for future in over:
                    step = running.pop(future)
                    self._finish(step, future.result)
                    shares[step.part.folder.name]("", 1, 1)
        except BrokenProcessPool:
            raise UserError(
                "a process died (out of memory?); run again to go on, with fewer jobs"
            ) from None
        finally:
            stop.set()  # whatever still runs ends at its next report
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self,
        pool: ProcessPoolExecutor,
        waiting: list[Step],
        running: dict[Future[dict[str, Any]], Step],
        shares: dict[str, _Share],
        costs: dict[Path, float],
    ) -> None:
        for step in list(waiting):
            if len(running) >= self.jobs:
                return
            if not self._possible(step):
                waiting.remove(step)
            elif all(need.part.done for need in step.needs):
                waiting.remove(step)
                self.meter.start(step.title)
                shares[step.part.folder.name] = _Share(self.meter, costs[step.part.folder])
                inputs = [need.part.folder for need in step.needs]
                running[pool.submit(_elsewhere, step.work, step.part.begin(), inputs)] = step


class _Share:
    """Turns (done, total) of one step into ticks of its estimated cost."""

    def __init__(self, meter: Meter, cost: float) -> None:
        self.meter, self.cost, self.ticked = meter, cost, 0.0

    def __call__(self, what: str, done: float, total: float) -> None:
        now = self.cost * min(1.0, done / total if total else 1.0)
        if now > self.ticked:
            self.meter.tick(now - self.ticked)
            self.ticked = now


def _costs(steps: Sequence[Step]) -> dict[Path, float]:
    """Seconds of each step: measured, or those of its family, or its own guess."""
    known: dict[str, list[float]] = {}
    for step in steps:
        if step.part.done and step.family:
            known.setdefault(step.family, []).append(step.part.record.get("step_seconds", 0.0))
    return {
        step.part.folder: sum(known[step.family]) / len(known[step.family]) + 0.01
        if known.get(step.family)
        else step.seconds
        for step in steps
    }


def _timed(
    work: Work, context: Any, folder: Path, inputs: Sequence[Path], progress: Progress
) -> dict[str, Any]:
    start = time.perf_counter()
    found = work(context, folder, inputs, progress)
    return {**found, "step_seconds": round(time.perf_counter() - start, 3)}


# -- in the other processes ------------------------------------------------------------------------
class _Stopped(UserError):
    """The run is over; nobody reads this."""


_context: Any
_stop: Any
_reports: Any
_parent: int


def _begin(blob: bytes, stop: Any, reports: Any) -> None:
    global _context, _stop, _reports, _parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    torch.set_num_threads(1)
    _context, _stop, _reports, _parent = pickle.loads(blob), stop, reports, os.getppid()


def _elsewhere(work: Work, folder: Path, inputs: Sequence[Path]) -> dict[str, Any]:
    said = 0.0

    def progress(what: str, done: float, total: float) -> None:
        nonlocal said
        if os.getppid() != _parent:  # killed: nobody may write to the cache without it
            os._exit(1)
        if _stop.is_set():
            raise _Stopped("stopped")
        if time.monotonic() > said + BEAT:
            said = time.monotonic()
            _reports.put((folder.name, done, total))

    return _timed(work, _context, folder, inputs, progress)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, for sums that come out alike however many there are otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
