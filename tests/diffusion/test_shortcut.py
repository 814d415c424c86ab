from itertools import pairwise

import numpy as np
import pytest
import torch

from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.diffusion.shortcut import Adaptive, Calibration, distinct, monotone, policy
from sketchknitter.diffusion.shortcut import static as static_grid
from sketchknitter.diffusion.timesteps import Grid, StepRecord
from sketchknitter.errors import UserError

SCHEDULE = Schedule("cosine", 1000)
LEVELS = (*range(0, 1000, 20), 999)
SMOOTH = Calibration(
    LEVELS,
    tuple(0.1 + 0.7 / (1 + np.exp((t - 300) / 80)) for t in LEVELS),
    tuple(0.8 * t / (t + 60) for t in LEVELS),
)


class Gaussian:
    """The exact denoiser of data that are normal with deviation 0.5 in every coordinate."""

    def __init__(self, schedule: Schedule, spread: float = 0.5) -> None:
        self.schedule, self.spread = schedule, spread

    def __call__(self, x_t, t, label, mask):
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        x0 = alpha * self.spread**2 * x_t / (alpha**2 * self.spread**2 + sigma**2)
        return Denoised(x0, (x_t - alpha * x0) / sigma, x_t.new_zeros((*x_t.shape[:2], 3)))

    def deviation(self, t: int) -> float:
        alpha, sigma = self.schedule(torch.tensor([t]))
        return float((alpha**2 * self.spread**2 + sigma**2).sqrt())


def fixed_score(values):
    """A scorer that finds each sketch of label i exactly values[i] recognizable."""
    return lambda x_t, out, t, label, mask: torch.tensor(values)[label]


def walk(policy, noise, batch=2):
    """Levels visited by sketches whose estimated noise is ``noise(t)``, a (B,) tensor."""
    t = policy.start(batch)
    left, mask = policy.steps, torch.ones(batch, 4, dtype=torch.bool)
    visited = [[] for _ in range(batch)]
    rows = torch.arange(batch)
    while len(rows):
        left -= 1
        for row, level in zip(rows.tolist(), t.tolist(), strict=True):
            visited[row].append(level)
        eps = noise(t, rows)[:, None, None].expand(-1, 4, 2)
        out = Denoised(eps, eps, torch.zeros(len(rows), 4, 3))
        record = StepRecord(t, eps, out, mask[rows], rows, left)
        s = policy.next(t, record)
        assert (s < t).all()
        rows, t = rows[s >= 0], s[s >= 0]
    return visited


def on_the_curve(t, rows):
    n = torch.from_numpy(np.interp(np.arange(1000), LEVELS, SMOOTH.noise)).float()
    return n[t]


# -- the warp ------------------------------------------------------------------------------------
def test_monotone_is_the_nearest_falling_curve():
    assert monotone([3, 2, 1]).tolist() == [3, 2, 1]
    assert monotone([1, 3, 2, 0]).tolist() == [2, 2, 2, 0]
    rng = np.random.default_rng(0)
    values = rng.normal(size=9)
    fitted = monotone(values)
    assert (np.diff(fitted) <= 0).all()
    best = ((fitted - values) ** 2).sum()
    for _ in range(50):
        other = -np.sort(-(fitted + 0.1 * rng.normal(size=9)))
        assert ((other - values) ** 2).sum() >= best


@pytest.mark.parametrize("flat", [False, True])
def test_warp_falls_strictly_from_one_to_zero(flat):
    curves = (0.3,) * len(LEVELS) if flat else SMOOTH.recognizability
    noise = (0.8,) * len(LEVELS) if flat else SMOOTH.noise
    w = Calibration(LEVELS, curves, noise).warp(1000)
    assert w.shape == (1000,)
    assert w[0] == 1
    assert (w[979:] == 0).all()
    assert (np.diff(w[:980]) < 0).all()


def test_weight_chooses_between_the_two_curves():
    r, n = (Calibration(LEVELS, SMOOTH.recognizability, SMOOTH.noise, w) for w in (1.0, 0.0))
    # recognizability rises around t = 300, noise only falls near 0
    assert r.warp(1000)[200] > 0.7
    assert n.warp(1000)[200] < 0.3


def test_calibration_survives_json():
    assert Calibration.from_dict(SMOOTH.to_dict() | {"warp": [1.0]}) == SMOOTH


def test_distinct_moves_upward_only_as_far_as_needed():
    assert distinct([0, 0, 0, 7, 7], 1000).tolist() == [0, 1, 2, 7, 8]
    assert distinct([9, 9, 9], 10).tolist() == [7, 8, 9]


# -- static --------------------------------------------------------------------------------------
@pytest.mark.parametrize("steps", [2, 3, 4, 8, 30, 100, 500, 979, 1000])
def test_static_visits_exactly_its_budget(steps):
    levels = static_grid(steps, SCHEDULE, SMOOTH).levels
    assert len(levels) == steps
    assert all(a > b for a, b in pairwise(levels))
    assert levels[-1] == 0
    assert 979 <= levels[0] <= 999


def test_static_steps_gain_equally():
    levels = static_grid(12, SCHEDULE, SMOOTH).levels
    w = SMOOTH.warp(1000)[list(levels)]
    slope = -np.diff(SMOOTH.warp(1000)).min()  # a rounded level is off by half a step at most
    assert np.abs(np.diff(w) - 1 / 11).max() <= slope + 1e-9


@pytest.mark.parametrize("name", ["shortcut", "shortcut-static", "shortcut-adaptive"])
@pytest.mark.parametrize("steps", [1, 0, 1001])
def test_impossible_budgets_are_one_line_errors(name, steps):
    with pytest.raises(UserError, match=r"^steps must lie in 2 … 1000") as error:
        policy(name, steps, SCHEDULE, SMOOTH, fixed_score([0.5]))
    assert "\n" not in str(error.value)


# -- adaptive --------------------------------------------------------------------------------------
@pytest.mark.parametrize("steps", [2, 3, 8, 30])
def test_a_sketch_that_lags_uses_the_whole_budget_and_reaches_level_zero(steps):
    lagging = Adaptive(steps, SCHEDULE, SMOOTH, fixed_score([0.0, 0.0]))
    for visited in walk(lagging, lambda t, rows: torch.full((len(t),), 0.8)):
        assert steps - 2 < len(visited) <= steps  # rounded levels may spare one
        assert visited[-1] == 0


def test_a_sketch_that_leads_finishes_early():
    unequal = Adaptive(20, SCHEDULE, SMOOTH, fixed_score([1.0, 0.0]))
    ahead, behind = walk(unequal, on_the_curve)
    assert len(ahead) < len(behind) <= 20
    assert len(ahead) >= 10  # patience: at least half of what is left is used


def test_a_finished_sketch_stops_wherever_it_is():
    done = Adaptive(20, SCHEDULE, SMOOTH, fixed_score([1.0, 0.0]))
    first, second = walk(done, lambda t, rows: torch.where(rows == 0, 0.0, 0.8))
    assert first == [979]
    assert len(second) >= 19


def test_without_a_lead_it_keeps_the_static_pace():
    paced = Adaptive(12, SCHEDULE, SMOOTH, fixed_score([0.0, 0.0]))
    visited = walk(paced, lambda t, rows: torch.full((len(t),), 0.8))[0]
    wanted = static_grid(12, SCHEDULE, SMOOTH).levels
    assert np.abs(np.array(visited) - wanted).max() <= 6


@pytest.mark.parametrize("method", ["dpm++", "ddim", "ddpm"])
def test_batch_mates_change_nothing(method):
    """Sketches at levels of their own, leaving at times of their own, under every sampler."""

    def drawn(labels):
        scorer = fixed_score([1.0, 0.3, 0.0])
        adaptive = Adaptive(9, SCHEDULE, SMOOTH, scorer)
        mask = torch.ones(len(labels), 5, dtype=torch.bool)
        task = sampling.Task(torch.tensor(labels), mask, SketchNoise.keyed(3, labels))
        model = Gaussian(SCHEDULE)
        return sampling.draw(model, sampling.method(method), adaptive, task, task.normal(2))

    together = drawn([0, 1, 2])
    assert len({len(v) for v in together.visited}) > 1
    for i in range(3):
        alone = drawn([i])
        assert alone.visited[0] == together.visited[i]
        torch.testing.assert_close(alone.x0[0], together.x0[i])


# -- any sampler on any grid -----------------------------------------------------------------------
def error_at(steps: int, method: str, spacing: str) -> float:
    """Distance from the probability flow's exact end."""
    schedule = Schedule("cosine", 100_000)
    model = Gaussian(schedule)
    top, end = 90_000, 4_000
    # neighboring steps of unequal length test what smooth grids forgive
    strides = np.tile([3.0, 1.0], steps // 2) if spacing == "uneven" else np.ones(steps)
    share = np.concatenate([[0], np.cumsum(strides)]) / strides.sum()
    share = share**1.6 if spacing == "dense near 0" else share
    grid = Grid(np.round(end + (top - end) * share).astype(int), 100_000)
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    task = sampling.Task(torch.tensor([0]), torch.ones(1, 1, dtype=torch.bool), SketchNoise([]))
    *_, last = sampling.frames(model, sampling.method(method), grid, task, x)
    return abs(float(last.x_t) - model.deviation(end) / model.deviation(top))


@pytest.mark.parametrize("spacing", ["even", "dense near 0", "uneven"])
@pytest.mark.parametrize(("method", "order"), [("dpm++", 2), ("ddim", 1)])
def test_order_of_convergence_on_even_and_uneven_grids(method, order, spacing):
    errors = [error_at(s, method, spacing) for s in (80, 160, 320)]
    found = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (found > order - 0.2).all()
    assert (found < order + 0.4).all()
