"""A rasterizer with a gradient in every coordinate and every pen: what pictures can steer by.

The one exception to :mod:`sketchknitter.raster`, which it agrees with up to its softness (a test
holds that).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_raster(
    points: Tensor, ink: Tensor, size: int = 48, width: float = 0.03, softness: float = 0.006
) -> Tensor:
    """Drawings as pictures: pixel = 1 - prod_i (1 - m_i sigmoid((w / 2 - d_i) / tau)).

    d_i is the distance from the pixel's center to segment i, m_i the probability that the pen is
    down on it, w the line width and tau the softness (Sketch-R2CNN's line rasterizer made smooth).

    Args:
        points: (B, P, 2) in the unit square, y down; (0, 0) is the picture's corner.
        ink: (B, P - 1) in [0, 1]; 0 for padding as well.
        size: side of the picture, px.
        width: of the line, as a share of the side.
        softness: tau, as a share of the side; the larger, the farther the gradient reaches.

    Returns:
        (B, size, size), 1 is ink.
    """
    distance = segment_distances(points, pixel_centers(size, points))
    cover = torch.sigmoid((width / 2 - distance) / softness)
    # log1p keeps the gradient of pixels that many segments cover; the bound keeps it finite
    empty = torch.log1p(-(ink[:, :, None] * cover).clamp(max=1 - 1e-6)).sum(dim=1)
    return (1 - empty.exp()).view(len(points), size, size)


def pixel_centers(size: int, like: Tensor) -> Tensor:
    """(size², 2) centers in the unit square, row by row."""
    ticks = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / size
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)


def segment_distances(points: Tensor, places: Tensor) -> Tensor:
    """Distances (B, P - 1, M) from places (M, 2) to the segments between points (B, P, 2)."""
    start, along = points[:, :-1, None], (points[:, 1:] - points[:, :-1])[:, :, None]
    length = (along**2).sum(dim=-1)
    # coordinates apart: (B, P - 1, M) arrays, never (B, P - 1, M, 2)
    dx, dy = places[:, 0] - start[..., 0], places[:, 1] - start[..., 1]
    share = (dx * along[..., 0] + dy * along[..., 1]) / (length + 1e-12)
    share = share.clamp(0, 1)
    square = (dx - share * along[..., 0]) ** 2 + (dy - share * along[..., 1]) ** 2
    return (square + 1e-12).sqrt()  # the root of 0 has no gradient


def blurred(pictures: Tensor, radius: int) -> Tensor:
    """Pictures (B, S, S) averaged twice over (2 radius + 1)² px: a triangle's blur."""
    if radius < 1:
        return pictures
    out = pictures[:, None]
    for _ in range(2):
        out = F.avg_pool2d(out, 2 * radius + 1, stride=1, padding=radius)
    return out[:, 0]
