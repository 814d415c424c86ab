"""Sketch <-> tensors. The only place where pens are decided and where px meet model units."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sketchknitter.data.batch import DRAW, END, LIFT, Batch
from sketchknitter.errors import UserError
from sketchknitter.representation import Representation
from sketchknitter.settings import CodecOptions, RepresentationName
from sketchknitter.sketch import Sketch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Codec:
    """How a drawing of n stroke-3 rows becomes model points, and back, exactly.

    Every representation is one filter over the points of the drawing, see
    :mod:`sketchknitter.representation`:

    ========== ===== ==============================================================================
    name       leak  what it means
    ========== ===== ==============================================================================
    offset     1     (dx, dy) of the paper; n rows, the origin is implied
    leaky      0…1   innovations of an AR(1) walk around the center: smooth like offsets, but errors
                     are forgotten instead of adding up; n + 1 rows
    absolute   0     centered positions; n + 1 rows (the paper's ``Abs`` ablation)
    ========== ===== ==============================================================================

    Attributes:
        representation: see the table.
        leak: used by ``leaky`` alone.
        max_rows: N, the longest drawing in stroke-3 rows.
        scale: px for one model unit: the standard deviation of z over the training set.
        pen_break: probability of "lift" above which the pen lifts; 0.5 until it is calibrated.
    """

    representation: RepresentationName = CodecOptions.representation
    leak: float = CodecOptions.leak
    max_rows: int = CodecOptions.points
    scale: float = 1.0
    pen_break: float = 0.5

    def __post_init__(self) -> None:
        if self.representation not in ("offset", "leaky", "absolute"):
            raise UserError(
                f"no representation {self.representation!r}; one of: offset, leaky, absolute"
            )
        if self.representation == "leaky" and not 0 < self.leak < 1:
            raise UserError(f"leak must lie between 0 and 1, not {self.leak}")
        if not self.scale > 0:
            raise UserError(f"scale must be positive, not {self.scale}")

    # -- shape -----------------------------------------------------------------------------------
    @property
    def rho(self) -> float:
        """The filter's leak: 1 for offset, 0 for absolute."""
        return {"offset": 1.0, "absolute": 0.0}.get(self.representation, self.leak)

    @property
    def map(self) -> Representation:
        """Between points in px and model coordinates."""
        return Representation(self.rho, self.scale)

    @property
    def max_points(self) -> int:
        """The longest sequence of model points."""
        return self.max_rows + self.extra

    @property
    def extra(self) -> int:
        """Model points minus stroke-3 rows: 1 where the first point has a place of its own."""
        return 1 - self.map.implied

    # -- there -----------------------------------------------------------------------------------
    def filter(self, rows: np.ndarray) -> np.ndarray:
        """z in px, (n or n + 1, 2), of stroke-3 rows (n, 3)."""
        steps = np.asarray(rows[:, :2], dtype=np.float64)
        points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        points -= (points.min(axis=0) + points.max(axis=0)) / 2
        return Representation(self.rho).filter(points)

    def pens(self, rows: np.ndarray) -> np.ndarray:
        """Pen states (n or n + 1,) of stroke-3 rows (n, 3); the last one is ``end``."""
        lift = np.where(np.asarray(rows[:, 2]) > 0.5, LIFT, DRAW)
        states = np.concatenate([np.full(self.extra, DRAW), lift])
        states[-1] = END
        return states

    def encode(
        self, rows: Sequence[np.ndarray], labels: Sequence[int] | np.ndarray, points: int = 0
    ) -> Batch:
        """Stroke-3 drawings (n, 3) -> one batch, padded to the longest or to ``points``.

        Raises:
            UserError: a drawing is empty or longer than ``max_rows``.
        """
        import torch  # here, so that the command line reads a codec's settings without it

        for i, drawing in enumerate(rows):
            if not 1 <= len(drawing) <= self.max_rows:
                raise UserError(
                    f"drawing {i} has {len(drawing)} rows; this model takes 1 to {self.max_rows}"
                )
        width = max(points, max(len(d) for d in rows) + self.extra)
        xy = np.zeros((len(rows), width, 2), dtype=np.float32)
        pen = np.full((len(rows), width), END, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=bool)
        for i, drawing in enumerate(rows):
            z = self.filter(drawing)
            xy[i, : len(z)] = z / self.scale
            pen[i, : len(z)] = self.pens(drawing)
            mask[i, : len(z)] = True
        label = torch.as_tensor(np.asarray(labels, dtype=np.int64))
        return Batch(torch.from_numpy(xy), torch.from_numpy(pen), torch.from_numpy(mask), label)

    # -- and back ----------------------------------------------------------------------------------
    def points(self, xy: np.ndarray) -> np.ndarray:
        """Points in px, (n + 1, 2), of one drawing's model coordinates (n or n + 1, 2)."""
        return self.map.positions(np.asarray(xy, dtype=np.float64))

    def decode(
        self,
        xy: Tensor,
        pen: Tensor,
        lengths: Tensor | None = None,
        labels: Sequence[str | None] | None = None,
        pen_break: float | None = None,
    ) -> list[Sketch]:
        """Model output -> sketches in px.

        Args:
            xy: (B, N, >=2) model coordinates.
            pen: (B, N, 3) log-probabilities of draw, lift, end.
            lengths: (B,) valid points; None lets the first point whose likeliest state is ``end``
                close the drawing.
            labels: names, (B,).
            pen_break: lift where P(lift | not end) exceeds it; None uses the calibrated value.
        """
        coordinates = xy.detach().double().cpu().numpy()
        log_p = pen.detach().double().cpu()
        cut = self.pen_break if pen_break is None else pen_break
        lift = lift_probability(log_p).numpy() > cut
        if lengths is None:
            ends = (log_p.argmax(dim=-1) == END).numpy()
            ends[:, -1] = True
            counts = ends.argmax(axis=1) + 1
        else:
            counts = lengths.cpu().numpy()
        out = []
        for i, n in enumerate(counts):
            points = self.points(coordinates[i, :n])
            pens = lift[i, : len(points) - 1]
            if self.representation == "offset":
                # row j's pen acts after point j + 1; the implied first point is always pen-down
                pens = np.concatenate([[False], lift[i, : len(points) - 2]])
            cuts = np.flatnonzero(pens) + 1
            label = labels[i] if labels is not None else None
            out.append(Sketch(np.split(points, cuts), label))
        return out

    # -- fitting and storing -----------------------------------------------------------------------
    def fitted(self, rows: Sequence[np.ndarray]) -> Codec:
        """This codec with its scale set to the standard deviation of z over ``rows``, in px."""
        total = square = count = 0.0
        for drawing in rows:
            z = self.filter(drawing)
            total += z.sum()
            square += (z**2).sum()
            count += z.size
        deviation = (square / count - (total / count) ** 2) ** 0.5
        if not deviation > 0:
            raise UserError("all drawings are a single dot: there is no scale to learn")
        return dataclasses.replace(self, scale=float(deviation))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def lift_probability(pen: Tensor) -> Tensor:
    """P(lift | not end), (...), of log-probabilities of draw, lift, end (..., 3)."""
    return (pen[..., LIFT] - pen[..., DRAW]).sigmoid()
