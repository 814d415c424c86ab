"""``sketchknitter evaluate-condition``: healing and completion, measured."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sketchknitter.errors import UserError

EXAMPLES = """Heal and complete damaged test drawings and let the judge measure what comes out.

Rectification: every point moved at random by a share of the longer side; clean, deformed, noised
and denoised without guidance, healed, and generated from the guessed class alone. Completion: a
share of patches masked, or of the last points cut off.

examples:
  sketchknitter evaluate-condition --levels 10,20,30,50 --seeds 3
  sketchknitter evaluate-condition --levels 30 --masks "" --cuts "" --per-class 20
  sketchknitter evaluate-condition --data-dir prepared --model-path runs/mine -o runs/condition
"""


@dataclass(frozen=True)
class EvaluateCondition:
    __doc__ = EXAMPLES

    levels: str = "10,20,30,50"
    """Deformations, percent of the longer side."""
    masks: str = "10,30"
    """Shares of patches masked, percent."""
    cuts: str = "25,50"
    """Shares of points cut off the end, percent."""
    seeds: int = 3
    """Seeds of damage and sampling."""
    per_class: int = 5
    """Test drawings of each class."""
    classes: tuple[str, ...] = ()
    """Only these classes (default: all that model, judge and data share)."""
    data_dir: tuple[str, ...] = ()
    """A prepared set, a folder, or drawing files (default: $SKETCHKNITTER_DATA/quickdraw)."""
    model_path: str = ""
    """A .safetensors file, a run's folder, a hub id; nothing is the model that comes along."""
    judge: str = ""
    """Another judge's weights."""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])] = "runs/condition"
    """Folder of the report."""
    device: str = "auto"
    """auto, cpu, cuda …"""
    threads: int = 0
    """Processor threads; 0 is torch's choice."""


def percents(text: str, option: str) -> tuple[int, ...]:
    """Whole numbers from "10,20".

    Raises:
        UserError: something else.
    """
    words = [w for w in text.replace(",", " ").split() if w]
    if bad := [w for w in words if not w.isdigit()]:
        raise UserError(f"--{option} takes percentages such as 10,30, not {bad[0]!r}")
    return tuple(int(w) for w in words)


def run(argv: list[str]) -> None:
    """Parse ``argv``, measure, print the tables, write the report."""
    options = tyro.cli(
        EvaluateCondition,
        prog="sketchknitter evaluate-condition",
        args=argv,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    from sketchknitter.experiments.condition import Experiment, Protocol

    protocol = Protocol(
        percents(options.levels, "levels"),
        percents(options.masks, "masks"),
        percents(options.cuts, "cuts"),
        options.per_class,
        options.seeds,
    )
    places = list(options.data_dir) or _own_data()
    import torch
    from tqdm import tqdm

    from sketchknitter.cli.process import pick_device
    from sketchknitter.data.prepare import open_data
    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.metrics.judge.network import load_judge
    from sketchknitter.reports.document import to_markdown, write_folder

    if options.threads:
        torch.set_num_threads(options.threads)
    test = open_data(places, options.classes or None).test
    model = SketchKnitter.from_pretrained(options.model_path or None, pick_device(options.device))
    parts = 5 * len(protocol.levels) + len(protocol.masks) + len(protocol.cuts)
    with tqdm(total=parts * protocol.seeds, disable=not sys.stderr.isatty()) as bar:

        def tell(line: str) -> None:
            bar.set_postfix_str(line)
            bar.update(1)

        judge = load_judge(options.judge or None)
        document = Experiment(model, test, judge, protocol, tell).report()
    paths = write_folder(document, Path(options.output))
    print(to_markdown(document))
    print("written: " + ", ".join(map(str, paths)))


def _own_data() -> list[str]:
    place = os.environ.get("SKETCHKNITTER_DATA")
    if not place:
        raise UserError("which drawings? --data-dir takes a prepared set, a folder, or files")
    return [str(Path(place) / "quickdraw")]
