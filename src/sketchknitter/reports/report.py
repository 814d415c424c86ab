"""What one evaluation found: a frozen report, as a document and as JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from sketchknitter.errors import UserError
from sketchknitter.files import atomic
from sketchknitter.metrics.recognition import Recognition, worst_confusions
from sketchknitter.reports.document import (
    Bars,
    Block,
    Bullets,
    Counts,
    Document,
    Heading,
    Page,
    Table,
    Text,
    encode,
    number,
)
from sketchknitter.sketch import Sketch

SUFFIXES = (".json", ".md", ".html", ".csv")


@dataclass(frozen=True)
class Figure:
    """One number of a report, with what a reader needs to believe it.

    Args:
        name: ``fid_sketch``, ``kid``, …; one name everywhere.
        value: of the drawings against the reference; never NaN.
        floor: the same of two disjoint halves of held-out real drawings; None if not measured.
        floor_spread: standard deviation of the floor over several ways to halve.
        spread: bootstrap standard deviation of ``value``; None if not measured.
        better: ``"lower"``, ``"higher"`` or ``"floor"`` (the nearer to real drawings the better).
        n: drawings on each side; ``floor_n`` the same of the floor.
        unit: empty for a bare number.
        note: what else to know, one line.
    """

    name: str
    value: float
    floor: float | None
    n: int
    floor_n: int | None = None
    floor_spread: float | None = None
    spread: float | None = None
    better: str = "lower"
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Report:
    """Everything one evaluation found; :func:`write` puts it into a file.

    Args:
        drawings, reference: what was measured against what, in words.
        figures: in the order of the table.
        warnings: what makes figures weaker than they look; notes: choices made on the way.
        conditions: N, seed, judge, renderer, versions, seconds: to measure the same again.
        bars: how stroke statistics are distributed.
        recognition: None without labels.
        pages: title to randomly drawn sketches (never picked), for the HTML page.
    """

    drawings: str
    reference: str
    figures: tuple[Figure, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    conditions: dict[str, Any]
    bars: tuple[Bars, ...] = ()
    recognition: Recognition | None = None
    pages: dict[str, tuple[Sketch, ...]] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Figure:
        """The figure of that name.

        Raises:
            UserError: it was not measured.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise UserError(f"no figure {name!r}; there are {', '.join(f.name for f in self.figures)}")


# -- the document ----------------------------------------------------------------------------------
_ARROWS = {"lower": "↓", "higher": "↑", "floor": "→ floor"}
_HEAD = ("metric", "", "value", "± spread", "floor", "± over halves", "N", "floor's N")


def document(report: Report) -> Document:
    """The report as blocks: table, warnings, notes, distributions, sketches, conditions."""
    title = f"{report.drawings} against {report.reference}"
    out: list[Block] = [Heading(title, 1), _table(report)]
    if report.recognition is not None and (worst := worst_confusions(report.recognition)):
        listed = ", ".join(f"{a} seen as {b} ({n})" for a, b, n in worst)
        out.append(Text(f"Commonest confusions: {listed}"))
    out += [Text(text, warning=True) for text in report.warnings]
    out += [Text(f"Note: {text}") for text in report.notes]
    out += report.bars
    out += [Page(name, sketches, None) for name, sketches in report.pages.items()]
    if report.recognition is not None:
        counts = tuple(tuple(map(int, row)) for row in report.recognition.confusion)
        out.append(Counts("Confusions", report.recognition.classes, counts))
    conditions = tuple(f"{key}: {value}" for key, value in report.conditions.items())
    out += [Heading("Conditions"), Bullets(conditions)]
    return Document(title, tuple(out), _data(report))


def summary(report: Report) -> Document:
    """What a terminal shows: the document without distributions, sketches and conditions."""
    whole = document(report)
    kept = [b for b in whole.blocks if isinstance(b, Text | Table)]
    heading = Text(f"{report.drawings}  against  {report.reference}")
    return Document(whole.title, (heading, *kept))


def _table(report: Report) -> Table:
    rows = [
        (
            f.name,
            _ARROWS[f.better],
            " ".join(filter(None, (number(f.value), f.unit))),
            number(f.spread),
            number(f.floor),
            number(f.floor_spread),
            str(f.n),
            str(f.floor_n or ""),
        )
        for f in report.figures
    ]
    return Table(_HEAD, tuple(rows))


def _data(report: Report) -> Table:
    head = ("metric", "better", "unit", "value", "spread", "floor", "floor_spread", "n", "floor_n")
    rows = [
        (
            f.name,
            f.better,
            f.unit,
            *("" if v is None else f"{v:.6g}" for v in (f.value, f.spread, f.floor)),
            "" if f.floor_spread is None else f"{f.floor_spread:.6g}",
            str(f.n),
            str(f.floor_n or ""),
        )
        for f in report.figures
    ]
    return Table(head, tuple(rows))


# -- JSON --------------------------------------------------------------------------------------
def to_json(report: Report) -> bytes:
    """All of the report but the pages of sketches."""
    recognition = report.recognition
    return orjson.dumps(
        {
            "format": "sketchknitter-report/2",
            "drawings": report.drawings,
            "reference": report.reference,
            "figures": report.figures,
            "warnings": report.warnings,
            "notes": report.notes,
            "conditions": report.conditions,
            "histograms": report.bars,
            "recognition": recognition
            and {
                "top": {str(k): v for k, v in recognition.top.items()},
                "classes": recognition.classes,
                "confusion": recognition.confusion.tolist(),
            },
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


# -- files -------------------------------------------------------------------------------------
def check_path(path: str | os.PathLike[str]) -> None:
    """Refuse, before the computing, a file that :func:`write` could not write.

    Raises:
        UserError: another suffix than .json, .md, .html, .csv, or no such folder.
    """
    p = Path(path)
    if p.suffix.lower() not in SUFFIXES:
        raise UserError(f"{p}: a report is written as one of {', '.join(SUFFIXES)}")
    if not p.parent.is_dir():
        raise UserError(f"{p}: no such folder: {p.parent}; make it first")


def write(report: Report, path: str | os.PathLike[str]) -> None:
    """Write ``report`` whole or not at all; the suffix picks .json, .md, .html or .csv.

    Raises:
        UserError: as :func:`check_path`.
    """
    check_path(path)
    suffix = Path(path).suffix.lower()
    data = to_json(report) if suffix == ".json" else encode(document(report), suffix)
    with atomic(path) as f:
        f.write(data)
