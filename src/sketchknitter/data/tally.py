"""What is in many drawings: counts, lengths, pen lifts, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchknitter.data.chunks import MAX_EXAMPLES, Chunk
from sketchknitter.data.dataset import SPLITS


class Tally:
    """Adds up chunks, in constant memory."""

    def __init__(self) -> None:
        self.rejects: Counter[str] = Counter()
        self.examples: list[dict[str, str]] = []
        self.by_source: dict[int, tuple[int, int]] = {}  # kept, rejected
        self._lengths: dict[tuple[str | None, str], NDArray[np.int64]] = {}  # class and split
        self._lifts = 0
        self._moments = np.zeros((2, 2))  # sum and sum of squares of dx, dy
        self._lines: Counter[int] = Counter()

    def add(self, chunk: Chunk, source: int, path: str) -> None:
        """Count one chunk of the file ``path``, which is number ``source``."""
        self.rejects.update(chunk.rejects)
        for place, reason in chunk.examples[: MAX_EXAMPLES - len(self.examples)]:
            where = f"line {self._lines[source] + place + 1}" if isinstance(place, int) else place
            self.examples.append({"source": path, "position": where, "reason": reason})
        self._lines[source] += chunk.lines
        kept, rejected = self.by_source.get(source, (0, 0))
        self.by_source[source] = kept + len(chunk), rejected + chunk.rejects.total()
        if not len(chunk):
            return
        xy = chunk.rows[:, :2]
        self._lifts += int((chunk.rows[:, 2] > 0.5).sum())
        for axis in range(2):
            column = xy[:, axis].astype(np.float64)
            self._moments[:, axis] += column.sum(), column @ column
        group = chunk.labels.astype(np.int64) * len(SPLITS) + chunk.splits
        order = np.argsort(group, kind="stable")
        found, first = np.unique(group[order], return_index=True)
        for own, lengths in zip(found, np.split(chunk.lengths[order], first[1:]), strict=True):
            label, split = divmod(int(own), len(SPLITS))
            key = chunk.words[label], SPLITS[split]
            self._lengths[key] = _sum(self._lengths.get(key), np.bincount(lengths))

    # -- going on ------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "rejects": dict(self.rejects),
            "examples": self.examples,
            "by_source": [[i, *counts] for i, counts in self.by_source.items()],
            "lengths": [[*key, n.tolist()] for key, n in self._lengths.items()],
            "lifts": self._lifts,
            "moments": self._moments.tolist(),
            "lines": list(self._lines.items()),
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> Tally:
        """The tally that had this state."""
        tally = cls()
        tally.rejects.update(state["rejects"])
        tally.examples = state["examples"]
        tally.by_source = {i: (kept, rejected) for i, kept, rejected in state["by_source"]}
        tally._lengths = {(w, s): np.array(n, np.int64) for w, s, n in state["lengths"]}
        tally._lifts = state["lifts"]
        tally._moments = np.array(state["moments"])
        tally._lines.update(dict(state["lines"]))
        return tally

    # -- what came out -------------------------------------------------------------------------
    @property
    def kept(self) -> int:
        return sum(self.drawings(s) for s in SPLITS)

    @property
    def rejected(self) -> int:
        return self.rejects.total()

    @property
    def total(self) -> int:
        return self.kept + self.rejected

    def drawings(self, split: str) -> int:
        """Drawings kept in a split."""
        return int(sum(n.sum() for (_, s), n in self._lengths.items() if s == split))

    def report(self) -> dict[str, Any]:
        """All of it, as JSON holds it; see the keys' own methods."""
        return {
            "drawings": {s: self.drawings(s) for s in SPLITS},
            "counts": self.class_counts(),
            "total": self.total,
            "kept": self.kept,
            "rejected": self.rejected,
            "rejects": dict(self.rejects.most_common()),
            "reject_examples": self.examples,
            "statistics": self.statistics(),
        }

    def class_counts(self) -> dict[str, dict[str, int]]:
        """class -> split -> drawings; classes sorted, drawings without one under ``""``."""
        counts = {key: int(n.sum()) for key, n in self._lengths.items()}
        names = sorted({name or "" for name, _ in counts})
        return {n: {s: counts.get((n or None, s), 0) for s in SPLITS} for n in names}

    def lengths(self) -> dict[str, dict[str, list[int]]]:
        """split -> class -> drawings of 0, 1, 2, … rows; drawings without a class under ``""``."""
        out: dict[str, dict[str, list[int]]] = {s: {} for s in SPLITS}
        for (name, split), counts in self._lengths.items():
            out[split][name or ""] = counts.tolist()
        return out

    def statistics(self) -> dict[str, Any]:
        """Of all kept drawings: rows, lengths, pen-lift rate, spread of the offsets in px."""
        lengths = np.zeros(0, np.int64)
        for own in self._lengths.values():
            lengths = _sum(lengths, own)
        rows = int(lengths @ np.arange(len(lengths)))
        if not rows:
            return {"rows": 0}
        mean = self._moments[0] / rows
        spread = np.sqrt(np.maximum(self._moments[1] / rows - mean**2, 0))
        below = np.cumsum(lengths)
        marks = {q: int(np.searchsorted(below, q * below[-1])) for q in (0.05, 0.5, 0.95)}
        return {
            "rows": rows,
            "pen_lift_rate": round(self._lifts / rows, 6),
            "offset_std": [round(float(s), 4) for s in spread],
            "length": {
                "min": int(np.flatnonzero(lengths)[0]),
                "5%": marks[0.05],
                "median": marks[0.5],
                "95%": marks[0.95],
                "max": len(lengths) - 1,
                "mean": round(rows / int(below[-1]), 3),
            },
            "length_histogram": _histogram(lengths),
        }

    def why(self) -> str:
        """The rejects in one line."""
        if not self.rejects:
            return "there is none in the sources"
        first = self.examples[0]
        return (
            ", ".join(f"{n} × {reason}" for reason, n in self.rejects.most_common())
            + f" (first: {first['source']}, {first['position']}: {first['reason']})"
        )


def _sum(a: NDArray[np.int64] | None, b: NDArray[np.int64]) -> NDArray[np.int64]:
    if a is None:
        return b
    out = np.zeros(max(len(a), len(b)), np.int64)
    out[: len(a)] = a
    out[: len(b)] += b
    return out


def _histogram(lengths: NDArray[np.int64], bars: int = 16) -> list[list[int]]:
    """[[first, last, drawings], …] over equally wide ranges of length."""
    width = max(1, -(-(len(lengths) - 1) // bars))
    return [
        [a, min(a + width - 1, len(lengths) - 1), int(lengths[a : a + width].sum())]
        for a in range(1, len(lengths), width)
    ]
