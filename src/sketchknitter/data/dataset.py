"""The prepared form: a folder of drawings that opens by memory map, whatever its size.

``prepared.json`` says what is inside; for each split s, ``s.rows.npy`` holds the stroke-3 rows of
all drawings one after another, ``s.offsets.npy`` where each begins, ``s.labels.npy`` its class.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.classes import check_names, class_index
from sketchknitter.errors import UserError
from sketchknitter.io.npz import read_header
from sketchknitter.sketch import Sketch

AnyPath = str | os.PathLike[str]

FORMAT = 1
HEADER = "prepared.json"
SPLITS = ("train", "valid", "test")
PARTS = ("rows", "offsets", "labels")
_PIECE = 1 << 20  # numbers or bytes looked at in one go
_LARGE = 1 << 28  # bytes of rows from which on they are copied, and their pages given back
_HELD = 32  # drawings read before that
_RUN = 16  # drawings beside each other in a spread


@dataclass(frozen=True, eq=False)
class Split:
    """The drawings of one split, as stroke-3 rows (dx, dy, lift) in px.

    Attributes:
        name: ``train``, ``valid`` or ``test``.
        flat: rows of all drawings one after another, (M, 3) int16 or float32, read-only.
        starts, ends: drawing i is ``flat[starts[i]:ends[i]]``, (n,) int64.
        labels: index into ``classes``, -1 without a label, (n,) int16.
        classes: class names.
        counted: :attr:`by_length`, where it is known.
    """

    name: str
    flat: NDArray[Any]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    labels: NDArray[np.int16]
    classes: tuple[str, ...]
    counted: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def __repr__(self) -> str:
        return f"<Split {self.name!r}: {len(self)} drawings, {len(self.classes)} classes>"

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """Rows of every drawing, (n,)."""
        return (self.ends - self.starts).astype(np.int32)

    def lengths_of(self, indices: ArrayLike) -> NDArray[np.int32]:
        """Rows of some drawings; of the others nothing is read."""
        chosen = np.asarray(indices, dtype=np.int64)
        return (self.ends[chosen] - self.starts[chosen]).astype(np.int32)

    @cached_property
    def by_length(self) -> NDArray[np.int64]:
        """Drawings of each class with each number of rows, (classes + 1, longest + 1).

        The last class is that of the drawings without a label.
        """
        if self.counted is not None:
            return self.counted
        longest = int(self.lengths.max()) if len(self) else 0
        counts = np.zeros((len(self.classes) + 1, longest + 1), dtype=np.int64)
        np.add.at(counts, (self.labels.astype(np.int64), self.lengths), 1)  # -1 is the last
        return counts

    def rows(self, i: int) -> NDArray[Any]:
        """Stroke-3 rows of drawing ``i``, (n, 3), a read-only view."""
        return self.flat[self.starts[i] : self.ends[i]]

    def take(self, indices: ArrayLike) -> list[NDArray[Any]]:
        """Stroke-3 rows of many drawings, in the order asked for.

        Views; of a large file copies, because the system may map megabytes around each drawing and
        count them as ours until they are given back.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        flat = self.flat
        bounds = zip(self.starts[chosen].tolist(), self.ends[chosen].tolist(), strict=True)
        if flat.nbytes < _LARGE:
            return [flat[a:b] for a, b in bounds]
        rows = []
        for a, b in bounds:
            rows.append(flat[a:b].copy())
            if len(rows) % _HELD == 0:
                _release(flat)
        _release(flat)
        return rows

    def spread(self, limit: int) -> NDArray[np.int64]:
        """Up to ``limit`` drawings, in short runs at equal distances: few pages of a large map."""
        if len(self) <= limit:
            return np.arange(len(self))
        first = np.linspace(0, len(self) - _RUN, max(1, limit // _RUN)).astype(np.int64)
        return (first[:, None] + np.arange(_RUN)).reshape(-1)

    def release(self) -> None:
        """Let the system take back the memory of what was read; it is read again when needed."""
        for array in (self.flat, self.starts, self.labels):
            _release(array)

    def label(self, i: int) -> str | None:
        """Class name of drawing ``i``, or None."""
        index = int(self.labels[i])
        return None if index < 0 else self.classes[index]

    def sketch(self, i: int) -> Sketch:
        """Drawing ``i`` as a Sketch; the prepared form keeps no origin, so it starts at (0, 0)."""
        return Sketch.from_stroke3(self.rows(i), self.label(i))

    def of_class(self, name: str) -> NDArray[np.int64]:
        """Indices of the drawings of one class, (k,).

        Raises:
            UserError: an unknown class.
        """
        return np.flatnonzero(self.labels == class_index(self.classes, name, f"{self.name} has"))

    def select(self, classes: Sequence[str]) -> Split:
        """Only the drawings of ``classes``, labeled by their place in that list.

        Raises:
            UserError: an unknown class.
        """
        place = np.full(len(self.classes) + 1, -1, dtype=np.int16)  # the last: no label
        found = [class_index(self.classes, name, f"{self.name} has") for name in classes]
        for new, old in enumerate(found):
            place[old] = new
        labels = place[self.labels]
        counted = None
        if self.counted is not None:
            counted = self.counted[[*found, -1]]
            counted[-1] = 0
        return replace(
            replace(self, labels=labels).where(labels >= 0),
            classes=tuple(self.classes[old] for old in found),
            counted=counted,
        )

    def where(self, wanted: NDArray[np.bool_]) -> Split:
        """Only the drawings where ``wanted`` (n,) is True."""
        return replace(
            self,
            starts=self.starts[wanted],
            ends=self.ends[wanted],
            labels=self.labels[wanted],
            counted=None,
        )


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """A training set on disk, opened by memory map.

    Attributes:
        path: its folder.
        train, valid, test: the splits.
        classes: class names; labels index them.
        fingerprint: sha256 over the content, hex; changes when any drawing, label or class does.
        info: ``prepared.json`` as it stands: counts, filters, sources, rejects, statistics.
    """

    path: Path
    train: Split
    valid: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    info: dict[str, Any]

    def __len__(self) -> int:
        """How many drawings in all splits."""
        return len(self.train) + len(self.valid) + len(self.test)

    def __repr__(self) -> str:
        counts = "/".join(str(len(self.split(s))) for s in SPLITS)
        return f"<PreparedSet {str(self.path)!r}: {counts} drawings, {len(self.classes)} classes>"

    def split(self, name: str) -> Split:
        """A split by its name.

        Raises:
            UserError: not one of train, valid, test.
        """
        if name not in SPLITS:
            raise UserError(f"no split {name!r}; one of: {', '.join(SPLITS)}")
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    def select(self, classes: Iterable[str]) -> PreparedSet:
        """Only the drawings of ``classes``; labels follow the order given, repeats fall out.

        Raises:
            UserError: no classes given, or an unknown one.
        """
        whose = f"{self.path} has"
        found = [self.classes[class_index(self.classes, name, whose)] for name in classes]
        names = tuple(dict.fromkeys(found))
        if not names:
            raise UserError(f"{self.path}: no classes were asked for")
        if names == self.classes and not any(self.split(s).by_length[-1].any() for s in SPLITS):
            return self
        key = json.dumps([self.fingerprint, names]).encode()
        return replace(
            self,
            train=self.train.select(names),
            valid=self.valid.select(names),
            test=self.test.select(names),
            classes=names,
            fingerprint=hashlib.sha256(key).hexdigest(),
        )

    def verify(self, report: Callable[[int], object] = lambda count: None) -> bool:
        """Whether the files still hold what the fingerprint was taken of; reads them whole.

        Args:
            report: called with how many bytes were read, again and again.
        """
        stored = self.info["fingerprint"]
        return fingerprint(self.path, self.info["classes"], report) == stored

    @classmethod
    def open(cls, path: AnyPath) -> PreparedSet:
        """Open a prepared folder; the drawings stay on disk until they are asked for.

        Raises:
            UserError: no prepared set there, one of a newer format, or a damaged one.
        """
        folder = Path(path)
        info = _read_header(folder)
        classes = tuple(info["classes"])
        parts = {s: _open_split(folder, s, classes, info) for s in SPLITS}
        return cls(folder, **parts, classes=classes, fingerprint=info["fingerprint"], info=info)


def is_prepared(path: AnyPath) -> bool:
    """Whether ``path`` is a folder with a prepared set in it."""
    return (Path(path) / HEADER).is_file()


def fingerprint(
    folder: AnyPath, classes: Sequence[str], report: Callable[[int], object] = lambda count: None
) -> str:
    """sha256, hex, over class names and all arrays of a prepared folder, in a fixed order."""
    digest = hashlib.sha256(json.dumps([FORMAT, *classes]).encode())
    for split in SPLITS:
        for part in PARTS:
            with open(Path(folder) / f"{split}.{part}.npy", "rb") as f:
                while piece := f.read(_PIECE):
                    digest.update(piece)
                    report(len(piece))
    return digest.hexdigest()


# -- opening -----------------------------------------------------------------------------------
def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged: {what}; run `sketchknitter data prepare` again")


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / HEADER
    if not folder.exists():
        raise UserError(f"{folder}: no such folder")
    if not is_prepared(folder):
        raise UserError(
            f"{folder} is no prepared set (no {HEADER}); make one with"
            f" `sketchknitter data prepare SOURCES -o {folder.name or 'prepared'}`"
        )
    try:
        info = json.loads(path.read_bytes())
        kind, version = info["kind"], info["format"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        raise _damaged(path, "it is not the JSON that prepare writes") from None
    if kind != "sketchknitter prepared set":
        raise _damaged(path, f"it describes {kind!r}")
    if version != FORMAT:
        raise UserError(f"{path} has format {version}, this version reads {FORMAT}; prepare again")
    good = (
        isinstance(info.get("classes"), list)
        and all(isinstance(c, str) for c in info["classes"])
        and isinstance(info.get("fingerprint"), str)
        and isinstance(info.get("drawings"), dict)
        and all(isinstance(info["drawings"].get(s), int) for s in SPLITS)
    )
    if not good:
        raise _damaged(path, "classes, fingerprint or drawings are missing")
    try:
        check_names(info["classes"])
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    return info


def _load(path: Path) -> NDArray[Any]:
    """An .npy file as a plain read-only array over its memory map (np.memmap slices slowly)."""
    try:
        with open(path, "rb") as f:  # NumPy would evaluate the header, and trip over some
            header = read_header(f)
            needed = f.tell() + math.prod(header.shape) * header.dtype.itemsize
        if header.dtype.hasobject or not header.dtype.itemsize or needed > path.stat().st_size:
            raise ValueError(f"{header}, but {path.stat().st_size} bytes")
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:
        raise _damaged(path, "the file is missing") from None
    except (ValueError, OSError, EOFError, OverflowError) as error:
        raise _damaged(path, f"it cannot be mapped ({error})") from None


def _release(array: NDArray[Any]) -> None:
    """Unmap the pages of an array over a memory map; nothing else of it changes."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _counted(
    folder: Path, name: str, classes: tuple[str, ...], info: dict[str, Any]
) -> NDArray[np.int64] | None:
    """What ``prepare`` counted: ``Split.by_length``; None in sets of older versions."""
    if "lengths" not in info:
        return None
    try:
        rows = [np.array(info["lengths"][name].get(c, []), np.int64) for c in (*classes, "")]
        counts = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for row, own in zip(counts, rows, strict=True):
            row[: len(own)] = own
        good = (counts >= 0).all() and counts.sum() == info["drawings"][name]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise _damaged(folder / HEADER, f"the lengths of {name} are not those of its drawings")
    return counts


def _open_split(folder: Path, name: str, classes: tuple[str, ...], info: dict[str, Any]) -> Split:
    count = info["drawings"][name]
    paths = {part: folder / f"{name}.{part}.npy" for part in PARTS}
    rows, offsets, labels = (_load(paths[part]) for part in PARTS)
    if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype not in (np.int16, np.float32):
        raise _damaged(paths["rows"], f"it holds {rows.dtype} {rows.shape}, not (M, 3) rows")
    if offsets.dtype != np.int64 or offsets.shape != (count + 1,):
        raise _damaged(paths["offsets"], f"{offsets.shape} offsets for {count} drawings")
    if labels.dtype != np.int16 or labels.shape != (count,):
        raise _damaged(paths["labels"], f"{labels.shape} labels for {count} drawings")
    if offsets[0] != 0 or offsets[-1] != len(rows) or not _rising(offsets):
        raise _damaged(paths["offsets"], f"they do not cut {len(rows)} rows into drawings")
    if count and not -1 <= labels.min() <= labels.max() < len(classes):
        raise _damaged(paths["labels"], f"a label lies outside the {len(classes)} classes")
    split = Split(
        name,
        rows,
        offsets[:-1],
        offsets[1:],
        labels,
        classes,
        _counted(folder, name, classes, info),
    )
    split.release()  # the checks above have read all offsets and labels
    return split


def _rising(offsets: NDArray[np.int64]) -> bool:
    pieces = range(0, len(offsets), _PIECE)
    return all((np.diff(offsets[a : a + _PIECE + 1]) > 0).all() for a in pieces)
