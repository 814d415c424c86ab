"""Windows of lines: what is read of them, and how far two sets are apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from sketchknitter.systems.sketchknitter.windows import FEATURES, distance, windows


def line(*points: tuple[float, float]) -> torch.Tensor:
    return torch.tensor([points], dtype=torch.float32)


def drawn(points: torch.Tensor) -> torch.Tensor:
    return torch.ones(points.shape[0], points.shape[1] - 1) > 0


def test_what_is_read_of_a_corner_and_of_the_one_after_it() -> None:
    """A line that turns left by a quarter, then right by an eighth of a turn."""
    points = line((0, 0), (30, 0), (30, 40), (50, 60))
    first, second = windows(points, drawn(points))
    sharp, blunt = math.pi / 2, math.pi / 4
    chord = 30 * 40 / 50  # of the corner, to the line between its neighbors
    wanted = [math.log(30), math.log(40), math.log(800**0.5), sharp, -blunt, math.log(chord)]
    np.testing.assert_allclose(first, wanted, atol=1e-3)
    # after the second corner the stroke ends: no further turn, and the last segment twice
    assert second[1] == second[2]
    assert second[3] == pytest.approx(blunt)
    assert second[4] == 0


def test_neither_place_nor_direction_nor_side_matters() -> None:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.normal(0, 30, (3, 9, 2)))
    found = windows(points, drawn(points))
    assert found.shape == (3 * 7, FEATURES)
    c, s = math.cos(1), math.sin(1)
    for turned in ([[c, -s], [s, c]], [[-1.0, 0], [0, 1]]):
        other = points @ torch.tensor(turned, dtype=points.dtype).T + torch.tensor([30.0, -50])
        torch.testing.assert_close(windows(other, drawn(points)), found)


def test_no_window_spans_a_lifted_pen_or_a_repeated_point() -> None:
    points = line((0, 0), (30, 0), (30, 40), (50, 60), (50, 60), (90, 60), (90, 90))
    there = drawn(points)
    assert len(windows(points, there)) == 3  # the repeated point parts the line
    there[0, 1] = False
    assert len(windows(points, there)) == 1


def test_a_distance_is_that_of_the_cheapest_way_on_each_axis() -> None:
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(m, 1, (40, FEATURES))) for m in (0.0, 0.5))
    axes = torch.from_numpy(rng.normal(size=(FEATURES, 3)))
    wanted = 0.0
    for axis in axes.T:
        cost = ((a @ axis)[:, None] - (b @ axis)[None]).square().numpy()
        wanted += cost[linear_sum_assignment(cost)].mean() / 3
    assert float(distance(a, b, axes)) == pytest.approx(wanted)
    assert float(distance(a, a[torch.randperm(40)], axes)) == pytest.approx(0, abs=1e-12)
    # a set against itself twice over: the same distribution
    assert float(distance(a, torch.cat([a, a]), axes)) == pytest.approx(0, abs=1e-12)
    for pair in ((a[:0], b), (a, b[:0])):
        with pytest.raises(ValueError, match="windows on both sides"):
            distance(*pair, axes)


def test_following_its_gradient_brings_one_set_to_the_other() -> None:
    rng = np.random.default_rng(0)
    found = torch.from_numpy(rng.normal(0, 1, (200, FEATURES))).requires_grad_()
    wanted = torch.from_numpy(rng.gamma(2, 1, (300, FEATURES)))
    axes = torch.eye(FEATURES, dtype=found.dtype)
    start = float(distance(found.detach(), wanted, axes))
    for _ in range(50):
        (slope,) = torch.autograd.grad(distance(found, wanted, axes) * found.numel() / 2, found)
        found = (found - 0.5 * slope).detach().requires_grad_()
    assert float(distance(found.detach(), wanted, axes)) < 0.01 * start
    torch.testing.assert_close(
        found.median(dim=0).values, wanted.median(dim=0).values, atol=0.1, rtol=0
    )
