"""The prior over codes: what it was fitted to is what it draws, and held-out codes choose it."""

from __future__ import annotations

import numpy as np
import pytest

from sketchknitter.errors import UserError
from sketchknitter.systems.mixture import CodeMixture


def two_clouds(n: int, rng: np.random.Generator) -> np.ndarray:
    side = rng.integers(0, 2, n)[:, None]
    return np.where(side, 5.0, -5.0) + rng.normal(size=(n, 3)) * [0.5, 0.2, 1.0]


def test_moments_and_components_are_those_of_the_codes() -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(400, 3)) @ np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 2.0]]) + 7
    codes = np.concatenate([two_clouds(400, rng), plain])
    labels = np.repeat([0, 1], 400)
    unseen = np.concatenate([two_clouds(200, rng), plain[:200] + 0.01])
    mixture = CodeMixture.fit(codes, labels, (unseen, np.repeat([0, 1], 200)), components=(1, 2, 5))
    assert (mixture.owner == 0).sum() == 2  # chosen by held-out codes
    drawn = np.stack([mixture.sample(1, rng) for _ in range(4000)])
    np.testing.assert_allclose(drawn.mean(axis=0), plain.mean(axis=0), atol=0.12)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(plain.T), atol=0.35)
    clouds = np.stack([mixture.sample(0, rng) for _ in range(500)])
    assert (np.abs(clouds[:, 0]) > 3).all()
    assert 150 < (clouds[:, 0] > 0).sum() < 350


def test_temperature_zero_is_a_mean_and_an_unknown_class_takes_any() -> None:
    rng = np.random.default_rng(1)
    mixture = CodeMixture.fit(two_clouds(60, rng), np.zeros(60, dtype=int), components=(2,))
    cold = mixture.sample(0, rng, temperature=0.0)
    assert min(np.abs(mixture.means - cold).max(axis=1)) < 1e-5
    assert mixture.sample(9, rng).shape == (3,)


def test_one_code_of_a_class_is_enough_and_none_is_refused() -> None:
    mixture = CodeMixture.fit(np.ones((1, 4)), np.array([3]))
    code = mixture.sample(3, np.random.default_rng(0))
    np.testing.assert_allclose(code, 1.0, atol=0.2)
    with pytest.raises(UserError, match="no codes"):
        CodeMixture.fit(np.ones((0, 4)), np.zeros(0, dtype=int))


def test_it_is_stored_whole() -> None:
    rng = np.random.default_rng(2)
    mixture = CodeMixture.fit(two_clouds(50, rng), np.zeros(50, dtype=int), components=(2,))
    again = CodeMixture.from_tensors(mixture.tensors())
    key = np.random.default_rng
    np.testing.assert_array_equal(again.sample(0, key(5)), mixture.sample(0, key(5)))
    with pytest.raises(UserError, match="factors"):
        CodeMixture.from_tensors({k: v for k, v in mixture.tensors().items() if "fact" not in k})
