"""What a results table consists of, as records that one TOML file declares.

``[models.NAME]`` says what is trained (``kind`` names a system, everything else are its options),
``[[rows]]`` what is drawn with it, ``[[cross]]`` many rows at once, ``[measure]`` how all of them
are measured.
"""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sketchknitter.errors import UserError
from sketchknitter.experiments import damage
from sketchknitter.files import described_by
from sketchknitter.systems.registry import build, check_names

PRESETS = Path(__file__).parent / "presets"
REAL = "real"  # the model that is no model: held-out drawings, or damaged ones
CLEAN = "clean"  # of a conditional row: the drawings before the damage
TASKS = ("draw", "complete", "heal")
FINISHES = ("", "reconnect", "shuffle and reconnect")


@dataclass(frozen=True)
class Model:
    """Something that draws.

    Attributes:
        name: rows refer to it.
        kind: which system, a short name of the registry or ``module:Class``.
        options: fields of the system.
        of: another model that this one starts from.
        optional: where it cannot be made, its rows are left out and the report says why.
        note: one line for the report.
    """

    name: str
    kind: str = "sketchknitter"
    options: dict[str, Any] = field(default_factory=dict)
    of: str = ""
    optional: bool = False
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: as printed.
        model: what draws; ``real`` measures held-out drawings instead (of a conditional row the
            damaged ones, and ``clean`` those before the damage).
        settings: how it draws, as the system understands.
        group: rows of one group stand together and count equally many drawings.
        seeds: sampling seeds; 0 takes the table's number.
        drawings: of each seed; 0 takes the table's number.
        published: the row of the paper's table that it stands for.
        finish: what happens to the drawings before they are measured, one of ``FINISHES``.
        optional: left out, with a line, where the model lacks what the settings ask for.
        damage: what is done to test drawings that the row then completes or heals, "masked 30"
            (see ``damage``); empty for new drawings.
        task: "draw", "complete" or "heal".
        labeled: whether the system is given the class of a damaged drawing.
        endings: drawings made of each damaged one; the first is measured, all are compared.
        note: one line for the report.
    """

    name: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    group: str = "table"
    seeds: int = 0
    drawings: int = 0
    published: str = ""
    finish: str = ""
    optional: bool = False
    damage: str = ""
    task: str = "draw"
    labeled: bool = False
    endings: int = 1
    note: str = ""

    @property
    def full_name(self) -> str:
        """With its group: rows of two groups may share a name."""
        return f"{self.group}: {self.name}"


@dataclass(frozen=True)
class Measure:
    """How rows are drawn and measured.

    Attributes:
        drawings: of each row and seed; a multiple of the number of classes.
        seeds: sampling seeds, and ways to halve the held-out drawings for the floor.
        geometry_repeats: landmark draws of the Geometry Score; 0 leaves it out.
        copies: look for each drawing's nearest training drawing (first seed).
        chunk: drawings that are cached together.
        batch_size: drawings denoised together.
        shown: randomly drawn sketches of each row in the report.
        folds: also measure the classes of few, some and many points apart.
    """

    drawings: int = 300
    seeds: int = 3
    geometry_repeats: int = 100
    copies: bool = True
    chunk: int = 100
    batch_size: int = 50
    shown: int = 30
    folds: bool = True


@dataclass(frozen=True)
class Table:
    """A whole results table.

    Attributes:
        title, about: what a reader sees first.
        classes: of the data; none means all of them.
        measure, models, rows: what is done.
        plot: a setting for the x axis, and a template over settings that names each line.
        compare: rows that all others of their group are compared with, seed by seed.
    """

    title: str
    about: str
    classes: tuple[str, ...]
    measure: Measure
    models: dict[str, Model]
    rows: tuple[Row, ...]
    plot: tuple[str, str] | None = None
    compare: tuple[str, ...] = ()

    def seeds(self, row: Row) -> range:
        return range(row.seeds or self.measure.seeds)

    def drawings(self, row: Row) -> int:
        return row.drawings or self.measure.drawings


# -- reading ---------------------------------------------------------------------------------------
def presets() -> list[str]:
    """Names of the tables that come with the package."""
    return sorted(p.stem for p in PRESETS.glob("*.toml"))


def open_table(name: str) -> Table:
    """A preset by its name, or a declaration in a TOML file.

    Raises:
        UserError: no such preset or file, not TOML, unknown or missing keys, a row of no model.
    """
    path = PRESETS / f"{name}.toml" if name in presets() else Path(name)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"no table {name!r}: give one of {', '.join(presets())}, or a TOML file"
        ) from None
    except (OSError, ValueError, RecursionError) as error:  # TOML errors are ValueErrors
        raise UserError(f"{path} is not a TOML file: {error}") from None
    with described_by(path, "this declaration"):
        return read_table(content, str(path))


def read_table(content: dict[str, Any], where: str) -> Table:
    """A table from parsed TOML; ``where`` is named in errors.

    Raises:
        UserError: as :func:`open_table`.
    """
    known = {"title", "about", "classes", "measure", "models", "rows", "cross", "plot", "compare"}
    check_names(content, known, where)
    models = _models(content.get("models", {}), where)
    rows = [_row(r, f"{where}, rows[{i}]") for i, r in enumerate(content.get("rows", []))]
    for i, cross in enumerate(content.get("cross", [])):
        rows += _crossed(cross, f"{where}, cross[{i}]")
    table = Table(
        content.get("title", "Results"),
        content.get("about", "").strip(),
        tuple(content.get("classes", ())),
        build(Measure, content.get("measure", {}), f"{where}, measure"),
        models,
        tuple({(r.group, r.name): r for r in rows}.values()),
        _plot(content.get("plot"), where),
        tuple(content.get("compare", ())),
    )
    _check(table, where)
    return table


def _plot(value: Any, where: str) -> tuple[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise UserError(f"{where}: plot names a setting for x and a template for the lines")
    return str(value[0]), str(value[1])


def _models(tables: dict[str, Any], where: str) -> dict[str, Model]:
    """``like = NAME`` starts from another model's options; whatever is said again replaces them."""
    models: dict[str, Model] = {}
    for name, table in tables.items():
        here = f"{where}, models.{name}"
        own = dict(table)
        like = own.pop("like", None)
        if like is not None and like not in models:
            raise UserError(f"{here}: like = {like!r} is no model declared before it")
        base = models[like] if like else Model(name)
        head = {k: own.pop(k) for k in ("kind", "of", "optional", "note") if k in own}
        models[name] = dataclasses.replace(
            build(Model, {"name": name, "kind": base.kind, **head}, here),
            options=_merged(base.options, own),
        )
    return models


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in own.items():
        inner = out.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            value = _merged(inner, value)
        out[key] = value
    return out


def _row(table: dict[str, Any], where: str) -> Row:
    """A setting of "none" stays what it is by default; TOML has no other word for it."""
    row = build(Row, table, where)
    said = {k: v for k, v in row.settings.items() if v != "none"}
    return dataclasses.replace(row, settings=said)


def _crossed(table: dict[str, Any], where: str) -> list[Row]:
    """Rows for every combination of ``axes``; the name is a template over the settings."""
    own = dict(table)
    axes = own.pop("axes", {})
    if not axes or not all(isinstance(v, list) and v for v in axes.values()):
        raise UserError(f"{where}: axes must name settings, each with a list of values")
    rows = []
    for values in itertools.product(*axes.values()):
        settings = own.get("settings", {}) | dict(zip(axes, values, strict=True))
        try:
            name = own.get("name", " ".join("{" + a + "}" for a in axes)).format(**settings)
        except KeyError as error:
            raise UserError(f"{where}: the name speaks of {error}, which is no setting") from None
        rows.append(_row(own | {"name": name, "settings": settings}, where))
    return rows


def _check(table: Table, where: str) -> None:
    if not table.rows:
        raise UserError(f"{where}: declares no rows")
    measure = table.measure
    if min(measure.seeds, measure.chunk, measure.batch_size, measure.drawings) < 1:
        raise UserError(f"{where}, measure: drawings, seeds, chunk and batch_size start at 1")
    for model in table.models.values():
        if model.of and model.of not in table.models:
            raise UserError(f"{where}, models.{model.name}: of = {model.of!r} is no model here")
    names = {row.name for row in table.rows}
    if missing := [name for name in table.compare if name not in names]:
        raise UserError(f"{where}: compare names {missing[0]!r}, which is no row")
    sizes: dict[str, int] = {}
    for row in table.rows:
        here = f"{where}, row {row.name!r}"
        if row.damage:
            damage.read(row.damage, f"{here}: damage")
        real = row.model == REAL or (row.model == CLEAN and row.damage)
        if row.task not in TASKS:
            raise UserError(f"{here}: task is one of {', '.join(TASKS)}")
        if not real and (row.task == "draw") != (not row.damage):
            raise UserError(f"{here}: damage and a task (complete or heal) go together")
        if row.endings < 1:
            raise UserError(f"{here}: endings start at 1")
        if not real and row.model not in table.models:
            raise UserError(f"{here}: no model {row.model!r}; one of: {', '.join(table.models)}")
        if row.finish not in FINISHES:
            raise UserError(f"{here}: finish is one of {', '.join(map(repr, FINISHES))}")
        if sizes.setdefault(row.group, table.drawings(row)) != table.drawings(row):
            raise UserError(f"{here}: all rows of group {row.group!r} count equally many drawings")
