"""Diff-HW against its paper, its released code's numbers, and double precision."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sketchknitter.errors import UserError
from sketchknitter.systems import diffhw
from sketchknitter.systems.diffhw import SIZES, DiffHW, DiffHwNetwork, Size


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_are_those_of_the_released_network() -> None:
    assert count(DiffHwNetwork(SIZES["published"])) == 6_001_251
    assert count(DiffHwNetwork(SIZES["published"], token=True)) == 8_224_035
    assert count(DiffHwNetwork(SIZES["cpu"])) == 803_467
    assert count(DiffHwNetwork(SIZES["cpu"], 10)) == 803_467 + 11 * 32


def test_noise_levels_to_four_digits() -> None:
    at = [0, 10, 20, 30, 40, 50, 55, 59]
    bars = [0.9800, 0.8005, 0.6528, 0.5274, 0.4024, 0.2155, 0.0894, 0.0175]
    assert diffhw.alpha_bars()[at].tolist() == pytest.approx(bars, abs=5e-5)
    assert float(diffhw.alpha_bars()[59]) == pytest.approx(0.01752, abs=5e-6)
    betas = [0.02001, 0.02006, 0.02219, 0.03318, 0.09944, 0.42]
    at = [0, 10, 30, 40, 50, 59]
    assert diffhw.betas()[at].tolist() == pytest.approx(betas, abs=5e-6)


def test_training_levels_lie_between_neighbors_of_the_table() -> None:
    table = diffhw.alpha_bars()
    u = torch.tensor([0.0, 0.5, 1 - 1e-9])
    low = diffhw.between_levels(u, torch.zeros(3))
    high = diffhw.between_levels(u, torch.ones(3))
    torch.testing.assert_close(low, table[[0, 29, 58]])
    torch.testing.assert_close(high, table[[1, 30, 59]])


STROKE3 = np.array(
    [[1, 0, 0], [2, 1, 1], [5, -3, 0], [1, 1, 0], [0, 2, 1], [-4, 0, 0], [1, 0, 1]], dtype=float
)


def test_the_pen_is_shifted_by_one_and_shifts_back() -> None:
    rows = diffhw.to_rows(STROKE3)
    # p says how this very displacement is made; the last lift comes around to the first row
    assert rows[:, 2].tolist() == [1, 0, 1, 0, 0, 1, 0]
    np.testing.assert_array_equal(rows[:, :2], STROKE3[:, :2])
    np.testing.assert_array_equal(diffhw.to_stroke3(rows), STROKE3)


def test_padding_is_pen_up_and_is_cut_off_again() -> None:
    rows = diffhw.padded(diffhw.to_rows(STROKE3), 16)
    assert rows.shape == (16, 3)
    assert rows[7:].tolist() == [[0, 0, 1]] * 9
    np.testing.assert_array_equal(diffhw.to_stroke3(rows), STROKE3)
    only = np.array([[3.0, 4.0, 1.0]])
    np.testing.assert_array_equal(diffhw.to_stroke3(diffhw.padded(diffhw.to_rows(only), 8)), only)


def test_drawings_beyond_the_limits_are_left_out() -> None:
    class Train:
        def __len__(self) -> int:
            return 1

        def take(self, chosen: object) -> list[np.ndarray]:
            return [STROKE3]

    fits = DiffHW(points=8, scale="data").fitting(SimpleNamespace(train=Train()))  # type: ignore[arg-type]
    assert fits(STROKE3)
    assert not fits(np.concatenate([STROKE3, STROKE3[:2]]))  # more than eight points
    unit = STROKE3[:, :2].std()
    assert fits(STROKE3 * [14.9 * unit / 5, 1, 1])
    assert not fits(STROKE3 * [15.1 * unit / 5, 1, 1])


def test_the_loss_is_the_original_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    eps, noise = torch.randn(2, 3, 16, 2, generator=generator)
    logit = 3 * torch.randn(3, 16, generator=generator)
    pen = (torch.rand(3, 16, generator=generator) < 0.4).float()
    abar = torch.tensor([0.9, 0.5, 0.1])
    squares = entropy = weighted = 0.0
    for b in range(3):
        for n in range(16):
            squares += sum((float(eps[b, n, k]) - float(noise[b, n, k])) ** 2 for k in range(2))
            p = 1 / (1 + math.exp(-float(logit[b, n])))
            nats = -math.log(p if pen[b, n] else 1 - p)
            entropy += nats
            weighted += nats * float(abar[b])
    made = diffhw.losses(eps, noise, pen, logit, abar)
    assert float(made.mean()) == pytest.approx((squares + entropy * 0.5) / 48, rel=1e-5)
    made = diffhw.losses(eps, noise, pen, logit, abar, "drawing")
    assert float(made.mean()) == pytest.approx((squares + weighted) / 48, rel=1e-5)
    mask = torch.arange(16) < torch.tensor([[4], [16], [9]])
    assert float(diffhw.losses(eps, noise, pen, logit, abar, "drawing", mask)[0, 4:].sum()) == 0


@pytest.mark.parametrize("i", [0, 1, 2, 30, 59])
def test_the_new_step_noises_the_true_drawing_again(i: int) -> None:
    generator = torch.Generator().manual_seed(i)
    x0, eps, normal = torch.randn(3, 4, 8, 2, generator=generator, dtype=torch.float64)
    bar = diffhw.alpha_bars()
    x = bar[i].sqrt() * x0 + (1 - bar[i]).sqrt() * eps
    before = bar[i - 1] if i > 0 else torch.tensor(1.0, dtype=torch.float64)
    expected = before.sqrt() * x0 + ((1 - before).sqrt() * normal if i > 1 else 0)
    torch.testing.assert_close(diffhw.new_step(x, eps, i, normal), expected)


def test_the_standard_step_is_that_of_ddpm() -> None:
    generator = torch.Generator().manual_seed(0)
    x, eps, normal = torch.randn(3, 2, 8, 2, generator=generator, dtype=torch.float64)
    beta, bar = diffhw.betas(), diffhw.alpha_bars()
    x0 = (x - (1 - bar[20]).sqrt() * eps) / bar[20].sqrt()
    # DDPM's posterior mean, equation 7, and variance beta
    mean = bar[19].sqrt() * beta[20] / (1 - bar[20]) * x0
    mean = mean + (1 - beta[20]).sqrt() * (1 - bar[19]) / (1 - bar[20]) * x
    expected = mean + beta[20].sqrt() * normal
    torch.testing.assert_close(diffhw.standard_step(x, eps, 20, normal), expected)
    first = diffhw.standard_step(x, eps, 0, normal)
    torch.testing.assert_close(first, diffhw.standard_step(x, eps, 0, None))


def test_the_learning_rate_peaks_at_ten_thousand() -> None:
    assert diffhw.learning_rate(10_000) == pytest.approx(6.25e-4)
    assert diffhw.learning_rate(100) == pytest.approx(6.25e-6)
    assert diffhw.learning_rate(40_000) == pytest.approx(3.125e-4)


TINY = Size((24, 24, 32), 48, 1, (3, 4, 6))


@pytest.mark.parametrize("token", [False, True])
def test_the_network_hears_level_and_class(token: bool) -> None:
    torch.manual_seed(0)
    network = DiffHwNetwork(TINY, 3, token=token)
    x = torch.randn(1, 16, 2).expand(3, -1, -1)
    root, label = torch.tensor([0.9, 0.9, 0.3]), torch.tensor([0, 1, 0])
    noise, pen = network(x, root, label)
    assert noise.shape == (3, 16, 2)
    assert pen.shape == (3, 16)
    assert float((noise[0] - noise[1]).detach().abs().max()) > 1e-5
    assert float((noise[0] - noise[2]).detach().abs().max()) > 1e-5
    with pytest.raises(UserError, match="multiple of 8"):
        network(x[:, :12], root, label)


def test_masked_padding_is_never_seen() -> None:
    torch.manual_seed(0)
    network = DiffHwNetwork(TINY)
    x = torch.randn(2, 32, 2)
    mask = torch.arange(32) < torch.tensor([[13], [32]])
    other = torch.where(mask[..., None], x, 7.0)
    root = torch.tensor([0.5, 0.7])
    kept = network(x, root, None, mask)[0][mask]
    seen = network(other, root, None, mask)[0][mask]
    torch.testing.assert_close(kept, seen)
    assert float((network(x, root)[0][0, :13] - kept[:13]).detach().abs().max()) > 1e-4
