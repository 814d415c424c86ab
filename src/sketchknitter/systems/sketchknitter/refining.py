"""Refinement: the last step of a student learns to draw clean lines; what they show stays.

Few steps leave fine noise, of some 2 px where a drawing has 255, which no distance between
distributions of whole drawings notices much. Here a critic looks at a few points at a time, at
drawings as they are, without noise (a discriminator of patches, Isola et al. 2017): it tells
people's lines from the student's, and the student's last step moves to where it does so less
(Goodfellow et al. 2014, the non-saturating loss). A squared distance keeps every drawing close to
what the student drew before, from the same noise; the earlier steps are kept as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.data.batch import PEN_STATES
from sketchknitter.data.conditions import ConditionedBatch
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.denoiser import Denoiser, expand
from sketchknitter.diffusion.guidance.classifier_free import Absorbed
from sketchknitter.diffusion.guidance.conditioned import Conditioned
from sketchknitter.diffusion.importance import UniformLevels
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import Ddim, Posed, State, Task
from sketchknitter.errors import SettingError, UserError
from sketchknitter.nn.layers import Conv3
from sketchknitter.representation import Representation
from sketchknitter.seeds import Stream
from sketchknitter.settings import AugmentConfig, RefineConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.objective import ConditionalDenoising
from sketchknitter.systems.sketchknitter.student import student_of
from sketchknitter.systems.sketchknitter.teacher import Teacher, frozen
from sketchknitter.systems.sketchknitter.teaching import Pair, PairTrainer, guidance_weights
from sketchknitter.training.objective import Loss, Streams

LAYERS = 4
REACH = LAYERS + 2  # points to either side that a verdict depends on: turns look two points around
SHORT = 0.5  # px: of shorter segments no direction is read
PENALTY = 3e-4  # of the critic's squared gradient where people drew (Mescheder et al. 2018, R1)
LONGEST = 10.0  # of the pull on one coordinate


# -- the critic ------------------------------------------------------------------------------------
class LineCritic(nn.Module):
    """Says of every point, from the few around it, the log-odds that a person drew it.

    It sees the pens, the segments between points, how the line turns at each point and how far that
    lies off the chord of its neighbors; not where on the sheet it is, nor what is drawn.

    Args:
        representation: of the coordinates.
        width: channels.
    """

    def __init__(self, representation: Representation, width: int = 96) -> None:
        super().__init__()
        self.representation = representation
        self.first = Conv3(9 + 2 + PEN_STATES, width)
        self.further = nn.ModuleList(Conv3(width, width) for _ in range(LAYERS - 1))
        self.last = nn.Linear(width, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, state: Tensor, mask: Tensor) -> Tensor:
        """Clean states (B, N, 2 + pen bits) of valid points (B, N) -> (B, N); of the pens no
        gradient is taken."""
        seen = mask[..., None].to(state)
        h = F.leaky_relu(self.first(self.features(state, seen) * seen), 0.2) * seen
        for layer in self.further:
            h = h + F.leaky_relu(layer(h), 0.2) * seen
        return self.last(h)[..., 0]

    def features(self, state: Tensor, seen: Tensor) -> Tensor:
        """What is read of each point, (B, N, 9 + 2 + pen states), lengths in px; ``seen``
        (B, N, 1) is 1 for valid points."""
        points = self.representation.positions(state)
        step = points.diff(dim=1)
        if not self.representation.implied:
            step = F.pad(step, (0, 0, 1, 0))  # nothing leads to the first point
        step = step * seen
        after = F.pad(step[:, 1:], (0, 0, 0, 1))
        length = _length(step)
        unit = step / length
        before = F.pad(unit[:, :-1], (0, 0, 1, 0))
        # signed distance of the point to the chord of its neighbors
        height = _cross(step, after) / _length(step + after)
        pens = F.one_hot(state[..., -PEN_STATES:].argmax(dim=-1), PEN_STATES).to(state)
        shape = [
            step / 20,
            unit,
            (length / 10).log(),
            (length / 4).tanh(),
            (before * unit).sum(dim=-1, keepdim=True),
            _cross(before, unit),
            (height / 2).tanh(),
            (height / 6).tanh(),
            _length(height).log(),
        ]
        return torch.cat([*shape, pens], dim=-1)


def _length(step: Tensor) -> Tensor:
    """(B, N, D) -> (B, N, 1), never below SHORT, and smooth there."""
    return (step.square().sum(dim=-1, keepdim=True) + SHORT**2).sqrt()


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """(B, N, 2) twice -> (B, N, 1)."""
    return a[..., :1] * b[..., 1:] - a[..., 1:] * b[..., :1]


# -- what is learned -------------------------------------------------------------------------------
class Refining(ConditionalDenoising):
    """The loss of a student's last step and its critic; of earlier steps, that they stay.

    Args:
        pair: the student and its critic.
        teacher: the student as it was.
        how: what counts how much.
    """

    def __init__(self, pair: Pair, teacher: Teacher, how: RefineConfig) -> None:
        student = pair.student
        assert isinstance(pair.critic, LineCritic)
        self.grid = policies.trailing(teacher.steps, student.schedule)
        earlier = self.grid.levels[:-1] or self.grid.levels
        super().__init__(student, teacher.null, UniformLevels(earlier), how.label_dropout)
        self.network, self.critic, self.teacher, self.how = pair, pair.critic, teacher, how

    def part_loss(
        self, part: ConditionedBatch, label: Tensor, t: Tensor, eps: Tensor, streams: Streams
    ) -> Loss:
        """Here ``eps`` is what is drawn from, and ``t`` the earlier levels that are looked at."""
        how, mask = self.how, part.batch.mask
        weight = guidance_weights(streams, label, how.guidance, self.classes)
        x_last, before, x_t, earlier = self.path(part, label, weight, eps, t)
        model = Conditioned(self.denoiser, part, Absorbed(self.denoiser, weight, self.classes))
        last = torch.full_like(t, self.grid.levels[-1])
        drawn = model(x_last, last, label, mask).x0
        free = (part.free & mask[..., None]).to(drawn)  # entries that are not known
        there = free[..., 0]  # points that the student placed

        clean = self.denoiser.state(part.batch.xy, part.batch.pen).requires_grad_()
        found = drawn.detach().requires_grad_()
        fake, real = (
            self.critic(x + blur, mask)
            for x, blur in zip((found, clean), self.blurs(part, streams), strict=True)
        )
        verdict = ((F.softplus(fake) + F.softplus(-real)) * there).sum(dim=1)
        (steep,) = torch.autograd.grad((real * there).sum(), clean, create_graph=True)
        penalty = PENALTY * steep.square().sum(dim=(1, 2))

        (human,) = torch.autograd.grad((F.softplus(-fake) * there).sum(), found, retain_graph=True)
        counts = how.adversary * min(1.0, streams.update / max(how.head_start, 1))
        pull = (counts * human).clamp(-LONGEST, LONGEST) * free
        # a squared distance whose gradient is the pull
        moved = ((drawn - (found - pull).detach()) ** 2).sum(dim=(1, 2)) / 2
        kept = ((drawn - before) ** 2 * free).sum(dim=(1, 2))
        # of earlier steps the error in v, for their estimates of x_0 are vague
        _, sigma = self.denoiser.schedule(t)
        apart = (model(x_t, t, label, mask).x0 - earlier) / expand(sigma, drawn)
        same = (apart**2 * free).sum(dim=(1, 2))
        width = eps.shape[-1]
        return Loss(
            (moved + verdict + penalty + how.keep * (kept + same)) / width,
            free.sum(dim=(1, 2)) / width,
        )

    @torch.no_grad()
    def path(
        self, part: ConditionedBatch, label: Tensor, weight: Tensor, eps: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The way of the student as it was from noise ``eps`` (b, N, D): its state at the last
        level and its drawing, then its states and estimates of x_0 at its levels ``t`` (b,)."""
        model = self.teacher.model(part, weight)
        posed = Posed(model, Task(label, part.batch.mask, SketchNoise([])), eps.shape[-1])
        x, method = eps, Ddim()
        x_t, x0_t = torch.zeros_like(eps), torch.zeros_like(eps)
        for level, s in zip(self.grid.levels, [*self.grid.levels[1:], -1], strict=True):
            at, here = torch.full_like(t, level), (t == level)[:, None, None]
            last, out = x, posed(x, at)
            x_t, x0_t = torch.where(here, x, x_t), torch.where(here, out.x0, x0_t)
            x = method.step(posed, State(x, out), at, torch.full_like(t, s)).x
        return last, x, x_t, x0_t

    def blurs(self, part: ConditionedBatch, streams: Streams) -> tuple[Tensor, Tensor]:
        """Noise for two states (b, N, D): white on the points, ``how.blur`` px."""
        own, representation = part.batch, self.critic.representation
        noise, more = SketchNoise(streams.each(Stream.BLUR)), representation.implied
        lengths, width = [n + more for n in own.length.tolist()], own.xy.shape[1] + more
        blur = []
        for _ in range(2):
            points = noise.normal(lengths, width, 2).to(own.xy)
            xy = representation.filter(self.how.blur * points)
            blur.append(F.pad(xy, (0, PEN_STATES)))
        return blur[0], blur[1]


# -- training --------------------------------------------------------------------------------------
class RefineTrainer(PairTrainer):
    """Trains on the student that a checkpoint has already; its steps stay as many.

    Args:
        data: drawings of the checkpoint's classes.
        checkpoint: the model with its student.
        how: how to learn, and what counts how much.
        augment: random changes of drawings.
        device: where the networks live.

    Raises:
        UserError: a model without a student, one of consistency distillation, or other steps than
            the student's.
    """

    def __init__(
        self,
        data: PreparedSet,
        checkpoint: Checkpoint,
        how: RefineConfig,
        augment: AugmentConfig | None = None,
        device: str = "cpu",
    ) -> None:
        student, before = student_of(checkpoint), student_of(checkpoint)
        if student is None or before is None or student.way == "consistency":
            raise UserError(
                "refinement needs a model with a student whose steps lead to one another; make one"
                " with --stage distill or match"
            )
        if student.steps != how.steps:
            raise SettingError("steps", f"must be the student's {student.steps}, not {how.steps}")
        self.how = how
        null = len(checkpoint.config.classes)
        teacher = Teacher(frozen(before.denoiser, device), student.steps, null, (0.0, 1.0))
        super().__init__(data, checkpoint, teacher, student, student.way, how, augment, device)

    def objective_of(self, student: Denoiser) -> Refining:
        critic = LineCritic(self.model.codec.map)
        return Refining(Pair(student, critic), self.teacher, self.how)
