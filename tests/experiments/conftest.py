"""A small prepared set that needs no download, and a judge that knows its classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.prepare import prepare
from sketchknitter.experiments.declare import Table, read_table
from sketchknitter.io.npz_write import write_splits
from sketchknitter.sketch import Sketch


def drawing(kind: str, rng: np.random.Generator) -> Sketch:
    """A ring (12 segments and a stalk) or a comb (50 short strokes' worth of zigzag)."""
    if kind == "apple":
        turn = np.linspace(0, 2 * np.pi, 13)
        ring = np.column_stack([np.cos(turn), np.sin(turn)]) * rng.uniform(60, 100, 2)
        return Sketch([ring.round() + 128, [[128, 20], [140 + rng.integers(9), 5]]], kind)
    x = np.arange(50) * 5.0
    zigzag = np.column_stack([x, 60 * (np.arange(50) % 2) + rng.integers(0, 30, 50)])
    return Sketch([zigzag[:20], zigzag[20:35], zigzag[35:]], kind)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    folder = tmp_path_factory.mktemp("toys")
    rng = np.random.default_rng(0)
    splits = {
        split: [drawing(kind, rng) for _ in range(count) for kind in ("apple", "crab")]
        for split, count in (("train", 24), ("valid", 10), ("test", 12))
    }
    write_splits(splits, folder / "toys.npz")
    return prepare([folder / "toys.npz"], folder / "prepared", processes=1, progress=False)


@pytest.fixture
def plain(minimal: dict[str, Any]) -> Table:
    """The smallest table: one model, one row."""
    return read_table(minimal, "minimal")


@pytest.fixture
def minimal() -> dict[str, Any]:
    """What its file would say."""
    return {
        "measure": {
            "drawings": 8,
            "seeds": 2,
            "geometry_repeats": 1,
            "chunk": 4,
            "batch_size": 4,
            "shown": 2,
        },
        "models": {
            "tiny": {
                "network": {
                    "widths": [16, 24],
                    "num_res_blocks": 1,
                    "attention_levels": [1],
                    "num_heads": 2,
                },
                "optim": {"iterations": 4, "batch_size": 8, "warmup": 2},
            }
        },
        "rows": [{"name": "only", "model": "tiny", "settings": {"steps": 3, "guidance": 1.0}}],
    }
