"""The architecture, held by the import statements themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sketchknitter

ROOT = Path(sketchknitter.__file__).parent
PACKAGE = "sketchknitter"

# every room of the package, from low to high; imports stay in their room or go to lower ones
ROOMS = (
    ("errors", "seeds"),
    ("settings", "classes"),
    ("files", "sketch", "progress", "processes", "representation"),
    ("geometry",),
    ("raster", "plot"),
    ("io", "nn"),
    ("data",),
    ("training",),
    ("diffusion",),
    ("recognizers",),
    ("metrics",),
    ("systems",),
    ("editing",),
    ("reports",),
    ("experiments",),
    ("studio",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}

# rooms of one level that may meet: (who, whom)
SIBLINGS: set[tuple[str, str]] = set()

# the one upward import, of files and pictures: (file, functions it stands in, what)
EXCEPTION = ("sketch.py", {"open", "save", "to_svg", "to_image"}, "io")

# rooms that import our own modules when they are asked for, so that the command starts fast:
# never upward, never in a circle all the same
LAZY = ("", "io", "cli", "studio")

JUDGE = "metrics.judge.network"
# what measures or offers everything; all other rooms generate, and never see the judge
MEASURES = ("metrics", "reports", "experiments", "studio", "cli")


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


def excepted(path: Path, module: str, around: tuple[str, ...]) -> bool:
    file, functions, what = EXCEPTION
    return path == ROOT / file and room(module) == what and bool(functions & set(around))


def offences(name: str, path: Path) -> list[str]:
    """Imports of one module that do not go downward, or that hide in a function."""
    out = []
    here = room(name)
    for module, around in Imports(path).found:
        there = room(module)
        if excepted(path, module, around):
            continue
        if around and here not in LAZY:
            out.append(f"{name} imports {module} inside {around[-1]}")
        elif here != there and (here, there) not in SIBLINGS and LEVEL[there] >= LEVEL[here]:
            out.append(f"{name} imports {module}")
    return out


def test_the_walk_finds_the_package() -> None:
    names = {name_of(p) for p in FILES}
    assert {"sketch", "diffusion.sampler", "nn.unet1d", "io", "cli"} <= names
    assert sum(len(Imports(p).found) for p in FILES) > 60


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downward(path: Path) -> None:
    name = name_of(path)
    if not name:
        return  # the package itself offers what it likes
    assert room(name) in LEVEL, f"give {room(name)} a place here and in the design"
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
    return {
        name_of(path): {m for m, around in Imports(path).found if not excepted(path, m, around)}
        for path in FILES
        if name_of(path)
    }


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Modules that can be reached from themselves."""
    return [m for m in edges if any(m in reachable(n, edges) for n in edges[m] if n != m)]


def test_no_module_comes_back_to_itself() -> None:
    assert circles(graph()) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_nothing_that_generates_imports_the_judge() -> None:
    edges = graph()
    guilty = [
        name for name in edges if room(name) not in MEASURES and JUDGE in reachable(name, edges)
    ]
    assert guilty == []


def test_the_judge_is_there_to_be_kept_out() -> None:
    assert JUDGE in reachable("reports.evaluate", graph())


def test_the_rules_catch_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path / PACKAGE)
    folder = tmp_path / PACKAGE / "nn"
    folder.mkdir(parents=True)
    (tmp_path / PACKAGE / "cli.py").touch()
    file = folder / "bad.py"
    file.write_text("from ..cli import X\ndef f():\n    import sketchknitter.errors\n")
    assert offences("nn.bad", file) == ["nn.bad imports cli", "nn.bad imports errors inside f"]
    sketch = tmp_path / PACKAGE / "sketch.py"
    sketch.write_text("def open():\n    from sketchknitter import io\n")
    (tmp_path / PACKAGE / "io.py").touch()
    assert offences("sketch", sketch) == []
    sketch.write_text("def close():\n    from sketchknitter import io\n")
    assert offences("sketch", sketch) == ["sketch imports io inside close"]
