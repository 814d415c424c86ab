"""r-Shortcut: visit the few noise levels where a drawing becomes recognizable.

Reconstructed from the paper's figures: a warp W(t), rising from 0 at the noise to 1 at the drawing,
joins how recognizable drawings are at level t, r(t), and how much noise is still estimated there,
n(t), both calibrated for the checkpoint:

    W(t) = lam (r(t) - r(T)) / (r(0) - r(T)) + (1 - lam) (n(T) - n(t)) / (n(T) - n(0))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.diffusion.scores import Scores, estimated_noise
from sketchknitter.diffusion.timesteps import Grid, StepRecord, Timesteps
from sketchknitter.errors import SettingError

START = 0.98  # share of T where the paper's figure starts
NAMES = ("shortcut", "shortcut-static", "shortcut-adaptive")  # the first means the second
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What a checkpoint's own trajectories look like.

    Attributes:
        levels: where they were looked at, ascending.
        recognizability: r, the mean score there.
        noise: n, the mean absolute estimated noise there.
        weight: lam, how much recognizability counts beside noise.
    """

    levels: tuple[int, ...]
    recognizability: tuple[float, ...]
    noise: tuple[float, ...]
    weight: float = 0.5

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Calibration:
        return cls(
            tuple(data["levels"]),
            tuple(data["recognizability"]),
            tuple(data["noise"]),
            data["weight"],
        )

    @property
    def ends(self) -> tuple[float, float, float, float]:
        """r(0), r(T), n(0), n(T), after each curve was made monotone."""
        r = monotone(self.recognizability)
        n = -monotone([-v for v in self.noise])
        return float(r[0]), float(r[-1]), float(n[0]), float(n[-1])

    def warp(self, total: int) -> Array:
        """W at every level, (total,): 1 at level 0, strictly falling to 0 at 0.98 T and beyond."""
        top = round(START * (total - 1))
        r = _share(monotone(self.recognizability))
        n = _share(monotone([-v for v in self.noise]))
        w = self.weight * r + (1 - self.weight) * n
        curve = np.interp(np.arange(top + 1), self.levels, w)
        curve = _share(curve) if curve[0] > curve[-1] else np.zeros(top + 1)
        # a plateau has no inverse: a trace of the even grid gives it one
        curve = 0.999 * curve + 0.001 * np.linspace(1, 0, top + 1)
        return np.concatenate([curve / curve[0], np.zeros(total - top - 1)])


def _share(falling: Array) -> Array:
    """A falling curve scaled from 1 to 0; a flat one is 0."""
    span = falling[0] - falling[-1]
    return (falling - falling[-1]) / span if span > 0 else np.zeros_like(falling)


def monotone(values: ArrayLike) -> Array:
    """The falling curve nearest in least squares (pool adjacent violators)."""
    pools: list[list[float]] = []  # mean, count
    for value in np.asarray(values, dtype=np.float64):
        pools.append([float(value), 1.0])
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            mean, count = pools.pop()
            before = pools[-1]
            before[0] = (before[0] * before[1] + mean * count) / (before[1] + count)
            before[1] += count
    return np.concatenate([np.full(int(count), mean) for mean, count in pools])


def distinct(levels: Sequence[int] | NDArray[Any], total: int) -> NDArray[np.int64]:
    """Levels moved as little upward as makes them differ, all below ``total``, ascending."""
    place = np.arange(len(levels))
    rising = np.maximum.accumulate(np.sort(np.asarray(levels)) - place) + place
    return np.minimum(rising, total - len(levels) + place).astype(np.int64)


def static(steps: int, schedule: Schedule, calibration: Calibration) -> Grid:
    """The same levels for every sketch: equal gains of W, from 0.98 T to 0.

    Raises:
        UserError: S < 2 or S > T.
    """
    total = schedule.steps
    _check(steps, total)
    w = calibration.warp(total)
    top = round(START * (total - 1))
    wanted = np.arange(steps) / (steps - 1)
    levels = np.interp(wanted, w[top::-1], np.arange(top, -1, -1))
    return Grid(distinct(np.round(levels).astype(int), total), total)


class Adaptive:
    """Each sketch goes its own way: what its score says is left decides how far it jumps.

    The static pace gains 1 / (S - 1) of W with each evaluation. Where the calibrated curve has W(t)
    and the sketch itself has W', it needs the share a = (1 - W') / (1 - W(t)) of that care, at most
    all: it jumps to the largest s with W(s) - W(t) >= pace / a. A sketch that is ahead finishes
    early; one that is behind is paced like the static grid, so the budget always reaches level 0.

    Args:
        steps: most evaluations of any sketch.
        patience: least share a: 1 paces all alike.
        tolerance: a sketch stops where W' >= 1 - tolerance.
    """

    def __init__(
        self,
        steps: int,
        schedule: Schedule,
        calibration: Calibration,
        scorer: Scores,
        patience: float = 0.5,
        tolerance: float = 0.02,
    ) -> None:
        _check(steps, schedule.steps)
        self.steps, self.scorer = steps, scorer
        self.patience, self.tolerance = patience, tolerance
        self.calibration = calibration
        self._warp = torch.from_numpy(calibration.warp(schedule.steps))
        self._rising = torch.flip(self._warp, (0,)).contiguous()
        self._top = round(START * (schedule.steps - 1))

    def start(self, batch: int) -> Tensor:
        return torch.full((batch,), self._top, dtype=torch.int64)

    def progress(self, record: StepRecord) -> Tensor:
        """W' of each sketch, 0 … 1, (B,) float64."""
        near, far, clean, noisy = self.calibration.ends
        score = self.scorer(record.x_t, record.denoised, record.t, record.label, record.mask)
        noise = estimated_noise(record.denoised, record.mask)
        lam = self.calibration.weight
        seen = (score.double() - far) / max(near - far, 1e-9)
        gone = (noisy - noise.double()) / max(noisy - clean, 1e-9)
        return lam * seen.clamp(0, 1) + (1 - lam) * gone.clamp(0, 1)

    def next(self, t: Tensor, record: StepRecord) -> Tensor:
        done = torch.full_like(t, -1)
        if record.left == 0:
            return done
        w = self._warp.to(t.device)[t]
        own = self.progress(record)
        need = ((1 - own) / (1 - w).clamp(min=1e-9)).clamp(self.patience, 1)
        pace = ((1 - w) / record.left).clamp(min=1 / (self.steps - 1))
        aim = w + pace / need
        # rounding must not turn "exactly 1" into "never"
        place = torch.searchsorted(self._rising.to(t.device), aim.clamp(max=1) - 1e-12)
        s = torch.minimum(len(self._rising) - 1 - place, t - 1)
        return torch.where((own >= 1 - self.tolerance) | (t == 0), done, s)


def policy(
    name: str, steps: int, schedule: Schedule, calibration: Calibration, scorer: Scores
) -> Timesteps:
    """The shortcut policy called ``name``, one of ``NAMES``, with a budget of ``steps``.

    Raises:
        UserError: S < 2 or S > T.
    """
    if name == "shortcut-adaptive":
        return Adaptive(steps, schedule, calibration, scorer)
    return static(steps, schedule, calibration)


def _check(steps: int, total: int) -> None:
    if not 2 <= steps <= total:
        raise SettingError("steps", f"must lie in 2 … {total}, not {steps}")
