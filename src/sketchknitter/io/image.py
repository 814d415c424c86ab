"""Sketches as pictures: a PNG, or a GIF of their drawing order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sketchknitter.errors import UserError
from sketchknitter.files import AnyPath, atomic
from sketchknitter.raster import grid
from sketchknitter.sketch import Sketch


def write(
    sketches: Iterable[Sketch],
    path: AnyPath,
    *,
    size: int | None = None,
    columns: int | None = None,
    captions: bool | Sequence[str | None] = False,
    width: float = 0.025,
    margin: float = 0.06,
    seconds: float = 4.0,
    fps: float = 12.0,
) -> None:
    """Write one sketch or a page of several as ``.png``, or as ``.gif`` that draws them.

    Args:
        sketches: any iterable.
        path: its suffix picks the format.
        size: side of a cell in px; default 512 for one sketch, 128 for several.
        columns: of the page; None makes it about square.
        captions: True writes the labels under the cells; a list, one text per sketch.
        width, margin: as ``raster.render``.
        seconds, fps: of a GIF.

    Raises:
        UserError: nothing to draw, or a size, width or margin that no picture has.
    """
    sketches = list(sketches)
    if not sketches:
        raise UserError(f"{path}: no sketches to draw; give at least one")
    cell = size or (512 if len(sketches) == 1 else 128)
    if Path(path).suffix.lower() == ".gif":
        from sketchknitter.io.animation import write_drawing

        cell = size or (256 if len(sketches) == 1 else 128)
        write_drawing(sketches, path, cell, columns, captions, width, margin, seconds, fps)
        return
    picture = grid(sketches, columns, cell, captions, width, margin)
    with atomic(path) as f:
        picture.save(f, format="PNG", optimize=True)
