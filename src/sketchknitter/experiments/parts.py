"""What a table consists of as work: every part, the key it is cached under, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.experiments import measuring
from sketchknitter.experiments.cache import Cache, Part, digest
from sketchknitter.experiments.declare import REAL, Model, Row, Table
from sketchknitter.experiments.kinds import Kind
from sketchknitter.experiments.kinds import kind as find_kind
from sketchknitter.metrics.features import FeatureNetwork

MEASURING = 2.0  # measuring one drawing costs about as much as so many evaluations


class Parts:
    """The parts of one table on one data set.

    Args:
        table: what is declared.
        data: its classes alone.
        folder: where the cache is.
        network: the judge.
        device: where models train and draw.
    """

    def __init__(
        self, table: Table, data: PreparedSet, folder: Path, network: FeatureNetwork, device: str
    ) -> None:
        self.table, self.data, self.network = table, data, network
        self.cache = Cache(folder / "cache")
        # another device rounds differently; what was made on processors has no mark
        self._mark = {} if device == "cpu" else {"device": device.split(":")[0]}
        self._behaviors: dict[str, Any] = {}
        self._kinds: dict[str, Kind] = {}

    def kind(self, model: str) -> Kind:
        """The kind of the model of that name."""
        return self.find(self.table.models[model].kind)

    def find(self, name: str) -> Kind:
        """The kind of that name, the same object each time."""
        return self._kinds.setdefault(name, find_kind(name))

    def behavior(self, model: Model, settings: dict[str, Any] | None) -> Any:
        """What the code does now: part of every key, see :class:`Kind`."""
        key = digest([model.kind, model.options, settings])
        if key not in self._behaviors:
            self._behaviors[key] = self.find(model.kind).behavior(model.options, settings)
        return self._behaviors[key]

    def training(self, name: str) -> Part:
        """The part that makes a model."""
        model = self.table.models[name]
        key = {
            "kind": model.kind,
            "options": model.options,
            "data": self.data.fingerprint,
            "of": self.training(model.of).digest if model.of else None,
            "behavior": self.behavior(model, None),
            **self._mark,
        }
        return self.cache.part("model", key)

    def chunks(self, row: Row) -> list[int]:
        """How many drawings each chunk of a row holds."""
        count, chunk = self.table.drawings(row), self.table.measure.chunk
        return [min(chunk, count - a) for a in range(0, count, chunk)]

    def drawing(self, row: Row, seed: int) -> list[Part]:
        """The parts that draw a row, in chunks."""
        model = self.table.models[row.model]
        base = {
            "model": self.training(row.model).digest,
            "settings": row.settings,
            "behavior": self.behavior(model, row.settings),
            "batch_size": self.table.measure.batch_size,
            "seed": seed,
            **self._mark,
        }
        sizes = self.chunks(row)
        return [
            self.cache.part("drawings", base | {"chunk": i, "n": n}) for i, n in enumerate(sizes)
        ]

    def measurement(self, row: Row | None, seed: int, count: int) -> Part:
        """The part that measures one seed of a row; without a row, of the floor."""
        measure = self.table.measure
        drawn: Any = "halves"
        if row is not None:
            real = row.model == REAL
            drawn = "heldout" if real else [p.digest for p in self.drawing(row, seed)]
        key = {
            "drawings": drawn,
            "finish": row.finish if row else "",
            "seed": seed,
            "count": count,
            "data": self.data.fingerprint,
            "judge": [self.network.name, self.network.identity],
            "geometry_repeats": measure.geometry_repeats,
            "copies": measure.copies and seed == 0 and row is not None,
            "folds": measure.folds,
            "behavior": self._measuring,
        }
        return self.cache.part("figures", key)

    @cached_property
    def _measuring(self) -> Any:
        return measuring.behavior()

    def chain(self, row: Row) -> list[str]:
        """The model of a row, the one it starts from, and so on."""
        out = [row.model] if row.model != REAL else []
        while out and self.table.models[out[-1]].of:
            out.append(self.table.models[out[-1]].of)
        return out

    def needed(self, rows: Sequence[Row]) -> list[str]:
        """Models of rows, each after the one it starts from."""
        return list(dict.fromkeys(name for row in rows for name in reversed(self.chain(row))))

    def work(self, rows: Sequence[Row]) -> tuple[float, float]:
        """(all, finished) work, estimated."""
        total = finished = 0.0
        works: dict[Path, tuple[Part, float]] = {}
        for name in self.needed(rows):
            part, model = self.training(name), self.table.models[name]
            works[part.folder] = part, self.find(model.kind).training_work(model.options)
        for row in rows:
            count = self.table.drawings(row)
            for seed in self.table.seeds(row):
                part = self.measurement(row, seed, count)
                works[part.folder] = part, MEASURING * count
                if row.model == REAL:
                    continue
                each = self.kind(row.model).drawing_work(row.settings)
                for part, n in zip(self.drawing(row, seed), self.chunks(row), strict=True):
                    works[part.folder] = part, each * n
        for count in {self.table.drawings(row) for row in rows}:
            for seed in range(self.table.measure.seeds):
                part = self.measurement(None, seed, count)
                works[part.folder] = part, MEASURING * count
        for part, work in works.values():
            total += work
            finished += work if part.done else 0.0
        return total, finished
