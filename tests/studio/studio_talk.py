"""What the tests of the studio say and understand."""

from __future__ import annotations

import json
import time
from typing import Any

WAVE = [[[10.0 * i, 30.0 * (i % 3)] for i in range(12)], [[0.0, 60.0], [80.0, 90.0], [90.0, 40.0]]]


def wait_for_model(client: Any) -> None:
    for _ in range(300):
        if client.get("/api/v1/model").json()["ready"]:
            return
        time.sleep(0.05)
    raise AssertionError("the model was not loaded within 15 s")


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events as (name, data)."""
    out = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            out.append((lines["event"], json.loads(lines["data"])))
    return out
