"""SketchODE: counts, curves, spline, solver."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sketchknitter.errors import UserError
from sketchknitter.systems import sketchode
from sketchknitter.systems.sketchode import SIZES, OdeDecoder, Size, SketchOdeNetwork

TINY = Size(8, 6, (8, 8))
HOUSE = [
    np.array([[10.0, 40], [10, 10], [40, 10], [40, 40], [10, 40]]),
    np.array([[22.0, 40], [22, 30], [28, 30]]),
    np.array([[50.0, 12], [60, 12]]),
]


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameters_are_those_of_the_released_network() -> None:
    network = SketchOdeNetwork(SIZES["published"])
    assert count(network.encoder) == 14_704
    assert count(network.decoder) == 13_283
    assert count(network) == 27_989
    assert count(SketchOdeNetwork(SIZES["cpu"])) == 198_629
    assert count(SketchOdeNetwork(SIZES["published"], 10)) == 27_989 + 11 * 48


def test_normalized_drawings_start_at_the_origin_with_radius_one() -> None:
    strokes, origin, radius = sketchode.normalized([*HOUSE, np.array([[99.0, 99.0]])])
    assert len(strokes) == 3  # the dot is gone, and does not count for the radius
    np.testing.assert_array_equal(strokes[0][0], [0, 0])
    assert max(np.hypot(*s.T).max() for s in strokes) == pytest.approx(1)
    np.testing.assert_allclose(strokes[2] * radius + origin, HOUSE[2])
    with pytest.raises(UserError, match="dots"):
        sketchode.normalized([np.array([[1.0, 2.0]])])


def test_pen_up_travel_is_eighteen_points_between_strokes_and_comes_off_again() -> None:
    sequence = sketchode.curve(HOUSE, spacing=0)
    assert len(sequence) == 5 + 18 + 3 + 18 + 2
    assert sequence[5:23, 2].tolist() == [1] * 18
    run = np.linspace(HOUSE[0][-1], HOUSE[1][0], 20)
    np.testing.assert_allclose(sequence[5:23, :2], run[1:-1])
    back = sketchode.strokes_of(sequence)
    assert len(back) == 3
    for a, b in zip(back, HOUSE, strict=True):
        np.testing.assert_array_equal(a, b)


def test_short_strokes_of_many_survive_resampling_at_size_cpu() -> None:
    """Runs of 20 points take so much of the 100 that short strokes fall between two of them."""
    face = [np.array([[x, y], [x + 4.0, y + 3]]) for x in (0, 40, 80) for y in (0, 30, 60, 90)]
    counts = {}
    for size in ("published", "cpu"):
        system = sketchode.SketchODE(size=size)  # type: ignore[arg-type]
        x, origins, units = sketchode.curves([face], system.travel)
        logits = torch.cat([x[..., :2], x[..., 2:] - 0.5], dim=-1)[0]
        drawn = sketchode.to_sketch(logits, "both", units[0], origins[0])
        counts[size] = len(drawn.strokes)
    assert counts["cpu"] == len(face)
    assert counts["published"] < len(face)


def test_the_released_pen_leaves_a_stub_of_the_travel() -> None:
    back = sketchode.strokes_of(sketchode.curve(HOUSE, spacing=0), pen="first")
    assert [len(s) for s in back] == [6, 4, 2]
    run = np.linspace(HOUSE[0][-1], HOUSE[1][0], 20)
    np.testing.assert_allclose(back[0][-1], run[1])


def test_no_ink_at_all_gives_no_strokes() -> None:
    assert sketchode.strokes_of(np.ones((5, 3))) == []


def test_resampling_is_a_natural_cubic_spline_uniform_in_index() -> None:
    sequence = sketchode.curve(HOUSE, spacing=0)
    out = sketchode.resampled(sequence, 2 * len(sequence) - 1)
    np.testing.assert_allclose(out[::2, :2], sequence[:, :2], atol=1e-12)
    assert set(np.unique(out[:, 2])) == {0.0, 1.0}
    np.testing.assert_array_equal(out[::2, 2], sequence[:, 2])
    assert sketchode.resampled(sequence).shape == (100, 3)


def natural_slopes(values: np.ndarray) -> np.ndarray:
    """Slopes at the knots of the natural cubic spline on unit spacing, from its definition.

    Twice continuously differentiable, second derivative zero at both ends: the tridiagonal system
    2 m_0 + m_1 = 3 (y_1 - y_0), m_(i-1) + 4 m_i + m_(i+1) = 3 (y_(i+1) - y_(i-1)), and so on.
    """
    n = len(values)
    a = np.zeros((n, n))
    right = np.zeros(n)
    for i in range(n):
        a[i, i] = 2 if i in (0, n - 1) else 4
        if i:
            a[i, i - 1] = 1
        if i + 1 < n:
            a[i, i + 1] = 1
        right[i] = 3 * (values[min(i + 1, n - 1)] - values[max(i - 1, 0)])
    return np.linalg.solve(a, right)


def test_the_control_is_the_derivative_of_the_natural_spline() -> None:
    values = np.random.default_rng(0).normal(size=12)
    slopes = natural_slopes(values)
    made = sketchode._derivative(12, 3).numpy() @ values
    np.testing.assert_allclose(made[::3], slopes, atol=1e-12)
    # a third of the way along each piece, from its Hermite form
    u, step = 1 / 3, np.diff(values)
    third = (
        6 * u * (1 - u) * step + (1 - u) * (1 - 3 * u) * slopes[:-1] + u * (3 * u - 2) * slopes[1:]
    )
    np.testing.assert_allclose(made[1::3], third, atol=1e-12)


def test_the_encoder_solves_its_controlled_equation() -> None:
    """Against RK4 (3/8 rule) by hand in double precision."""
    torch.manual_seed(0)
    encoder = sketchode.CdeEncoder(TINY).double()
    points = torch.rand(2, 7, 3, dtype=torch.float64)
    h = np.zeros((2, TINY.hidden))
    width = 5 / 6
    time = torch.linspace(0, 5, 7, dtype=torch.float64)[None, :, None].expand(2, -1, -1)
    path = torch.cat([points, time], dim=-1).numpy()
    slope = np.stack([sketchode._derivative(7, 3).numpy() @ p for p in path]) / width

    def change(k: int, h: np.ndarray) -> np.ndarray:
        field = encoder.dynamics(torch.from_numpy(h)).view(2, TINY.hidden, 4).detach().numpy()
        return np.einsum("bhc,bc->bh", field, slope[:, k])

    states = [h]
    for i in range(6):
        k1 = change(3 * i, h)
        k2 = change(3 * i + 1, h + width * k1 / 3)
        k3 = change(3 * i + 2, h + width * (k2 - k1 / 3))
        k4 = change(3 * i + 3, h + width * (k1 - k2 + k3))
        h = h + width * (k1 + 3 * (k2 + k3) + k4) / 8
        states.append(h)
    expected = encoder.code(torch.from_numpy(np.stack(states).max(axis=0)))
    torch.testing.assert_close(encoder(points), expected)


def test_the_released_control_is_a_twentieth() -> None:
    torch.manual_seed(0)
    true = sketchode.CdeEncoder(TINY)
    released = sketchode.CdeEncoder(TINY, "released")
    released.load_state_dict(true.state_dict())
    x = torch.rand(1, 100, 3)
    # dX/dt for each index is 5 / 99 of the derivative: so much weaker is its first motion
    with torch.no_grad():
        true.code.weight.copy_(torch.eye(6, 8))
        released.code.weight.copy_(torch.eye(6, 8))
        true.code.bias.zero_()
        released.code.bias.zero_()
    ratio = released(x).detach().norm() / true(x).detach().norm()
    assert 0.01 < float(ratio) < 0.3


def drawn(decoder: OdeDecoder, count: int, refine: int = 1) -> torch.Tensor:
    torch.manual_seed(1)
    code = torch.randn(3, decoder.size.code, dtype=torch.float64)
    with torch.no_grad():
        return decoder(code, count, refine)


def test_halving_the_step_changes_nothing_and_any_number_of_points_is_one_curve() -> None:
    torch.manual_seed(0)
    decoder = OdeDecoder(SIZES["published"]).double()
    plain = drawn(decoder, 100)
    assert float((drawn(decoder, 100, refine=2) - plain).abs().max()) < 1e-3
    dense = drawn(decoder, 199)  # one point between each two
    assert float((dense[:, ::2] - plain).abs().max()) < 1e-3
    few = drawn(decoder, 34)
    assert float((few - plain[:, ::3]).abs().max()) < 1e-3
    assert (
        float((drawn(decoder, 400)[:, [0, -1]] - drawn(decoder, 50)[:, [0, -1]]).abs().max()) < 1e-3
    )
    assert float(plain.std(dim=1).min()) > 1e-3  # it is a curve, not a point


@pytest.mark.parametrize(("count", "each"), [(12, 1), (5, 3)])
def test_the_solver_s_steps_are_those_of_torchdiffeq(count: int, each: int) -> None:
    torchdiffeq = pytest.importorskip("torchdiffeq")
    torch.manual_seed(0)
    dynamics = OdeDecoder(TINY).double().dynamics
    code, start = torch.randn(3, 6).double(), torch.randn(3, 16).double()
    width = 0.07
    made = sketchode.trajectory(dynamics, start, code, count, width, each)
    t = torch.arange(count, dtype=torch.float64) * width * each
    expected = torchdiffeq.odeint(
        sketchode._Motion(dynamics, code), start, t, method="rk4", options={"step_size": width}
    )
    torch.testing.assert_close(made, expected[..., :8], rtol=1e-10, atol=1e-10)


def test_the_position_is_no_input_of_the_motion() -> None:
    """s'' = G(s', code, t): shifting s(0) shifts the curve of s and nothing else."""
    torch.manual_seed(0)
    motion = sketchode._Motion(OdeDecoder(TINY).dynamics, torch.randn(2, 6))
    state = torch.randn(2, 16)
    moved = state.clone()
    moved[:, :8] += 5.0
    t = torch.tensor(1.0)
    torch.testing.assert_close(motion(t, state), motion(t, moved))
    torch.testing.assert_close(motion(t, state)[:, :8], state[:, 8:])


def test_the_adjoint_gives_the_same_gradient() -> None:
    torch.manual_seed(0)
    straight, adjoint = OdeDecoder(TINY).double(), OdeDecoder(TINY, adjoint=True).double()
    adjoint.load_state_dict(straight.state_dict())
    grads = []
    for decoder in (straight, adjoint):
        code = torch.linspace(-1, 1, 6, dtype=torch.float64)[None].requires_grad_()
        decoder(code, 100).square().mean().backward()
        assert code.grad is not None
        grads.append([code.grad, *(p.grad for p in decoder.parameters())])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-6)


def test_the_loss_is_smooth_l1_and_cross_entropy() -> None:
    out, points = torch.randn(2, 2, 5, 3) * 2
    points[..., 2] = (points[..., 2] > 0).float()
    total = 0.0
    for b in range(2):
        for n in range(5):
            for k in range(2):
                d = abs(float(out[b, n, k] - points[b, n, k]))
                total += 0.5 * d * d if d < 1 else d - 0.5
            p = 1 / (1 + math.exp(-float(out[b, n, 2])))
            total -= math.log(p if points[b, n, 2] else 1 - p)
    assert float(sketchode.losses(out, points).sum()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("encoder", ["cde", "lstm"])
def test_encoder_and_decoder_learn(encoder: str) -> None:
    torch.manual_seed(0)
    network = SketchOdeNetwork(TINY, 2, encoder=encoder)  # type: ignore[arg-type]
    strokes, _, _ = sketchode.normalized(HOUSE)
    x = torch.from_numpy(sketchode.resampled(sketchode.curve(strokes), 20)).float()[None]
    out = network.decode(network.encode(x), torch.tensor([1]), 20)
    sketchode.losses(out, x).mean().backward()
    for name, p in network.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, name
            assert float(p.grad.abs().sum()) > 0, name
