"""Archives made to hang, crash or fill the memory: each is one clear error, at once."""

from __future__ import annotations

import io as stdio
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import Sketch, UserError, io
from sketchknitter.io.npz_write import write_splits

pytestmark = pytest.mark.timeout(20)

NAMES = b"cnumpy.core.multiarray\n_reconstruct\n"
BOMB = b"(I1\nI2\nt" + b"2\x86" * 60  # a tuple of two tuples of two …: 2^60 leaves
ARRAY = NAMES + b"(cnumpy\nndarray\n(I0\ntS'b'\ntR"
DTYPE = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb"


def header(descr: str, shape: str, version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode("latin1")
    width = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, len(text)) + text


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        for name, data in members.items():
            z.writestr(f"{name}.npy", data)
    return path


def of_pickle(path: Path, pickled: bytes) -> Path:
    return archive(path, train=header("'|O'", "(1,)") + pickled)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02}" + BOMB + b"Ns.",  # as a key
        b"\x80\x04\x8f(" + BOMB + b"\x90.",  # in a set
        b"\x80\x04(" + BOMB + b"\x91.",
        b"\x80\x02" + ARRAY + b"(I1\n" + BOMB + DTYPE + b"I0\n]tb.",  # as a shape
        b"\x80\x02cnumpy\ndtype\n" + BOMB + b"\x85R.",  # as a data type
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00a" + BOMB + b"\x86R.",  # as an encoding
        b"\x80\x02" + ARRAY + b"(I1\n(I1\nt" + BOMB + b"I0\n]tb.",
        b"\x80\x02cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\n" + BOMB + b"NNNI-1\nI-1\nI63\ntb.",
    ],
)
def test_a_tuple_bomb_is_refused_at_once(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(UserError, match="member 'train'"):
        list(io.read_counted(of_pickle(tmp_path / "a.npz", pickled)))


@pytest.mark.parametrize("opcode", [b"\x96", b"\x8e", b"\x8d", b"\x95"])  # BYTEARRAY8 and kin
def test_no_more_is_allocated_than_the_file_has(tmp_path: Path, opcode: bytes) -> None:
    path = of_pickle(tmp_path / "a.npz", b"\x80\x05" + opcode + struct.pack("<Q", 3 << 30))
    tracemalloc.start()
    with pytest.raises(UserError, match="damaged"):
        list(io.read_counted(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size < 300
    assert peak < 20 << 20


def test_small_files_make_no_great_work(tmp_path: Path) -> None:
    rows = np.zeros((100_000, 3), np.int16)
    again = np.empty(5000, dtype=object)
    again[:] = [rows] * 5000  # written once, referred to 5000 times
    np.savez_compressed(tmp_path / "again.npz", train=again)
    with pytest.raises(UserError, match="the same arrays"):
        list(io.read_counted(tmp_path / "again.npz"))
    memo = b"\x80\x04N" + b"\x94" * 3_000_000 + b"."
    with pytest.raises(UserError, match="more objects"):
        list(io.read_counted(of_pickle(tmp_path / "memo.npz", memo)))
    text = b"\x80\x02X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\x000X\x06\x00\x00\x00latin1"
    text += b"q\x010c_codecs\nencode\nq\x020" + b"h\x02h\x00h\x01\x86R" * 1000 + b"."
    with pytest.raises(UserError, match="same bytes"):
        list(io.read_counted(of_pickle(tmp_path / "text.npz", text)))


def test_what_is_no_array_in_a_pickle_is_one_bad_drawing(tmp_path: Path) -> None:
    items = np.empty(4, dtype=object)
    good = np.array([[1, 2, 0], [3, 4, 1]], np.int16)
    items[:] = [good, {"a": {1, 2}}, frozenset([3]), good]
    np.savez(tmp_path / "a.npz", train=items)
    found = list(io.read_counted(tmp_path / "a.npz"))
    assert [isinstance(f, Sketch) for f in found] == [True, False, False, True]


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        ("'|S0'", "(-1,)"),  # SIGFPE
        ("'<f8'", "(-1, 3)"),
        ("'<f8'", "(" * 3000 + ")" * 3000),
        ("'<f8'", "(3, 3"),  # tokenize.TokenError
        ("'<f8'", "(99999999999999999999999999, 3)"),
        ("[('a', '<f8')]", "(2, 3)"),
        ("'<f8'" * 2, "(2, 3)"),
        ("'" + "\\" * 20 + "'", "(2, 3)"),
        ("'V9999999999'", "(2, 3)"),
    ],
)
def test_headers_that_describe_no_array(tmp_path: Path, descr: str, shape: str) -> None:
    data = header(descr, shape) + bytes(48)
    (tmp_path / "a.npy").write_bytes(data)
    archive(tmp_path / "a.npz", train=data)
    archive(tmp_path / "b.npz", classes=data, labels_test=data, test=header("'<i2'", "(1, 2, 3)"))
    for name in ("a.npy", "a.npz", "b.npz"):
        with pytest.raises(UserError, match=name):
            list(io.read_counted(tmp_path / name))


def test_an_endless_number_of_empty_drawings(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(header("'<i2'", "(999999999999999999, 0, 3)"))
    assert list(io.read_counted(tmp_path / "a.npy")) == []


def test_a_type_without_size_does_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(header("'|S0'", "(-1,)"))
    code = (
        f"from sketchknitter import io, UserError\ntry: list(io.read({str(tmp_path / 'a.npy')!r}))"
        "\nexcept UserError: print('refused')"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (out.returncode, out.stdout) == (0, "refused\n")


def test_headers_of_all_who_write_them(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.int16).reshape(1, 2, 3)
    rows[..., 2] = [0, 1]
    texts = (
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1, 2, 3), }",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (1, 2, 3)}",
        "{'shape':(1,2,3),'fortran_order':False,'descr':'<i2'}",
        '{"descr": "<i2", "fortran_order": False, "shape": (1L, 2L, 3L)}',  # Python 2
    )
    for text in texts:
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + rows.tobytes()
        (tmp_path / "a.npy").write_bytes(data)
        (sketch,) = io.read(tmp_path / "a.npy")
        assert sketch.points.tolist() == [[0, 0], [0, 1], [3, 5]]


def test_fewer_labels_than_drawings(tmp_path: Path) -> None:
    rows = np.array([[1, 2, 0], [3, 4, 1]], np.int16)
    objects = np.empty(2, dtype=object)
    objects[:] = [rows, rows]
    pickled = stdio.BytesIO()
    np.lib.format.write_array(pickled, objects, allow_pickle=True)
    data = header("'|O'", "(1,)") + pickle.dumps(objects, 2)  # the header says one, the pickle two
    labels, classes = stdio.BytesIO(), stdio.BytesIO()
    np.save(labels, np.zeros(1, np.int64))
    np.save(classes, np.array(["cat"]))
    path = archive(
        tmp_path / "a.npz", test=data, labels_test=labels.getvalue(), classes=classes.getvalue()
    )
    with pytest.raises(UserError, match="other objects than its header"):
        list(io.read_counted(path))


@pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800])
def test_a_class_name_of_no_characters(tmp_path: Path, code: int) -> None:
    write_splits({"test": [Sketch([[(0, 0), (1, 1)]], "c")]}, tmp_path / "good.npz")
    with zipfile.ZipFile(tmp_path / "good.npz") as z:
        members = {n.removesuffix(".npy"): z.read(n) for n in z.namelist()}
    members["classes"] = members["classes"][:-4] + struct.pack("<I", code)
    with pytest.raises(UserError, match="member 'classes' holds invalid characters"):
        list(io.read_counted(archive(tmp_path / "a.npz", **members)))


def test_class_names_fit_on_one_line(tmp_path: Path) -> None:
    names = ["a\nb", "alarm  clock ", "\x1b[31mred", "\u202egnp.exe", "été", "👩‍🎨", "\u0007"]
    write_splits({"test": [Sketch([[(0, 0), (1, 1)]], n) for n in names]}, tmp_path / "a.npz")
    found = [s.label for s in io.read(tmp_path / "a.npz")]
    assert found == ["a b", "alarm clock", "[31mred", "gnp.exe", "été", "👩‍🎨", None]


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """A zip bomb whose members share their bytes."""
    path = archive(tmp_path / "a.npz", train=header("'<i2'", "(400, 2, 3)") + bytes(4800))
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    entry, end = data[start : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"train", b"t%04d" % i) for i in range(50))
    count = struct.pack("<HH", 50, 50)
    path.write_bytes(
        data[:start] + entries + end[:8] + count + struct.pack("<I", len(entries)) + end[16:]
    )
    with pytest.raises(UserError, match="overlap"):
        list(io.read_counted(path))
