"""The one renderer from Sketch to image: for files, metrics and previews alike.

Lines are drawn by Pillow at four times the size with round caps and joins, then averaged down.
Stroke width, margin and box are relative to the image's side, so a sketch looks the same at every
size and in every unit; its aspect is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sketchknitter.errors import UserError
from sketchknitter.sketch import Array, Sketch

Bounds = tuple[float, float, float, float]

SUPERSAMPLE = 4
MAX_SIZE = 8192
_PAPER, _INK = 255, 0
_JOIN_ERROR = 0.25  # how deep a notch at a bend may stay, in supersampled px
_CHUNK = 256  # sketches fitted at once
_FAR = 1 << 14  # supersampled px beyond which ink is off the paper in any case


def _check(size: int, width: float, margin: float) -> None:
    if not 1 <= size <= MAX_SIZE:
        raise UserError(f"an image side of {size} px; between 1 and {MAX_SIZE} is possible")
    if not 0 < width <= 1 or not 0 <= margin < 0.5:
        raise UserError(
            f"stroke width {width} and margin {margin} are shares of the image's side:"
            " 0 < width <= 1, 0 <= margin < 0.5"
        )


def fit(
    points: Array, side: float, margin: float, bounds: Bounds | None = None
) -> tuple[float, NDArray[np.float64]]:
    """Scale and shift that center a box in a square, aspect kept: ``p * scale + shift``.

    Args:
        points: (n, 2), n >= 1; their bounding box is the box unless ``bounds`` names another.
        side: of the square.
        margin: kept free on each side, as a share of ``side``.
        bounds: (x_min, y_min, x_max, y_max).

    Returns:
        scale, and shift (2,). A box without extent is centered at scale 0.
    """
    if bounds is None:
        low, high = points.min(axis=0), points.max(axis=0)
    else:
        low, high = np.array(bounds[:2], float), np.array(bounds[2:], float)
    # halves first: the sum or difference of two huge coordinates may overflow
    half = float((high / 2 - low / 2).max())
    scale = side * (0.5 - margin) / half if half > 0 else 0.0
    if not math.isfinite(scale):
        scale = 0.0
    return scale, side / 2 - (low / 2 + high / 2) * scale


@dataclass(frozen=True)
class _Placed:
    """Sketches in supersampled px: per stroke its flat coordinates, per sketch its disc centers."""

    strokes: list[list[list[int]]]
    discs: list[list[tuple[int, int]]]


def _place(
    sketches: Sequence[Sketch],
    side: int,
    width: int,
    margin: float,
    bounds: Sequence[Bounds | None],
) -> _Placed:
    """Fit many sketches at once: arrays over all their points, because the calls cost the time."""
    strokes = [stroke for sketch in sketches for stroke in sketch.strokes]
    lengths = np.array([len(stroke) for stroke in strokes], int)
    counts = np.array([sketch.num_points for sketch in sketches], int)
    boxes = [fit(s.points, side, margin, b) for s, b in zip(sketches, bounds, strict=True)]
    scale = np.repeat([box[0] for box in boxes], counts)
    shift = np.repeat([box[1] for box in boxes], counts, axis=0)
    points = np.concatenate(strokes) * scale[:, None] + shift
    placed = np.clip(np.rint(points - 0.5), -_FAR, _FAR)
    need = _joins(placed, np.cumsum(lengths), width / 2)
    flat, ends = placed.astype(int).ravel().tolist(), (2 * np.cumsum(lengths)).tolist()
    lines = iter([flat[a:b] for a, b in pairwise([0, *ends])])
    discs: list[list[tuple[int, int]]] = []
    for a, b in pairwise([0, *np.cumsum(counts).tolist()]):
        at = 2 * (a + np.flatnonzero(need[a:b]))
        discs.append([(flat[i], flat[i + 1]) for i in at.tolist()])
    return _Placed([[next(lines) for _ in sketch.strokes] for sketch in sketches], discs)


def _joins(points: Array, stroke_ends: NDArray[Any], radius: float) -> NDArray[np.bool_]:
    """Which points need a disc: stroke ends (caps), and bends sharp enough to show a notch."""
    need = np.ones(len(points), bool)
    step = np.diff(points, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    dot = (step[:-1] * step[1:]).sum(axis=1)
    # depth of the notch: radius * (1 - cos(turn / 2)), cos(turn / 2)**2 = (1 + cos turn) / 2
    least = max(0.0, 1 - _JOIN_ERROR / radius)
    need[1:-1] = dot <= (2 * least**2 - 1) * length[:-1] * length[1:]
    need[stroke_ends - 1] = True
    need[stroke_ends[:-1]] = True
    return need


class _Pen:
    """Draws sketches onto one reused canvas of ``SUPERSAMPLE`` times the size."""

    def __init__(self, size: int, width: float, margin: float) -> None:
        _check(size, width, margin)
        self.side = size * SUPERSAMPLE
        self.width = max(1, round(width * self.side))
        self.margin = max(margin, min(width / 2, 0.49))  # ink at the rim is not cut off
        self.canvas = Image.new("L", (self.side, self.side), _PAPER)
        self.draw = ImageDraw.Draw(self.canvas)

    def render(
        self, sketches: Sequence[Sketch], bounds: Sequence[Bounds | None] | None = None
    ) -> Iterator[Image.Image]:
        """The sketches at their final size, mode L, in order."""
        views = bounds or [None] * len(sketches)
        for start in range(0, len(sketches), _CHUNK):
            chunk, view = sketches[start : start + _CHUNK], views[start : start + _CHUNK]
            full = [i for i, sketch in enumerate(chunk) if sketch.num_points]
            placed = _Placed([], [])
            if full:
                some = [chunk[i] for i in full]
                placed = _place(some, self.side, self.width, self.margin, [view[i] for i in full])
            ink = dict(zip(full, zip(placed.strokes, placed.discs, strict=True), strict=True))
            for i in range(len(chunk)):
                self.canvas.paste(_PAPER, (0, 0, self.side, self.side))
                if i in ink:
                    self._ink(*ink[i])
                yield self.canvas.reduce(SUPERSAMPLE)

    def _ink(self, strokes: list[list[int]], discs: list[tuple[int, int]]) -> None:
        line, w = self.draw.line, self.width
        for stroke in strokes:
            if len(stroke) > 2:
                line(stroke, _INK, w)
        if w < 2:  # Pillow draws no ellipse one pixel wide
            self.draw.point(discs, _INK)
            return
        before, after = w // 2, w - 1 - w // 2
        ellipse = self.draw.draw.draw_ellipse  # the wrapper costs more than the drawing
        for x, y in discs:
            ellipse((x - before, y - before, x + after, y + after), _INK, 1)


def render(
    sketch: Sketch,
    size: int = 64,
    width: float = 0.025,
    margin: float = 0.06,
    bounds: Bounds | None = None,
) -> NDArray[np.uint8]:
    """One sketch as a gray image, its bounding box fitted and centered.

    Args:
        sketch: a dot is drawn as a disc; an empty sketch is white paper.
        size: side in px.
        width: of the strokes, as a share of the side.
        margin: free paper on each side, as a share of the side.
        bounds: (x_min, y_min, x_max, y_max) in the sketch's px, to fit this box instead of the
            sketch's own, so that several images share a view; ink outside it is cut off.

    Returns:
        (size, size) uint8; 255 is paper, 0 ink.

    Raises:
        UserError: a size, width or margin that no image has.
    """
    return np.array(next(_Pen(size, width, margin).render([sketch], [bounds])))


def render_batch(
    sketches: Sequence[Sketch],
    size: int = 64,
    width: float = 0.025,
    margin: float = 0.06,
    bounds: Bounds | None = None,
    progress: Callable[[int], Any] | None = None,
) -> NDArray[np.uint8]:
    """Many sketches, each as :func:`render` draws it.

    Args:
        progress: called with 1 after every sketch (``tqdm(...).update``).

    Returns:
        (n, size, size) uint8; 255 is paper, 0 ink.

    Raises:
        UserError: as :func:`render`.
    """
    pen = _Pen(size, width, margin)
    images = np.empty((len(sketches), size, size), np.uint8)
    for i, image in enumerate(pen.render(sketches, [bounds] * len(sketches))):
        images[i] = np.asarray(image)
        if progress is not None:
            progress(1)
    return images


def grid_shape(count: int, columns: int | None = None) -> tuple[int, int]:
    """(rows, columns) of a page of ``count`` cells; about square unless ``columns`` is given.

    Raises:
        UserError: no cells, or columns below 1.
    """
    if count < 1:
        raise UserError("no sketches to draw on the page; give at least one")
    if columns is not None and columns < 1:
        raise UserError(f"a page of {columns} columns; give at least 1")
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    return -(-count // columns), columns


def grid(
    sketches: Iterable[Sketch],
    columns: int | None = None,
    cell: int = 128,
    captions: bool | Sequence[str | None] = False,
    width: float = 0.025,
    margin: float = 0.06,
    bounds: Sequence[Bounds | None] | None = None,
) -> Image.Image:
    """A page of sketches, row by row, each fitted into its own square cell.

    Args:
        columns: cells in a row; None makes the page about square.
        cell: side of a cell in px.
        captions: True writes each sketch's label under it; a list, one text per sketch.
        width, margin: as :func:`render`, relative to the cell.
        bounds: one view per sketch, or None for its own box.

    Returns:
        a gray image, (columns * cell) px wide, mode L.

    Raises:
        UserError: no sketches, captions that do not number the sketches, a page too large.
    """
    sketches = list(sketches)
    rows, columns = grid_shape(len(sketches), columns)
    texts = _captions(sketches, captions)
    strip = max(10, cell // 8) if texts else 0
    page_size = (columns * cell, rows * (cell + strip))
    if page_size[0] * page_size[1] > MAX_SIZE**2 * 4:
        raise UserError(
            f"a page of {page_size[0]} x {page_size[1]} px; draw fewer sketches or smaller cells"
        )
    page = Image.new("L", page_size, _PAPER)
    pen = _Pen(cell, width, margin)
    for i, image in enumerate(pen.render(sketches, bounds)):
        page.paste(image, (i % columns * cell, i // columns * (cell + strip)))
    if texts:
        _write_captions(page, texts, columns, cell, strip)
    return page


def _captions(sketches: list[Sketch], captions: bool | Sequence[str | None]) -> list[str]:
    if captions is False:
        return []
    texts = [s.label for s in sketches] if captions is True else list(captions)
    if len(texts) != len(sketches):
        raise UserError(f"{len(texts)} captions for {len(sketches)} sketches; give one for each")
    return [text or "" for text in texts]


def _write_captions(
    page: Image.Image, texts: list[str], columns: int, cell: int, strip: int
) -> None:
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(strip * 0.8)
    for i, text in enumerate(texts):
        while len(text) > 1 and draw.textlength(text, font=font) > cell:
            text = text.removesuffix("…")[:-1] + "…"
        x = i % columns * cell + (cell - draw.textlength(text, font=font)) / 2
        draw.text((x, i // columns * (cell + strip) + cell), text, fill=_INK, font=font)
