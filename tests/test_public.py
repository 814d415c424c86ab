"""The names that the package offers, and that they do what they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sketchknitter
from sketchknitter import Settings, Sketch, SketchKnitter, UserError, finetune, read, train, write
from sketchknitter.data.codec import Codec
from sketchknitter.settings import BackboneConfig, DiffusionConfig, OptimConfig

NAMES = {"evaluate", "finetune", "read", "train", "write"}
NAMES |= {"Settings", "Sketch", "SketchKnitter", "UserError"}


def test_dir_shows_just_what_is_offered() -> None:
    assert set(dir(sketchknitter)) == NAMES == set(sketchknitter.__all__)
    assert all(callable(getattr(sketchknitter, name)) for name in NAMES)
    with pytest.raises(AttributeError, match="no attribute 'flavor'"):
        sketchknitter.flavor  # noqa: B018


@pytest.mark.parametrize("words", ["import sketchknitter", "from sketchknitter import cli"])
def test_importing_waits_for_nothing(words: str) -> None:
    """Neither torch nor NumPy is loaded before something needs it."""
    code = f"{words}; import sys; print(sorted({{'torch', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def sketches(random_rows: Callable[..., list[np.ndarray]]) -> list[Sketch]:
    rows = random_rows(30, 4, 12, seed=4)
    return [Sketch.from_stroke3(r, "zig" if i % 2 else "zag") for i, r in enumerate(rows)]


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_train_and_finetune(sketches: list[Sketch], tmp_path: Path) -> None:
    said: list[str] = []
    how = {
        "optim": OptimConfig(iterations=2, batch_size=64),
        "network": BackboneConfig(widths=(8, 16), num_res_blocks=1, attention_levels=()),
        "diffusion": DiffusionConfig(diffusion_steps=20),
        "codec": Codec(max_rows=24),
    }
    model = train(sketches, tmp_path / "run", say=said.append, **how)
    assert isinstance(model, SketchKnitter)
    assert model.classes == ("zag", "zig")
    assert "instead of 64" in said[0]
    assert [s.label for s in model.sample(["zig", "zag"], settings=Settings(steps=2))] == [
        "zig",
        "zag",
    ]
    with pytest.raises(UserError, match="holds a run; resume it"):
        train(sketches, tmp_path / "run", **how)
    write(sketches[:20], tmp_path / "some.ndjson")
    assert len(list(read(tmp_path / "some.ndjson"))) == 20
    tuned = finetune(
        tmp_path / "some.ndjson",
        tmp_path / "tuned",
        model,
        classes=["zig"],
        optim=OptimConfig(iterations=1, batch_size=4),
    )
    assert tuned.classes == ("zig",)
    assert tuned.config.codec.scale == model.config.codec.scale


def test_evaluate_takes_sketches(data_dir: Path) -> None:
    real = [s for s in read(data_dir / "quickdraw" / "cat.npz", split="valid")][:24]
    real = [s.with_label("cat") for s in real]
    report = sketchknitter.evaluate(
        real, data_dir / "quickdraw" / "cat.npz", geometry_repeats=0, copy_check=False
    )
    named = {figure.name: figure for figure in report.figures}
    assert named["fid_sketch"].n == 24
    assert named["top1"].value > 0.5
