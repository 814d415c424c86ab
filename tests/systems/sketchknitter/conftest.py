"""A small prepared set for the trainings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.prepare import prepare


@pytest.fixture(scope="session")
def data(
    tmp_path_factory: pytest.TempPathFactory, random_rows: Callable[..., list[np.ndarray]]
) -> PreparedSet:
    """40 random drawings to train on, 12 held out and 6 to test on, half cats and half dogs."""
    folder = tmp_path_factory.mktemp("data")
    for k, name in enumerate(("cat", "dog")):
        parts = {}
        for j, (split, n) in enumerate((("train", 20), ("valid", 6), ("test", 3))):
            parts[split] = np.empty(n, dtype=object)
            parts[split][:] = random_rows(n, seed=10 * k + j)
        np.savez(folder / f"{name}.npz", **parts)
    return prepare([folder], folder / "prepared", progress=False)
