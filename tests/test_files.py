"""Files are written whole or not at all, and what the dead leave is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sketchknitter import files
from sketchknitter.errors import UserError
from sketchknitter.files import PREFIX, SUFFIX, atomic, atomic_folder, sweep


@pytest.fixture(autouse=True)
def _every_sweep_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_swept", set())


def hidden(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def old(path: Path) -> Path:
    """Make a path look an hour old."""
    then = time.time() - 3600
    os.utime(path, (then, then))
    return path


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic(path) as f:
        f.write(b"one")
        assert not path.exists()
    with pytest.raises(TypeError), atomic(path) as f:
        f.write([b"two"])  # type: ignore[arg-type]
    assert path.read_bytes() == b"one"
    assert hidden(tmp_path) == []
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_very_long_name_and_a_folder_in_the_way(tmp_path: Path) -> None:
    with atomic(tmp_path / ("n" * 255)) as f:
        f.write(b"one")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="is a folder"), atomic(tmp_path / "folder"):
        pass
    with pytest.raises(UserError, match="cannot be written"), atomic(tmp_path / "none" / "a"):
        pass


def test_a_link_laid_in_its_way_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "00")  # as if it could be guessed
    (tmp_path / f"{PREFIX}00{SUFFIX}").symlink_to(victim)
    with pytest.raises(UserError, match="cannot be written"), atomic(tmp_path / "a") as f:
        f.write(b"theirs")
    assert victim.read_bytes() == b"mine"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from sketchknitter import Sketch, UserError;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "for name in sys.argv[1:]:\n"
        "    try: Sketch([[(i, i * i % 7) for i in range(500)]]).save(name)\n"
        "    except UserError as e: print(e)"
    )
    names = [f"a.{s}" for s in ("svg", "png", "gif", "npz", "ndjson")]
    out = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=tmp_path, capture_output=True, text=True
    )
    assert out.stderr == ""
    lines = out.stdout.splitlines()
    assert len(lines) == len(names)
    assert all(f"{n} cannot be written: no room" in x for n, x in zip(names, lines, strict=True))
    assert list(tmp_path.iterdir()) == []


# -- sweeping ------------------------------------------------------------------------------------
WRITER = """
import sys, time
from sketchknitter.files import atomic, atomic_folder
kind = atomic_folder if sys.argv[1] == "folder" else atomic
with kind(sys.argv[2]) as out:
    if sys.argv[1] == "folder":
        (out / "part").write_text("half")
    print("on its way", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_holds_is_not(
    tmp_path: Path, kind: str
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, str(tmp_path / "out")], stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"on its way\n"
        (name,) = hidden(tmp_path)
        old(tmp_path / name)
        sweep(tmp_path)
        assert hidden(tmp_path) == [name]
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    with atomic(tmp_path / "other"):  # the same folder again: once for each process
        pass
    assert hidden(tmp_path) == [name]
    files._swept.clear()
    with atomic(tmp_path / "other"):
        pass
    assert hidden(tmp_path) == []


def test_other_hidden_files_stay(tmp_path: Path) -> None:
    kept = [
        old(tmp_path / n)
        for n in (".profile", ".sketchknitter", f"{PREFIX}x")
        if not (tmp_path / n).write_text("")
    ]
    (tmp_path / f"{PREFIX}y{SUFFIX}").write_text("young")
    (tmp_path / f"{PREFIX}z{SUFFIX}").symlink_to(kept[0])
    before = hidden(tmp_path)
    sweep(tmp_path)
    assert hidden(tmp_path) == before


def test_a_kill_between_two_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "set"
    target.mkdir()
    (target / "data").write_text("precious")
    replace, calls = os.replace, []

    def killed(a: object, b: object) -> None:
        calls.append(a)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(a, b)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as folder:
        (folder / "data").write_text("new")
    monkeypatch.undo()
    monkeypatch.setattr(files, "_swept", set())
    monkeypatch.setattr(files, "_YOUNG", 0.0)
    assert not target.exists()
    sweep(tmp_path)
    assert (target / "data").read_text() == "precious"
    assert hidden(tmp_path) == []
