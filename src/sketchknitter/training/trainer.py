"""The training loop: a record after every update, exact resume, one process or many."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sketchknitter.errors import UserError
from sketchknitter.files import read_tensors, write_tensors
from sketchknitter.processes import place
from sketchknitter.seeds import Stream, derived_seed
from sketchknitter.settings import PrecisionName, TrainingConfig
from sketchknitter.training import optimizers as optimizing
from sketchknitter.training.ema import Ema, ema_rates
from sketchknitter.training.objective import Batch, Loss, Objective, Remembers, Streams

Goal = TypeVar("Goal", bound=Objective)
LONG = 300  # updates from which on it pays to measure which precision is faster
FASTER = 1.1  # times as fast as float32 is what bfloat16 must be
_OWN = ("model.", "optim.", "ema")  # names of the state's tensors; all others are the objective's


@dataclass(frozen=True)
class Update:
    """What one update reports.

    Attributes:
        iteration: updates done, counting this one.
        loss: mean over the batch.
        grad_norm: before clipping; infinite when float16 overflowed and the update was skipped.
        lr: learning rate used.
        seconds: training time so far, resumed runs included.
        cpu: processor seconds of it.
    """

    iteration: int
    loss: float
    grad_norm: float
    lr: float
    seconds: float
    cpu: float = 0.0


class LossScale:
    """Float16's loss scale: log2 grows a little at a good update, drops by one at an overflow."""

    def __init__(self, growth: float) -> None:
        self.growth, self.log2 = growth, 16.0

    @property
    def factor(self) -> float:
        return 2.0**self.log2

    def update(self, finite: bool) -> None:
        self.log2 += self.growth if finite else -1.0


class _Losses(nn.Module):
    """The loss as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.network, self._loss = objective.network, objective.loss

    def forward(self, batch: Any, streams: Streams) -> tuple[Tensor, Tensor, Tensor | None]:
        loss = self._loss(batch, streams)
        return loss.total, loss.count, loss.weight


class Trainer(Generic[Goal]):
    """Trains the network of an objective.

    Args:
        objective: the network, not yet on its device, and its loss.
        source: this process's share of the batch of an update, a pure function of its number.
        config: how to learn.
        device: where the network lives.
        identity: JSON that tells whether a state belongs to this training, by name ("data", …).
        optimizer: made of the network; default: what ``config`` names.
        course: of the learning rate; default: warm-up and cosine, as ``config`` says.
        clip: of the gradients; default: by their norm, as ``config`` says.
        share: of the training that is done after so many updates and seconds (of the processor; on
            an accelerator of the clock); from 1 on it is over. Default: updates by
            ``config.iterations``.

    Everything random is keyed by (seed, iteration, drawing), so weights, averages, optimizer
    moments and the iteration number are the whole state: a resumed run continues bit for bit, and
    k processes do what one would do with their joint batch.
    """

    def __init__(
        self,
        objective: Goal,
        source: Callable[[int], Batch],
        config: TrainingConfig,
        *,
        device: str = "cpu",
        identity: Mapping[str, Any] | None = None,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
        course: optimizing.Course | None = None,
        clip: optimizing.Clip | None = None,
        share: Callable[[int, float], float] | None = None,
    ) -> None:
        self.rank, self.world = place()
        self.objective, self.source, self.config = objective, source, config
        self.device = torch.device(device)
        self.identity = dict(identity or {})
        self.network = objective.network.to(self.device)
        self.losses: nn.Module = _Losses(objective)
        if self.world > 1:
            self.losses = DistributedDataParallel(self.losses)
        if optimizer is not None:
            self.optimizers = [optimizer(self.network)]
        else:
            self.optimizers = optimizing.optimizers(
                config.optimizer, self.network, config.lr, config.weight_decay
            )
        self.course = course or optimizing.warmup_cosine(
            config.lr, config.warmup, config.lr_anneal_steps or config.iterations
        )
        self.clip = clip or optimizing.clip_norm(config.clip)
        self.share = share or (lambda updates, seconds: updates / max(1, config.iterations))
        self.emas = [Ema(rate, self.network) for rate in ema_rates(config.ema_rate)]
        half = config.precision == "float16"
        self.scale = LossScale(config.fp16_scale_growth) if half else None
        self.iteration = 0
        self.seconds = self.cpu = 0.0

    def settle(self, state: str | Path | None = None) -> PrecisionName:
        """Decide what a precision of "auto" is; ``config`` says so from then on.

        bfloat16 where gradients of the first batch come clearly faster with it, in a training long
        enough for that to matter; else float32.

        Args:
            state: of the training that is resumed, if it is there: what was decided then holds.
        """
        chosen = self.config.precision
        if chosen == "auto" and state is not None and Path(state).exists():
            chosen = read_tensors(state)[1].get("optim", {}).get("precision", "float32")
        if chosen == "auto":
            chosen = "float32"
            if self.config.iterations >= LONG:
                full, half = self._seconds("float32"), self._seconds("bfloat16")
                if half * FASTER <= full:
                    chosen = "bfloat16"
        self.config = dataclasses.replace(self.config, precision=chosen)
        return chosen

    def _seconds(self, precision: PrecisionName) -> float:
        """Of the gradients of the next batch in a precision, all processes together."""
        kept, self.config = self.config, dataclasses.replace(self.config, precision=precision)
        i, spent = self.iteration, []
        for _ in range(3):  # the first makes the kernels and the room
            start = time.perf_counter()
            self._backward(self.source(i).to(self.device), self.streams(i))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            spent.append(time.perf_counter() - start)
            self.network.zero_grad(set_to_none=True)
        self.config = kept
        least = torch.tensor(min(spent[1:]), dtype=torch.float64, device=self.device)
        return float(self._summed(least))

    # -- the loop --------------------------------------------------------------------------------
    def run(self, until: int | None = None) -> Iterator[Update]:
        """Updates to the end, or up to iteration ``until``, yielding a record after each."""
        while not self.done and (until is None or self.iteration < until):
            start, cpu = time.perf_counter(), time.process_time()
            loss, norm, lr = self._update()
            self.seconds += time.perf_counter() - start
            self.cpu += time.process_time() - cpu
            yield Update(self.iteration, loss, norm, lr, self.seconds, self.cpu)

    @property
    def done(self) -> bool:
        """Whether the training is over."""
        return self.spent >= 1

    @property
    def spent(self) -> float:
        """Share of the training that is done, as ``share`` says."""
        return self.share(self.iteration, self._clock)

    @property
    def _clock(self) -> float:
        """Seconds that count: those of the processor, and on an accelerator those of the clock."""
        return self.cpu if self.device.type == "cpu" else self.seconds

    def learning_rate(self, iteration: int) -> float:
        """Of the update after ``iteration`` others."""
        return self.course(iteration, min(1.0, self.share(iteration, self._clock)))

    def streams(self, iteration: int) -> Streams:
        """The randomness of this process's share of an update."""
        mine = np.arange(self.rank, self.config.batch_size, self.world)
        return Streams(self.config.seed, iteration, mine, self.config.batch_size)

    def _update(self) -> tuple[float, float, float]:
        i, config = self.iteration, self.config
        self.network.train()
        torch.manual_seed(derived_seed(config.seed, Stream.DROPOUT, i, self.rank))
        batch, streams = self.source(i).to(self.device), self.streams(i)
        if len(batch) != len(streams):
            raise ValueError(f"the source gave {len(batch)} drawings instead of {len(streams)}")
        lr = self.learning_rate(i)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("ratio", 1.0)
        total, each = self._backward(batch, streams)
        norm = self._step()
        self._observe(streams, each)
        self.iteration += 1
        return total, norm, lr

    def _backward(self, batch: Any, streams: Streams) -> tuple[float, np.ndarray]:
        """Gradients of the mean loss over the whole batch; that mean, and each sketch's loss."""
        size = len(streams) if self.config.microbatch < 1 else self.config.microbatch
        pieces = [slice(a, a + size) for a in range(0, len(streams), size)]
        each = np.zeros(len(streams))
        sums = torch.zeros(2, dtype=torch.float64)
        whole = len(pieces) == 1
        count = torch.ones((), dtype=torch.float64)
        for piece in pieces:
            part = batch if whole else batch[piece]
            with self._autocast(), self._sync(piece is pieces[-1]):
                loss = Loss(*self.losses(part, streams[piece]))
                if whole:  # the count is known before the gradient is
                    count = self._summed(loss.count.sum().to(torch.float64))
                weighted = loss.total if loss.weight is None else loss.total * loss.weight
                # the mean over the whole batch; DDP averages over processes
                mean = weighted.sum() * (self.world / count.to(loss.total))
                (mean * self.scale.factor if self.scale else mean).backward()
            sums[0] += loss.total.detach().double().sum().cpu()
            sums[1] += loss.count.double().sum().cpu()
            each[piece] = loss.per_sketch.detach().double().cpu().numpy()
        total, counted = self._summed(sums.to(self.device)).tolist()
        if not whole:
            torch._foreach_mul_(self._gradients(), 1 / counted)
        return total / counted, each

    def _summed(self, value: Tensor) -> Tensor:
        """A number summed over all processes."""
        if self.world > 1:
            torch.distributed.all_reduce(value)
        return value

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.network.parameters() if p.grad is not None]

    def _step(self) -> float:
        """Unscale, clip, update weights and averages; returns the gradient's norm."""
        if self.scale is not None:
            torch._foreach_mul_(self._gradients(), 1 / self.scale.factor)
        norm = self.clip([p for p in self.network.parameters() if p.grad is not None])
        finite = math.isfinite(norm)
        if finite:
            for optimizer in self.optimizers:
                optimizer.step()
            for ema in self.emas:
                ema.update(self.network, self.iteration)
        if self.scale is not None:
            self.scale.update(finite)
        elif not finite:
            raise UserError(
                f"the gradient is not finite at update {self.iteration + 1}; lower the learning"
                f" rate lr (now {self.config.lr:g}) or resume from the last checkpoint"
            )
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return norm if finite else math.inf

    def _observe(self, streams: Streams, losses: np.ndarray) -> None:
        objective = self.objective
        if not isinstance(objective, Remembers):
            return
        if self.world > 1:
            parts: list[Any] = [None] * self.world
            torch.distributed.all_gather_object(parts, losses)
            # interleaved as one process would have seen them
            joined = np.zeros(streams.size)
            for rank, part in enumerate(parts):
                joined[rank :: self.world] = part
            losses = joined
        everything = dataclasses.replace(streams, rows=np.arange(streams.size))
        objective.observe(everything, losses)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.precision in ("float32", "auto"):
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.config.precision))

    def _sync(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        if last or not isinstance(self.losses, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.losses.no_sync()

    # -- validation ------------------------------------------------------------------------------
    @torch.no_grad()
    def held_out(self, batches: Iterable[Batch], seed: int = 0) -> float:
        """Mean loss of the averaged weights over ``batches``; NaN where there are none.

        The k-th batch always sees the same randomness, so two calls differ by the weights alone.
        """
        total = count = 0.0
        self.network.eval()
        with self.emas[0].applied(self.network):
            for k, batch in enumerate(batches):
                rows = np.arange(len(batch))
                streams = Streams(seed, 2**31 + k, rows, len(rows))
                loss = self.objective.loss(batch.to(self.device), streams)
                total += float(loss.total.double().sum())
                count += float(loss.count.sum())
        return total / count if count else math.nan

    # -- storing ---------------------------------------------------------------------------------
    def weights(self, ema: int = 0) -> dict[str, Tensor]:
        """Copy of the network's averaged weights."""
        return {k: v.clone() for k, v in self.emas[ema].weights(self.network).items()}

    def save_state(self, path: str | Path) -> None:
        """Everything that an exact resume needs; rank 0 alone should call it."""
        tensors = {f"model.{k}": v for k, v in self.network.state_dict().items()}
        for k, ema in enumerate(self.emas):
            tensors |= {f"ema{k}.{i}": a for i, a in enumerate(ema.average)}
        for i, p in enumerate(self.network.parameters()):
            for optimizer in self.optimizers:
                for name, value in optimizer.state.get(p, {}).items():
                    tensors[f"optim.{i}.{name}"] = value
        if isinstance(self.objective, Remembers):
            own = {k: torch.from_numpy(v) for k, v in self.objective.state().items()}
            assert not any(k.startswith(_OWN) for k in own)
            tensors |= own
        header = {
            "format": 1,
            "kind": "training state",
            "iteration": self.iteration,
            "seconds": self.seconds,
            "cpu": self.cpu,
            "scale": self.scale.log2 if self.scale else None,
            "optim": dataclasses.asdict(self.config),
            **self.identity,
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
        self.accept(header, path)
        try:
            self._restore(tensors, header)
        except (
            *(AttributeError, KeyError, IndexError, OverflowError),
            *(RuntimeError, TypeError, ValueError),
        ) as error:
            first = str(error).splitlines()[0] if str(error) else "damaged"
            raise UserError(f"{path}: does not fit this training ({first})") from None

    def accept(self, header: Mapping[str, Any], path: str | Path) -> None:
        """Refuse the state of another training.

        Raises:
            UserError: something of its identity differs.
        """
        for name, own in json.loads(json.dumps(self.identity)).items():
            if header.get(name) != own:
                raise UserError(f"{path}: belongs to a training with another {name}")

    def _restore(self, tensors: dict[str, Tensor], header: Mapping[str, Any]) -> None:
        strip = len("model.")
        self.network.load_state_dict(
            {k[strip:]: v for k, v in tensors.items() if k.startswith("model.")}, strict=True
        )
        for k, ema in enumerate(self.emas):
            for j, average in enumerate(ema.average):
                if (kept := tensors.get(f"ema{k}.{j}")) is not None:  # once buffers had none
                    average.copy_(kept)
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optim."):
                _, number, key = name.split(".", 2)
                states.setdefault(int(number), {})[key] = value
        moments = {p: states[i] for i, p in enumerate(self.network.parameters()) if i in states}
        for optimizer in self.optimizers:
            optimizing.restore(optimizer, moments)
        if isinstance(self.objective, Remembers):
            self.objective.restore(
                {k: v.numpy() for k, v in tensors.items() if not k.startswith(_OWN)}
            )
        if self.scale is not None and header["scale"] is not None:
            self.scale.log2 = header["scale"]
        self.iteration, self.seconds = int(header["iteration"]), float(header["seconds"])
        self.cpu = float(header.get("cpu", header["seconds"]))
