"""The command that opens the studio: what it refuses before it starts."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from sketchknitter.cli import main


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["studio", "--no-browser", *argv])
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_other_machines_need_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--token" in refused(capsys, "--host", "0.0.0.0", "--port", "0")


def test_a_weak_or_strange_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--token" in refused(capsys, "--token", "abc")
    assert "--token" in refused(capsys, "--token", "with spaces and ; signs")


def test_impossible_ports(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--port" in refused(capsys, "--port", "70000")


def test_the_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "uvicorn" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert "sketchknitter[studio]" in refused(capsys)
