"""A report as a list of blocks, and its two forms: Markdown and one self-contained HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL.Image import Image

from sketchknitter.io import to_svg
from sketchknitter.sketch import Sketch


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table; the first column is text, the others are figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A plot; ``file`` is its name beside the Markdown."""

    file: str
    image: Image


@dataclass(frozen=True)
class Page:
    """Sketches at random; in HTML alone."""

    title: str
    sketches: tuple[Sketch, ...]


Block = Heading | Text | Bullets | Grid | Picture | Page


# -- Markdown ------------------------------------------------------------------------------------
def to_markdown(blocks: Sequence[Block]) -> str:
    """Everything but the pages of sketches."""
    parts = [_markdown(b) for b in blocks]
    return "\n\n".join(p for p in parts if p) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Grid(head, rows):
            align = ["---", *["---:"] * (len(head) - 1)]
            cells = [head, align, *rows]
            return "\n".join(
                "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in cells
            )
        case Picture(file, _):
            return f"![{file}]({file})"
        case _:
            return ""


# -- HTML ----------------------------------------------------------------------------------------
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#222}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px}
td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}td{font-variant-numeric:tabular-nums}
th{vertical-align:bottom;white-space:normal}img{max-width:100%}.page svg{width:100%;height:auto}
"""


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One page that needs nothing else: pictures as data, sketches as inline SVG."""
    body = "\n".join(_html(b) for b in blocks)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Text(text):
            return "".join(f"<p>{_inline(p)}</p>" for p in text.split("\n\n"))
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(i)}</li>" for i in items) + "</ul>"
        case Grid(head, rows):
            lines = [("th", head), *(("td", row) for row in rows)]
            table = "".join(
                "<tr>" + "".join(f"<{tag}>{_inline(c)}</{tag}>" for c in line) + "</tr>\n"
                for tag, line in lines
            )
            return f'<div class="wide"><table>{table}</table></div>'
        case Picture(file, image):
            return f'<p><img alt="{html.escape(file)}" src="{_data(image)}"></p>'
        case Page(name, sketches):
            svg = to_svg(list(sketches), columns=15, decimals=1) if sketches else ""
            return f'<h3>{_inline(name)}</h3><div class="page">{svg}</div>'
    return ""


def _inline(text: str) -> str:
    """Escaped text; `code` and **bold** as in Markdown."""
    out = html.escape(text)
    for mark, tag in (("**", "b"), ("`", "code")):
        pieces = out.split(mark)
        out = pieces[0]
        for k, piece in enumerate(pieces[1:]):
            out += (f"<{tag}>" if k % 2 == 0 else f"</{tag}>") + piece
    return out


def _data(image: Image) -> str:
    return "data:image/png;base64," + base64.b64encode(as_png(image)).decode()


def as_png(image: Image) -> bytes:
    """A picture as a PNG; drawings, which are gray, with few shades.

    Plots keep all their colors: reducing them gives two thin lines the same one.
    """
    into = BytesIO()
    small = image.quantize(32) if image.mode == "L" else image
    small.save(into, format="PNG", optimize=True)
    return into.getvalue()
