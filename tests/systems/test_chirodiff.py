"""ChiroDiff: its counts, its rows, its loss and its step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sketchknitter.errors import UserError
from sketchknitter.systems import chirodiff
from sketchknitter.systems.chirodiff import ChiroDiffNetwork, Size

STROKE3 = np.array([[3, 0, 0], [0, 4, 1], [2, -2, 0], [1, 0, 0], [0, 6, 1]], dtype=float)


def test_parameters_are_those_of_the_released_network() -> None:
    assert sum(p.numel() for p in ChiroDiffNetwork().parameters()) == 416_859
    # the original's class mode: 96 numbers beside the level's eight, at both ends
    more = 2 * 3 * 96 * 96 + 3 * 96 + 11 * 96
    assert sum(p.numel() for p in ChiroDiffNetwork(classes=10).parameters()) == 416_859 + more


def test_rows_are_positions_at_radius_ten_and_come_back() -> None:
    rows, unit = chirodiff.to_rows(STROKE3)
    points = np.cumsum(STROKE3[:, :2], axis=0)
    assert np.hypot(*rows[:, :2].T).max() == pytest.approx(10)
    np.testing.assert_allclose(rows[:, :2] * unit, points)
    assert rows[:, 2].tolist() == [0, 1, 0, 0, 1]
    np.testing.assert_allclose(chirodiff.to_stroke3(rows, unit), STROKE3, atol=1e-12)


def test_the_radius_is_free() -> None:
    rows, unit = chirodiff.to_rows(STROKE3, radius=3.0)
    assert np.hypot(*rows[:, :2].T).max() == pytest.approx(3)
    np.testing.assert_allclose(chirodiff.to_stroke3(rows, unit), STROKE3, atol=1e-12)
    system = chirodiff.ChiroDiff()
    assert (system.reach, dataclasses.replace(system, size="published").reach) == (3.0, 10.0)


def test_the_pen_is_cut_at_eight_tenths() -> None:
    rows = np.array([[1, 0, 0.79], [2, 0, 0.81], [3, 1, 0.0]])
    assert chirodiff.to_stroke3(rows)[:, 2].tolist() == [0, 1, 1]


def test_resampled_strokes_keep_their_ends_and_spacing() -> None:
    rows, unit = chirodiff.to_rows(STROKE3, spacing=0.05)
    ends = np.flatnonzero(rows[:, 2])
    corners = np.cumsum(STROKE3[:, :2], axis=0)[[1, 4]]
    np.testing.assert_allclose(rows[ends, :2] * unit, corners)
    steps = np.hypot(*np.diff(rows[: ends[0] + 1, :2], axis=0).T)
    assert steps.max() < 0.6  # .05 of radius 10, a little more where the length is no multiple
    assert len(rows) > 20


def test_a_drawing_without_extent_is_refused() -> None:
    with pytest.raises(UserError, match="coincide"):
        chirodiff.to_rows(np.zeros((3, 3)))


def test_velocities_are_differences_of_positions_and_positions_sums_of_offsets() -> None:
    x = torch.randn(2, 5, 3)
    velocity = chirodiff.other_view(x, "positions")
    torch.testing.assert_close(velocity.cumsum(dim=1), x[..., :2])
    place = chirodiff.other_view(x, "offsets")
    torch.testing.assert_close(place[:, 1:] - place[:, :-1], x[:, 1:, :2])


def test_the_loss_is_the_mean_over_each_drawings_own_points() -> None:
    noise, eps = torch.randn(2, 2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    by_hand = [
        sum(float((noise[b, n, k] - eps[b, n, k]) ** 2) for n in range(m) for k in range(3)) / 3 / m
        for b, m in enumerate((2, 4))
    ]
    assert chirodiff.losses(noise, eps, mask).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_levels_and_step() -> None:
    beta, bar = chirodiff.betas(), chirodiff.alpha_bars()
    assert float(beta[0]) == pytest.approx(1e-4 * 1000 / 35)
    assert float(beta[-1]) == pytest.approx(0.02 * 1000 / 35)
    assert 0 < float(bar[-1]) < 1e-5
    x0, eps, normal = torch.randn(3, 2, 6, 3, dtype=torch.float64)
    t = 20
    x = bar[t - 1].sqrt() * x0 + (1 - bar[t - 1]).sqrt() * eps
    # DDPM, equation 7: the posterior of x_(t-1) given x_t and the true x_0
    i = t - 1
    mean = bar[i - 1].sqrt() * beta[i] / (1 - bar[i]) * x0
    mean = mean + (1 - beta[i]).sqrt() * (1 - bar[i - 1]) / (1 - bar[i]) * x
    deviation = ((1 - bar[i - 1]) / (1 - bar[i]) * beta[i]).sqrt()
    made = chirodiff.step(x, eps, t, normal, 0.75, 35)
    torch.testing.assert_close(made, mean + 0.75 * deviation * normal)
    x = bar[0].sqrt() * x0 + (1 - bar[0]).sqrt() * eps
    torch.testing.assert_close(chirodiff.step(x, eps, 1, normal, 0.75, 35), x0)


@pytest.mark.parametrize("representation", ["positions", "offsets"])
def test_padding_is_never_seen_and_the_class_is(representation: chirodiff.Representation) -> None:
    torch.manual_seed(0)
    network = ChiroDiffNetwork(Size(2, 8), 3, representation)
    x = torch.randn(2, 9, 3)
    lengths = torch.tensor([5, 9])
    t, label = torch.tensor([3, 30]), torch.tensor([0, 1])
    out = network(x, t, label, lengths)
    assert out.shape == (2, 9, 3)
    changed = x.clone()
    changed[0, 5:] = 99.0
    torch.testing.assert_close(network(changed, t, label, lengths)[0, :5], out[0, :5])
    other = network(x, t, torch.tensor([2, 1]), lengths)
    assert float((other[0] - out[0]).detach().abs().max()) > 1e-5
    torch.testing.assert_close(other[1], out[1])
