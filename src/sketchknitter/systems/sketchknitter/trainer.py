"""Training of the denoiser: its data, its scale, its objective, in the generic trainer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sketchknitter.data.augment import Augment
from sketchknitter.data.codec import Codec
from sketchknitter.data.conditions import ConditionLoader, Mixture
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.data.loader import Loader
from sketchknitter.data.order import some
from sketchknitter.data.shuffle import RowChange
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.diffusion.importance import level_sampler
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.errors import UserError
from sketchknitter.processes import place
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import AugmentConfig, OptimConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.systems.sketchknitter.objective import ConditionalDenoising, Denoising
from sketchknitter.training.trainer import Trainer

SCALED = 1 << 14  # training drawings that the codec's scale is taken of


def length_counts(split: Split, codec: Codec) -> Tensor:
    """How many drawings have each number of model points, (classes + 1, max_points + 1) int32.

    The last class counts all of them.
    """
    found = split.by_length
    counts = np.zeros((len(found), codec.max_points + 1), dtype=np.int32)
    points = np.minimum(np.arange(found.shape[1]), codec.max_rows) + codec.extra
    np.add.at(counts.T, points, found.T)
    counts[-1] = counts.sum(axis=0)
    return torch.from_numpy(counts)


class DenoiserTrainer(Trainer[Denoising]):
    """Trains one denoiser.

    Args:
        data: the prepared set; the test split is never touched.
        model: what to build; scale and classes are filled in from the data.
        optim: how to learn.
        augment: random changes of training drawings: settings, or any ``(rows, rng) -> rows``
            such as a shuffle; the scale is then that of changed drawings.
        device: where the model lives.
        weights: to start from, with the model's scale and classes; None starts anew.
        optimizer: made of the network; default: what ``optim`` names.

    Raises:
        UserError: weights to start from that draw other classes.
    """

    def __init__(
        self,
        data: PreparedSet,
        model: ModelConfig,
        optim: OptimConfig,
        augment: AugmentConfig | RowChange | None = None,
        device: str = "cpu",
        weights: dict[str, Tensor] | None = None,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    ) -> None:
        augment = augment or AugmentConfig()
        change = Augment.of(augment) if isinstance(augment, AugmentConfig) else augment
        codec = model.codec
        if weights is None:
            rows = data.train.take(data.train.spread(SCALED))
            if change is augment:  # what it makes of drawings may be of another size
                rows = [
                    change(r, stream(optim.seed, Stream.SHUFFLE, i)) for i, r in enumerate(rows)
                ]
            codec = codec.fitted(rows)
            model = dataclasses.replace(model, codec=codec, classes=tuple(data.classes))
        elif tuple(data.classes) != model.classes:
            raise UserError(
                f"the checkpoint draws {len(model.classes)} classes and the data have "
                f"{len(data.classes)} others; prepare data with the same classes to go on"
            )
        self.optim = optim
        self.data, self.model, self.fingerprint = data, model, data.fingerprint
        self._change = change
        torch.manual_seed(optim.seed)
        denoiser = self.build(model)
        if weights is not None:
            denoiser.load_state_dict(weights, strict=True)
        objective, source = self.task(denoiser, self._loader(optim), optim)
        super().__init__(
            objective,
            source,
            optim,
            device=device,
            identity={"config": model.to_dict(), "data": data.fingerprint},
            optimizer=optimizer,
        )

    def build(self, model: ModelConfig) -> Denoiser:
        """A fresh network to train."""
        return build_denoiser(model)

    def task(
        self, denoiser: Denoiser, loader: Loader, optim: OptimConfig
    ) -> tuple[Denoising, Callable[[int], Any]]:
        """What the denoiser is trained for, and the batches that it is shown."""
        levels = level_sampler(optim.schedule_sampler, self.model.diffusion.diffusion_steps)
        objective: type[Denoising] = Denoising
        source: Callable[[int], Any] = loader
        if self.model.diffusion.conditions:
            objective, source = ConditionalDenoising, ConditionLoader(loader, Mixture())
        return objective(denoiser, len(self.model.classes), levels, optim.label_dropout), source

    def _loader(self, optim: OptimConfig) -> Loader:
        rank, world = place()
        return Loader(
            self.data.train,
            self.model.codec,
            optim.batch_size,
            len(self.model.classes),
            seed=optim.seed,
            augment=self._change,
            points=self.points,
            rank=rank,
            world=world,
        )

    @property
    def denoiser(self) -> Denoiser:
        return self.objective.denoiser

    @property
    def points(self) -> int:
        """What batches are padded to: all N where the model learns lengths, as when it samples."""
        return self.model.codec.max_points if self.model.diffusion.length == "learned" else 0

    # -- validation ------------------------------------------------------------------------------
    @torch.no_grad()
    def evaluate(self, split: Split, limit: int = 512) -> float:
        """Mean loss of the averaged weights on (up to ``limit``) drawings of ``split``.

        Noise and levels are fixed, so that two calls differ by the weights alone.
        """
        if not len(split):
            return math.nan
        chosen = some(stream(0, Stream.VALIDATION), len(split), limit)
        chosen = chosen[np.argsort(split.lengths_of(chosen), kind="stable")]
        labels = split.labels[chosen].astype(np.int64)
        labels[labels < 0] = len(self.model.classes)
        steps = self.model.diffusion.diffusion_steps
        levels = ((np.arange(len(chosen)) * 0.61803398875) % 1 * steps).astype(np.int64)
        total = points = 0.0
        self.denoiser.eval()
        with self.emas[0].applied(self.denoiser):
            for a in range(0, len(chosen), 64):
                part = slice(a, a + 64)
                batch = self.model.codec.encode(split.take(chosen[part]), labels[part], self.points)
                width = self.denoiser.state(batch.xy[:1], batch.pen[:1]).shape[-1]
                noise = SketchNoise([stream(1, Stream.VALIDATION, int(j)) for j in chosen[part]])
                n = batch.xy.shape[1]
                eps = noise.normal([n] * len(batch), n, width).to(self.device)
                t = torch.from_numpy(levels[part]).to(self.device)
                b = batch.to(self.device)
                loss = self.denoiser.loss(b.xy, b.pen, b.mask, b.label, t, eps)
                total += float(loss.total.double().sum())
                points += float(loss.count.sum())
        return total / points

    # -- storing ---------------------------------------------------------------------------------
    def checkpoint(self, ema: int = 0, record: dict[str, Any] | None = None) -> Checkpoint:
        """The model with averaged weights."""
        made = {
            "updates": self.iteration,
            "batch_size": self.config.batch_size,
            "seconds": round(self.seconds, 1),
            "cpu": round(self.cpu, 1),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "data": self.fingerprint,
            "drawings": len(self.data.train),
            "optim": dataclasses.asdict(self.config),
        }
        return Checkpoint(
            config=self.model,
            weights=self.weights(ema),
            lengths=length_counts(self.data.train, self.model.codec),
            record=made | (record or {}),
        )

    def accept(self, header: Mapping[str, Any], path: str | Path) -> None:
        if header["data"] != self.fingerprint:
            raise UserError(
                f"{path}: was trained on other data (fingerprint {header['data'][:12]})"
            )
        theirs = ModelConfig.from_dict(header["config"])
        # its scale may have been taken of more or of other drawings than ours
        codec = dataclasses.replace(self.model.codec, scale=theirs.codec.scale)
        if theirs != dataclasses.replace(self.model, codec=codec):
            raise UserError(f"{path}: was trained with another model configuration")
        if theirs != self.model:
            optim, self.model = self.optim, theirs
            self.identity["config"] = theirs.to_dict()
            self.source = self.task(self.denoiser, self._loader(optim), optim)[1]
        super().accept(header, path)
