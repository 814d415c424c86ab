"""Are wheel and sdist whole? Installed into empty environments, far from the source, they draw.

    python -m build --no-isolation && python tools/check_package.py dist

Libraries are those of the environment that runs this, shown to the empty ones by a path file;
sketchknitter itself comes from wheel or sdist alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from pathlib import Path

CHECK = """
import importlib.metadata, pathlib, sys
import sketchknitter
home = pathlib.Path(sketchknitter.__file__).parent
assert home.is_relative_to(sys.prefix), f"{home} is not in {sys.prefix}"
assert (home / "py.typed").is_file(), "py.typed is missing: users get no types"
assert importlib.metadata.version("sketchknitter") == sketchknitter.__version__
plugins = importlib.metadata.entry_points(group="vpype.plugins")
assert any(p.name == "sketchknitter" for p in plugins), "vpype will not find its plug-in"
"""


def newest(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern), key=lambda p: p.stat().st_mtime)
    if not found:
        sys.exit(f"error: no {pattern} in {folder}; run python -m build first")
    return found[-1]


def check(package: Path) -> None:
    """Install a wheel or an sdist into an environment of its own, and draw there."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "env"
        venv.create(place, with_pip=False)
        python = place / "bin" / "python"
        paths = sysconfig.get_paths(vars={"base": str(place), "platbase": str(place)})
        purelib = Path(paths["purelib"])
        (purelib / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        # what the environment that runs this has installed must not count as installed there
        alone = ["--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
        subprocess.run([*pip, *alone, str(package)], check=True)
        drawing = Path(folder) / "cat.svg"
        # -I: neither the working directory nor PYTHONPATH may lend the source
        run = [str(python), "-I"]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        words = ["sample", "cat", "-n", "2", "--paper", "A5", "-o", str(drawing)]
        for command in (["-c", CHECK], ["-m", "sketchknitter", *words]):
            subprocess.run([*run, *command], check=True, cwd=folder, env=clean)
        script = [str(place / "bin" / "sketchknitter"), "--version"]
        subprocess.run(script, check=True, cwd=folder, env=clean)
        if 'width="148mm"' not in drawing.read_text():
            sys.exit(f"error: {package.name}: the installed command drew no A5 sheet")


def main() -> None:
    dist = Path(sys.argv[1] if len(sys.argv) > 1 else "dist")
    wheel, sdist = newest(dist, "*.whl").resolve(), newest(dist, "*.tar.gz").resolve()
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "tests/conftest.py"):
        if needed not in names:
            sys.exit(f"error: {sdist} lacks {needed}")
    for package in (wheel, sdist):
        check(package)
    print(f"{wheel.name} and {sdist.name}: whole")


if __name__ == "__main__":
    main()
