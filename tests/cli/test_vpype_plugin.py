"""The generator in vpype's own pipeline."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from sketchknitter.sketch import Sketch
from tiny_model import tiny

cli = pytest.importorskip("vpype_cli")
MM = 96 / 25.4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny().save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def plugin() -> None:
    """Loaded as the entry point in pyproject.toml says, installed or not."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    ((name, value),) = project["project"]["entry-points"]["vpype.plugins"].items()
    command = EntryPoint(name, value, "vpype.plugins").load()
    assert command.name == "sketchknitter"
    cli.cli.add_command(command)


def test_a_page_in_a_pipeline(model: str, tmp_path: Path) -> None:
    out = tmp_path / "cats.svg"
    words = f"sketchknitter --class box -n 9 --steps 2 --model {model}"
    document = cli.execute(f"{words} layout a4 write {out}")
    lines = document.layers[1]
    x0, y0, x1, y1 = np.array(lines.bounds()) / MM
    assert max(x1 - x0, y1 - y0) == pytest.approx(150 * (1 - 2 * 0.06 / 3), abs=12)
    assert (x0 + x1) / 2 == pytest.approx(105, abs=0.1)  # layout has centered it
    assert 'width="21' in out.read_text()
    drawn = sum(len(s) for s in tiny().sample("box", 9, steps=2))
    assert len(lines) == drawn
    assert len(Sketch.open(out)) > 9


def test_into_a_layer_with_captions(model: str) -> None:
    words = f"sketchknitter -n 3 --captions --size 2cm --steps 2 --layer 4 --model {model}"
    document = cli.execute(words)
    assert list(document.layers) == [4]
    x0, y0, x1, y1 = np.array(document.bounds()) / MM
    assert min(x0, y0) >= 0
    assert max(x1, y1) <= 40.01


def test_a_mistake_is_one_line(model: str) -> None:
    import click

    with pytest.raises(click.ClickException, match="no class 'bax'; did you mean 'box'"):
        cli.execute(f"sketchknitter --class bax --model {model}")
