"""``sketchknitter data`` as a person meets it: what it prints, exit codes, errors of one line."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from sketchknitter import Sketch, io
from sketchknitter.cli import main


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        drawings = [
            Sketch([rng.integers(0, 256, (int(rng.integers(2, 9)), 2)) for _ in range(3)], name)
            for _ in range(40)
        ]
        io.write(drawings, tmp_path / f"{name}.ndjson")
    with open(tmp_path / "dog.ndjson", "ab") as f:
        f.write(b'{"word":"dog","drawing":[]}\n{"word":')
    return tmp_path


def failed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["data", *argv])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_prepare_then_info(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(files / "prepared")
    main(["data", "prepare", str(files / "cat.ndjson"), str(files / "dog.ndjson"), "-o", out])
    said = capsys.readouterr().out
    assert "2 classes" in said
    assert "82 = 80 kept + 2 rejected" in said
    main(["data", "info", out])
    said = capsys.readouterr().out
    assert "verified" in said
    assert "82 = 80 kept + 2 rejected" in said
    assert f"an empty drawing  (first: {files / 'dog.ndjson'}, line 41)" in said
    assert "pen lifts" in said
    assert "█" in said
    assert "max_points 96" in said


def test_one_class_is_one_class(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "prepare", str(files / "cat.ndjson"), "-o", str(files / "prepared")])
    assert "; 1 class; " in capsys.readouterr().out


@pytest.mark.parametrize(
    "bad",
    [{"counts": None}, {"filters": [1]}, {"sources": [{}]}, {"statistics": {}}, {"total": "x"}],
    ids=lambda bad: next(iter(bad)),
)
def test_a_damaged_report_is_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], bad: dict[str, object]
) -> None:
    out = files / "prepared"
    main(["data", "prepare", str(files / "cat.ndjson"), "-o", str(out)])
    path = out / "prepared.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | bad))
    assert "prepared.json: its report is damaged" in failed(capsys, "info", str(out))


def test_names_of_files_reach_the_terminal_harmless(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = files / "\x1b[31mred\u202egnp.svg"
    evil.write_text("no drawing")
    main(["data", "prepare", str(files), "-o", str(files / "prepared")])
    said = capsys.readouterr()
    error = failed(capsys, "info", str(evil))
    for text in (said.out, said.err, error):
        assert "\x1b[31m" not in text
        assert "\u202e" not in text
    assert r"\x1b[31mred\u202egnp.svg" in said.out
    assert r"\x1b[31mred\u202egnp.svg" in error


def test_info_of_files(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "info", str(files)])
    said = capsys.readouterr().out
    assert "82 = 80 kept + 2 rejected" in said
    assert "cat  40" in said
    assert "splits" not in said  # ndjson has none
    io.write([Sketch([[[0, 0], [9, 9]]], "owl")] * 3, files / "owl.npz")
    main(["data", "info", str(files / "owl.npz")])
    assert "owl  0 / 0 / 3" in capsys.readouterr().out


def test_options_reach_the_recipe(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(files / "prepared")
    options = ["--max_points", "10", "--split", "1", "0", "0", "--processes", "1"]
    main(["data", "prepare", str(files / "cat.ndjson"), "-o", out, *options])
    said = capsys.readouterr().out
    assert "longer than 10 rows" in said
    assert "0 valid, 0 test" in said


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, (f"touch {os.environ['EVIL_MARK']}",)


def test_a_malicious_archive_is_refused_and_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    monkeypatch.setenv("EVIL_MARK", str(mark))
    path = tmp_path / "evil.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("train.npy", "w") as f:
        header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
        npy.write_array_header_1_0(f, header)
        f.write(pickle.dumps(Evil()))
    error = failed(capsys, "info", str(path))
    assert str(path) in error
    assert "'train'" in error
    assert len(error.strip().splitlines()) == 1
    error = failed(capsys, "prepare", str(path), "-o", str(tmp_path / "out"))
    assert "'train'" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.npz"]
    assert not mark.exists()


def test_a_prepared_set_that_was_tampered_with_says_so(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = files / "prepared"
    main(["data", "prepare", str(files / "cat.ndjson"), "-o", str(out)])
    rows = np.load(out / "train.rows.npy", mmap_mode="r+")
    rows[0, 0] += 1
    rows.flush()
    main(["data", "info", str(out)])
    assert "NOT MATCH" in capsys.readouterr().out


def test_view_draws_what_was_asked_for(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = files / "prepared"
    main(["data", "prepare", str(files / "cat.ndjson"), str(files / "dog.ndjson"), "-o", str(out)])
    for source in (out, files / "dog.ndjson"):
        main(["data", "view", str(source), "-n", "5", "--class", "dog", "-o", str(files / "v.npz")])
        assert [s.label for s in io.read(files / "v.npz")] == ["dog"] * 5
    assert "5 drawings" in capsys.readouterr().out
    pages = []
    for seed in ("0", "0", "1"):
        main(["data", "view", str(out), "-n", "9", "--seed", seed, "-o", str(files / "v.png")])
        pages.append((files / "v.png").read_bytes())
    assert pages[0] == pages[1] != pages[2]
    main(["data", "view", str(files / "cat.ndjson"), "-o", str(files / "v.svg")])
    assert "40 drawings" in capsys.readouterr().out  # all there are


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["info", "nowhere.npz"], "nowhere.npz: no such file"),
        (["info"], "name a source"),
        (["view", "cat.ndjson", "-o", "x.txt"], "no writer"),
        (["view", "cat.ndjson", "-n", "0", "-o", "x.png"], "at least one"),
        (["view", "cat.ndjson", "--class", "cow", "-o", "x.png"], "no drawing of class 'cow'"),
        (["prepare", "cat.ndjson", "-o", "no/where"], "no such folder"),
        (["prepare", "cat.ndjson", "-o", "x", "--max-points", "-3"], "max-points"),
        (["prepare", "cat.ndjson", "-o", "x", "--split", "0", "0", "0"], "--split"),
        (["download", "--category", "cat", "--npz", "--raw"], "one form at a time"),
        (["prepare", "cat.ndjson", "-o", "x", "--processes", "-1"], "--processes must be 0"),
        (["prepare", "cat.ndjson", "--simplyfy", "never"], "simplyfy"),
        (["nonsense"], "nonsense"),
    ],
)
def test_mistakes_are_one_clear_error(
    files: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(files)
    assert says in failed(capsys, *argv)
    assert sorted(p.name for p in files.iterdir()) == ["cat.ndjson", "dog.ndjson"]


def test_help_shows_examples_and_needs_no_torch() -> None:
    code = (
        "import sys; from sketchknitter.cli import main\n"
        "try: main(['data', 'prepare', '--help'])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sketchknitter data prepare drawings/*.ndjson -o prepared" in out.stdout
    assert "--max-points" in out.stdout
    assert out.stdout.rstrip().endswith("False")
