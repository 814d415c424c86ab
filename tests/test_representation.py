"""Points to model coordinates and back, in NumPy and in torch, for every leak."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from sketchknitter.representation import Representation

LEAKS = (0.0, 0.3, 0.8, 1.0)


@pytest.mark.parametrize("rho", LEAKS)
def test_filter_and_positions_are_inverse(rho: float) -> None:
    rep = Representation(rho, 37.0)
    points = np.random.default_rng(0).normal(0, 50, (3, 9, 2))
    z = rep.filter(points)
    assert z.shape == (3, 9 - rep.implied, 2)
    back = rep.positions(z)
    if rho == 1:  # offsets do not say where the drawing is
        points = points - points[:, :1]
    np.testing.assert_allclose(back, points, atol=1e-9)


@pytest.mark.parametrize("rho", LEAKS)
def test_the_filter_is_what_it_says(rho: float) -> None:
    points = np.random.default_rng(1).normal(0, 50, (7, 2))
    z = Representation(rho, 20.0).filter(points)
    inner = (points[1:] - rho * points[:-1]) / 20
    if rho == 1:
        np.testing.assert_allclose(z, inner)
    else:
        np.testing.assert_allclose(z[1:], inner)
        np.testing.assert_allclose(z[0], (1 - rho**2) ** 0.5 * points[0] / 20)


@pytest.mark.parametrize("rho", LEAKS)
def test_torch_does_what_numpy_does(rho: float) -> None:
    rep = Representation(rho, 37.0)
    z = np.random.default_rng(2).normal(size=(2, 8, 5))
    t = torch.from_numpy(z)
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
    close(rep.positions(t).numpy(), rep.positions(z))
    close(rep.unit_positions(t).numpy(), rep.unit_positions(z))
    points = rep.positions(z)
    close(rep.filter(torch.from_numpy(points)).numpy(), rep.filter(points))
    np.testing.assert_allclose(rep.matrix(8) @ z[..., :2], points)
    np.testing.assert_allclose(rep.inverse(8) @ points, z[..., :2], atol=1e-12)


@pytest.mark.parametrize("rho", LEAKS)
def test_white_coordinates_have_positions_of_unit_variance(rho: float) -> None:
    z = np.random.default_rng(3).normal(size=(20_000, 6, 2))
    spread = Representation(rho, 99.0).unit_positions(z).std(axis=(0, 2))
    np.testing.assert_allclose(spread, 1, atol=0.02)


def test_gradients_pass_after_a_look_in_inference_mode() -> None:
    rep = Representation(0.51)
    with torch.inference_mode():
        rep.positions(torch.zeros(1, 4, 2))
    z = torch.zeros(1, 4, 2, requires_grad=True)
    rep.positions(z)[0, 3, 0].backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad[0, 2, 0], torch.tensor(0.51))
