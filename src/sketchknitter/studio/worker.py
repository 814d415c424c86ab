"""One thread runs the network; everybody gets a turn; who goes away frees the core at once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch
from sketchknitter.studio import messages as say
from sketchknitter.studio.requests import Request, serve

if TYPE_CHECKING:
    from sketchknitter.editing.model import SketchKnitter

log = logging.getLogger(__name__)

MAX_WAITING = 64  # requests that are served or wait
MAX_PENDING = 24  # events not yet sent, above which frames are left out
HEARTBEAT = 10.0  # seconds without an event after which a comment is sent
LONGEST = 120.0  # seconds after which a request is given up


class Canceled(BaseException):
    """Raised between two evaluations of the network when nobody wants the answer anymore.

    Not an ``Exception``, so that nothing on the way out takes it for a failure.
    """


class Busy(Exception):
    """Too many requests wait already."""


class Job:
    """A request on its way, and the events of its answer.

    Args:
        client: who asks; a newer request of the same client cancels this one. None is nobody's.
    """

    def __init__(self, request: Request, client: str | None, number: int) -> None:
        self.request, self.client, self.number = request, client, number
        self.reason: str | None = None  # why it was canceled
        self.turns = 0
        self.evaluations = 0
        self.started = time.perf_counter()
        self.slices: Iterator[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[say.Event | None] = asyncio.Queue()
        self._pending = 0

    def cancel(self, reason: str) -> None:
        """Ask for an end; the network stops before its next evaluation."""
        self.reason = self.reason or reason

    def emit(self, event: say.Event | None) -> None:
        """Hand an event over, from the network's thread; None is the end of the answer."""
        if isinstance(event, say.Frame) and self._pending > MAX_PENDING:
            return  # somebody reads more slowly than we draw: a frame can be spared
        self._pending += 1
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody listens anymore
            self.cancel("gone")

    async def stream(self) -> AsyncIterator[bytes]:
        """The answer as server-sent events; the job is canceled when this ends."""
        try:
            while True:
                try:
                    event = await asyncio.wait_for(self._events.get(), HEARTBEAT)
                except TimeoutError:
                    if time.perf_counter() - self.started > LONGEST:
                        yield say.Error("too_long", "given up; ask for less at once").encode()
                        return
                    yield b": still here\n\n"
                    continue
                self._pending -= 1
                if event is None:
                    return
                yield event.encode()
        finally:
            self.cancel("gone")


class Worker:
    """The network's thread.

    Args:
        load: returns the model; runs on the thread, so that the page is served meanwhile.
        threads: of torch; 0 is torch's choice.
    """

    def __init__(self, load: Callable[[], SketchKnitter], threads: int = 0) -> None:
        self._load, self._threads = load, threads
        self._waiting: list[Job] = []
        self._current: Job | None = None
        self._numbers = count()
        self._change = threading.Condition()
        self._stopped = False
        self.model: SketchKnitter | None = None
        self.fault: str | None = None
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; requests on their way get an error."""
        with self._change:
            self._stopped = True
            jobs = [*self._waiting, *([self._current] if self._current else [])]
            for job in jobs:
                job.cancel("stopped")
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def waiting(self) -> int:
        """Requests that are served or wait."""
        return len(self._waiting) + (self._current is not None)

    @property
    def ready(self) -> bool:
        return self.model is not None

    def submit(self, request: Request, client: str | None) -> Job:
        """Put a request in the queue; an older one of the same client is canceled.

        Raises:
            Busy: too many wait.
        """
        job = Job(request, client, next(self._numbers))
        with self._change:
            for older in [*self._waiting, *([self._current] if self._current else [])]:
                if client is not None and older.client == client:
                    older.cancel("superseded")
            ahead = sum(j.reason is None for j in self._waiting) + (self._current is not None)
            if ahead >= MAX_WAITING:
                raise Busy(f"{ahead} requests wait already; try again in a moment")
            job.emit(say.Queued(ahead))
            self._waiting.append(job)
            self._change.notify_all()
        return job

    # -- on the thread ---------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            self._prepare()
        except UserError as error:
            self.fault = str(error)
        except Exception:  # the page stays, and says so; the log has the traceback
            log.exception("the model cannot be loaded")
            self.fault = "the model cannot be loaded; the server's log says why"
        while (job := self._next()) is not None:
            self._turn(job)

    def _prepare(self) -> None:
        import torch

        if self._threads:
            torch.set_num_threads(self._threads)
        model = self._load()
        for network in model.denoisers:
            network.register_forward_pre_hook(self._before_evaluation)
        list(serve(model, WARM_UP, lambda event: None))
        self.model = model

    def _before_evaluation(self, *unused: object) -> None:
        """Runs before each evaluation of the network, whatever asked for it."""
        job = self._current
        if job is not None:
            job.evaluations += 1
            if job.reason is not None:
                raise Canceled

    def _next(self) -> Job | None:
        """The job whose turn it is: who had the fewest turns, then who came first."""
        with self._change:
            self._current = None
            while not self._waiting and not self._stopped:
                self._change.wait()
            if not self._waiting:
                return None
            # those that nobody wants anymore cost nothing: they go first
            job = min(self._waiting, key=lambda j: (j.reason is None, j.turns, j.number))
            self._waiting.remove(job)
            self._current = job
            return job

    def _turn(self, job: Job) -> None:
        """One slice of a job, and what becomes of it."""
        try:
            if job.reason is not None:
                raise Canceled
            if self.model is None:
                raise UserError(self.fault or "the model is not there")
            if job.slices is None:
                job.slices = serve(self.model, job.request, job.emit)
            job.turns += 1
            next(job.slices)
        except StopIteration:
            seed = getattr(job.request, "seed", 0)
            took = time.perf_counter() - job.started
            job.emit(say.Done(round(took, 4), job.evaluations, seed))
            job.emit(None)
        except Canceled:
            if job.reason == "superseded":
                job.emit(say.Error("superseded", "a newer request of yours took its place"))
            elif job.reason == "stopped":
                job.emit(say.Error("stopped", "the server ends"))
            job.emit(None)
        except UserError as error:
            job.emit(say.Error("unusable", str(error)))
            job.emit(None)
        except Exception:  # one request's fault must not end the others'; the log has the traceback
            log.exception("a request of kind %s failed", type(job.request).__name__)
            job.emit(say.Error("internal", "something went wrong here; the server's log says what"))
            job.emit(None)
        else:
            with self._change:
                self._waiting.append(job)


def _warm_up() -> say.Complete:
    u = np.linspace(0, 6, 24)
    ring = Sketch([np.column_stack([100 * np.cos(u), 100 * np.sin(u)])])
    strokes = [[(float(x), float(y)) for x, y in s] for s in ring.strokes]
    return say.Complete(strokes=strokes)


WARM_UP = _warm_up()  # the first evaluations are slow; nobody should wait for them
