"""``sketchknitter explain``: the evidence behind the method, as a figure."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

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
    """the figure, a .png file"""
    model_path: str | None = None
    """a model with recognizability (default: the shipped one)"""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """trajectories"""
    label: str | None = None
    """only this class (default: all in turn)"""
    steps: tuple[int, ...] = (8, 30)
    """budgets whose chosen timesteps are marked"""
    seed: int = 0
    """of the noise"""
    threads: int | None = None
    """processor threads (default: torch's choice)"""


def run(argv: list[str]) -> None:
    """Parse ``argv``, walk the trajectories, write the figure, print the correlations."""
    options = tyro.cli(
        Explain,
        prog="sketchknitter explain",
        args=argv,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    from sketchknitter.errors import UserError
    from sketchknitter.experiments import explain, explain_figure

    explain_figure.check_output(options.output)
    if not options.steps:
        raise UserError("--steps needs at least one budget")
    import torch
    from tqdm import tqdm

    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.recognizers.picture import Recognizer
    from sketchknitter.systems.sketchknitter.config import class_index

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = SketchKnitter.from_pretrained(options.model_path)
    if options.label is not None:
        class_index(model.classes, options.label)
    model.scorer  # noqa: B018 - a checkpoint without one should say so before the guide does
    with tqdm(
        total=1000,
        unit="",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        file=sys.stderr,
    ) as bar:

        def report(what: str, share: float) -> None:
            bar.set_description(what, refresh=False)
            bar.update(round(1000 * share) - bar.n)

        evidence = explain.gather(
            model,
            Recognizer.load(),
            n=options.n,
            steps=options.steps,
            seed=options.seed,
            label=options.label,
            report=report,
        )
        bar.update(1000 - bar.n)
    explain_figure.save(evidence, options.output)
    print(explain.verdict(evidence))
    print(f"\nwritten to {options.output}")
