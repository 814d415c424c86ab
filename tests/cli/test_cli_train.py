"""The train command: kill -9 and resume, signals, refusals, fine-tuning."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sketchknitter.cli import main, train
from sketchknitter.cli.process import commit
from sketchknitter.errors import UserError
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint

TINY = shlex.split(
    "--widths 8 16 --num-res-blocks 1 --attention-levels 1 --num-heads 2 --diffusion-steps 40"
    " --points 24 --batch-size 8 --log-interval 1 --threads 1 --device cpu"
)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory, write_archives: Callable[..., Path]) -> Path:
    return write_archives(tmp_path_factory.mktemp("drawings"))


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def hashes(text: str) -> str:
    """What the command says of weights and state."""
    found = re.search(r"weights sha256 \w{64}, state \w{64}", text)
    assert found, text
    return found[0]


def iterations(folder: Path) -> list[int]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [r["iteration"] for r in map(json.loads, lines) if "loss" in r]


def test_killed_and_resumed_equals_straight(
    drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data-dir", str(drawings), *TINY, "--iterations", "60", "--save-interval", "30"]
    words += ["--ema-rate", "0.9,0.99", "--dropout", "0.1"]
    main(["train", *words, "--log-dir", str(tmp_path / "straight")])
    straight = hashes(capsys.readouterr().out)
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "sketchknitter.cli", "train", *words, "--log-dir", str(killed)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (killed / "state.safetensors").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 30 <= iterations(killed)[-1] < 60
    main(["train", "--resume", "--log-dir", str(killed), "--threads", "1"])
    said = capsys.readouterr().out
    assert "resuming after update 30" in said
    assert hashes(said) == straight
    assert iterations(killed) == list(range(1, 61))


def test_stopping_and_resuming_equals_straight(
    drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data-dir", str(drawings), *TINY, "--iterations", "8", "--warmup", "2"]
    main(["train", *words, "--log-dir", str(tmp_path / "straight")])
    straight = hashes(capsys.readouterr().out)
    main(["train", *words, "--log-dir", str(tmp_path / "x"), "--stop-at", "3"])
    said = capsys.readouterr().out
    assert "paused at update 3" in said
    assert hashes(said) != straight
    state = tmp_path / "x" / "state.safetensors"
    with pytest.raises(SystemExit) as ended:
        main(["train", *words, "--log-dir", str(tmp_path / "x")])
    assert ended.value.code == 2
    refusal = capsys.readouterr().err
    assert "--resume" in refusal
    assert "--overwrite" in refusal
    # from another folder's state, by the original option
    main(["train", *words, "--log_dir", str(tmp_path / "y"), "--resume_checkpoint", str(state)])
    assert hashes(capsys.readouterr().out) == straight
    main(["train", "--resume", "True", "--log-dir", str(tmp_path / "x")])
    assert hashes(capsys.readouterr().out) == straight
    main(["train", "--resume", "--log-dir", str(tmp_path / "x")])
    assert "nothing left to do" in capsys.readouterr().out
    main(["train", "--resume", "--log-dir", str(tmp_path / "x"), "--iterations", "9"])
    assert "iterations 8 → 9" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends(
    drawings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
) -> None:
    folder = tmp_path / "run"

    def interrupt() -> None:
        while not (folder / "log.jsonl").exists():  # training has begun
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        main(["train", "--data-dir", str(drawings), *TINY, "--log-dir", str(folder)])
    thread.join()
    assert ended.value.code == status
    assert signal.getsignal(number) is before
    done = iterations(folder)[-1]
    said = capsys.readouterr().out
    assert f"paused at update {done}" in said
    assert f"sketchknitter train --resume --log-dir {folder}" in said
    assert Checkpoint.load(folder / "model.safetensors").record["updates"] == done
    more = str(done + 2)
    main(["train", "--resume", "--log-dir", str(folder), "--stop-at", more])
    assert iterations(folder) == list(range(1, done + 3))


def test_fine_tuning_keeps_the_network_and_takes_new_classes(
    drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data-dir", str(drawings), *TINY, "--category", "cat", "--iterations", "2"]
    main(["train", *words, "--log-dir", str(tmp_path / "first"), "--overwrite"])
    first = Checkpoint.load(tmp_path / "first" / "model.safetensors")
    assert first.config.classes == ("cat",)
    assert first.record["command"].startswith("sketchknitter train --data-dir")
    assert first.record["data_name"] == drawings.name
    tune = [
        "--data-dir",
        str(drawings),
        "--model_path",
        str(tmp_path / "first"),
        "--iterations",
        "1",
    ]
    tune += ["--batch-size", "8"]
    main(["train", *tune, "--log-dir", str(tmp_path / "second")])
    second = Checkpoint.load(tmp_path / "second" / "model.safetensors")
    assert second.config.classes == ("cat", "dog")
    assert second.config.network == first.config.network
    assert second.config.codec.scale == first.config.codec.scale
    with pytest.raises(UserError, match=r"--widths \(9, 9\) contradicts"):
        train.run([*tune, "--log-dir", str(tmp_path / "third"), "--widths", "9", "9"])
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which drawings"),
        (["--data-dir", "nowhere"], "nowhere"),
        (["--data-dir", "DRAWINGS", "--category", "cot"], "did you mean 'cat'"),
        (["--data-dir", "DRAWINGS", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["--data-dir", "DRAWINGS", "--lr", "-1"], "--lr must be more than 0"),
        (["--data-dir", "DRAWINGS", "--mirror", "2"], "--mirror must lie in 0 … 1, not 2"),
        (["--data-dir", "DRAWINGS", "--threads", "-1"], "--threads must be 0"),
        (["--data-dir", "DRAWINGS", "--overwrite", "--resume"], "give one of them"),
        (["--data-dir", "DRAWINGS", "--device", "quantum"], "--device quantum"),
        (["--data-dir", "DRAWINGS", "--batch-size", "8", "--save-interval", "0"], "at least 1"),
        (["--data-dir", "DRAWINGS", "--batch-size", "8", "--ema-rate", "2"], "--ema-rate"),
        (["--data-dir", "DRAWINGS", "--points", "1"], "no training drawings"),
        (["--data-dir", "DRAWINGS", "--representation", "leaky", "--leak", "2"], "leak must lie"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(
    drawings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["train", *(str(drawings) if w == "DRAWINGS" else w for w in words)])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert message in lines[-1]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_commit_is_asked_for_without_writing_to_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git that is killed while it writes leaves a lock behind."""
    here = str(tmp_path / "src/package/cli/process.py")
    monkeypatch.setattr("sketchknitter.cli.process.__file__", here)
    assert commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a").write_text("one")
    for words in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *words], check=True)
    index = tmp_path / ".git" / "index"
    os.utime(tmp_path / "a", (1, 1))  # git would note that it is the same all the same
    before = index.read_bytes()
    assert re.fullmatch(r"[0-9a-f]{40}", commit() or "")
    (tmp_path / "a").write_text("two")
    assert (commit() or "").endswith("-dirty")
    assert index.read_bytes() == before


def test_fewer_drawings_than_a_batch_shrink_it_and_say_so(
    drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data-dir", str(drawings), *TINY, "--category", "Cat", "--batch-size", "64"]
    main(["train", *words, "--iterations", "1", "--log-dir", str(tmp_path)])
    assert "20 training drawings fill no batch of 64; batches of 20" in capsys.readouterr().err
    made = Checkpoint.load(tmp_path / "model.safetensors")
    assert made.record["batch_size"] == 20
    assert made.config.classes == ("cat",)


@pytest.mark.parametrize("words", [["--stage", "nope"], ["--stage=nope"], ["--stage"]])
def test_a_stage_that_is_none_gets_all_their_names(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", *words])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: no stage ")
    assert "distill, match, refine, recognizability, judge, guide, outlook" in said
