"""What the autoregressive rivals share: tokens, density, decoder, temperature, augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from sketchknitter.data.stretch import Stretch
from sketchknitter.errors import UserError
from sketchknitter.systems.autoregressive.decoder import Decoder, Lstm
from sketchknitter.systems.autoregressive.density import Density, pen_loss, stroke_loss
from sketchknitter.systems.autoregressive.model import (
    Divergence,
    Rate,
    Sizes,
    StrokeModel,
    divergence,
)
from sketchknitter.systems.autoregressive.sampling import CONVENTIONS, Chance, draw, pick
from sketchknitter.systems.autoregressive.tokens import real_rows, to_rows, to_sketch, to_tokens

ROWS = np.array([[3.0, 4, 0], [5, 0, 1], [-2, 2, 0], [6, -8, 1]])


# -- tokens ------------------------------------------------------------------------------------
def test_tokens_end_after_the_last_point_or_on_it() -> None:
    row = to_tokens([ROWS], 6, 2.0, "row")[0].tolist()
    point = to_tokens([ROWS], 6, 2.0, "point")[0].tolist()
    assert row[0] == point[0] == [0, 0, 1, 0, 0]
    assert row[1:4] == point[1:4] == [[1.5, 2, 1, 0, 0], [2.5, 0, 0, 1, 0], [-1, 1, 1, 0, 0]]
    assert row[4] == [3, -4, 0, 1, 0]
    assert point[4] == [3, -4, 0, 0, 1]
    assert row[5:] == point[5:] == [[0, 0, 0, 0, 1]] * 2
    tokens = {e: to_tokens([ROWS], 6, 2.0, e)[:, 1:] for e in ("row", "point")}
    for end, predicted in tokens.items():
        assert real_rows(predicted, end).tolist() == [[True] * 4 + [False] * 2]


@pytest.mark.parametrize("end", ["row", "point"])
def test_tokens_and_back(end: str, random_rows: Callable[..., list[np.ndarray]]) -> None:
    drawings = random_rows(8, 1, 20)
    for tokens, rows in zip(to_tokens(drawings, 20, 7.5, end).numpy(), drawings, strict=True):
        np.testing.assert_allclose(to_rows(tokens[1:], 7.5, end), rows, atol=1e-5)


def test_a_sample_that_ends_at_once_is_a_dot_or_one_point() -> None:
    tokens = np.array([[1.0, 2, 0, 0, 1], [3, 4, 1, 0, 0]])
    assert len(to_rows(tokens, 1.0, "row")) == 0
    assert to_rows(tokens, 1.0, "point").tolist() == [[1, 2, 1]]
    assert to_sketch(to_rows(tokens, 1.0, "row")).num_points == 1


def test_huge_offsets_are_clamped_as_released() -> None:
    assert to_tokens([np.array([[5000.0, -3, 1]])], 2, 10.0)[0, 1, :2].tolist() == [
        100,
        pytest.approx(-0.3),
    ]


# -- the loss ----------------------------------------------------------------------------------
def brute_force(head: np.ndarray, xy: np.ndarray, pen: np.ndarray, eps: float, pen_eps: float):
    """Graves' equations 18-26 as they stand, in double precision, one row."""
    m = (len(head) - 3) // 6
    pen_p = np.exp(head[:3]) / np.exp(head[:3]).sum()
    weight, mu1, mu2, s1, s2, rho = head[3:].reshape(6, m)
    weight = np.exp(weight) / np.exp(weight).sum()
    s1, s2, rho = np.exp(s1), np.exp(s2), np.tanh(rho)
    a, b = (xy[0] - mu1) / s1, (xy[1] - mu2) / s2
    z = a**2 + b**2 - 2 * rho * a * b
    n = np.exp(-z / (2 * (1 - rho**2))) / (2 * np.pi * s1 * s2 * np.sqrt(1 - rho**2))
    return -np.log((weight * n).sum() + eps), -(pen * np.log(pen_p + pen_eps)).sum()


@pytest.mark.parametrize(("eps", "pen_eps"), [(1e-6, 0.0), (1e-3, 1e-3)])
def test_losses_equal_double_precision_brute_force(eps: float, pen_eps: float) -> None:
    rng = np.random.default_rng(0)
    heads = rng.normal(0, 1.2, (200, 3 + 6 * 5))
    xy = rng.normal(0, 2, (200, 2))
    xy[:20] *= 30  # far away, where epsilon is all there is
    pens = np.eye(3)[rng.integers(0, 3, 200)]
    expected = np.array(
        [brute_force(h, x, p, eps, pen_eps) for h, x, p in zip(heads, xy, pens, strict=True)]
    )
    density = Density.of(torch.from_numpy(heads).float())
    stroke = stroke_loss(density, torch.from_numpy(xy).float(), eps)
    pen = pen_loss(density, torch.from_numpy(pens).float(), pen_eps)
    np.testing.assert_allclose(stroke.numpy(), expected[:, 0], rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(pen.numpy(), expected[:, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("log_sigma", [-20.0, -8.0, 0.0, 20.0, 300.0, -300.0])
@pytest.mark.parametrize("rho", [0.0, 40.0, -40.0])
def test_no_nan_at_extreme_sigmas(log_sigma: float, rho: float) -> None:
    head = torch.zeros(4, 3 + 6 * 3)
    head[:, 3 + 9 : 3 + 15] = log_sigma
    head[:, 3 + 15 :] = rho
    head.requires_grad_(True)
    density = Density.of(head)
    xy = torch.tensor([[0.0, 0.0], [1.0, -1.0], [100.0, 100.0], [-1000.0, 1000.0]])
    loss = stroke_loss(density, xy, 1e-6) + pen_loss(density, torch.eye(3)[[0, 1, 2, 0]])
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(head.grad).all()
    for temperature in (0.0, 1e-30, 1e-3, 0.4, 1.0, 50.0, 1e30):
        for convention in CONVENTIONS:
            row = pick(density, temperature, convention, torch.rand(4, 2), torch.randn(4, 2))
            assert torch.isfinite(row).all()
            assert (row[:, 2:].sum(dim=1) == 1).all()


def test_the_model_s_loss_adds_up_as_released() -> None:
    """Means over batch and padded length; offsets of real rows, pens of all; KL by dimension."""
    torch.manual_seed(3)
    sizes = Sizes(hidden=8, latent=4, mixtures=3, dropout=0.0)

    class Given(nn.Module):
        def forward(self, mean, log_variance):
            return mean, log_variance

    model = StrokeModel(Given(), sizes, 0)
    rows = [ROWS, ROWS[:2]]
    tokens = to_tokens(rows, 6, 4.0)
    mean, log_variance, noise = torch.randn(3, 2, 4)
    parts = model.parts(
        tokens,
        (mean, log_variance),
        torch.zeros(2, dtype=torch.long),
        noise,
        end="row",
        floor=1e-6,
    )
    code = mean + torch.exp(log_variance / 2) * noise
    heads, _ = model.decoder(tokens[:, :-1], code)
    stroke = pen = 0.0
    for i in range(2):
        for j in range(6):
            target = tokens[i, j + 1].double().numpy()
            head = heads[i, j].detach().double().numpy()
            s, p = brute_force(head, target[:2], target[2:], 1e-6, 0.0)
            stroke += 0 if target[4] else s / 12
            pen += p / 12
    assert parts.stroke.mean().item() == pytest.approx(stroke, rel=1e-4)
    assert parts.pen.mean().item() == pytest.approx(pen, rel=1e-4)
    m, v = mean.double().numpy(), log_variance.double().numpy()
    kl = -0.5 * (1 + v - m**2 - np.exp(v)).sum() / 8
    assert float(parts.divergence.mean()) == pytest.approx(kl, rel=1e-5)
    # padding that is cut changes nothing but the pen loss of what was cut
    cut = model.parts(
        tokens[:, :6],
        (mean, log_variance),
        torch.zeros(2, dtype=torch.long),
        noise,
        end="row",
        floor=1e-6,
        length=6,
    )
    torch.testing.assert_close(cut.stroke, parts.stroke)
    assert (cut.pen < parts.pen).all()


def test_divergence_has_a_floor_on_the_batch_mean() -> None:
    term = Divergence()
    torch.testing.assert_close(divergence(torch.zeros(2, 5), torch.zeros(2, 5)), torch.zeros(2))
    assert float(term.floored(torch.tensor([0.1, 0.2])).mean()) == pytest.approx(0.2)
    assert float(term.floored(torch.tensor([0.1, 0.5])).mean()) == pytest.approx(0.3)


def test_courses_of_weight_and_learning_rate() -> None:
    assert Divergence().at(0) == pytest.approx(0.01)
    assert Divergence().at(13_459) == pytest.approx(0.25, abs=1e-5)
    assert Divergence().at(10_000_000) == pytest.approx(0.5)
    assert Rate().at(0) == pytest.approx(1e-3)
    assert Rate().at(1) == pytest.approx((1e-3 - 1e-5) * 0.9999 + 1e-5)
    assert Rate().at(10_000_000) == pytest.approx(1e-5)
    healer = Rate(decay=0.99999, course="down")
    assert healer.at(100_000) == pytest.approx(1e-3 * math.exp(-1), rel=1e-4)
    assert healer.at(10_000_000) == 1e-5


# -- the decoder -------------------------------------------------------------------------------
@pytest.mark.parametrize("start", ["magenta", "torch"])
def test_the_lstm_is_torch_s(start: str) -> None:
    lstm = Lstm(5 + 3, 7, start)
    x, constant = torch.randn(4, 6, 5), torch.randn(4, 3)
    state = (torch.randn(4, 7), torch.randn(4, 7))
    out, (h, c) = lstm(x, state, constant)
    whole = torch.cat([x, constant[:, None].expand(-1, 6, -1)], dim=-1)
    expected, (h2, c2) = lstm.weights(whole, (state[0][None], state[1][None]))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close((h, c), (h2[0], c2[0]))


def test_magenta_s_start() -> None:
    w = Lstm(5, 16, "magenta").weights
    for gate in w.weight_hh_l0.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(16), atol=1e-5, rtol=0)
    i, f, g, o = w.bias_ih_l0.chunk(4)
    assert (f == 1).all()
    assert not torch.cat([i, g, o]).any()
    assert not w.bias_hh_l0.any()
    assert not w.bias_hh_l0.requires_grad
    assert w.weight_ih_l0.abs().max() <= math.sqrt(6 / (5 + 64))


def test_recurrent_dropout_drops_candidates_in_training_alone() -> None:
    lstm = Lstm(5, 400, "magenta", dropout=0.25)
    x = torch.randn(2, 1, 5)
    whole, (_, c) = lstm.eval()(x)
    again, (_, dropped) = lstm.train()(x)
    gone = dropped == 0  # one step from zero: c = sigmoid(i) tanh(g), kept or not
    torch.testing.assert_close(dropped[~gone], c[~gone] / 0.75)
    assert 0.15 < float(gone.float().mean()) < 0.35
    torch.testing.assert_close(lstm.eval()(x)[0], whole)
    assert not torch.equal(again, whole)


# -- drawing -----------------------------------------------------------------------------------
def chance(count: int, length: int, seed: int = 0) -> Chance:
    return Chance.of([np.random.default_rng([seed, i]) for i in range(count)], length)


def trained_a_little(condition: int = 3) -> Decoder:
    """A decoder whose densities are neither flat nor certain."""
    torch.manual_seed(5)
    decoder = Decoder(condition, 16, 4)
    with torch.no_grad():
        decoder.head.weight.mul_(8)
    return decoder.eval()


@pytest.mark.parametrize("convention", ["magenta", "healer"])
def test_a_falling_temperature_becomes_greedy(convention: str) -> None:
    decoder, condition = trained_a_little(), torch.randn(5, 3)
    greedy = draw(decoder, condition, 12, 0.0, convention, chance(5, 12))
    cold = draw(decoder, condition, 12, 1e-8, convention, chance(5, 12))
    warm = draw(decoder, condition, 12, 1.0, convention, chance(5, 12))
    spread = 1e-5 if convention == "magenta" else 3e-3  # sigmas shrink with T or with its root
    np.testing.assert_allclose(cold, greedy, atol=spread)
    assert np.abs(warm - greedy).max() > 0.1


def test_the_browser_s_convention_at_zero_and_near_it() -> None:
    density = Density.of(torch.tensor([[0.0, 1.0, -1.0, 0.0, math.log(3.0), 0, 5, 0, 5, *[-1.0] * 4,
                                        0, 0]]).expand(4000, -1))  # fmt: skip
    choices, normals = torch.rand(4000, 2), torch.randn(4000, 2)
    greedy = pick(density, 0.0, "browser", choices, normals)
    assert (greedy[:, :2] == 5).all()
    assert (greedy[:, 3] == 1).all()
    near = pick(density, 1e-5, "browser", choices, normals)
    assert float((near[:, 0] > 2.5).float().mean()) == pytest.approx(0.9, abs=0.02)  # 3^2 / (3^2+1)
    assert float((near[:, 0] - near[:, 0].round()).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("convention", "weight", "sigma"),
    [("magenta", 9 / 10, 0.5), ("browser", 3 ** (4 / 3), 0.5**0.5), ("healer", 9 / 10, 0.5**0.5)],
)
def test_what_a_temperature_of_a_half_does(convention: str, weight: float, sigma: float) -> None:
    if convention == "browser":
        weight = weight / (1 + weight)
    head = torch.tensor([[0.0, 0, 0, 0, math.log(3.0), -100, 100, 0, 0, 0, 0, 0, 0, 0, 0]])
    density = Density.of(head.expand(8000, -1))
    row = pick(density, 0.5, convention, torch.rand(8000, 2), torch.randn(8000, 2))
    assert float((row[:, 0] > 0).float().mean()) == pytest.approx(weight, abs=0.015)
    assert float(row[:, 1].std()) == pytest.approx(sigma, rel=0.03)


def test_correlation_is_drawn() -> None:
    head = torch.zeros(1, 9)
    head[0, 8] = math.atanh(0.8)
    density = Density.of(head.expand(8000, -1))
    row = pick(density, 1.0, "magenta", torch.rand(8000, 2), torch.randn(8000, 2))
    assert float(torch.corrcoef(row[:, :2].T)[0, 1]) == pytest.approx(0.8, abs=0.02)


def test_a_drawing_does_not_depend_on_its_batch_and_follows_what_is_known() -> None:
    decoder, condition = trained_a_little(), torch.randn(4, 3)
    together = draw(decoder, condition, 10, 0.7, "magenta", chance(4, 10))
    one = Chance(chance(4, 10).choices[2:3], chance(4, 10).normals[2:3])
    alone = draw(decoder, condition[2:3], 10, 0.7, "magenta", one)
    np.testing.assert_allclose(to_rows(alone[0], 1.0), to_rows(together[2], 1.0), atol=1e-4)
    known = to_tokens([ROWS, ROWS[:1]], 4, 2.0)[:, 1:]
    known[known[..., 4] > 0.5] = torch.tensor([9.0, 9, 1, 0, 0])  # beyond what counts
    rows = draw(
        decoder, condition[:2], 10, 0.7, "magenta", chance(2, 10), known, torch.tensor([4, 1])
    )
    np.testing.assert_array_equal(rows[0, :4], known[0].numpy())
    np.testing.assert_array_equal(rows[1, 0], known[1, 0].numpy())
    assert not np.array_equal(rows[1, 1], known[1, 1].numpy())


def test_a_negative_temperature_is_refused() -> None:
    with pytest.raises(UserError, match="temperature"):
        draw(trained_a_little(), torch.zeros(1, 3), 4, -0.1, "magenta", chance(1, 4))


# -- augmentation ------------------------------------------------------------------------------
def test_dropped_points_leave_the_drawing_s_path() -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(0, 9, (60, 2)), np.arange(60) % 10 == 9])
    out = Stretch(0.0, 1.0)(rows, rng)
    assert len(out) == 6 * 4  # of each stroke the first three points and the one that lifts
    before = np.cumsum(rows[:, :2], axis=0)
    after = np.cumsum(out[:, :2], axis=0)
    lifts = lambda r: r[:, 2] > 0.5  # noqa: E731
    np.testing.assert_allclose(after[lifts(out)], before[lifts(rows)], atol=1e-9)
    assert lifts(out).sum() == 6


def test_which_points_may_be_dropped() -> None:
    rows = np.column_stack([np.ones((8, 2)), [0, 0, 0, 0, 0, 1, 0, 1]])
    # first: like after a lift; then two stay; the 4th and 5th go into the third; lifts stay
    out = Stretch(0.0, 1.0)(rows, np.random.default_rng(0))
    assert out.tolist() == [[1, 1, 0], [1, 1, 0], [3, 3, 0], [1, 1, 1], [1, 1, 0], [1, 1, 1]]


def test_axes_are_stretched_independently_within_their_limits() -> None:
    rows = np.ones((1, 3))
    factors = np.array([Stretch()(rows, np.random.default_rng(i))[0, :2] for i in range(300)])
    assert 0.85 <= factors.min() < 0.87
    assert 1.13 < factors.max() <= 1.15
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.15
