"""SVG to Sketch: shapes and paths in any nesting of transforms, curves flattened.

One file is one drawing, whose first-level ``<title>`` is the label; a page that we wrote has a
group for each sketch and comes back as many. Coordinates come in CSS px (96 to the inch) after the
viewBox; a file of our own, which says that its user units are the sketch's px, comes back as it
was. What is read of SVG 1.1 and CSS: everything that decides where a line lies, or that it is
hidden; colors, widths, text and images are passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sketchknitter.errors import UserError
from sketchknitter.io.records import (
    MAX_POINTS,
    AnyPath,
    BadDrawing,
    Reject,
    as_label,
    kind_of,
    no_splits,
    read_head,
)
from sketchknitter.io.svg_path import NUMBER, Outline, Points, flatten, numbers_of
from sketchknitter.io.svg_style import StyleSheet, declarations
from sketchknitter.io.svg_tree import MAX_SVG, Document, Node, read_tree
from sketchknitter.sketch import Sketch

TOLERANCE = 1e-3  # how far a flattened curve may stray, as a share of the drawing's longer side
_LENGTH = re.compile(rf"\s*({NUMBER.pattern})\s*(px|in|cm|mm|q|pt|pc|em|ex|rem|%)?\s*", re.I)
_PX = {"": 1.0, "px": 1.0, "in": 96.0, "cm": 96 / 2.54, "mm": 9.6 / 2.54, "q": 2.4 / 2.54}
_PX |= {"pt": 4 / 3, "pc": 16.0, "em": 16.0, "ex": 8.0, "rem": 16.0}
_FUNCTIONS = re.compile(r"(?:[\s,]*[A-Za-z]+\s*\([^()]*\))*[\s,]*")
_FUNCTION = re.compile(r"([A-Za-z]+)\s*\(([^()]*)\)")
_UNIT = re.compile(r"(?<=[\d.])(?:px|deg)", re.I)
# drawn only where a <use> refers to them
_DEFINITIONS = ("defs", "symbol", "marker", "pattern", "mask", "clipPath")

Matrix = tuple[float, float, float, float, float, float]  # a, b, c, d, e, f of SVG
IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def read(path: AnyPath, *, split: str | None = None) -> Iterator[Sketch | Reject]:
    """The drawings of an SVG (see ``sketchknitter.io.read_counted``): one, or those of a page."""
    no_splits(path, split)
    walk = _read(path)
    if not walk.cells:
        yield _whole(path, walk, TOLERANCE)
        return
    strokes, cells = walk.strokes(TOLERANCE)
    for i, title in enumerate(walk.cells):
        own = [strokes[k] for k in np.flatnonzero(cells == i).tolist()]
        yield Sketch(own, title) if own else Reject(f"sketch {i + 1}", "an empty drawing")


def read_svg(path: AnyPath, tolerance: float = TOLERANCE) -> Sketch:
    """All lines of an SVG as one drawing.

    Shapes without stroke and fill, and what is hidden, are passed over.

    Args:
        path: the file.
        tolerance: how far a flattened curve may stray, as a share of the drawing's longer side.

    Raises:
        UserError: it has declarations in a DTD or an external reference, is too large, damaged, or
            draws nothing.
    """
    return _whole(path, _read(path), tolerance)


def viewport(path: AnyPath) -> Matrix:
    """How the user units of an SVG become the px that :func:`read_svg` gives: (a, b, c, d, e, f).

    Raises:
        UserError: as :func:`read_svg`.
    """
    return _viewport(_document(path).root)[0]


def _whole(path: AnyPath, walk: _Walk, tolerance: float) -> Sketch:
    strokes, _ = walk.strokes(tolerance)
    if not strokes:
        raise UserError(f"{path} draws no line; convert text to paths, images to drawings")
    return Sketch(strokes, walk.title)


def _document(path: AnyPath) -> Document:
    head = read_head(path, 1024)
    if kind_of(head) != "XML or HTML" and b"<\0" not in head and b"\0<" not in head:
        raise UserError(f"{path} is {kind_of(head)}, not an SVG; check its suffix")
    with open(path, "rb") as f:
        data = f.read(MAX_SVG + 1)
    return read_tree(path, data)


def _read(path: AnyPath) -> _Walk:
    document = _document(path)
    walk = _Walk(path, document)
    matrix, size = _viewport(document.root)
    walk.children(
        document.root, replace(walk.styled(document.root, _State()), matrix=matrix, size=size)
    )
    return walk


# -- the walk ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _State:
    """What an element inherits: where it lies, its viewport's size, whether it is seen."""

    matrix: Matrix = IDENTITY
    size: tuple[float, float] = (0.0, 0.0)
    visible: bool = True
    stroke: bool = False
    fill: bool = True
    shown: bool = True
    cell: int = -1


class _Walk:
    """Collects the outlines of a document, in px."""

    def __init__(self, path: AnyPath, document: Document) -> None:
        self.path, self.ids = path, document.ids
        self.sheet = StyleSheet(document.styles)
        self.title = as_label(document.root.title)
        self.cells: list[str | None] = []  # titles of the sketches of a page
        self._codes: list[NDArray[np.int64]] = []
        self._points: list[Points] = []
        self._seen: list[bool] = []
        self._cell: list[int] = []
        self._count = 0

    def styled(self, node: Node, state: _State) -> _State:
        """The state inside an element."""
        own = {k: v.strip().lower() for k, v in node.attributes.items() if k in _INHERITED}
        sheet = self.sheet.of(
            node.name, node.attributes.get("class", ""), node.attributes.get("id", "")
        )
        own |= sheet
        inline = declarations(node.attributes.get("style", ""))
        own |= inline
        transform = own.pop("transform", "") if "transform" in (sheet | inline) else ""
        transform = transform or node.attributes.get("transform", "")
        changes: dict[str, object] = {}
        if transform and transform.strip() != "none":
            changes["matrix"] = _product(state.matrix, self._transform(transform))
        for key in ("stroke", "fill"):
            if key in own and own[key] != "inherit":
                changes[key] = own[key] != "none"
        if own.get("visibility", "inherit") != "inherit":
            changes["visible"] = own["visibility"] == "visible"
        if own.get("display") == "none":
            changes["shown"] = False
        if "data-sketch" in node.attributes and state.cell < 0 and node.name == "g":
            changes["cell"] = len(self.cells)
            self.cells.append(as_label(node.title))
        return replace(state, **changes) if changes else state  # type: ignore[arg-type]

    def children(self, node: Node, state: _State) -> None:
        if not state.shown:
            return
        for child in node.children:
            if child.name not in _DEFINITIONS:
                self.element(child, state)

    def element(self, node: Node, state: _State) -> None:
        state = self.styled(node, state)
        if not state.shown:
            return
        if node.name == "use":
            self._use(node, state)
        elif node.name == "svg":
            self._inner(node, state, node.attributes)
        elif node.name in _SHAPES:
            self._shape(node, state)
        else:
            self.children(node, state)

    def _use(self, node: Node, state: _State) -> None:
        target = self.ids.get(node.target or "")
        if target is None:
            return
        x, y = self._length(node, "x", state), self._length(node, "y", state)
        state = replace(state, matrix=_product(state.matrix, (1, 0, 0, 1, x, y)))
        if target.name in ("symbol", "svg"):
            sizes = {k: v for k, v in node.attributes.items() if k in ("width", "height")}
            self._inner(target, self.styled(target, state), target.attributes | sizes)
        elif target.name in _DEFINITIONS:
            self.children(target, self.styled(target, state))
        else:
            self.element(target, state)

    def _inner(self, node: Node, state: _State, attributes: dict[str, str]) -> None:
        """A viewport inside another one."""
        x, y = self._length(node, "x", state), self._length(node, "y", state)
        w = _px(attributes.get("width"), state.size[0], state.size[0])
        h = _px(attributes.get("height"), state.size[1], state.size[1])
        inner, size = _fitted(attributes, w, h)
        place = _product((1, 0, 0, 1, x, y), inner)
        self.children(node, replace(state, matrix=_product(state.matrix, place), size=size))

    def _length(self, node: Node, key: str, state: _State) -> float:
        if key in ("r", "rx", "ry"):
            whole = math.hypot(*state.size) / math.sqrt(2)
        else:
            whole = state.size[key in ("y", "y1", "y2", "cy", "height")]
        return _px(node.attributes.get(key), whole, 0.0)

    # -- shapes ----------------------------------------------------------------------------------
    def _shape(self, node: Node, state: _State) -> None:
        if not state.visible:
            return
        out = Outline()

        def of(*keys: str) -> list[float]:
            return [self._length(node, key, state) for key in keys]

        if node.name == "path":
            out.path(node.attributes.get("d", ""))
        elif node.name in ("polyline", "polygon"):
            out.polyline(numbers_of(node.attributes.get("points", "")), node.name == "polygon")
        elif node.name == "line":
            out.polyline(of("x1", "y1", "x2", "y2"), False)
        elif node.name == "rect":
            self._rect(node, of, out)
        else:
            cx, cy = of("cx", "cy")
            rx, ry = of("r", "r") if node.name == "circle" else of("rx", "ry")
            if rx > 0 and ry > 0:
                out.ellipse(cx, cy, rx, ry)
        if not out.codes:
            return
        self._count += len(out.codes)
        if self._count > MAX_POINTS:
            raise UserError(f"{self.path}: more than {MAX_POINTS} points; simplify it")
        a, b, c, d, e, f = state.matrix
        points = np.array(out.coordinates).reshape(-1, 2)
        with np.errstate(all="ignore"):
            placed = points @ np.array([[a, b], [c, d]]) + (e, f)
        if not np.isfinite(placed).all():
            raise UserError(f"{self.path}: a coordinate is not finite; remove that shape")
        self._codes.append(np.array(out.codes, np.int64))
        self._points.append(placed)
        self._seen.append(state.stroke or state.fill)
        self._cell.append(state.cell)

    def _rect(self, node: Node, of: object, out: Outline) -> None:
        x, y, w, h = of("x", "y", "width", "height")  # type: ignore[operator]
        rx, ry = of("rx", "ry")  # type: ignore[operator]
        if "rx" not in node.attributes:
            rx = ry
        if "ry" not in node.attributes:
            ry = rx
        if w > 0 and h > 0:
            out.rect(x, y, w, h, rx, ry)

    def _transform(self, text: str) -> Matrix:
        if not _FUNCTIONS.fullmatch(text):
            raise UserError(f"{self.path}: the transform {text[:40]!r} cannot be read; simplify it")
        out = IDENTITY
        for name, inside in _FUNCTION.findall(text):
            values = numbers_of(_UNIT.sub("", inside))
            one = _function(name.lower(), values)
            if one is None:
                raise UserError(
                    f"{self.path}: the transform {name[:20]!r} cannot be read; simplify it"
                )
            out = _product(out, one)
        return out

    # -- the result ------------------------------------------------------------------------------
    def strokes(self, tolerance: float) -> tuple[list[Points], NDArray[np.int64]]:
        """Polylines, and the cell of the page that each stands in (-1: none)."""
        # icon sets lay an invisible square, with neither stroke nor fill, under every drawing
        seen = self._seen if any(self._seen) else [True] * len(self._seen)
        kept = [i for i, good in enumerate(seen) if good]
        if not kept:
            return [], np.zeros(0, np.int64)
        codes = np.concatenate([self._codes[i] for i in kept])
        points = np.concatenate([self._points[i] for i in kept])
        with np.errstate(over="ignore"):
            extent = float(np.ptp(points, axis=0).max())
        if not math.isfinite(extent):
            raise UserError(f"{self.path}: a coordinate is not finite; remove that shape")
        try:
            xy, lengths = flatten(codes, points, tolerance * extent)
        except BadDrawing as fault:
            raise UserError(f"{self.path}: {fault}; simplify it") from None
        owner = np.repeat(self._cell_of(kept), [int((self._codes[i] == 0).sum()) for i in kept])
        runs = np.cumsum(codes == 0) - 1
        owner = owner[np.bincount(runs) > 1]
        ends = np.cumsum(lengths).tolist()
        strokes = [xy[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        return strokes, owner

    def _cell_of(self, kept: Sequence[int]) -> NDArray[np.int64]:
        return np.array([self._cell[i] for i in kept], np.int64)


_INHERITED = ("display", "visibility", "stroke", "fill")
_SHAPES = ("path", "polyline", "polygon", "line", "rect", "circle", "ellipse")


# -- matrices and viewports ----------------------------------------------------------------------
def _product(m: Matrix, n: Matrix) -> Matrix:
    a, b, c, d, e, f = m
    g, h, i, j, k, o = n
    return (
        a * g + c * h,
        b * g + d * h,
        a * i + c * j,
        b * i + d * j,
        a * k + c * o + e,
        b * k + d * o + f,
    )


def _function(name: str, v: list[float]) -> Matrix | None:
    """The matrix of one transform function; None for one that SVG does not know."""
    if not all(map(math.isfinite, v)):
        return None
    match name, len(v):
        case "matrix", 6:
            return v[0], v[1], v[2], v[3], v[4], v[5]
        case ("translate", 1 | 2):
            return 1, 0, 0, 1, v[0], v[1] if len(v) > 1 else 0.0
        case "translatex", 1:
            return 1, 0, 0, 1, v[0], 0
        case "translatey", 1:
            return 1, 0, 0, 1, 0, v[0]
        case ("scale", 1 | 2):
            return v[0], 0, 0, v[-1], 0, 0
        case ("rotate", 1 | 3):
            angle = math.radians(v[0] % 360.0)
            c, s = math.cos(angle), math.sin(angle)
            if v[0] % 90 == 0:  # exactly
                c, s = float(round(c)), float(round(s))
            turn: Matrix = (c, s, -s, c, 0, 0)
            if len(v) == 1:
                return turn
            return _product(_product((1, 0, 0, 1, v[1], v[2]), turn), (1, 0, 0, 1, -v[1], -v[2]))
        case "skewx", 1:
            return 1, 0, math.tan(math.radians(v[0])), 1, 0, 0
        case "skewy", 1:
            return 1, math.tan(math.radians(v[0])), 0, 1, 0, 0
    return None


def _px(text: str | None, whole: float, default: float) -> float:
    """A length in px; ``whole`` is what 100 % would be."""
    match = _LENGTH.fullmatch(text) if text and len(text) < 100 else None
    if match is None:
        return default
    value, unit = float(match[1]), (match[2] or "").lower()
    return value / 100 * whole if unit == "%" else value * _PX[unit]


def _viewport(root: Node) -> tuple[Matrix, tuple[float, float]]:
    """Of the outermost element; a size that is missing or in percent follows from the viewBox."""
    attributes = root.attributes
    if attributes.get("data-units") == "px":
        return IDENTITY, (0.0, 0.0)
    box = _view_box(attributes)
    w, h = (_px(attributes.get(key), 0.0, 0.0) for key in ("width", "height"))
    if box is not None:
        w, h = w or (h * box[2] / box[3] if h else 0.0), h or (w * box[3] / box[2] if w else 0.0)
        w, h = w or box[2], h or box[3]
    return _fitted(attributes, w, h)


def _view_box(attributes: dict[str, str]) -> tuple[float, float, float, float] | None:
    box = numbers_of(attributes.get("viewBox", ""))
    if len(box) != 4 or not all(map(math.isfinite, box)) or not (box[2] > 0 and box[3] > 0):
        return None
    return box[0], box[1], box[2], box[3]


def _fitted(attributes: dict[str, str], w: float, h: float) -> tuple[Matrix, tuple[float, float]]:
    """How a viewBox lies in a viewport of ``w`` by ``h`` px, and its size in user units."""
    box = _view_box(attributes)
    if box is None or not (w > 0 and h > 0):
        return IDENTITY, (w, h)
    fit = attributes.get("preserveAspectRatio", "").split()
    align = next((word for word in fit if word not in ("meet", "slice", "defer")), "xMidYMid")
    x, y = w / box[2], h / box[3]
    if align == "none":
        return (x, 0, 0, y, -box[0] * x, -box[1] * y), box[2:]
    scale = max(x, y) if "slice" in fit else min(x, y)
    shares = {"Min": 0.0, "Mid": 0.5, "Max": 1.0}
    left = shares.get(align[1:4], 0.5) * (w - box[2] * scale)
    top = shares.get(align[5:8], 0.5) * (h - box[3] * scale)
    return (scale, 0, 0, scale, left - box[0] * scale, top - box[1] * scale), box[2:]
