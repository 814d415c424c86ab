"""Completion scripts know every verb and option; the module runs as the command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sketchknitter.cli import VERBS, main
from sketchknitter.cli.completion import OPTIONS


def test_every_verb_is_known() -> None:
    assert set(VERBS) - {"completion"} == set(OPTIONS)


def test_a_script_for_bash(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    for word in (*OPTIONS, "--pen-width", "--guidance", "prepare", "--log-dir"):
        assert word in script


def test_other_shells(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "cmd"])
    assert "completion bash|zsh|fish|tcsh" in capsys.readouterr().err
    main(["completion", "--help"])
    assert "examples:" in capsys.readouterr().out


def test_python_m() -> None:
    words = [sys.executable, "-m", "sketchknitter", "--version"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.startswith("sketchknitter 0.")
