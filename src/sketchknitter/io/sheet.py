"""A sheet of paper for a pen plotter: sketches placed in mm, strokes in the order of least travel.

The user units of the file are mm, so plotter tools take it at its size; captions are strokes, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from sketchknitter.errors import UserError
from sketchknitter.files import atomic
from sketchknitter.io.lettering import lettering
from sketchknitter.io.records import AnyPath
from sketchknitter.io.svg_write import number, stroke_svg, text
from sketchknitter.io.travel import shortened
from sketchknitter.sketch import Array, Sketch

PAPERS = {  # (width, height) in mm, upright; ISO 216 and ANSI
    "A1": (594.0, 841.0),
    "A2": (420.0, 594.0),
    "A3": (297.0, 420.0),
    "A4": (210.0, 297.0),
    "A5": (148.0, 210.0),
    "A6": (105.0, 148.0),
    "letter": (215.9, 279.4),
    "legal": (215.9, 355.6),
    "tabloid": (279.4, 431.8),
}
_UNITS = {"": 1.0, "mm": 1.0, "cm": 10.0, "in": 25.4}  # mm
_LARGEST = 10_000.0  # mm
_GAP = 0.06  # free paper around a sketch, as a share of its cell
_STRIP = 0.14  # height of a caption's strip, as a share of its cell
_DIGITS = 3  # a thousandth of a mm is finer than any plotter


@dataclass(frozen=True)
class Sheet:
    """Paper and pen of a plotter, in mm.

    Attributes:
        width, height: of the paper.
        margin: kept free on each side, ink included.
        pen_width: of the line that the pen draws.
        layers: an Inkscape layer for each class, so that each can have a pen of its own, and one
            for captions.

    Raises:
        UserError: a size that no paper has, a margin that leaves no room, a pen without width.
    """

    width: float
    height: float
    margin: float = 10.0
    pen_width: float = 0.3
    layers: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.width <= _LARGEST and 0 < self.height <= _LARGEST):
            raise UserError(
                f"paper of {self.width:g} x {self.height:g} mm; between 0 and {_LARGEST:g} mm"
                " a side is possible"
            )
        if not 0 < self.pen_width <= min(self.width, self.height) / 10:
            raise UserError(
                f"a pen of {self.pen_width:g} mm; wider than 0 and at most a tenth of the paper"
            )
        room = min(self.width, self.height) - 2 * self.margin - self.pen_width
        if not (self.margin >= 0 and room > 0):
            raise UserError(
                f"a margin of {self.margin:g} mm leaves no room on paper of"
                f" {self.width:g} x {self.height:g} mm; take one below"
                f" {(min(self.width, self.height) - self.pen_width) / 2:g}"
            )

    @classmethod
    def named(
        cls,
        paper: str,
        landscape: bool = False,
        margin: float = 10.0,
        pen_width: float = 0.3,
        layers: bool = False,
    ) -> Sheet:
        """A sheet by the name of its paper.

        Args:
            paper: one of PAPERS, in any case, or WxH in mm, cm or in (``200x300``, ``8inx10in``).
            landscape: the longer side lies across.

        Raises:
            UserError: no such paper; and as :class:`Sheet`.
        """
        sizes = {name.lower(): size for name, size in PAPERS.items()}
        size = sizes.get(paper.strip().lower()) or _measured(paper)
        if size is None:
            raise UserError(
                f"no paper {paper!r}; one of: {', '.join(PAPERS)}, or WxH in mm (200x300)"
            )
        if landscape:
            size = max(size), min(size)
        return cls(*size, margin=margin, pen_width=pen_width, layers=layers)


A4 = Sheet(210.0, 297.0)


def _measured(paper: str) -> tuple[float, float] | None:
    side = r"(\d+(?:\.\d*)?|\.\d+)\s*(mm|cm|in|)"
    match = re.fullmatch(rf"\s*{side}\s*[x×*]\s*{side}\s*", paper.lower())
    if match is None:
        return None
    w, first, h, second = match.groups()
    unit = first or second  # 8x10in is in inches both ways
    return float(w) * _UNITS[unit], float(h) * _UNITS[second or unit]


@dataclass(frozen=True)
class _Layout:
    """Cells of a sheet, row by row: their size, the square for a drawing, the caption under it."""

    columns: int
    left: float
    top: float
    cell: tuple[float, float]
    box: tuple[float, float]
    strip: float

    def center(self, index: int) -> Array:
        """Of the drawing's box in a cell, (2,) mm."""
        row, column = divmod(index, self.columns)
        x = self.left + (column + 0.5) * self.cell[0]
        y = self.top + (row + 0.5) * self.cell[1] - self.strip / 2
        return np.array([x, y])


def _layout(sheet: Sheet, count: int, columns: int | None, captions: bool) -> _Layout:
    """The columns that leave each drawing most room, unless given; one drawing has all of it."""
    if columns is not None and columns < 1:
        raise UserError(f"a page of {columns} columns; give at least 1")
    edge = sheet.margin + sheet.pen_width / 2
    width, height = sheet.width - 2 * edge, sheet.height - 2 * edge

    def laid(columns: int) -> _Layout:
        rows = -(-count // columns)
        cell = width / columns, height / rows
        side = min(cell[0], cell[1] / (1 + _STRIP * captions))
        strip = _STRIP * side * captions
        box = cell[0], cell[1] - strip
        return _Layout(columns, edge, edge, cell, box if count == 1 else (side, side), strip)

    if columns is not None:
        return laid(min(columns, count))
    return max((laid(c) for c in range(1, count + 1)), key=lambda one: min(one.box))


def _placed(sketch: Sketch, center: Array, box: tuple[float, float], alone: bool) -> list[Array]:
    """Strokes in mm, the sketch's bounding box as large as fits and centered."""
    if not sketch.num_points:
        return []
    gap = 0.0 if alone else _GAP
    low, high = np.array(sketch.bounds[:2]), np.array(sketch.bounds[2:])
    half = high / 2 - low / 2  # halves first: a difference of two huge numbers may overflow
    with np.errstate(divide="ignore", over="ignore"):
        scale = float(np.min(np.array(box) * (0.5 - gap) / half))
    if not np.isfinite(scale):
        scale = 0.0  # a dot
    shift = center - (low / 2 + high / 2) * scale
    return [s * scale + shift for s in sketch.strokes]


def _caption(caption: str, center: Array, layout: _Layout) -> list[Array]:
    """A line of lettering, centered in its strip; a long one is set smaller."""
    strokes = lettering(caption, 0.45 * layout.strip)
    if not strokes:
        return []
    points = np.concatenate(strokes)
    low, high = points[:, 0].min(), points[:, 0].max()
    scale = min(1.0, 0.98 * layout.cell[0] / max(float(high - low), 1e-9))
    base = center[1] + layout.box[1] / 2 + 0.7 * layout.strip
    return [(s - [(low + high) / 2, 0.0]) * scale + np.array([center[0], base]) for s in strokes]


def place(
    sketches: Sequence[Sketch],
    sheet: Sheet,
    columns: int | None = None,
    captions: bool | Sequence[str | None] = False,
) -> tuple[list[list[Array]], list[Array]]:
    """Where the ink of a page lies (arguments as :func:`to_svg`).

    Returns:
        The strokes of each sketch and those of the captions, (n, 2) mm from the top left corner,
        in drawing order.

    Raises:
        UserError: nothing to draw, or captions that do not number the sketches.
    """
    if not sketches:
        raise UserError("no sketches to draw on the page; give at least one")
    texts = [s.label for s in sketches] if captions is True else list(captions or ())
    if texts and len(texts) != len(sketches):
        raise UserError(f"{len(texts)} captions for {len(sketches)} sketches; give one for each")
    layout = _layout(sheet, len(sketches), columns, bool(texts))
    centers = [layout.center(i) for i in range(len(sketches))]
    alone = len(sketches) == 1
    placed = [_placed(s, c, layout.box, alone) for s, c in zip(sketches, centers, strict=True)]
    lettered = [_caption(t or "", c, layout) for t, c in zip(texts, centers, strict=False)]
    return placed, [stroke for strokes in lettered for stroke in strokes]


def to_svg(
    sketches: Sketch | Sequence[Sketch],
    *,
    sheet: Sheet = A4,
    columns: int | None = None,
    captions: bool | Sequence[str | None] = False,
    color: str = "black",
) -> str:
    """Sketches on a sheet of paper, as SVG text.

    Each has a square cell of its own, a single one the whole sheet within its margin. Strokes are
    reordered and reversed to shorten the way of the lifted pen; so drawing order is not kept.

    Args:
        sketches: one or more.
        sheet: the paper, its margin, the pen and whether there are layers.
        columns: of the page; None leaves each drawing most room.
        captions: True writes the labels under the drawings; a list, one text for each.
        color: of the ink, any SVG color.

    Raises:
        UserError: nothing to draw, or captions that do not number the sketches.
    """
    sketches = [sketches] if isinstance(sketches, Sketch) else list(sketches)
    placed, lettered = place(sketches, sheet, columns, captions)
    layers: dict[str, list[Array]] = {}
    for sketch, strokes in zip(sketches, placed, strict=True):
        name = (sketch.label or "no class") if sheet.layers else ""
        layers.setdefault(name, []).extend(strokes)
    layers.setdefault("captions" if sheet.layers else "", []).extend(lettered)
    style = (
        f'fill="none" stroke="{escape(color)}" stroke-width="{number(sheet.pen_width, _DIGITS)}"'
        ' stroke-linecap="round" stroke-linejoin="round"'
    )
    body = "".join(
        _layer(k, name, style, shortened(strokes))
        for k, (name, strokes) in enumerate(layers.items(), 1)
        if strokes or not name
    )
    w, h = (number(side, _DIGITS) for side in (sheet.width, sheet.height))
    inkscape = ' xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape"' * sheet.layers
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg"{inkscape} width="{w}mm" height="{h}mm"'
        f' viewBox="0 0 {w} {h}">\n{body}</svg>\n'
    )


def _layer(k: int, name: str, style: str, strokes: Sequence[Array]) -> str:
    """One group; plotter tools take groups of the first level for layers."""
    known = f' id="layer{k}" inkscape:groupmode="layer" inkscape:label="{text(name)}"'
    lines = "".join(stroke_svg(s, _DIGITS) + "\n" for s in strokes)
    return f"<g{known if name else ''} {style}>\n{lines}</g>\n"


def write(
    sketches: Iterable[Sketch],
    path: AnyPath,
    *,
    sheet: Sheet = A4,
    columns: int | None = None,
    captions: bool | Sequence[str | None] = False,
    color: str = "black",
) -> None:
    """Write :func:`to_svg` of the sketches to a file.

    Raises:
        UserError: as :func:`to_svg`, or the folder is missing.
    """
    svg = to_svg(list(sketches), sheet=sheet, columns=columns, captions=captions, color=color)
    with atomic(path) as f:
        f.write(svg.encode())
