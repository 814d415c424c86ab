"""A large set is trained on without being read: only what is drawn is touched."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sketchknitter.data import order
from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.prepare import prepare
from sketchknitter.settings import BackboneConfig, DiffusionConfig, OptimConfig
from sketchknitter.systems.sketchknitter import run, trainer
from sketchknitter.systems.sketchknitter.config import ModelConfig
from sketchknitter.systems.sketchknitter.run import DenoiserRun, within
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer, length_counts

NETWORK = BackboneConfig(widths=(8, 16), num_res_blocks=1, attention_levels=())
MODEL = ModelConfig(NETWORK, DiffusionConfig(diffusion_steps=40), Codec(max_rows=24))
DRAWINGS, SCALED, JUDGED = 3000, 128, 32


@pytest.fixture(scope="module")
def data(
    tmp_path_factory: pytest.TempPathFactory, write_archives: Callable[..., Path]
) -> PreparedSet:
    folder = write_archives(tmp_path_factory.mktemp("large"), (DRAWINGS // 2, 40, 2))
    return prepare([folder], folder / "prepared", progress=False, processes=1)


class Watched:
    """Counts what is read of an array; to read it as a whole is an error."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.read = array, 0
        self.dtype, self.shape, self.nbytes = array.dtype, array.shape, array.nbytes

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> np.ndarray:
        out = self.array[index]
        self.read += len(np.atleast_1d(out))
        return out

    def __array__(self, *unused: object, **options: object) -> np.ndarray:
        raise AssertionError("the whole array was read")


def watched(data: PreparedSet) -> PreparedSet:
    def of(name: str) -> Any:
        split = data.split(name)
        arrays = {k: Watched(getattr(split, k)) for k in ("flat", "starts", "ends", "labels")}
        return dataclasses.replace(split, **arrays)

    return dataclasses.replace(data, **{s: of(s) for s in ("train", "valid", "test")})


def test_only_what_is_drawn_is_read(
    data: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "WHOLE", 1000)
    monkeypatch.setattr(trainer, "SCALED", SCALED)
    monkeypatch.setattr(run, "JUDGED", JUDGED)
    optim = OptimConfig(iterations=6, batch_size=8, warmup=2)
    spied, left_out = within(watched(data), 24)
    assert not left_out
    made = DenoiserTrainer(spied, MODEL, optim)
    assert 0 < spied.train.flat.read <= SCALED * 24
    DenoiserRun(made, tmp_path, save_interval=2).go()  # three saves
    drawn = SCALED + 6 * 8 + 2 * 3 * JUDGED
    assert SCALED * 2 < spied.train.flat.read <= drawn * 24
    pool = 24 * 8  # drawings that are sorted by length together
    for array in (spied.train.starts, spied.train.ends, spied.train.labels):
        assert array.read <= 2 * drawn + pool
    assert not spied.test.flat.read
    counts = made.checkpoint().lengths
    assert counts[-1].sum() == DRAWINGS
    assert counts.tolist() == length_counts(data.train, MODEL.codec).tolist()


def test_the_scale_of_a_sample_is_that_of_all(
    data: PreparedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    optim = OptimConfig(iterations=1, batch_size=8)
    whole = DenoiserTrainer(data, MODEL, optim).model.codec.scale
    monkeypatch.setattr(trainer, "SCALED", 512)
    assert DenoiserTrainer(data, MODEL, optim).model.codec.scale == pytest.approx(whole, rel=0.05)


def test_a_run_goes_on_with_its_own_scale(
    data: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of older versions took the scale of all drawings."""
    optim = OptimConfig(iterations=4, batch_size=8)
    straight, first = DenoiserTrainer(data, MODEL, optim), DenoiserTrainer(data, MODEL, optim)
    list(straight.run())
    list(first.run(2))
    first.save_state(tmp_path / "state.safetensors")
    monkeypatch.setattr(trainer, "SCALED", 64)
    second = DenoiserTrainer(data, MODEL, optim)
    assert second.model.codec.scale != first.model.codec.scale
    second.load_state(tmp_path / "state.safetensors")
    list(second.run())
    assert second.checkpoint().config == straight.checkpoint().config
    for name, value in straight.weights().items():
        assert value.equal(second.weights()[name]), name


def test_large_sets_are_seen_once_an_epoch(
    data: PreparedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "WHOLE", 1000)
    loader = DenoiserTrainer(data, MODEL, OptimConfig(batch_size=50)).source
    epochs = [[loader.indices(60 * e + i) for i in range(60)] for e in range(2)]
    for batches in epochs:
        assert sorted(np.concatenate(batches)) == list(range(DRAWINGS))
        spread = [np.ptp(data.train.lengths[b]) for b in batches]
        assert np.mean(spread) < 6  # of 18: batches hold drawings of similar length
    assert not np.array_equal(*epochs)
    first = [data.train.lengths[b].mean() for b in epochs[0][:24]]
    assert first != sorted(first)


def test_sets_of_older_versions_are_counted(data: PreparedSet, tmp_path: Path) -> None:
    for path in data.path.iterdir():
        if path.suffix == ".npy":
            (tmp_path / path.name).symlink_to(path)
    info = json.loads((data.path / "prepared.json").read_text())
    del info["lengths"]
    (tmp_path / "prepared.json").write_text(json.dumps(info))
    old = PreparedSet.open(tmp_path)
    assert old.train.counted is None
    np.testing.assert_array_equal(old.train.by_length, data.train.by_length)
    assert within(old, 8)[1] == within(data, 8)[1] > 0
