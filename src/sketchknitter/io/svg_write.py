"""Sketches as SVG: short polylines in one group, for screens and pen plotters alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from sketchknitter.errors import UserError
from sketchknitter.files import AnyPath, atomic
from sketchknitter.io.records import digits_for
from sketchknitter.sketch import Array, Sketch

_CELL = 100.0  # user units of a cell of a page
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(value: str) -> str:
    """Text as XML may hold it."""
    return escape(_NOT_XML.sub("", value))


def number(value: float, digits: int) -> str:
    """A rounded number in the fewest characters."""
    short = f"{value:.{digits}f}"
    short = short.rstrip("0").rstrip(".") if "." in short else short
    return "0" if short == "-0" else short


def stroke_svg(stroke: Array, digits: int, attributes: str = "") -> str:
    """A stroke as a polyline, points that fall together left out; a dot as a path of no length."""
    points = [f"{number(x, digits)},{number(y, digits)}" for x, y in stroke.tolist()]
    points = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
    if len(points) == 1:
        return f'<path{attributes} d="M{points[0]}h0"/>'
    return f'<polyline{attributes} points="{" ".join(points)}"/>'


def strokes_svg(sketch: Sketch, digits: int, seconds: float = 0.0) -> str:
    """All strokes of a sketch; with ``seconds``, each with its turn in the animation."""
    turns = [""] * len(sketch)
    if seconds:
        lengths = [np.hypot(*np.diff(s, axis=0).T).sum() for s in sketch.strokes]
        least = max(sum(lengths) / 50, 1e-9)  # a dot takes time, too
        ends = np.cumsum([max(length, least) for length in lengths])
        ends = ends / ends[-1] * seconds if len(ends) else ends
        starts = [0.0, *ends[:-1]]
        turns = [
            f' pathLength="1" style="animation-delay:{number(a, 3)}s;'
            f'animation-duration:{number(b - a, 3)}s"'
            for a, b in zip(starts, ends, strict=True)
        ]
    parts = zip(sketch.strokes, turns, strict=True)
    return "\n".join(stroke_svg(stroke, digits, turn) for stroke, turn in parts)


# A viewer that does not animate shows the whole drawing.
_STYLE = """<style>
polyline,path{animation:draw linear both;stroke-dasharray:1}
@keyframes draw{from{stroke-dashoffset:1;visibility:hidden}to{stroke-dashoffset:0}}
@media(prefers-reduced-motion:reduce){polyline,path{animation:none}}
</style>
"""


def document(
    body: str, box: tuple[float, float, float, float], longer: float, unit: str, mark: bool
) -> str:
    """The file around a body; ``box`` is (x, y, width, height), ``longer`` the longer side."""
    _, _, w, h = box
    digits = digits_for(max(w, h))
    view = " ".join(number(v, digits) for v in box)
    scale = longer / max(w, h)
    # tells our reader that the user units, not the units of the viewport, are the sketch's px
    units = ' data-units="px"' if mark else ""
    size = f'width="{w * scale:.6g}{unit}" height="{h * scale:.6g}{unit}"'
    xml = 'xmlns="http://www.w3.org/2000/svg"'
    return f'<svg {xml} {size} viewBox="{view}"{units}>\n{body}</svg>\n'


def group(body: str, width: float, digits: int, color: str) -> str:
    """Strokes in one group that says how they are drawn."""
    style = 'fill="none" stroke-linecap="round" stroke-linejoin="round"'
    stroke = f'stroke="{escape(color)}" stroke-width="{number(width, digits)}"'
    return f"<g {style} {stroke}>\n{body}\n</g>\n"


def to_svg(
    sketch: Sketch | Sequence[Sketch],
    *,
    columns: int | None = None,
    captions: bool | Sequence[str | None] = False,
    size: float | None = None,
    mm: float | None = None,
    width: float = 0.025,
    margin: float = 0.06,
    color: str = "black",
    decimals: int | None = None,
    animate: bool = False,
    seconds: float = 4.0,
) -> str:
    """One sketch in its own coordinates, or a page of several, each fitted into a cell.

    Args:
        sketch: one sketch, or several for a page; one in a list is one sketch.
        columns: of the page; None makes it about square.
        captions: True writes the labels under the cells; a list, one text per sketch.
        size: longer side in px (default 256, or 128 for each column or row of a page).
        mm: longer side in mm instead, for plotters.
        width: of the strokes, as a share of the longer side (of a cell).
        margin: free paper on each side, likewise.
        color: of the ink, any SVG color.
        decimals: digits after the point; None: 2, and more for a drawing smaller than 10 px.
        animate: draw the strokes one after the other.
        seconds: how long that takes.

    Raises:
        UserError: nothing to draw, or a size, width or margin that makes no sense.
    """
    sketches = [sketch] if isinstance(sketch, Sketch) else list(sketch)
    if not sketches:
        raise UserError("no sketches to draw on the page; give at least one")
    if not (0 < width <= 1 and 0 <= margin < 0.5 and (size or 1) > 0 and (mm or 1) > 0):
        raise UserError(
            "width and margin are shares of the side (0 < width <= 1, 0 <= margin < 0.5),"
            " size and mm are above 0"
        )
    unit = "mm" if mm else ""
    time = seconds if animate else 0.0
    style = _STYLE if animate else ""
    if len(sketches) == 1 and captions is False:
        one = sketches[0]
        box, side = view_box(one, margin)
        digits = digits_for(side) if decimals is None else decimals
        title = f"<title>{text(one.label)}</title>\n" if one.label else ""
        body = group(strokes_svg(one, digits, time), width * side, digits_for(side), color)
        return document(title + style + body, box, mm or size or 256.0, unit, mark=True)
    page = Page(len(sketches), columns, bool(captions))
    digits = 2 if decimals is None else decimals
    cells = [
        f'<g data-sketch="{i + 1}">'
        f"<title>{text(s.label or '')}</title>\n"
        f"{strokes_svg(page.place(s, i, margin), digits, time)}\n</g>"
        for i, s in enumerate(sketches)
    ]
    body = group("\n".join(cells), width * _CELL, 2, color)
    body += page.captions([s.label for s in sketches] if captions is True else captions or [])
    return document(style + body, page.box, mm or size or page.longer * 1.28, unit, mark=False)


def view_box(sketch: Sketch, margin: float) -> tuple[tuple[float, float, float, float], float]:
    """(x, y, width, height) around a sketch with its margin, and the longer side."""
    x0, y0, x1, y1 = sketch.bounds if sketch.num_points else (0.0, 0.0, 1.0, 1.0)
    extent = max(x1 - x0, y1 - y0) or 1.0
    if not math.isfinite(extent):
        raise UserError("the sketch is too large to be written as SVG; scale it down")
    pad = extent * margin / (1 - 2 * margin)
    # a straight line needs paper, too
    pad_x, pad_y = (max(pad, 0.05 * extent - (b - a) / 2) for a, b in ((x0, x1), (y0, y1)))
    box = (x0 - pad_x, y0 - pad_y, x1 - x0 + 2 * pad_x, y1 - y0 + 2 * pad_y)
    return box, max(box[2:])


class Page:
    """Where the cells of a page lie, in user units."""

    def __init__(self, count: int, columns: int | None, captions: bool) -> None:
        from sketchknitter.raster import grid_shape

        self.rows, self.columns = grid_shape(count, columns)
        self.strip = _CELL / 8 if captions else 0.0
        self.box = (0.0, 0.0, self.columns * _CELL, self.rows * (_CELL + self.strip))
        self.longer = max(self.box[2:])

    def corner(self, index: int) -> tuple[float, float]:
        return index % self.columns * _CELL, index // self.columns * (_CELL + self.strip)

    def place(
        self,
        sketch: Sketch,
        index: int,
        margin: float,
        bounds: tuple[float, float, float, float] | None = None,
    ) -> Sketch:
        """The sketch in the coordinates of its cell, fitted by its own box or another."""
        from sketchknitter.raster import fit

        if not sketch.num_points:
            return sketch
        scale, shift = fit(sketch.points, _CELL, margin, bounds)
        return sketch.transformed(scale, shift + np.array(self.corner(index)))

    def captions(self, texts: Sequence[str | None]) -> str:
        if not texts:
            return ""
        if len(texts) > self.rows * self.columns:
            raise UserError(f"{len(texts)} captions for fewer sketches; give one for each")
        size = self.strip * 0.8
        lines = []
        for i, caption in enumerate(texts):
            x, y = self.corner(i)
            place = f'x="{number(x + _CELL / 2, 2)}" y="{number(y + _CELL + size, 2)}"'
            lines.append(f"<text {place}>{text(caption or '')}</text>")
        style = f'text-anchor="middle" font-family="sans-serif" font-size="{size:g}"'
        return f"<g {style}>\n" + "\n".join(lines) + "\n</g>\n"


def write(
    sketches: Iterable[Sketch],
    path: AnyPath,
    *,
    columns: int | None = None,
    captions: bool | Sequence[str | None] = False,
    size: float | None = None,
    mm: float | None = None,
    width: float = 0.025,
    margin: float = 0.06,
    color: str = "black",
    decimals: int | None = None,
    animate: bool = False,
    seconds: float = 4.0,
) -> None:
    """Write :func:`to_svg` of the sketches to a file.

    Raises:
        UserError: as :func:`to_svg`, or the folder is missing.
    """
    svg = to_svg(
        list(sketches),
        columns=columns,
        captions=captions,
        size=size,
        mm=mm,
        width=width,
        margin=margin,
        color=color,
        decimals=decimals,
        animate=animate,
        seconds=seconds,
    )
    with atomic(path) as f:
        f.write(svg.encode())
