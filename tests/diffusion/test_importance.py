"""Which levels training sees, and that weights keep the expected loss unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from sketchknitter.diffusion.importance import LossSecondMomentLevels, level_sampler
from sketchknitter.errors import UserError

STEPS = 20


def strata(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


def observed(history: int = 3) -> LossSecondMomentLevels:
    """A sampler whose loss at level t is 1 + t."""
    levels = LossSecondMomentLevels(STEPS, history)
    for _ in range(history):
        levels.observe(np.arange(STEPS), 1.0 + np.arange(STEPS))
    return levels


def test_uniform_sees_every_level_equally_often() -> None:
    t, weight = level_sampler("uniform", STEPS).draw(strata(5 * STEPS))
    assert (np.bincount(t, minlength=STEPS) == 5).all()
    assert (weight == 1).all()
    assert level_sampler("uniform", STEPS).draw(np.array([0.0, 1 - 1e-17, 1.0]))[0].max() < STEPS


def test_uniform_until_every_level_has_its_history() -> None:
    levels = LossSecondMomentLevels(STEPS, history=2)
    levels.observe(np.arange(STEPS), np.ones(STEPS))
    levels.observe(np.arange(STEPS - 1), np.full(STEPS - 1, 9.0))
    assert (levels.probabilities() == 1 / STEPS).all()
    levels.observe(np.array([STEPS - 1]), np.array([3.0]))
    p = levels.probabilities()
    assert p[-1] < p[0]  # sqrt(1 + 9) against sqrt(1 + 81)
    np.testing.assert_allclose(p[:-1], p[0])


def test_levels_in_proportion_to_the_losses_second_moment() -> None:
    p = observed().probabilities()
    assert p.sum() == pytest.approx(1)
    assert p[19] / p[0] == pytest.approx(20, rel=0.05)
    assert p.min() >= 0.001 / STEPS
    t, _ = observed().draw(strata(10_000))
    np.testing.assert_allclose(np.bincount(t, minlength=STEPS) / 10_000, p, atol=2e-4)


def test_weights_keep_the_expected_loss() -> None:
    t, weight = observed().draw(strata(200_000))
    for loss in (np.ones(STEPS), np.arange(STEPS) ** 2.0, np.eye(STEPS)[4]):
        assert (weight * loss[t]).mean() == pytest.approx(loss.mean(), rel=1e-3)


def test_only_the_last_losses_count() -> None:
    levels = observed(history=3)
    for _ in range(3):
        levels.observe(np.arange(STEPS), np.ones(STEPS))
    np.testing.assert_allclose(levels.probabilities(), 1 / STEPS)


@pytest.mark.parametrize("name", ["uniform", "loss-second-moment"])
def test_state_restores(name: str) -> None:
    one, two = level_sampler(name, STEPS), level_sampler(name, STEPS)
    rng = np.random.default_rng(0)
    for _ in range(15):
        one.observe(np.arange(STEPS), rng.random(STEPS))
    two.restore(one.state())
    for a, b in zip(one.draw(strata(99)), two.draw(strata(99)), strict=True):
        np.testing.assert_array_equal(a, b)
    one.observe(np.arange(STEPS), np.ones(STEPS))  # the state was a copy
    for key, value in two.state().items():
        assert not np.array_equal(value, one.state()[key])


def test_an_unknown_name() -> None:
    with pytest.raises(UserError, match="no schedule sampler 'greedy'"):
        level_sampler("greedy", STEPS)
