"""The fast lane: blocks of ndjson that are in QuickDraw's simplified form from end to end.

Coordinates of that form are whole numbers from 0 to 255, so ``bytes(numbers)`` converts and checks
a drawing in one go, several times faster than any conversion that admits floats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from sketchknitter.data.flat import Flat
from sketchknitter.geometry import starts_of
from sketchknitter.io.records import MAX_POINTS

_TEXT = {str, type(None)}


def parse_simplified(lines: Sequence[bytes | None]) -> Flat | None:
    """Parse lines that all hold a simplified drawing; None if a single one does not.

    The caller then takes the careful way (``io.ndjson.parse_block``), which says what is wrong.
    """
    data: list[bytes] = []
    lengths: list[int] = []
    counts: list[int] = []
    words: list[str | None] = []
    try:
        for line in lines:
            record = orjson.loads(line)  # type: ignore[arg-type]  # None raises, as it should
            drawing = record["drawing"]
            numbers: list[int] = []
            for x, y in drawing:
                if len(x) != len(y):
                    return None
                lengths.append(len(x))
                numbers += x
                numbers += y
            data.append(bytes(numbers))
            counts.append(len(drawing))
            words.append(record.get("word"))
    except (orjson.JSONDecodeError, TypeError, ValueError, LookupError, AttributeError):
        return None
    if not lengths or 0 in lengths or 0 in counts:
        return None
    if max(map(len, data)) > 2 * MAX_POINTS or not _TEXT.issuperset(map(type, words)):
        return None
    points = np.array(lengths, dtype=np.int64)
    values = np.frombuffer(b"".join(data), dtype=np.uint8)
    at = np.arange(len(values) // 2) + np.repeat(starts_of(points), points)
    xy = np.empty((len(at), 2), dtype=np.int16)
    xy[:, 0] = values[at]
    xy[:, 1] = values[at + np.repeat(points, points)]
    return Flat(xy, points, np.array(counts, dtype=np.int64), words, range(len(words)))
