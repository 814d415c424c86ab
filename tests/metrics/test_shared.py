"""A network that several processes ask: what is finished outlives one that is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from sketchknitter.errors import UserError
from sketchknitter.metrics.features import Features
from sketchknitter.metrics.shared import BLOCK, SharedNetwork
from sketchknitter.sketch import Sketch


class Lost(Exception):
    """A machine went away."""


class Counts:
    """Embeds a drawing as its first point; stops like a lost machine after ``left`` drawings."""

    name, identity, classes = "counts", "counts-1", ("a", "b")

    def __init__(self, left: int) -> None:
        self.left = left

    def embed(self, sketches: Sequence[Sketch], progress: bool = False) -> Features:
        if self.left < len(sketches):
            raise Lost
        self.left -= len(sketches)
        vectors = np.array([s.strokes[0][0] for s in sketches], np.float64)
        sure = np.tile([0.25, 0.75], (len(sketches), 1))
        return Features(vectors, sure, self.classes, vectors[:, 0], np.eye(2))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def drawings() -> list[Sketch]:
    rng = np.random.default_rng(0)
    return [Sketch([rng.random((3, 2))]) for _ in range(2 * BLOCK + 40)]


@pytest.mark.usefixtures("alone")
def test_finished_blocks_are_not_embedded_again(drawings: list[Sketch], tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    whole = Counts(len(drawings)).embed(drawings)
    with pytest.raises(Lost):
        SharedNetwork(Counts(2 * BLOCK), folder).embed(drawings)
    found = SharedNetwork(Counts(40), folder).embed(drawings)
    for name in ("vectors", "probabilities", "scribble", "whitening"):
        assert np.array_equal(getattr(found, name), getattr(whole, name))
    assert found.classes == whole.classes
    # other drawings, or another network, are other blocks
    with pytest.raises(Lost):
        SharedNetwork(Counts(0), folder).embed(drawings[::-1])
    other = Counts(0)
    other.identity = "counts-2"
    with pytest.raises(Lost):
        SharedNetwork(other, folder).embed(drawings)


@pytest.mark.usefixtures("alone")
def test_nothing_is_kept_without_a_folder_and_damage_is_said(
    drawings: list[Sketch], tmp_path: Path
) -> None:
    SharedNetwork(Counts(len(drawings))).embed(drawings)
    assert not list(tmp_path.glob("*/*"))
    network = SharedNetwork(Counts(len(drawings)), tmp_path / "kept")
    network.embed(drawings)
    for path in (tmp_path / "kept").iterdir():
        path.write_bytes(b"PK")
    with pytest.raises(UserError, match="a damaged share"):
        network.embed(drawings)
