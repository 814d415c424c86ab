"""A report as blocks, written as Markdown, as one self-contained HTML page, as CSV or plain text.

A block that a form cannot show is left out there: pages of sketches stand in HTML alone. Text may
hold ``code`` and ``**bold**`` as in Markdown; everything else is shown as it is, HTML tags and all.
"""

from __future__ import annotations

import base64
import csv
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO, StringIO
from pathlib import Path

from PIL.Image import Image

from sketchknitter.errors import UserError
from sketchknitter.files import atomic
from sketchknitter.io import to_svg
from sketchknitter.plot import Series, lines
from sketchknitter.sketch import Sketch


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """Paragraphs, with an empty line between them; ``warning`` makes them stand out."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells in rows; the first column is text, the others are figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """An image; ``file`` is its name beside the Markdown, ending in .png."""

    file: str
    image: Image


@dataclass(frozen=True)
class Plot:
    """Lines over a common axis; ``file`` as of a :class:`Picture`."""

    file: str
    series: tuple[Series, ...]
    title: str = ""
    x_name: str = ""
    log_x: bool = False
    log_y: bool = False
    size: tuple[int, int] = (900, 520)

    @cached_property
    def image(self) -> Image:
        return lines(
            self.series,
            title=self.title,
            x_name=self.x_name,
            log_x=self.log_x,
            log_y=self.log_y,
            size=self.size,
        )


@dataclass(frozen=True)
class Bars:
    """Shares of two sets of values in common bins; ``edges`` in ``unit``."""

    name: str
    unit: str
    meaning: str
    edges: tuple[float, ...]
    real: tuple[float, ...]
    drawn: tuple[float, ...]
    real_mean: float
    drawn_mean: float


@dataclass(frozen=True)
class Page:
    """Sketches, in rows of ``columns`` (None: about square)."""

    title: str
    sketches: tuple[Sketch, ...]
    columns: int | None = 15


@dataclass(frozen=True)
class Counts:
    """A square of counts with names: row, the truth; column, the answer."""

    title: str
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


Block = Heading | Text | Bullets | Table | Picture | Plot | Bars | Page | Counts


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        title: of the page; the first block may say it again.
        blocks: in order.
        data: every figure for a program to read, one a row.
    """

    title: str
    blocks: tuple[Block, ...]
    data: Table | None = None

    def pictures(self) -> dict[str, bytes]:
        """Files that the Markdown shows, as PNG."""
        shown = (b for b in self.blocks if isinstance(b, Picture | Plot))
        return {b.file: as_png(b.image) for b in shown}


def number(value: float | None) -> str:
    """Four significant digits; nothing for None; tiny values as 0 with their order of magnitude."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    return f"{value:.1e}" if abs(value) < 1e-4 else f"{value:.4g}"


def mean_text(mean: float, spread: float | None, factor: float = 1.0) -> str:
    """``mean ± spread``, the spread with two digits; without one the mean alone."""
    shown = number(mean * factor)
    return shown if spread is None else f"{shown} ± {float(f'{spread * factor:.2g}'):g}"


# -- Markdown ------------------------------------------------------------------------------------
def to_markdown(document: Document) -> str:
    """Everything but pages of sketches and counts."""
    parts = [_markdown(b) for b in _joined(document.blocks)]
    return "\n\n".join(p for p in parts if p) + "\n"


def _joined(blocks: Sequence[Block]) -> Iterator[Block]:
    """Bars that follow each other as one table of means."""
    bars: list[Bars] = []
    for block in [*blocks, None]:
        if isinstance(block, Bars):
            bars.append(block)
            continue
        if bars:
            head = ("statistic", "unit", "real mean", "drawings' mean", "what")
            means = [
                (b.name, b.unit, number(b.real_mean), number(b.drawn_mean), b.meaning) for b in bars
            ]
            yield Table(head, tuple(means))
            bars = []
        if block is not None:
            yield block


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_one_line(text)}"
        case Text(text, warning):
            return ("Warning: " if warning else "") + _escaped(text)
        case Bullets(items):
            return "\n".join(f"- {_one_line(item)}" for item in items)
        case Table(head, rows):
            align = ["---", *["---:"] * (len(head) - 1)]
            cells = [[_cell(c) for c in head], align, *([_cell(c) for c in row] for row in rows)]
            return "\n".join("| " + " | ".join(line) + " |" for line in cells)
        case Picture(file) | Plot(file):
            return f"![{file}]({file})"
        case _:
            return ""


def _escaped(text: str) -> str:
    """What a Markdown reader would take for HTML shown as it is; code spans are safe by nature."""
    pieces = re.split(r"(`[^`\n]*`)", text)
    return "".join(
        piece if k % 2 else piece.replace("&", "&amp;").replace("<", "&lt;")
        for k, piece in enumerate(pieces)
    )


def _one_line(text: str) -> str:
    return " ".join(_escaped(text).split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


# -- plain text ------------------------------------------------------------------------------------
def to_text(document: Document) -> str:
    """For a terminal: columns are aligned; pictures, pages and the conditions' bars stay out."""
    parts = [_plain(b) for b in document.blocks]
    return "\n\n".join(p for p in parts if p) + "\n"


def _plain(block: Block) -> str:
    match block:
        case Heading(text, _):
            return text
        case Text(text, warning):
            return ("warning: " if warning else "") + text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(head, rows):
            cells = [head, *rows]
            widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
            out = [
                "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
                for row in cells
            ]
            out.insert(1, "-" * max(map(len, out)))
            return "\n".join(out)
        case _:
            return ""


# -- CSV -----------------------------------------------------------------------------------------
def to_csv(table: Table) -> str:
    """A table as comma-separated values, with its head."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.head)
    writer.writerows(table.rows)
    return out.getvalue()


# -- HTML ----------------------------------------------------------------------------------------
_STYLE = """
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#222}
.wide{overflow-x:auto;max-width:100%;margin:1rem 0}
table{border-collapse:collapse;font-size:14px}
td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left;position:sticky;left:0;background:#fff;
white-space:normal;min-width:9rem;max-width:20rem}
td{font-variant-numeric:tabular-nums}th{vertical-align:bottom;white-space:normal}
img{max-width:100%;height:auto}.page svg{width:100%;height:auto}.warn{color:#a33}
.bars{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}
figcaption{font-size:13px;max-width:18rem}.real{fill:#999}.drawn{fill:#c33;fill-opacity:.55}
"""


def to_html(document: Document) -> str:
    """One page that needs nothing else: pictures as data, sketches as inline SVG."""
    parts: list[str] = []
    for block in document.blocks:
        text = _html(block)
        if isinstance(block, Bars) and parts and parts[-1].endswith("<!--bars--></div>"):
            parts[-1] = parts[-1].removesuffix("<!--bars--></div>") + text + "<!--bars--></div>"
        elif isinstance(block, Bars):
            parts.append(f'<div class="bars">{text}<!--bars--></div>')
        else:
            parts.append(text)
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(document.title)}</title><style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Text(text, warning):
            mark, said = (' class="warn"', "Warning: ") if warning else ("", "")
            return "".join(f"<p{mark}>{said}{_inline(p)}</p>" for p in text.split("\n\n"))
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(i)}</li>" for i in items) + "</ul>"
        case Table(head, rows):
            cells = [("th", head), *(("td", row) for row in rows)]
            table = "".join(
                "<tr>" + "".join(f"<{tag}>{_inline(c)}</{tag}>" for c in line) + "</tr>\n"
                for tag, line in cells
            )
            # tabindex: a reader without a mouse can scroll it too
            return f'<div class="wide" tabindex="0"><table>{table}</table></div>'
        case Picture(file) | Plot(file):
            data = base64.b64encode(as_png(block.image)).decode()
            return f'<p><img alt="{html.escape(file)}" src="data:image/png;base64,{data}"></p>'
        case Bars():
            return _bars(block)
        case Page(name, sketches, columns):
            svg = to_svg(list(sketches), columns=columns, decimals=1) if sketches else ""
            return f'<h3>{_inline(name)}</h3><div class="page">{svg}</div>'
        case Counts():
            return f'<h2>{_inline(block.title)}</h2><div class="wide">{_counts(block)}</div>'


def _inline(text: str) -> str:
    """Escaped text; `code` and **bold** as in Markdown."""
    out = html.escape(text)
    for mark, tag in (("**", "b"), ("`", "code")):
        pieces = out.split(mark)
        out = pieces[0]
        for k, piece in enumerate(pieces[1:]):
            out += (f"<{tag}>" if k % 2 == 0 else f"</{tag}>") + piece
    return out


def _bars(block: Bars, width: int = 280, height: int = 120) -> str:
    top = max(*block.real, *block.drawn, 1e-9)
    bar = width / len(block.real)
    shapes = "".join(
        f'<rect class="{kind}" x="{i * bar:.1f}" y="{height * (1 - v / top):.1f}" '
        f'width="{bar:.1f}" height="{height * v / top:.1f}"/>'
        for kind, values in (("real", block.real), ("drawn", block.drawn))
        for i, v in enumerate(values)
    )
    caption = (
        f"<b>{html.escape(block.name)}</b> ({html.escape(block.unit)}), {block.edges[0]:.3g} to "
        f"{block.edges[-1]:.3g}: {html.escape(block.meaning)}. Mean {number(block.real_mean)} "
        f"real (gray), {number(block.drawn_mean)} drawings (red)"
    )
    return (
        f'<figure><svg width="{width}" height="{height}" role="img">{shapes}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _counts(block: Counts, cell: int = 18, margin: int = 110) -> str:
    """Rows and columns that hold anything, darker where more of a row is."""
    used = [i for i, row in enumerate(block.counts) if any(row)]
    columns = [j for j in range(len(block.names)) if any(row[j] for row in block.counts)]
    names = [html.escape(n) for n in block.names]
    parts = []
    for y, i in enumerate(used):
        total = sum(block.counts[i])
        middle = margin + (y + 0.7) * cell
        parts.append(f'<text x="{margin - 6}" y="{middle}" text-anchor="end">{names[i]}</text>')
        for x, j in enumerate(columns):
            if count := block.counts[i][j]:
                shade = 255 - round(225 * count / total)
                parts.append(
                    f'<rect x="{margin + x * cell}" y="{margin + y * cell}" width="{cell}" '
                    f'height="{cell}" fill="rgb({shade},{shade},{shade})">'
                    f"<title>{names[i]} seen as {names[j]}: {count} of {total}</title></rect>"
                )
    for x, j in enumerate(columns):
        at = margin + (x + 0.7) * cell
        turn = f"translate({at},{margin - 6}) rotate(-90)"
        parts.append(f'<text transform="{turn}">{names[j]}</text>')
    width, height = margin + cell * (len(columns) + 1), margin + cell * (len(used) + 1)
    return f'<svg width="{width}" height="{height}" font-size="12">{"".join(parts)}</svg>'


def as_png(image: Image) -> bytes:
    """A picture as a PNG; drawings, which are gray, with few shades.

    Plots keep all their colors: reducing them gives two thin lines the same one.
    """
    into = BytesIO()
    small = image.quantize(32) if image.mode == "L" else image
    small.save(into, format="PNG", optimize=True)
    return into.getvalue()


# -- files -----------------------------------------------------------------------------------------
SUFFIXES = (".md", ".html", ".csv")


def encode(document: Document, suffix: str) -> bytes:
    """The document in the form of a suffix: .md, .html or .csv (its data alone).

    Raises:
        UserError: another suffix, or a .csv of a document without data.
    """
    if suffix == ".md":
        return to_markdown(document).encode()
    if suffix == ".html":
        return to_html(document).encode()
    if suffix == ".csv" and document.data is not None:
        return to_csv(document.data).encode()
    raise UserError(f"{suffix}: this report is written as one of {', '.join(SUFFIXES)}")


def write_folder(document: Document, folder: Path, **more: bytes) -> list[Path]:
    """``results.md``, ``results.csv``, ``report.html`` and pictures, each whole or not at all.

    Args:
        more: further files; ``timing_csv=…`` is written as ``timing.csv``.

    Returns:
        Paths of what was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"results.md": encode(document, ".md")}
    if document.data is not None:
        files["results.csv"] = encode(document, ".csv")
    files |= {".".join(name.rsplit("_", 1)): content for name, content in more.items()}
    files["report.html"] = encode(document, ".html")
    files |= document.pictures()
    for name, content in files.items():
        with atomic(folder / name) as f:
            f.write(content)
    return [folder / name for name in files]
