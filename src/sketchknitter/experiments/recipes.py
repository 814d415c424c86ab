"""Options of ``kind = "sketchknitter"`` as the records that training and drawing take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sketchknitter.data.augment import Augment
from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import Split
from sketchknitter.data.shuffle import SHUFFLES, Chain, RowChange
from sketchknitter.errors import UserError
from sketchknitter.experiments.declare import record
from sketchknitter.seeds import stream
from sketchknitter.settings import (
    AugmentConfig,
    BackboneConfig,
    DiffusionConfig,
    OptimConfig,
    Settings,
)
from sketchknitter.systems.sketchknitter.config import ModelConfig
from sketchknitter.systems.sketchknitter.model import make_settings

SHUFFLE = 61  # what a random stream is for


@dataclass(frozen=True)
class Recipe:
    """The options of ``kind = "sketchknitter"``."""

    model: ModelConfig
    optim: OptimConfig
    change: AugmentConfig | RowChange
    shuffle: RowChange | None


def recipe(options: dict[str, Any], where: str = "options") -> Recipe:
    """Tables network, diffusion, codec, optim, augment and the name of a shuffle, as records.

    Raises:
        UserError: an unknown name.
    """
    groups: dict[str, type] = {
        "network": BackboneConfig,
        "diffusion": DiffusionConfig,
        "codec": Codec,
        "optim": OptimConfig,
        "augment": AugmentConfig,
    }
    if unknown := sorted(set(options) - {*groups, "shuffle"}):
        raise UserError(
            f"{where}: unknown name {unknown[0]!r}; one of: {', '.join(groups)}, shuffle"
        )
    made = {k: record(kind, options.get(k, {}), f"{where}.{k}") for k, kind in groups.items()}
    name = options.get("shuffle")
    if name is not None and name not in SHUFFLES:
        raise UserError(f"{where}: no shuffle {name!r}; one of: {', '.join(SHUFFLES)}")
    shuffle = SHUFFLES[name] if name is not None else None
    change: AugmentConfig | RowChange = made["augment"]
    if shuffle is not None:
        after = Augment.of(made["augment"])
        change = Chain((shuffle, after)) if after is not None else shuffle
    model = ModelConfig(made["network"], made["diffusion"], made["codec"])
    return Recipe(model, made["optim"], change, shuffle)


def drawing_settings(settings: dict[str, Any]) -> Settings:
    """Settings from TOML, where lists stand for tuples.

    Raises:
        UserError: an unknown name.
    """
    return make_settings({k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})


def shuffled(split: Split, change: RowChange) -> Split:
    """A split whose drawings were changed, once and for all."""
    rows = [change(split.rows(i), stream(0, SHUFFLE, i)) for i in range(len(split))]
    ends = np.cumsum([len(r) for r in rows], dtype=np.int64)
    starts = ends - np.array([len(r) for r in rows], dtype=np.int64)
    flat = np.concatenate(rows) if rows else np.zeros((0, 3))
    return Split(
        split.name, flat.astype(np.float32), starts, ends, np.asarray(split.labels), split.classes
    )
