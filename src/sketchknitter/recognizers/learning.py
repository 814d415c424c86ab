"""How the small classifiers learn: judge, guide and reader differ in what they see, not in this."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from sketchknitter.data.sides import read_splits
from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch

# what a network sees (pictures or point sequences), labels, damage
Epoch = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float32]]


def fit(
    network: nn.Module,
    epochs: Iterator[Epoch],
    loss: Callable[[NDArray[Any], Tensor, Tensor], Tensor],
    score: Callable[[nn.Module], float],
    seconds: float,
    seed: int,
    lr: float = 3e-3,
    batch: int = 64,
    ema: float = 0.995,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train for ``seconds`` of processor time with a one-cycle learning rate; keep the best epoch.

    Processor time (of all threads), so that a busy machine makes it slower and not worse.

    Args:
        loss: of a part of an epoch (what is seen, labels, damage) under ``network``.
        score: of the averaged network, higher is better; asked after every epoch.
        ema: decay of the averaged weights, which are what is scored and returned.

    Returns:
        The averaged network at its best epoch, and a record of the run.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    best, best_score, scores, updates = copy.deepcopy(average), -1.0, [], 0
    start = time.process_time()
    bar = tqdm(
        total=seconds,
        desc="training",
        mininterval=2.0,
        bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s of processor time {postfix}",
    )
    elapsed = 0.0
    while elapsed < seconds:
        shown, labels, damage = next(epochs)
        network.train()
        order = rng.permutation(len(labels))
        for first in range(0, len(order) - batch + 1, batch):
            elapsed = time.process_time() - start
            if elapsed >= seconds:
                break
            phase = elapsed / seconds
            rate = lr * min(phase / 0.05 + 0.02, 1.0) * (0.5 + 0.5 * np.cos(np.pi * phase) + 1e-3)
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = np.sort(order[first : first + batch])
            targets = torch.from_numpy(labels[rows]), torch.from_numpy(damage[rows])
            value = loss(shown[rows], *targets)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            updates += 1
            bar.update(min(elapsed, seconds) - bar.n)
            _follow(average, network, min(ema, (1 + updates) / (10 + updates)))
        scores.append(round(score(average), 4))
        bar.set_postfix(valid=scores[-1], loss=f"{value.item():.3f}")
        if scores[-1] >= best_score:
            best, best_score = copy.deepcopy(average), scores[-1]
    bar.close()
    record = {
        "cpu_seconds": round(elapsed),
        "updates": updates,
        "epochs": len(scores),
        "batch": batch,
    }
    return best, record | {"lr": lr, "seed": seed, "valid_score": best_score, "valid_curve": scores}


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves averaged weights towards a network's; whole numbers (counters) are taken over."""
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    for kept, new in pairs:
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def go_on(network: nn.Module, earlier: nn.Module | None, data: object) -> dict[str, Any]:
    """Give ``network`` the weights of an ``earlier`` one, if there is one.

    Returns:
        What the record of the new run says of the earlier one.

    Raises:
        UserError: they know other classes.
    """
    if earlier is None:
        return {}
    if earlier.classes != network.classes:
        raise UserError(f"--start: those weights know other classes than {data}")
    network.load_state_dict(earlier.state_dict())
    return {"start": earlier.record}


@dataclass(frozen=True)
class Splits:
    """The three splits as sketches with class numbers."""

    classes: tuple[str, ...]
    train: list[Sketch]
    valid: list[Sketch]
    test: list[Sketch]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Splits:

        splits = read_splits(path, progress=True)
        labels = {s.label for part in splits.values() for s in part}
        classes = tuple(sorted(label for label in labels if label is not None))
        if None in labels or len(classes) < 2 or not all(splits.values()):
            raise UserError(
                f"{path}: a recognizer needs labels on every drawing, two classes, and drawings in "
                "train, valid and test"
            )
        return cls(classes, **splits)

    def numbers(self, sketches: Sequence[Sketch]) -> NDArray[np.int64]:
        """Class numbers of labeled sketches."""
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[sketch.label or ""] for sketch in sketches])

    def record(self) -> dict[str, Any]:
        return {
            "drawings": len(self.train),
            "classes": len(self.classes),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
