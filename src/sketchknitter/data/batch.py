"""A batch of encoded sketches: the record that training and sampling hand around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DRAW, LIFT, END = 0, 1, 2  # what the pen does after a point
PEN_STATES = 3


@dataclass(frozen=True)
class Batch:
    """Encoded sketches, padded to the longest.

    Attributes:
        xy: coordinates in the codec's representation, (B, N, C) float32, 0 where padded.
        pen: state after each point (draw, lift, end), (B, N) int64, ``end`` where padded.
        mask: True on points of the drawing, (B, N) bool.
        label: class index, (B,) int64; the number of classes means "no label".
    """

    xy: Tensor
    pen: Tensor
    mask: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def length(self) -> Tensor:
        """Points in every drawing, (B,)."""
        return self.mask.sum(dim=1)

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            self.xy.to(device), self.pen.to(device), self.mask.to(device), self.label.to(device)
        )

    def __getitem__(self, index: slice | Tensor) -> Batch:
        return Batch(self.xy[index], self.pen[index], self.mask[index], self.label[index])
