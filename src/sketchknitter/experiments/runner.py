"""Runs a table: trains, draws and measures whatever the cache does not hold yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch

from sketchknitter import io
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.errors import UserError
from sketchknitter.experiments import measuring
from sketchknitter.experiments.declare import REAL, Row, Table
from sketchknitter.experiments.gallery import DRAWN, Gallery
from sketchknitter.experiments.kinds import kind
from sketchknitter.experiments.parts import MEASURING, Parts
from sketchknitter.experiments.results import Results, collect
from sketchknitter.metrics.features import FeatureNetwork
from sketchknitter.systems.sketchknitter.model import Generator


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
        self.table, self.network, self.device = table, network, device
        self.data = data.select(table.classes) if table.classes else data
        self.parts = Parts(table, self.data, folder, network, device)
        self.gallery = Gallery(self.parts)
        self.meter = meter or Silent()
        self.omitted: dict[str, str] = {}
        self._generators: dict[str, Generator] = {}
        self._check()

    def _check(self) -> None:
        """Everything that can be known to be wrong before hours of work."""
        for model in self.table.models.values():
            kind(model.kind, f"models.{model.name}: ").check(model.options, f"models.{model.name}")
        for row in self.table.rows:
            count, chunk = self.table.drawings(row), self.table.measure.chunk
            if count % len(self.data.classes) or (count > chunk and chunk % len(self.data.classes)):
                raise UserError(
                    f"row {row.name!r}: {count} drawings in chunks of {chunk} cannot be shared "
                    f"evenly by {len(self.data.classes)} classes; make both a multiple"
                )
            if row.model != REAL:
                self.parts.kind(row.model).drawing_work(row.settings)
            self.gallery.reference(count)

    def run(self) -> Results:
        """Do what is left to do, then read everything back.

        Raises:
            UserError: a model cannot be trained, or a row not be drawn or measured.
        """
        rows = list(self._possible())
        self.meter.plan(*self.parts.work(rows))
        for name in self.parts.needed(rows):
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
        return collect(self.parts, self.gallery, rows, self.omitted)

    def _possible(self) -> Iterator[Row]:
        """Rows whose models can be made; the others are noted as left out."""
        for row in self.table.rows:
            try:
                for name in self.parts.chain(row):
                    self.parts.behavior(self.table.models[name], None)
            except UserError as error:
                if not self.table.models[row.model].optional:
                    raise
                self.omitted[row.name] = str(error)
                continue
            yield row

    def _train(self, name: str) -> None:
        part, model = self.parts.training(name), self.table.models[name]
        if part.done:
            return
        self.meter.start(f"training {name}")
        start = self.parts.training(model.of).folder if model.of else None
        kind(model.kind).train(
            model.options, self.data, part.begin(), start, self.device, self.meter.tick
        )
        part.finish({"model": name})

    def _generator(self, name: str) -> Generator:
        if name not in self._generators:
            self._generators = {
                name: self.parts.kind(name).load(self.parts.training(name).folder, self.device)
            }
        return self._generators[name]

    def _draw(self, row: Row, seed: int) -> None:
        if row.model == REAL:
            return
        for i, part in enumerate(self.parts.drawing(row, seed)):
            if part.done:
                continue
            self.meter.start(f"drawing {row.name}, seed {seed}")
            generator = self._generator(row.model)
            n = self.parts.chunks(row)[i]
            clock, cpu = time.perf_counter(), time.process_time()
            # every chunk has a seed of its own, alike for all rows: pairs of rows share their noise
            drawn = self.parts.kind(row.model).draw(
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
            io.write(drawn.sketches, part.begin() / DRAWN)
            part.finish(record)

    @cached_property
    def _bench(self) -> measuring.Bench:
        train = self.data.train if self.table.measure.copies else None
        sketches = [train.sketch(i) for i in range(len(train))] if train is not None else []
        return measuring.Bench(self.network, self.table.measure.geometry_repeats, sketches)

    def _measure(self, row: Row | None, seed: int, count: int = 0) -> None:
        count = count or self.table.drawings(row) if row is not None else count
        part = self.parts.measurement(row, seed, count)
        if part.done:
            return
        self.meter.start(f"measuring {row.name if row else 'real drawings'}, seed {seed}")
        if row is not None and row.model != REAL:
            drawn, real = (
                self.gallery.by_fold(self.gallery.drawn(row, seed)),
                self.gallery.reference(count),
            )
        else:
            first, second = self.gallery.halves(count, seed)
            drawn = self.gallery.by_fold(
                self.gallery.drawn(row, seed) if row is not None else first
            )
            real = self.gallery.by_fold(second)
        copies = self.table.measure.copies and seed == 0 and row is not None
        found = {}
        for fold, sketches in drawn.items():
            whole = fold == measuring.ALL
            found[fold] = self._bench.measure(sketches, real[fold], copies and whole)
        part.finish({"figures": found, "drawings": {k: len(v) for k, v in drawn.items()}})
        self.meter.tick(MEASURING * count)
