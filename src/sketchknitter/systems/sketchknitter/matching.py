"""Distribution matching: a student's drawings come to be distributed as its teacher's.

Progressive distillation asks a student to end where its teacher ends, which four steps cannot. Here
the student's drawings are judged instead (DMD2, Yin et al. 2024b): a second network, the critic,
follows what the student draws. Where its estimate of a noised drawing differs from the
teacher's, the drawing is likelier of the student than of the teacher, and moves by the difference
(Yin et al. 2024a, eq. 7 and 8). One more output of the critic tells human drawings from the
student's, which corrects what the teacher itself gets wrong.

The gradient goes through the whole chain of the student's steps, as it draws; guidance weights are
inputs of all three networks, and conditions are seen by all three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.data.conditions import ConditionedBatch
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.denoiser import Denoiser, expand
from sketchknitter.diffusion.guidance.classifier_free import Absorbed
from sketchknitter.diffusion.guidance.conditioned import Conditioned
from sketchknitter.diffusion.importance import UniformLevels
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import Ddim, Posed, State, Task
from sketchknitter.errors import SettingError, UserError
from sketchknitter.seeds import Stream
from sketchknitter.settings import AugmentConfig, MatchConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.systems.sketchknitter.objective import ConditionalDenoising
from sketchknitter.systems.sketchknitter.run import digest
from sketchknitter.systems.sketchknitter.student import student_of
from sketchknitter.systems.sketchknitter.teacher import Teacher, frozen
from sketchknitter.systems.sketchknitter.teaching import StudentTrainer, guidance_weights
from sketchknitter.training.objective import Loss, Streams

STUDENT = "student."  # of a pair's weights
LEVELS = (0.02, 0.98)  # shares of T between which drawings are compared
LONGEST = 3.0  # of the pull on one coordinate, in mean distances to the teacher's estimate


# -- the critic ------------------------------------------------------------------------------------
class Pair(nn.Module):
    """A student, and the critic that follows what it draws."""

    def __init__(self, student: Denoiser, critic: Denoiser) -> None:
        super().__init__()
        self.student, self.critic = student, critic


def critic_of(config: ModelConfig, teacher: Denoiser) -> Denoiser:
    """A critic that estimates what ``teacher`` does, at every guidance weight, with one more output
    for each point: the log-odds that a human drew it, zero at first."""
    critic = build_denoiser(config, guided=True, further=1)
    own = critic.state_dict()
    for name, value in teacher.state_dict().items():
        if own[name].shape != value.shape:  # the last layer
            wider = torch.zeros_like(own[name])
            wider[: len(value)] = value
            value = wider
        own[name] = value
    critic.load_state_dict(own)
    return critic


@dataclass(frozen=True)
class View:
    """How drawings are compared: noised, under their conditions, at their guidance weights.

    Attributes:
        part: what is known of each drawing, and the human drawing that it comes from.
        label, weight, t: (b,).
        noise: (b, N, D).
        clean: the human drawings' states, (b, N, D).
        alpha, sigma: of the levels ``t``, (b, 1, 1).
    """

    part: ConditionedBatch
    label: Tensor
    weight: Tensor
    t: Tensor
    noise: Tensor
    clean: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def mask(self) -> Tensor:
        """Points of the drawings, (b, N)."""
        return self.part.batch.mask

    @property
    def free(self) -> Tensor:
        """Entries of their states that are not known, (b, N, D)."""
        return self.part.free & self.mask[..., None]

    def noised(self, state: Tensor) -> Tensor:
        """States (b, N, D) at the levels; what is known stays clean."""
        return torch.where(self.part.free, self.alpha * state + self.sigma * self.noise, self.clean)

    def judged(self, critic: Denoiser, x_t: Tensor) -> tuple[Tensor, Tensor]:
        """What a critic says of noised states: the parametrization's target (b, N, D), and the
        log-odds of a human drawing, the mean of its points', (b,)."""
        out, odds, _, _ = critic.outputs(
            x_t, self.t, self.label, self.mask, self.part.condition, self.weight
        )
        seen = self.mask.to(odds)
        return out, (odds[..., 0] * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)


# -- what is learned -----------------------------------------------------------------------------
class Matching(ConditionalDenoising):
    """The loss of a student and its critic, each of which learns from its own part alone.

    Args:
        pair: the networks.
        teacher: the many-step network.
        steps: of the student's trailing grid.
        weights: the least and the largest guidance weight.
        label_dropout: share of drawings without their label.
        adversary: how much the critic's verdict counts beside the difference of the estimates.
    """

    def __init__(
        self,
        pair: Pair,
        teacher: Teacher,
        steps: int,
        weights: tuple[float, float],
        label_dropout: float,
        adversary: float,
    ) -> None:
        student = pair.student
        low, high = (round(share * student.schedule.steps) for share in LEVELS)
        super().__init__(student, teacher.null, UniformLevels(range(low, high)), label_dropout)
        self.network, self.critic = pair, pair.critic
        self.grid = policies.trailing(steps, student.schedule)
        self.teacher, self.weights, self.adversary = teacher, weights, adversary

    def part_loss(
        self, part: ConditionedBatch, label: Tensor, t: Tensor, eps: Tensor, streams: Streams
    ) -> Loss:
        """Here ``eps`` is what the student draws from, and ``t`` the levels of the comparison."""
        weight = guidance_weights(streams, label, self.weights, self.classes)
        drawn = self.drawn(part, label, weight, eps)
        view = self.view(part, label, weight, t, streams, drawn)
        found = drawn.detach().requires_grad_()
        x_t = view.noised(found)
        out, odds = view.judged(self.critic, x_t)
        pull = self.pull(view, found, x_t, out, odds)
        # a squared distance whose gradient is the pull
        moved = ((drawn - (found - pull).detach()) ** 2).sum(dim=(1, 2)) / 2

        target = self.denoiser.parametrization.target(
            found.detach(), view.noise, view.alpha, view.sigma
        )
        followed = ((out - target) ** 2 * view.free).sum(dim=(1, 2))
        _, real = view.judged(self.critic, view.noised(view.clean))
        count, width = view.free.sum(dim=(1, 2)), eps.shape[-1]
        verdicts = (F.softplus(odds) + F.softplus(-real)) * count
        return Loss((moved + followed + verdicts) / width, count / width)

    def drawn(self, part: ConditionedBatch, label: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
        """What the student draws in its steps from noise ``eps`` (b, N, D): states, with their
        history."""
        student = self.denoiser
        model = Conditioned(student, part, Absorbed(student, weight, self.classes))
        posed = Posed(model, Task(label, part.batch.mask, SketchNoise([])), eps.shape[-1])
        state, method = State(eps), Ddim()
        for t, s in zip(self.grid.levels, [*self.grid.levels[1:], -1], strict=True):
            state = method.step(posed, state, torch.full_like(label, t), torch.full_like(label, s))
        return state.x

    def view(
        self,
        part: ConditionedBatch,
        label: Tensor,
        weight: Tensor,
        t: Tensor,
        streams: Streams,
        like: Tensor,
    ) -> View:
        """A comparison at levels ``t`` by fresh noise."""
        own, denoiser = part.batch, self.denoiser
        noise = SketchNoise(streams.each(Stream.RENOISE))
        fresh = noise.normal(own.length.tolist(), like.shape[1], like.shape[2]).to(like)
        alpha, sigma = (expand(c, like) for c in denoiser.schedule(t))
        clean = denoiser.state(own.xy, own.pen)
        return View(part, label, weight, t, fresh, clean, alpha, sigma)

    def pull(self, view: View, found: Tensor, x_t: Tensor, out: Tensor, odds: Tensor) -> Tensor:
        """The gradient of states ``found`` (b, N, D), in units of their mean distance to what the
        teacher makes of them; zero where they are known.

        Args:
            view: how they were noised, to ``x_t``.
            found: has asked for its gradient.
            x_t: made of ``found``.
            out: the critic's target there.
            odds: its verdict.
        """
        free, length = view.free, view.mask.sum(dim=1)
        (human,) = torch.autograd.grad((F.softplus(-odds) * length).sum(), found, retain_graph=True)
        with torch.no_grad():
            asked = x_t.detach(), view.t, view.label, view.mask
            real = self.teacher.model(view.part, view.weight)(*asked).x0
            fake, _ = self.denoiser.parametrization.split(out, x_t, view.alpha, view.sigma)
            count = free.sum(dim=(1, 2)).clamp(min=1)
            apart = ((found - real).abs() * free).sum(dim=(1, 2)) / count
            pull = (fake - real) / expand(apart.clamp(min=1e-3), fake) + self.adversary * human
        return pull.clamp(-LONGEST, LONGEST) * free


# -- training ------------------------------------------------------------------------------------
class MatchTrainer(StudentTrainer):
    """Trains on the student that a checkpoint has already.

    Args:
        data: drawings of the checkpoint's classes.
        checkpoint: the model with its student; the many-step network teaches.
        how: steps of the student, and how to learn.
        augment: random changes of drawings.
        device: where the networks live.

    Raises:
        UserError: a model without a student of progressive distillation or matching, or one whose
            steps ``how.steps`` does not divide.
    """

    def __init__(
        self,
        data: PreparedSet,
        checkpoint: Checkpoint,
        how: MatchConfig,
        augment: AugmentConfig | None = None,
        device: str = "cpu",
    ) -> None:
        student = student_of(checkpoint)
        if student is None or student.way == "consistency":
            raise UserError(
                "matching needs a model with a student of progressive distillation; make one with"
                " --stage distill"
            )
        if student.steps % how.steps:
            raise SettingError(
                "steps", f"must divide the student's {student.steps}, not {how.steps}"
            )
        self.how = how
        steps = checkpoint.config.diffusion.diffusion_steps
        null = len(checkpoint.config.classes)
        teacher = Teacher(frozen(checkpoint.denoiser(), device), steps, null, how.interval)

        def optimizer(network: nn.Module) -> torch.optim.Optimizer:
            assert isinstance(network, Pair)
            groups: list[dict[str, Any]] = [
                {"params": list(network.student.parameters())},
                {"params": list(network.critic.parameters()), "ratio": how.critic_lr},
            ]
            # each follows what moves, so mean gradients must be short
            return torch.optim.AdamW(
                groups, how.lr, betas=(0.5, 0.99), weight_decay=how.weight_decay, fused=True
            )

        start = student.denoiser
        super().__init__(
            data, checkpoint, teacher, start, "matching", how, augment, device, optimizer
        )
        self.identity["start"] = digest(start.state_dict())

    def objective_of(self, student: Denoiser) -> Matching:
        how = self.how
        critic = critic_of(self.model, self.teacher.denoiser)
        return Matching(
            Pair(student, critic),
            self.teacher,
            how.steps,
            how.guidance,
            how.label_dropout,
            how.adversary,
        )

    def weights(self, ema: int = 0) -> dict[str, Tensor]:
        """Copy of the student's averaged weights."""
        both = super().weights(ema).items()
        return {k.removeprefix(STUDENT): v for k, v in both if k.startswith(STUDENT)}

    def evaluate(self, split: Split, limit: int = 0) -> float:
        """NaN: two networks that follow each other have no loss that falls."""
        return math.nan
