"""Regenerates the pictures and figures of README.md and of the model card.

    make pictures                       # pictures only
    make pictures DATA=…/quickdraw      # and the figures, measured against the test split

Nothing is picked: seeds are fixed, and what the model draws is what is shown.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
SHOWN = ("face", "cat", "butterfly", "ice cream", "airplane", "cactus")
PER_CLASS = 40


def run(*argv: str) -> None:
    """One command of the product, printed as a person would type it."""
    print("sketchknitter", *argv, flush=True)
    subprocess.run([sys.executable, "-m", "sketchknitter", *argv], check=True)


def pictures() -> None:
    """A page of 200 drawings, the usual classes in turn, and one row for each of a few classes."""
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

    count = PER_CLASS * len(SketchKnitter.from_pretrained().usual_classes)
    run("sample", "-n", str(count), "--seed", "0", "-o", str(drawn))
    target = str(results / "shipped.json")
    run("evaluate", str(drawn), "--against", str(data), "--split", "test", "-o", target)


def report() -> dict[str, dict[str, Any]]:
    """The measured figures by name, from docs/results/shipped.json."""
    text = (DOCS / "results" / "shipped.json").read_bytes()
    return {figure["name"]: figure for figure in json.loads(text)["figures"]}


def table(figures: dict[str, dict[str, Any]]) -> str:
    """All figures as Markdown, for the model card."""
    lines = ["| metric | drawn | floor (real against real) | N |", "|---|---|---|---|"]
    for figure in figures.values():
        value, floor = figure["value"], figure["floor"]
        shown = "" if floor is None else f"{floor:.4g}"
        unit = f" {figure['unit']}" if figure["unit"] else ""
        lines.append(f"| {figure['name']} | {value:.4g}{unit} | {shown} | {figure['n']} |")
    return "\n".join(lines)


def quality(figures: dict[str, dict[str, Any]]) -> str:
    """The figures that matter most in three sentences, for the README."""

    def pair(name: str, form: Callable[[float], str]) -> tuple[str, str]:
        return form(figures[name]["value"]), form(figures[name]["floor"])

    seen, seen_real = pair("top1", lambda v: f"{100 * v:.0f} %")
    fid, fid_real = pair("fid_sketch", lambda v: f"{v:.1f}")
    precision, precision_real = pair("precision", lambda v: f"{v:.2f}")
    recall, recall_real = pair("recall", lambda v: f"{v:.2f}")
    copies = round(figures["copied"]["value"] * figures["copied"]["n"])
    sentences = (
        f"Of {figures['top1']['n']:,} drawings at default settings, a classifier that had no part"
        f" in making them recognizes {seen} (of real drawings {seen_real});"
        f" {copies or 'none'} of them copied a training drawing.",
        f"Precision, the share that lies among real drawings, is {precision} (real drawings:"
        f" {precision_real}); recall, how much of their variety is covered, is {recall}"
        f" ({recall_real}).",
        f"The Fréchet distance on that classifier's features is {fid}, where two sets of real"
        f" drawings are {fid_real} apart; it cannot be compared with a published Inception FID.",
    )
    return textwrap.fill(" ".join(sentences), 104)


def insert(path: Path, name: str, text: str) -> None:
    """Replace what stands between the markers ``<!-- name -->`` and ``<!-- /name -->``."""
    page = path.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{path}: no markers for {name}")
    path.write_text(pattern.sub(lambda m: f"{m[1]}{text}\n{m[2]}", page), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="drawings to measure against (test split)")
    options = parser.parse_args()
    pictures()
    if options.data is not None:
        figures(options.data)
    figures_now = report()
    insert(ROOT / "README.md", "quality", quality(figures_now))
    insert(DOCS / "model_card.md", "figures", table(figures_now))


if __name__ == "__main__":
    main()
