"""One loop from noise to drawing; a method is a step from level t to level s.

Notation: x_t = alpha_t x_0 + sigma_t eps, lambda = log(alpha / sigma); s = -1 is the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from sketchknitter.diffusion.denoiser import Denoised, expand, read_pens
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.diffusion.timesteps import StepRecord, Timesteps
from sketchknitter.errors import SettingError, UserError


@dataclass(frozen=True)
class Task:
    """What is to be drawn: one row for each sketch of a batch.

    Attributes:
        label: class indices, (B,).
        mask: valid points, (B, N).
        noise: one random stream for each sketch.
    """

    label: Tensor
    mask: Tensor
    noise: SketchNoise

    def rows(self, keep: Tensor) -> Task:
        """The task of some of its sketches, ``keep`` (B,) bool."""
        chosen = [s for s, k in zip(self.noise.streams, keep.tolist(), strict=True) if k]
        return Task(self.label[keep], self.mask[keep], SketchNoise(chosen))

    def normal(self, channels: int) -> Tensor:
        """Fresh noise (B, N, channels), zero outside the mask."""
        out = self.noise.normal(self.mask.sum(dim=1).tolist(), self.mask.shape[1], channels)
        return out.to(self.mask.device)


class Model(Protocol):
    """What the loop evaluates: a denoiser, or a wrapper that guides, clamps or conditions one."""

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised: ...


@dataclass(frozen=True)
class State:
    """Where sampling stands.

    Attributes:
        x: (B, N, D) at the current levels.
        out: what the model makes of it; None before it was asked.
        x0: previous estimate, for multistep methods.
        half_log_snr: lambda where that estimate was made, (B,).
    """

    x: Tensor
    out: Denoised | None = None
    x0: Tensor | None = None
    half_log_snr: Tensor | None = None

    def rows(self, keep: Tensor) -> State:
        some = lambda v: None if v is None else v[keep]  # noqa: E731
        out = None if self.out is None else self.out.rows(keep)
        return State(self.x[keep], out, some(self.x0), some(self.half_log_snr))

    def asked(self, model: Denoises, t: Tensor) -> Denoised:
        """What the model makes of this state at levels t (B,), asked once."""
        return model(self.x, t) if self.out is None else self.out


class Denoises(Protocol):
    """A model with its task: what a method may ask, as often as it likes."""

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x_t: Tensor, t: Tensor) -> Denoised:
        """Of states (B, N, D) at levels (B,)."""
        ...

    def normal(self) -> Tensor:
        """Fresh noise (B, N, D), zero outside the mask."""
        ...


@dataclass(frozen=True)
class Posed:
    """A model asked for a task."""

    model: Model
    task: Task
    channels: int

    @property
    def schedule(self) -> Schedule:
        return self.model.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Denoised:
        return self.model(x_t, t, self.task.label, self.task.mask)

    def normal(self) -> Tensor:
        return self.task.normal(self.channels)


class Method(Protocol):
    """A step of the reverse process."""

    def init(self, x: Tensor) -> State:
        """The state that starts at pure noise x (B, N, D)."""
        ...

    def step(self, model: Denoises, state: State, t: Tensor, s: Tensor) -> State:
        """From levels t to levels s < t, (B,) each. ``state.asked(model, t)`` is the estimate that
        the loop has made already; a method may ask for more."""
        ...


class Ddim:
    """DDIM (Song et al. 2021, eq. 12); eta = 0 is deterministic, eta = 1 is DDPM."""

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise SettingError("eta", f"must lie in 0 … 1, not {eta}")
        self.eta = eta

    def init(self, x: Tensor) -> State:
        return State(x)

    def step(self, model: Denoises, state: State, t: Tensor, s: Tensor) -> State:
        schedule, out = model.schedule, state.asked(model, t)
        alpha_t, sigma_t = schedule(t)
        alpha_s, sigma_s = schedule(s)
        ratio = alpha_t / alpha_s
        # eq. 16: eta sqrt((1 - abar_s) / (1 - abar_t)) sqrt(1 - abar_t / abar_s)
        spread = self.eta * sigma_s / sigma_t * (1 - ratio**2).clamp(min=0).sqrt()
        rest = (sigma_s**2 - spread**2).clamp(min=0).sqrt()
        x = expand(alpha_s, state.x) * out.x0 + expand(rest, state.x) * out.eps
        if self.eta:
            x = x + expand(spread, x) * model.normal()
        return replace(state, x=x, out=None)


class Ddpm:
    """Ancestral sampling (Ho et al. 2020), also over gaps: the Gaussian q(x_s | x_t, x_0).

    Args:
        variance: ``small`` is the posterior's own, ``large`` is beta (the original's default).
    """

    def __init__(self, variance: str = "small") -> None:
        if variance not in ("small", "large"):
            raise UserError(f"variance is small or large, not {variance!r}")
        self.variance = variance

    def init(self, x: Tensor) -> State:
        return State(x)

    def step(self, model: Denoises, state: State, t: Tensor, s: Tensor) -> State:
        schedule, out = model.schedule, state.asked(model, t)
        alpha_t, sigma_t = schedule(t)
        alpha_s, sigma_s = schedule(s)
        ratio = alpha_t / alpha_s
        beta = sigma_t**2 - ratio**2 * sigma_s**2
        from_x, from_x0 = ratio * sigma_s**2 / sigma_t**2, alpha_s * beta / sigma_t**2
        variance = beta if self.variance == "large" else beta * sigma_s**2 / sigma_t**2
        # the last step has no noise, whatever the variance
        spread = torch.where(s < 0, 0.0, variance.clamp(min=0).sqrt())
        mean = expand(from_x, state.x) * state.x + expand(from_x0, state.x) * out.x0
        return replace(state, x=mean + expand(spread, mean) * model.normal(), out=None)


class Renoised:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1): the estimate of x_0 is noised
    anew to each level, so what was wrong with it is drawn again."""

    def init(self, x: Tensor) -> State:
        return State(x)

    def step(self, model: Denoises, state: State, t: Tensor, s: Tensor) -> State:
        out = state.asked(model, t)
        alpha_s, sigma_s = (expand(c, state.x) for c in model.schedule(s))
        return replace(state, x=alpha_s * out.x0 + sigma_s * model.normal(), out=None)


class DpmSolver2M:
    """DPM-Solver++ (2M) (Lu et al. 2022, algorithm 2) on any grid; first order at the ends."""

    def init(self, x: Tensor) -> State:
        return State(x)

    def step(self, model: Denoises, state: State, t: Tensor, s: Tensor) -> State:
        schedule, x, x0 = model.schedule, state.x, state.asked(model, t).x0
        alpha_s, sigma_s = schedule(s)
        _, sigma_t = schedule(t)
        lam = schedule.half_log_snr(t)
        h = schedule.half_log_snr(s) - lam  # infinite on the last step
        direction = x0
        if state.x0 is not None and state.half_log_snr is not None:
            # 1 / (2 r) with r = h_previous / h, and none of it on the last step
            slope = torch.where(s < 0, 0.0, h / (2 * (lam - state.half_log_snr)))
            direction = x0 + expand(slope, x0) * (x0 - state.x0)
        x = expand(sigma_s / sigma_t, x) * x - expand(alpha_s * torch.expm1(-h), x) * direction
        return State(x, None, x0, lam)


METHODS: dict[str, Callable[..., Method]] = {
    "ancestral": Ddpm,
    "dpm++": DpmSolver2M,
    "ddim": Ddim,
    "ddpm": Ddpm,  # the same by its authors' name
    "ddpm-large": partial(Ddpm, "large"),
    "renoised": Renoised,
}


def method(name: str, eta: float = 0.0) -> Method:
    """The method called ``name``, one of METHODS.

    Args:
        eta: DDIM's noise.

    Raises:
        UserError: an unknown name, or an eta for a method that has none.
    """
    if name not in METHODS:
        raise UserError(f"no sampler {name!r}; one of: {', '.join(METHODS)}")
    if name == "ddim":
        return Ddim(eta)
    if eta:
        raise SettingError("eta", f"is DDIM's; the sampler {name} has no such number")
    return METHODS[name]()


@dataclass(frozen=True)
class Frame:
    """One moment of sampling, for animations and logs.

    Attributes:
        rows: which sketches of the batch are still being drawn, (b,) int64.
        t: their levels, (b,).
        x_t: their states, (b, N, D).
        denoised: what the model makes of them.
        task: theirs.
    """

    rows: Tensor
    t: Tensor
    x_t: Tensor
    denoised: Denoised
    task: Task


@dataclass(frozen=True)
class Drawn:
    """Finished drawings, still in model units.

    Attributes:
        x0: (B, N, D).
        head: logits of the pens from the last evaluation, (B, N, 3); None where they are in x0.
        visited: levels visited by each sketch, in order.
    """

    x0: Tensor
    head: Tensor | None
    visited: tuple[tuple[int, ...], ...]

    @property
    def pen(self) -> Tensor:
        """Log-probabilities of draw, lift, end, (B, N, 3)."""
        return read_pens(self.x0, self.head)

    def where(self, taken: Tensor, other: Drawn) -> Drawn:
        """These drawings, with ``other``'s in the rows where ``taken`` (B,) is True."""
        rows = taken[:, None, None]
        pairs = zip(self.visited, other.visited, taken.tolist(), strict=True)
        return Drawn(
            torch.where(rows, other.x0, self.x0),
            None
            if self.head is None or other.head is None
            else torch.where(rows, other.head, self.head),
            tuple(theirs if t else own for own, theirs, t in pairs),
        )


def frames(
    model: Model,
    method: Method,
    timesteps: Timesteps,
    task: Task,
    x: Tensor,
    start: Tensor | None = None,
) -> Iterator[Frame]:
    """Evaluate and step until every sketch is finished, yielding a frame for each evaluation.

    Sketches that finish early leave the batch; what follows does not depend on them.

    Args:
        model: denoiser or wrapper.
        x: (B, N, D) noise (or a partly noised drawing, with ``start``).
        start: levels to start at, (B,); default: the policy's own.
    """
    state = method.init(x)
    rows = torch.arange(len(x), device=x.device)
    t = (timesteps.start(len(x)) if start is None else start).to(x.device)
    left = timesteps.steps
    while len(rows):
        left -= 1
        posed = Posed(model, task, x.shape[-1])
        out = posed(state.x, t)
        state = replace(state, out=out)
        yield Frame(rows, t, state.x, out, task)
        record = StepRecord(t, state.x, out, task.mask, task.label, left)
        s = timesteps.next(t, record)
        on = s >= 0
        if not bool(on.any()):
            return
        if not bool(on.all()):
            state, task, rows, t, s = state.rows(on), task.rows(on), rows[on], t[on], s[on]
        state = method.step(Posed(model, task, x.shape[-1]), state, t, s)
        t = s


@torch.no_grad()
def draw(
    model: Model,
    method: Method,
    timesteps: Timesteps,
    task: Task,
    x: Tensor,
    start: Tensor | None = None,
    watch: Callable[[Frame], None] | None = None,
) -> Drawn:
    """Run :func:`frames` to the end; a sketch's last estimate of x_0 is its drawing."""
    x0 = torch.zeros_like(x)
    head: Tensor | None = None
    visited: list[list[int]] = [[] for _ in range(len(x))]
    for frame in frames(model, method, timesteps, task, x, start):
        x0[frame.rows] = frame.denoised.x0
        if frame.denoised.head is not None:
            head = x.new_zeros((*x.shape[:2], 3)) if head is None else head
            head[frame.rows] = frame.denoised.head
        for row, level in zip(frame.rows.tolist(), frame.t.tolist(), strict=True):
            visited[row].append(level)
        if watch is not None:
            watch(frame)
    return Drawn(x0, head, tuple(tuple(v) for v in visited))
