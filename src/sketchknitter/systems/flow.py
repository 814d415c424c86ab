"""Flow matching with our own network: what the diffusion itself is worth.

Papers: Y. Lipman, R. Chen, H. Ben-Hamu, M. Nickel and M. Le, *Flow Matching for Generative
Modeling*, ICLR 2023; X. Liu, C. Gong and Q. Liu, *Flow Straight and Fast*, ICLR 2023 (rectified
flow). No released code for drawings is known to us; this row is ours.

What it does
    Everything but the path is that of our own default row: leaky offsets and pen bits as the state,
    the 1-D U-Net, the number of points drawn from the data, label dropout and classifier-free
    guidance. State and noise are joined by a straight line, x_u = (1 - u) x_0 + u eps, u uniform in
    0 … 1 (stratified over the batch), and the network learns the velocity eps - x_0.
Learning
    Squared error of the velocity, averaged over channels and over the valid points of the batch.
Drawing
    dx/du = velocity from u = 1 to 0 on an even grid, by Euler's method (an evaluation each step) or
    Heun's (two). A given drawing is healed by noising it to u = strength and flowing back.

Where it differs from our own row
    The path and the target alone: no noise schedule, no T. The network is given 1000 u, the scale
    of the levels that it is made for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.diffusion.denoiser import BitPens, read_pens
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.errors import UserError
from sketchknitter.representation import Representation
from sketchknitter.seeds import Stream
from sketchknitter.settings import BackboneConfig
from sketchknitter.sketch import Sketch
from sketchknitter.systems.drawing import DrawingGenerator, Request, drawn_lengths
from sketchknitter.systems.learning import (
    Encoded,
    Habits,
    LearnedSystem,
    Learner,
    Rows,
    check_choice,
    length_counts,
)
from sketchknitter.systems.sketchknitter.config import build_backbone
from sketchknitter.systems.stored import Stored
from sketchknitter.training.objective import Loss, Streams

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x (B, N, D), u (B,)) -> dx/du
SolverName = Literal["euler", "heun"]
SCALE = 1000.0  # of u, as the network is given it


def between(x0: Tensor, eps: Tensor, u: Tensor) -> Tensor:
    """x_u on the line from state to noise, (B, N, D), at u (B,)."""
    share = u.to(x0)[:, None, None]
    return (1 - share) * x0 + share * eps


def losses(velocity: Tensor, x0: Tensor, eps: Tensor, mask: Tensor) -> Tensor:
    """Loss of each point, (B, N): squared error of the velocity, mean over channels."""
    return (velocity - (eps - x0)).float().square().mean(dim=-1) * mask


def guided(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Classifier-free guidance of a velocity (Ho & Salimans 2022)."""
    return unconditional + weight * (conditional - unconditional)


def solve(
    velocity: Velocity, x: Tensor, steps: int, solver: SolverName = "euler", start: float = 1.0
) -> Tensor:
    """x at u = 0, from x at u = ``start``, in ``steps`` even steps.

    Args:
        velocity: asked once a step by ``euler``, twice by ``heun``.

    Raises:
        UserError: an unknown solver, or no steps.
    """
    if solver not in ("euler", "heun"):
        raise UserError(f"no solver {solver!r}; one of: euler, heun")
    if steps < 1:
        raise UserError(f"steps must be at least 1, not {steps}")
    grid = torch.linspace(start, 0.0, steps + 1, dtype=torch.float64).tolist()
    for u, v in pairwise(grid):
        slope = velocity(x, x.new_full((len(x),), u))
        there = x + (v - u) * slope
        if solver == "heun":
            slope = (slope + velocity(there, x.new_full((len(x),), v))) / 2
            there = x + (v - u) * slope
        x = there
    return x


class FlowNetwork(nn.Module):
    """A backbone read as a velocity.

    Args:
        backbone: (x (B, N, D_in), t (B,), label (B,), mask (B, N)) -> (B, N, D).
        positions: of a state (B, N, D) -> (B, N, 2), shown beside it; None shows the state alone.
    """

    def __init__(self, backbone: nn.Module, positions: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.backbone, self.positions = backbone, positions

    def forward(self, x: Tensor, u: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        """Velocity (B, N, D) at x (B, N, D), u (B,) in 0 … 1."""
        seen = x if self.positions is None else torch.cat([x, self.positions(x)], dim=-1)
        return self.backbone(seen, u * SCALE, label, mask).float()


# -- the system ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class FlowMatching(LearnedSystem):
    """Flow matching; what the options are is said at the top of this file.

    Attributes:
        network: the backbone. Both sizes are the same; they differ in how long they learn.
        points: N, the longest drawing in stroke-3 rows; longer ones are left out.
    """

    network: BackboneConfig = field(default_factory=BackboneConfig)
    points: int = 96

    def __post_init__(self) -> None:
        check_choice("size", self.size, ("published", "cpu"))

    @property
    def codec(self) -> Codec:
        """Our default row's, without a scale."""
        return Codec(max_rows=self.points)

    def habits(self, drawings: int = 1) -> Habits:
        if self.size == "cpu":
            return Habits(updates=4_000, batch_size=64)
        return Habits(updates=60_000, batch_size=128, ema=0.9999)

    def fitting(self, data: PreparedSet) -> Callable[[NDArray[Any]], bool]:
        return lambda rows: 1 <= len(rows) <= self.points

    def learner(self, data: PreparedSet) -> FlowLearner:
        return FlowLearner(self, data)

    def build(self, classes: int) -> FlowNetwork:
        """A fresh network."""
        leak, width = self.codec.rho, 2 + BitPens.channels
        backbone = build_backbone(self.network, width + 2, width, classes, self.codec.max_points)
        return FlowNetwork(backbone, Representation(leak).unit_positions)

    def generator(self, stored: Stored, device: str) -> FlowGenerator:
        return FlowGenerator(self, stored, device)


def encode(codec: Codec, rows: Rows, labels: NDArray[np.int64]) -> Encoded:
    """Stroke-3 drawings in px -> leaky offsets and pen bits."""
    batch = codec.encode(rows, labels)
    bits = BitPens().encode(batch.pen) * batch.mask[..., None]
    return Encoded(torch.cat([batch.xy, bits], dim=-1), batch.mask, batch.label)


class FlowLearner(Learner):
    """One training of the flow."""

    def __init__(self, system: FlowMatching, data: PreparedSet) -> None:
        super().__init__()
        self.codec = system.codec.fitted(data.train.take(range(len(data.train))))
        self.facts = {"unit": self.codec.scale}
        lengths = np.asarray(data.train.lengths)
        self.extras["lengths"] = length_counts(
            lengths, np.asarray(data.train.labels), len(data.classes), system.points
        )
        self.network = system.build(len(data.classes))

    def encode(self, rows: Rows, labels: NDArray[np.int64]) -> Encoded:
        return encode(self.codec, rows, labels)

    def loss(self, batch: Encoded, streams: Streams) -> Loss:
        rng = streams.whole(Stream.LEVEL)
        strata = (rng.permutation(streams.size) + rng.random(streams.size)) / streams.size
        u = torch.from_numpy(strata[streams.rows]).to(batch.x)
        lengths = batch.mask.sum(dim=1)
        _, n, width = batch.x.shape
        noise = SketchNoise(streams.each(Stream.NOISE)).normal(lengths.tolist(), n, width)
        eps = noise.to(batch.x)
        velocity = self.network(between(batch.x, eps, u), u, batch.label, batch.mask)
        return Loss(losses(velocity, batch.x, eps, batch.mask).sum(dim=1), lengths)


class FlowGenerator(DrawingGenerator):
    """Flows from noise to drawing; heals by flowing back from part of the way.

    Settings:
        steps: of the solver.
        solver: "euler" or "heun" (two evaluations a step).
        guidance: weight of classifier-free guidance; 1 is none.
        strength: how far a source is noised, u.
        pen_break: probability of "lift" above which the pen lifts.
    """

    name = "Flow matching"
    tasks = ("draw", "heal")
    settings: ClassVar[Mapping[str, Any]] = {
        "steps": 12,
        "solver": "euler",
        "guidance": 3.0,
        "strength": 0.4,
        "pen_break": 0.5,
    }

    def __init__(self, system: FlowMatching, stored: Stored, device: str) -> None:
        super().__init__(stored.classes, device)
        self.system, self.stored = system, stored
        self.network = stored.fill(system.build(len(stored.classes)), device)
        self.codec = dataclasses.replace(system.codec, scale=float(stored.facts["unit"]))

    def check(self, settings: Mapping[str, Any]) -> None:
        check_choice("solver", settings["solver"], ("euler", "heun"))
        if settings["steps"] < 1:
            raise UserError(f"steps must be at least 1, not {settings['steps']}")
        if not 0 < settings["strength"] <= 1:
            raise UserError(f"strength must lie between 0 and 1, not {settings['strength']}")
        if settings["guidance"] < 0:
            raise UserError(f"guidance must not be negative, not {settings['guidance']}")

    def draw(self, request: Request) -> list[Sketch]:
        given, noise, settings = request.settings, request.noise(), request.settings
        width, start = 2 + BitPens.channels, 1.0
        label, names = request.label, [None] * len(request.numbers)
        origins = [np.zeros(2)] * len(request.numbers)
        if request.source is None:
            counts = self.stored.extras["lengths"].numpy()
            rows = drawn_lengths(counts, label.tolist(), request.streams(Stream.LENGTH))
            lengths = torch.tensor(rows) + self.codec.extra
            n = int(lengths.max())
            x = noise.normal(lengths.tolist(), n, width)
        else:
            made = encode(self.codec, [s.to_stroke3() for s in request.source], label.cpu().numpy())
            lengths, n = made.mask.sum(dim=1), made.x.shape[1]
            start = float(given["strength"])
            eps = noise.normal(lengths.tolist(), n, width)
            x = between(made.x, eps, torch.full((len(eps),), start))
            boxes = [s.bounds for s in request.source]
            origins = [np.array([(a + c) / 2, (b + d) / 2]) for a, b, c, d in boxes]
        mask = (torch.arange(n) < lengths[:, None]).to(self.device)
        weight, null = float(settings["guidance"]), len(self.classes)
        steerable = weight != 1 and bool((label != null).any())

        def velocity(state: Tensor, u: Tensor) -> Tensor:
            self.evaluations += len(state) * (2 if steerable else 1)
            conditional = self.network(state, u, label, mask)
            if not steerable:
                return conditional
            plain = self.network(state, u, torch.full_like(label, null), mask)
            return guided(conditional, plain, weight)

        x = solve(velocity, x.to(self.device), int(given["steps"]), given["solver"], start)
        pens = read_pens(x, None)
        sketches = self.codec.decode(x[..., :2], pens, lengths, names, float(given["pen_break"]))
        return [s.transformed(1.0, o) for s, o in zip(sketches, origins, strict=True)]
