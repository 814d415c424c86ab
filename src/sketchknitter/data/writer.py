"""The arrays of a prepared set, written as a stream: memory does not grow with the set."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sketchknitter.data.chunks import Chunk
from sketchknitter.data.dataset import SPLITS
from sketchknitter.data.flat import where
from sketchknitter.errors import UserError

_PIECE = 1 << 20  # rows converted in one go
_MAX_CLASSES = 2**15 - 1


class _Column:
    """An .npy file that grows; its header, of fixed size, is written when it is closed."""

    def __init__(
        self, path: Path, dtype: type[np.generic], columns: int = 0, count: int | None = None
    ) -> None:
        """Begin a file, or go on after the ``count`` first numbers of one that was not closed."""
        self.path, self.dtype, self.columns = path, np.dtype(dtype), columns
        self.count = 0
        self._file = open(path, "wb" if count is None else "rb+")  # noqa: SIM115 - see close()
        self._start = len(self._header())
        if count is None:
            self._file.write(self._header())
            return
        if self._file.read(self._start) != self._header():
            raise ValueError(f"{path} holds something else")
        self.count = count
        end = self._start + count * self.dtype.itemsize * (columns or 1)
        if self._file.seek(0, os.SEEK_END) < end:
            raise ValueError(f"{path} is shorter than it should be")
        self._file.truncate(end)
        self._file.seek(end)

    def _header(self) -> bytes:
        shape = (self.count, self.columns) if self.columns else (self.count,)
        out = io.BytesIO()
        npy.write_array_header_1_0(
            out, {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        )
        return out.getvalue()

    def append(self, values: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self.count += len(values)

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> None:
        """Write the header; the file is then a whole .npy."""
        header = self._header()
        if len(header) != self._start:
            raise AssertionError("NumPy's header changed its size")
        self._file.seek(0)
        self._file.write(header)
        self.close()

    def close(self) -> None:
        self._file.close()

    def widened(self, dtype: type[np.generic]) -> _Column:
        """The same numbers as another type, in the same place."""
        self.finish()
        old = self.path.with_suffix(".narrow")
        os.replace(self.path, old)
        wide = _Column(self.path, dtype, self.columns)
        values = np.load(old, mmap_mode="r") if self.count else np.zeros((0, self.columns))
        for a in range(0, self.count, _PIECE):
            wide.append(values[a : a + _PIECE])
        old.unlink()
        return wide


class _SplitWriter:
    def __init__(self, folder: Path, name: str, state: Sequence[Any] | None = None) -> None:
        wide, rows, offsets, labels = state or (False, None, None, None)
        kind = np.float32 if wide else np.int16
        self.rows = _Column(folder / f"{name}.rows.npy", kind, 3, rows)
        self.offsets = _Column(folder / f"{name}.offsets.npy", np.int64, count=offsets)
        self.labels = _Column(folder / f"{name}.labels.npy", np.int16, count=labels)
        if state is None:
            self.offsets.append(np.zeros(1, np.int64))

    def state(self) -> list[Any]:
        """What going on takes, as JSON."""
        for column in self.columns:
            column.flush()
        return [self.rows.dtype != np.int16, *(column.count for column in self.columns)]

    def add(self, rows: NDArray[Any], lengths: NDArray[np.int64], labels: NDArray[Any]) -> None:
        if rows.dtype != np.int16 and self.rows.dtype == np.int16:
            self.rows = self.rows.widened(np.float32)
        self.offsets.append(self.rows.count + np.cumsum(lengths))
        self.rows.append(rows)
        self.labels.append(labels)

    @property
    def columns(self) -> tuple[_Column, _Column, _Column]:
        return self.rows, self.offsets, self.labels


class SetWriter:
    """Grows the three splits of a prepared set in a folder.

    Args:
        folder: where; it must exist.
        state: of a writer that did not finish there; what it wrote later is cut off.

    Raises:
        OSError, ValueError: the folder does not hold what the state says.
    """

    def __init__(self, folder: Path, state: dict[str, Any] | None = None) -> None:
        state = state or {"splits": [None] * len(SPLITS), "words": []}
        self._splits = [
            _SplitWriter(folder, name, own)
            for name, own in zip(SPLITS, state["splits"], strict=True)
        ]
        # in order of appearance
        self._words: dict[str, int] = {word: i for i, word in enumerate(state["words"])}

    def state(self) -> dict[str, Any]:
        """What going on from here takes, as JSON, once all so far is in the files."""
        return {"splits": [split.state() for split in self._splits], "words": list(self._words)}

    def add(self, chunk: Chunk) -> None:
        """Append a chunk's drawings.

        Raises:
            UserError: more classes than labels can count.
        """
        words = self._words
        own = [-1 if w is None else words.setdefault(w, len(words)) for w in chunk.words]
        if len(words) > _MAX_CLASSES:
            raise UserError(f"more than {_MAX_CLASSES} classes; are the labels really names?")
        labels = np.array(own, np.int16)[chunk.labels] if own else chunk.labels
        for i, split in enumerate(self._splits):
            mine = chunk.splits == i
            if mine.all():
                split.add(chunk.rows, chunk.lengths, labels)
            elif mine.any():
                rows = where(chunk.rows, np.repeat(mine, chunk.lengths))
                split.add(rows, chunk.lengths[mine], labels[mine])

    def finish(self) -> list[str]:
        """Complete the files; returns the class names, sorted, which labels now index."""
        classes = sorted(self._words)
        place = {name: i for i, name in enumerate(classes)}
        final = np.array([*(place[w] for w in self._words), -1], dtype=np.int16)
        for split in self._splits:
            for column in split.columns:
                column.finish()
            if split.labels.count:
                labels = np.load(split.labels.path, mmap_mode="r+")
                for a in range(0, len(labels), _PIECE):
                    labels[a : a + _PIECE] = final[labels[a : a + _PIECE]]
                labels.flush()
        return classes

    def close(self) -> None:
        """Let go of the files; needed when :meth:`finish` was not reached."""
        for split in self._splits:
            for column in split.columns:
                column.close()
