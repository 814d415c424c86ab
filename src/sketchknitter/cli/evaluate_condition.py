"""``sketchknitter evaluate-condition``: healing and completion, measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sketchknitter.cli.process import use_threads
from sketchknitter.cli.table import own_data
from sketchknitter.errors import UserError

EXAMPLES = """Heal and complete damaged test drawings and let the judge measure what comes out.

Rectification: every point moved at random by a share of the longer side; clean, deformed, noised
and denoised without guidance, healed, and generated from the guessed class alone. Completion: a
share of patches masked, or of the last points cut off.

examples:
  sketchknitter evaluate-condition --levels 10,20,30,50 --seeds 3
  sketchknitter evaluate-condition --levels 30 --masks "" --cuts "" --per-class 20
  sketchknitter evaluate-condition --data-dir prepared --model-path runs/mine -o runs/condition
  torchrun --nproc-per-node 2 -m sketchknitter evaluate-condition -o runs/condition
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
    """Only these classes; else all that model, judge and data share."""
    data_dir: tuple[str, ...] = ()
    """A prepared set, a folder, or drawing files; else $SKETCHKNITTER_DATA/quickdraw."""
    model_path: str = ""
    """A .safetensors file, a run's folder, a hub id; nothing is the shipped model."""
    judge: str = ""
    """Another judge's weights."""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])] = "runs/condition"
    """Folder of the report and of finished parts: a killed run goes on."""
    device: str = "auto"
    """auto, cpu, cuda …"""
    threads: int = 0
    """Processor threads; 0 is torch's choice."""
    jobs: int = 1
    """Rows worked on at the same time, each in a process with one thread."""


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
    from sketchknitter.experiments.conditional import Protocol

    protocol = Protocol(
        percents(options.levels, "levels"),
        percents(options.masks, "masks"),
        percents(options.cuts, "cuts"),
        options.per_class,
        options.seeds,
        options.model_path,
    )
    places = list(options.data_dir) or own_data()

    from sketchknitter.cli.process import pick_device
    from sketchknitter.cli.table import meter_of, rank_of
    from sketchknitter.data.prepare import open_data
    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.experiments.report import write_all
    from sketchknitter.experiments.results import run_table
    from sketchknitter.experiments.steps import Context
    from sketchknitter.experiments.team import Team, first
    from sketchknitter.metrics.judge.network import load_judge

    use_threads(options.threads)
    team = Team.joined()
    with first(team, "reading"):
        data = open_data(places, options.classes or None, progress=not rank_of(team))
    judge, known = load_judge(options.judge or None), set(data.classes)
    known &= set(SketchKnitter.from_pretrained(options.model_path or None).classes)
    classes = [c for c in data.classes if c in known and c in judge.classes]
    table = protocol.table(classes)
    device = pick_device(options.device, team.world if team else 1)
    context = Context(data.select(classes), judge, device)
    folder = Path(options.output)
    with meter_of(team) as meter:
        results = run_table(table, context, folder, meter, options.jobs, team)
    if rank_of(team):
        return
    paths = write_all(results, folder)
    print((folder / "results.md").read_text(encoding="utf-8"))
    print("written: " + ", ".join(map(str, paths)))
