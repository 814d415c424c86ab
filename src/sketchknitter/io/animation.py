"""Films: the drawing order of sketches, and pages that change, such as a denoising."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sketchknitter.errors import UserError
from sketchknitter.files import AnyPath, atomic
from sketchknitter.io.svg_write import Page, document, group, number, strokes_svg
from sketchknitter.raster import Bounds, grid
from sketchknitter.sketch import Sketch

_MAX_FRAMES = 2000


def partial(sketch: Sketch, share: float) -> Sketch:
    """What stands on the paper after ``share`` (0…1) of the ink; a dot takes a little, too."""
    if share >= 1:
        return sketch
    lengths = [np.hypot(*np.diff(s, axis=0).T) for s in sketch.strokes]
    least = max(sum(float(x.sum()) for x in lengths) / 50, 1e-9)
    left = share * sum(max(float(x.sum()), least) for x in lengths)
    strokes = []
    for stroke, steps in zip(sketch.strokes, lengths, strict=True):
        if left <= 0:
            break
        total = float(steps.sum())
        if left >= total:
            strokes.append(stroke)
        else:
            at = np.concatenate([[0.0], np.cumsum(steps)])
            whole = int(np.searchsorted(at, left, side="right"))
            tip = [np.interp(left, at, stroke[:, 0]), np.interp(left, at, stroke[:, 1])]
            strokes.append(np.vstack([stroke[:whole], tip]))
        left -= max(total, least)
    return Sketch(strokes, sketch.label)


def save_gif(images: Sequence[Image.Image], path: AnyPath, ms: float, hold: float) -> None:
    """Images as an endless GIF; each stands ``ms``, the last one ``hold`` ms."""
    durations = [round(ms)] * (len(images) - 1) + [round(hold)]
    with atomic(path) as f:
        images[0].save(
            f, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0
        )


def write_drawing(
    sketches: Sequence[Sketch],
    path: AnyPath,
    cell: int,
    columns: int | None = None,
    captions: bool | Sequence[str | None] = False,
    width: float = 0.025,
    margin: float = 0.06,
    seconds: float = 4.0,
    fps: float = 12.0,
) -> None:
    """A GIF in which all sketches of a page are drawn at once, in their drawing order.

    Raises:
        UserError: nothing to draw, or a film without frames or with too many.
    """
    count = max(2, _count(path, seconds * fps))
    bounds = [_bounds(s) for s in sketches]
    images = [
        grid(
            [partial(s, i / (count - 1)) for s in sketches],
            columns,
            cell,
            captions,
            width,
            margin,
            bounds,
        )
        for i in range(count)
    ]
    save_gif(images, path, 1000 / fps, 1500)


def _count(path: AnyPath, frames: float) -> int:
    if not 1 <= frames <= _MAX_FRAMES:
        raise UserError(f"{path}: a film of {frames:g} frames; between 1 and {_MAX_FRAMES} work")
    return round(frames)


def _bounds(sketch: Sketch) -> Bounds | None:
    return sketch.bounds if sketch.num_points else None


def write_frames(
    frames: Sequence[Sequence[Sketch]],
    path: AnyPath,
    *,
    columns: int | None = None,
    size: int = 128,
    width: float = 0.025,
    margin: float = 0.06,
    seconds: float = 4.0,
    hold: float = 1.5,
    fixed: bool = True,
) -> None:
    """A film of pages, such as a denoising, as an endless ``.gif`` or ``.svg``.

    Args:
        frames: pages with equally many sketches.
        path: its suffix picks the format.
        columns: cells in a row; None makes the page about square.
        size: side of a cell in px.
        width, margin: as ``raster.render``.
        seconds: all frames but the last one together.
        hold: the last frame, seconds.
        fixed: every cell keeps the view of its last frame, and ink beyond it is cut off; else each
            sketch is fitted anew in each frame.

    Raises:
        UserError: another suffix, no frames, or frames with unequal numbers of sketches.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".gif", ".svg"):
        raise UserError(f"{path}: a film is a .gif or an .svg, not {suffix or 'a bare name'}")
    pages = [list(frame) for frame in frames]
    if not pages or not pages[0] or any(len(p) != len(pages[0]) for p in pages):
        raise UserError(f"{path}: a film needs frames with equally many sketches, at least one")
    _count(path, len(pages))
    views = [_bounds(s) if fixed else None for s in pages[-1]]
    step = seconds / max(1, len(pages) - 1)
    if suffix == ".svg":
        svg = _frames_svg(pages, views, columns, size, width, margin, step, hold)
        with atomic(path) as f:
            f.write(svg.encode())
        return
    images = [grid(page, columns, size, width=width, margin=margin, bounds=views) for page in pages]
    save_gif(images, path, 1000 * step, 1000 * hold)


def _frames_svg(
    pages: list[list[Sketch]],
    views: list[Bounds | None],
    columns: int | None,
    size: int,
    width: float,
    margin: float,
    step: float,
    hold: float,
) -> str:
    """Every frame is a group shown in its turn; without animation only the last one is seen."""
    page = Page(len(pages[0]), columns, captions=False)
    last = len(pages) - 1
    total = last * step + hold
    share = 100 * step / total
    style = (
        f"<style>.f{{animation:f {number(total, 3)}s step-end infinite}}\n"
        f"@keyframes f{{0%{{visibility:visible}}{share:.4f}%{{visibility:hidden}}}}\n"
        f".l{{animation:l {number(total, 3)}s step-end infinite}}\n"
        f"@keyframes l{{0%{{visibility:hidden}}{share * last:.4f}%{{visibility:visible}}}}\n"
        "</style>\n"
    )
    parts = []
    for i, sketches in enumerate(pages):
        cells = [page.place(s, k, margin, views[k]) for k, s in enumerate(sketches)]
        body = "\n".join(strokes_svg(s, 1) for s in cells if s.num_points)
        look = 'class="l"'
        if i < last:
            # a negative delay: the film is in full swing when it begins
            look = (
                'class="f" visibility="hidden"'
                f' style="animation-delay:{number(i * step - total, 3)}s"'
            )
        parts.append(f"<g {look}>\n{body}\n</g>")
    body = style + group("\n".join(parts), width * page.box[2] / page.columns, 2, "black")
    longer = float(size * max(page.rows, page.columns))
    return document(body, page.box, longer, "", mark=False)
