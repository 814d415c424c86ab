"""Samplers against independent implementations, against theory, and row by row."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import combinations
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import scheduling_ddpm
from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.guidance.clamped import Clamped
from sketchknitter.diffusion.guidance.classifier_free import Guided
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import (
    METHODS,
    Ddim,
    Ddpm,
    DpmSolver2M,
    Method,
    State,
    Task,
    draw,
    frames,
    method,
)
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.diffusion.timesteps import Grid, StepRecord, grid
from sketchknitter.errors import UserError
from sketchknitter.settings import Settings

LINEAR = Schedule("linear", 1000)
UNIFORM = list(range(980, -1, -20))
UNEVEN = [999, 950, 700, 640, 420, 300, 290, 150, 60, 31, 8, 0]


class Toy:
    """A smooth nonlinear denoiser; labels shift what it believes."""

    def __init__(self, schedule: Schedule = LINEAR) -> None:
        self.schedule = schedule
        self.calls: list[tuple[Tensor, Tensor]] = []

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (expand(c, x) for c in self.schedule(t))
        return sigma * x + 0.3 * alpha * torch.sin(2 * x)

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        self.calls.append((t.clone(), label.clone()))
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        eps = self.eps(x_t, t) + 0.05 * expand(label, x_t)
        x0 = (x_t - sigma * eps) / alpha
        return Denoised(x0, eps, torch.log_softmax(x0[..., :1] * torch.ones(3), dim=-1))


def task_of(count: int, n: int = 6, seed: int = 0, label: int = 0) -> Task:
    return Task(
        torch.full((count,), label),
        torch.ones(count, n, dtype=torch.bool),
        SketchNoise.keyed(seed, range(count)),
    )


def start(count: int = 4, n: int = 6, channels: int = 2) -> Tensor:
    return torch.randn(count, n, channels, generator=torch.Generator().manual_seed(7)).double()


def trajectory(m: Method, levels: list[int], x: Tensor, model: Any = None) -> list[Tensor]:
    """x_t at every level, and the drawing at the end."""
    steps = list(frames(model or Toy(), m, Grid(levels, 1000), task_of(len(x)), x))
    return [frame.x_t for frame in steps] + [steps[-1].denoised.x0]


def oracle(scheduler: Any, x: Tensor, step: Callable[..., Any]) -> list[Tensor]:
    """The same trajectory by a scheduler of diffusers."""
    out, toy = [], Toy()
    for t in scheduler.timesteps.tolist():
        out.append(x)
        x = step(toy.eps(x, torch.full((len(x),), t)), t, x).prev_sample
    return [*out, x]


def same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.double(), rtol=1e-4, atol=1e-4)


# -- against diffusers -----------------------------------------------------------------------------
COMMON: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers(eta: float) -> None:
    x, ours = start(), Ddim(eta)
    scheduler = diffusers.DDIMScheduler(**COMMON, clip_sample=False, timestep_spacing="leading")
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == UNIFORM
    fresh = task_of(len(x))

    def step(eps: Tensor, t: int, x: Tensor) -> Any:
        noise = fresh.normal(2).double()
        return scheduler.step(eps, t, x, eta=eta, variance_noise=noise)

    same(trajectory(ours, UNIFORM, x), oracle(scheduler, x, step))


@pytest.mark.parametrize("levels", [UNIFORM, UNEVEN], ids=["uniform", "uneven"])
def test_ddim_equals_the_first_order_solver_on_any_grid(levels: list[int]) -> None:
    # diffusers' own DDIM takes no custom timesteps
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **COMMON, solver_order=1, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(timesteps=levels)
    x = start()
    same(trajectory(Ddim(0.0), levels, x), oracle(scheduler, x, scheduler.step))


@pytest.mark.parametrize("levels", [UNIFORM, UNEVEN], ids=["uniform", "uneven"])
def test_dpm_solver_2m_equals_diffusers(levels: list[int]) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **COMMON, solver_order=2, solver_type="midpoint", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(timesteps=levels)
    x = start()
    same(trajectory(DpmSolver2M(), levels, x), oracle(scheduler, x, scheduler.step))


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("levels", [UNIFORM, UNEVEN], ids=["uniform", "uneven"])
def test_ddpm_equals_diffusers(
    levels: list[int], variance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = diffusers.DDPMScheduler(
        **COMMON, clip_sample=False, variance_type=f"fixed_{variance}"
    )
    scheduler.set_timesteps(timesteps=levels)
    x = start()
    fresh = task_of(len(x))
    monkeypatch.setattr(
        scheduling_ddpm, "randn_tensor", lambda *args, **options: fresh.normal(2).double()
    )
    same(trajectory(Ddpm(variance), levels, x), oracle(scheduler, x, scheduler.step))


@pytest.mark.parametrize("levels", [UNIFORM, UNEVEN], ids=["uniform", "uneven"])
def test_ddim_with_eta_1_is_ddpm(levels: list[int]) -> None:
    for a, b in zip(
        trajectory(Ddim(1.0), levels, start()),
        trajectory(Ddpm("small"), levels, start()),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# -- order of convergence --------------------------------------------------------------------------
class Gaussian:
    """The exact denoiser of data ~ N(mean, deviation^2)."""

    mean, deviation = 0.7, 0.4

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of x_t."""
        alpha, sigma = self.schedule(t)
        return alpha * self.mean, (alpha**2 * self.deviation**2 + sigma**2).sqrt()

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        middle, spread = (expand(c, x_t) for c in self.at(t))
        gain = alpha * self.deviation**2 / spread**2
        x0 = self.mean + gain * (x_t - middle)
        return Denoised(x0, (x_t - alpha * x0) / sigma, x_t.new_zeros(*x_t.shape[:2], 3))


def warp(name: str, u: np.ndarray) -> np.ndarray:
    """Grids from 1 to 0: even, dense at low noise, or wavy."""
    return {"even": u, "dense": u**2, "wavy": u + 0.12 * np.sin(2 * np.pi * u)}[name]


@pytest.mark.parametrize("grid_name", ["even", "dense", "wavy"])
@pytest.mark.parametrize(("m", "order"), [(Ddim(0.0), 1), (DpmSolver2M(), 2)], ids=["ddim", "2m"])
def test_order_of_convergence(m: Method, order: int, grid_name: str) -> None:
    # so many levels that picking among them is no error of its own
    schedule = Schedule("linear", 100_000)
    model = Gaussian(schedule)
    high, low = 80_000, 6_000
    x = start()
    (mean_high, std_high), (mean_low, std_low) = (model.at(torch.tensor(t)) for t in (high, low))
    exact = mean_low + std_low / std_high * (x - mean_high)  # the flow keeps quantiles
    counts, errors = [128, 256, 512], []
    for count in counts:
        levels = low + (high - low) * warp(grid_name, np.linspace(0, 1, count + 1))
        policy = Grid(levels.round().astype(int), schedule.steps)
        *_, last = frames(model, m, policy, task_of(len(x)), x)
        assert last.t.tolist() == [low] * len(x)
        errors.append((last.x_t - exact).abs().max().item())
    slopes = -np.diff(np.log2(errors))
    assert slopes[0] == pytest.approx(order, abs=0.15)
    assert slopes[1] == pytest.approx(order, abs=0.07)


@pytest.mark.parametrize(
    "m", [Ddpm(), Ddpm("large"), Ddim(0.5), Ddim(0.0)], ids=["small", "large", "eta", "ddim"]
)
def test_more_steps_bring_the_distribution(m: Method) -> None:
    schedule = Schedule("cosine", 1000)
    model, bias = Gaussian(schedule), []
    x = torch.randn(20, 2000, 2, generator=torch.Generator().manual_seed(3)).double()
    for steps in (50, 800):
        out = draw(model, m, grid("uniform", steps, schedule), task_of(20, 2000), x).x0
        assert out.mean().item() == pytest.approx(Gaussian.mean, abs=0.01)
        bias.append(abs(out.std().item() - Gaussian.deviation))
    assert bias[1] < min(0.005, 0.6 * bias[0])


# -- guidance and clamping -------------------------------------------------------------------------
NULL = 9


def test_guidance_1_is_the_model_itself() -> None:
    toy, x, task = Toy(), start(), task_of(4, label=3)
    t = torch.full((4,), 500)
    plain = Toy()(x, t, task.label, task.mask)
    out = Guided(toy, 1.0, NULL)(x, t, task.label, task.mask)
    assert torch.equal(out.x0, plain.x0)
    assert len(toy.calls) == 1
    assert len(toy.calls[0][0]) == 4  # not doubled


@pytest.mark.parametrize("w", [0.0, 0.5, 2.0, 3.5])
def test_guidance_formula(w: float) -> None:
    toy, x = Toy(), start()
    label, mask, t = torch.tensor([1, 2, 3, NULL]), torch.ones(4, 6) > 0, torch.full((4,), 500)
    with_label = toy(x, t, label, mask)
    without = toy(x, t, torch.full((4,), NULL), mask)
    out = Guided(toy, w, NULL)(x, t, label, mask)
    torch.testing.assert_close(out.eps, without.eps + w * (with_label.eps - without.eps))
    torch.testing.assert_close(out.x0, without.x0 + w * (with_label.x0 - without.x0))
    assert torch.equal(out.pen, with_label.pen)
    assert torch.equal(out.eps[3], with_label.eps[3])  # nothing to guide toward


def test_guidance_acts_in_its_interval_alone() -> None:
    toy, x = Toy(), start(5)
    label, mask = torch.full((5,), 2), torch.ones(5, 6) > 0
    t = torch.tensor([99, 100, 500, 800, 801])
    out = Guided(toy, 4.0, NULL, (0.1, 0.8))(x, t, label, mask)
    moved = (out.eps != Toy()(x, t, label, mask).eps).flatten(1).any(dim=1)
    assert moved.tolist() == [False, True, True, True, False]
    assert len(toy.calls[0][0]) == 5 + 3  # only guided rows are evaluated twice


def test_clamp() -> None:
    x, t = 3 * start(), torch.tensor([100, 400, 600, 900])
    task = task_of(4)
    free = Toy()(x, t, task.label, task.mask)
    out = Clamped(Toy(), 1.0)(x, t, task.label, task.mask)
    assert free.x0.abs().max() > 1
    assert torch.equal(out.x0, free.x0.clamp(-1, 1))
    alpha, sigma = (expand(c, x) for c in LINEAR(t))
    torch.testing.assert_close(alpha * out.x0 + sigma * out.eps, x)
    wide = Clamped(Toy(), 1e6)(x, t, task.label, task.mask)
    torch.testing.assert_close(wide.eps, free.eps)


# -- row by row ------------------------------------------------------------------------------------
class Ragged:
    """A policy in which every sketch has levels of its own."""

    def __init__(self, plans: list[list[int]]) -> None:
        self.steps = max(map(len, plans))
        self.first = torch.tensor([p[0] for p in plans])
        self.plans = plans
        self.rows = list(range(len(plans)))

    def start(self, batch: int) -> Tensor:
        self.rows = list(range(batch))
        return self.first

    def next(self, t: Tensor, record: StepRecord) -> Tensor:
        out = []
        for row, level in zip(self.rows, t.tolist(), strict=True):
            plan = self.plans[row]
            place = plan.index(level) + 1
            out.append(plan[place] if place < len(plan) else -1)
        self.rows = [r for r, s in zip(self.rows, out, strict=True) if s >= 0]
        return torch.tensor(out)


PLANS = [[999, 500, 0], [900, 800, 600, 400, 200, 100, 10], [700, 2], [999, 640, 320, 3, 1]]


@pytest.mark.parametrize(
    "m", [Ddim(0.0), Ddim(0.7), Ddpm(), DpmSolver2M()], ids=["ddim", "eta", "ddpm", "2m"]
)
def test_each_row_is_drawn_as_if_alone(m: Method) -> None:
    x = start()
    together = draw(Toy(), m, Ragged(PLANS), task_of(4), x)
    assert [list(v) for v in together.visited] == PLANS
    for i, plan in enumerate(PLANS):
        one = Task(torch.zeros(1).long(), torch.ones(1, 6) > 0, SketchNoise.keyed(0, [i]))
        alone = draw(Toy(), m, Grid(plan, 1000), one, x[i : i + 1])
        torch.testing.assert_close(together.x0[i], alone.x0[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(together.pen[i], alone.pen[0], rtol=1e-6, atol=1e-6)


def test_finished_rows_leave_the_batch() -> None:
    seen = []
    draw(Toy(), Ddim(), Ragged(PLANS), task_of(4), start(), watch=lambda f: seen.append(f.rows))
    assert [r.tolist() for r in seen] == [
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [0, 1, 3],
        [1, 3],
        [1, 3],
        [1],
        [1],
    ]


def test_starts_where_it_is_told_to() -> None:
    policy = Grid([900, 600, 300, 0], 1000)
    out = draw(Toy(), Ddim(), policy, task_of(2), start(2), start=torch.tensor([300, 600]))
    assert out.visited == ((300, 0), (600, 300, 0))


def test_noise_belongs_to_the_sketch_not_to_the_batch() -> None:
    wide = SketchNoise.keyed(3, [4, 5, 6]).normal([2, 9, 5], 9, 2)
    assert torch.equal(wide[1:2], SketchNoise.keyed(3, [5]).normal([9], 9, 2))
    assert torch.equal(wide[:1, :2], SketchNoise.keyed(3, [4]).normal([2], 2, 2))
    assert not wide[0, 2:].any()
    assert not torch.equal(wide[0, :2], wide[1, :2])
    assert wide[1].std().item() == pytest.approx(1, abs=0.5)


def test_state_keeps_chosen_rows() -> None:
    keep = torch.tensor([True, False, True])
    x, lam = torch.randn(3, 2, 2), torch.randn(3)
    assert State(x).rows(keep).x0 is None
    kept = State(x, x0=x + 1, half_log_snr=lam).rows(keep)
    assert torch.equal(kept.x, x[[0, 2]])
    assert kept.half_log_snr is not None
    assert torch.equal(kept.half_log_snr, lam[[0, 2]])


def test_two_names_of_one_method_are_said_to_be_so() -> None:
    x, levels = start(), [900, 500, 100, 0]
    same(*(trajectory(method(name), levels, x) for name in ("ancestral", "ddpm")))
    help_ = " ".join(inspect.getsource(Settings).split())
    assert "ddpm is another name for it" in help_
    others = [name for name in METHODS if name != "ddpm"]
    for a, b in combinations(others, 2):
        pair = [trajectory(method(name), levels, x)[-1] for name in (a, b)]
        assert not torch.allclose(*pair), (a, b)


def test_unknown_names_and_values() -> None:
    with pytest.raises(UserError, match="no sampler 'euler'; one of: ancestral, dpm"):
        method("euler")
    with pytest.raises(UserError, match=r"^eta must lie in 0 … 1, not 2"):
        method("ddim", 2)
    with pytest.raises(UserError, match="small or large"):
        Ddpm("medium")


# -- estimates agree with themselves ---------------------------------------------------------------
class Bits:
    """Pens are bits of x0, and depend on the label."""

    schedule = Schedule("cosine", 50)

    def __call__(self, x_t, t, label, mask):
        x0 = x_t * 0 + 0.3 * (1 - label.to(x_t))[:, None, None] * torch.linspace(-1, 1, 5)
        alpha, sigma = (c.to(x_t)[:, None, None] for c in self.schedule(t))
        return Denoised(x0, (x_t - alpha * x0) / sigma)


def test_guidance_guides_bit_pens() -> None:
    x, t = torch.randn(2, 4, 5), torch.tensor([20, 30])
    label, mask = torch.zeros(2, dtype=torch.int64), torch.ones(2, 4, dtype=torch.bool)
    plain, guided = Bits()(x, t, label, mask), Guided(Bits(), 3.0, null=1)(x, t, label, mask)
    torch.testing.assert_close(guided.pen, (12 * plain.x0[..., -3:]).log_softmax(dim=-1))
    assert not torch.allclose(guided.pen, plain.pen)


def test_another_estimate_keeps_the_state() -> None:
    x, t = torch.randn(2, 4, 5), torch.tensor([20, 30])
    out = Bits()(x, t, torch.zeros(2), torch.ones(2, 4, dtype=torch.bool))
    alpha, sigma = (c.to(x)[:, None, None] for c in Bits.schedule(t))
    other = out.with_x0(out.x0 + 1, x, alpha, sigma)
    torch.testing.assert_close(alpha * other.x0 + sigma * other.eps, x)
    assert not torch.equal(other.eps, out.eps)


def test_eta_is_ddims_alone() -> None:
    assert isinstance(method("ddim", 0.5), Ddim)
    with pytest.raises(UserError, match="no such number"):
        method("ancestral", 0.5)


def test_a_method_may_ask_the_model_again() -> None:
    """Heun's method (Karras et al. 2022) needs nothing but the step that every method has."""

    class Heun(Ddim):
        def step(self, model, state, t, s):
            euler = super().step(model, state, t, s)
            if bool((s < 0).any()):
                return euler
            first, second = state.asked(model, t), model(euler.x, s)
            mean = Denoised((first.x0 + second.x0) / 2, (first.eps + second.eps) / 2)
            return super().step(model, State(state.x, mean), t, s)

    asked = []

    class Counted(Bits):
        def __call__(self, x_t, t, label, mask):
            asked.append(int(t[0]))
            return super().__call__(x_t, t, label, mask)

    task = Task(
        torch.zeros(2, dtype=torch.int64),
        torch.ones(2, 4, dtype=torch.bool),
        SketchNoise.keyed(0, [0, 1]),
    )
    grid = Grid([40, 20, 0], 50)
    drawn = draw(Counted(), Heun(), grid, task, task.normal(5))
    assert asked == [40, 20, 20, 0, 0]
    torch.testing.assert_close(drawn.x0, 0.3 * torch.linspace(-1, 1, 5).expand(2, 4, 5))
