"""Training a model of the family with the common trainer, and what is kept of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.data.loader import Loader
from sketchknitter.errors import UserError
from sketchknitter.files import MODEL
from sketchknitter.metrics.fid import frechet_distance
from sketchknitter.raster import render_batch
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.autoregressive.decoder import parameter_count
from sketchknitter.systems.autoregressive.design import Design, Inputs
from sketchknitter.systems.autoregressive.generator import Facts, StrokeGenerator
from sketchknitter.systems.autoregressive.model import StrokeModel
from sketchknitter.systems.contract import System, TrainRecord
from sketchknitter.systems.mixture import CodeMixture
from sketchknitter.systems.stored import Stored
from sketchknitter.training.objective import Loss, Streams
from sketchknitter.training.optimizers import Clip, clip_values
from sketchknitter.training.run import Saved
from sketchknitter.training.saving import finite, loss_words, preview
from sketchknitter.training.trainer import Trainer

JUDGED = 256  # drawings of each split that a save measures the loss on
CODED = 8192  # training drawings whose codes a mixture is fitted to
COMPARED = 300  # drawings that a temperature is chosen by
LEAST = 50  # validation drawings without which no temperature is chosen
PREVIEW = 16  # drawings
USUAL = 0.6  # temperature where none was chosen


# -- batches -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class StrokeBatch:
    """Drawings as the network takes them, and their class numbers (B,)."""

    inputs: Inputs
    label: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def to(self, device: Any) -> StrokeBatch:
        return StrokeBatch(self.inputs.to(device), self.label.to(device))

    def __getitem__(self, part: slice) -> StrokeBatch:
        return StrokeBatch(self.inputs[part], self.label[part])


@dataclass(frozen=True)
class Source:
    """The batch of an update: a pure function of its number.

    Attributes:
        design: of the system.
        loader: says which drawings.
        longest: rows of the longest drawing.
        scale: px of one model unit.
    """

    design: Design[Any]
    loader: Loader
    longest: int
    scale: float

    @classmethod
    def of(
        cls,
        design: Design[Any],
        split: Split,
        longest: int,
        scale: float,
        batch_size: int,
        seed: int,
        rank: int,
        world: int,
    ) -> Source:
        pool = 24 if design.trimmed else 1  # drawings of similar lengths where that saves work
        loader = Loader(
            split,
            Codec("offset", max_rows=longest),
            batch_size,
            len(split.classes),
            seed=seed,
            pool=pool,
            rank=rank,
            world=world,
        )
        return cls(design, loader, longest, scale)

    def __call__(self, update: int) -> StrokeBatch:
        loader = self.loader
        mine = range(loader.rank, loader.batch_size, loader.world)
        chosen = loader.indices(update)[loader.rank :: loader.world]
        rows = loader.data.take(chosen)
        streams = [stream(loader.seed, Stream.AUGMENTATION, update, j) for j in mine]
        inputs = self.design.inputs(rows, self.longest, self.scale, streams=streams)
        labels = np.asarray(loader.data.labels)[chosen].astype(np.int64)
        places = stream(loader.seed, Stream.LABEL_DROP, update).random(loader.batch_size)
        dropped = places[list(mine)] < self.design.label_dropout
        labels[(labels < 0) | dropped] = loader.classes
        return StrokeBatch(inputs, torch.from_numpy(labels))

    def plain(self, split: Split, limit: int, size: int = 64) -> Iterator[StrokeBatch]:
        """Up to ``limit`` drawings of a split as they are, always the same ones."""
        chosen = stream(0, Stream.VALIDATION).permutation(len(split))[:limit]
        for first in range(0, len(chosen), size):
            part = chosen[first : first + size]
            inputs = self.design.inputs(split.take(part), self.longest, self.scale)
            labels = np.asarray(split.labels)[part].astype(np.int64)
            labels[labels < 0] = self.loader.classes
            yield StrokeBatch(inputs, torch.from_numpy(labels))


# -- the objective -------------------------------------------------------------------------------
class StrokeObjective:
    """The loss of a network of the family.

    The weight of the KL term follows the course of training, which :meth:`rate` is asked for before
    every update; where nothing is learned (held-out losses) it is that of the limit, so that the
    losses of two moments differ by the weights of the network alone.
    """

    def __init__(self, design: Design[Any], classes: int) -> None:
        self.design = design
        self.network: StrokeModel = design.build(design.sizes, classes)
        self._weight = 0.0

    def rate(self, updates: int, share: float) -> float:
        """Learning rate of the update after so many others."""
        step = self.design.step(updates, share)
        self._weight = self.design.divergence.at(step) if self.design.divergence else 0.0
        return self.design.learning_rate(updates, share)

    def loss(self, batch: StrokeBatch, streams: Streams) -> Loss:
        noise = [rng.standard_normal(self.network.latent) for rng in streams.each(Stream.NOISE)]
        drawn = torch.from_numpy(np.stack(noise)).float().to(batch.label.device)
        weight = self._weight
        if not self.network.training and self.design.divergence is not None:
            weight = self.design.divergence.weight
        each = self.design.loss(self.network, batch.inputs, batch.label, drawn, weight)
        return Loss(each, torch.ones_like(each))


def adam(network: nn.Module) -> torch.optim.Optimizer:
    """Adam with the defaults of TensorFlow and torch: 0.9, 0.999, 1e-8, no decay."""
    learned = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.Adam(learned, lr=1e-3, fused=True)


def clip_of(design: Design[Any], network: StrokeModel) -> Clip:
    """How the system clips its gradients."""
    if design.clip == "value":
        return clip_values(1.0)
    assert network.encoder is not None
    encoder = list(network.encoder.parameters())
    own = set(encoder)
    groups = (encoder, [p for p in network.parameters() if p not in own])

    def clip(parameters: Sequence[nn.Parameter]) -> float:
        del parameters  # all of them, in two groups
        return math.hypot(*(float(nn.utils.clip_grad_norm_(g, 1.0)) for g in groups))

    return clip


# -- what is kept --------------------------------------------------------------------------------
class StrokeProducts:
    """The model, its codes' mixture and its temperature; losses and a preview at each full save.

    Args:
        trainer: whose weights are kept.
        source: of its batches.
        data: validation drawings choose mixture and temperature.
        system: whose model it is.
        made: what the model's file shall say of how it was made.
    """

    def __init__(
        self,
        trainer: Trainer[StrokeObjective],
        source: Source,
        data: PreparedSet,
        system: System,
        made: Mapping[str, Any] | None = None,
    ) -> None:
        self.trainer, self.source, self.data = trainer, source, data
        self.system, self.made = system, dict(made or {})
        self.design = source.design
        self.losses: dict[str, float] = {}
        self.temperature = USUAL
        self.distances: dict[str, float] = {}
        self.mixture: CodeMixture | None = None
        extents = [_extent(rows) for rows in data.train.take(np.arange(min(2000, len(data.train))))]
        self.extent = float(np.median(extents)) or 1.0

    def resume(self, folder: Path) -> None:
        """Take up temperature, mixture and losses of the folder's model."""
        if (folder / MODEL).exists():
            earlier = Stored.read(folder / MODEL)
            facts = Facts.of(earlier)
            self.temperature, self.losses = facts.temperature, facts.losses
            self.distances = facts.temperatures
            if "mixture.means" in earlier.extras:
                self.mixture = CodeMixture.from_tensors(earlier.extras)

    def save(self, folder: Path, brief: bool) -> Saved:
        """Write ``model.safetensors`` and, unless ``brief``, losses and a preview.

        The mixture's number of components and the temperature are chosen when the training is
        over; until then a single Gaussian for each class will do.
        """
        trainer, source = self.trainer, self.source
        over = trainer.done and not brief
        if self.design.prior == "mixture" and (not brief or self.mixture is None):
            self.mixture = self._mixture(over)
        if not brief:
            held_out = trainer.held_out(source.plain(self.data.valid, JUDGED))
            seen = trainer.held_out(source.plain(self.data.train, JUDGED))
            found = {"train_loss": seen, "valid_loss": held_out}
            self.losses = finite(found)
        if over:
            self._choose_temperature()
        self.stored(finished=over).save(folder / MODEL)
        if brief:
            return Saved()
        chosen = f"; temperature {self.temperature:g}" if self.distances and over else ""
        picture = preview(
            folder,
            trainer.iteration,
            lambda: list(self.generator().generate(PREVIEW)),
            captions=bool(self.data.classes),
        )
        return Saved(self.losses, f"{loss_words(self.losses)}{chosen}{picture}")

    def stored(self, finished: bool = False) -> Stored:
        """The model as it would be saved now.

        Args:
            finished: nothing is left to be learned or chosen.
        """
        trainer = self.trainer
        facts = Facts(
            scale=self.source.scale,
            longest=self.source.longest,
            extent=self.extent,
            temperature=self.temperature,
            temperatures=self.distances,
            losses=self.losses,
            finished=finished,
            made={
                "device": trainer.device.type,
                "torch": torch.__version__,
                "data": self.data.fingerprint,
                "drawings": len(self.data.train),
                "seed": trainer.config.seed,
                **self.made,
            },
        )
        record = TrainRecord(
            parameters=parameter_count(trainer.network),
            updates=trainer.iteration,
            batch_size=trainer.config.batch_size,
            seconds=round(trainer.seconds, 1),
            cpu=round(trainer.cpu, 1),
            threads=torch.get_num_threads(),
        )
        return Stored.of(
            self.system,
            self.data.classes,
            weights=trainer.weights(),
            extras=self.mixture.tensors() if self.mixture is not None else {},
            facts=dataclasses.asdict(facts),
            record=record,
        )

    def generator(self) -> StrokeGenerator:
        """The model as it stands, drawing."""
        return StrokeGenerator(self.design, self.stored(), str(self.trainer.device))

    def _mixture(self, over: bool) -> CodeMixture:
        generator = self.generator()
        split, valid = self.data.train, self.data.valid
        codes, labels = self._codes(generator, split, CODED)
        held_out = self._codes(generator, valid, CODED) if over and len(valid) else None
        if not np.isfinite(codes).all():
            raise UserError("the encoder's codes are not finite: the training went astray")
        if held_out is None:
            return CodeMixture.fit(codes, labels, components=(1,))
        return CodeMixture.fit(codes, labels, held_out)

    def _codes(
        self, generator: StrokeGenerator, split: Split, limit: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Codes (n, Z), drawn from their Gaussians as in training, and class numbers (n,)."""
        chosen = np.sort(stream(0, Stream.MIXTURE).permutation(len(split))[:limit])
        parts = []
        for first in range(0, len(chosen), 128):
            rows = split.take(chosen[first : first + 128])
            mean, log_variance = (v.double().cpu().numpy() for v in generator.encoded(rows))
            noise = stream(0, Stream.MIXTURE, first).standard_normal(mean.shape)
            parts.append(mean + np.exp(log_variance / 2) * noise)
        return np.concatenate(parts), np.asarray(split.labels)[chosen].astype(np.int64)

    def _choose_temperature(self) -> None:
        """That under which new drawings are closest to validation drawings, as the guide sees them.

        The judge that measures has no part in it.
        """
        valid = self.data.valid
        if len(valid) < LEAST:
            return
        chosen = stream(0, Stream.TEMPERATURE).permutation(len(valid))[:COMPARED]
        guide = Recognizer.load()
        real = _features(guide, [valid.sketch(int(i)) for i in chosen])
        labels = [valid.label(int(i)) for i in chosen]
        named = [label for label in labels if label is not None]
        generator = self.generator()
        for temperature in self.design.temperatures:
            drawn = list(
                generator.generate(
                    len(chosen),
                    labels=named if len(named) == len(chosen) else None,
                    seed=1,
                    batch_size=128,
                    temperature=temperature,
                )
            )
            gap = frechet_distance(real, _features(guide, drawn))
            self.distances[f"{temperature:g}"] = round(gap, 4)
        self.temperature = float(min(self.distances, key=lambda t: self.distances[t]))


def _extent(rows: NDArray[Any]) -> float:
    """Longer side of a drawing's bounding box, px."""
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(rows[:, :2], axis=0, dtype=np.float64)])
    return float(np.ptp(points, axis=0).max())


@torch.no_grad()
def _features(guide: Recognizer, sketches: Sequence[Sketch]) -> NDArray[np.float64]:
    """What the guide's last layer but one says of drawings, (n, D)."""
    pictures = render_batch(sketches, guide.size, guide.width)
    ink = 1 - torch.from_numpy(pictures).float()[:, None] / 255
    return guide.trunk(ink).mean(dim=(2, 3)).double().numpy()


def longest_of(data: PreparedSet, most: int) -> tuple[PreparedSet, int]:
    """The drawings of at most ``most`` rows (0: all), and how long the longest of them is.

    Raises:
        UserError: there are fewer than two to learn from.
    """

    def kept(split: Split) -> Split:
        short = np.asarray(split.lengths) <= (most or np.inf)
        return split.where(short)

    out = dataclasses.replace(data, train=kept(data.train), valid=kept(data.valid))
    if len(out.train) < 2:
        limit = f" of at most {most} rows" if most else ""
        raise UserError(f"{data.path}: {len(out.train)} training drawings{limit}; two are needed")
    lengths = [int(s.lengths.max()) for s in (out.train, out.valid) if len(s)]
    return out, most or max(lengths)
