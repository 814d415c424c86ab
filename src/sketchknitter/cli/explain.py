"""``sketchknitter explain``: the evidence behind the method, as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sketchknitter.cli.process import use_threads

EXAMPLES = """The evidence behind the method, measured on a model's own trajectories.

explain shortcut draws mean |eps|, recognition and the recognizability score against t, marks the
timesteps that the shortcut visits, shows drawings on their way, and prints the correlations with
their 95 % bootstrap intervals, whether they bear the claim out or not.

examples:
  sketchknitter explain shortcut -o figure.png
  sketchknitter explain shortcut --model-path m.safetensors -n 128 --label cat -o cats.png
"""


@dataclass(frozen=True)
class Explain:
    __doc__ = EXAMPLES

    what: Annotated[tyro.conf.Positional[Literal["shortcut"]], tyro.conf.arg(metavar="WHAT")]
    """what to explain: shortcut"""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """the figure (.png), or a report with it (.html, .md) or the curves alone (.csv)"""
    model_path: str | None = None
    """a model with recognizability; else the shipped one"""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """trajectories"""
    label: str | None = None
    """only this class; else all in turn"""
    steps: tuple[int, ...] = (8, 30)
    """budgets whose chosen timesteps are marked"""
    seed: int = 0
    """of the noise"""
    cache: str = "runs/explain"
    """folder of finished parts: a killed run goes on"""
    jobs: int = 1
    """parts walked at the same time, each in a process with one thread"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""


def run(argv: list[str]) -> None:
    """Parse ``argv``, walk the trajectories, write the figure, print the correlations."""
    options = tyro.cli(
        Explain,
        prog="sketchknitter explain",
        args=argv,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    from sketchknitter.experiments import explain, explain_figure

    explain_figure.check_output(options.output)

    from sketchknitter.classes import class_index
    from sketchknitter.cli.table import Bar
    from sketchknitter.systems.sketchknitter.model import DrawingModel

    use_threads(options.threads)
    if options.label is not None:
        class_index(DrawingModel.from_pretrained(options.model_path).classes, options.label)
    question = explain.Question(options.n, options.steps, options.seed, options.label)
    with Bar() as meter:
        evidence = explain.explain(
            options.model_path or "", question, Path(options.cache), meter, options.jobs
        )
    explain_figure.save(evidence, options.output)
    print(explain.verdict(evidence))
    print(f"\nwritten to {options.output}")
