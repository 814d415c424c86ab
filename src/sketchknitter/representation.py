"""How the points of a drawing become the coordinates that a network sees, and back.

One linear filter over the points p_0 … p_(P-1), in px, with a leak rho and a scale s:

    z_0 = sqrt(1 - rho²) p_0 / s,   z_i = (p_i - rho p_(i-1)) / s

rho = 0 gives positions, rho = 1 the paper's offsets (then z_0 is gone, and an implied first point
stands at the origin), in between innovations of an AR(1) walk: neighbors hang together as with
offsets, and errors are forgotten as with positions. :class:`Representation` does it for arrays of
NumPy and tensors of torch alike, from one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Points = TypeVar("Points", NDArray[Any], "Tensor")
Floats = NDArray[np.float64]
_Map = Literal["positions", "filter", "unit"]


@dataclass(frozen=True)
class Representation:
    """The linear map between points in px and model coordinates.

    Attributes:
        rho: leak, 0 (positions) … 1 (offsets).
        scale: s, px for one unit of z.
    """

    rho: float
    scale: float = 1.0

    @property
    def implied(self) -> int:
        """Points that no row stands for: 1 for offsets, whose first point is the origin."""
        return 1 if self.rho >= 1 else 0

    def matrix(self, rows: int) -> Floats:
        """(rows + implied, rows): points = matrix @ z. Read-only."""
        return _matrix("positions", self.rho, self.scale, rows)

    def inverse(self, rows: int) -> Floats:
        """(rows, rows + implied): z = inverse @ points, displaced points at rho = 1. Read-only."""
        return _matrix("filter", self.rho, self.scale, rows)

    def filter(self, points: Points) -> Points:
        """Points (…, P, 2) px -> z (…, P - implied, 2)."""
        return self._times("filter", points.shape[-2] - self.implied, points)

    def positions(self, z: Points) -> Points:
        """z (…, N, >= 2) -> points (…, N + implied, 2) px; differentiable."""
        return self._times("positions", z.shape[-2], z[..., :2])

    def unit_positions(self, z: Points) -> Points:
        """z (…, N, >= 2) -> one position for each row, (…, N, 2), of unit variance where z is."""
        return self._times("unit", z.shape[-2], z[..., :2])

    def _times(self, kind: _Map, rows: int, values: Points) -> Points:
        if isinstance(values, np.ndarray):
            return _matrix(kind, self.rho, self.scale, rows) @ values
        return _tensor(kind, self.rho, self.scale, rows, values) @ values


def _written(xp: Any, kind: _Map, rho: float, scale: float, rows: int) -> Any:
    """The matrix of a map, float64, in the functions that NumPy and torch share (``xp``)."""
    implied = 1 if rho >= 1 else 0
    high, wide = rows, rows
    if kind == "positions":
        high += implied
    elif kind == "filter":
        wide += implied
    i = xp.arange(high, dtype=xp.float64)[:, None]
    j = xp.arange(wide, dtype=xp.float64)[None]
    if kind == "filter" and implied:
        return (xp.where(j - i == 1, 1.0, 0.0) - xp.where(i == j, 1.0, 0.0)) / scale
    root = (1 - rho**2) ** 0.5 if not implied else 1.0
    if kind == "filter":
        z = xp.where(i == j, 1.0, 0.0) - rho * xp.where(i - j == 1, 1.0, 0.0)
        return z * xp.where(i == 0, root, 1.0) / scale
    lag = i - j - (implied if kind == "positions" else 0)
    sums = xp.where(lag >= 0, rho ** xp.where(lag >= 0, lag, 0.0), 0.0)
    points = sums * xp.where(j == 0, 1 / root, 1.0)
    if kind == "positions":
        return points * scale
    # below 1 the walk is stationary; at 1 its variance grows with the number of steps
    return points / xp.sqrt(i + 1) if implied else points * root


@lru_cache(maxsize=256)
def _matrix(kind: _Map, rho: float, scale: float, rows: int) -> Floats:
    out: Floats = _written(np, kind, rho, scale, rows)
    out.flags.writeable = False
    return out


def _tensor(kind: _Map, rho: float, scale: float, rows: int, like: Tensor) -> Tensor:
    import torch

    if torch.compiler.is_compiling():  # traced for any number of rows: nothing to remember
        return _written(torch, kind, rho, scale, rows).to(like)
    return _kept(kind, rho, scale, rows, like.dtype, like.device)


@lru_cache(maxsize=256)
def _kept(
    kind: _Map, rho: float, scale: float, rows: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    import torch

    # what is made in inference mode could not be differentiated through later
    with torch.inference_mode(False):
        return torch.from_numpy(_matrix(kind, rho, scale, rows).copy()).to(device, dtype)
