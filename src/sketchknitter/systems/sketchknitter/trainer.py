"""Training: a loop that yields records, exact resume, one process or many."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sketchknitter.data.augment import Augment
from sketchknitter.data.batch import Batch
from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.data.loader import Loader
from sketchknitter.data.shuffle import RowChange
from sketchknitter.diffusion.denoiser import Denoiser
from sketchknitter.diffusion.importance import level_sampler
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.errors import UserError
from sketchknitter.files import read_tensors, write_tensors
from sketchknitter.seeds import stream
from sketchknitter.settings import AugmentConfig, BackboneConfig, DiffusionConfig, OptimConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser

NOISE, LEVELS, LABELS, VALID, SCALE = 11, 12, 13, 14, 16  # what a random stream is for


@dataclass(frozen=True)
class Record:
    """What one update reports.

    Attributes:
        iteration: updates done, counting this one.
        loss: mean over the batch's valid points.
        grad_norm: before clipping; infinite when float16 overflowed and the update was skipped.
        lr: learning rate used.
        seconds: training time so far, resumed runs included.
    """

    iteration: int
    loss: float
    grad_norm: float
    lr: float
    seconds: float


class Ema:
    """Exponential moving average of parameters: avg <- rate avg + (1 - rate) weight.

    The rate ramps up as (1 + k) / (10 + k) at update k, so that early averages are not stuck at the
    random start.
    """

    def __init__(self, rate: float, module: nn.Module) -> None:
        self.rate = rate
        self.average = [p.detach().clone() for p in module.parameters()]

    @torch.no_grad()
    def update(self, module: nn.Module, iteration: int) -> None:
        rate = min(self.rate, (1 + iteration) / (10 + iteration))
        torch._foreach_lerp_(self.average, [p.detach() for p in module.parameters()], 1 - rate)

    def weights(self, module: nn.Module) -> dict[str, Tensor]:
        """A state dict of ``module`` with averaged parameters."""
        names = [n for n, _ in module.named_parameters()]
        return dict(module.state_dict()) | dict(zip(names, self.average, strict=True))

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with averaged parameters, for the time of a with block."""
        own = [p.detach().clone() for p in module.parameters()]
        with torch.no_grad():
            torch._foreach_copy_(list(module.parameters()), self.average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(module.parameters()), own)


class LossScale:
    """Float16's loss scale: log2 grows a little at a good update, drops by one at an overflow."""

    def __init__(self, growth: float) -> None:
        self.growth, self.log2 = growth, 16.0

    @property
    def factor(self) -> float:
        return 2.0**self.log2

    def update(self, finite: bool) -> None:
        self.log2 += self.growth if finite else -1.0


class Losses(nn.Module):
    """The denoiser's loss as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, batch: Batch, t: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        loss = self.denoiser.loss(batch.xy, batch.pen, batch.mask, batch.label, t, eps)
        return loss.total, loss.points


def length_counts(split: Split, codec: Codec, classes: int) -> Tensor:
    """How many drawings have each number of model points, (classes + 1, max_points + 1) int32."""
    counts = np.zeros((classes + 1, codec.max_points + 1), dtype=np.int32)
    lengths = np.minimum(np.asarray(split.lengths), codec.max_rows) + codec.extra
    labels = np.asarray(split.labels)
    known = labels >= 0
    np.add.at(counts, (labels[known].astype(int), lengths[known]), 1)
    np.add.at(counts[classes], lengths, 1)
    return torch.from_numpy(counts)


class Trainer:
    """Trains one denoiser.

    Args:
        data: the prepared set; the test split is never touched.
        model: what to build; scale and classes are filled in from the data.
        optim: how to learn.
        augment: random changes of training drawings: settings, or any ``(rows, rng) -> rows``
            such as a shuffle; the scale is then that of changed drawings.
        device: where the model lives.

    Everything random is keyed by (seed, iteration, drawing), so weights, averages, optimizer
    moments and the iteration number are the whole state: a resumed run continues bit for bit, and
    k processes do what one would do with their joint batch.
    """

    def __init__(
        self,
        data: PreparedSet,
        model: ModelConfig,
        optim: OptimConfig,
        augment: AugmentConfig | RowChange | None = None,
        device: str = "cpu",
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        self.rank, self.world = _place()
        self.data, self.optim, self.device = data, optim, torch.device(device)
        augment = augment or AugmentConfig()
        change = Augment.of(augment) if isinstance(augment, AugmentConfig) else augment
        codec = model.codec
        if weights is None:
            rows = data.train.take(np.arange(len(data.train)))
            if change is augment:  # what it makes of drawings may be of another size
                rows = [change(r, stream(optim.seed, SCALE, i)) for i, r in enumerate(rows)]
            codec = codec.fitted(rows)
            model = dataclasses.replace(model, codec=codec, classes=tuple(data.classes))
        elif tuple(data.classes) != model.classes:
            raise UserError(
                f"the checkpoint draws {len(model.classes)} classes and the data have "
                f"{len(data.classes)} others; prepare data with the same classes to go on"
            )
        self.model = model
        self.loader = Loader(
            data.train,
            codec,
            optim.batch_size,
            len(model.classes),
            seed=optim.seed,
            augment=change,
            points=self._points,
            rank=self.rank,
            world=self.world,
        )
        torch.manual_seed(optim.seed)
        self.denoiser = build_denoiser(model).to(self.device)
        if weights is not None:
            self.denoiser.load_state_dict(weights, strict=True)
        self.losses: nn.Module = Losses(self.denoiser)
        if self.world > 1:
            self.losses = DistributedDataParallel(self.losses)
        self.optimizer = torch.optim.AdamW(
            self.denoiser.parameters(),
            lr=optim.lr,
            betas=(0.9, 0.99),
            weight_decay=optim.weight_decay,
            fused=True,
        )
        self.emas = [Ema(rate, self.denoiser) for rate in ema_rates(optim.ema_rate)]
        self.levels = level_sampler(optim.schedule_sampler, model.diffusion.diffusion_steps)
        self.scale = LossScale(optim.fp16_scale_growth) if optim.precision == "float16" else None
        self.iteration = 0
        self.seconds = 0.0
        self.fingerprint = data.fingerprint

    @property
    def _points(self) -> int:
        """What batches are padded to: all N where the model learns lengths, as when it samples."""
        return self.model.codec.max_points if self.model.diffusion.length == "learned" else 0

    # -- the loop --------------------------------------------------------------------------------
    def run(self, until: int | None = None) -> Iterator[Record]:
        """Updates up to iteration ``until`` (default: all), yielding a record after each."""
        end = self.optim.iterations if until is None else until
        while self.iteration < end:
            start = time.perf_counter()
            loss, norm, lr = self._update()
            self.seconds += time.perf_counter() - start
            yield Record(self.iteration, loss, norm, lr, self.seconds)

    def learning_rate(self, iteration: int) -> float:
        """Linear warm-up, then cosine to zero."""
        o = self.optim
        end = o.lr_anneal_steps or o.iterations
        ramp = min(1.0, (iteration + 1) / max(1, o.warmup))
        done = min(1.0, max(0, iteration - o.warmup) / max(1, end - o.warmup))
        return o.lr * ramp * 0.5 * (1 + math.cos(math.pi * done))

    def _update(self) -> tuple[float, float, float]:
        i, o = self.iteration, self.optim
        self.denoiser.train()
        torch.manual_seed(o.seed * 1_000_003 + i * self.world + self.rank)  # dropout's stream
        batch, t, eps, weight = self._inputs(i)
        points = batch.mask.sum().to(torch.float64)
        if self.world > 1:
            torch.distributed.all_reduce(points)
        lr = self.learning_rate(i)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        size = len(batch) if o.microbatch < 1 else o.microbatch
        pieces = [slice(a, a + size) for a in range(0, len(batch), size)]
        total = torch.zeros((), dtype=torch.float64)
        each = np.zeros(len(batch))
        for piece in pieces:
            last = piece is pieces[-1]
            with self._autocast(), self._sync(last):
                sums, counts = self.losses(batch[piece], t[piece], eps[piece])
                # the mean over every valid point of the whole run; DDP averages over processes
                loss = (sums * weight[piece]).sum() * (self.world / points.to(sums))
                (loss * self.scale.factor if self.scale else loss).backward()
            total += sums.detach().double().sum().cpu() / points.cpu()
            each[piece] = (sums.detach() / counts.clamp(min=1)).cpu().numpy()
        norm = self._step()
        self._observe(t, each)
        self.iteration += 1
        if self.world > 1:
            total = total.to(self.device)
            torch.distributed.all_reduce(total)
        return float(total), norm, lr

    def _inputs(self, iteration: int) -> tuple[Batch, Tensor, Tensor, Tensor]:
        """This rank's batch, levels (B,), noise (B, N, D) and loss weights (B,)."""
        o = self.optim
        batch = self.loader(iteration)
        mine = np.arange(self.rank, o.batch_size, self.world)
        # one draw, in strata over the whole batch, then this rank's share
        places = stream(o.seed, LEVELS, iteration)
        uniforms = (places.permutation(o.batch_size) + places.random(o.batch_size)) / o.batch_size
        t, weight = self.levels.draw(uniforms)
        dropped = stream(o.seed, LABELS, iteration).random(o.batch_size) < o.label_dropout
        label = batch.label.masked_fill(torch.from_numpy(dropped[mine]), len(self.model.classes))
        noise = SketchNoise([stream(o.seed, NOISE, iteration, int(j)) for j in mine])
        width = self.denoiser.state(batch.xy[:1], batch.pen[:1]).shape[-1]
        n = batch.xy.shape[1]
        lengths = batch.length.tolist() if self.denoiser.length_given else [n] * len(batch)
        eps = noise.normal(lengths, n, width)
        batch = dataclasses.replace(batch, label=label).to(self.device)
        return (
            batch,
            torch.from_numpy(t[mine]).to(self.device),
            eps.to(self.device),
            torch.from_numpy(weight[mine]).to(self.device, torch.float32),
        )

    def _step(self) -> float:
        """Unscale, clip, update weights and averages; returns the gradient's norm."""
        parameters = list(self.denoiser.parameters())
        if self.scale is not None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            torch._foreach_mul_(gradients, 1 / self.scale.factor)
        norm = float(nn.utils.clip_grad_norm_(parameters, self.optim.clip))
        finite = math.isfinite(norm)
        if finite:
            self.optimizer.step()
            for ema in self.emas:
                ema.update(self.denoiser, self.iteration)
        if self.scale is not None:
            self.scale.update(finite)
        elif not finite:
            raise UserError(
                f"the gradient is not finite at update {self.iteration + 1}; lower --lr (now "
                f"{self.optim.lr:g}) or resume from the last checkpoint"
            )
        self.optimizer.zero_grad(set_to_none=True)
        return norm if finite else math.inf

    def _observe(self, t: Tensor, losses: np.ndarray) -> None:
        levels = t.cpu().numpy()
        if self.world > 1 and self.optim.schedule_sampler != "uniform":
            parts: list[Any] = [None] * self.world
            torch.distributed.all_gather_object(parts, (levels, losses))
            # interleaved as one process would have seen them
            levels = np.stack([p[0] for p in parts], axis=1).ravel()
            losses = np.stack([p[1] for p in parts], axis=1).ravel()
        self.levels.observe(levels, losses)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.optim.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.optim.precision))

    def _sync(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        if last or not isinstance(self.losses, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.losses.no_sync()

    # -- validation ------------------------------------------------------------------------------
    @torch.no_grad()
    def evaluate(self, split: Split, limit: int = 512) -> float:
        """Mean loss of the averaged weights on (up to ``limit``) drawings of ``split``.

        Noise and levels are fixed, so that two calls differ by the weights alone.
        """
        if not len(split):
            return math.nan
        chosen = stream(0, VALID).permutation(len(split))[:limit]
        chosen = chosen[np.argsort(np.asarray(split.lengths)[chosen], kind="stable")]
        labels = np.asarray(split.labels)[chosen].astype(np.int64)
        labels[labels < 0] = len(self.model.classes)
        steps = self.model.diffusion.diffusion_steps
        levels = ((np.arange(len(chosen)) * 0.61803398875) % 1 * steps).astype(np.int64)
        total = points = 0.0
        self.denoiser.eval()
        with self.emas[0].applied(self.denoiser):
            for a in range(0, len(chosen), 64):
                part = slice(a, a + 64)
                batch = self.model.codec.encode(
                    split.take(chosen[part]), labels[part], self._points
                )
                width = self.denoiser.state(batch.xy[:1], batch.pen[:1]).shape[-1]
                noise = SketchNoise([stream(1, VALID, int(j)) for j in chosen[part]])
                n = batch.xy.shape[1]
                eps = noise.normal([n] * len(batch), n, width).to(self.device)
                t = torch.from_numpy(levels[part]).to(self.device)
                b = batch.to(self.device)
                loss = self.denoiser.loss(b.xy, b.pen, b.mask, b.label, t, eps)
                total += float(loss.total.double().sum())
                points += float(loss.points.sum())
        return total / points

    # -- storing ---------------------------------------------------------------------------------
    def checkpoint(self, ema: int = 0, record: dict[str, Any] | None = None) -> Checkpoint:
        """The model with averaged weights."""
        made = {
            "updates": self.iteration,
            "batch_size": self.optim.batch_size,
            "seconds": round(self.seconds, 1),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "data": self.fingerprint,
            "drawings": len(self.data.train),
            "optim": dataclasses.asdict(self.optim),
        }
        return Checkpoint(
            config=self.model,
            weights={k: v.clone() for k, v in self.emas[ema].weights(self.denoiser).items()},
            lengths=length_counts(self.data.train, self.model.codec, len(self.model.classes)),
            record=made | (record or {}),
        )

    def save_state(self, path: str | Path) -> None:
        """Everything that an exact resume needs; rank 0 alone should call it."""
        tensors = {f"model.{k}": v for k, v in self.denoiser.state_dict().items()}
        for k, ema in enumerate(self.emas):
            tensors |= {f"ema{k}.{i}": a for i, a in enumerate(ema.average)}
        for i, p in enumerate(self.denoiser.parameters()):
            for name, value in self.optimizer.state.get(p, {}).items():
                tensors[f"optim.{i}.{name}"] = value
        tensors |= {f"levels.{k}": torch.from_numpy(v) for k, v in self.levels.state().items()}
        header = {
            "format": 1,
            "kind": "training state",
            "iteration": self.iteration,
            "seconds": self.seconds,
            "scale": self.scale.log2 if self.scale else None,
            "config": self.model.to_dict(),
            "optim": dataclasses.asdict(self.optim),
            "data": self.fingerprint,
        }
        write_tensors(path, tensors, header)

    def load_state(self, path: str | Path) -> None:
        """Continue where ``save_state`` left off.

        Raises:
            UserError: the state belongs to another model or other data.
        """
        tensors, header = read_tensors(path)
        if header.get("kind") != "training state":
            raise UserError(f"{path}: holds {header.get('kind')}, not a training state")
        if ModelConfig.from_dict(header["config"]) != self.model:
            raise UserError(f"{path}: was trained with another model configuration or other data")
        if header["data"] != self.fingerprint:
            raise UserError(
                f"{path}: was trained on other data (fingerprint {header['data'][:12]})"
            )
        strip = len("model.")
        self.denoiser.load_state_dict(
            {k[strip:]: v for k, v in tensors.items() if k.startswith("model.")}, strict=True
        )
        for k, ema in enumerate(self.emas):
            for i, average in enumerate(ema.average):
                average.copy_(tensors[f"ema{k}.{i}"])
        for i, p in enumerate(self.denoiser.parameters()):
            prefix = f"optim.{i}."
            self.optimizer.state[p] = {
                name[len(prefix) :]: value if name.endswith(".step") else value.to(self.device)
                for name, value in tensors.items()
                if name.startswith(prefix)
            }
        self.levels.restore(
            {k[7:]: v.numpy() for k, v in tensors.items() if k.startswith("levels.")}
        )
        if self.scale is not None and header["scale"] is not None:
            self.scale.log2 = header["scale"]
        self.iteration, self.seconds = header["iteration"], header["seconds"]


def ema_rates(text: str) -> list[float]:
    """``"0.999,0.9999"`` -> [0.999, 0.9999].

    Raises:
        UserError: not a comma list of numbers between 0 and 1.
    """
    try:
        rates = [float(part) for part in str(text).split(",")]
    except ValueError:
        rates = []
    if not rates or not all(0 <= r < 1 for r in rates):
        raise UserError(f"--ema-rate {text!r} is not a comma list of numbers in [0, 1)")
    return rates


def _place() -> tuple[int, int]:
    """(rank, world size) of this process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


__all__ = [
    "AugmentConfig",
    "BackboneConfig",
    "DiffusionConfig",
    "OptimConfig",
    "Record",
    "Trainer",
    "field",
]
