"""The recipe of the shipped weights: its commands are ones we have, and it goes on where it was."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import tyro

from sketchknitter.cli import stage as stages
from sketchknitter.cli import student, train

TOOLS = Path(__file__).parents[1] / "tools"
STAGES = tomllib.loads((TOOLS / "weights.toml").read_text(encoding="utf-8"))["stage"]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_weights", TOOLS / "make_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def places(folder: Path) -> dict[str, str]:
    names = {s["name"]: str(folder / s["name"]) for s in STAGES}
    return names | {"data": "D", "precision": "bfloat16", "out": str(folder / "out")}


def test_options_of_the_trainings_are_understood(tool: ModuleType, tmp_path: Path) -> None:
    for stage in STAGES:
        words = tool.words_of(stage, places(tmp_path), 1)[3:]
        if words[0] != "train":
            continue
        if "--stage" not in words:
            assert train.parse(words[1:]).optim.iterations > 1000, stage["name"]
        elif (kind := words[words.index("--stage") + 1]) in student.STAGES:
            assert student.parse(kind, words[1:]).how.steps in (4, 8), stage["name"]
        elif "outlook" in words:
            options = tyro.cli(stages.RecognizerOptions, args=words[1:])
            assert options.log_dir == str(Path(options.out).parent)
        else:
            added = stages.Refine if "refine" in words else stages.Stage
            options = tyro.cli(added, args=words[1:], config=(tyro.conf.OmitArgPrefixes,))
            assert options.what.stage == kind


def test_a_stopped_training_goes_on(tool: ModuleType, tmp_path: Path) -> None:
    stage = next(s for s in STAGES if s.get("training"))
    assert "--resume" not in tool.words_of(stage, places(tmp_path), 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "state.safetensors").touch()
    words = tool.words_of(stage, places(tmp_path), 2)
    assert words[-1] == "--resume"
    assert "--nproc-per-node=2" in words


def test_a_stopped_outlook_goes_on_in_one_process(tool: ModuleType, tmp_path: Path) -> None:
    stage = next(s for s in STAGES if s["name"] == "outlook")
    assert "--resume" not in tool.words_of(stage, places(tmp_path), 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "state.safetensors").touch()
    words = tool.words_of(stage, places(tmp_path), 2)
    assert words[:3] == [sys.executable, "-m", "sketchknitter"]
    assert words[-1] == "--resume"
    assert tyro.cli(stages.RecognizerOptions, args=words[4:]).resume


def test_the_first_stage_begins_where_nothing_is_yet(
    tmp_path: Path, write_archives: Callable[..., Path]
) -> None:
    (tmp_path / "data" / "quickdraw").mkdir(parents=True)
    write_archives(tmp_path / "data" / "quickdraw", (4, 4, 4), ["cat"])
    command = [sys.executable, str(TOOLS / "make_weights.py"), "--until", "well-known"]
    command += ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "new" / "runs")]
    for said in ("data prepare", "well-known: done before"):
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said in shown
        assert (tmp_path / "new" / "runs" / "well-known" / "prepared.json").exists()


def test_what_is_done_is_kept(tmp_path: Path) -> None:
    (tmp_path / "data" / "quickdraw").mkdir(parents=True)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "done").touch()
    command = [sys.executable, str(TOOLS / "make_weights.py"), "--dry-run"]
    command += ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "first: done before" in shown
    assert [line.split(":")[0] for line in shown.splitlines() if not line.startswith(" ")] == [
        s["name"] for s in STAGES
    ]
    command[command.index("--data") + 1] = str(tmp_path / "nowhere")
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "has no folder quickdraw/" in refused.stderr


def test_every_stage_is_done_at_the_end(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that make no folder but add to a file; what comes out is the last student's."""
    (tmp_path / "data" / "quickdraw").mkdir(parents=True)
    runs, ran = tmp_path / "runs", []

    def run(words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        ran.append(words)
        if "match" in words:
            folder = Path(words[words.index("--log-dir") + 1])
            folder.mkdir()
            (folder / "model.safetensors").write_text("matched")
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(tool.subprocess, "run", run)
    monkeypatch.setattr(
        sys, "argv", ["make", "--data", str(tmp_path / "data"), "--runs", str(runs)]
    )
    assert tool.main() == 0
    assert len(ran) == len(STAGES)
    assert all((runs / stage["name"] / "done").exists() for stage in STAGES)
    assert (runs / "model.safetensors").read_text() == "matched"
    for stage in ("refine", "recognizability"):
        words = next(words for words in ran if stage in words)
        assert words[words.index("--model-path") + 1] == str((runs / "matched").resolve())
    assert tool.main() == 0
    assert len(ran) == len(STAGES)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's end")
def test_a_stage_ends_with_the_recipe_that_is_killed(tmp_path: Path) -> None:
    """Else the next `make weights` would find its training still at work, unseen."""
    mark = tmp_path / "child"
    child = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(120)"
    script = (
        f"import subprocess, sys; sys.path.insert(0, {str(TOOLS)!r}); import make_weights as m;"
        f" subprocess.run([sys.executable, '-c', {child!r}], preexec_fn=m.end_with_parent)"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as recipe:
        pid = _soon(lambda: mark.exists() and mark.read_text())
        recipe.kill()
    assert pid
    assert _soon(lambda: not Path(f"/proc/{pid}").exists())


def _soon(what: Callable[[], object], seconds: float = 20) -> object:
    """What comes true in time, else the last that was not."""
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.05)
    return found
