"""The fuzzer on a small fixed set of inputs; `make fuzz` has the large one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "fuzz.py"

pytestmark = pytest.mark.timeout(280)


def fuzz(keep: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(TOOL), "--keep", str(keep), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_no_reader_does_worse_than_refuse(tmp_path: Path) -> None:
    status, said = fuzz(tmp_path / "keep", "-n", "540", "--seed", "7")
    assert status == 0, said
    assert "540 inputs, seed 7: 0 went wrong" in said
    assert not (tmp_path / "keep").exists()


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("exception", "exception: OverflowError"),
        ("death", "death"),
        ("memory", "exception: MemoryError"),
    ],
)
def test_the_fuzzer_finds_a_planted_fault(tmp_path: Path, fault: str, what: str) -> None:
    kind = f"planted {fault}"
    status, said = fuzz(tmp_path / "keep", "-n", "1", "--kinds", kind)
    assert status == 1
    assert f"1 × {kind}: {what}" in said
    assert [p.read_bytes() for p in (tmp_path / "keep").iterdir()] == [b"x"]
