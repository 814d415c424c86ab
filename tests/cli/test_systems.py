"""``train --system`` and ``sample --model-path`` of other systems, as a person types them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sketchknitter.cli import main, systems
from sketchknitter.data.prepare import prepare
from sketchknitter.errors import UserError
from sketchknitter.files import read_tensors
from sketchknitter.io import read
from sketchknitter.io.npz_write import write_splits
from sketchknitter.sketch import Sketch

TINY = ["net.hidden=16", "net.latent=8", "net.mixtures=3", "net.encoder_hidden=8"]
SMALL = ["--option", *TINY, "net.max_rows=16", "--batch-size", "8"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("drawings")
    splits = {
        split: [Sketch([rng.normal(0, 40, (8, 2)).round()], "arc") for _ in range(count)]
        for split, count in (("train", 16), ("valid", 4))
    }
    write_splits(splits, folder / "toys.npz")
    prepare([folder / "toys.npz"], folder / "set", processes=1, progress=False)
    return folder / "set"


def train(data: Path, folder: Path, *more: str) -> None:
    words = ["--system", "sketchrnn", "--data-dir", str(data), "--log-dir", str(folder)]
    main(["train", *words, *SMALL, *more])


def test_train_and_draw(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "r"
    train(data, folder, "--iterations", "3")
    said = capsys.readouterr().out
    assert "finished 3 updates" in said
    assert f"sample --model-path {folder}" in said
    main(["sample", "--model-path", str(folder), "-n", "3", "-o", str(tmp_path / "r.npz")])
    assert len(list(read(tmp_path / "r.npz"))) == 3
    again = ["--option", "temperature=0.0", "-o", str(tmp_path / "cold.npz")]
    main(["sample", "arc", "--model-path", str(folder), "-n", "2", *again])
    a, b = read(tmp_path / "cold.npz")
    assert a.label == "arc"
    assert a.num_points > 0
    assert b.num_points > 0
    with pytest.raises(SystemExit):
        main(["sample", "--model-path", str(folder), "--steps", "3", "-o", str(tmp_path / "x.svg")])
    assert "no setting 'steps'" in capsys.readouterr().err
    warm = ["--option", "temperature=abc", "-o", str(tmp_path / "x.svg")]
    with pytest.raises(SystemExit) as refused:
        main(["sample", "--model-path", str(folder), *warm])
    assert refused.value.code == 2
    assert "error: temperature = 'abc': a number is expected" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train(data, folder, "--iterations", "3")
    assert "--resume goes on" in capsys.readouterr().err


def test_ctrl_c_saves_and_resume_goes_on_with_the_same_options(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sketchknitter.cli", "train"]
    words = ["--system", "sketchrnn", "--data-dir", str(data), "--log-dir", str(tmp_path / "r")]
    process = subprocess.Popen(
        [*command, *words, *SMALL, "--iterations", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    log = tmp_path / "r" / "log.jsonl"
    for _ in range(600):
        if log.exists() and log.stat().st_size:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "train --resume --log-dir" in out
    state = read_tensors(tmp_path / "r" / "state.safetensors")[1]
    assert state["iteration"] >= 25
    done = state["iteration"] + 2
    main(["train", "--resume", "--log-dir", str(tmp_path / "r"), "--iterations", str(done)])
    assert read_tensors(tmp_path / "r" / "state.safetensors")[1]["iteration"] == done


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--system", "sketchrn", "--data-dir", "d"], "no system 'sketchrn'"),
        (["--system", "sketchrnn"], "which drawings"),
        (["--system", "sketchrnn", "--data-dir", "d", "--option", "hidden"], "NAME=VALUE"),
        (["--system", "sketchrnn", "--data-dir", "d", "--option", "nett.a=1"], "mean 'net'"),
        (["--system", "sketchrnn", "--data-dir", "d", "--iterations", "-1"], "not negative"),
        (
            ["--system", "sketchrnn", "--data-dir", "d", "--iterations", "1", "--seconds", "2"],
            "not both",
        ),
    ],
)
def test_mistakes_are_named(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["train", *words, "--log-dir", str(tmp_path / "r")])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_options_are_values_as_in_toml() -> None:
    found = systems.pairs(("a=1", "b.c=true", "b.d=word", "e=[1, 2]"))
    assert found == {"a": 1, "b": {"c": True, "d": "word"}, "e": [1, 2]}
    with pytest.raises(UserError, match="already has a value"):
        systems.pairs(("a=1", "a.b=2"))
