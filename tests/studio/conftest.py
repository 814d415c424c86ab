"""The studio with a small model of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from serve_tiny import quick
from studio_talk import events, wait_for_model

pytest.importorskip("fastapi", reason="the extra studio is not installed")
pytest.importorskip("httpx2", reason="Starlette's test client needs httpx2")

from starlette.testclient import TestClient

from sketchknitter.studio.app import create_app
from sketchknitter.studio.worker import Worker


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """A browser's place: talks to a studio on 127.0.0.1."""
    app = create_app(Worker(quick))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        wait_for_model(client)
        yield client


@pytest.fixture(name="ask")
def _ask(client: TestClient) -> Any:
    """``ask("complete", strokes=…)``: the events of the answer, which has to be a stream."""

    def ask(verb: str, **message: Any) -> list[tuple[str, dict[str, Any]]]:
        answer = client.post(f"/api/v1/{verb}", json=message)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        return events(answer.text)

    return ask
