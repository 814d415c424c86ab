"""A drawing made of pen strokes: the one object that crosses every boundary of the library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchknitter.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Array = NDArray[np.float64]


def _freeze(stroke: ArrayLike, index: int) -> Array:
    points = np.array(stroke, dtype=np.float64) + 0.0  # -0.0, equal to 0.0, has other bytes
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise UserError(
            f"stroke {index} has shape {points.shape}; "
            "a stroke is an (n, 2) array of x, y with n >= 1"
        )
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise UserError(f"stroke {index}, point {bad} is not finite")
    points.setflags(write=False)
    return points


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _is_one_stroke(strokes: Any) -> bool:
    """Whether this is an (n, 2) array, or a list of n pairs of numbers, and not a list of those."""
    if isinstance(strokes, np.ndarray):
        return strokes.ndim == 2 and strokes.dtype != object
    if not isinstance(strokes, Sequence) or not strokes:
        return False
    first = strokes[0]
    return isinstance(first, list | tuple | np.ndarray) and np.shape(first) == (2,)


@dataclass(frozen=True, eq=False)
class Sketch:
    """A frozen drawing: strokes in drawing order, in px, y pointing down.

    Args:
        strokes: one (n, 2) array of x, y for each pen-down stroke, or one such array for a drawing
            of one stroke; copied, cast to float64 and made read-only. A stroke of one point is a
            dot.
        label: what is drawn (``"cat"``), or None.

    Raises:
        UserError: a stroke has another shape, no points, or a value that is not finite.
    """

    strokes: tuple[Array, ...]
    label: str | None = None

    def __init__(self, strokes: Iterable[ArrayLike] | ArrayLike, label: str | None = None) -> None:
        if isinstance(strokes, str | bytes):
            raise UserError(
                f"strokes are arrays of points; to read a file: Sketch.open({strokes!r})"
            )
        strokes = [strokes] if _is_one_stroke(strokes) else list(strokes)  # type: ignore
        object.__setattr__(self, "strokes", tuple(_freeze(s, i) for i, s in enumerate(strokes)))
        object.__setattr__(self, "label", label)

    # -- what it is made of ------------------------------------------------------------------
    def __len__(self) -> int:
        """How many strokes."""
        return len(self.strokes)

    @cached_property
    def points(self) -> Array:
        """All points in drawing order, (n, 2) px."""
        out = np.concatenate(self.strokes) if self.strokes else np.zeros((0, 2))
        out.setflags(write=False)
        return out

    @property
    def num_points(self) -> int:
        return sum(len(s) for s in self.strokes)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in px.

        Raises:
            UserError: the sketch has no points.
        """
        if not self.num_points:
            raise UserError("an empty sketch has no bounds")
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def extent(self) -> float:
        """The longer side of the bounding box, px."""
        x0, y0, x1, y1 = self.bounds
        return max(x1 - x0, y1 - y0)

    @property
    def ink_length(self) -> float:
        """Total length of all pen-down segments, px."""
        return float(sum(np.hypot(*np.diff(s, axis=0).T).sum() for s in self.strokes if len(s) > 1))

    # -- equality ----------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        """Same label, same strokes, every coordinate equal."""
        if not isinstance(other, Sketch):
            return NotImplemented
        return (
            self.label == other.label
            and len(self) == len(other)
            and all(np.array_equal(a, b) for a, b in zip(self.strokes, other.strokes, strict=True))
        )

    def __hash__(self) -> int:
        return hash((self.label, tuple(s.tobytes() for s in self.strokes)))

    def __repr__(self) -> str:
        what = f" {self.label!r}" if self.label else ""
        strokes, points = len(self), self.num_points
        return f"<Sketch{what}: {_count(strokes, 'stroke')}, {_count(points, 'point')}>"

    # -- new sketches from this one ------------------------------------------------------------
    def with_label(self, label: str | None) -> Sketch:
        return Sketch(self.strokes, label)

    def transformed(self, matrix: ArrayLike, offset: ArrayLike = (0.0, 0.0)) -> Sketch:
        """Every point p mapped to ``matrix @ p + offset``; ``matrix`` is (2, 2) or a scalar."""
        a = np.asarray(matrix, dtype=np.float64)
        shift = np.asarray(offset, dtype=np.float64)
        if a.ndim == 0:
            return Sketch([s * a + shift for s in self.strokes], self.label)
        return Sketch([s @ a.T + shift for s in self.strokes], self.label)

    # -- stroke-3 ------------------------------------------------------------------------------
    def to_stroke3(self) -> Array:
        """Rows (dx, dy, lift): n offsets of n + 1 points from an implicit pen-down origin.

        The first point is the origin, so the first row is ink; ``lift`` is 1 when the pen leaves
        the paper *after* the row's point (sketch-rnn's format, Ha & Eck 2017). A first stroke of
        one point is written as a zero-length segment: the format has no other way to say it.

        Returns:
            (n, 3) float64; (0, 3) for an empty sketch.
        """
        if not self.num_points:
            return np.zeros((0, 3))
        strokes = list(self.strokes)
        if len(strokes[0]) == 1:
            strokes[0] = np.repeat(strokes[0], 2, axis=0)
        points = np.concatenate(strokes)
        lift = np.zeros(len(points))
        lift[np.cumsum([len(s) for s in strokes]) - 1] = 1.0
        return np.column_stack([np.diff(points, axis=0), lift[1:]])

    @classmethod
    def from_stroke3(
        cls, rows: ArrayLike, label: str | None = None, origin: Sequence[float] = (0.0, 0.0)
    ) -> Sketch:
        """The inverse of :meth:`to_stroke3`; the drawing starts, pen down, at ``origin``.

        A trailing pen-down run is a stroke as well, whether or not its last row says lift.
        """
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != 3:
            raise UserError(f"stroke-3 rows have shape (n, 3), not {rows.shape}")
        if not len(rows):
            return cls([], label)
        start = np.asarray(origin, dtype=np.float64)[None]
        points = np.concatenate([start, start + np.cumsum(rows[:, :2], axis=0)])
        cuts = np.flatnonzero(rows[:-1, 2] > 0.5) + 2
        return cls(np.split(points, cuts), label)

    # -- files and notebooks (the one upward import, held by the layer test) -------------------
    @classmethod
    def open(cls, path: str | PathLike[str]) -> Sketch:
        """The first drawing of any file we read (see ``sketchknitter.io.read``)."""
        from sketchknitter import io

        return io.read_one(path)

    @classmethod
    def of(cls, value: Drawable) -> Sketch:
        """A sketch from whatever stands for one: itself, a file's path, or strokes."""
        if isinstance(value, Sketch):
            return value
        return cls.open(value) if isinstance(value, str | PathLike) else cls(value)

    def save(self, path: str | PathLike[str], **options: Any) -> None:
        """Write this drawing; the suffix picks the format (.svg .png .gif .npz .ndjson)."""
        from sketchknitter import io

        io.write([self], path, **options)

    def to_svg(self, **options: Any) -> str:
        """The drawing as the text of an SVG file (options of ``sketchknitter.io.to_svg``)."""
        from sketchknitter import io

        return io.to_svg(self, **options)

    def to_image(self, size: int = 256, **options: Any) -> Image:
        """The drawing as a gray ``PIL.Image`` of ``size`` × ``size`` px, black on white.

        Args:
            options: ``width`` and ``margin`` as shares of the side (see ``sketchknitter.raster``).
        """
        from sketchknitter import io

        return io.to_image(self, size, **options)

    def _repr_svg_(self) -> str:
        return self.to_svg()


Drawable = Sketch | str | PathLike[str] | Iterable[ArrayLike]  # see Sketch.of
