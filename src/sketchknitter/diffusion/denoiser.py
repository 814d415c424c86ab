"""The denoiser: a backbone plus what its output means, how pens are read, and the masked loss."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.data.batch import PEN_STATES
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.representation import Representation
from sketchknitter.settings import ParametrizationName
from sketchknitter.training.objective import Loss


@dataclass(frozen=True)
class Denoised:
    """What the model believes at one noise level; its parts agree with each other.

    Attributes:
        x0: estimate of the clean state, (B, N, D).
        eps: the noise that goes with it, x_t = alpha x0 + sigma eps, (B, N, D).
        head: logits of (draw, lift, end) by a head of their own, (B, N, 3); None where the pens are
            the last channels of x0.
    """

    x0: Tensor
    eps: Tensor
    head: Tensor | None = None

    @property
    def pen(self) -> Tensor:
        """Log-probabilities of (draw, lift, end), (B, N, 3)."""
        return read_pens(self.x0, self.head)

    def with_x0(self, x0: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Denoised:
        """Another estimate of x0 for the same x_t, at alpha and sigma (B, 1, 1)."""
        return Denoised(x0, (x_t - alpha * x0) / sigma, self.head)

    def with_head(self, head: Tensor | None) -> Denoised:
        """Other logits for the pens."""
        return Denoised(self.x0, self.eps, head)

    def detach(self) -> Denoised:
        """The same without its history."""
        head = None if self.head is None else self.head.detach()
        return Denoised(self.x0.detach(), self.eps.detach(), head)

    def rows(self, keep: Tensor | slice) -> Denoised:
        """Of some sketches of the batch."""
        head = None if self.head is None else self.head[keep]
        return Denoised(self.x0[keep], self.eps[keep], head)


def read_pens(x0: Tensor, head: Tensor | None) -> Tensor:
    """Log-probabilities of (draw, lift, end), (B, N, 3), of a head or of the bits in ``x0``."""
    logits = BitPens.sharpness * x0[..., -PEN_STATES:] if head is None else head
    return F.log_softmax(logits.float(), dim=-1)


def expand(coefficient: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1) in ``like``'s dtype."""
    return coefficient.to(like.dtype)[:, None, None]


@dataclass(frozen=True)
class Parametrization:
    """What the backbone regresses: eps (DDPM, the paper), v (Salimans & Ho 2022) or x0."""

    name: ParametrizationName = "eps"

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        if self.name == "eps":
            return eps
        if self.name == "x0":
            return x0
        return alpha * eps - sigma * x0

    def split(
        self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(x0, eps) such that x_t = alpha x0 + sigma eps holds exactly."""
        if self.name == "eps":
            return (x_t - sigma * out) / alpha, out
        if self.name == "x0":
            return out, (x_t - alpha * out) / sigma
        return alpha * x_t - sigma * out, sigma * x_t + alpha * out


class HeadPens:
    """Pens predicted by a classification head (the paper's way): cross-entropy, never noised.

    The loss counts by alpha_bar_t, for only small t is ever read out.
    """

    channels = 0

    def __init__(self, weight: float = 0.1) -> None:
        self.weight = weight

    @property
    def logits(self) -> int:
        return PEN_STATES

    def loss(self, logits: Tensor, pen: Tensor, alpha: Tensor) -> Tensor:
        """Weighted cross-entropy for every point, (B, N)."""
        entropy = F.cross_entropy(logits.float().transpose(1, 2), pen, reduction="none")
        return self.weight * alpha.squeeze(-1) ** 2 * entropy


class BitPens:
    """Pens diffused with the coordinates as one-hot bits of ±1 (Chen et al. 2022, analog bits)."""

    channels = PEN_STATES
    logits = 0
    sharpness = 4.0  # log-odds for each unit of bit: ±1 reads as 0.9997

    def encode(self, pen: Tensor) -> Tensor:
        return F.one_hot(pen, PEN_STATES).to(torch.float32) * 2 - 1


Pens = HeadPens | BitPens


class Denoiser(nn.Module):
    """A backbone read as a denoiser of ``state`` = coordinates (and pen bits).

    Args:
        backbone: (x (B, N, D_in), t (B,), label (B,), mask (B, N)) -> (B, N, D_out); points are the
            sequence axis; points outside the mask never change those inside.
        schedule: t -> (alpha, sigma).
        parametrization: what the output means.
        pens: HeadPens or BitPens.
        length_given: True hands the mask to the backbone (the number of points is drawn beforehand
            from the data's own distribution); False shows it all N points and lets the pen's `end`
            state decide.
        representation: of the coordinates; the network then also sees the noisy *positions* they
            add up to, at unit variance. None shows it the state alone.
        condition: channels by which the network sees what is known of each point (see
            data.conditions), beside x_t; 0 for a network that sees nothing else.
        guided: the backbone takes the guidance weight as a fifth argument: a distilled network,
            which needs one evaluation where classifier-free guidance needs two.

    Attributes:
        dtype: what the backbone multiplies in, by autocast; None leaves it to who calls.
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: Schedule,
        parametrization: Parametrization,
        pens: Pens,
        *,
        length_given: bool = True,
        representation: Representation | None = None,
        condition: int = 0,
        guided: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.schedule = schedule
        self.parametrization = parametrization
        self.pens = pens
        self.length_given = length_given
        self.representation = representation
        self.condition = condition
        self.guided = guided
        self.dtype: torch.dtype | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def state(self, xy: Tensor, pen: Tensor) -> Tensor:
        """The clean state x_0 (B, N, D) of a batch's coordinates and pen classes."""
        if isinstance(self.pens, BitPens):
            return torch.cat([xy, self.pens.encode(pen).to(xy)], dim=-1)
        return xy

    def outputs(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mask: Tensor,
        condition: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the backbone says, of what :meth:`forward` takes: the parametrization's target
        (B, N, D), its further outputs (B, N, M), and alpha and sigma (B, 1, 1) of the levels."""
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        seen = mask if self.length_given else torch.ones_like(mask)
        x = x_t
        if self.representation is not None:
            x = torch.cat([x_t, self.representation.unit_positions(x_t)], dim=-1)
        if self.condition:
            if condition is None:
                condition = x_t.new_zeros((*x_t.shape[:2], self.condition))
            x = torch.cat([x, condition], dim=-1)
        given = (weight,) if self.guided else ()
        with torch.autocast(x.device.type, self.dtype) if self.dtype else nullcontext():
            out = self.backbone(x, t, label, seen, *given)
        out = out.float()
        width = x_t.shape[-1]
        return out[..., :width], out[..., width:], alpha, sigma

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mask: Tensor,
        condition: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Denoised:
        """Denoise x_t (B, N, D) at levels t (B,) for labels (B,) and valid points (B, N), seeing
        ``condition`` (B, N, C) of them; a guided network at guidance weights (B,), None for 1."""
        out, logits, alpha, sigma = self.outputs(x_t, t, label, mask, condition, weight)
        x0, eps = self.parametrization.split(out, x_t, alpha, sigma)
        return Denoised(x0, eps, None if isinstance(self.pens, BitPens) else logits)

    def loss(
        self,
        xy: Tensor,
        pen: Tensor,
        mask: Tensor,
        label: Tensor,
        t: Tensor,
        eps: Tensor,
        condition: Tensor | None = None,
        free: Tensor | None = None,
    ) -> Loss:
        """Squared error of the parametrization's target, plus the pens' loss, on valid points.

        The mean over coordinates, the sum over points (eq. 14 of DDPM for eps-prediction).

        Args:
            condition: what is seen of each point, (B, N, C).
            free: entries of the state that are not known, (B, N, D); the others are given clean
                and do not count.
        """
        x0 = self.state(xy, pen)
        alpha, sigma = (expand(c, x0) for c in self.schedule(t))
        x_t = alpha * x0 + sigma * eps
        if free is not None:
            x_t = torch.where(free, x_t, x0)
        out, logits, _, _ = self.outputs(x_t, t, label, mask, condition)
        error = (out - self.parametrization.target(x0, eps, alpha, sigma)) ** 2
        if free is not None:
            counted = (free & mask[..., None]).to(error).mean(dim=-1)
            return Loss((error * free).mean(dim=-1).mul(mask).sum(dim=-1), counted.sum(dim=-1))
        each = error.mean(dim=-1) * mask
        if not self.length_given and isinstance(self.pens, BitPens):
            # what follows the end must be known to follow it: pens count there, coordinates do not
            each = each + error[..., -PEN_STATES:].sum(dim=-1) / error.shape[-1] * ~mask
        if isinstance(self.pens, HeadPens):
            counted = mask if self.length_given else torch.ones_like(mask)
            each = each + self.pens.loss(logits, pen, alpha) * counted
        return Loss(each.sum(dim=-1), mask.sum(dim=-1))
