"""The only reader and writer of drawing files; the suffix picks the format, the content proves it.

Reads ``.ndjson`` (QuickDraw, simplified and raw), ``.bin`` (QuickDraw), ``.npz`` and ``.npy``
(sketch-rnn archives, fixed arrays), ``.svg``. Writes ``.npz .ndjson .svg .png .gif``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sketchknitter.errors import UserError
from sketchknitter.files import AnyPath
from sketchknitter.io.records import Reject
from sketchknitter.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

__all__ = [
    "Reject",
    "read",
    "read_counted",
    "read_one",
    "to_image",
    "to_svg",
    "write",
    "write_frames",
]

# suffix -> module here; loaded when a file of the kind turns up
_READERS = {
    ".ndjson": "ndjson",
    ".bin": "binary",
    ".npz": "npz",
    ".npy": "npz",
    ".svg": "svg_read",
}
_WRITERS = {
    ".npz": "npz_write",
    ".ndjson": "ndjson",
    ".svg": "svg_write",
    ".png": "image",
    ".gif": "image",
}


def _list(table: dict[str, str]) -> str:
    return " ".join(table)


def read_counted(path: AnyPath, *, split: str | None = None) -> Iterator[Sketch | Reject]:
    """Every drawing of a file in order; a bad one comes as a :class:`Reject` and reading goes on.

    Args:
        path: a file of any format we read.
        split: of an ``.npz``: ``"train"``, ``"valid"`` or ``"test"``; None is all of them.

    Raises:
        UserError: the file as a whole cannot be read, is of another kind than its suffix says, or
            has not the split asked for.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise UserError(f"{path}: no reader for {suffix or 'no suffix'}; we read {_list(_READERS)}")
    return import_module(f"sketchknitter.io.{_READERS[suffix]}").read(path, split=split)


def read(path: AnyPath, *, split: str | None = None) -> Iterator[Sketch]:
    """Every drawing of a file in order (arguments as :func:`read_counted`).

    Raises:
        UserError: as :func:`read_counted`, and for the first bad drawing, by its position.
    """
    for item in read_counted(path, split=split):
        if isinstance(item, Reject):
            raise item.error(path)
        yield item


def read_one(path: AnyPath) -> Sketch:
    """The first drawing of a file; warns if the file holds more.

    Raises:
        UserError: as :func:`read`, or the file holds no drawing.
    """
    drawings = read(path)
    first = next(drawings, None)
    if first is None:
        raise UserError(f"{path} holds no drawing")
    if next(drawings, None) is not None:
        warnings.warn(f"{path} holds more than one drawing; this is the first", stacklevel=2)
    return first


def check_output(path: AnyPath) -> None:
    """Refuse a file that :func:`write` could not write, before a long computation.

    Raises:
        UserError: no writer for the suffix, or no such folder.
    """
    p = Path(path)
    if p.suffix.lower() not in _WRITERS:
        raise UserError(f"{path}: no writer for {p.suffix!r}; we write {_list(_WRITERS)}")
    if not p.parent.is_dir():
        raise UserError(f"{path}: no such folder: {p.parent}; make it first")


def write(sketches: Iterable[Sketch], path: AnyPath, **options: Any) -> None:
    """Write drawings to one file, whole or not at all; the suffix picks the format.

    Args:
        sketches: any iterable; .npz and .ndjson take it as a stream.
        path: ``.npz`` (under ``test``), ``.ndjson``, ``.svg``, ``.png`` or ``.gif``.
        options: those of ``npz_write.write``, ``ndjson.write``, ``svg_write.write`` and
            ``image.write``; an ``.svg`` with a ``sheet`` takes those of ``sheet.write``.

    Raises:
        UserError: no writer for the suffix, no such folder, an unknown option, nothing to draw.
    """
    check_output(path)
    suffix = Path(path).suffix.lower()
    module = "sheet" if suffix == ".svg" and "sheet" in options else _WRITERS[suffix]
    writer = import_module(f"sketchknitter.io.{module}").write
    known = writer.__kwdefaults__ or {}
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UserError(
            f"{path}: {suffix} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}"
        )
    writer(sketches, path, **options)


def to_svg(sketch: Sketch | Sequence[Sketch], **options: Any) -> str:
    """One sketch, or a grid of several, as SVG text.

    Options are those of ``svg_write.to_svg``, or with a ``sheet`` those of ``sheet.to_svg``.
    """
    module = "sheet" if "sheet" in options else "svg_write"
    return import_module(f"sketchknitter.io.{module}").to_svg(sketch, **options)


def to_image(sketch: Sketch, size: int = 256, **options: Any) -> Image:
    """One sketch as a gray picture of ``size`` × ``size`` px (options of ``raster.render``)."""
    from PIL import Image

    from sketchknitter.raster import render

    return Image.fromarray(render(sketch, size, **options))


def write_frames(frames: Sequence[Sequence[Sketch]], path: AnyPath, **options: Any) -> None:
    """A film of pages of sketches, such as a denoising, as ``.gif`` or ``.svg``.

    Raises:
        UserError: another suffix, no frames, or frames of unequal numbers of sketches.
    """
    from sketchknitter.io.animation import write_frames as film

    film(frames, path, **options)
