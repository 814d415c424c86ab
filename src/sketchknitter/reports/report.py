"""What a measurement is written as: a frozen report, and its text, Markdown, JSON and HTML."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from sketchknitter.errors import UserError
from sketchknitter.files import atomic
from sketchknitter.io import to_svg
from sketchknitter.metrics.recognition import Recognition, worst_confusions
from sketchknitter.sketch import Sketch

SUFFIXES = (".json", ".md", ".html")


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
class Histogram:
    """Shares of real and of measured drawings' values in common bins; ``edges`` in ``unit``."""

    name: str
    unit: str
    meaning: str
    edges: tuple[float, ...]
    real: tuple[float, ...]
    fake: tuple[float, ...]
    real_mean: float
    fake_mean: float


@dataclass(frozen=True)
class Report:
    """Everything one evaluation found; :func:`write` puts it into a file.

    Args:
        drawings, reference: what was measured against what, in words.
        figures: in the order of the table.
        warnings: what makes figures weaker than they look; notes: choices made on the way.
        conditions: N, seed, judge, renderer, versions, seconds: to measure the same again.
        recognition: None without labels.
        pages: title to randomly drawn sketches (never picked), for the HTML page.
    """

    drawings: str
    reference: str
    figures: tuple[Figure, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    conditions: dict[str, Any]
    histograms: tuple[Histogram, ...] = ()
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


# -- text ------------------------------------------------------------------------------------
_ARROWS = {"lower": "↓", "higher": "↑", "floor": "→ floor"}
_HEAD = ("metric", "", "value", "± spread", "floor", "± over halves", "N", "floor's N")


def number(value: float | None) -> str:
    """Four significant digits; nothing for None; tiny values as 0 with their order of magnitude."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    return f"{value:.1e}" if abs(value) < 1e-4 else f"{value:.4g}"


def _rows(report: Report) -> list[tuple[str, ...]]:
    return [
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


def to_text(report: Report) -> str:
    """The table for a terminal, with warnings, notes and the commonest confusions."""
    rows = [_HEAD, *_rows(report)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    head = [f"{report.drawings}  against  {report.reference}", ""]
    return "\n".join([*head, *lines, *_remarks(report, "")]) + "\n"


def _remarks(report: Report, bullet: str) -> list[str]:
    lines: list[str] = []
    if report.recognition is not None and (worst := worst_confusions(report.recognition)):
        listed = ", ".join(f"{a} seen as {b} ({n})" for a, b, n in worst)
        lines += ["", f"commonest confusions: {listed}"]
    if report.warnings:
        lines += ["", *(f"{bullet}warning: {text}" for text in report.warnings)]
    if report.notes:
        lines += ["", *(f"{bullet}note: {text}" for text in report.notes)]
    return lines


def to_markdown(report: Report) -> str:
    """The table in Markdown, with warnings, notes, statistics' means and conditions."""

    def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
        lines = [head, ["---"] * len(head), *rows]
        return [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        ]

    lines = [f"# {report.drawings} against {report.reference}", "", *table(_HEAD, _rows(report))]
    lines += _remarks(report, "- ")
    if report.histograms:
        means = [
            (h.name, h.unit, number(h.real_mean), number(h.fake_mean), h.meaning)
            for h in report.histograms
        ]
        lines += ["", *table(("statistic", "unit", "real mean", "drawings' mean", "what"), means)]
    lines += ["", "## Conditions", ""]
    lines += [f"- {key}: {value}" for key, value in report.conditions.items()]
    return "\n".join(lines) + "\n"


# -- JSON --------------------------------------------------------------------------------------
def to_json(report: Report) -> bytes:
    """All of the report but the pages of sketches."""
    recognition = report.recognition
    return orjson.dumps(
        {
            "format": "sketchknitter-report/1",
            "drawings": report.drawings,
            "reference": report.reference,
            "figures": report.figures,
            "warnings": report.warnings,
            "notes": report.notes,
            "conditions": report.conditions,
            "histograms": report.histograms,
            "recognition": recognition
            and {
                "top": {str(k): v for k, v in recognition.top.items()},
                "classes": recognition.classes,
                "confusion": recognition.confusion.tolist(),
            },
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


# -- HTML --------------------------------------------------------------------------------------
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}
td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:left}
td:nth-child(n+3){font-variant-numeric:tabular-nums}.warn{color:#a33}.plots{display:flex;
flex-wrap:wrap;gap:1rem}figure{margin:0}figcaption{font-size:13px;max-width:18rem}
.real{fill:#999}.fake{fill:#c33;fill-opacity:.55}.page svg{width:100%;height:auto}
"""


def to_html(report: Report) -> str:
    """One self-contained page: table, histograms, confusion matrix and randomly drawn sketches."""

    e = html.escape
    title = f"{report.drawings} against {report.reference}"
    cells = [("th", _HEAD), *(("td", row) for row in _rows(report))]
    table = "\n".join(
        "<tr>" + "".join(f"<{tag}>{e(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in cells
    )
    parts = [f"<h1>{e(title)}</h1><table>{table}</table>"]
    parts += [f'<p class="warn">Warning: {e(text)}</p>' for text in report.warnings]
    parts += [f"<p>{e(text)}</p>" for text in report.notes]
    if report.histograms:
        plots = "".join(_plot(h) for h in report.histograms)
        parts.append(f'<h2>Strokes: real gray, drawings red</h2><div class="plots">{plots}</div>')
    for name, sketches in report.pages.items():
        parts.append(f'<h2>{e(name)}</h2><div class="page">{to_svg(sketches)}</div>')
    if report.recognition is not None:
        parts.append("<h2>Confusions</h2>" + _confusion(report.recognition))
    conditions = "".join(f"<li>{e(k)}: {e(str(v))}</li>" for k, v in report.conditions.items())
    parts.append(f"<h2>Conditions</h2><ul>{conditions}</ul>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{e(title)}</title>'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "</html>\n"
    )


def _plot(h: Histogram, width: int = 280, height: int = 120) -> str:
    top = max(*h.real, *h.fake, 1e-9)
    bar = width / len(h.real)
    bars = "".join(
        f'<rect class="{kind}" x="{i * bar:.1f}" y="{height * (1 - v / top):.1f}" '
        f'width="{bar:.1f}" height="{height * v / top:.1f}"/>'
        for kind, values in (("real", h.real), ("fake", h.fake))
        for i, v in enumerate(values)
    )
    caption = (
        f"<b>{html.escape(h.name)}</b> ({html.escape(h.unit)}), {h.edges[0]:.3g} to "
        f"{h.edges[-1]:.3g}: {html.escape(h.meaning)}. Mean {number(h.real_mean)} real, "
        f"{number(h.fake_mean)} drawings"
    )
    return (
        f'<figure><svg width="{width}" height="{height}" role="img">{bars}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _confusion(recognition: Recognition, cell: int = 18, margin: int = 110) -> str:
    used = [i for i in range(len(recognition.classes)) if recognition.confusion[i].any()]
    columns = [j for j in range(len(recognition.classes)) if recognition.confusion[:, j].any()]
    parts = []
    for y, i in enumerate(used):
        total = recognition.confusion[i].sum()
        name = html.escape(recognition.classes[i])
        middle = margin + (y + 0.7) * cell
        parts.append(f'<text x="{margin - 6}" y="{middle}" text-anchor="end">{name}</text>')
        for x, j in enumerate(columns):
            if count := int(recognition.confusion[i, j]):
                shade = 255 - round(225 * count / total)
                seen = html.escape(recognition.classes[j])
                parts.append(
                    f'<rect x="{margin + x * cell}" y="{margin + y * cell}" width="{cell}" '
                    f'height="{cell}" fill="rgb({shade},{shade},{shade})">'
                    f"<title>{name} seen as {seen}: {count} of {total}</title></rect>"
                )
    for x, j in enumerate(columns):
        at = margin + (x + 0.7) * cell
        name = html.escape(recognition.classes[j])
        parts.append(f'<text transform="translate({at},{margin - 6}) rotate(-90)">{name}</text>')
    width, height = margin + cell * (len(columns) + 1), margin + cell * (len(used) + 1)
    return f'<svg width="{width}" height="{height}" font-size="12">{"".join(parts)}</svg>'


# -- files -------------------------------------------------------------------------------------
def check_path(path: str | os.PathLike[str]) -> None:
    """Refuse, before the computing, a file that :func:`write` could not write.

    Raises:
        UserError: another suffix than .json, .md, .html, or no such folder.
    """
    p = Path(path)
    if p.suffix.lower() not in SUFFIXES:
        raise UserError(f"{p}: a report is written as one of {', '.join(SUFFIXES)}")
    if not p.parent.is_dir():
        raise UserError(f"{p}: no such folder: {p.parent}; make it first")


def write(report: Report, path: str | os.PathLike[str]) -> None:
    """Write ``report`` whole or not at all; the suffix picks .json, .md or .html.

    Raises:
        UserError: as :func:`check_path`.
    """
    check_path(path)
    p = Path(path)
    suffix = p.suffix.lower()
    if suffix == ".json":
        data = to_json(report)
    else:
        data = (to_markdown(report) if suffix == ".md" else to_html(report)).encode()
    with atomic(p) as f:
        f.write(data)
