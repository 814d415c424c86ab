"""The tutorials do what they say: every block of code runs, made small where it would take long."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image

import tiny_model
from sketchknitter import io
from sketchknitter.cli import completion, main
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.files import WEIGHTS
from sketchknitter.raster import render
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUICK = ("--steps", "2")

# what is made smaller: (words of the page, what runs instead)
SMALLER = {
    "own-drawings": [
        ("--warmup 50 --batch-size 16 --iterations 1000 --save-interval 250",
         "--warmup 1 --batch-size 4 --iterations 2 --save-interval 2"),
    ],
    "plotter": [("-n 12 --paper", "-n 2 --paper"), ("-n 9 --paper", "-n 2 --paper")],
    "python": [],
    "your-own-system": [],
}  # fmt: skip


def blocks(page: str) -> Iterator[tuple[str, str]]:
    text = next(ROOT.glob(f"**/{page}.md")).read_text()
    for words, smaller in SMALLER[page]:
        assert words in text, f"{page}.md no longer says {words!r}"
        text = text.replace(words, smaller)
    yield from BLOCK.findall(text)


def run(page: str) -> dict[str, object]:
    """All blocks of a page in order; the names that its Python leaves."""
    names: dict[str, object] = {}
    for language, code in blocks(page):
        if language == "python":
            exec(compile(code, f"{page}.md", "exec"), names)
            continue
        for line in code.strip().splitlines():
            words = shlex.split(line.removeprefix("PYTHONPATH=. "), comments=True)
            assert words[0] == "sketchknitter"
            drawing = words[1] in ("sample", "complete", "vary")
            main([*words[1:], *(QUICK if drawing else ())])
    return names


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with half a drawing, and small weights where the shipped ones are asked for."""
    monkeypatch.chdir(tmp_path)
    small, load = tiny_model.tiny(classes=("cat", "pig", "cup")).checkpoint, Checkpoint.load
    monkeypatch.setattr(
        Checkpoint, "load", lambda path: small if Path(path).parent == WEIGHTS else load(path)
    )
    tiny_model.half().with_label("cat").save("half.svg")
    return tmp_path


def readme() -> Iterator[list[str]]:
    """Words of every command of the README."""
    for line in (ROOT.parent / "README.md").read_text().splitlines():
        words = shlex.split(line, comments=True) if line.startswith("sketchknitter ") else []
        if len(words) > 1:
            yield words[1:]


def test_every_command_of_the_readme_is_understood(place: Path) -> None:
    asked = set()
    for verb, *words in readme():
        module, kind = completion.OPTIONS[verb]
        options = getattr(import_module(f"sketchknitter.cli.{module}"), kind)
        flat = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
        tyro.cli(options, args=words, config=flat)
        asked.add(verb)
    assert asked >= {"sample", "complete", "heal", "data", "train", "evaluate", "table"}


def test_the_readme_evaluates_what_was_drawn(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    (place / "drawings").mkdir()
    for kind in ("cat", "pig"):
        walks = (rng.normal(0, 12, (9, 2)).cumsum(axis=0).round() for _ in range(400))
        drawn = [Sketch([w], kind) for w in walks]
        io.write(drawn, place / f"drawings/{kind}.ndjson")
        io.write(drawn[:20], place / "mine.ndjson")
    for verb, *words in readme():
        if verb == "evaluate":
            main([verb, *words, "--geometry-repeats", "0"])
        elif words[:1] == ["prepare"]:
            main([verb, *words])
    assert Path("report.html").exists()
    assert "fid_sketch" in capsys.readouterr().out


def test_what_make_demo_draws_is_no_news_to_git() -> None:
    ignored = ROOT.parent / ".gitignore"
    if not ignored.exists():
        pytest.skip("no checkout")
    recipe = (ROOT.parent / "Makefile").read_text().partition("\ndemo:")[2].partition("\n\n")[0]
    drawn = re.findall(r"-o (\S+)", recipe)
    assert drawn
    assert {f"/{name}" for name in drawn} <= set(ignored.read_text().splitlines())


def test_own_drawings(place: Path) -> None:
    pytest.importorskip("skimage")
    (place / "drawings").mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        drawing = Sketch([rng.normal(0, 12, (8, 2)).cumsum(axis=0) for _ in range(3)])
        drawing.save(place / f"drawings/{i}.svg")
    Image.fromarray(render(drawing, 300, 0.014)).save("photo.png")
    run("own-drawings")
    assert len(Sketch.open("drawings/traced.svg")) > 1
    model = SketchKnitter.from_pretrained("runs/mine")
    assert model.classes == ("my cat",)
    assert Path("cats.svg").exists()
    assert Path("finished.svg").exists()


def test_plotter(place: Path) -> None:
    run("plotter")
    sheets = {"a5": "148mm", "page": "297mm", "pens": "210mm", "endings": "148mm"}
    for name, width in {**sheets, "variations": "200mm", "half-a5": "210mm"}.items():
        assert f'width="{width}"' in Path(f"{name}.svg").read_text()


def test_python(place: Path) -> None:
    names = run("python")
    assert len(names["endings"]) == 4
    assert len(names["path"]) == 5
    assert Path("endings.png").exists()
    assert Path("path.gif").exists()


def test_your_own_system(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page says to save is saved, and its table is made by its command."""
    text = (ROOT / "your-own-system.md").read_text()
    for language, name in (("python", "average_drawing.py"), ("toml", "average.toml")):
        (code,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
        (place / name).write_text(code)
    monkeypatch.syspath_prepend(place)
    rng = np.random.default_rng(0)
    (place / "drawings").mkdir()
    for kind in ("cat", "pig"):
        walks = (rng.normal(0, 12, (9, 2)).cumsum(axis=0).round() for _ in range(400))
        io.write([Sketch([w[:5], w[5:]], kind) for w in walks], place / f"drawings/{kind}.ndjson")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    run("your-own-system")
    report = (place / "average/results.md").read_text()
    assert "| average " in report
    assert "| average, calm " in report
