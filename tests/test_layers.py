"""The architecture, held by the import statements themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sketchknitter

ROOT = Path(sketchknitter.__file__).parent
PACKAGE = "sketchknitter"

# every room of the package and its layer; imports go from a higher layer to a lower one
LAYERS = {
    "errors": -2,
    "files": -1,
    "seeds": -1,
    "sketch": 0,
    "geometry": 0,
    "io": 1,
    "raster": 1,
    "plot": 1,
    "nn": 1,
    "data": 2,
    "diffusion": 2,
    "metrics": 2,
    "config": 3,
    "checkpoint": 3,
    "report": 3,
    "calibration": 3,
    "fitting": 3,
    "learning": 3,
    "model": 4,
    "baselines": 4,
    "guessing": 4,
    "editing": 4,
    "train": 5,
    "run": 5,
    "train_recognizer": 5,
    "train_reader": 5,
    "train_recognizability": 5,
    "evaluate": 5,
    "systems": 5,
    "experiments": 6,
    "cli": 7,
    "web": 7,
}

# rooms of one layer that may meet: (who, whom)
SIBLINGS = {
    ("geometry", "sketch"),
    ("io", "raster"),  # pictures are files too
    ("checkpoint", "config"),
    ("baselines", "model"),  # for the Generator protocol
    ("model", "editing"),  # the model's ways with a person's own drawing live apart
    ("editing", "model"),
    ("editing", "guessing"),
    ("guessing", "model"),
    ("run", "train"),  # a run is a trainer in a folder
    ("train_recognizer", "train_reader"),  # one command trains all three
}

# the one upward import: (file, functions it stands in, what)
EXCEPTION = ("sketch.py", {"open", "save", "_repr_svg_"}, "io")

GENERATES = (
    "model",
    "diffusion",
    "nn",
    "train",
    "data",
    "config",
    "checkpoint",
    "train_recognizability",
    "train_reader",
    "learning",
    "fitting",
    "guessing",
    "editing",
    "calibration",
)
JUDGE = "metrics.features"


class Imports(ast.NodeVisitor):
    """(imported module, names of the functions around it) of one file, package prefix removed."""

    def __init__(self, path: Path) -> None:
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.around: tuple[str, ...] = ()
        self.package = (PACKAGE, *path.relative_to(ROOT).parent.parts)
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.around, before = (*self.around, node.name), self.around
        self.generic_visit(node)
        self.around = before

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level:
            base = self.package[: len(self.package) - node.level + 1]
            module = ".".join([*base, *([module] if module else [])])
        for alias in node.names:  # the name may be a module as well
            inner = f"{module}.{alias.name}"
            self._add(inner if _is_module(inner) else module)

    def _add(self, module: str) -> None:
        if module.startswith(f"{PACKAGE}."):
            self.found.append((module.removeprefix(f"{PACKAGE}."), self.around))


def _is_module(name: str) -> bool:
    parts = name.split(".")
    place = ROOT.parent.joinpath(*parts)
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


FILES = sorted(p for p in ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    """``diffusion.sampler`` of a file, ``io`` of ``io/__init__.py``, nothing of the package's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    return module.split(".")[0]


def offences(name: str, path: Path) -> list[str]:
    """Imports of one module that do not go downward."""
    out = []
    here = room(name)
    for module, around in Imports(path).found:
        there = room(module)
        if here == there or (here, there) in SIBLINGS:
            continue
        file, functions, what = EXCEPTION
        if path == ROOT / file and there == what and around and around[-1] in functions:
            continue
        if there not in LAYERS or LAYERS[there] >= LAYERS[here]:
            out.append(f"{name} imports {module}")
    return out


def test_the_walk_finds_the_package() -> None:
    names = {name_of(p) for p in FILES}
    assert {"model", "diffusion.sampler", "nn.unet1d", "io", "cli"} <= names
    assert sum(len(Imports(p).found) for p in FILES) > 60


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downward(path: Path) -> None:
    name = name_of(path)
    if not name:
        return  # the package itself offers what it likes
    assert room(name) in LAYERS, f"give {room(name)} a layer here and in the design"
    assert offences(name, path) == []


def reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen, todo = set(), [start]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph.get(name, ())
    return seen


def graph() -> dict[str, set[str]]:
    """Module -> modules it names, whether it loads them at once or later."""
    return {name_of(path): {m for m, _ in Imports(path).found} for path in FILES}


def test_nothing_that_generates_imports_the_judge() -> None:
    edges = graph()
    guilty = [name for name in edges if room(name) in GENERATES and JUDGE in reachable(name, edges)]
    assert guilty == []


def test_the_judge_is_there_to_be_kept_out() -> None:
    assert JUDGE in reachable("evaluate", graph())


def test_the_rules_catch_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path / PACKAGE)
    folder = tmp_path / PACKAGE / "nn"
    folder.mkdir(parents=True)
    (tmp_path / PACKAGE / "model.py").touch()
    file = folder / "bad.py"
    file.write_text("from ..model import X\ndef f():\n    import sketchknitter.cli.sample\n")
    assert offences("nn.bad", file) == ["nn.bad imports model", "nn.bad imports cli.sample"]
    sketch = tmp_path / PACKAGE / "sketch.py"
    sketch.write_text("def open():\n    from sketchknitter import io\n")
    (tmp_path / PACKAGE / "io.py").touch()
    assert offences("sketch", sketch) == []
    sketch.write_text("def close():\n    from sketchknitter import io\n")
    assert offences("sketch", sketch) == ["sketch imports io"]
