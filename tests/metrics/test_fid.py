import numpy as np
import pytest
import torch

from sketchknitter import UserError
from sketchknitter.metrics.fid import frechet_distance
from sketchknitter.metrics.inception_score import inception_score
from sketchknitter.metrics.kid import bootstrap_kernel_distance, kernel_distance


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(24, 24)) * 0.3
    return rng.normal(size=(300, 24)) @ mix, rng.normal(0.2, 1.3, size=(260, 24)) @ mix + 0.1


class Through(torch.nn.Module):
    """Features that are the pictures themselves, as torchmetrics wants them."""

    num_features = 24

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def as_pictures(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x)[:, None, None]


@pytest.mark.filterwarnings("ignore")
def test_fid_equals_torchmetrics(clouds):
    from torchmetrics.image.fid import FrechetInceptionDistance

    oracle = FrechetInceptionDistance(
        Through(), normalize=True, input_img_size=(1, 1, 24)
    ).set_dtype(torch.float64)
    oracle.update(as_pictures(clouds[0]), real=True)
    oracle.update(as_pictures(clouds[1]), real=False)
    assert frechet_distance(*clouds) == pytest.approx(float(oracle.compute()), rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_kid_of_all_rows_equals_torchmetrics(clouds):
    from torchmetrics.image.kid import KernelInceptionDistance

    x, y = clouds[0][:260], clouds[1]
    oracle = KernelInceptionDistance(Through(), subsets=1, subset_size=260)
    oracle.update(as_pictures(x), real=True)
    oracle.update(as_pictures(y), real=False)
    assert kernel_distance(x, y)[0] == pytest.approx(float(oracle.compute()[0]), rel=1e-6)
    assert kernel_distance(x, y, 260, 1)[0] == pytest.approx(kernel_distance(x, y)[0], rel=1e-9)


def test_fid_of_known_gaussians_and_of_singular_clouds():
    x = np.array([[1.0], [-1.0]]) * np.sqrt(0.5)  # variance 1 with n - 1
    assert frechet_distance(x, 3 * x + 2) == pytest.approx(4 + (3 - 1) ** 2, rel=1e-12)
    rng = np.random.default_rng(0)
    few = rng.normal(size=(10, 64)) * 30  # fewer rows than columns
    assert frechet_distance(few, few) < 1e-9
    assert frechet_distance(few, few[::-1]) < 1e-9
    assert frechet_distance(few, few + 2.0) == pytest.approx(64 * 4, rel=1e-9)


def test_kid_is_unbiased_and_grows():
    rng = np.random.default_rng(1)
    draws = [kernel_distance(*rng.normal(size=(2, 40, 8)))[0] for _ in range(200)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(200)
    x = rng.normal(size=(200, 8))
    values = [kernel_distance(x, x + shift)[0] for shift in (0.3, 0.6, 1.2)]
    assert 0 < values[0] < values[1] < values[2]


def test_bootstrap_spread_is_that_of_fresh_samples():
    rng = np.random.default_rng(2)
    pairs = [(rng.normal(size=(150, 6)), rng.normal(0.5, 1, size=(150, 6))) for _ in range(60)]
    fresh = np.std([kernel_distance(*pair)[0] for pair in pairs])
    guessed = np.mean([bootstrap_kernel_distance(*pair, draws=100) for pair in pairs[:10]])
    assert guessed == pytest.approx(fresh, rel=0.35)


def test_bootstrap_leaves_out_pairs_of_a_row_with_itself():
    """Against the sums written out, on few rows, where such pairs are many."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 3)) + 0.5

    def within(z: np.ndarray, rows: np.ndarray) -> float:
        pairs = [(i, j) for i in rows for j in rows if i != j]
        return np.mean([(z[i] @ z[j] / 3 + 1) ** 3 for i, j in pairs])

    draws = []
    for _ in range(1500):
        a, b = rng.integers(0, 8, (2, 8))
        cross = ((x[a] @ y[b].T / 3 + 1) ** 3).mean()
        draws.append(within(x, a) + within(y, b) - 2 * cross)
    found = bootstrap_kernel_distance(x, y, draws=4000)
    assert found == pytest.approx(np.std(draws), rel=0.1)


def test_inception_score_by_its_formula_and_on_peaks():
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(7), size=50)
    kl = sum(np.sum(row * (np.log(row) - np.log(p.mean(0)))) for row in p) / 50
    assert inception_score(p)[0] == pytest.approx(np.exp(kl), rel=1e-12)
    assert inception_score(np.eye(5)[rng.permutation(np.repeat(np.arange(5), 9))])[
        0
    ] == pytest.approx(5.0)
    assert inception_score(np.full((9, 4), 0.25))[0] == pytest.approx(1.0)
    assert inception_score(p, splits=5)[1] > 0


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance])
def test_bad_features_are_refused(function):
    good = np.random.default_rng(0).normal(size=(5, 3))
    with pytest.raises(UserError, match="at least 2"):
        function(good, good[:1])
    with pytest.raises(UserError, match="drawing 1 are not finite"):
        function(good, np.where(np.arange(15).reshape(5, 3) == 4, np.nan, good))
    with pytest.raises(UserError, match="3 and 2"):
        function(good, good[:, :2])
    with pytest.raises(UserError, match="subset"):
        kernel_distance(good, good, subset_size=6)
    with pytest.raises(UserError, match="sum to 1"):
        inception_score(good)
