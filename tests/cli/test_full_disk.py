"""A disk that fills while a command writes: one line, exit status 2, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import Sketch, io
from sketchknitter.data.prepare import prepare
from sketchknitter.io.npz_write import write_splits
from tiny_model import tiny

resource = pytest.importorskip("resource")
ROOM = 1024  # bytes that a file may have; the system then answers as a full disk does


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "cat", "-n", "9", "--steps", "2", "-o", "out.svg"),
        ("sample", "cat", "-n", "9", "--steps", "2", "-o", "out.npz"),
        ("complete", "in.svg", "-n", "9", "--steps", "2", "-o", "out.svg"),
        ("heal", "in.svg", "-o", "out.png"),
        ("data", "prepare", "many.ndjson", "-o", "out"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_full_disk_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    wave = np.column_stack([np.arange(30.0) * 6, 30 * np.sin(np.arange(30))])
    io.write([Sketch([wave], "cat")], tmp_path / "in.svg")
    many = [Sketch([rng.integers(0, 255, (40, 2))], "cat") for _ in range(60)]
    io.write(many, tmp_path / "many.ndjson")
    refused(tmp_path, words)
    assert {p.name for p in tmp_path.iterdir()} == {"in.svg", "many.ndjson"}


def refused(folder: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sketchknitter", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (last,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "no room left on the disk" in last
    assert "Traceback" not in done.stderr


TABLE = """
[measure]
drawings = 4
seeds = 1
geometry_repeats = 0
[models.given]
kind = "pretrained"
source = "model/model.safetensors"
[[rows]]
name = "only"
model = "given"
settings = { steps = 2, guidance = 1.0 }
"""
SMALL = ("--widths", "8", "16", "--num-res-blocks", "1", "--attention-levels", "1", "--points",
         "24", "--batch-size", "8", "--iterations", "2", "--device", "cpu")  # fmt: skip
CONDITION = ("--levels", "30", "--masks", "", "--cuts", "", "--seeds", "1", "--per-class", "1")


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (("train", "--data-dir", "set", "--log-dir", "out", *SMALL), {"options.toml"}),
        (("export", "out.onnx", "--model-path", "model"), set()),
        (("evaluate", "set:valid", "--against", "set", "--geometry-repeats", "0",
          "--no-copy-check", "-o", "out.html"), set()),
        (("evaluate-condition", *CONDITION, "--data-dir", "set", "--model-path", "model",
          "-o", "out"), set()),
        (("table", "--preset", "t.toml", "--data-dir", "set", "--jobs", "1", "-o", "out"), set()),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)  # fmt: skip
def test_a_full_disk_leaves_nothing_half_done(
    tmp_path: Path, words: tuple[str, ...], made: set[str]
) -> None:
    if words[0] == "export":
        pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    cats = [Sketch([rng.normal(0, 12, (9, 2)).cumsum(axis=0)], "cat") for _ in range(40)]
    write_splits({"train": cats[:20], "valid": cats[20:30], "test": cats[30:]}, tmp_path / "c.npz")
    prepare([tmp_path / "c.npz"], tmp_path / "set", processes=1, progress=False)
    tiny(classes=("cat",)).save_pretrained(tmp_path / "model")
    (tmp_path / "t.toml").write_text(TABLE)
    before = set(tmp_path.rglob("*"))
    refused(tmp_path, words)
    new = [p for p in tmp_path.rglob("*") if p not in before and p.is_file()]
    assert {p.name for p in new if "tensorboard" not in p.parts} == made
