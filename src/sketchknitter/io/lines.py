"""The lines of a file of any size, by byte range, in constant memory whatever a line's length."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

from sketchknitter.files import AnyPath
from sketchknitter.io.records import MAX_LINE, MIB


def iter_line_blocks(
    path: AnyPath, start: int = 0, end: int | None = None, piece: int = MIB
) -> Iterator[tuple[int, list[bytes | None]]]:
    """The lines that begin in ``[start, end)``, a block at a time, without their newlines.

    A line belongs to the range in which its first byte stands, so ranges that tile the file yield
    every line once. The fast way: a whole block into ``ndjson.parse_block``.

    Yields:
        (byte offset of the block's first line, lines); None stands for a line longer than
        ``MAX_LINE``, which is passed over in constant memory.
    """
    size = os.path.getsize(path)
    end = size if end is None else min(end, size)
    with open(path, "rb") as f:
        f.seek(max(start - 1, 0))
        at = start
        if start > 0:
            at += _skip_line(f, piece) - 1  # from the byte before: a line may begin at ``start``
            f.seek(at)
        rest: bytes = b""  # the beginning of a line whose end has not been read yet
        while at < end:
            data = f.read(piece)
            if not data and not rest:
                return
            lines: list[bytes | None] = list((rest + data).split(b"\n"))
            tail = lines.pop() or b""
            if not data:  # the end of the file is the end of its last line
                lines, tail = [tail], b""
            block = at
            at += len(rest) + len(data) - len(tail)
            if at > end:
                lines = _before(lines, block, end)
            rest = tail
            if at < end and len(rest) > MAX_LINE:
                lines.append(None)
                skipped = _skip_line(f, piece)
                at, rest = at + len(rest) + skipped, b""
            if lines:
                yield block, lines


def _skip_line(f: IO[bytes], piece: int) -> int:
    """Read to the end of the current line; how many bytes that was."""
    count = 0
    while data := f.readline(piece):
        count += len(data)
        if data.endswith(b"\n"):
            break
    return count


def _before(lines: list[bytes | None], at: int, end: int) -> list[bytes | None]:
    """Those of the lines that begin before ``end``; the first begins at ``at``."""
    for i, line in enumerate(lines):
        if at >= end:
            return lines[:i]
        at += len(line or b"") + 1
    return lines
