"""SketchRNN's augmentation: stretched drawings with points left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stretch:
    """Both axes scaled independently, then points dropped (magenta's ``random_scale`` and
    ``augment_strokes``; Ha and Eck 2017, section 3.2).

    Attributes:
        stretch: largest relative change of either axis, uniform.
        drop: probability of leaving out a point that is at least the third since the last lift and
            that no lift follows; its offset is added to the last point that stays.
    """

    stretch: float = 0.15
    drop: float = 0.10

    def __call__(self, rows: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
        """Stroke-3 rows (n, 3) -> rows (m, 3), m <= n, float64."""
        out = np.array(rows, dtype=np.float64)
        out[:, :2] *= 1 + self.stretch * rng.uniform(-1, 1, 2)
        return self._dropped(out, rng.random(len(out))) if self.drop else out

    def _dropped(
        self, rows: NDArray[np.float64], chance: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        kept: list[list[float]] = []
        since = 0  # points since the last lift
        lifted = True  # after the last point that stays; a drawing begins like a stroke
        for (x, y, lift), u in zip(rows.tolist(), chance.tolist(), strict=True):
            inside = lift < 0.5 and not lifted
            since = since + 1 if inside else 0
            if inside and since > 2 and u < self.drop:
                kept[-1][0] += x
                kept[-1][1] += y
            else:
                kept.append([x, y, lift])
                lifted = lift > 0.5
        return np.array(kept)
