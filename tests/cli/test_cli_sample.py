"""The sample command: exactly as many sketches as asked, in every format."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import io
from sketchknitter.cli import main
from sketchknitter.data.codec import Codec
from sketchknitter.data.prepare import prepare
from sketchknitter.settings import BackboneConfig, DiffusionConfig, OptimConfig
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.config import ModelConfig
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer


@pytest.fixture(scope="module")
def model(
    tmp_path_factory: pytest.TempPathFactory, random_rows: Callable[..., list[np.ndarray]]
) -> Path:
    """A model of cats and ice creams that learned nothing."""
    folder = tmp_path_factory.mktemp("model")
    for k, name in enumerate(("cat", "ice cream")):
        rows = np.empty(12, dtype=object)
        rows[:] = random_rows(12, seed=k)
        np.savez(folder / f"{name}.npz", train=rows, valid=rows[:2], test=rows[:2])
    network = BackboneConfig(widths=(8, 16), num_res_blocks=1, attention_levels=(), num_heads=2)
    config = ModelConfig(network, DiffusionConfig(diffusion_steps=40), Codec(max_rows=24))
    data = prepare([folder], folder / "prepared", progress=False)
    trainer = DenoiserTrainer(data, config, OptimConfig(batch_size=4))
    for _ in trainer.run(2):  # the last layer starts at zero, and every class would look the same
        pass
    trainer.checkpoint().save(folder / "model.safetensors")
    return folder


@pytest.fixture
def sample(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs the command in an empty folder; returns what it said on stdout."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, steps: tuple[str, ...] = ("--steps", "3")) -> str:
        main(["sample", "--model-path", str(model), "--device", "cpu", *steps, *words])
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("suffix", [".ndjson", ".npz"])
@pytest.mark.parametrize("n", [1, 7])
def test_exactly_n_of_a_class(sample: Callable[..., str], suffix: str, n: int) -> None:
    said = sample("ice cream", "-n", str(n), "-o", f"out{suffix}", "--batch-size", "3")
    sketches = list(io.read(f"out{suffix}"))
    assert len(sketches) == n
    assert {s.label for s in sketches} == {"ice cream"}
    many = "sketch" if n == 1 else "sketches"
    assert re.match(rf"out\{suffix}: {n} {many} of ice cream, [\d.e-]+ s each", said)


def test_without_anything_a_page_of_all_classes(sample: Callable[..., str]) -> None:
    assert sample("-n", "1").startswith("sketches.svg: 1 sketch of 1 class, ")
    assert sample().startswith("sketches.svg: 25 sketches of 2 classes")
    sample("-o", "same.ndjson")
    same = list(io.read("same.ndjson"))
    assert [s.label for s in same[:2]] in (["cat", "ice cream"], ["ice cream", "cat"])
    assert [len(s) for s in io.read("sketches.svg")] == [len(s) for s in same]


def test_pictures(sample: Callable[..., str]) -> None:
    from PIL import Image

    sample("-n", "4", "-o", "page.png")
    sample("-n", "4", "-o", "captions.png", "--captions")
    with Image.open("page.png") as plain, Image.open("captions.png") as captioned:
        assert captioned.height > plain.height
    sample("cat", "-n", "2", "-o", "film.gif", "--denoising")
    with Image.open("film.gif") as film:
        assert film.n_frames >= 4  # three levels and the drawing
    sample("cat", "-n", "1", "-o", "still.svg")
    sample("cat", "-n", "1", "-o", "moving.svg", "--animate", "True")
    assert "@keyframes" in Path("moving.svg").read_text()
    assert "@keyframes" not in Path("still.svg").read_text()


def test_a_sheet_for_a_plotter(
    sample: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    sample("-n", "4", "--paper", "A5", "--landscape", "--margin", "12", "--pen-width", "0.4",
           "--layers", "True", "--captions", "-o", "a5.svg")  # fmt: skip
    text = Path("a5.svg").read_text()
    assert 'width="210mm" height="148mm"' in text
    assert 'stroke-width="0.4"' in text
    assert text.count("inkscape:groupmode") == 3  # cat, ice cream, captions
    for words, reason in {
        ("--paper", "A5", "-o", "a.png"): "--paper writes .svg, not .png",
        ("--paper", "A55"): "no paper 'A55'",
        ("--paper", "A5", "--margin", "90"): "leaves no room",
        ("--margin", "9"): "--margin needs paper",
        ("--paper", "A5", "--animate"): "leave --animate",
    }.items():
        with pytest.raises(SystemExit):
            sample(*words)
        assert reason in capsys.readouterr().err


def close(a: Sketch, b: Sketch) -> bool:
    return [len(s) for s in a.strokes] == [len(s) for s in b.strokes] and bool(
        np.abs(a.points - b.points).max() < 0.02  # ndjson keeps two digits
    )


def test_the_seed_decides_and_the_batch_size_does_not(sample: Callable[..., str]) -> None:
    files = {}
    for name, words in {
        "1": ("--batch-size", "1"),
        "25": ("--batch-size", "25"),
        "other": ("--seed", "1"),
    }.items():
        sample("cat", "-n", "6", "-o", f"{name}.ndjson", *words)
        files[name] = list(io.read(f"{name}.ndjson"))
    assert all(close(a, b) for a, b in zip(files["1"], files["25"], strict=True))
    assert not any(close(a, b) for a, b in zip(files["1"], files["other"], strict=True))


def test_verbose_prints_the_levels_visited(sample: Callable[..., str]) -> None:
    said = sample("-n", "3", "-v", "-o", "x.ndjson")
    assert "3 sketches visited 3 levels: 39 20 0" in said


def test_old_spelling(sample: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    said = sample(
        *("--num_samples", "3", "--use_ddim", "True", "--timestep_respacing", "ddim10"),
        *("--save_path", "out", "--pen_break", ".1", "--class_cond", "True", "--verbose", "True"),
        steps=(),
    )
    assert "visited 10 levels: 36 32" in said
    assert len(list(io.read("out/result.npz"))) == 3


def test_ancestral_sampling_visits_every_level(sample: Callable[..., str]) -> None:
    said = sample("-n", "1", "-v", "-o", "x.ndjson", "--sampler", "ddpm", steps=())
    assert "visited 40 levels" in said


def test_pen_break_lifts_never_and_always(sample: Callable[..., str]) -> None:
    sample("-n", "4", "-o", "never.ndjson", "--pen-break", "1")
    assert {len(s) for s in io.read("never.ndjson")} == {1}
    sample("-n", "4", "-o", "always.ndjson", "--pen-break", "0")
    assert all(len(s) == s.num_points for s in io.read("always.ndjson"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cot"], "did you mean 'cat'"),
        (["-n", "0"], "-n must be at least 1"),
        (["-o", "x.bmp"], "no writer"),
        (["-o", "nowhere/x.svg"], "no such folder"),
        (["--steps", "0"], "--steps must lie in 2 … 40, not 0"),
        (["--threads", "-1"], "--threads must be 0"),
        (["--guidance", "-1"], "--guidance must be at least 0"),
        (["--interval", "0.9", "0.1"], "--interval takes two shares of T, the lower one first"),
        (["--pen-break", "2"], "--pen-break must lie in 0 … 1"),
        (["--animate", "--denoising"], "give one"),
        (["--steps", "41"], "--steps must lie in 2 … 40"),
        (["--sampler", "magic"], "no sampler 'magic'"),
        (["--timesteps", "magic"], "no timesteps policy 'magic'"),
        (["--eta", "0.5"], "add --sampler ddim"),
        (["--timesteps", "marks", "--steps", "9"], "--steps must be 8 with the timesteps marks"),
        (["--animate", "-o", "x.png"], "--animate writes"),
        (["--denoising", "-o", "x.npz"], "--denoising writes"),
        (["--captions", "-o", "x.npz"], "--captions go on pages"),
        (["--model-path", "nothing.safetensors"], "no such file"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(
    sample: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        sample(*words)
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "error: " in last
    assert message in last
    assert not list(Path().iterdir())
