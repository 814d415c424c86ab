"""``sketchknitter evaluate``: a drawing file measured against real drawings."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from sketchknitter.cli.process import use_threads
from sketchknitter.cli.shares import folder_of, processes, sweep
from sketchknitter.errors import UserError

EXAMPLES = """Every metric of a drawing file against real drawings, each with its floor.

The floor is what two disjoint halves of held-out real drawings score at the same N: no figure means
anything without it. fid_sketch is on our own network's features; never compare it with a published
FID.

examples:
  sketchknitter evaluate cats.npz --against prepared --split test
  sketchknitter evaluate prepared:valid --against prepared -o report.html
  sketchknitter evaluate apple.npz:valid --against apple.npz --geometry-repeats 0
  torchrun --nproc-per-node 2 -m sketchknitter evaluate many.npz --against prepared -o many.json
  sketchknitter evaluate page.ndjson --against prepared --classes cat pig -o report.json
"""


@dataclass(frozen=True)
class Evaluate:
    __doc__ = EXAMPLES

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """Drawings to measure: any file or folder we read, or FILE:SPLIT for one split of it."""
    against: str
    """Real drawings: a prepared folder, a folder of drawing files, or one archive."""
    split: Literal["train", "valid", "test"] = "test"
    """Which split of the real drawings is the reference."""
    output: Annotated[str | None, tyro.conf.arg(aliases=["-o"])] = None
    """Write the report here as well: .json, .md or .html. Under torchrun what is finished stands in
    a hidden folder beside it until then, and is not done again after a lost process."""
    classes: tuple[str, ...] = ()
    """Only these classes, on both sides; nothing takes those that FILE is labeled with."""
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Drawings on each side at most; None takes as many as both sides have."""
    features: Literal["judge", "inception"] = "judge"
    """Network: our judge, or Inception if you have its weights ($SKETCHKNITTER_INCEPTION)."""
    judge: str | None = None
    """Another judge's weights, trained on your own classes."""
    geometry_repeats: int = 1000
    """Landmark draws of the Geometry Score; 0 leaves it out."""
    copy_check: bool = True
    """Look for each drawing's nearest training drawing."""
    seed: int = 0
    """Of every random choice."""
    threads: int = 0
    """Processor threads; 0 is torch's choice."""


def run(argv: list[str]) -> None:
    """Parse ``argv``, measure, print the table, write the report."""
    options = tyro.cli(
        Evaluate,
        prog="sketchknitter evaluate",
        args=argv,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    from sketchknitter.reports import report

    if options.output is not None:
        report.check_path(options.output)
    if options.geometry_repeats < 0 or (options.n is not None and options.n < 1):
        raise UserError("-n and --geometry-repeats are counts: give positive numbers")

    from sketchknitter.data.sides import read_sides
    from sketchknitter.metrics.features import FeatureNetwork
    from sketchknitter.metrics.judge.network import load_judge
    from sketchknitter.metrics.shared import SharedNetwork
    from sketchknitter.reports.document import to_text
    from sketchknitter.reports.evaluate import EvaluationSettings, evaluate

    use_threads(options.threads)
    network: FeatureNetwork
    if options.features == "inception":
        from sketchknitter.metrics.inception import Inception

        network = Inception()
    else:
        network = load_judge(options.judge)
    with processes() as (rank, world):
        if world > 1:
            kept = None if options.output is None else folder_of(options.output)
            network = SharedNetwork(network, kept)
        sides = read_sides(options.file, options.against, options.split, options.classes, True)
        result = evaluate(
            sides.drawings,
            sides.reference,
            heldout=sides.heldout,
            train=sides.train,
            network=network,
            settings=EvaluationSettings(
                n=options.n,
                seed=options.seed,
                geometry_repeats=options.geometry_repeats,
                copy_check=options.copy_check,
            ),
            names=sides.names,
            notes=sides.notes,
            progress=sys.stderr.isatty() and not rank,
        )
        if rank:
            return
        print(to_text(report.summary(result)), end="")
        if options.output is not None:
            report.write(result, options.output)
            sweep(options.output)
            print(f"\nwritten to {options.output}")
