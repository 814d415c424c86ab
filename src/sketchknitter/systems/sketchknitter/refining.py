"""Training of the refiner: lines of a student's drawings come to be distributed as people's.

The student draws some thousand drawings once. Then the windows of their lines
(:mod:`~sketchknitter.systems.sketchknitter.windows`) are compared with those of people's drawings,
by the sliced Wasserstein distance: no second network has to be fooled, and what is left to learn
can be measured. A squared distance keeps every point close to where the student put it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.errors import UserError
from sketchknitter.metrics.statistics import stroke_statistics, wasserstein
from sketchknitter.seeds import Stream, derived_seed, stream
from sketchknitter.settings import RefineConfig, TrainingConfig
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.model import DrawingModel, SamplingProgress
from sketchknitter.systems.sketchknitter.refiner import PREFIX, Refiner, without_refiner
from sketchknitter.systems.sketchknitter.student import student_of
from sketchknitter.systems.sketchknitter.windows import FEATURES, distance, windows
from sketchknitter.training.objective import Loss, Streams
from sketchknitter.training.optimizers import cosine_over_share
from sketchknitter.training.trainer import Trainer

AXES = 16  # random directions of an update, beside one for each feature
TURN, TURN_WEIGHT = 3, 2.0  # the feature that a window is about, and how much more it counts
HELD_OUT = 5  # of so many drawings one is not learned from
Report = Callable[[str, float], object]


@dataclasses.dataclass(frozen=True)
class Lines:
    """Drawings as points and lines between them, padded to the longest.

    Attributes:
        points: (B, P, 2), px.
        drawn: whether a line leads from a point to the next, (B, P - 1) bool.
        mask: valid points, (B, P) bool.
    """

    points: Tensor
    drawn: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: Tensor | slice) -> Lines:
        """Some of them, no wider than they need be."""
        mask = self.mask[rows]
        width = max(int(mask.sum(dim=1).max()), 2)
        points, drawn = self.points[rows, :width], self.drawn[rows, : width - 1]
        return Lines(points, drawn, mask[:, :width])

    def to(self, device: torch.device | str) -> Lines:
        return Lines(self.points.to(device), self.drawn.to(device), self.mask.to(device))

    @classmethod
    def of(cls, sketches: Sequence[Sketch]) -> Lines:
        """Those of sketches."""
        points = [torch.from_numpy(s.points.astype(np.float32)) for s in sketches]
        ends = [np.cumsum([len(stroke) for stroke in s.strokes]) for s in sketches]
        down = [torch.ones(len(p), dtype=torch.bool) for p in points]
        for one, last in zip(down, ends, strict=True):
            one[last - 1] = False
        mask = pad_sequence([torch.ones(len(p), dtype=torch.bool) for p in points], True)
        return cls(pad_sequence(points, True), pad_sequence(down, True)[:, :-1], mask)

    def sketches(self) -> list[Sketch]:
        """The drawings again."""
        out = []
        for points, drawn, mask in zip(self.points, self.drawn, self.mask, strict=True):
            n = int(mask.sum())
            cuts = np.flatnonzero(~drawn[: n - 1].numpy()) + 1
            out.append(Sketch(np.split(points[:n].double().numpy(), cuts)))
        return out


class Refining:
    """The loss of a refiner.

    Args:
        refiner: what learns.
        drawings: what the student drew.
        human: windows of people's lines, (m, FEATURES).
        config: how much what counts.
        seed: of the axes and of the windows compared with.
    """

    def __init__(
        self, refiner: Refiner, drawings: Lines, human: Tensor, config: RefineConfig, seed: int
    ) -> None:
        self.network, self.drawings, self.config, self.seed = refiner, drawings, config, seed
        # every feature counts by how much it varies among people's
        self.scale = 1 / human.std(dim=0).clamp(min=1e-3)
        self.scale[TURN] *= TURN_WEIGHT
        self.human = human * self.scale

    def loss(self, batch: Tensor, streams: Streams) -> Loss:
        """Of the drawings numbered ``batch`` (b,)."""
        drawings = self.drawings[batch]
        moved = self.network(drawings.points, drawings.drawn, drawings.mask)
        found = windows(moved, drawings.drawn) * self.scale
        rng = stream(self.seed, Stream.LINES, 2, streams.update)
        chosen = torch.from_numpy(rng.integers(len(self.human), size=2 * len(found)))
        axes = torch.from_numpy(rng.standard_normal((FEATURES, AXES))).float()
        axes = torch.cat([axes / axes.norm(dim=0), torch.eye(FEATURES)], dim=1)
        far = FEATURES * distance(found, self.human[chosen], axes)
        # of padding nothing is counted: it does not move
        gone = (moved - drawings.points).square().sum(dim=(1, 2))
        count = drawings.mask.sum(dim=1)
        return Loss(self.config.keep * gone + far * count, count)


def run_stage(
    model_path: str | os.PathLike[str],
    data: PreparedSet,
    *,
    config: RefineConfig | None = None,
    seed: int = 0,
    report: Report = lambda what, share: None,
) -> str:
    """Train the refiner of a checkpoint's student and store it in the same file.

    Args:
        model_path: a model file with a student; rewritten whole or not at all.
        data: whose training drawings show how people's lines go.
        report: called with what goes on and which share of it is done.

    Returns:
        How far turning angles were from people's on drawings that were not learned from, before
        and after, as text for the terminal.

    Raises:
        UserError: no such model, a model without a student, or drawings without a single turn.
    """
    config = config or RefineConfig()
    checkpoint = Checkpoint.load(model_path)
    checkpoint.extras = without_refiner(checkpoint)
    if student_of(checkpoint) is None:
        raise UserError(
            f"{model_path}: only a student's lines are refined; make one with `sketchknitter train"
            " --stage distill` first"
        )
    people = _human(data.train, config.drawings, seed)
    human = windows(people.points, people.drawn)
    drawn = _drawn(DrawingModel(checkpoint), config.drawings, seed, report)
    own = torch.arange(len(drawn)) % HELD_OUT > 0
    if not len(human) or not len(windows(drawn.points[own], drawn.drawn[own])):
        raise UserError("the drawings have no line that turns: there is nothing to learn")
    refiner = fit(drawn[own], human, config, seed, report)
    rest = drawn[~own]
    with torch.no_grad():
        after = dataclasses.replace(rest, points=refiner(rest.points, rest.drawn, rest.mask))
    angles = [
        stroke_statistics(lines.sketches())["turning_angle"] for lines in (people, rest, after)
    ]
    far = [round(wasserstein(angles[0], a), 3) for a in angles[1:]]
    moved = (after.points - rest.points).norm(dim=-1)[rest.mask].median()
    checkpoint.extras |= {PREFIX + k: v for k, v in refiner.state_dict().items()}
    checkpoint.notes["refiner"] = {
        "config": dataclasses.asdict(config),
        "seed": seed,
        "data": data.fingerprint,
        "turning_angle": far,
        "moved": round(float(moved), 3),
    }
    checkpoint.save(model_path)
    return (
        f"turning angles, degrees from people's on {len(rest)} drawings not learned from:"
        f" {far[0]:.2f} before, {far[1]:.2f} after; points moved by {moved:.2f} px in the median"
    )


def fit(drawn: Lines, human: Tensor, config: RefineConfig, seed: int, report: Report) -> Refiner:
    """A refiner of drawings like ``drawn``, whose windows come to be like ``human`` (m, FEATURES).

    The same arguments give the same weights.
    """
    torch.manual_seed(derived_seed(seed, Stream.LINES, 3))
    objective = Refining(Refiner(config.width), drawn, human, config, seed)
    size = min(config.stage_batch, len(drawn))

    def source(k: int) -> Tensor:
        order = stream(seed, Stream.ORDER, k).permutation(len(drawn))
        return torch.from_numpy(order[:size])

    learning = TrainingConfig(
        iterations=config.updates, batch_size=size, weight_decay=0.0, ema_rate="0", seed=seed
    )
    course = cosine_over_share(config.stage_lr, warmup=30, floor=0.01 * config.stage_lr)
    trainer = Trainer(objective, source, learning, course=course)
    for update in trainer.run():
        if update.iteration % 5 == 0:
            report("learning clean lines", update.iteration / config.updates)
    return objective.network.eval().requires_grad_(False)


def _human(split: Split, count: int, seed: int) -> Lines:
    """Some training drawings."""
    order: NDArray[np.int64] = stream(seed, Stream.LINES, 0).permutation(len(split))
    return Lines.of([split.sketch(int(i)) for i in order[:count]])


def _drawn(model: DrawingModel, count: int, seed: int, report: Report) -> Lines:
    """Drawings of the model's student, of all usual classes in turn."""

    def tell(progress: SamplingProgress) -> None:
        report("drawing", progress.done / progress.total)

    own = derived_seed(seed, Stream.LINES, 1)
    return Lines.of(model.sample(n=count, seed=own, progress=tell))
