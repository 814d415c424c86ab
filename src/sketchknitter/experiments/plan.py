"""What a table consists of as steps: every one with the key it is cached under."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

from sketchknitter.errors import UserError
from sketchknitter.experiments import sets, work
from sketchknitter.experiments.cache import Cache, digest
from sketchknitter.experiments.declare import CLEAN, REAL, Row, Table
from sketchknitter.experiments.probe import Probe, file_hash, options_of
from sketchknitter.experiments.steps import Context, Step
from sketchknitter.systems.contract import Budget
from sketchknitter.systems.registry import make

TRAINING, DRAWING, MEASURING = 300.0, 0.2, 0.05  # guesses, in seconds: of one, and of each drawing


class Plan:
    """The steps of one table.

    Args:
        table: what is declared.
        context: data (its classes alone), judge, device.
        folder: where the cache is.
        probe: asks what the code does; default: one that keeps its answers in the cache.
    """

    def __init__(
        self, table: Table, context: Context, folder: Path, probe: Probe | None = None
    ) -> None:
        self.table, self.context, self.data = table, context, context.data
        self.cache = Cache(folder / "cache")
        self.probe = probe or Probe(table.models, self.cache.folder / "probes")
        # another device rounds differently; what was made on processors has no mark
        device = context.device.split(":")[0]
        self._mark = {} if device == "cpu" else {"device": device}
        self._steps: dict[str, Step] = {}
        self.rows = [dataclasses.replace(r, drawings=table.drawings(r)) for r in table.rows]

    # -- before the work ---------------------------------------------------------------------------
    def check(self) -> None:
        """Everything that can be known to be wrong before hours of work.

        Raises:
            UserError: options, numbers of drawings, or settings that cannot be.
        """
        classes = len(self.data.classes)
        for model in self.table.models.values():
            make(model.kind, model.options, f"models.{model.name}")
        for row in self.rows:
            if row.damage:
                continue
            count, chunk = row.drawings, self.table.measure.chunk
            if count % classes or (count > chunk and chunk % classes):
                raise UserError(
                    f"row {row.name!r}: {count} drawings in chunks of {chunk} cannot be shared "
                    f"evenly by {classes} classes; make both a multiple"
                )
            sets.reference(self.data, count)

    def possible(self) -> tuple[list[Row], dict[str, str]]:
        """Rows that can be drawn, and the others with the reason.

        Each system was made small, trained for two updates, and drew three drawings with the
        settings of each of its rows.

        Raises:
            UserError: a row that is not optional (nor its model) cannot be drawn.
        """
        rows, omitted = [], {}
        for row in self.rows:
            try:
                for seed in self.table.seeds(row):
                    self.measurement(row, seed)
            except (TypeError, ValueError) as error:  # a setting that a user's system chokes on
                raise UserError(f"row {row.name!r}: {error}") from error
            except UserError as error:
                model = self.table.models.get(row.model)
                if not (row.optional or (model is not None and model.optional)):
                    raise UserError(f"row {row.name!r}: {error}") from None
                omitted[row.full_name] = str(error)
                continue
            rows.append(row)
        return rows, omitted

    # -- steps -------------------------------------------------------------------------------------
    def training(self, name: str) -> Step:
        """The step that makes a model."""
        if name in self._steps:
            return self._steps[name]
        model = self.table.models[name]
        system = make(model.kind, model.options, f"models.{name}")
        start = self.training(model.of) if model.of else None
        key = {
            "kind": model.kind,
            "options": options_of(system),
            "inputs": [file_hash(p) for p in getattr(system, "reads", list)()],
            "data": self.data.fingerprint,
            "of": start.part.digest if start else None,
            "behavior": self.probe.training(name),
            **self._mark,
        }
        spent: Budget = getattr(system, "spent", system.budget)
        self._steps[name] = Step(
            self.cache.part("model", key),
            f"training {name}",
            work.Train(model),
            (start,) if start else (),
            spent.seconds or TRAINING,
            optional=model.optional,
        )
        return self._steps[name]

    def chunks(self, row: Row) -> list[int]:
        """How many drawings each chunk of a row holds."""
        chunk = self.table.measure.chunk
        count = row.drawings
        if row.damage:
            count = len(sets.chosen(self.data, row.drawings))
        return [min(chunk, count - a) for a in range(0, count, chunk)]

    def drawing(self, row: Row, seed: int) -> list[Step]:
        """The steps that draw a row, in chunks."""
        if row.model in (REAL, CLEAN):
            return []
        model, trained = self.table.models[row.model], self.training(row.model)
        batch = self.table.measure.batch_size
        base: dict[str, Any] = {
            "model": trained.part.digest,
            "settings": row.settings,
            "behavior": self.probe.drawing(row.model, row.settings, row.task),
            "batch_size": batch,
            "seed": seed,
            **self._mark,
        }
        if row.damage:
            base |= {"data": self.data.fingerprint, "damage": row.damage, "task": row.task}
            base |= {"labeled": row.labeled, "endings": row.endings, "drawings": row.drawings}
        out, first = [], 0
        for i, n in enumerate(self.chunks(row)):
            out.append(
                Step(
                    self.cache.part("drawings", base | {"chunk": i, "n": n}),
                    f"drawing {row.name}, seed {seed}",
                    work.Draw(model, row, first, n, i, seed, batch),
                    (trained,),
                    DRAWING * n * row.endings,
                    digest([row.model, row.settings, row.task, n]),
                    row.optional or model.optional,
                )
            )
            first += n
        return out

    def measurement(self, row: Row | None, seed: int, count: int = 0) -> Step:
        """The step that measures one seed of a row; without a row, of the floor."""
        measure = self.table.measure
        count = row.drawings if row is not None else count
        drawings = self.drawing(row, seed) if row is not None else []
        drawn: Any = [s.part.digest for s in drawings]
        if not drawings:
            drawn = "halves" if row is None else row.model
        key = {
            "drawings": drawn,
            "finish": row.finish if row else "",
            "damage": [row.damage, row.endings] if row and row.damage else "",
            "seed": seed,
            "count": count,
            "data": self.data.fingerprint,
            "judge": [self.context.network.name, self.context.network.identity],
            "geometry_repeats": measure.geometry_repeats,
            "copies": measure.copies and seed == 0 and row is not None,
            "folds": measure.folds,
            "behavior": self._measuring,
        }
        return Step(
            self.cache.part("figures", key),
            f"measuring {row.name if row else 'real drawings'}, seed {seed}",
            work.Score(measure, row, seed, count),
            tuple(drawings),
            MEASURING * count,
            digest(["figures", count, bool(row and row.damage), key["copies"]]),
            any(s.optional for s in drawings),
        )

    def floors(self, rows: list[Row]) -> list[Step]:
        """Real drawings against real ones, for every number of drawings."""
        counts = sorted({r.drawings for r in rows if not r.damage})
        seeds = range(self.table.measure.seeds)
        return [self.measurement(None, seed, count) for count in counts for seed in seeds]

    def steps(self, rows: list[Row]) -> list[Step]:
        """Everything that ``rows`` need: all trainings first."""
        own = [self.measurement(row, seed) for row in rows for seed in self.table.seeds(row)]
        names = dict.fromkeys(r.model for r in rows if r.model in self.table.models)
        return [*(self.training(n) for n in names), *own, *self.floors(rows)]

    @cached_property
    def _measuring(self) -> Any:
        return work.measuring_behavior()
