"""A small prepared set for the trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.prepare import prepare


@pytest.fixture(scope="session")
def data(
    tmp_path_factory: pytest.TempPathFactory, write_archives: Callable[..., Path]
) -> PreparedSet:
    """40 random drawings to train on, 12 held out and 6 to test on, half cats and half dogs."""
    folder = write_archives(tmp_path_factory.mktemp("data"))
    return prepare([folder], folder / "prepared", progress=False)
