"""Steps taken back and repeated, so that new and known parts settle together (RePaint)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from sketchknitter.diffusion.denoiser import expand
from sketchknitter.diffusion.sampler import Denoises, Method, State
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.errors import UserError


class Resampled:
    """A method that goes back and repeats its steps, so that new and known parts settle together.

    After the step t -> s the state is noised back to t and stepped again, ``times`` times
    (RePaint's resampling, Lugmayr et al. 2022, algorithm 1, with jumps of one step).

    Args:
        method: takes the steps.
        times: repetitions of each step.
        interval: repeat between these shares of T: elsewhere there is nothing left to settle.
    """

    def __init__(
        self, method: Method, times: int = 1, interval: tuple[float, float] = (0.2, 0.9)
    ) -> None:
        if times < 0:
            raise UserError(f"resamples must not be negative, not {times}")
        self.method, self.times, self.interval = method, times, interval

    def init(self, x: Tensor) -> State:
        return self.method.init(x)

    def step(self, model: Denoises, state: State, t: Tensor, s: Tensor) -> State:
        after = self.method.step(model, state, t, s)
        share = t.double() / model.schedule.steps
        if bool(((share < self.interval[0]) | (share > self.interval[1])).any()):
            return after
        for _ in range(self.times):
            x = renoised(after.x, s, t, model.schedule, model.normal())
            after = self.method.step(model, replace(state, x=x, out=None), t, s)
        return after


def renoised(x_s: Tensor, s: Tensor, t: Tensor, schedule: Schedule, noise: Tensor) -> Tensor:
    """States (B, N, D) at levels s taken back to noisier levels t by the forward process."""
    alpha_s, sigma_s = schedule(s)
    alpha_t, sigma_t = schedule(t)
    ratio = alpha_t / alpha_s
    rest = (sigma_t**2 - ratio**2 * sigma_s**2).clamp(min=0).sqrt()
    return expand(ratio, x_s) * x_s + expand(rest, x_s) * noise
