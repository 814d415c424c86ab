import numpy as np
import pytest
import torch
from torch import Tensor

from sketchknitter.data.codec import Codec
from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.guidance.inversion import slerp
from sketchknitter.diffusion.guidance.known import FREE, Anchored, Known
from sketchknitter.diffusion.guidance.repaint import Resampled, renoised
from sketchknitter.diffusion.guidance.steered import Steered
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import Ddim, Task, draw
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.diffusion.timesteps import uniform
from sketchknitter.representation import Representation

LEAKS = [0.0, 0.5, 0.8, 1.0]


class Gaussian:
    """The exact denoiser of x_0 ~ N(0, covariance) over rows, each channel for itself."""

    schedule = Schedule("cosine", 200)

    def __init__(self, covariance: Tensor) -> None:
        self.covariance = covariance.double()
        self.calls = 0

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        self.calls += 1
        alpha, sigma = (c[:, None, None] for c in self.schedule(t))
        eye = torch.eye(len(self.covariance), dtype=torch.float64)
        gain = (
            alpha * self.covariance @ torch.linalg.inv(alpha**2 * self.covariance + sigma**2 * eye)
        )
        x0 = gain.to(x_t) @ x_t
        pen = torch.zeros(*x_t.shape[:2], 3)
        return Denoised(x0, (x_t - alpha.to(x_t) * x0) / sigma.to(x_t), pen)


class Fixed:
    """Always believes the same."""

    schedule = Schedule("cosine", 200)

    def __init__(self, x0: Tensor) -> None:
        self.x0 = x0

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        pen = torch.zeros(*x_t.shape[:2], 3)
        return Denoised(self.x0, (x_t - alpha * self.x0) / sigma, pen)


def ask(model, x_t: Tensor, level: int = 100) -> Denoised:
    b, n = x_t.shape[:2]
    t = torch.full((b,), level)
    return model(x_t, t, torch.zeros(b, dtype=torch.int64), torch.ones(b, n, dtype=torch.bool))


def known_at(places, points, rows: int, extra: int, spread: float = 0.0, drift: float = 0.0):
    """What is known of one drawing, in a batch of one."""
    xy = torch.zeros(1, rows + extra, 2, dtype=torch.float64)
    far = torch.full((1, rows + extra), torch.inf, dtype=torch.float64)
    xy[0, places] = torch.as_tensor(points, dtype=torch.float64)
    far[0, places] = spread
    return Known(xy, far, torch.full((1, rows), FREE), drift)


# -- the space ------------------------------------------------------------------------------------
@pytest.mark.parametrize("leak", LEAKS)
def test_positions_are_the_codecs(leak):
    name = {0.0: "absolute", 1.0: "offset"}.get(leak, "leaky")
    codec = Codec(name, leak or 0.8, scale=37.0)
    z = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    got = Representation(codec.rho, codec.scale).positions(torch.from_numpy(z)[None])[0]
    assert np.allclose(got.numpy(), codec.points(z), atol=1e-3)


# -- exact points --------------------------------------------------------------------------------
@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("level", [1, 100, 199])
def test_anchored_estimates_pass_through_known_points(leak, level):
    space, rows = Representation(leak, 40.0), 30
    places = np.r_[0:7, 12:15, 29]
    points = np.random.default_rng(1).uniform(-120, 120, (len(places), 2))
    known = known_at(places, points, rows, space.implied)
    torch.manual_seed(0)
    x_t = torch.randn(1, rows, 2)
    out = ask(Anchored(Fixed(torch.randn(1, rows, 2)), space, known, bits=False), x_t, level)
    there = space.positions(out.x0.double())[0, places].numpy()
    if leak == 1:  # offsets know no place: right up to displacement
        there = there - there[0] + points[0]
    assert np.abs(there - points).max() < 1e-3
    alpha, sigma = (c.float() for c in Schedule("cosine", 200)(torch.tensor(level)))
    assert torch.allclose(alpha * out.x0 + sigma * out.eps, x_t, atol=1e-4)


def test_correction_is_the_smallest_that_agrees():
    space, rows = Representation(0.5, 40.0), 12
    places = np.r_[0:3, 8:10]
    points = np.random.default_rng(1).uniform(-99, 99, (5, 2))
    guess = torch.randn(1, rows, 2, generator=torch.Generator().manual_seed(3))
    anchored = Anchored(Fixed(guess), space, known_at(places, points, rows, 0), bits=False)
    change = (ask(anchored, torch.randn(1, rows, 2)).x0 - guess)[0].double().numpy()
    a = torch.tensor(space.matrix(rows)).numpy()[places]
    smallest = np.linalg.lstsq(a, points - a @ guess[0].double().numpy(), rcond=None)[0]
    assert np.abs(change - smallest).max() < 1e-4


def test_estimates_that_agree_are_left_alone():
    space = Representation(0.8, 30.0)
    guess = torch.randn(1, 9, 2)
    points = space.positions(guess.double())[0, :5]
    known = known_at(np.arange(5), points, 9, 0)
    out = ask(Anchored(Fixed(guess), space, known, bits=False), torch.randn(1, 9, 2))
    assert torch.allclose(out.x0, guess, atol=1e-4)


def test_known_pens_are_told_and_others_are_not():
    guess = torch.zeros(1, 4, 5)
    known = known_at([0], np.zeros((1, 2)), 4, 0)
    known.pens[0, 1] = 2
    anchored = Anchored(Fixed(guess), Representation(0.5), known, bits=True)
    out = ask(anchored, torch.zeros(1, 4, 5))
    assert out.x0[0, 1, 2:].tolist() == [-1, -1, 1]
    assert out.x0[0, 2, 2:].tolist() == [0, 0, 0]
    assert out.pen[0, 1].argmax() == 2
    assert out.head[0, 2].tolist() == [0, 0, 0]


def test_drift_lets_the_whole_move_and_nothing_else():
    """A displaced copy costs the estimate little where displacement is free."""
    space, rows = Representation(0.5, 40.0), 20
    guess = torch.randn(1, rows, 2, generator=torch.Generator().manual_seed(0))
    points = space.positions(guess.double())[0] + 30.0
    places = np.arange(rows)
    change = []
    for drift in (0.0, 500.0):
        known = known_at(places, points, rows, 0, drift=drift)
        out = ask(Anchored(Fixed(guess), space, known, bits=False), torch.randn(1, rows, 2))
        change.append(float((out.x0 - guess).norm()))
        there = space.positions(out.x0.double())[0]
        assert torch.allclose(there - there[:1], points - points[:1], atol=1e-2)
    assert change[1] < 0.05 * change[0]


# -- points that may be off ------------------------------------------------------------------------
@pytest.mark.parametrize("level", [20, 100, 180])
def test_soft_anchors_give_the_gaussian_posterior(level):
    """Against the information form, computed another way."""
    space, rows, spread = Representation(0.8, 35.0), 10, 25.0
    rng = np.random.default_rng(2)
    places, points = np.arange(rows), rng.uniform(-99, 99, (rows, 2))
    guess = torch.tensor(rng.normal(size=(1, rows, 2)), dtype=torch.float32)
    known = known_at(places, points, rows, 0, spread)
    out = ask(Anchored(Fixed(guess), space, known, bits=False), torch.zeros(1, rows, 2), level)
    r2 = float(Schedule("cosine", 200)(torch.tensor(level))[1]) ** 2
    a = torch.tensor(space.matrix(rows)).numpy()
    precision = np.eye(rows) / r2 + a.T @ a / spread**2
    mean = np.linalg.solve(precision, guess[0].numpy() / r2 + a.T @ points / spread**2)
    assert np.abs(out.x0[0].numpy() - mean).max() < 1e-4


# -- completion of a distribution that is known --------------------------------------------------
def conditional(times: int, lean: bool = False) -> tuple[float, float]:
    """Mean and variance of row 1 given row 0 = 1.5, drawn by anchored DDIM with resampling."""
    gaussian = Gaussian(torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    b = 600
    known = known_at([0], np.full((1, 2), 1.5), 2, 0)
    many = Known(
        known.points.expand(b, -1, -1), known.spread.expand(b, -1), known.pens.expand(b, -1)
    )
    anchored = Anchored(gaussian, Representation(0.0, 1.0), many, bits=False, lean=lean)
    label, mask = torch.zeros(b, dtype=torch.int64), torch.ones(b, 2, dtype=torch.bool)
    task = Task(label, mask, SketchNoise.keyed(0, range(b)))
    method = Resampled(Ddim(), times, interval=(0.0, 1.0))
    drawn = draw(anchored, method, uniform(25, gaussian.schedule), task, task.normal(2))
    assert torch.allclose(drawn.x0[:, 0], torch.tensor(1.5), atol=1e-4)
    return float(drawn.x0[:, 1].mean()), float(drawn.x0[:, 1].var())


def test_resampling_brings_new_points_into_harmony_with_known_ones():
    plain, often = conditional(0), conditional(4)
    exact = (1.5 * 0.9, 1 - 0.9**2)
    assert abs(often[0] - exact[0]) < 0.3 * abs(plain[0] - exact[0])
    assert abs(often[1] - exact[1]) < 0.3 * abs(plain[1] - exact[1])


def test_leaning_does_the_same_in_one_pass():
    plain, leaning = conditional(0), conditional(0, lean=True)
    assert abs(leaning[0] - 1.35) < 0.35 * abs(plain[0] - 1.35)
    assert abs(leaning[1] - 0.19) < 0.35 * abs(plain[1] - 0.19)


def test_without_repetitions_a_resampled_method_is_the_method():
    gaussian = Gaussian(torch.eye(3))
    label, mask = torch.zeros(2, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool)
    x = torch.randn(2, 3, 2)
    results, calls = [], []
    for method in (Ddim(), Resampled(Ddim(), 0)):
        task = Task(label, mask, SketchNoise.keyed(0, range(2)))
        gaussian.calls = 0
        results.append(draw(gaussian, method, uniform(10, gaussian.schedule), task, x).x0)
        calls.append(gaussian.calls)
    assert torch.equal(*results)
    assert calls[0] == calls[1] == 10


def test_noising_back_restores_the_variance():
    schedule = Schedule("cosine", 200)
    s, t = torch.full((4000,), 60), torch.full((4000,), 120)
    torch.manual_seed(0)
    alpha, sigma = (expand(c, torch.zeros(1)) for c in schedule(s))
    x_s = alpha * 2.0 + sigma * torch.randn(4000, 1, 2)
    x_t = renoised(x_s.float(), s, t, schedule, torch.randn(4000, 1, 2))
    alpha, sigma = (float(c[0]) for c in schedule(t))
    assert abs(float(x_t.mean()) - 2 * alpha) < 0.03
    assert abs(float(x_t.std()) - sigma) < 0.03


# -- steering --------------------------------------------------------------------------------------
@pytest.mark.parametrize("network", [True, False])
def test_steering_lowers_the_loss_and_stops_outside_its_interval(network):
    gaussian = Gaussian(torch.eye(4))
    aim = torch.full((1, 4, 2), 2.0)

    def loss(out: Denoised, t: Tensor) -> Tensor:
        return ((out.x0 - aim) ** 2).mean(dim=(1, 2))

    x_t = torch.randn(1, 4, 2)
    before = loss(ask(gaussian, x_t), torch.zeros(1))
    steered = Steered(gaussian, loss, 0.5, network=network, interval=(0.3, 0.7))
    out = ask(steered, x_t)
    assert float(loss(out, torch.zeros(1))) < float(before)
    alpha, sigma = (c.float() for c in gaussian.schedule(torch.tensor(100)))
    assert torch.allclose(alpha * out.x0 + sigma * out.eps, x_t, atol=1e-5)
    assert torch.equal(ask(steered, x_t, 20).x0, ask(gaussian, x_t, 20).x0)


def test_steering_takes_turns_and_keeps_its_weight():
    gaussian = Gaussian(torch.eye(4))
    x_t = torch.randn(1, 4, 2)
    plain = ask(gaussian, x_t).eps
    steered = Steered(gaussian, lambda out, t: out.x0.sum(dim=(1, 2)), 0.3, every=2)
    moved = [float((ask(steered, x_t).eps - plain).abs().max()) for _ in range(4)]
    assert moved[0] == moved[2] > 0
    assert moved[1] == moved[3] == 0
    each = Steered(gaussian, lambda out, t: out.x0.sum(dim=(1, 2)), 0.3)
    assert abs(moved[0] - 2 * float((ask(each, x_t).eps - plain).abs().max())) < 1e-6


def test_steering_is_clipped():
    """However steep the loss, eps moves by at most the weight, root mean square, times sigma."""
    gaussian = Gaussian(torch.eye(4))
    x_t = torch.randn(1, 4, 2)
    steered = Steered(gaussian, lambda out, t: 1e6 * out.x0.sum(dim=(1, 2)), 1.0)
    moved = (ask(steered, x_t).eps - ask(gaussian, x_t).eps).pow(2).mean().sqrt()
    sigma = float(gaussian.schedule(torch.tensor(100))[1])
    assert abs(float(moved) - 0.5 * sigma) < 1e-5  # at half of T the weight has halved


def test_slerp_stays_on_the_sphere_and_meets_its_ends():
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 50, 2)
    for w in (0.0, 0.3, 1.0):
        middle = slerp(a, b, torch.tensor([w]))
        assert 0.8 < float(middle.norm() / a.norm()) < 1.05
    assert torch.allclose(slerp(a, b, torch.tensor([0.0])), a)
    assert torch.allclose(slerp(a, b, torch.tensor([1.0])), b, atol=1e-6)
    assert torch.allclose(slerp(a, a, torch.tensor([0.5])), a)
