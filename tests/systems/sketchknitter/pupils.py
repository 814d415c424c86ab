"""Students that have learned nothing yet, and batches to train them on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from sketchknitter.data.conditions import ConditionedBatch, Mixture, collate
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import build_denoiser
from sketchknitter.systems.sketchknitter.objective import Denoising
from sketchknitter.training.objective import Streams
from tiny_model import tiny

NAMES = ("cat", "dog")
Rows = Callable[..., list[np.ndarray]]


def with_student(way: str, steps: int = 4, shift: float = 0.0) -> Checkpoint:
    """A model with a student that says what the model does, its output ``shift`` off."""
    base = tiny(classes=NAMES, conditions=True)
    student = build_denoiser(base.config, guided=True)
    student.load_state_dict(student.state_dict() | base.denoiser.state_dict())
    with torch.no_grad():
        student.backbone.last.linear.bias += shift
    extras = {f"distilled.{k}": v for k, v in student.state_dict().items()}
    notes = base.checkpoint.notes | {"distilled": {"steps": steps, "way": way}}
    return dataclasses.replace(base.checkpoint, extras=extras, notes=notes)


def batch(random_rows: Rows, count: int = 8) -> ConditionedBatch:
    """Drawings of which nothing, a part or a rough copy is seen."""
    mixture = Mixture(prefix=0.3, strokes=0.2, deformed=0.3)
    codec = tiny(classes=NAMES, conditions=True).config.codec
    rows = random_rows(count, low=6, seed=3)
    examples = [
        mixture(r.astype(float), codec, np.random.default_rng(i)) for i, r in enumerate(rows)
    ]
    return collate(examples, [i % 2 for i in range(count)], codec)


def grown(
    objective: Denoising, examples: ConditionedBatch, streams: Streams
) -> dict[str, torch.Tensor]:
    """Gradients of the mean loss, by parameter."""
    loss = objective.loss(examples, streams)  # type: ignore[arg-type]
    (loss.total.sum() / loss.count.sum()).backward()
    named = objective.network.named_parameters()
    return {k: p.grad.clone() for k, p in named if p.grad is not None}
