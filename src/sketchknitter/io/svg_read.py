"""SVG to Sketch: shapes and paths in any nesting of transforms, curves flattened.

One file is one drawing; its first-level ``<title>`` is the label. Coordinates come in CSS px
(96 to the inch) after the viewBox; a file of our own, which says that its user units are the
sketch's px, comes back as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sketchknitter.errors import UserError
from sketchknitter.files import AnyPath
from sketchknitter.io.records import MAX_POINTS, Reject, kind_of, no_splits, read_head
from sketchknitter.io.svg_check import DEFINITIONS, MAX_SVG, check_svg
from sketchknitter.sketch import Sketch

TOLERANCE = 1e-3  # how far a flattened curve may stray, as a share of the drawing's longer side
_MAX_PIECES = 1000  # lines that one curve may become

Points = NDArray[np.float64]


def read(path: AnyPath, *, split: str | None = None) -> Iterator[Sketch | Reject]:
    """The one drawing of an SVG (see ``sketchknitter.io.read_counted``)."""
    no_splits(path, split)
    yield read_svg(path)


def read_svg(path: AnyPath, tolerance: float = TOLERANCE) -> Sketch:
    """The drawing of an SVG: paths, polylines, polygons, lines, rects, circles, ellipses.

    Fills, colors and text are passed over, and so is what is hidden or has neither stroke nor fill.

    Args:
        path: the file.
        tolerance: how far a flattened curve may stray, as a share of the drawing's longer side.

    Raises:
        UserError: it has a DTD or an external reference, is too large, damaged, or draws nothing.
    """
    head = read_head(path, 1024)
    if kind_of(head) != "XML or HTML" and b"<\0" not in head:  # UTF-16 is XML as well
        raise UserError(f"{path} is {kind_of(head)}, not an SVG; check its suffix")
    with open(path, "rb") as f:
        data = f.read(MAX_SVG + 1)
    found = check_svg(path, data)
    if found.definitions or found.own_units:
        data = _prepared(data, found.own_units)
    strokes = _flatten(path, _parse(path, data), tolerance)
    if not strokes:
        raise UserError(f"{path} draws no line; convert text to paths, images to drawings")
    return Sketch(strokes, found.title)


def _prepared(data: bytes, own_units: bool) -> bytes:
    """For svgelements: what is only drawn by reference in ``<defs>``, our own files unscaled."""
    root = ElementTree.fromstring(data)  # no DTD: checked
    if own_units:
        for name in ("viewBox", "width", "height"):
            root.attrib.pop(name, None)
    for parent in list(root.iter()):
        for i, child in enumerate(list(parent)):
            if isinstance(child.tag, str) and child.tag.rpartition("}")[2] in DEFINITIONS:
                shelf = ElementTree.Element(child.tag.rpartition("}")[0] + "}defs")
                shelf.tag = shelf.tag if shelf.tag.startswith("{") else "defs"
                shelf.append(child)
                parent[i] = shelf
    return ElementTree.tostring(root)


def _parse(path: AnyPath, data: bytes) -> list[Any]:
    import svgelements

    try:
        document = svgelements.SVG.parse(BytesIO(data), reify=True, ppi=96)
        shapes = [e for e in document.elements() if isinstance(e, svgelements.Shape)]
        shapes = [e for e in shapes if e.values.get("visibility") not in ("hidden", "collapse")]
        seen = [e for e in shapes if _is_seen(e)]
        return [svgelements.Path(e) for e in seen or shapes]
    except Exception as error:  # the parser raises whatever a strange attribute makes it raise
        raise UserError(f"{path}: an attribute cannot be read ({error}); simplify it") from None


def _is_seen(shape: Any) -> bool:
    """Icon sets lay an invisible square, with neither stroke nor fill, under every drawing."""
    return shape.stroke.value is not None or shape.values.get("fill") != "none"


def _flatten(path: AnyPath, shapes: list[Any], tolerance: float) -> list[Points]:
    boxes = np.array([b for b in (shape.bbox() for shape in shapes) if b is not None], float)
    if not np.isfinite(boxes).all():
        raise UserError(f"{path}: a coordinate is not finite; remove that shape")
    if not len(boxes):
        return []
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    allowed = tolerance * float((high - low).max())
    strokes: list[Points] = []
    total = 0
    for shape in shapes:
        for stroke in _strokes(shape, allowed):
            total += len(stroke)
            if total > MAX_POINTS:
                raise UserError(f"{path}: more than {MAX_POINTS} points; simplify it")
            if not np.isfinite(stroke).all():
                raise UserError(f"{path}: a coordinate is not finite; remove that shape")
            strokes.append(stroke)
    return strokes


def _strokes(shape: Any, allowed: float) -> Iterator[Points]:
    """The runs of a path between its moves; a run without length is a dot."""
    run: list[Any] = []
    for segment in shape:
        kind = type(segment).__name__
        if kind == "Move":
            if len(run) > 1:
                yield _without_repeats(run)
            run = [(segment.end.x, segment.end.y)]
        elif segment.end is not None:
            if not run:
                run = [(segment.start.x, segment.start.y)]
            run.extend(_points(segment, kind, allowed))
    if len(run) > 1:
        yield _without_repeats(run)


def _without_repeats(run: list[Any]) -> Points:
    points = np.array(run, float)
    keep = np.ones(len(points), bool)
    keep[1:] = (points[1:] != points[:-1]).any(axis=1)
    return points[keep]


def _points(segment: Any, kind: str, allowed: float) -> Any:
    """A segment's points after its start, close enough to stray at most ``allowed`` px."""
    if kind not in ("QuadraticBezier", "CubicBezier", "Arc"):
        return [(segment.end.x, segment.end.y)]
    if kind == "Arc":
        radius = max(abs(segment.rx), abs(segment.ry))
        turn = 2 * math.acos(max(0.0, 1 - allowed / radius)) if radius else math.inf
        pieces = abs(float(segment.sweep)) / turn if turn else _MAX_PIECES
    else:
        # Wang's bound: sqrt(d (d - 1) / 8 * largest second difference / tolerance)
        control = np.array([(p.x, p.y) for p in segment], float)
        bend = np.hypot(*np.diff(control, n=2, axis=0).T).max()
        degree = len(control) - 1
        pieces = math.sqrt(degree * (degree - 1) / 8 * bend / allowed) if allowed else 1.0
    count = int(min(max(1, math.ceil(pieces)), _MAX_PIECES)) if math.isfinite(pieces) else 1
    points = np.array(segment.npoint(np.arange(1, count + 1) / count), float)
    points[-1] = segment.end.x, segment.end.y
    return points
