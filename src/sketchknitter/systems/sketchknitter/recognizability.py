"""Training of the recognizability stage: examples, networks, the table of inputs, calibration.

Everything is keyed by the seed and nothing is timed into the file, so that two runs with one seed
on one machine write the same bytes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.distort import turned
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion.denoiser import Denoised, expand
from sketchknitter.diffusion.guidance.classifier_free import Guided
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.scores import estimated_noise
from sketchknitter.diffusion.shortcut import Calibration
from sketchknitter.diffusion.timesteps import Grid
from sketchknitter.errors import UserError
from sketchknitter.metrics.prediction import Fit, along, bins, to_text
from sketchknitter.raster import render_batch
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.recognizers.recognizability import Recognizability, probability
from sketchknitter.recognizers.scorer import INPUTS, InputName, Scorer, seen
from sketchknitter.seeds import Stream, derived_seed, stream
from sketchknitter.settings import Settings, StageConfig, TrainingConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.model import DrawingModel
from sketchknitter.training.objective import Loss, Streams
from sketchknitter.training.optimizers import cosine_over_share
from sketchknitter.training.trainer import Trainer

TARGETS = ("estimate", "state")
Floats = NDArray[np.float64]
Report = Callable[[str, float], object]


@dataclass(frozen=True)
class Examples:
    """Moments of sampling with what the guide makes of them, n in all.

    Attributes:
        points: what each kind of input shows, (n, N, channels).
        noise, t, label, mask: as the network takes them; label counts the guide's classes.
        target: the guide's class probabilities of the ``estimate`` and of the ``state``, (n, C).
        sketch: which drawing each belongs to, (n,); one drawing never sits on both sides.
        reverse: whether the reverse process made it, (n,) bool.
    """

    points: dict[InputName, Tensor]
    noise: Tensor
    t: Tensor
    label: Tensor
    mask: Tensor
    target: dict[str, Tensor]
    sketch: Tensor
    reverse: Tensor

    @property
    def held_out(self) -> Tensor:
        """A fifth of the drawings, (n,) bool."""
        return self.sketch % 5 == 0


# -- examples --------------------------------------------------------------------------------------
def guide_labels(model: DrawingModel, guide: Recognizer) -> Tensor:
    """The guide's class of each of the model's labels, "no label" last; unknown ones are none."""
    known = {name: i for i, name in enumerate(guide.classes)}
    none = len(guide.classes)
    return torch.tensor([known.get(name, none) for name in model.classes] + [none])


def judged(model: DrawingModel, guide: Recognizer) -> list[int]:
    """The model's classes that the guide knows: of others it has no opinion to learn from."""
    labels = guide_labels(model, guide)[:-1]
    return torch.nonzero(labels < len(guide.classes))[:, 0].tolist()


def recognize(guide: Recognizer, codec: Codec, xy: Tensor, pen: Tensor, lengths: Tensor) -> Tensor:
    """The guide's class probabilities of drawings in model units, (B, C)."""
    pictures = render_batch(codec.decode(xy, pen, lengths), guide.size, width=guide.width)
    ink = 1 - torch.from_numpy(pictures).float()[:, None] / 255
    with torch.no_grad():
        return guide.probabilities(ink)


class _Gatherer:
    """Collects examples; drawings are numbered in the order of their batches."""

    def __init__(self, model: DrawingModel, guide: Recognizer) -> None:
        self.model, self.guide, self.codec = model, guide, model.config.codec
        self.labels = guide_labels(model, guide)
        self.rows: list[dict[str, Tensor]] = []

    def add(
        self, x_t: Tensor, out: Denoised, t: Tensor, task: sampling.Task, sketch: Tensor, back: bool
    ) -> None:
        width, mask = self.codec.max_points, task.mask
        lengths = mask.sum(dim=1)
        row = {"noise": estimated_noise(out, mask), "t": t, "label": self.labels[task.label]}
        row |= {"sketch": sketch, "reverse": torch.full_like(t, int(back))}
        row["mask"] = F.pad(mask, (0, width - mask.shape[1]))
        for name in INPUTS:
            points = seen(name, x_t, out, mask, self.codec.rho)
            row[f"points.{name}"] = F.pad(points, (0, 0, 0, width - mask.shape[1]))
        row["target.estimate"] = recognize(self.guide, self.codec, out.x0, out.pen, lengths)
        row["target.state"] = recognize(self.guide, self.codec, x_t, out.pen, lengths)
        self.rows.append(row)

    def examples(self) -> Examples:
        whole = {k: torch.cat([row[k] for row in self.rows]) for k in self.rows[0]}
        label = whole["label"]
        # a fifth learns without a label: there the score is that of the best class
        label = torch.where(torch.arange(len(label)) % 5 == 2, len(self.guide.classes), label)
        return Examples(
            {name: whole[f"points.{name}"] for name in INPUTS},
            whole["noise"],
            whole["t"],
            label,
            whole["mask"],
            {name: whole[f"target.{name}"] for name in TARGETS},
            whole["sketch"],
            whole["reverse"].bool(),
        )


def gather(
    model: DrawingModel,
    guide: Recognizer,
    data: PreparedSet | None,
    config: StageConfig,
    seed: int,
    report: Report,
) -> Examples:
    """Examples from forward noising and from reverse trajectories.

    Args:
        data: whose training drawings are noised; None noises drawings of the model's own.
        report: called with what goes on and which share of it is done.
    """
    into = _Gatherer(model, guide)
    batches = list(_clean(model, data, config.drawings, seed))
    for k, (x0, task, rng) in enumerate(batches):
        report("noising drawings", k / len(batches))
        t = torch.from_numpy(
            (rng.random(len(x0)) ** 1.5 * model.denoiser.schedule.steps).astype(int)
        )
        alpha, sigma = (expand(c, x0) for c in model.denoiser.schedule(t))
        x_t = alpha * x0 + sigma * task.normal(model.width)
        with torch.no_grad():
            out = model.denoiser(x_t, t, task.label, task.mask)
        into.add(x_t, out, t, task, torch.arange(len(t)) + 1_000_000 + 64 * k, False)
    total = -(-config.trajectories // 64)
    for k in range(total):
        rng = stream(seed, Stream.PHASE, k)
        number = np.arange(64 * k, min(config.trajectories, 64 * (k + 1)))
        levels = walk_levels(config.levels, model.denoiser.schedule.steps, float(rng.random()))
        walk = trajectory(model, number, levels, seed, Stream.REVERSE, classes=judged(model, guide))
        for j, f in enumerate(walk):
            report("walking trajectories", (k + j / len(levels)) / total)
            into.add(f.x_t, f.denoised, f.t, f.task, torch.from_numpy(number), True)
    return into.examples()


def walk_levels(count: int, total: int, phase: float) -> list[int]:
    """``count`` levels, denser near 0; the inner ones move with ``phase``, so that all are seen."""
    u = (np.arange(1, count - 1) + phase - 0.5) / (count - 1)
    inner = (total - 1) * u**1.5
    return [0, *(int(v) for v in inner), total - 1]


def trajectory(
    model: DrawingModel,
    numbers: NDArray[np.int64],
    levels: list[int],
    seed: int,
    purpose: Stream,
    label: int | None = None,
    classes: Sequence[int] | None = None,
) -> Iterator[sampling.Frame]:
    """Moments of the reverse process with the default sampler and guidance.

    Args:
        numbers: of the sketches; classes take turns unless ``label`` is given.
        classes: those that take turns; None is the model's usual ones.
        levels: visited.
        purpose: of the random streams.
    """
    settings = Settings().filled()
    # without classes the only label is "no label"
    usual = [model.classes.index(name) for name in model.usual_classes]
    turns = classes or usual or [0]
    labels = np.array([turns[n % len(turns)] if label is None else label for n in numbers])
    streams = [stream(seed, purpose, int(n)) for n in numbers]
    lengths = [model.draw_length(int(c), s) for c, s in zip(labels, streams, strict=True)]
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    task = sampling.Task(torch.from_numpy(labels), mask, SketchNoise(streams))
    wrapped: sampling.Model = Guided(
        model.denoiser, settings.guidance, len(model.classes), settings.interval
    )
    method = sampling.method(settings.sampler, settings.eta)
    grid = Grid(levels, model.denoiser.schedule.steps)
    steps = sampling.frames(wrapped, method, grid, task, task.normal(model.width))
    while True:
        with torch.no_grad():  # a generator must not leave it switched off between frames
            frame = next(steps, None)
        if frame is None:
            return
        yield frame


def _clean(
    model: DrawingModel, data: PreparedSet | None, count: int, seed: int
) -> Iterator[tuple[Tensor, sampling.Task, np.random.Generator]]:
    """Batches of clean states to be noised."""
    codec = model.config.codec
    place = {name: i for i, name in enumerate(model.classes)}
    if data is None:
        own = derived_seed(seed, Stream.OWN_DRAWING)
        sketches = model.sample(n=min(count, 512), seed=own, steps=20)
        rows = [s.to_stroke3() for s in sketches]
        labels = np.array([place.get(s.label or "", len(place)) for s in sketches])
    else:
        labels = np.array([place.get(name, len(place)) for name in data.classes] + [len(place)])
        chosen = stream(seed, Stream.FORWARD).permutation(len(data.train))
        fits = np.asarray(data.train.lengths)[chosen] <= codec.max_rows
        chosen = chosen[fits][:count]
        rows = data.train.take(chosen)
        labels = labels[np.asarray(data.train.labels)[chosen]]
    order = np.argsort([len(r) for r in rows], kind="stable")
    for k, part in enumerate(np.split(order, range(64, len(order), 64))):
        rng = stream(seed, Stream.FORWARD, 0, k)
        batch = codec.encode([rows[i] for i in part], labels[part])
        noise = SketchNoise([stream(seed, Stream.FORWARD, 1, int(i)) for i in part])
        yield (
            model.denoiser.state(batch.xy, batch.pen),
            sampling.Task(batch.label, batch.mask, noise),
            rng,
        )


# -- learning --------------------------------------------------------------------------------------
class Predicting:
    """The guide's class probabilities, and above all the scored one, from moments of sampling."""

    def __init__(self, examples: Examples, inputs: InputName, config: StageConfig) -> None:
        self.all, self.inputs, self.config = examples, inputs, config
        self.target = examples.target[config.target]
        self.network = Recognizability(INPUTS[inputs], self.target.shape[1], config.hidden)
        self.rows = torch.nonzero(~examples.held_out)[:, 0]

    def loss(self, batch: Tensor, streams: Streams) -> Loss:
        """Of the examples numbered ``batch`` (B,)."""
        mask = self.all.mask[batch]
        width = int(mask.sum(dim=1).max())
        mask, label = mask[:, :width], self.all.label[batch]
        points = turned(self.all.points[self.inputs][batch, :width], streams.whole(Stream.TURN))
        logits = self.network(points, self.all.noise[batch], self.all.t[batch], label, mask)
        p = self.target[batch]
        error = self.network.score(logits, label) - probability(p, label)
        each = -(p * logits.log_softmax(dim=-1)).sum(dim=-1) + 4 * error**2
        return Loss(each, torch.ones_like(each))


def fit(
    examples: Examples, inputs: InputName, config: StageConfig, seed: int, report: Report
) -> Recognizability:
    """A network that learns the guide's class probabilities, and above all the scored one."""
    torch.manual_seed(seed)
    objective = Predicting(examples, inputs, config)
    size = config.stage_batch

    def source(k: int) -> Tensor:
        return objective.rows[
            torch.from_numpy(stream(seed, Stream.ORDER, k).integers(len(objective.rows), size=size))
        ]

    learning = TrainingConfig(
        iterations=config.updates, batch_size=size, weight_decay=0.1, ema_rate="0", seed=seed
    )
    course = cosine_over_share(config.stage_lr, warmup=30, floor=0.01 * config.stage_lr)
    trainer = Trainer(objective, source, learning, course=course)
    for update in trainer.run():
        if update.iteration % 10 == 0:
            report(f"learning from {inputs}", update.iteration / config.updates)
    return objective.network.eval().requires_grad_(False)


def predict(network: Recognizability, examples: Examples, inputs: InputName) -> Floats:
    """Scores of all examples, (n,)."""
    with torch.no_grad():
        parts = [
            network.score(
                network(
                    examples.points[inputs][a : a + 256],
                    examples.noise[a : a + 256],
                    examples.t[a : a + 256],
                    examples.label[a : a + 256],
                    examples.mask[a : a + 256],
                ),
                examples.label[a : a + 256],
            )
            for a in range(0, len(examples.t), 256)
        ]
    return torch.cat(parts).double().numpy()


def by_line(examples: Examples, truth: Floats, total: int, degree: int) -> Floats:
    """Guess from t alone (degree 0), or from mean |eps| by a line in each bin of t (degree 1)."""
    place = bins(examples.t.numpy(), total)
    x, train = examples.noise.double().numpy(), ~examples.held_out.numpy()
    guess = np.full(len(x), truth[train].mean())
    for k in np.unique(place):
        own = place == k
        if (own & train).sum() > 8 and np.ptp(x[own & train]) > 1e-9:
            guess[own] = np.polyval(np.polyfit(x[own & train], truth[own & train], degree), x[own])
    return guess


# -- calibration and the whole stage --------------------------------------------------------------
def calibrate(
    model: DrawingModel,
    scorer: Scorer,
    classes: Sequence[int],
    config: StageConfig,
    seed: int,
    report: Report,
) -> Calibration:
    """r(t) and n(t) along fresh trajectories of 64 levels, means over sketches of ``classes``."""
    n = -(-config.trajectories // 2)
    total = model.denoiser.schedule.steps
    levels = sorted(set(walk_levels(64, total, 0.5)))
    r: dict[int, list[float]] = {t: [] for t in levels}
    noise: dict[int, list[float]] = {t: [] for t in levels}
    for a in range(0, n, 48):
        number = np.arange(a, min(a + 48, n))
        walk = trajectory(model, number, levels, seed, Stream.CALIBRATION, classes=classes)
        for j, f in enumerate(walk):
            report("calibrating", (a + 48 * j / len(levels)) / n)
            with torch.no_grad():
                score = scorer(f.x_t, f.denoised, f.t, f.task.label, f.task.mask)
            r[int(f.t[0])] += score.tolist()
            noise[int(f.t[0])] += estimated_noise(f.denoised, f.task.mask).tolist()
    return Calibration(
        tuple(levels),
        tuple(round(float(np.mean(r[t])), 5) for t in levels),
        tuple(round(float(np.mean(noise[t])), 5) for t in levels),
        config.warp_weight,
    )


def run_stage(
    model_path: str | os.PathLike[str],
    data: PreparedSet | None = None,
    *,
    config: StageConfig | None = None,
    guide: Recognizer | None = None,
    seed: int = 0,
    report: Report = lambda what, share: None,
) -> str:
    """Train the recognizability stage of a checkpoint and store it in the same file.

    Args:
        model_path: a model file; rewritten whole or not at all.
        data: whose training drawings are noised; None noises drawings of the model's own.
        guide: whose opinion is learned; None is the shipped one.
        report: called with what goes on and which share of it is done.

    Returns:
        Tables of which inputs predict best, as text for the terminal.

    Raises:
        UserError: no model there, no guide weights, or settings that leave nothing to learn from.
    """
    config = config or StageConfig()
    if min(config.drawings, config.trajectories) < 8 or config.levels < 3 or config.updates < 1:
        raise UserError("the stage needs >= 8 drawings and trajectories, 3 levels and 1 update")
    checkpoint = Checkpoint.load(model_path)
    guide = guide or Recognizer.load()
    model = DrawingModel(checkpoint)
    total = model.denoiser.schedule.steps
    examples = gather(model, guide, data, config, seed, report)
    truth = {k: probability(v, examples.label).double().numpy() for k, v in examples.target.items()}
    names: list[InputName] = list(INPUTS) if config.inputs == "best" else [config.inputs]
    test, t = examples.held_out.numpy(), examples.t.double().numpy()
    own = truth[config.target]
    fits = [
        along(name, guess[test], own[test], t[test], total)
        for name, guess in (
            ("time", by_line(examples, own, total, 0)),
            ("noise", by_line(examples, own, total, 1)),
        )
    ]
    networks = {}
    for name in names:
        networks[name] = fit(examples, name, config, seed, report)
        guess = predict(networks[name], examples, name)
        fits.append(along(name, guess[test], own[test], t[test], total))
    chosen = names[int(np.argmax([np.nan_to_num(f.r2[-1], nan=-9.0) for f in fits[2:]]))]
    text = [to_text(fits, f"predicting the guide's verdict on the {config.target}", test.sum())]
    for way, rows in (
        ("forward", ~examples.reverse.numpy()),
        ("reverse", examples.reverse.numpy()),
    ):
        part = test & rows
        guess = predict(networks[chosen], examples, chosen)
        text.append(
            to_text([along(chosen, guess[part], own[part], t[part], total)], way, part.sum())
        )
    network = networks[chosen]
    scorer = Scorer(network, chosen, model.config.codec.rho, guide_labels(model, guide))
    calibration = calibrate(model, scorer, judged(model, guide), config, seed, report)
    store(checkpoint, network, chosen, guide.classes, calibration, config, fits)
    checkpoint.save(model_path)
    return "\n\n".join([*text, f"kept: {chosen}"])


def store(
    checkpoint: Checkpoint,
    network: Recognizability,
    inputs: InputName,
    classes: tuple[str, ...],
    calibration: Calibration,
    config: StageConfig,
    fits: list[Fit],
) -> None:
    """Put the stage into a checkpoint: weights among its extras, the rest in its notes."""
    kept = {k: v for k, v in checkpoint.extras.items() if not k.startswith("recognizability.")}
    weights = {f"recognizability.{k}": v for k, v in network.state_dict().items()}
    checkpoint.extras = kept | weights
    checkpoint.notes["recognizability"] = {
        "network": network.options(),
        "inputs": inputs,
        "classes": list(classes),
        "rest": calibration.noise[0],
        "config": dataclasses.asdict(config),
        "fits": [f.to_dict() for f in fits],
    }
    warp = calibration.warp(checkpoint.config.diffusion.diffusion_steps)
    checkpoint.notes["shortcut"] = calibration.to_dict() | {
        "warp": [round(float(warp[t]), 5) for t in calibration.levels]
    }
