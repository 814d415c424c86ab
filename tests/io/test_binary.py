from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import Sketch, UserError, io
from sketchknitter.io import Reject


def record(strokes: list, country: bytes = b"US", recognized: int = 1) -> bytes:
    """A drawing as QuickDraw's own description of the format lays it out."""
    out = struct.pack("<Q2sBIH", 5152802093400064, country, recognized, 1489007527, len(strokes))
    for stroke in strokes:
        x, y = np.array(stroke, np.uint8).reshape(-1, 2).T
        out += struct.pack("<H", len(x)) + x.tobytes() + y.tobytes()
    return out


def test_real_drawings_survive(data: Path, tmp_path: Path) -> None:
    sketches = list(io.read(data / "ndjson/simplified/apple.ndjson"))
    (tmp_path / "apple.bin").write_bytes(b"".join(record(list(s.strokes)) for s in sketches))
    assert list(io.read(tmp_path / "apple.bin")) == sketches


ONE = record([[(0, 0), (255, 7)], [(3, 4)]])


def test_layout(tmp_path: Path) -> None:
    (tmp_path / "cat.bin").write_bytes(ONE)
    assert len(ONE) == 8 + 2 + 1 + 4 + 2 + (2 + 4) + (2 + 2)
    assert list(io.read(tmp_path / "cat.bin")) == [Sketch([[(0, 0), (255, 7)], [(3, 4)]], "cat")]


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (ONE[:-1], "the file ends within this drawing"),
        (ONE[:5], "the file ends within this drawing"),
        (record([]), "an empty drawing"),
        (record([[]]), "a stroke without points"),
        (bytes(40), "an empty drawing"),
        (b"\xff" * 40, "no drawing begins here; the rest of the file is passed over"),
    ],
)
def test_bad_records(tmp_path: Path, tail: bytes, reason: str) -> None:
    (tmp_path / "a.bin").write_bytes(ONE + ONE + tail)
    items = list(io.read_counted(tmp_path / "a.bin"))
    assert [isinstance(item, Sketch) for item in items[:2]] == [True, True]
    assert items[2] == Reject("record 3", reason)


def test_reading_goes_on_after_an_empty_drawing(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(ONE + record([]) + record([[]]) + ONE)
    kinds = [type(item) for item in io.read_counted(tmp_path / "a.bin")]
    assert kinds == [Sketch, Reject, Reject, Sketch]


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" + bytes(50), b"PK\x03\x04" + b"A" * 50, b"ab"]
)
def test_wrong_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.bin is .*, not QuickDraw's binary format"):
        list(io.read_counted(tmp_path / "a.bin"))
