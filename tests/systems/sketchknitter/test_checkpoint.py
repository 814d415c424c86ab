"""One safe file holds a model, and nothing else is taken for one."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sketchknitter import files as module
from sketchknitter.data.codec import Codec
from sketchknitter.errors import UserError
from sketchknitter.files import FORMAT, KEY, read_tensors, write_tensors
from sketchknitter.recognizers.picture import GUIDE_WEIGHTS
from sketchknitter.settings import BackboneConfig, DiffusionConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser


@pytest.fixture
def made() -> Checkpoint:
    config = ModelConfig(
        network=BackboneConfig(
            widths=(8, 12), num_res_blocks=1, attention_levels=(1,), num_heads=2
        ),
        diffusion=DiffusionConfig(diffusion_steps=50, parametrization="eps"),
        codec=Codec(scale=12.5, max_rows=20, pen_break=0.3),
        classes=("cat", "ice cream"),
    )
    return Checkpoint(
        config=config,
        weights=build_denoiser(config).state_dict(),
        lengths=torch.arange(3 * 22, dtype=torch.int32).view(3, 22),
        record={"updates": 7, "loss": 0.25},
        extras={"recognizability.w": torch.randn(3, 2)},
        notes={"shortcut": {"levels": [3, 2]}},
    )


def test_round_trip(made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    made.save(path)
    back = Checkpoint.load(path)
    assert back.config == made.config
    assert (back.record, back.notes) == (made.record, made.notes)
    assert torch.equal(back.lengths, made.lengths)
    assert back.lengths.dtype == torch.int32
    for ours, theirs in ((back.weights, made.weights), (back.extras, made.extras)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert os.listdir(path.parent) == ["model.safetensors"]


def test_it_alone_rebuilds_the_model(made: Checkpoint, tmp_path: Path) -> None:
    made.save(tmp_path / "m.safetensors")
    given = (
        torch.randn(2, 9, 5),
        torch.tensor([3, 40]),
        torch.tensor([0, 2]),
        torch.ones(2, 9) > 0,
    )
    one = made.denoiser()
    two = Checkpoint.load(tmp_path / "m.safetensors").denoiser()
    assert not two.training
    assert torch.equal(one(*given).x0, two(*given).x0)


def test_half_precision_weights_come_back_as_float32(made: Checkpoint, tmp_path: Path) -> None:
    made.weights = {k: v.half() for k, v in made.weights.items()}
    made.save(tmp_path / "m.safetensors")
    model = Checkpoint.load(tmp_path / "m.safetensors").denoiser()
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_two_saves_are_the_same_bytes(made: Checkpoint, tmp_path: Path) -> None:
    made.save(tmp_path / "a.safetensors")
    made.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_header_is_plain_json(made: Checkpoint, tmp_path: Path) -> None:
    made.save(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()[KEY])
    assert (header["format"], header["kind"]) == (FORMAT, "model")
    assert header["config"]["classes"] == ["cat", "ice cream"]


# -- what is not a model ---------------------------------------------------------------------------
class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("bomb-went-off"),))


def test_a_pickle_is_refused_unopened(
    made: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain, archive = tmp_path / "p.safetensors", tmp_path / "t.safetensors"
    plain.write_bytes(pickle.dumps(Bomb()))
    torch.save({"model": Bomb()}, archive)
    for path in (plain, archive):
        with pytest.raises(UserError, match=r"not a readable \.safetensors file"):
            Checkpoint.load(path)
    assert not Path("bomb-went-off").exists()


def test_wrong_files(made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match=r"x\.safetensors: no such file"):
        Checkpoint.load(path)
    with pytest.raises(UserError, match="not a readable"):
        Checkpoint.load(tmp_path)
    for content in (b"", b"hello", b"\x00" * 64):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a readable"):
            Checkpoint.load(path)
    made.save(path)
    path.write_bytes(path.read_bytes()[:-10])  # cut short
    with pytest.raises(UserError, match="not a readable"):
        Checkpoint.load(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="a safetensors file, but not one of sketchknitter's"):
        Checkpoint.load(path)
    save_file({"a": torch.zeros(2)}, path, metadata={KEY: "not json"})
    with pytest.raises(UserError, match="not a readable"):
        Checkpoint.load(path)
    save_file({"a": torch.zeros(2)}, path, metadata={KEY: "[1, 2]"})
    with pytest.raises(UserError, match="not a readable"):
        Checkpoint.load(path)


def test_a_training_state_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    write_tensors(path, {"a": torch.zeros(2)}, {"format": FORMAT, "kind": "training state"})
    assert read_tensors(path)[1]["kind"] == "training state"
    with pytest.raises(UserError, match="holds training state, not a model"):
        Checkpoint.load(path)


def test_a_newer_format(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    write_tensors(path, {"a": torch.zeros(2)}, {"format": FORMAT + 1, "kind": "model"})
    with pytest.raises(UserError, match=rf"newer version \(format {FORMAT + 1}, .*upgrade"):
        Checkpoint.load(path)


def test_unknown_and_missing_settings(made: Checkpoint, tmp_path: Path) -> None:
    data = made.config.to_dict()
    data["network"]["flavor"] = "mint"
    with pytest.raises(UserError, match="unknown BackboneConfig settings: flavor"):
        ModelConfig.from_dict(data)
    data = made.config.to_dict()
    del data["diffusion"]
    with pytest.raises(UserError, match="DiffusionConfig settings are missing"):
        ModelConfig.from_dict(data)
    path = tmp_path / "m.safetensors"
    write_tensors(path, {"lengths": torch.zeros(2)}, {"format": FORMAT, "kind": "model"})
    with pytest.raises(UserError, match="BackboneConfig settings are missing"):
        Checkpoint.load(path)


def test_weights_that_do_not_fit(made: Checkpoint) -> None:
    made.weights.pop(next(iter(made.weights)))
    with pytest.raises(UserError, match="weights do not fit the checkpoint's configuration"):
        made.denoiser()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("classes",), ["cat", "a\nb"]),
        (("classes",), ["cat", "\x1b[31mred"]),
        (("classes",), [["cat"], "dog"]),
        (("network",), [1]),
        (("network", "widths"), [10**9, 10**9]),  # terabytes
        (("network", "widths"), [0.5, 8]),
        (("network", "widths"), "wide"),
        (("network", "widths"), [10**30, 8]),
        (("network", "num_res_blocks"), 10**9),
        (("network", "num_heads"), None),
        (("diffusion", "diffusion_steps"), 10**15),
        (("diffusion", "diffusion_steps"), 10**30),
        (("diffusion", "noise_schedule"), {}),
        (("codec", "max_rows"), 10**12),
        (("codec", "leak"), "x"),
        (("codec", "scale"), [[[]]]),
    ],
)
def test_settings_that_make_no_sense(
    made: Checkpoint, tmp_path: Path, place: tuple[str, ...], value: object
) -> None:
    path = tmp_path / "m.safetensors"
    made.save(path)
    tensors, header = read_tensors(path)
    *way, last = place
    inner = header["config"]
    for name in way:
        inner = inner[name]
    inner[last] = value
    write_tensors(path, tensors, header)
    with pytest.raises(UserError) as caught:
        Checkpoint.load(path).denoiser()
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_network_larger_than_the_weights_in_the_file(made: Checkpoint) -> None:
    made.config = dataclasses.replace(
        made.config, network=dataclasses.replace(made.config.network, widths=(1024, 1024))
    )
    with pytest.raises(UserError, match="larger than the weights"):
        made.denoiser()


def test_a_header_nested_too_deep(made: Checkpoint, tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"config":' * 100_000, "9" * 5000):
        save_file({"a": torch.zeros(2)}, tmp_path / "x", metadata={KEY: text})
        with pytest.raises(UserError):
            Checkpoint.load(tmp_path / "x")


# -- atomic ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_alone(
    made: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "m.safetensors"
    made.save(path)
    before = path.read_bytes()

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module.os, where, fail)
    made.record["updates"] = 8
    with pytest.raises(OSError, match="disk full"):
        made.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_a_header_that_lies_about_its_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(UserError, match="not a readable"):
        read_tensors(path)


def test_a_recognizer_is_no_model() -> None:
    with pytest.raises(UserError, match="another kind of file"):
        read_tensors(GUIDE_WEIGHTS)
