"""Regenerates every picture and figure that README.md and the model card show.

    make pictures                       # pictures only
    make pictures DATA=path/to/data     # and the figures, measured against the test split

Nothing is picked: seeds are fixed, and what the model draws is what is shown.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
SHOWN = ("face", "cat", "butterfly", "ice cream", "airplane", "cactus")
PER_CLASS = 40


def run(*argv: str) -> None:
    """One command of the product, printed as a person would type it."""
    print("sketchknitter", *argv, flush=True)
    subprocess.run([sys.executable, "-m", "sketchknitter.cli", *argv], check=True)


def pictures() -> None:
    """A page of 200 random drawings, and one row for each of a few classes."""
    from sketchknitter import SketchKnitter, raster

    folder = DOCS / "pictures"
    folder.mkdir(exist_ok=True)
    model = SketchKnitter.from_pretrained()
    page = model.sample(n=200, seed=0)
    raster.grid(page, columns=20, cell=84, captions=True).save(
        folder / "random-200.png", optimize=True
    )
    rows = [sketch for label in SHOWN for sketch in model.sample(label, n=10, seed=0)]
    raster.grid(rows, columns=10, cell=96).save(folder / "classes.png", optimize=True)


def figures(data: Path) -> None:
    """Measure the shipped weights against the test split; writes docs/results/shipped.json."""
    results = DOCS / "results"
    results.mkdir(exist_ok=True)
    drawn = ROOT / "runs" / "shipped.ndjson"
    drawn.parent.mkdir(exist_ok=True)
    from sketchknitter import SketchKnitter

    count = PER_CLASS * len(SketchKnitter.from_pretrained().classes)
    run("sample", "-n", str(count), "--seed", "0", "-o", str(drawn))
    target = str(results / "shipped.json")
    run("evaluate", str(drawn), "--against", str(data), "--split", "test", "-o", target)


def table() -> str:
    """The README's figures as Markdown, read from docs/results/shipped.json."""
    report = json.loads((DOCS / "results" / "shipped.json").read_bytes())
    lines = ["| metric | drawn | floor (real against real) | N |", "|---|---|---|---|"]
    for figure in report["figures"]:
        value, floor = figure["value"], figure["floor"]
        shown = "" if floor is None else f"{floor:.4g}"
        unit = f" {figure['unit']}" if figure["unit"] else ""
        lines.append(f"| {figure['name']} | {value:.4g}{unit} | {shown} | {figure['n']} |")
    return "\n".join(lines)


def insert(path: Path, name: str, text: str) -> None:
    """Replace what stands between the markers ``<!-- name -->`` and ``<!-- /name -->``."""
    page = path.read_text()
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{path}: no markers for {name}")
    path.write_text(pattern.sub(lambda m: f"{m[1]}{text}\n{m[2]}", page))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="drawings to measure against (test split)")
    options = parser.parse_args()
    pictures()
    if options.data is not None:
        figures(options.data)
    for page in (ROOT / "README.md", DOCS / "model_card.md"):
        insert(page, "figures", table())


if __name__ == "__main__":
    main()
