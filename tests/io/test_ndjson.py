from __future__ import annotations

import itertools
import json
import tracemalloc
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchknitter import Sketch, UserError, io
from sketchknitter.io import Reject, lines, ndjson
from sketchknitter.io.records import as_label

GOOD = b'{"word":"cat","drawing":[[[0,1,2],[3,4,5]],[[7],[8]]]}'
CAT = Sketch([[(0, 3), (1, 4), (2, 5)], [(7, 8)]], "cat")


def test_real_files(data: Path) -> None:
    for kind, total in (("raw", 263), ("simplified", 250)):
        files = sorted((data / "ndjson" / kind).glob("*.ndjson"))
        items = [item for f in files for item in io.read_counted(f)]
        assert sum(isinstance(item, Sketch) for item in items) == len(items) == total
        line = json.loads(files[0].read_text().splitlines()[0])
        sketch = next(io.read(files[0]))
        assert sketch.label == line["word"] == files[0].stem
        for stroke, expected in zip(sketch.strokes, line["drawing"], strict=True):
            np.testing.assert_array_equal(stroke.T, expected[:2])


BAD = {
    b'{"word":"cat","drawing":[[[0,1': ndjson.NOT_JSON,
    b"[1,2]": ndjson.NOT_JSON,
    b"7": ndjson.NOT_JSON,
    b'{"word":"cat"}': ndjson.NO_DRAWING,
    b'{"drawing":"x"}': ndjson.NO_DRAWING,
    b'{"drawing":[]}': ndjson.EMPTY,
    b'{"drawing":[[[],[]]]}': ndjson.BAD_STROKE,
    b'{"drawing":[[[1,2],[1]]]}': ndjson.BAD_STROKE,
    b'{"drawing":[[[1,2]]]}': ndjson.BAD_STROKE,
    b'{"drawing":[[1,2]]}': ndjson.BAD_STROKE,
    b'{"drawing":[{"x":[1],"y":[1]}]}': ndjson.BAD_STROKE,
    b'{"drawing":[[[1],[2],[3],[4]]]}': ndjson.BAD_STROKE,
    b'{"drawing":[[[1,2],[3,4],[5]]]}': ndjson.BAD_STROKE,
    b'{"drawing":[[[1,NaN],[1,2]]]}': ndjson.BAD_NUMBER,
    b'{"drawing":[[[1,null],[1,2]]]}': ndjson.BAD_NUMBER,
    b'{"drawing":[[[1,"2"],[1,2]]]}': ndjson.BAD_NUMBER,
    b'{"drawing":[[[1,[2]],[1,2]]]}': ndjson.BAD_NUMBER,
    b'{"drawing":[[[1,1e400],[1,2]]]}': ndjson.NOT_JSON,
    b'{"word":7,"drawing":[[[1],[2]]]}': ndjson.BAD_WORD,
    b"\xff\xfe": ndjson.NOT_JSON,
}


def test_bad_lines_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    body = [line for bad in BAD for line in (GOOD, bad)]
    path.write_bytes(b"\n".join(body))
    items = list(io.read_counted(path))
    assert items[::2] == [CAT] * len(BAD)
    expected = [Reject(f"line {2 * i + 2}", why) for i, why in enumerate(BAD.values())]
    assert items[1::2] == expected
    with pytest.raises(UserError, match=r"a\.ndjson, line 2: not a JSON object"):
        list(io.read(path))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n  \n"])
def test_file_ends(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n\n" + GOOD + end)
    assert list(io.read(tmp_path / "a.ndjson")) == [CAT, CAT]


def test_a_block_holds_what_its_lines_say() -> None:
    block = ndjson.parse_block([GOOD, b"", b"{", GOOD, None])
    assert block.lines == [0, 3]
    assert block.rejects == [(2, ndjson.NOT_JSON), (4, ndjson.TOO_LONG)]
    assert block.drawing_strokes.tolist() == [2, 2]
    assert block.stroke_lengths.tolist() == [3, 1, 3, 1]
    assert block.words == ["cat", "cat"]
    for i in range(2):
        assert Sketch(block.strokes(i), block.words[i]) == CAT


# -- byte ranges ---------------------------------------------------------------------------------
def test_ranges_tile_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    expected = [bytes([97 + i % 26]) * int(n) for i, n in enumerate(rng.integers(0, 40, 60))]
    path = tmp_path / "lines"
    path.write_bytes(b"\n".join(expected))
    size = path.stat().st_size
    starts = np.cumsum([0, *(len(line) + 1 for line in expected[:-1])]).tolist()
    want = list(zip(starts, expected, strict=True))
    found = []
    for at, block in lines.iter_line_blocks(path):
        for line in block:
            found.append((at, line))
            at += len(line or b"") + 1
    assert found == [w for w in want if w[0] < size]
    for piece in (1, 7, 50, 10_000):
        for _ in range(20):
            cuts = [0, *sorted(rng.integers(0, size, 3).tolist()), size]
            blocks = [
                block
                for a, b in itertools.pairwise(cuts)
                for block in lines.iter_line_blocks(path, a, b, piece)
            ]
            assert [line for _, block in blocks for line in block] == expected
            assert all(at in starts for at, _ in blocks)


def test_endless_line_is_passed_over_in_constant_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 100_000)
    path = tmp_path / "a.ndjson"
    with open(path, "wb") as f:
        f.write(GOOD + b"\n")
        f.writelines([b"[1," * 100_000] * 30)  # 9 MB
        f.write(b"\n" + GOOD)
    tracemalloc.start()
    blocks = list(lines.iter_line_blocks(path, piece=65536))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [line for _, block in blocks for line in block] == [GOOD, None, GOOD]
    assert peak < 1_000_000
    assert list(io.read_counted(path)) == [CAT, Reject("line 2", ndjson.TOO_LONG), CAT]


# -- writing -------------------------------------------------------------------------------------
def test_written_line_is_quickdraw(tmp_path: Path) -> None:
    sketch = Sketch([[(0.123456, -0.001), (300.5, 2)], [(1, 2), (3, 4)]], "cat")
    io.write([sketch, Sketch([[(1, 1)]])], tmp_path / "o.ndjson")
    first, second = (tmp_path / "o.ndjson").read_bytes().splitlines()
    assert first == (
        b'{"word":"cat","countrycode":"","timestamp":"","recognized":true,"key_id":"0",'
        b'"drawing":[[[0.12,300.5],[0.0,2.0]],[[1,3],[2,4]]]}'
    )
    assert "word" not in orjson.loads(second)
    assert [s.label for s in io.read(tmp_path / "o.ndjson")] == ["cat", None]


numbers = st.floats(-1e4, 1e4).map(lambda x: round(x, 2) + 0.0)
strokes = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(strokes, min_size=1, max_size=3), min_size=1, max_size=3), st.text())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, drawings: list, word: str) -> None:
    path = tmp_path_factory.getbasetemp() / "trip.ndjson"
    sketches = [Sketch(d, word) for d in drawings]
    io.write(sketches, path)
    # a class name comes back as one line of what can be seen
    assert list(io.read(path)) == [s.with_label(as_label(word)) for s in sketches]


def test_small_drawings_keep_their_shape(tmp_path: Path) -> None:
    circle = np.column_stack([np.cos(np.arange(9)), np.sin(np.arange(9))]) * 0.01
    io.write([Sketch([circle])], tmp_path / "o.ndjson")
    (read,) = io.read(tmp_path / "o.ndjson")
    np.testing.assert_allclose(read.points, circle, atol=1e-5)


# -- files of another kind -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n", "is a PNG image, not ndjson"),
        (b'[{"drawing":[]}]', "is a JSON list, not ndjson"),
        (b"", "empty file"),
        (b"hello", "not ndjson"),
    ],
)
def test_wrong_kind(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.ndjson").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.ndjson.*{what}"):
        list(io.read_counted(tmp_path / "a.ndjson"))


def test_no_splits(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(GOOD)
    with pytest.raises(UserError, match="has no splits"):
        list(io.read(tmp_path / "a.ndjson", split="test"))
