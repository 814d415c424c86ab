"""Flow matching: the line, the loss, and solvers that are exact where they must be."""

from __future__ import annotations

import pytest
import torch

from sketchknitter.errors import UserError
from sketchknitter.nn.unet1d import UNet1d
from sketchknitter.systems import flow


def test_the_line_goes_from_drawing_to_noise_at_the_velocity() -> None:
    x0, eps = torch.randn(2, 3, 7, 5)
    u = torch.tensor([0.0, 1.0, 0.25])
    x = flow.between(x0, eps, u)
    torch.testing.assert_close(x[0], x0[0])
    torch.testing.assert_close(x[1], eps[1])
    later = flow.between(x0, eps, u + 1e-3)
    torch.testing.assert_close((later - x) / 1e-3, eps - x0, atol=2e-3, rtol=1e-2)


def test_the_loss_counts_valid_points_alone() -> None:
    x0, eps, velocity = torch.randn(3, 2, 4, 5)
    mask = torch.tensor([[True, False, False, False], [True] * 4])
    made = flow.losses(velocity, x0, eps, mask)
    by_hand = sum(float((velocity - eps + x0)[0, 0, k] ** 2) for k in range(5)) / 5
    assert float(made[0].sum()) == pytest.approx(by_hand, rel=1e-5)
    assert float(flow.losses(eps - x0, x0, eps, mask).abs().max()) == 0


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_straight_flow_takes_one_step(solver: flow.SolverName) -> None:
    x0, eps = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    drawn = flow.solve(lambda x, u: eps - x0, eps, 1, solver)
    torch.testing.assert_close(drawn, x0)


def test_heun_is_of_second_order_and_euler_of_first() -> None:
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    exact = torch.exp(torch.tensor(-1.0, dtype=torch.float64))  # dx/du = x from u = 1 to 0

    def error(steps: int, solver: flow.SolverName) -> float:
        return abs(float(flow.solve(lambda x, u: x, x, steps, solver) - exact))

    assert error(20, "euler") / error(40, "euler") == pytest.approx(2, rel=0.1)
    assert error(20, "heun") / error(40, "heun") == pytest.approx(4, rel=0.1)


def test_asked_how_often() -> None:
    asked: list[float] = []

    def velocity(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        asked.append(float(u[0]))
        return torch.zeros_like(x)

    flow.solve(velocity, torch.zeros(1, 2, 2), 4, "euler", start=0.5)
    assert asked == pytest.approx([0.5, 0.375, 0.25, 0.125])
    asked.clear()
    flow.solve(velocity, torch.zeros(1, 2, 2), 3, "heun")
    assert len(asked) == 6
    with pytest.raises(UserError, match="euler, heun"):
        flow.solve(velocity, torch.zeros(1, 2, 2), 3, "rk4")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least 1"):
        flow.solve(velocity, torch.zeros(1, 2, 2), 0)


def test_guidance_one_is_the_conditional_velocity() -> None:
    a, b = torch.randn(2, 1, 3, 2)
    torch.testing.assert_close(flow.guided(a, b, 1.0), a)
    torch.testing.assert_close(flow.guided(a, b, 3.0), b + 3 * (a - b))


def test_the_network_ignores_padding() -> None:
    torch.manual_seed(0)
    backbone = UNet1d(7, 5, 3, widths=(16, 16), blocks=1, attention=(1,))
    torch.nn.init.normal_(backbone.last.linear.weight, std=0.1)
    network = flow.FlowNetwork(backbone, lambda x: x[..., :2].cumsum(dim=1))
    x, mask = torch.randn(2, 12, 5), torch.arange(12) < torch.tensor([[6], [12]])
    u, label = torch.tensor([0.2, 0.9]), torch.tensor([0, 3])
    out = network(x, u, label, mask)
    changed = torch.where(mask[..., None], x, 9.0)
    torch.testing.assert_close(network(changed, u, label, mask)[mask], out[mask])
