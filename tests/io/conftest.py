"""What the tests of files share: real data, and sketches of any kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real drawings; without it the test is skipped and counted."""
    folder = os.environ.get("SKETCHKNITTER_DATA")
    if not folder:
        pytest.skip("SKETCHKNITTER_DATA is not set")
    return Path(folder)
