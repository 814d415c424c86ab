"""Which noise levels a training step looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sketchknitter.errors import UserError


class LevelSampler(Protocol):
    """Draws noise levels and the weights that keep the expected loss unchanged."""

    def draw(self, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(t, weight), each (B,), from uniform numbers (B,)."""
        ...

    def observe(self, t: np.ndarray, loss: np.ndarray) -> None:
        """Learn from the losses seen at levels t."""
        ...

    def state(self) -> dict[str, np.ndarray]: ...

    def restore(self, state: dict[str, np.ndarray]) -> None: ...


class UniformLevels:
    """Each of ``levels`` equally often."""

    def __init__(self, levels: Sequence[int]) -> None:
        self.levels = np.array(levels, dtype=np.int64)

    def draw(self, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = len(self.levels)
        place = np.minimum((uniforms * count).astype(np.int64), count - 1)
        return self.levels[place], np.ones(len(place))

    def observe(self, t: np.ndarray, loss: np.ndarray) -> None:
        pass

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        pass


class LossSecondMomentLevels:
    """Levels in proportion to sqrt(E[loss^2]) (Nichol & Dhariwal 2021, section 3.3).

    Uniform until every level has been seen ``history`` times.
    """

    def __init__(self, steps: int, history: int = 10, floor: float = 0.001) -> None:
        self.steps, self.history, self.floor = steps, history, floor
        self._losses = np.zeros((steps, history))
        self._counts = np.zeros(steps, dtype=np.int64)

    def probabilities(self) -> np.ndarray:
        """How often each level is drawn, (T,), sums to 1."""
        if (self._counts < self.history).any():
            return np.full(self.steps, 1 / self.steps)
        moment = np.sqrt((self._losses**2).mean(axis=1))
        return (1 - self.floor) * moment / moment.sum() + self.floor / self.steps

    def draw(self, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = self.probabilities()
        t = np.searchsorted(np.cumsum(p), uniforms, side="right").clip(max=self.steps - 1)
        return t, 1 / (self.steps * p[t])

    def observe(self, t: np.ndarray, loss: np.ndarray) -> None:
        for level, value in zip(t, loss, strict=True):
            self._losses[level, self._counts[level] % self.history] = value
            self._counts[level] += 1

    def state(self) -> dict[str, np.ndarray]:
        return {"losses": self._losses.copy(), "counts": self._counts.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._losses[:] = state["losses"]
        self._counts[:] = state["counts"]


def level_sampler(name: str, steps: int) -> LevelSampler:
    """The sampler called ``name``: uniform, loss-second-moment."""
    if name == "uniform":
        return UniformLevels(range(steps))
    if name == "loss-second-moment":
        return LossSecondMomentLevels(steps)
    raise UserError(f"no schedule sampler {name!r}; one of: uniform, loss-second-moment")
