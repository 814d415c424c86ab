"""``.npz`` archives that sketch-rnn's own code loads, with classes and labels beside them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sketchknitter.files import AnyPath, atomic
from sketchknitter.io.records import SPLITS, check_split
from sketchknitter.sketch import Sketch

_INT16 = np.iinfo(np.int16)


def write(sketches: Iterable[Sketch], path: AnyPath, *, split: str = "test") -> None:
    """Write drawings under one split of an ``.npz``; the other two are there and empty.

    Args:
        sketches: taken as a stream and held as compact rows.
        path: the archive.
        split: ``"train"``, ``"valid"`` or ``"test"`` (generated sketches: test).

    Raises:
        UserError: no such split or folder.
    """
    check_split(path, split)
    write_splits({split: sketches}, path)


def write_splits(splits: Mapping[str, Iterable[Sketch]], path: AnyPath) -> None:
    """Write an ``.npz`` with ``train``, ``valid``, ``test`` and, beside each, its labels.

    Each split is an object array of stroke-3 rows (Ha & Eck 2017), int16 where all offsets are
    integers and else float32; ``classes`` are the sorted labels and ``labels_<split>`` indices
    into them, -1 for a drawing without a label. The place of a drawing on the page is not kept.

    Raises:
        UserError: no such split or folder.
    """
    rows: dict[str, list[NDArray[Any]]] = {s: [] for s in SPLITS}
    labels: dict[str, list[str | None]] = {s: [] for s in SPLITS}
    for split, sketches in splits.items():
        check_split(path, split)
        for sketch in sketches:
            rows[split].append(compact_rows(sketch))
            labels[split].append(sketch.label)
    classes = sorted({name for names in labels.values() for name in names if name is not None})
    index: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
    with atomic(path) as f, zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED) as archive:
        for split in SPLITS:
            numbers = np.array([index.get(name, -1) for name in labels[split]], np.int64)
            with archive.open(f"{split}.npy", "w", force_zip64=True) as member:
                _write_objects(member, rows[split])
            with archive.open(f"labels_{split}.npy", "w") as member:
                npy.write_array(member, numbers)
        with archive.open("classes.npy", "w") as member:
            npy.write_array(member, np.array(classes, dtype=np.str_))


def compact_rows(sketch: Sketch) -> NDArray[Any]:
    """Stroke-3 rows (n, 3) as int16 where that loses nothing, else float32."""
    rows = sketch.to_stroke3()
    whole = bool((rows == np.rint(rows)).all())
    if whole and (not rows.size or (_INT16.min <= rows.min() and rows.max() <= _INT16.max)):
        return rows.astype(np.int16)
    return rows.astype(np.float32)


def _write_objects(f: IO[bytes], arrays: list[NDArray[Any]]) -> None:
    """An object array as NumPy 1 would pickle it under Python 2, so that old code loads it."""
    array = np.empty(len(arrays), dtype=object)
    for i, rows in enumerate(arrays):  # one by one: equal shapes would melt into one array
        array[i] = rows
    npy.write_array_header_1_0(f, npy.header_data_from_array_1_0(array))
    pickled = pickle.dumps(array, protocol=2)
    # the name NumPy 2 gives to its core; it stands once, at the start, and is memoized after that
    f.write(pickled.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1))
