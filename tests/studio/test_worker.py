"""Turns, cancellation, faults: the network's thread with a model whose pace the tests decide."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from studio_talk import WAVE, events

from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch
from sketchknitter.studio import messages, worker
from sketchknitter.studio.app import create_app
from sketchknitter.studio.server import bound
from sketchknitter.studio.worker import Busy, Job, Worker


class Paced:
    """What the worker knows of a model; counts evaluations and stops at one until it is let on."""

    classes = ("cup",)

    def __init__(self) -> None:
        self.evaluations = 0
        self.hold_at: int | None = None
        self.held, self.go = threading.Event(), threading.Event()
        # with a student, which is what draws
        self.denoisers = [torch.nn.Identity(), torch.nn.Identity()]

    def endings(
        self, sketch: Sketch, n: int, groups: tuple[int, ...], **options: Any
    ) -> Iterator[list[Sketch]]:
        first = 0
        while first < n:
            for _ in range(4):
                self.denoisers[-1](torch.zeros(1))
                self.evaluations += 1
                if self.evaluations == self.hold_at:
                    self.held.set()
                    assert self.go.wait(10), "never let on"
            count = groups[0] if not first else n - first
            ends = [[[0.0, 0.0], [float(i), 9.0]] for i in range(first, first + count)]
            yield [Sketch([*sketch.strokes, end]) for end in ends]
            first += count


def complete(n: int = 1, **fields: Any) -> messages.Complete:
    strokes = [[tuple(p) for p in s] for s in WAVE]
    return messages.Complete(strokes=strokes, n=n, label="cup", frames=False, **fields)


async def text_of(job: Job) -> str:
    return b"".join([part async for part in job.stream()]).decode()


async def ready(studio: Worker) -> None:
    while not studio.ready and studio.fault is None:
        await asyncio.sleep(0.01)


def run(load: Callable[[], Any], work: Callable[[Worker], Any]) -> Any:
    """Run a coroutine with a worker that has its model."""

    async def session() -> Any:
        studio = Worker(load, threads=torch.get_num_threads())
        studio.start()
        try:
            await ready(studio)
            return await asyncio.wait_for(work(studio), 20)
        finally:
            studio.stop()

    return asyncio.run(session())


def last(text: str) -> tuple[str, dict[str, Any]]:
    return events(text)[-1]


def test_who_goes_away_frees_the_core_before_the_next_evaluation() -> None:
    paced = Paced()

    async def work(studio: Worker) -> None:
        paced.hold_at = paced.evaluations + 5
        job = studio.submit(complete(n=12), "a")
        reading: AsyncIterator[bytes] = job.stream()
        await anext(reading)  # queued
        await asyncio.to_thread(paced.held.wait, 10)
        await reading.aclose()  # type: ignore[attr-defined]
        paced.go.set()
        # another client's request is served at once: the first one is not gone on with
        done = last(await text_of(studio.submit(complete(), "b")))
        assert done[0] == "done"
        assert paced.evaluations == paced.hold_at + done[1]["evaluations"] == paced.hold_at + 4

    run(lambda: paced, work)


def test_a_closed_connection_frees_the_core() -> None:
    paced = Paced()
    studio = Worker(lambda: paced)  # type: ignore[arg-type, return-value]
    with served(studio) as port:
        paced.hold_at = paced.evaluations + 3
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        body = json.dumps({"strokes": WAVE, "n": 12})
        connection.request("POST", "/api/v1/complete", body)
        answer = connection.getresponse()
        assert answer.readline().startswith(b"event: queued")
        assert paced.held.wait(10)
        answer.close()
        connection.close()
        until(lambda: studio._current is not None and studio._current.reason == "gone")
        paced.go.set()
        until(lambda: studio.waiting == 0)
        assert paced.evaluations == paced.hold_at


def test_the_client_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "studio.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    with served(Worker(Paced)) as port:  # type: ignore[arg-type]
        exec(code.replace("8765", str(port)), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2  # endings
    assert json.loads(lines[0])[0] == [[0, 0], [50, 90], [100, 0]]


@contextmanager
def served(studio: Worker) -> Iterator[int]:
    """A studio behind a real server; its port."""
    with bound("127.0.0.1", 0) as sock:
        server = uvicorn.Server(uvicorn.Config(create_app(studio), log_level="error"))
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            until(lambda: studio.ready and server.started)
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def until(what: Callable[[], bool]) -> None:
    """Wait for something, 10 s at most."""
    for _ in range(1000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 10 s")


def test_a_newer_request_of_the_same_client_takes_the_place_of_the_older() -> None:
    paced = Paced()

    async def work(studio: Worker) -> None:
        paced.hold_at = paced.evaluations + 3
        first = studio.submit(complete(n=6), "a")
        reading = asyncio.create_task(text_of(first))
        await asyncio.to_thread(paced.held.wait, 10)
        second = studio.submit(complete(), "a")
        paced.go.set()
        assert last(await text_of(second))[0] == "done"
        name, data = last(await reading)
        assert (name, data["code"]) == ("error", "superseded")

    run(lambda: paced, work)


def test_requests_without_a_client_leave_each_other_alone() -> None:
    async def work(studio: Worker) -> None:
        jobs = [studio.submit(complete(), None) for _ in range(3)]
        ends = [last(text)[0] for text in await asyncio.gather(*map(text_of, jobs))]
        assert ends == ["done"] * 3

    run(Paced, work)


def test_everybody_has_a_first_ending_before_anybody_has_the_last() -> None:
    order: list[tuple[str, int]] = []

    async def listen(name: str, job: Job) -> None:
        async for part in job.stream():
            for event, data in events(part.decode()):
                if event == "drawn":
                    order.append((name, data["drawing"]["index"]))

    async def work(studio: Worker) -> None:
        jobs = {name: studio.submit(complete(n=6), name) for name in "abc"}
        await asyncio.gather(*(listen(name, job) for name, job in jobs.items()))

    run(Paced, work)
    firsts = [i for i, (_, index) in enumerate(order) if index == 0]
    lasts = [i for i, (_, index) in enumerate(order) if index == 5]
    assert len(firsts) == len(lasts) == 3
    assert max(firsts) < min(lasts)


def test_a_full_queue_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_WAITING", 2)
    paced = Paced()

    async def work(studio: Worker) -> None:
        paced.hold_at = paced.evaluations + 1
        studio.submit(complete(), "a")
        await asyncio.to_thread(paced.held.wait, 10)
        studio.submit(complete(), "b")
        with pytest.raises(Busy):
            studio.submit(complete(), "c")
        studio.submit(complete(), "b")  # takes the place of its own older one
        paced.go.set()

    run(lambda: paced, work)


def test_frames_are_spared_where_nobody_reads_them() -> None:
    async def work(studio: Worker) -> None:
        job = Job(complete(), "a", 0)
        for i in range(500):
            job.emit(messages.Frame([], i))
        job.emit(messages.Done(0.0, 1, 0))
        job.emit(None)
        told = events(await text_of(job))
        assert len(told) < 40
        assert told[-1][0] == "done"

    run(Paced, work)


def test_a_model_that_is_not_there_is_told_to_everybody() -> None:
    def load() -> Any:
        raise UserError("weights.safetensors: no such file")

    async def work(studio: Worker) -> None:
        name, data = last(await text_of(studio.submit(complete(), "a")))
        assert (name, data["code"]) == ("error", "unusable")
        assert "no such file" in data["message"]

    run(load, work)


def test_a_fault_of_ours_is_told_and_the_next_request_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Paced()

    async def work(studio: Worker) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(model, "endings", lambda *a, **k: 1 / 0)
            name, data = last(await text_of(studio.submit(complete(), "a")))
            assert (name, data["code"]) == ("error", "internal")
        assert last(await text_of(studio.submit(complete(), "a")))[0] == "done"

    run(lambda: model, work)


def test_the_end_of_the_server_is_told() -> None:
    paced = Paced()

    async def work(studio: Worker) -> None:
        paced.hold_at = paced.evaluations + 2
        job = studio.submit(complete(n=6), "a")
        reading = asyncio.create_task(text_of(job))
        await asyncio.to_thread(paced.held.wait, 10)
        stopping = asyncio.create_task(asyncio.to_thread(studio.stop))
        await asyncio.sleep(0.02)
        paced.go.set()
        await stopping
        assert last(await reading)[1]["code"] == "stopped"

    run(lambda: paced, work)
