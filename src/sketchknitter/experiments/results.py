"""Results of a finished table, read back from its parts."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sketchknitter import __version__
from sketchknitter.experiments import measuring
from sketchknitter.experiments.declare import REAL, Row, Table
from sketchknitter.experiments.gallery import Gallery
from sketchknitter.experiments.kinds import Facts
from sketchknitter.experiments.parts import Parts
from sketchknitter.sketch import Sketch

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
        facts: of its model.
        shown: drawings at random, of the first seed.
    """

    row: Row
    figures: Figures
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


def collect(
    parts: Parts, gallery: Gallery, rows: Sequence[Row], omitted: dict[str, str]
) -> Results:
    """Read back everything that was measured of ``rows``."""
    table = parts.table
    groups: dict[str, list[Measured]] = {}
    floors: dict[str, Measured] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(_read(parts, gallery, row))
        if row.group not in floors:
            count = table.drawings(row)
            halves = Row(FLOOR, REAL, group=row.group, drawings=count)
            found = _figures(parts, None, count, range(table.measure.seeds))
            floors[row.group] = Measured(halves, *found)
    return Results(
        table,
        groups,
        floors,
        dict(omitted),
        gallery.folds,
        measuring.average_points(parts.data.train),
        dict(_conditions(parts)),
    )


def _figures(
    parts: Parts, row: Row | None, count: int, seeds: Sequence[int]
) -> tuple[Figures, dict[str, int]]:
    figures: Figures = {}
    sizes: dict[str, int] = {}
    for seed in seeds:
        record = parts.measurement(row, seed, count).record
        sizes = record["drawings"]
        for fold, values in record["figures"].items():
            for name, value in values.items():
                figures.setdefault(fold, {}).setdefault(name, []).append(value)
    return figures, sizes


def _read(parts: Parts, gallery: Gallery, row: Row) -> Measured:
    seeds = parts.table.seeds(row)
    figures, sizes = _figures(parts, row, parts.table.drawings(row), seeds)
    shown = gallery.shown(row)
    if row.model == REAL:
        return Measured(row, figures, sizes, shown=shown)
    records = [p.record for seed in seeds for p in parts.drawing(row, seed)]
    n = sum(r["n"] for r in records)
    return Measured(
        row,
        figures,
        sizes,
        sum(r["seconds"] for r in records) / n,
        sum(r["cpu"] for r in records) / n,
        _mean([r.get("evaluations") for r in records]),
        max(r["threads"] for r in records),
        parts.kind(row.model).facts(parts.training(row.model).folder),
        shown,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _conditions(parts: Parts) -> Iterator[tuple[str, Any]]:

    data, measure, network = parts.data, parts.table.measure, parts.network
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
