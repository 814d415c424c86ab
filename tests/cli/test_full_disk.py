"""A disk that fills while a command writes: one line, exit status 2, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import Sketch, io

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
    done = subprocess.run(
        [sys.executable, "-m", "sketchknitter", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (last,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "no room left on the disk" in last
    assert "Traceback" not in done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"in.svg", "many.ndjson"}
