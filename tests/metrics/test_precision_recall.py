import numpy as np
import pytest

from sketchknitter import UserError
from sketchknitter.metrics.precision_recall import precision_and_recall


def brute(x: np.ndarray, y: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """The four definitions, pair by pair."""

    def radius(z: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(z[i] - z[j]) for j in range(len(z)) if j != i)[k - 1]

    rx, ry = [radius(x, i) for i in range(len(x))], [radius(y, j) for j in range(len(y))]
    d = np.array([[np.linalg.norm(a - b) for b in y] for a in x])
    in_x, in_y = d <= np.array(rx)[:, None], d <= np.array(ry)[None]
    return in_x.any(0).mean(), in_y.any(1).mean(), in_x.sum() / k / len(y), in_x.any(1).mean()


def test_equals_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.normal(0.5, 0.8, size=(33, 5))
    p = precision_and_recall(x, y, 3)
    found = p.precision, p.recall, p.density, p.coverage
    assert found == pytest.approx(brute(x, y, 3), abs=1e-12)
    assert 0 < p.recall < 1  # a case where something is at stake


def test_identical_sets_with_and_without_repeats():
    x = np.random.default_rng(0).normal(size=(50, 6)) * 100 + 1e4
    for cloud in (x, np.repeat(x[:12], 5, axis=0)):
        p = precision_and_recall(cloud, cloud)
        assert (p.precision, p.recall, p.coverage) == (1.0, 1.0, 1.0)


def test_far_sets_share_nothing():
    x = np.random.default_rng(0).normal(size=(50, 6))
    p = precision_and_recall(x, x + 50)
    assert (p.precision, p.recall, p.density, p.coverage) == (0.0, 0.0, 0.0, 0.0)


def test_mode_collapse_is_precise_but_recalls_little():
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(8, 10)) * 8
    real = np.concatenate([c + rng.normal(size=(60, 10)) for c in centers])
    fake = centers[0] + rng.normal(size=(480, 10)) * 0.7
    p = precision_and_recall(real, fake)
    assert p.precision > 0.95
    assert p.recall < 0.2
    assert p.coverage < 0.2
    dropped = precision_and_recall(fake, real)  # and the other way round: too varied
    assert dropped.precision < 0.2
    assert dropped.recall > 0.95


def test_k_neighbors_need_k_plus_one_rows():
    x = np.random.default_rng(0).normal(size=(9, 2))
    with pytest.raises(UserError, match="at least 4"):
        precision_and_recall(x, x[:3])
    with pytest.raises(UserError, match="k >= 1"):
        precision_and_recall(x, x, 0)
