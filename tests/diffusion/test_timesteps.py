"""Policies that name noise levels: descending, distinct, within their budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.diffusion.timesteps import POLICIES, Grid, grid
from sketchknitter.errors import UserError

SCHEDULES = [Schedule("cosine", 1000), Schedule("linear", 1000), Schedule("cosine", 60)]


def visited(policy: Grid) -> list[int]:
    """Levels that a sampler sees, by asking one at a time."""
    t = policy.start(1)
    out = []
    while t.item() >= 0:
        out.append(int(t))
        t = policy.next(t)
    return out


def test_linear_is_the_original_ddim30() -> None:
    levels = visited(grid("linear", 30, SCHEDULES[1]))
    assert levels[::-1] == list(range(0, 987, 34))
    assert len(levels) == 30


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.name}-{s.steps}")
@pytest.mark.parametrize("steps", [2, 3, 4, 8, 20, 30, 50, 60, 999, 1000])
def test_strictly_descending_within_the_budget(name: str, schedule: Schedule, steps: int) -> None:
    strides = {len(range(0, schedule.steps, stride)) for stride in range(1, schedule.steps)}
    impossible = (name == "marks" and steps != 8) or (name == "linear" and steps not in strides)
    if steps > schedule.steps or impossible:
        with pytest.raises(UserError):
            grid(name, steps, schedule)
        return
    policy = grid(name, steps, schedule)
    levels = visited(policy)
    assert levels == list(policy.levels)
    assert (np.diff(levels) < 0).all()
    assert 0 <= levels[-1] <= levels[0] < schedule.steps
    assert 2 <= len(levels) == policy.steps <= steps
    if name in ("uniform", "linear", "geometric", "logsnr", "marks"):
        assert len(levels) == steps  # nothing rounds together
    if name in ("uniform", "quadratic", "logsnr"):
        assert (levels[0], levels[-1]) == (schedule.steps - 1, 0)


def test_uniform() -> None:
    assert visited(grid("uniform", 4, SCHEDULES[0])) == [999, 666, 333, 0]


def test_quadratic_ddim_starts_at_800_and_counts_its_zeros_once() -> None:
    levels = visited(grid("quadratic-ddim", 30, SCHEDULES[1]))
    assert levels[0] in (799, 800)
    assert len(levels) == 29


def test_geometric_keeps_its_ratio() -> None:
    levels = np.array(visited(grid("geometric", 30, SCHEDULES[1])))
    assert (levels[0], levels[-1]) == (980, 0)
    ratios = levels[1:14] / levels[:13]
    assert (abs(ratios - ratios.mean()) < 0.02).all()


def test_logsnr_is_even_in_log_snr() -> None:
    schedule = SCHEDULES[1]
    gaps = schedule.half_log_snr(torch.tensor(visited(grid("logsnr", 8, schedule)))).diff()
    assert (gaps.max() / gaps.min()).item() < 1.25


def test_marks_of_the_paper() -> None:
    assert visited(grid("marks", 8, SCHEDULES[0])) == [980, 550, 350, 200, 100, 50, 30, 10]


def test_grid_drops_duplicates_and_sorts() -> None:
    assert Grid([5, 0, 9, 5, 0], 10).levels == (9, 5, 0)
    assert Grid([5, 0, 9, 5, 0], 10).steps == 3


def test_rows_move_on_their_own() -> None:
    policy = Grid([9, 5, 0], 10)
    assert policy.next(torch.tensor([9, 0, 5])).tolist() == [5, -1, 0]
    assert policy.start(3).tolist() == [9, 9, 9]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "at least 1 step"),
        ([10, 3], "must lie in 0 … 9"),
        ([-1, 3], "must lie in 0 … 9"),
    ],
)
def test_grid_refuses(levels: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Grid(levels, 10)


@pytest.mark.parametrize(
    ("name", "steps", "message"),
    [
        ("spiral", 10, "no timesteps policy 'spiral'; one of: uniform"),
        ("uniform", 1, "^steps must lie in 2 … 1000, not 1"),
        ("uniform", 1001, "^steps must lie in 2 … 1000, not 1001"),
        ("linear", 700, "no integer stride"),
        ("marks", 9, "^steps must be 8 .*, not 9"),
    ],
)
def test_errors(name: str, steps: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        grid(name, steps, SCHEDULES[0])
