"""A denoiser whose estimates agree with what is known of a drawing (pseudoinverse guidance).

Known things are *positions*; the state holds them filtered, a linear map (see
:mod:`sketchknitter.representation`). That makes both "this point is exactly here" and "this point
is about here" one least-squares step on the estimate of x_0, for every representation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sketchknitter.data.batch import PEN_STATES
from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.sampler import Model
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.representation import Representation

FREE = -1  # a pen nobody knows


_LEAST_SIGNAL = 0.15  # alpha below which the slope of an estimate is noise, and 1 / alpha huge


_CERTAIN = -20.0  # log-probability of a pen state that is known not to be


@dataclass(frozen=True)
class Known:
    """What is known of the drawings of a batch.

    Attributes:
        points: positions, (B, P, 2) px in the model's frame; ignored where unknown.
        spread: how far the truth may lie from them, (B, P) px, one standard deviation: 0 is exact,
            infinite is unknown.
        pens: pen states by row, (B, N) int64; ``FREE`` where unknown.
        drift: how far the known points may be displaced all together, px; the model finds the
            place. A drawing that is not finished does not say where its center will be.
    """

    points: Tensor
    spread: Tensor
    pens: Tensor
    drift: float = 0.0


class Anchored:
    """A model whose estimates of x_0 agree with what is known.

    With an estimate z of variance r² and known positions k = A z + drift + error, the estimate
    becomes the Gaussian posterior's mean, z + r² A'(r² A A' + D)⁻¹ (k - A z), D holding the
    squared spreads (pseudoinverse guidance, Song et al. 2023). Where points
    are exact this is the orthogonal projection onto all states that pass through them: the sums of
    offsets between known points come out right and the error of each gap is shared by its rows.
    eps follows from x_0, so the known part of the state keeps its own noise all the way (RePaint's
    replacement, Lugmayr et al. 2022, in DDIM's form).

    Args:
        model: denoiser or wrapper.
        representation: from state to positions.
        known: as many rows as the batches it will see.
        bits: True where the state's last channels are pen bits.
        lean: let the correction pass through the network as well, x_0 + sigma² / alpha J' A' (…)
            with J the slope of the estimate in x_t: new parts then lean on what is known in the way
            the model knows them to hang together. Costs a backward pass for each evaluation.
        settled: alpha above which new parts have taken their places and no longer lean.
        miss: called at every evaluation with the levels (B,) and the squared distance (B,) by which
            the model's own estimate missed what is known.
    """

    def __init__(
        self,
        model: Model,
        representation: Representation,
        known: Known,
        bits: bool,
        *,
        lean: bool = False,
        settled: float = 1.0,
        miss: Callable[[Tensor, Tensor], None] | None = None,
    ) -> None:
        self.model, self.representation, self.known, self.bits = model, representation, known, bits
        self.lean, self.settled, self.miss = lean, settled, miss
        # offsets cannot tell a displaced drawing from one in place
        self.drift = 1e3 if representation.implied else known.drift
        self.here = torch.isfinite(known.spread)
        self.given = (known.pens != FREE)[..., None]
        self.states = torch.nn.functional.one_hot(known.pens.clamp(min=0), PEN_STATES)

    @property
    def schedule(self) -> Schedule:
        return self.model.schedule

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Denoised:
        alpha, sigma = self.schedule(t)
        if not self.lean or bool(((alpha < _LEAST_SIGNAL) | (alpha > self.settled)).any()):
            return self.anchor(self.model(x_t, t, label, mask), x_t, t)
        with torch.enable_grad():
            source = x_t.detach().requires_grad_(True)
            out = self.model(source, t, label, mask)
            pull = self.pull(out.x0[..., :2].detach(), sigma, self.here).to(x_t)
            (slope,) = torch.autograd.grad((out.x0[..., :2] * pull).sum(), source)
        change = clipped(expand(sigma**2 / alpha, x_t) * slope, mask)
        x0 = out.x0.detach() + change
        # what may be off has had its say; what is exact has to be met
        exact = self.here & (self.known.spread <= 0)
        return self.anchor(replace(out.detach(), x0=x0), x_t, t, exact)

    def anchor(self, out: Denoised, x_t: Tensor, t: Tensor, here: Tensor | None = None) -> Denoised:
        """``out`` made to agree with what is known, or with the points ``here`` (B, P) of it."""
        alpha, sigma = self.schedule(t)
        x0 = out.x0.clone()
        z = out.x0[..., :2]
        pull = self.pull(z, sigma, self.here if here is None else here)
        x0[..., :2] = (z.double() + expand(sigma**2, pull) * pull).to(z)
        if self.bits:
            known_bits = self.states.to(x0) * 2 - 1
            x0[..., -PEN_STATES:] = torch.where(self.given, known_bits, x0[..., -PEN_STATES:])
        if self.miss is not None:
            self.miss(t, ((x0 - out.x0) ** 2).sum(dim=(1, 2)))
        if out.head is not None:
            sure = (1 - self.states).to(out.head) * _CERTAIN
            out = out.with_head(torch.where(self.given, sure, out.head))
        return out.with_x0(x0, x_t, expand(alpha, x_t), expand(sigma, x_t))

    def pull(self, z: Tensor, error: Tensor, here: Tensor) -> Tensor:
        """A'(r² A A' + D)⁻¹ (k - A z) in float64, (B, N, 2), for estimates z off by ``error`` (B,)
        and the known points ``here`` (B, P)."""
        known = self.known
        a = torch.tensor(self.representation.matrix(z.shape[1]), device=z.device)
        r2 = (error.double() ** 2)[:, None, None]
        pair = here[:, :, None] & here[:, None, :]
        gram = torch.where(pair, r2 * (a @ a.T) + self.drift**2, 0.0)
        noise = torch.where(here, known.spread.double() ** 2, 1.0)
        # exact points get a hair of slack, far below a thousandth of a px, for the factorization
        slack = 1e-9 * r2[..., 0] * self.representation.scale**2
        gram = gram + torch.diag_embed(noise + slack)
        gap = torch.where(here[..., None], known.points.double() - a @ z.double(), 0.0)
        return a.T @ torch.cholesky_solve(gap, torch.linalg.cholesky(gram))


def clipped(change: Tensor, mask: Tensor) -> Tensor:
    """A change of states (B, N, D), shortened to a root mean square of 1 for each sketch."""
    count = mask.sum(dim=1).clamp(min=1)[:, None, None] * change.shape[-1]
    size = (change**2).sum(dim=(1, 2), keepdim=True).div(count).sqrt()
    return change / size.clamp(min=1.0)
