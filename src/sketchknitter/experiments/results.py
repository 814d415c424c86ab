"""Results of a finished table, read back from its cache."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sketchknitter import __version__
from sketchknitter.experiments import sets, work
from sketchknitter.experiments.cache import Part
from sketchknitter.experiments.declare import CLEAN, REAL, Row, Table
from sketchknitter.experiments.plan import Plan
from sketchknitter.experiments.runner import Meter, Runner
from sketchknitter.experiments.steps import Context
from sketchknitter.experiments.team import Team, first
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.contract import TrainRecord

FLOOR = "real against real (floor)"
Figures = dict[str, dict[str, list[float]]]  # fold to metric to one value for each seed


@dataclass(frozen=True)
class Measured:
    """A row with its figures.

    Attributes:
        figures: the fold ``all`` is among them.
        drawings: of each seed and fold.
        seconds, cpu: wall-clock and processor seconds for each drawing, means over seeds.
        evaluations: of the network for each drawing, guidance not counted; None: not counted.
        facts: of its model's training.
        shown: drawings at random, of the first seed.
    """

    row: Row
    figures: Figures
    drawings: dict[str, int]
    seconds: float | None = None
    cpu: float | None = None
    evaluations: float | None = None
    threads: int = 0
    facts: TrainRecord = field(default_factory=TrainRecord)
    shown: tuple[Sketch, ...] = ()


@dataclass(frozen=True)
class Results:
    """Everything a report is made of.

    Attributes:
        groups: name to rows in the order declared.
        floors: group to real drawings measured against real ones; conditional groups have none.
        omitted: full name of a row to the reason.
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


def run_table(
    table: Table,
    context: Context,
    folder: Path,
    meter: Meter | None = None,
    jobs: int = 1,
    team: Team | None = None,
) -> Results:
    """Do what is left to do of a table, then read everything back.

    Args:
        context: with the table's classes alone.
        folder: of results and cache.
        jobs: rows trained and drawn at the same time, each on one core.
        team: processes that share the work; each of them runs the same table.

    Raises:
        UserError: a model cannot be trained, or a row not be drawn or measured.
    """
    plan = Plan(table, context, folder)
    plan.check()
    runner = Runner(context, plan.cache.folder, meter, jobs, team)
    runner.meter.start("trying every row")
    with first(team, "trying"):  # the others find its answers in the cache
        rows, omitted = plan.possible()
    failed = runner.run(plan.steps(rows))
    for row in list(rows):
        steps = [plan.measurement(row, s) for s in table.seeds(row)]
        if reasons := [r for s in steps if (r := failed.get(s.part.folder))]:
            omitted[row.full_name] = reasons[0]
            rows.remove(row)
    return collect(plan, rows, omitted)


def collect(plan: Plan, rows: Sequence[Row], omitted: Mapping[str, str]) -> Results:
    """Read back everything that was measured of ``rows``."""
    table = plan.table
    groups: dict[str, list[Measured]] = {}
    floors: dict[str, Measured] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(_read(plan, row))
        if row.group not in floors and not row.damage:
            halves = Row(FLOOR, REAL, group=row.group, drawings=row.drawings)
            seeds = range(table.measure.seeds)
            parts = [plan.measurement(None, s, row.drawings).part for s in seeds]
            floors[row.group] = Measured(halves, *_figures(parts))
    return Results(
        table,
        groups,
        floors,
        dict(omitted),
        sets.folds(plan.data.train),
        sets.average_points(plan.data.train),
        dict(_conditions(plan)),
    )


def _figures(parts: Sequence[Part]) -> tuple[Figures, dict[str, int]]:
    figures: Figures = {}
    sizes: dict[str, int] = {}
    for part in parts:
        record = part.record
        sizes = record["drawings"]
        for fold, values in record["figures"].items():
            for name, value in values.items():
                figures.setdefault(fold, {}).setdefault(name, []).append(value)
    return figures, sizes


def _read(plan: Plan, row: Row) -> Measured:
    seeds = plan.table.seeds(row)
    figures, sizes = _figures([plan.measurement(row, s).part for s in seeds])
    shown = _shown(plan, row)
    if row.model in (REAL, CLEAN):
        return Measured(row, figures, sizes, shown=shown)
    records = [s.part.record for seed in seeds for s in plan.drawing(row, seed)]
    n = sum(r["n"] for r in records)
    trained = plan.training(row.model).part.record
    return Measured(
        row,
        figures,
        sizes,
        sum(r["seconds"] for r in records) / n,
        sum(r["cpu"] for r in records) / n,
        _mean([r.get("evaluations") for r in records]),
        max(r["threads"] for r in records),
        TrainRecord.from_dict(trained["record"]),
        shown,
    )


def _shown(plan: Plan, row: Row) -> tuple[Sketch, ...]:
    """Some drawings of a row's first seed, at random; rows of one damage show the same places."""
    if row.model == CLEAN:
        found = work.originals(plan.context, row)
    elif row.model == REAL and row.damage:
        found = work.damaged(plan.context, row, 0)
    elif row.model == REAL:
        found = sets.finished(sets.draw_halves(plan.data, row.drawings, 0)[0], row.finish, 0)
    else:
        places = [s.part.folder / sets.DRAWN for s in plan.drawing(row, 0)]
        found = [s for place in places for s in sets.read(place)][:: row.endings]
        found = sets.finished(found, row.finish, 0)
    chosen = stream(0, Stream.SHOWN).permutation(len(found))[: plan.table.measure.shown]
    return tuple(found[i] for i in sorted(chosen))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _conditions(plan: Plan) -> Iterator[tuple[str, Any]]:
    data, measure, network = plan.data, plan.table.measure, plan.context.network
    yield "judge", f"{network.name} ({network.identity})"
    yield (
        "data",
        f"{data.fingerprint[:16]}, {len(data.train)} training, {len(data.valid)} validation and "
        f"{len(data.test)} test drawings",
    )
    yield "classes", ", ".join(data.classes)
    yield "Geometry Score repeats", measure.geometry_repeats
    yield "batch size of drawing", measure.batch_size
    yield "sketchknitter", __version__
    yield "torch", torch.__version__
    yield "python", platform.python_version()
    yield "machine", platform.machine()
