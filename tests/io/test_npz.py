from __future__ import annotations

import contextlib
import io as stdio
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchknitter import Sketch, UserError, io
from sketchknitter.io import Reject, npz, unpickle
from sketchknitter.io.npz_write import write_splits

CAT = Sketch([[(0, 0), (10, 0), (10, 5)], [(3, 3), (4, 4)]], "cat")
DOG = Sketch([[(0, 0), (0.5, 7)], [(1, 1)]], "dog")


def objects(*items: object) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def save(path: Path, **members: np.ndarray) -> Path:
    np.savez(path, **members)
    return path


def save_pickle(path: Path, pickled: bytes, name: str = "train", count: int = 1) -> Path:
    """An archive with one object array whose pickle is given."""
    f = stdio.BytesIO()
    np.lib.format.write_array_header_1_0(
        f, {"descr": "|O", "fortran_order": False, "shape": (count,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.npy", f.getvalue() + pickled)
    return path


# -- real archives -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["short_kanji.npz", "quickdraw/apple.npz"])  # Python 2 and 3
def test_real_archive_equals_numpy(data: Path, name: str) -> None:
    theirs = np.load(data / name, allow_pickle=True, encoding="latin1")
    expected = [(s, rows) for s in ("train", "valid", "test") for rows in theirs[s]]
    ours = list(npz.read_rows(data / name))
    assert len(ours) == len(expected) > 700
    for row, (split, rows) in zip(ours, expected, strict=True):
        assert isinstance(row, npz.Rows)
        assert row.split == split
        assert row.rows.dtype == rows.dtype
        np.testing.assert_array_equal(row.rows, rows)
    assert {row.label for row in ours} == {Path(name).stem}


def test_real_split_alone(data: Path) -> None:
    test = list(io.read(data / "quickdraw/apple.npz", split="test"))
    assert len(test) == 75
    assert test[0].label == "apple"
    assert npz.splits_in(data / "quickdraw/apple.npz") == ["train", "valid", "test"]


# -- pickles that do more than hold arrays -------------------------------------------------------
class Trap:
    def __init__(self, call: object, *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call, self.args


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("nested", [False, True])
def test_malicious_pickle_is_refused_and_not_run(
    tmp_path: Path, protocol: int, nested: bool
) -> None:
    marker = tmp_path / "it_ran"
    trap: object = Trap(os.mkdir, str(marker))
    if nested:
        trap = objects(np.zeros((2, 3)), trap)
    evil = save_pickle(tmp_path / "evil.npz", pickle.dumps(trap, protocol=protocol))
    with pytest.raises(UserError, match=r"evil\.npz, member 'train' is refused.*mkdir"):
        list(io.read_counted(evil))
    assert not marker.exists()
    with np.load(evil, allow_pickle=True) as loaded, contextlib.suppress(Exception):
        loaded["train"]
    assert marker.exists()  # the trap itself works: NumPy springs it


@pytest.mark.parametrize("name", ["evil", "classes", "arr_0"])
def test_malicious_member_nobody_asked_for(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "it_ran"
    members = {"test": objects(CAT.to_stroke3()), name: objects(Trap(os.mkdir, str(marker)))}
    with pytest.raises(UserError, match=f"member '{name}' is refused.*mkdir"):
        list(io.read(save(tmp_path / "a.npz", **members), split="test"))
    assert not marker.exists()


def test_malicious_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", objects(Trap(os.mkdir, str(tmp_path / "it_ran"))))
    with pytest.raises(UserError, match=r"a\.npy is refused.*mkdir"):
        list(io.read(tmp_path / "a.npy"))
    assert not (tmp_path / "it_ran").exists()


DTYPE = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI%d\ntb"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I%d\ntS'b'\ntR"


@pytest.mark.parametrize(
    "pickled",
    [
        # a dtype of objects that says it holds none: bytes would be taken for pointers
        RECONSTRUCT % 0 + b"(I1\n(I1\nt" + DTYPE % 0 + b"I0\nS'AAAAAAAA'\ntb.",
        RECONSTRUCT % 10**15 + b".",  # a huge array, reserved but never filled
        b"cnumpy\nndarray\n(I1000000000000\ntR.",  # the same, by its class
        b"cnumpy\ndtype\n(S'V999999999'\ntR.",
        b"cnumpy\ndtype\n}S'_call'\nNsb.",  # tampering with a name that is known
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo index that the C machine reserves 32 GB for
        b"(" * 100_000 + b".",
        b"\x80\x05\x82\x01.",  # an extension code
        b"N.",
        b"",
    ],
)
def test_crafted_pickles_are_refused(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(UserError, match=r"a\.npz, member 'train'"):
        list(io.read_counted(save_pickle(tmp_path / "a.npz", pickled)))


def test_memo_index_reserves_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match="not a NumPy array"):
        unpickle.load_object_array(stdio.BytesIO(b"\x80\x02]r\x00\x00\x40\x00."), 9)  # 4 million
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("numpy1", [False, True])
def test_every_pickle_protocol(protocol: int, numpy1: bool) -> None:
    rng = np.random.default_rng(protocol)
    kinds = ["<i2", ">i2", "<f4", ">f8", "u1", "<i8"]
    items = [rng.integers(0, 9, (n + 1, 3)).astype(k) for n, k in enumerate(kinds)]
    items.append(np.asfortranarray(items[-1]))
    pickled = pickle.dumps(objects(*items), protocol=protocol)
    if numpy1 and protocol < 4:  # from 4 on the length of a name is written before it
        pickled = pickled.replace(b"numpy._core", b"numpy.core")
    array = unpickle.load_object_array(stdio.BytesIO(pickled), len(pickled))
    assert array.shape == (7,)
    for ours, item in zip(array.values, items, strict=True):
        np.testing.assert_array_equal(ours.values, item)
        assert ours.values.dtype == item.dtype


# -- fixed arrays --------------------------------------------------------------------------------
def test_original_scripts_result(tmp_path: Path) -> None:
    """Columns dx, dy, logit "stay down", logit "lift": the larger one is the pen."""
    rows = np.zeros((2, 96, 4), np.float32)
    rows[:, :, 0] = 1
    rows[:, :, 2:] = [3.0, -3.0]  # down
    rows[0, 9, 2:] = [-1.0, 0.5]  # lift after the tenth offset
    first, second = io.read(save(tmp_path / "result.npz", arr_0=rows))
    assert [len(s) for s in first.strokes] == [11, 86]
    assert [len(s) for s in second.strokes] == [97]
    assert first.label == "result"


def test_stroke5_ends_where_it_says(tmp_path: Path) -> None:
    big = np.zeros((1, 8, 5))
    big[0, 0] = [0, 0, 1, 0, 0]  # start token
    big[0, 1:4] = [[1, 2, 1, 0, 0], [3, 4, 0, 1, 0], [5, 6, 0, 1, 0]]
    big[0, 4:, 4] = 1
    (sketch,) = io.read(save(tmp_path / "a.npz", arr_0=big))
    assert sketch == Sketch([[(0, 0), (1, 2), (4, 6)], [(9, 12)]], "a")


@pytest.mark.parametrize("order", ["C", "F"])
def test_padded_stroke3(tmp_path: Path, order: str) -> None:
    rows = np.zeros((3, 20, 3), np.int16)
    for i in range(3):
        rows[i, : 3 + i] = i + 1, 1, 0
    np.save(tmp_path / "a.npy", np.asarray(rows, order=order))
    save(tmp_path / "a.npz", drawings=np.asarray(rows, order=order))
    for name in ("a.npy", "a.npz"):
        assert [s.num_points for s in io.read(tmp_path / name)] == [4, 5, 6]
        assert [s.points[1, 0] for s in io.read(tmp_path / name)] == [1, 2, 3]


def test_equally_long_drawings_melted_into_one_object_array(tmp_path: Path) -> None:
    rows = np.arange(24).reshape(4, 2, 3)
    rows[:, :, 2] = [0, 1]
    path = save(tmp_path / "a.npz", test=np.array(list(rows), dtype=object))
    assert [s.to_stroke3().tolist() for s in io.read(path)] == rows.tolist()


# -- our own archives ----------------------------------------------------------------------------
def test_written_archive_loads_as_sketch_rnn_does(tmp_path: Path) -> None:
    path = tmp_path / "o.npz"
    io.write(iter([CAT, DOG, CAT]), path)
    loaded = np.load(path, allow_pickle=True, encoding="latin1")
    assert [loaded[s].shape for s in ("train", "valid", "test")] == [(0,), (0,), (3,)]
    assert loaded["test"][0].dtype == np.int16
    assert loaded["test"][1].dtype == np.float32
    np.testing.assert_array_equal(loaded["test"][0], CAT.to_stroke3())
    assert loaded["classes"].tolist() == ["cat", "dog"]
    assert loaded["labels_test"].tolist() == [0, 1, 0]
    with zipfile.ZipFile(path) as archive:  # a name that only NumPy 2 knows shuts old code out
        assert b"numpy._core" not in archive.read("test.npy")
    assert list(io.read(path)) == [CAT, DOG, CAT]
    assert list(io.read(path, split="train")) == []


def test_labels_of_every_split(tmp_path: Path) -> None:
    nameless = Sketch(CAT.strokes)
    write_splits({"train": [DOG, CAT], "test": [nameless]}, tmp_path / "o.npz")
    assert [s.label for s in io.read(tmp_path / "o.npz")] == ["dog", "cat", None]
    assert [s.label for s in io.read(tmp_path / "o.npz", split="train")] == ["dog", "cat"]


coordinates = st.integers(-2000, 2000) | st.integers(-800, 800).map(lambda n: n / 4)
strokes = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(strokes, min_size=1, max_size=4), min_size=1, max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, drawings: list) -> None:
    path = tmp_path_factory.getbasetemp() / "trip.npz"
    sketches = [Sketch(d, "x").with_label("a" * (i % 2) or None) for i, d in enumerate(drawings)]
    io.write(sketches, path)
    for was, now in zip(sketches, io.read(path), strict=True):
        assert now.label == was.label
        np.testing.assert_allclose(now.to_stroke3(), was.to_stroke3(), atol=1e-3)


# -- bad input -----------------------------------------------------------------------------------
def test_bad_drawings_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    nan = CAT.to_stroke3()
    nan[1, 0] = np.nan
    pens = CAT.to_stroke3()
    pens[0, 2] = 0.7
    empty = np.zeros((0, 3), np.int16)
    bad = [nan, pens, empty, np.zeros((4, 7)), np.zeros(3), None, "text", np.zeros((5, 3))]
    path = save(tmp_path / "a.npz", train=objects(CAT.to_stroke3(), *bad, DOG.to_stroke3()))
    items = list(io.read_counted(path))
    assert [isinstance(item, Reject) for item in items] == [False, *[True] * 8, False]
    reasons = [item.reason for item in items if isinstance(item, Reject)]
    assert reasons[:3] == [
        "a value is not finite",
        "a pen state is neither 0 nor 1",
        "an empty drawing",
    ]
    assert items[1].position == "train[1]"
    with pytest.raises(UserError, match=r"a\.npz, train\[1\]: a value is not finite"):
        list(io.read(path))


def test_zip_bomb(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("train.npy", "w") as member,
    ):
        header = {"descr": "<i2", "fortran_order": False, "shape": (7000, 1000, 3)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(42):
            member.write(bytes(1_000_000))
    with pytest.raises(UserError, match=r"bomb\.npz, member 'train' unpacks .* zip bomb"):
        list(io.read_counted(tmp_path / "bomb.npz"))


def test_damaged_archives(tmp_path: Path) -> None:
    io.write([CAT] * 50, tmp_path / "o.npz")
    whole = (tmp_path / "o.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    at = whole.index(b"test.npy") + 30
    flipped[at : at + 20] = bytes(20)
    (tmp_path / "flip.npz").write_bytes(flipped)
    (tmp_path / "png.npz").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "none.npz").write_bytes(b"")
    for name, what in {
        "cut": "damaged zip archive",
        "flip": "member 'test' is damaged",
        "png": "is a PNG image, not an .npz archive",
        "none": "empty file",
        "missing": "no such file",
    }.items():
        with pytest.raises(UserError, match=rf"{name}\.npz.*{what}"):
            list(io.read_counted(tmp_path / f"{name}.npz"))


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({"arr_0": np.zeros((3, 8, 8, 3))}, r"no drawings \(arr_0: float64 \(3, 8, 8, 3\)\)"),
        ({"train": np.zeros((3, 8, 2))}, r"member 'train' is float64 \(3, 8, 2\)"),
        ({"labels": np.arange(4)}, "no drawings"),
    ],
)
def test_wrong_shapes(tmp_path: Path, members: dict, what: str) -> None:
    with pytest.raises(UserError, match=what):
        list(io.read_counted(save(tmp_path / "a.npz", **members)))


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    drawings = objects(CAT.to_stroke3(), DOG.to_stroke3())
    for labels in (np.array([0]), np.array([0, 5]), np.array([0.0, 1.0])):
        path = save(
            tmp_path / "a.npz", test=drawings, labels_test=labels, classes=np.array(["a", "b"])
        )
        with pytest.raises(UserError, match="member 'labels_test'"):
            list(io.read(path))


def test_splits_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", train=objects(CAT.to_stroke3()))
    with pytest.raises(UserError, match="has no split 'test'; it has train"):
        list(io.read(path, split="test"))
    with pytest.raises(UserError, match="one of: train, valid, test"):
        list(io.read(path, split="tset"))


def test_member_named_twice(tmp_path: Path) -> None:
    io.write([CAT], tmp_path / "o.npz")
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "o.npz", "a") as archive,
    ):
        archive.writestr("test.npy", b"")
    with pytest.raises(UserError, match="stands twice"):
        list(io.read(tmp_path / "o.npz"))


def test_shape_that_lies(tmp_path: Path) -> None:
    f = stdio.BytesIO()
    header = {"descr": "<i2", "fortran_order": False, "shape": (10**12, 4, 3)}
    np.lib.format.write_array_header_1_0(f, header)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train.npy", f.getvalue() + struct.pack("<12h", *range(12)))
    with pytest.raises(UserError, match="member 'train' holds 24 bytes where"):
        list(io.read(tmp_path / "a.npz"))
