"""The noise schedule against the paper's values and an independent implementation."""

from __future__ import annotations

import diffusers
import pytest
import torch

from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.errors import UserError


def test_linear_values_of_the_paper() -> None:
    bar = Schedule("linear", 1000).alpha_bar
    assert bar[1000].item() == pytest.approx(4.036e-5, rel=2e-4)  # level 999
    assert bar[501].item() == pytest.approx(0.0778, abs=5e-5)  # level 500
    assert bar[200].item() == pytest.approx(0.659, abs=5e-4)  # level 199


@pytest.mark.parametrize(
    ("name", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_equals_diffusers(name: str, theirs: str) -> None:
    oracle = diffusers.DDPMScheduler(1000, 1e-4, 0.02, theirs)
    ours = Schedule(name, 1000).alpha_bar[1:]  # type: ignore[arg-type]
    torch.testing.assert_close(ours.float(), oracle.alphas_cumprod, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [2, 50, 1000])
def test_variance_is_preserved_and_noise_grows(name: str, steps: int) -> None:
    schedule = Schedule(name, steps)  # type: ignore[arg-type]
    levels = torch.arange(-1, steps)
    alpha, sigma = schedule(levels)
    assert alpha.dtype == torch.float64
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(steps + 1, dtype=torch.float64))
    assert (alpha[0], sigma[0]) == (1, 0)  # t = -1 is the data
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() > 0).all()
    assert (schedule.half_log_snr(levels).diff() < 0).all()


def test_linear_ends_as_noisy_for_any_number_of_steps() -> None:
    ends = [Schedule("linear", n).alpha_bar[-1].log().item() for n in (250, 1000, 4000)]
    assert max(ends) - min(ends) < 0.4  # of about -10


def test_half_log_snr() -> None:
    schedule = Schedule("cosine", 100)
    alpha, sigma = schedule(torch.tensor([40]))
    assert schedule.half_log_snr(torch.tensor([40])) == (alpha / sigma).log()


def test_refuses_what_makes_no_schedule() -> None:
    with pytest.raises(UserError, match="must lie in 2 … 1,000,000, not 1"):
        Schedule("linear", 1)
    with pytest.raises(UserError, match="no noise schedule 'sigmoid'"):
        Schedule("sigmoid", 10)  # type: ignore[arg-type]
