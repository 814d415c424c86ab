"""Real drawings for the metrics' tests."""

import pytest
from real_drawings import quickdraw

from sketchknitter import Sketch


@pytest.fixture(scope="session")
def real() -> list[Sketch]:
    """300 test drawings of six classes."""
    return quickdraw("test", 50)


@pytest.fixture(scope="session")
def other() -> list[Sketch]:
    """300 validation drawings of the same classes."""
    return quickdraw("valid", 50)
