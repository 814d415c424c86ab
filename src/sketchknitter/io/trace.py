"""A picture of a drawing on paper -> strokes: threshold, thin, follow the lines.

Dark is told from paper by Sauvola's local threshold (Sauvola & Pietikäinen 2000), which follows
uneven light; ink is thinned to lines one pixel wide (Zhang & Suen 1984), both by scikit-image (the
``trace`` extra). The lines become a graph, whose branches go straight on through crossings.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sketchknitter.errors import UserError
from sketchknitter.geometry import rdp
from sketchknitter.io.records import AnyPath, read_head
from sketchknitter.io.travel import shortened
from sketchknitter.sketch import Array, Sketch

MAX_PIXELS = 80_000_000  # of a picture that is opened
_SIDE = 1200  # px of the longer side at which lines are looked for
_WINDOW = 0.06  # side of the neighborhood that a pixel is compared with, as a share
_SENSITIVITY = 0.18  # k of Sauvola's threshold
_CONTRAST = 0.12  # by how much (0 … 1) ink is darker than the paper around it, at the least
_LEAST_INK = 3.0  # line widths of skeleton below which a speck is no stroke
_STRAIGHT = math.cos(math.radians(55))  # of the largest turn that a stroke takes at a crossing
_SIMPLIFY = 0.35  # of the line's width: how far a point may lie off the traced line

Mask = NDArray[np.bool_]
Pixel = tuple[int, int]  # row, column


def trace(
    path: AnyPath, *, label: str | None = None, invert: bool | None = None, despeckle: float = 1.0
) -> Sketch:
    """The drawing on a photograph, a scan or any other picture of lines.

    Args:
        path: any image that Pillow opens.
        label: what is drawn.
        invert: light lines on a dark ground; None finds out.
        despeckle: how large a blot must be to be taken for ink, as a multiple of the usual.

    Returns:
        Strokes in px of the picture (turned as its EXIF says), in an order of short ways.

    Raises:
        UserError: no picture, one too large, nothing drawn on it, or scikit-image is missing.
    """
    gray, scale = _gray(path)
    if invert is None:
        invert = bool(np.median(gray) < 0.4)
    ink = _ink(path, 1 - gray if invert else gray, despeckle)
    strokes = _strokes(ink)
    if not strokes:
        raise UserError(f"{path}: no line was found; take a sharper picture, dark on light")
    return Sketch(shortened([s * scale for s in strokes]), label)


def _gray(path: AnyPath) -> tuple[Array, float]:
    """Brightness 0 … 1 at the working size, and px of the picture for each px of it."""
    read_head(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UserError(
                        f"{path}: {width} x {height} px; scale it down to"
                        f" {MAX_PIXELS // 1_000_000} million"
                    )
                image.draft("L", (_SIDE, _SIDE))  # JPEG is decoded small
                turned = ImageOps.exif_transpose(image)
                if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
                    turned = _on_white(turned.convert("RGBA"))
                gray = turned.convert("L")
    except UserError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise UserError(f"{path} is no picture that can be read: {error}") from None
    longer = max(gray.size)
    if longer > _SIDE:
        share = _SIDE / longer
        size = max(1, round(gray.width * share)), max(1, round(gray.height * share))
        gray = gray.resize(size, Image.Resampling.BOX)
    return np.asarray(gray, float) / 255, max(width, height) / max(gray.size)


def _on_white(image: Image.Image) -> Image.Image:
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    return page


def _ink(path: AnyPath, gray: Array, despeckle: float) -> Mask:
    """Where ink is: darker than Sauvola's threshold and clearly darker than the paper near by."""
    try:
        from skimage.filters import gaussian, threshold_sauvola
        from skimage.morphology import remove_small_holes, remove_small_objects
    except ImportError:
        raise UserError(
            f"{path}: tracing needs scikit-image; pip install 'sketchknitter[trace]'"
        ) from None
    window = max(15, int(_WINDOW * max(gray.shape)) | 1)
    smooth = gaussian(gray, 0.7)
    # the paper's brightness: the mean around a pixel, where ink counts little
    paper = gaussian(np.maximum(smooth, gaussian(smooth, window / 4)), window)
    ink = smooth < np.minimum(
        threshold_sauvola(smooth, window, k=_SENSITIVITY, r=0.5), paper - _CONTRAST
    )
    if not ink.any():
        return ink
    blot = max(6, round(despeckle * 8e-6 * gray.size))
    small: dict[str, Any] = {"max_size": blot}
    return remove_small_holes(remove_small_objects(ink, **small), max_size=max(2, blot // 4))


# -- from ink to a graph ---------------------------------------------------------------------------
@dataclass
class _Branch:
    """A line between two nodes of the graph, or around and back to one."""

    ends: list[int]  # of nodes
    points: Array  # (n, 2) px, x then y, from the first node to the second


@dataclass
class _Graph:
    branches: list[_Branch] = field(default_factory=list)
    at: dict[int, Array] = field(default_factory=dict)  # node -> its place

    def degree(self) -> dict[int, int]:
        count: defaultdict[int, int] = defaultdict(int)
        for branch in self.branches:
            for end in branch.ends:
                count[end] += 1
        return count


def _strokes(ink: Mask) -> list[Array]:
    """Strokes (n, 2) px of ink: thinned, without spurs, simplified."""
    from scipy.ndimage import distance_transform_edt
    from skimage.morphology import skeletonize

    if not ink.any():
        return []
    lines = skeletonize(ink)
    width = 2 * float(np.median(distance_transform_edt(np.pad(ink, 1))[1:-1, 1:-1][lines]))
    graph = _graph(lines)
    _collapse(graph, width)
    _prune(graph, width)
    out = []
    for stroke in _joined(graph, max(4.0, 2 * width)):
        length = float(np.hypot(*np.diff(stroke, axis=0).T).sum())
        if length < _LEAST_INK * width and len(stroke) < 4:
            stroke = stroke.mean(axis=0, keepdims=True)  # a dot
        out.append(rdp(_smooth(stroke), max(0.5, _SIMPLIFY * width)) + 0.5)
    return out


def _neighbors(lines: Mask) -> dict[Pixel, list[Pixel]]:
    """Which pixels of a skeleton go on where: diagonally only where no straight way does."""
    pixels = {(int(r), int(c)) for r, c in np.argwhere(lines)}
    out = {}
    for r, c in pixels:
        found = [(r + a, c + b) for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        found = [p for p in found if p in pixels]
        for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            diagonal = (r + a, c + b)
            if diagonal in pixels and (r + a, c) not in pixels and (r, c + b) not in pixels:
                found.append(diagonal)
        out[r, c] = found
    return out


def _graph(lines: Mask) -> _Graph:
    """Nodes are ends and crossings (touching crossing pixels are one), branches the lines."""
    near = _neighbors(lines)
    graph, node = _Graph(), dict[Pixel, int]()
    for pixel, found in near.items():
        if len(found) != 2 and pixel not in node:
            cluster, todo = [pixel], [pixel]
            node[pixel] = len(graph.at)
            while todo and len(found) > 2:
                for other in near[todo.pop()]:
                    if len(near[other]) > 2 and other not in node:
                        node[other] = node[pixel]
                        cluster.append(other)
                        todo.append(other)
            graph.at[node[pixel]] = np.array(cluster, float).mean(axis=0)[::-1]
    seen: set[Pixel] = set()
    for start in node:
        if not near[start]:
            place = graph.at[node[start]]
            graph.branches.append(_Branch([node[start]] * 2, place[None]))
        for first in near[start]:
            if first in node:
                if node[first] != node[start] and start < first:
                    _add(graph, node[start], node[first], [])
            elif first not in seen:
                way = _walk(near, node, start, first)
                seen.update(way[:-1])
                _add(graph, node[start], node[way[-1]], way[:-1])
    for pixel in near:  # circles that nothing touches
        if pixel not in seen and pixel not in node:
            node[pixel] = k = len(graph.at)
            graph.at[k] = np.array(pixel[::-1], float)
            way = _walk(near, node, pixel, near[pixel][0])
            seen.update(way)
            _add(graph, k, k, way[:-1])
    return graph


def _walk(
    near: dict[Pixel, list[Pixel]], node: dict[Pixel, int], before: Pixel, here: Pixel
) -> list[Pixel]:
    way = [here]
    while here not in node:
        a, b = near[here]
        before, here = here, b if a == before else a
        way.append(here)
    return way


def _add(graph: _Graph, a: int, b: int, way: list[Pixel]) -> None:
    inner = np.array(way, float).reshape(-1, 2)[:, ::-1]
    graph.branches.append(_Branch([a, b], np.vstack([graph.at[a], inner, graph.at[b]])))


def _length(points: Array) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _collapse(graph: _Graph, width: float) -> None:
    """Two crossings no farther apart than the line is wide are one that thinning has split."""
    degree, same = graph.degree(), {k: k for k in graph.at}

    def root(k: int) -> int:
        while same[k] != k:
            k = same[k]
        return k

    kept = []
    for branch in graph.branches:
        a, b = map(root, branch.ends)
        bridge = a != b and degree[branch.ends[0]] > 2 and degree[branch.ends[1]] > 2
        if bridge and _length(branch.points) <= width:
            same[b] = a
            graph.at[a] = (graph.at[a] + graph.at[b]) / 2
        else:
            kept.append(branch)
    for branch in kept:
        branch.ends = [root(k) for k in branch.ends]
        if len(branch.points) > 1:
            branch.points[0], branch.points[-1] = (graph.at[k] for k in branch.ends)
    graph.branches = kept


def _prune(graph: _Graph, width: float) -> None:
    """Spurs no longer than the line is wide are how thinning sees a rough edge."""
    degree = graph.degree()

    def spur(branch: _Branch) -> bool:
        ends = sorted(degree[k] for k in branch.ends)
        return ends[0] == 1 and ends[1] > 2 and _length(branch.points) <= width

    graph.branches = [branch for branch in graph.branches if not spur(branch)]


def _joined(graph: _Graph, reach: float) -> Iterator[Array]:
    """Branches strung together: at each node the pair that goes on most nearly straight."""
    ends: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # node -> (branch, side)
    for i, branch in enumerate(graph.branches):
        if len(branch.points) > 1:
            for side, k in enumerate(branch.ends):
                ends[k].append((i, side))
    partner: dict[tuple[int, int], tuple[int, int]] = {}
    for here in ends.values():
        ways = [_direction(graph.branches[i].points, side, reach) for i, side in here]
        pairs = [(float(ways[a] @ ways[b]), a, b) for a in range(len(here)) for b in range(a)]
        for turn, a, b in sorted(pairs):
            free = here[a] not in partner and here[b] not in partner
            if free and (len(here) == 2 or turn < -_STRAIGHT):
                partner[here[a]], partner[here[b]] = here[b], here[a]
    used: set[int] = set()
    starts = [(i, s) for i in range(len(graph.branches)) for s in (0, 1) if (i, s) not in partner]
    for start in [*starts, *((i, 0) for i in range(len(graph.branches)))]:  # then the loops
        parts: list[Array] = []
        at: tuple[int, int] | None = start
        while at is not None and at[0] not in used:
            i, side = at
            used.add(i)
            points = graph.branches[i].points
            parts.append(points[::-1] if side else points)
            at = partner.get((i, 1 - side))
        if parts:
            yield np.vstack([parts[0], *(p[1:] for p in parts[1:])])


def _direction(points: Array, side: int, reach: float) -> Array:
    """Where a branch goes from its end, over ``reach`` px, as a unit vector."""
    points = points[::-1] if side else points
    along = np.cumsum(np.hypot(*np.diff(points, axis=0).T))
    far = points[1 + min(int(np.searchsorted(along, reach)), len(along) - 1)]
    way = far - points[0]
    return way / max(float(np.hypot(*way)), 1e-9)


def _smooth(points: Array) -> Array:
    """A stroke without the stairs of its pixels; ends, and the closing of a loop, stay."""
    if len(points) < 5:
        return points
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    out = points.copy()
    for k in range(2):
        out[2:-2, k] = np.convolve(points[:, k], kernel, mode="valid")
    return out
