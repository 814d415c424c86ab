"""Preparing: counts add up, any number of cores gives the same, nothing is left half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import Sketch, geometry, io
from sketchknitter.data import prepare as preparing
from sketchknitter.data import sources
from sketchknitter.data.chunks import Recipe, from_lines
from sketchknitter.data.prepare import prepare, survey
from sketchknitter.data.simplified import parse_simplified
from sketchknitter.data.sources import interrupted_later
from sketchknitter.errors import UserError

GOOD = [[[0, 255, 9], [0, 40, 80]], [[7, 8], [9, 9]]]


def line(drawing: object, word: object = "cat", **more: object) -> bytes:
    return json.dumps({"word": word, "drawing": drawing, **more}).encode()


def walk(rng: np.random.Generator, points: int) -> list[list[list[int]]]:
    xy = np.clip(np.cumsum(rng.integers(-30, 31, (points, 2)), axis=0) + 128, 0, 255)
    return [s.T.tolist() for s in np.array_split(xy, max(1, points // 8))]


def write_lines(path: Path, lines: list[bytes], end: bytes = b"\n") -> Path:
    path.write_bytes(b"\n".join(lines) + end)
    return path


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = ["owl", "cat", "dog"]  # classes are sorted, whatever comes first
    lines = [line(walk(rng, int(rng.integers(2, 60))), words[i % 3]) for i in range(600)]
    return write_lines(tmp_path / "drawings.ndjson", lines)


def everything(data: preparing.PreparedSet) -> list[tuple[bytes, str | None]]:
    return [
        (s.rows(i).tobytes(), s.label(i))
        for s in (data.train, data.valid, data.test)
        for i in range(len(s))
    ]


# -- what is kept ----------------------------------------------------------------------------------
def test_simplified_drawings_are_taken_as_they_are(drawings: Path, tmp_path: Path) -> None:
    data = prepare([drawings], tmp_path / "out", progress=False)
    expected = [
        (s.to_stroke3().astype(np.int16).tobytes(), s.label)
        for s in io.read(drawings)
        if len(s.to_stroke3())
    ]
    assert sorted(everything(data)) == sorted(expected)
    assert data.classes == ("cat", "dog", "owl")
    counts = [len(data.train), len(data.valid), len(data.test)]
    assert sum(counts) == 600
    assert 510 <= counts[0] <= 570
    assert min(counts) >= 12
    assert data.info["counts"]["dog"] == {
        name: int((data.split(name).labels == 1).sum()) for name in ("train", "valid", "test")
    }


def test_every_bad_line_is_counted_with_its_reason(tmp_path: Path) -> None:
    long = line([[list(range(98)), list(range(98))]])
    lines = [
        line(GOOD),
        line([]),  # an empty drawing
        b'{"word":"cat","drawing":[[[0,NaN],[1,2]]]}',
        line([[[3], [4]]]),  # one point: kept, as a dot
        line([[[3, 4], [4]]]),  # a wrong shape
        b"[1, 2, 3]",  # of the wrong kind
        b"",  # a blank line is no drawing
        long,
        line([[[0, 1e300], [0, 1]]]),
        line(GOOD, word=7),
        line(GOOD)[:-9],  # the last line, cut short
    ]
    path = write_lines(tmp_path / "bad.ndjson", lines, end=b"")
    data = prepare([path], tmp_path / "out", progress=False)
    info = data.info
    assert info["total"] == 10
    assert info["kept"] == 2
    assert info["rejected"] == 8 == sum(info["rejects"].values())
    places = {e["position"]: e["reason"] for e in info["reject_examples"]}
    assert set(places) == {f"line {k}" for k in (2, 3, 5, 6, 8, 9, 10, 11)}
    assert "empty" in places["line 2"]
    assert "finite" in places["line 3"]
    assert places["line 8"] == "longer than 96 rows"
    assert "1e9" in places["line 9"]
    assert "cut short" in places["line 11"]
    assert sorted(len(rows) for rows, _ in everything(data)) == [6, 24]  # bytes of 1 and 4 rows
    assert info["sources"][0] == {
        "path": str(path),
        "bytes": path.stat().st_size,
        "kept": 2,
        "rejected": 8,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_huge_line_is_rejected_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.ndjson"
    with open(path, "wb") as f:
        f.write(line(GOOD) + b"\n" + b'{"word":"')
        f.seek(300 << 20, os.SEEK_CUR)  # a hole: 300 MB that take no room on disk
        f.write(b'"}\n' + line(GOOD) + b"\n")
    code = (
        "import pathlib, re; from sketchknitter.data.prepare import prepare;"
        f"d = prepare([{str(path)!r}], {str(tmp_path / 'out')!r}, progress=False, processes=1);"
        "status = pathlib.Path('/proc/self/status').read_text();"
        "peak = int(re.search('VmHWM:[^0-9]*([0-9]+)', status)[1]) // 1024;"
        "print(d.info['kept'], d.info['rejects'], peak)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, *reason, peak = out.stdout.split()
    assert kept == "2"
    assert "longer than" in " ".join(reason)
    assert int(peak) < 250, "MB"


def test_longer_limits_and_clamping(tmp_path: Path) -> None:
    far = line([[[0, 5000, 5001], [0, 0, -4000]]])
    path = write_lines(tmp_path / "far.ndjson", [far])
    data = prepare([path], tmp_path / "a", Recipe(simplify="never"), progress=False)
    (rows, _) = everything(data)[0]
    assert np.frombuffer(rows, np.int16).tolist() == [1000, 0, 0, 1, -1000, 1]
    data = prepare([path], tmp_path / "b", Recipe(simplify="never", clamp=0), progress=False)
    assert np.frombuffer(everything(data)[0][0], np.int16).tolist() == [5000, 0, 0, 1, -4000, 1]
    with pytest.raises(UserError, match="1 × longer than 1 rows"):
        prepare([path], tmp_path / "c", Recipe(max_points=1), progress=False)
    assert not (tmp_path / "c").exists()


# -- what is simplified ----------------------------------------------------------------------------
def simplified(strokes: list) -> bytes:
    made = geometry.simplify_quickdraw([np.array(s[:2], float).T for s in strokes])
    return Sketch(made).to_stroke3().astype(np.int16).tobytes()


def test_timed_strokes_are_raw_and_others_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    plain = [walk(rng, 20) for _ in range(5)]
    raw = [[[*s, list(range(len(s[0])))] for s in walk(rng, 30)] for _ in range(5)]
    tricky = line(plain[0], word="[[[")  # brackets elsewhere shall not deceive
    lines = [line(d) for pair in zip(plain[1:], raw[1:], strict=True) for d in pair]
    path = write_lines(tmp_path / "mixed.ndjson", [*lines, tricky, line(raw[0], tags=[[1]])])
    data = prepare([path], tmp_path / "out", progress=False)
    got = sorted(rows for rows, _ in everything(data))
    as_is = [
        Sketch([np.array(s).T for s in d]).to_stroke3().astype(np.int16).tobytes() for d in plain
    ]
    assert got == sorted(as_is + [simplified(d) for d in raw])
    never = prepare([path], tmp_path / "never", Recipe(simplify="never"), progress=False)
    assert never.info["statistics"]["rows"] == 5 * 19 + 5 * 29
    always = prepare([path], tmp_path / "always", Recipe(simplify="always"), progress=False)
    assert sorted(r for r, _ in everything(always)) == sorted(simplified(d) for d in plain + raw)


def test_files_of_another_scale_are_simplified(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sketches = [Sketch([rng.normal(0, 300, (9, 2))], "owl") for _ in range(4)]
    io.write(sketches, tmp_path / "floats.npz")
    io.write(sketches, tmp_path / "floats.ndjson", decimals=12)
    sketches[0].save(tmp_path / "owl.svg")
    for name, count in (("floats.npz", 4), ("floats.ndjson", 4), ("owl.svg", 1)):
        data = prepare([tmp_path / name], tmp_path / "out", progress=False)
        got = sorted(rows for rows, _ in everything(data))
        assert len(got) == count
        if name != "owl.svg":  # SVG rounds its coordinates
            expected = [simplified([list(s.strokes[0].T)]) for s in sketches]
            assert got == sorted(expected)
        assert all(abs(np.frombuffer(r, np.int16)).max() <= 255 for r in got)


def test_fractions_survive_and_widen_the_whole_set(tmp_path: Path, drawings: Path) -> None:
    io.write([Sketch([[[0, 0], [0.5, 0.25]]], "cat")] * 9, tmp_path / "z.npz")
    recipe = Recipe(simplify="never")
    whole = prepare([drawings], tmp_path / "whole", recipe, progress=False)
    mixed = prepare([drawings, tmp_path / "z.npz"], tmp_path / "out", recipe, progress=False)
    assert whole.train.flat.dtype == np.int16
    assert mixed.test.flat.dtype == np.float32
    np.testing.assert_array_equal(mixed.test.rows(len(mixed.test) - 1), [[0.5, 0.25, 1]])
    for name in ("train", "valid", "test"):  # and nobody changed their split for it
        a, b = whole.split(name), mixed.split(name)
        np.testing.assert_array_equal(a.flat, b.flat[: len(a.flat)])


def test_equal_drawings_never_straddle_splits(tmp_path: Path, drawings: Path) -> None:
    twice = tmp_path / "twice.ndjson"
    twice.write_bytes(drawings.read_bytes())
    data = prepare([drawings, twice], tmp_path / "out", progress=False)
    seen = [
        {s.rows(i).tobytes() for i in range(len(s))} for s in (data.train, data.valid, data.test)
    ]
    for a, b in combinations(seen, 2):
        assert not a & b
    assert len(data) == 1200
    all_train = prepare([drawings], tmp_path / "all", Recipe(split=(1, 0, 0)), progress=False)
    assert len(all_train.train) == 600


def test_the_fast_lane_agrees_with_the_careful_one(drawings: Path) -> None:
    lines = drawings.read_bytes().splitlines()
    assert parse_simplified(lines) is not None
    fast = from_lines(lines, Recipe(), False)
    slow = from_lines([*lines, b"{}"], Recipe(), False)  # one bad line sends all the careful way
    assert slow.rejects.total() == 1
    for name in ("rows", "lengths", "splits", "labels"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name))


@pytest.mark.parametrize(
    "odd",
    [
        line([[[0, 256], [0, 1]]]),
        line([[[0, -1], [0, 1]]]),
        line([[[0, 1.5], [0, 1]]]),
        line([[[0, 1], [0, 1], [0, 1]]]),
        line([[[0, 1], [0]]]),
        line([[[], []]]),
        line([["ab", "cd"]]),
        line([[2, 2]]),
        line([{"a": [1], "b": [1]}]),
        line([]),
        line(GOOD, word=1),
        b"",
        b"[]",
        None,
    ],
)
def test_the_fast_lane_admits_simplified_drawings_only(odd: bytes | None) -> None:
    assert parse_simplified([line(GOOD), odd]) is None


# -- many cores, one result ------------------------------------------------------------------------
def test_any_number_of_processes_gives_the_same(
    tmp_path: Path, drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "RANGE", 5000)
    io.write(list(io.read(drawings))[:50], tmp_path / "more.npz")
    files = [tmp_path / "more.npz", drawings]
    one = prepare(files, tmp_path / "one", progress=False, processes=1)
    two = prepare(files, tmp_path / "two", progress=False, processes=2)
    assert one.fingerprint == two.fingerprint
    assert one.info | {"fingerprint": ""} == two.info | {"fingerprint": ""}
    monkeypatch.setattr(sources, "RANGE", 1 << 20)
    whole = prepare(files, tmp_path / "whole", progress=False, processes=1)
    assert whole.fingerprint == one.fingerprint


def test_line_numbers_count_over_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "RANGE", 300)
    lines = [line(GOOD)] * 40
    lines[33] = b"{"
    data = prepare([write_lines(tmp_path / "a.ndjson", lines)], tmp_path / "out", progress=False)
    assert data.info["reject_examples"][0]["position"] == "line 34"


def test_a_huge_line_is_passed_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "RANGE", 100)
    looked = []
    blocks = sources.iter_line_blocks
    monkeypatch.setattr(
        sources, "iter_line_blocks", lambda p, a, b: looked.append(a) or blocks(p, a, b)
    )
    lines = [line(GOOD), line(GOOD, more=" " * 5000), line(GOOD)]
    path = write_lines(tmp_path / "a.ndjson", lines)
    assert prepare([path], tmp_path / "out", progress=False).info["kept"] == 3
    assert len(looked) <= 5  # not by each of the fifty ranges inside it


# -- nothing half-written --------------------------------------------------------------------------
def test_what_is_in_the_way_stays(tmp_path: Path, drawings: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for out, message in (("mine", "something else"), ("file", "is a file"), ("no/out", "no such")):
        with pytest.raises(UserError, match=message):
            prepare([drawings], tmp_path / out, progress=False)
    (tmp_path / "empty").mkdir()
    prepare([drawings], tmp_path / "empty", progress=False)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_an_older_set_is_replaced_or_kept_whole(tmp_path: Path, drawings: Path) -> None:
    out = tmp_path / "out"
    first = prepare([drawings], out, progress=False)
    bad = write_lines(tmp_path / "bad.ndjson", [b"{}"])
    with pytest.raises(UserError, match="no drawing was kept"):
        prepare([bad], out, progress=False)
    assert preparing.PreparedSet.open(out).fingerprint == first.fingerprint
    second = prepare([drawings], out, Recipe(max_points=20), progress=False)
    assert preparing.PreparedSet.open(out).fingerprint == second.fingerprint != first.fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.ndjson", "drawings.ndjson", "out"]


def test_ctrl_c_while_workers_are_forked_is_not_lost() -> None:
    reached = []

    def fork() -> None:
        with interrupted_later():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            reached.append("the end of the block")

    with pytest.raises(KeyboardInterrupt):
        fork()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_leaves_nothing(tmp_path: Path, drawings: Path) -> None:
    big = tmp_path / "big.ndjson"
    big.write_bytes(drawings.read_bytes() * 2000)  # seconds of work, to be interrupted
    code = (
        "from sketchknitter.cli import main;"
        f"main(['data', 'prepare', {str(big)!r}, '-o', {str(tmp_path / 'out')!r},"
        " '--processes', '2'])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".sketchknitter-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert child.poll() is None, "it was done before it could be interrupted"
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does, to the workers as well
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert "Traceback" not in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.ndjson", "drawings.ndjson"]


def killed_in_the_middle(sources: list[Path], out: Path, after: int) -> None:
    """Prepare in a process that kills itself when it begins its task number ``after``."""
    code = (
        "import os, signal\n"
        "from sketchknitter.data import prepare as preparing, sources\n"
        "read, begun = sources.read_task, []\n"
        "def watched(task, recipe):\n"
        "    begun.append(task)\n"
        f"    if len(begun) > {after}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return read(task, recipe)\n"
        "sources.read_task, preparing._NOTE = watched, 0.0\n"
        f"preparing.prepare({[str(s) for s in sources]!r}, {str(out)!r}, processes=1)\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr


def test_a_killed_one_goes_on(
    tmp_path: Path, drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = write_lines(tmp_path / "odd.ndjson", [line([[[0.5, 9], [1, 7]]], "cup"), b"{", line([])])
    files = [odd, *(tmp_path / f"{i}.ndjson" for i in range(5))]
    for i, path in enumerate(files[1:]):
        path.write_bytes(b"".join(drawings.read_bytes().splitlines(keepends=True)[i::7]))
    (tmp_path / "place").mkdir()
    whole = prepare(files, tmp_path / "whole", Recipe(simplify="never"), progress=False)
    read, begun = sources.read_task, []

    def watched(task: sources.Task, recipe: Recipe) -> object:
        begun.append(task.path)
        return read(task, recipe)

    monkeypatch.setattr(sources, "read_task", watched)
    out = tmp_path / "place/out"
    default = prepare(files, tmp_path / "default", progress=False, processes=1)
    begun.clear()
    killed_in_the_middle(files, out, 4)
    assert not out.exists()
    data = prepare(files, out, progress=False, processes=1)
    assert begun == files[4:]  # four were done
    assert data.fingerprint == default.fingerprint != whole.fingerprint
    assert {k: v for k, v in data.info.items() if k != "path"} == default.info
    assert [p.name for p in (tmp_path / "place").iterdir()] == ["out"]


@pytest.mark.parametrize("change", ["recipe", "file", "note", "rows", "type"])
def test_what_was_begun_otherwise_is_begun_anew(
    tmp_path: Path, drawings: Path, change: str
) -> None:
    files = [drawings, write_lines(tmp_path / "b.ndjson", [line(GOOD, "cup")] * 9)]
    (tmp_path / "place").mkdir()
    out, recipe = tmp_path / "place/out", Recipe()
    killed_in_the_middle(files, out, 1)
    (left,) = (tmp_path / "place").iterdir()
    if change == "recipe":
        recipe = Recipe(max_points=20)
    elif change == "file":
        write_lines(files[0], [line(GOOD, "owl")] * 30)
    elif change == "note":
        (left / "done.json").write_bytes((left / "done.json").read_bytes()[:-40])
    elif change == "rows":
        (left / "train.rows.npy").write_bytes(b"short")
    else:  # rows were made wider after the note
        np.save(left / "train.rows.npy", np.zeros((99999, 3), np.float32))
        (left / "train.rows.narrow").write_bytes(b"")
    data = prepare(files, out, recipe, progress=False, processes=1)
    fresh = prepare(files, tmp_path / "fresh", recipe, progress=False, processes=1)
    assert data.fingerprint == fresh.fingerprint
    assert data.info == fresh.info
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in fresh.path.iterdir())


def test_a_full_disk_is_one_line(
    tmp_path: Path, drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparing.SetWriter, "add", full)
    with pytest.raises(UserError, match="No space left"):
        prepare([drawings], tmp_path / "out", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["drawings.ndjson"]


# -- sources ---------------------------------------------------------------------------------------
def test_sources_are_found_once(tmp_path: Path, drawings: Path) -> None:
    made = prepare([drawings], tmp_path / "set", progress=False)
    (tmp_path / ".hidden.ndjson").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    found = sources.find_sources([tmp_path, drawings])
    assert [f.path for f in found] == [drawings]
    for wrong, message in (
        (made.path, "a prepared set already"),
        (tmp_path / "notes.txt", "no reader"),
        (tmp_path / "nothing", "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            sources.find_sources([wrong])
    assert set(sources.SUFFIXES) == set(io._READERS)


def test_folders_are_classes_and_bad_files_are_counted_and_named(tmp_path: Path) -> None:
    for name, count in (("star", 3), ("house", 2)):
        (tmp_path / name).mkdir()
        for i in range(count):
            sketch = Sketch([[(0, 0), (10 + i, 0), (10, 5)]], "drawing 1")  # a title, no class
            sketch.save(tmp_path / name / f"{i}.svg")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "text.svg").write_text("<svg><text>hi</text></svg>")
    (tmp_path / "bad" / "empty.ndjson").write_text("")
    folders = [tmp_path / n for n in ("star", "house", "bad")]
    pictures = [p for f in folders[:2] for p in sorted(f.glob("*.svg"))]
    for named in (folders, pictures, [tmp_path]):
        data = prepare(named, tmp_path / "set", progress=False)
        assert data.classes == ("house", "star")
        assert data.info["kept"] == 5
    data = prepare(folders, tmp_path / "set", progress=False)
    assert data.info["rejects"] == {"a file that cannot be read": 2}
    places = {Path(e["source"]).name: e["position"] for e in data.info["reject_examples"]}
    assert "empty file" in places["empty.ndjson"]
    assert "draws no line" in places["text.svg"]
    with pytest.raises(UserError, match=r"text\.svg, draws no line"):
        prepare([tmp_path / "bad" / "text.svg"], tmp_path / "none", progress=False)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(tmp_path: Path, drawings: Path, how: int) -> None:
    big = tmp_path / "big.ndjson"
    big.write_bytes(drawings.read_bytes() * 2000)
    code = (
        "from sketchknitter.data.prepare import prepare;"
        f"prepare([{str(big)!r}], {str(tmp_path / 'out')!r}, processes=2, progress=False)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)

    def workers() -> list[str]:
        try:
            return Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        except OSError:
            return []

    deadline = time.monotonic() + 60
    while len(found := workers()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(found) == 2
    child.send_signal(how)
    child.communicate(timeout=20)  # returns when nobody holds stderr anymore
    time.sleep(0.2)
    assert not [pid for pid in found if _alive(pid)]


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_survey_counts_without_filters(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.ndjson", [line([[[0] * 200, [1] * 200]]), b"{", line(GOOD)])
    _, tally = survey([path], progress=False)
    assert (tally.kept, tally.rejected, tally.total) == (2, 1, 3)
    assert tally.statistics()["length"]["max"] == 199
    assert tally.statistics()["rows"] == 199 + 4
    assert tally.statistics()["pen_lift_rate"] == pytest.approx(3 / 203, abs=1e-6)
    assert sum(n for _, _, n in tally.statistics()["length_histogram"]) == 2


def test_real_raw_files_and_kanji(data_dir: Path, tmp_path: Path) -> None:
    files = [*sorted((data_dir / "ndjson/raw").glob("*")), data_dir / "short_kanji.npz"]
    data = prepare(files, tmp_path / "out", progress=False)
    info = data.info
    assert info["total"] == info["kept"] + info["rejected"] == 263 + 11100
    assert info["counts"]["short_kanji"] == {"train": 10000, "valid": 600, "test": 500}
    assert data.train.flat.dtype == np.int16
    assert np.abs(data.train.flat).max() <= 255
    sizes = [data.train.sketch(i).extent for i in range(0, len(data.train), 500)]
    assert 250 <= min(sizes) <= max(sizes) <= 255
