"""The fast lane: blocks of ndjson that are in QuickDraw's simplified form from end to end.

Coordinates of that form are whole numbers from 0 to 255, so ``bytes(column)`` converts and checks
a column in one go, several times faster than any conversion that admits floats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from sketchknitter.data.flat import Flat
from sketchknitter.geometry import starts_of
from sketchknitter.io.records import MAX_POINTS


def parse_simplified(lines: Sequence[bytes | None]) -> Flat | None:
    """Parse lines that all hold a simplified drawing; None if a single one does not.

    The caller then takes the careful way (``io.ndjson.parse_block``), which says what is wrong.
    """
    data = bytearray()
    columns: list[int] = []  # lengths, x and y in turn
    counts: list[int] = []
    words: list[str | None] = []
    try:
        for line in lines:
            record = orjson.loads(line)  # type: ignore[arg-type]  # None raises, as it should
            drawing = record["drawing"]
            for x, y in drawing:
                data += bytes(x)
                data += bytes(y)
                columns.append(len(x))
                columns.append(len(y))
            counts.append(len(drawing))
            words.append(record.get("word"))
    except (orjson.JSONDecodeError, TypeError, ValueError, LookupError, AttributeError):
        return None
    regular = columns[::2] == columns[1::2] and 0 not in columns and 0 not in counts
    if not columns or not regular or not {str, type(None)}.issuperset(map(type, words)):
        return None
    lengths = np.array(columns[::2], dtype=np.int64)
    strokes = np.array(counts, dtype=np.int64)
    if np.add.reduceat(lengths, starts_of(strokes)).max() > MAX_POINTS:
        return None
    values = np.frombuffer(data, dtype=np.uint8)
    at = np.arange(len(values) // 2) + np.repeat(starts_of(lengths), lengths)
    xy = np.empty((len(at), 2), dtype=np.int16)
    xy[:, 0] = values[at]
    xy[:, 1] = values[at + np.repeat(lengths, lengths)]
    return Flat(xy, lengths, strokes, words, range(len(words)))
