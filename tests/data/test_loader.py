"""Batches are a pure function of (seed, iteration); ranks share them; augmentation keeps pens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from sketchknitter.data.augment import Augment
from sketchknitter.data.batch import Batch
from sketchknitter.data.codec import Codec
from sketchknitter.data.loader import Loader
from sketchknitter.errors import UserError
from sketchknitter.seeds import Stream, stream


class Memory:
    """Drawings in memory; drawing i says its number by its first offset."""

    def __init__(self, rows: list[np.ndarray]) -> None:
        self._rows = [r.copy() for r in rows]
        for i, r in enumerate(self._rows):
            r[0, 0] = i
        self.lengths = np.array([len(r) for r in rows])
        self.labels = np.arange(len(rows)) % 3 - 1  # -1: no label

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [self._rows[i] for i in indices]

    def lengths_of(self, indices: np.ndarray) -> np.ndarray:
        return self.lengths[indices]

    def release(self) -> None:
        pass


CODEC = Codec("offset", max_rows=30)


@pytest.fixture
def data(random_rows) -> Memory:
    return Memory(random_rows(100, 2, 30))


def numbers(batch: Batch) -> list[int]:
    return batch.xy[:, 0, 0].round().int().tolist()


def equal(a: Batch, b: Batch) -> bool:
    pairs = ((a.xy, b.xy), (a.pen, b.pen), (a.mask, b.mask), (a.label, b.label))
    return all(torch.equal(x, y) for x, y in pairs)


def test_a_pure_function_of_seed_and_iteration(data: Memory) -> None:
    def loader(seed: int = 5) -> Loader:
        return Loader(data, CODEC, 8, 2, seed=seed, augment=Augment())

    one, two = loader(), loader()
    forward = [one(i) for i in range(30)]
    for i in reversed(range(30)):  # in any order, by another loader
        assert equal(two(i), forward[i])
    assert not equal(loader(6)(0), forward[0])


def test_every_drawing_once_an_epoch(data: Memory) -> None:
    loader = Loader(data, CODEC, 10, 2, seed=1, pool=4)
    assert loader.batches_per_epoch == 10
    epochs = [[n for i in range(10) for n in numbers(loader(e * 10 + i))] for e in range(3)]
    for seen in epochs:
        assert sorted(seen) == list(range(100))
    assert epochs[0] != epochs[1] != epochs[2]


def test_what_is_left_over_changes_with_the_epoch(data: Memory) -> None:
    loader = Loader(data, CODEC, 30, 2)
    assert loader.batches_per_epoch == 3
    epochs = [{n for i in range(3) for n in loader.indices(3 * e + i)} for e in range(4)]
    assert {len(seen) for seen in epochs} == {90}
    assert len(set.union(*epochs)) == 100


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_partition_the_batch(data: Memory, world: int) -> None:
    options = {"seed": 3, "augment": Augment(drop=0.1)}
    whole = Loader(data, CODEC, 8, 2, **options)
    shares = [Loader(data, CODEC, 8, 2, rank=r, world=world, **options) for r in range(world)]
    for i in (0, 7, 40):
        full = whole(i)
        for r, share in enumerate(shares):
            part = share(i)
            n = part.xy.shape[1]  # every rank pads to its own longest
            assert len(part) == 8 // world
            assert torch.equal(part.xy, full.xy[r::world, :n])
            assert torch.equal(part.pen, full.pen[r::world, :n])
            assert torch.equal(part.label, full.label[r::world])
            assert not full.mask[r::world, n:].any()


def test_batches_hold_drawings_of_similar_length(data: Memory) -> None:
    loader = Loader(data, CODEC, 10, 2)
    spread = [np.ptp(data.lengths[loader.indices(i)]) for i in range(10)]
    assert np.mean(spread) < 6  # of 28
    firsts = [data.lengths[loader.indices(i)].mean() for i in range(10)]
    assert firsts != sorted(firsts)  # but batches come in no order of length


def test_labels_and_points(data: Memory) -> None:
    batch = Loader(data, CODEC, 20, 2, points=30)(4)
    assert batch.xy.shape == (20, 30, 2)
    for n, label in zip(numbers(batch), batch.label.tolist(), strict=True):
        assert label == (2 if n % 3 == 0 else n % 3 - 1)  # "no label" is the last index


def test_refusals(data: Memory) -> None:
    few = "100 training drawings are fewer than one batch of 101"
    with pytest.raises(UserError, match=f"^batch_size must be lower, .*: {few}"):
        Loader(data, CODEC, 101, 2)
    with pytest.raises(UserError, match=r"^batch_size 10 is not a multiple of 4 processes"):
        Loader(data, CODEC, 10, 2, world=4)


# -- augmentation ----------------------------------------------------------------------------------
def test_augment_keeps_pens_and_lengths(random_rows) -> None:
    for j, rows in enumerate(random_rows(30)):
        before = rows.copy()
        out = Augment()(rows, stream(0, Stream.AUGMENTATION, j))
        np.testing.assert_array_equal(rows, before)  # not in place
        np.testing.assert_array_equal(out[:, 2], rows[:, 2])
        ratio = np.hypot(*out[:, :2].T) / np.maximum(np.hypot(*rows[:, :2].T), 1e-9)
        moving = np.hypot(*rows[:, :2].T) > 0
        assert (abs(ratio[moving] - 1) < 0.12 + 0.06 + 1e-6).all()
        assert not np.allclose(out, rows)


def test_mirror_alone_is_a_mirror(random_rows) -> None:
    rows = random_rows(1, 9, 9)[0]
    flip = Augment(mirror=1, rotate=0, scale=0)(rows, stream(0, Stream.AUGMENTATION))
    np.testing.assert_allclose(flip, rows * np.array([-1, 1, 1]))
    keep = Augment(mirror=0, rotate=0, scale=0)(rows, stream(0, Stream.AUGMENTATION))
    np.testing.assert_allclose(keep, rows)


def test_rotation_stays_within_its_angle() -> None:
    rows = np.array([[100.0, 0, 0], [100.0, 0, 1]])
    turns = [Augment(0, 30, 0)(rows, stream(0, Stream.AUGMENTATION, j)) for j in range(200)]
    angles = np.rad2deg([np.arctan2(t[0, 1], t[0, 0]) for t in turns])
    assert 25 < abs(angles).max() <= 30
    assert abs(angles.mean()) < 5


def test_dropping_points_keeps_strokes_and_their_ends(random_rows) -> None:
    drop = Augment(mirror=0, rotate=0, scale=0, drop=0.4)
    fewer = 0
    for j, rows in enumerate(random_rows(40, 6, 30)):
        out = drop(rows, stream(1, Stream.AUGMENTATION, j))
        fewer += len(rows) - len(out)
        assert out[:, 2].sum() == rows[:, 2].sum()
        before, after = (np.cumsum(r[:, :2].astype(float), axis=0) for r in (rows, out))
        np.testing.assert_allclose(after[out[:, 2] > 0], before[rows[:, 2] > 0])
        kept = {tuple(p) for p in before.round(6)}
        assert {tuple(p) for p in after.round(6)} <= kept
        # the first point of every stroke stays as well
        starts = np.flatnonzero(rows[:-1, 2]) + 1
        assert {tuple(p) for p in before[starts].round(6)} <= {tuple(p) for p in after.round(6)}
    assert fewer > 50
