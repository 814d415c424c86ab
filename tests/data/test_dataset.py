"""Prepared sets: what goes in comes out, and a damaged folder says so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import Sketch, io
from sketchknitter.data import dataset
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.prepare import open_data, prepare
from sketchknitter.errors import UserError


@pytest.fixture
def archives(tmp_path: Path, write_archives: Callable[..., Path]) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    return write_archives(folder, (9, 2, 3))


@pytest.fixture
def prepared(archives: Path, tmp_path: Path) -> PreparedSet:
    return prepare([archives], tmp_path / "prepared", progress=False)


def test_archives_come_back_row_by_row(
    prepared: PreparedSet, random_rows: Callable[..., list[np.ndarray]]
) -> None:
    assert prepared.classes == ("cat", "dog")
    assert [len(prepared.split(s)) for s in ("train", "valid", "test")] == [18, 4, 6]
    expected = random_rows(9, seed=0) + random_rows(9, seed=10)
    train = prepared.train
    assert train.flat.dtype == np.int16
    for i, rows in enumerate(expected):
        np.testing.assert_array_equal(train.rows(i), rows)
        assert train.sketch(i) == Sketch.from_stroke3(rows, "cat" if i < 9 else "dog")
    np.testing.assert_array_equal(train.lengths, [len(r) for r in expected])
    np.testing.assert_array_equal(train.labels, [0] * 9 + [1] * 9)
    picked = train.take([17, 0, 3])
    for rows, i in zip(picked, (17, 0, 3), strict=True):
        np.testing.assert_array_equal(rows, expected[i])


def test_rows_cannot_be_written_to(prepared: PreparedSet) -> None:
    with pytest.raises(ValueError, match="read-only"):
        prepared.train.rows(0)[0, 0] = 1


def test_select_relabels_and_changes_the_fingerprint(prepared: PreparedSet) -> None:
    dogs = prepared.select(["dog"])
    assert dogs.classes == ("dog",)
    assert len(dogs.train) == 9
    assert set(dogs.train.labels.tolist()) == {0}
    np.testing.assert_array_equal(dogs.train.rows(0), prepared.train.rows(9))
    np.testing.assert_array_equal(prepared.train.of_class("dog"), np.arange(9, 18))
    swapped = prepared.select(["dog", "cat", "dog"])
    assert swapped.classes == ("dog", "cat")
    assert swapped.train.label(0) == "cat"
    assert len({prepared.fingerprint, dogs.fingerprint, swapped.fingerprint}) == 3
    assert prepared.select(["cat", "dog"]) is prepared
    with pytest.raises(UserError, match="did you mean 'dog'"):
        prepared.select(["dig"])


def test_fingerprint_follows_content(archives: Path, tmp_path: Path) -> None:
    one = prepare([archives], tmp_path / "one", progress=False)
    two = prepare([archives], tmp_path / "two", progress=False)
    assert one.fingerprint == two.fingerprint
    assert one.verify()
    path = tmp_path / "two" / "train.rows.npy"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    assert not PreparedSet.open(tmp_path / "two").verify()


def damage_header(folder: Path) -> None:
    (folder / "prepared.json").write_text('{"kind":')


def other_header(folder: Path) -> None:
    (folder / "prepared.json").write_text("[1]")


def newer(folder: Path) -> None:
    info = json.loads((folder / "prepared.json").read_text())
    (folder / "prepared.json").write_text(json.dumps(info | {"format": 99}))


def truncate_rows(folder: Path) -> None:
    path = folder / "train.rows.npy"
    os.truncate(path, path.stat().st_size - 6)


def no_labels(folder: Path) -> None:
    (folder / "valid.labels.npy").unlink()


def wrong_labels(folder: Path) -> None:
    np.save(folder / "valid.labels.npy", np.full(4, 7, np.int16))


def wrong_offsets(folder: Path) -> None:
    path = folder / "test.offsets.npy"
    offsets = np.load(path)
    offsets[1], offsets[2] = offsets[2], offsets[1]
    np.save(path, offsets)


def objects(folder: Path) -> None:
    np.save(folder / "train.rows.npy", np.array([{}], dtype=object), allow_pickle=True)


def nested(folder: Path) -> None:
    (folder / "prepared.json").write_text("[" * 100_000)


def long_number(folder: Path) -> None:
    (folder / "prepared.json").write_text("9" * 5000)


def names_not_seen(folder: Path) -> None:
    text = (folder / "prepared.json").read_text()
    (folder / "prepared.json").write_text(text.replace('"dog"', r'"dog\n\u001b[31m"'))


def endless(folder: Path) -> None:
    (folder / "train.rows.npy").write_bytes(npy("'<i2'", f"({10**30}, 3)"))


def negative(folder: Path) -> None:
    (folder / "train.offsets.npy").write_bytes(npy("'<i8'", "(-19,)"))


def without_size(folder: Path) -> None:
    (folder / "train.rows.npy").write_bytes(npy("'|S0'", "(-1,)"))


def npy(descr: str, shape: str) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(600)


@pytest.mark.parametrize(
    "harm",
    [
        damage_header,
        other_header,
        newer,
        truncate_rows,
        no_labels,
        wrong_labels,
        wrong_offsets,
        objects,
        nested,
        long_number,
        names_not_seen,
        endless,
        negative,
        without_size,
    ],
)
def test_damage_is_named(prepared: PreparedSet, harm: Callable[[Path], None]) -> None:
    harm(prepared.path)
    with pytest.raises(UserError, match=r"(damaged|format 99).*(prepare|99)") as error:
        PreparedSet.open(prepared.path)
    assert str(prepared.path) in str(error.value)


@pytest.mark.parametrize("place", ["classes", "drawings", "lengths", "kind", "format"])
@pytest.mark.parametrize("value", [None, -1, 10**30, float("nan"), "x", [1], {"train": -1}])
def test_a_header_that_makes_no_sense(prepared: PreparedSet, place: str, value: object) -> None:
    path = prepared.path / "prepared.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {place: value}))
    with pytest.raises(UserError) as error:
        PreparedSet.open(prepared.path)
    assert "\n" not in str(error.value)


def test_what_is_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        PreparedSet.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no prepared set"):
        PreparedSet.open(tmp_path)


def test_open_data_takes_anything_and_caches(
    archives: Path, prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert open_data(prepared.path).fingerprint == prepared.fingerprint
    raw = open_data(archives, progress=False)
    assert raw.fingerprint == prepared.fingerprint
    cache = tmp_path / "cache" / "sketchknitter" / "prepared"
    (made,) = cache.iterdir()
    stamp = (made / "prepared.json").stat().st_mtime_ns
    assert open_data(archives).path == made
    assert (made / "prepared.json").stat().st_mtime_ns == stamp
    os.utime(archives / "cat.npz", (1, 1))
    assert open_data(archives, progress=False).path != made


def test_open_data_reads_only_the_files_of_the_classes(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = open_data(archives, ["dog"], progress=False)
    assert data.classes == ("dog",)
    assert data.info["source_files"] == 1
    with pytest.raises(UserError, match="no class 'cow'"):
        open_data(archives, ["cow"], progress=False)


def test_drawings_without_a_label(tmp_path: Path) -> None:
    drawings = [Sketch([[[0, 0], [9, 9]]]), Sketch([[[0, 0], [9, 7]]], "cat")]
    io.write(drawings, tmp_path / "a.ndjson")
    data = prepare([tmp_path / "a.ndjson"], tmp_path / "out", progress=False, processes=1)
    labels = [s.label(i) for s in (data.train, data.valid, data.test) for i in range(len(s))]
    assert sorted(labels, key=str) == [None, "cat"] or sorted(labels, key=str) == ["cat", None]
    assert len(data.select(["cat"])) == 1


def test_prepare_counts_lengths(prepared: PreparedSet) -> None:
    for split in (prepared.train, prepared.valid, prepared.test):
        assert split.counted is not None
        expected = np.zeros_like(split.by_length)
        for label, n in zip(split.labels, split.lengths, strict=True):
            expected[label, n] += 1
        np.testing.assert_array_equal(split.by_length, expected)
        dogs = split.select(["dog"])
        np.testing.assert_array_equal(dogs.by_length[0], expected[1])
        assert not dogs.by_length[-1].any()
        short = dogs.where(dogs.lengths < 9)
        np.testing.assert_array_equal(short.by_length[0], expected[1, : short.by_length.shape[1]])
        assert short.by_length.sum() == len(short)


@pytest.mark.parametrize("wrong", [[1, 2], [[-1, 2]], ["x"], {}, [10**30], [0.5]])
def test_wrong_lengths_are_damage(prepared: PreparedSet, wrong: object) -> None:
    path = prepared.path / "prepared.json"
    info = json.loads(path.read_text())
    info["lengths"]["train"]["cat"] = wrong
    path.write_text(json.dumps(info))
    with pytest.raises(UserError, match="damaged"):
        PreparedSet.open(prepared.path)


def test_a_spread_touches_all_parts(prepared: PreparedSet) -> None:
    assert prepared.train.spread(18).tolist() == list(range(18))
    assert prepared.train.spread(17).tolist() == list(range(16))
    prepared.train.release()
    assert prepared.train.flat.sum() == sum(int(r.sum()) for r in prepared.train.take(range(18)))


def test_of_a_large_file_drawings_are_copied(
    prepared: PreparedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = prepared.train.take([1, 0, 1])
    monkeypatch.setattr(dataset, "_LARGE", 0)
    monkeypatch.setattr(dataset, "_HELD", 2)
    copies = prepared.train.take([1, 0, 1])
    assert all(c.base is None for c in copies)  # else their pages stay mapped
    for a, b in zip(few, copies, strict=True):
        np.testing.assert_array_equal(a, b)
