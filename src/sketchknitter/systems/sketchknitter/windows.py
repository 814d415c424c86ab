"""Windows of lines: what is read around the inner points of strokes, and how far two sets differ.

A comparison of whole drawings hardly notices fine noise on their lines. How a line goes from one
segment to the next shows it at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FEATURES = 6
SHORT = 0.5  # px: lengths are read no finer, and smoothly there
FLAT = 0.25  # px: the same for distances from chords
REPEATED = 0.05  # px: a segment no longer than that has no direction, and no window


def windows(points: Tensor, drawn: Tensor) -> Tensor:
    """What is read of three segments in a row, of every inner point of a stroke (differentiable).

    Args:
        points: (B, P, 2), px.
        drawn: whether a line leads from a point to the next, (B, P - 1) bool.

    Returns:
        (n, FEATURES): the logarithms of the lengths before and after the point and of the next
        segment; the turn at the point, 0 … pi; the turn at the next one, positive to the same side;
        the logarithm of the distance from the chord of the neighbors. Where the stroke ends at the
        next point, that has no turn, and the segment after the point stands for the one beyond it.
    """
    step = points.diff(dim=1)
    drawn = drawn & (step.detach().norm(dim=-1) > REPEATED)
    inner = drawn[:, :-1] & drawn[:, 1:]
    goes_on = F.pad(drawn[:, 2:], (0, 1))[inner]
    before, after = step[:, :-1][inner], step[:, 1:][inner]
    beyond = torch.where(goes_on[:, None], F.pad(step[:, 2:], (0, 0, 0, 1))[inner], after)
    across = cross(before, after)
    side = torch.where(across < 0, -1.0, 1.0)
    turn = torch.atan2((side * across).clamp(min=1e-6), (before * after).sum(dim=-1))
    next_turn = torch.atan2(side * cross(after, beyond), (after * beyond).sum(dim=-1))
    height = across / length(before + after)
    read = (
        length(before).log(),
        length(after).log(),
        length(beyond).log(),
        turn,
        torch.where(goes_on, next_turn, torch.zeros_like(next_turn)),
        (height.square() + FLAT**2).sqrt().log(),
    )
    return torch.stack(read, dim=-1)


def distance(found: Tensor, wanted: Tensor, axes: Tensor) -> Tensor:
    """Squared sliced Wasserstein distance of windows (n, F) to windows (m, F), a mean over axes.

    Projected to an axis, the cheapest way from one distribution to the other leads from each value
    to that of the same rank (Rabin et al. 2011).

    Args:
        axes: the directions, (F, k).

    Returns:
        A scalar, differentiable with respect to ``found``.

    Raises:
        ValueError: a set without windows.
    """
    if not len(found) or not len(wanted):
        raise ValueError("a distance needs windows on both sides")
    own, other = ((x @ axes).T.contiguous() for x in (found, wanted))
    rank = own.detach().argsort(dim=1).argsort(dim=1)
    same = ((rank + 0.5) * (len(wanted) / len(found))).long()
    return (own - other.sort(dim=1).values.gather(1, same)).square().mean()


def length(step: Tensor) -> Tensor:
    """(…, 2) -> (…), never below SHORT, and smooth there."""
    return (step.square().sum(dim=-1) + SHORT**2).sqrt()


def cross(a: Tensor, b: Tensor) -> Tensor:
    """(…, 2) twice -> (…)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
