"""Runs a table: trains, draws and measures whatever the cache does not hold yet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from sketchknitter import io
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.shuffle import PointShuffle, reconnect
from sketchknitter.errors import UserError
from sketchknitter.experiments import measuring
from sketchknitter.experiments.cache import Cache, Part, digest
from sketchknitter.experiments.declare import REAL, Model, Row, Table
from sketchknitter.experiments.kinds import Facts, Kind, kind
from sketchknitter.metrics.features import FeatureNetwork
from sketchknitter.model import Generator
from sketchknitter.seeds import stream
from sketchknitter.sketch import Sketch

SHUFFLED = 68  # what a random stream is for
MEASURING = 2.0  # measuring one drawing costs about as much as so many evaluations
DRAWN = "drawn.npz"


class Meter(Protocol):
    """Told what goes on; units are evaluations of one drawing."""

    def plan(self, total: float, finished: float) -> None: ...

    def start(self, what: str) -> None: ...

    def tick(self, work: float) -> None: ...


class Silent:
    """A meter that says nothing."""

    def plan(self, total: float, finished: float) -> None:
        pass

    def start(self, what: str) -> None:
        pass

    def tick(self, work: float) -> None:
        pass


@dataclass(frozen=True)
class Measured:
    """A row with its figures.

    Attributes:
        figures: fold (``all`` among them) to metric to one value for each seed.
        drawings: of each seed and fold.
        seconds, cpu: wall-clock and processor seconds for each drawing, means over seeds.
        evaluations: of the network for each drawing, guidance not counted; None: not counted.
        facts: of its model.
        shown: drawings at random, of the first seed.
    """

    row: Row
    figures: dict[str, dict[str, list[float]]]
    drawings: dict[str, int]
    seconds: float | None = None
    cpu: float | None = None
    evaluations: float | None = None
    threads: int = 0
    facts: Facts = field(default_factory=Facts)
    shown: tuple[Sketch, ...] = ()


@dataclass(frozen=True)
class Results:
    """Everything a report is made of.

    Attributes:
        groups: name to rows in the order declared.
        floors: group to real drawings measured against real ones.
        omitted: row name to the reason.
        folds: fold to its classes.
        conditions: what else a reader must know.
    """

    table: Table
    groups: dict[str, list[Measured]]
    floors: dict[str, Measured]
    omitted: dict[str, str]
    folds: dict[str, tuple[str, ...]]
    points: dict[str, float]
    conditions: dict[str, Any]


class Runner:
    """One table on one data set.

    Args:
        table: what to do.
        data: with train, valid and test drawings.
        folder: where the cache is.
        network: the judge.
        meter: told of progress.
        device: where models train and draw.
    """

    def __init__(
        self,
        table: Table,
        data: PreparedSet,
        folder: Path,
        network: FeatureNetwork,
        meter: Meter | None = None,
        device: str = "cpu",
    ) -> None:
        self.table, self.network = table, network
        self.data = data.select(table.classes) if table.classes else data
        self.cache, self.meter = Cache(folder / "cache"), meter or Silent()
        self.classes = self.data.classes
        self.device = device
        # another device rounds differently; what was made on processors has no mark
        self._mark = {} if device == "cpu" else {"device": device.split(":")[0]}
        self.omitted: dict[str, str] = {}
        self._behaviors: dict[str, Any] = {}
        self._generators: dict[str, Generator] = {}
        self._check()

    def _check(self) -> None:
        """Everything that can be known to be wrong before hours of work."""
        for model in self.table.models.values():
            kind(model.kind, f"models.{model.name}: ").check(model.options, f"models.{model.name}")
        for row in self.table.rows:
            count, chunk = self.table.drawings(row), self.table.measure.chunk
            if count % len(self.classes) or (count > chunk and chunk % len(self.classes)):
                raise UserError(
                    f"row {row.name!r}: {count} drawings in chunks of {chunk} cannot be shared "
                    f"evenly by {len(self.classes)} classes; make both a multiple"
                )
            if row.model != REAL:
                self._kind(row.model).drawing_work(row.settings)
            self._reference(count)

    # -- parts -------------------------------------------------------------------------------------
    def _kind(self, model: str) -> Kind:
        return kind(self.table.models[model].kind)

    def _behavior(self, model: Model, settings: dict[str, Any] | None) -> Any:
        key = digest([model.kind, model.options, settings])
        if key not in self._behaviors:
            self._behaviors[key] = kind(model.kind).behavior(model.options, settings)
        return self._behaviors[key]

    def training(self, name: str) -> Part:
        """The part that makes a model."""
        model = self.table.models[name]
        key = {
            "kind": model.kind,
            "options": model.options,
            "data": self.data.fingerprint,
            "of": self.training(model.of).digest if model.of else None,
            "behavior": self._behavior(model, None),
            **self._mark,
        }
        return self.cache.part("model", key)

    def _chunks(self, row: Row) -> list[int]:
        count, chunk = self.table.drawings(row), self.table.measure.chunk
        return [min(chunk, count - a) for a in range(0, count, chunk)]

    def drawing(self, row: Row, seed: int) -> list[Part]:
        """The parts that draw a row, in chunks."""
        model = self.table.models[row.model]
        base = {
            "model": self.training(row.model).digest,
            "settings": row.settings,
            "behavior": self._behavior(model, row.settings),
            "batch_size": self.table.measure.batch_size,
            "seed": seed,
            **self._mark,
        }
        sizes = self._chunks(row)
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

    # -- the run -----------------------------------------------------------------------------------
    def run(self) -> Results:
        """Do what is left to do, then read everything back.

        Raises:
            UserError: a model cannot be trained, or a row not be drawn or measured.
        """
        rows = list(self._possible())
        self.meter.plan(*self._work(rows))
        for name in self._needed(rows):
            self._train(name)
        for row in list(rows):
            try:
                for seed in self.table.seeds(row):
                    self._draw(row, seed)
                    self._measure(row, seed)
            except UserError as error:
                if not row.optional:
                    raise UserError(f"row {row.name!r}: {error}") from None
                self.omitted[row.name] = str(error)
                rows.remove(row)
        for count in sorted({self.table.drawings(r) for r in rows}):
            for seed in range(self.table.measure.seeds):
                self._measure(None, seed, count)
        return self._results(rows)

    def _possible(self) -> Iterator[Row]:
        """Rows whose models can be made; the others are noted as left out."""
        for row in self.table.rows:
            chain = [row.model] if row.model != REAL else []
            while chain and self.table.models[chain[-1]].of:
                chain.append(self.table.models[chain[-1]].of)
            try:
                for name in chain:
                    self._behavior(self.table.models[name], None)
            except UserError as error:
                if not self.table.models[row.model].optional:
                    raise
                self.omitted[row.name] = str(error)
                continue
            yield row

    def _needed(self, rows: Sequence[Row]) -> list[str]:
        """Models in an order in which each comes after the one it starts from."""
        out: dict[str, None] = {}

        def add(name: str) -> None:
            if self.table.models[name].of:
                add(self.table.models[name].of)
            out[name] = None

        for row in rows:
            if row.model != REAL:
                add(row.model)
        return list(out)

    def _work(self, rows: Sequence[Row]) -> tuple[float, float]:
        """(all, finished) work, estimated."""
        total = finished = 0.0
        works: dict[Path, tuple[Part, float]] = {}
        for name in self._needed(rows):
            part, model = self.training(name), self.table.models[name]
            works[part.folder] = part, kind(model.kind).training_work(model.options)
        for row in rows:
            count = self.table.drawings(row)
            for seed in self.table.seeds(row):
                part = self.measurement(row, seed, count)
                works[part.folder] = part, MEASURING * count
                if row.model == REAL:
                    continue
                each = self._kind(row.model).drawing_work(row.settings)
                for part, n in zip(self.drawing(row, seed), self._chunks(row), strict=True):
                    works[part.folder] = part, each * n
        for count in {self.table.drawings(row) for row in rows}:
            for seed in range(self.table.measure.seeds):
                part = self.measurement(None, seed, count)
                works[part.folder] = part, MEASURING * count
        for part, work in works.values():
            total += work
            finished += work if part.done else 0.0
        return total, finished

    def _train(self, name: str) -> None:
        part, model = self.training(name), self.table.models[name]
        if part.done:
            return
        self.meter.start(f"training {name}")
        start = self.training(model.of).folder if model.of else None
        kind(model.kind).train(
            model.options, self.data, part.folder, start, self.device, self.meter.tick
        )
        part.finish({"model": name})

    def _generator(self, name: str) -> Generator:
        if name not in self._generators:
            self._generators = {
                name: self._kind(name).load(self.training(name).folder, self.device)
            }
        return self._generators[name]

    def _draw(self, row: Row, seed: int) -> None:
        if row.model == REAL:
            return
        for i, part in enumerate(self.drawing(row, seed)):
            if part.done:
                continue
            self.meter.start(f"drawing {row.name}, seed {seed}")
            generator = self._generator(row.model)
            n = self._chunks(row)[i]
            clock, cpu = time.perf_counter(), time.process_time()
            # every chunk has a seed of its own, alike for all rows: pairs of rows share their noise
            drawn = self._kind(row.model).draw(
                generator,
                n,
                1000 * seed + i,
                row.settings,
                self.table.measure.batch_size,
                self.meter.tick,
            )
            record = {
                "n": n,
                "seconds": round(time.perf_counter() - clock, 3),
                "cpu": round(time.process_time() - cpu, 3),
                "threads": torch.get_num_threads(),
                "evaluations": drawn.evaluations,
            }
            io.write(drawn.sketches, part.folder / DRAWN)
            part.finish(record)

    # -- measuring ---------------------------------------------------------------------------------
    @cached_property
    def _folds(self) -> dict[str, tuple[str, ...]]:
        return measuring.folds(self.data.train)

    @cached_property
    def _bench(self) -> measuring.Bench:
        train = self.data.train if self.table.measure.copies else None
        sketches = [train.sketch(i) for i in range(len(train))] if train is not None else []
        return measuring.Bench(self.network, self.table.measure.geometry_repeats, sketches)

    def _reference(self, count: int) -> dict[str, list[Sketch]]:
        """Real test drawings by fold, the same objects at every call."""
        known = self.__dict__.setdefault("_references", {})
        if count not in known:
            drawn = measuring.draw_real([self.data.test], self.classes, count, measuring.REFERENCE)
            known[count] = self._by_fold(drawn)
        return known[count]

    def _by_fold(self, sketches: list[Sketch]) -> dict[str, list[Sketch]]:
        """All drawings, and where classes span several folds also those of each."""
        out = {measuring.ALL: sketches}
        labeled = all(s.label is not None for s in sketches)
        if self.table.measure.folds and labeled and len(self._folds) > 1:
            for fold, classes in self._folds.items():
                part = [s for s in sketches if s.label in classes]
                if len(part) > measuring.K:
                    out[fold] = part
        return out

    def drawings(self, row: Row, seed: int) -> list[Sketch]:
        """What a row drew, finished as the row says."""
        if row.model == REAL:
            count = self.table.drawings(row)
            both = [self.data.valid, self.data.test]
            found = measuring.draw_halves(both, self.classes, count, seed)[0]
        else:
            parts = self.drawing(row, seed)
            found = [s for p in parts for s in io.read(p.folder / DRAWN, split="test")]
        if strangers := {s.label for s in found} - {None, *self.classes}:
            raise UserError(f"it draws {', '.join(map(str, strangers))}, which the data have not")
        if row.finish == "shuffle and reconnect":
            change = PointShuffle("full")
            found = [
                Sketch.from_stroke3(change(s.to_stroke3(), stream(seed, SHUFFLED, i)), s.label)
                for i, s in enumerate(found)
            ]
        return [reconnect(s) for s in found] if row.finish else found

    def _measure(self, row: Row | None, seed: int, count: int = 0) -> None:
        count = count or self.table.drawings(row) if row is not None else count
        part = self.measurement(row, seed, count)
        if part.done:
            return
        self.meter.start(f"measuring {row.name if row else 'real drawings'}, seed {seed}")
        if row is not None and row.model != REAL:
            drawn, real = self._by_fold(self.drawings(row, seed)), self._reference(count)
        else:
            both = [self.data.valid, self.data.test]
            first, second = measuring.draw_halves(both, self.classes, count, seed)
            drawn = self._by_fold(self.drawings(row, seed) if row is not None else first)
            real = self._by_fold(second)
        copies = self.table.measure.copies and seed == 0 and row is not None
        found = {}
        for fold, sketches in drawn.items():
            whole = fold == measuring.ALL
            found[fold] = self._bench.measure(sketches, real[fold], copies and whole)
        part.finish({"figures": found, "drawings": {k: len(v) for k, v in drawn.items()}})
        self.meter.tick(MEASURING * count)

    # -- reading back ------------------------------------------------------------------------------
    def _measured(self, row: Row | None, count: int, seeds: Sequence[int]) -> Any:
        figures: dict[str, dict[str, list[float]]] = {}
        sizes: dict[str, int] = {}
        for seed in seeds:
            record = self.measurement(row, seed, count).record
            sizes = record["drawings"]
            for fold, values in record["figures"].items():
                for name, value in values.items():
                    figures.setdefault(fold, {}).setdefault(name, []).append(value)
        return figures, sizes

    def _results(self, rows: Sequence[Row]) -> Results:
        groups: dict[str, list[Measured]] = {}
        floors: dict[str, Measured] = {}
        for row in rows:
            count, seeds = self.table.drawings(row), self.table.seeds(row)
            groups.setdefault(row.group, []).append(self._read(row, count, seeds))
            if row.group not in floors:
                name = "real against real (floor)"
                halves = Row(name, REAL, group=row.group, drawings=count)
                ways = range(self.table.measure.seeds)
                found = self._measured(None, count, ways)
                floors[row.group] = Measured(halves, *found)
        return Results(
            self.table,
            groups,
            floors,
            dict(self.omitted),
            self._folds,
            measuring.average_points(self.data.train),
            self._conditions(),
        )

    def _read(self, row: Row, count: int, seeds: range) -> Measured:
        figures, sizes = self._measured(row, count, seeds)
        found = self.drawings(row, 0)
        shown = stream(0, SHUFFLED, 1).permutation(len(found))[: self.table.measure.shown]
        sketches = tuple(found[i] for i in sorted(shown))
        if row.model == REAL:
            return Measured(row, figures, sizes, shown=sketches)
        records = [p.record for seed in seeds for p in self.drawing(row, seed)]
        n = sum(r["n"] for r in records)
        facts = self._kind(row.model).facts(self.training(row.model).folder)
        return Measured(
            row,
            figures,
            sizes,
            sum(r["seconds"] for r in records) / n,
            sum(r["cpu"] for r in records) / n,
            _mean([r.get("evaluations") for r in records]),
            max(r["threads"] for r in records),
            facts,
            sketches,
        )

    def _conditions(self) -> dict[str, Any]:
        import platform

        from sketchknitter import __version__

        measure = self.table.measure
        return {
            "judge": f"{self.network.name} ({self.network.identity})",
            "data": f"{self.data.fingerprint[:16]}, {len(self.data.train)} training, "
            f"{len(self.data.valid)} validation and {len(self.data.test)} test drawings",
            "classes": ", ".join(self.classes),
            "Geometry Score repeats": measure.geometry_repeats,
            "batch size of drawing": measure.batch_size,
            "sketchknitter": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
