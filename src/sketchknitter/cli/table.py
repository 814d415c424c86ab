"""``sketchknitter table``: the results table, every system, one command."""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sketchknitter.cli.process import pick_device, use_threads
from sketchknitter.errors import SettingError, UserError

if TYPE_CHECKING:
    from sketchknitter.experiments.declare import Table as Declared
    from sketchknitter.experiments.runner import Meter
    from sketchknitter.experiments.team import Team

EXAMPLES = """Train, draw and measure every system of a results table; go on where it stopped.

Presets: quick (an hour to an hour and a half on one core), rivals (every system, twenty minutes of
a core each; about three hours on two cores), frontier (quality against steps of one model), paper
(the published classes at full size; a GPU), sliver (seconds; proves the machinery). A TOML file of
your own declares another table. Finished parts stay in the folder and are reused as long as nothing
they depend on changes: a killed run goes on, a new judge only measures again.

examples:
  sketchknitter table --preset quick --data-dir drawings/
  sketchknitter table --preset frontier --model-path runs/mine/model.safetensors -o runs/frontier
  sketchknitter table --preset mine.toml --data-dir prepared --threads 1
  torchrun --nproc-per-node 8 -m sketchknitter table --preset paper -o shared/paper
"""

MOST_JOBS = 8  # that nobody asked for: each process takes memory of its own


@dataclass(frozen=True)
class Table:
    __doc__ = EXAMPLES

    preset: str = "quick"
    """A preset's name, or a TOML file."""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])] = ""
    """Folder of results and cache; else runs/table-PRESET."""
    data_dir: tuple[str, ...] = ()
    """A prepared set, a folder, or drawing files; else $SKETCHKNITTER_DATA/quickdraw."""
    model_path: str = ""
    """Model that pretrained rows draw with; else what the preset says."""
    judge: str = ""
    """Another judge's weights."""
    device: str = "auto"
    """auto, cpu, cuda …"""
    threads: int = 0
    """Processor threads; 0 is torch's choice."""
    jobs: int = 0
    """Rows worked on at the same time, each in a process with one thread. 0: one for each core, at
    most 8; one where --threads, a GPU or torchrun spreads the work already."""


def run(argv: list[str]) -> None:
    """Parse ``argv``, do what is left to do, write the report."""
    options = tyro.cli(
        Table, prog="sketchknitter table", args=argv, config=(tyro.conf.OmitArgPrefixes,)
    )
    from sketchknitter.experiments.declare import open_table

    table = open_table(options.preset)
    table = _with_source(table, options.model_path)
    places = list(options.data_dir) or own_data()
    folder = Path(options.output or f"runs/table-{Path(options.preset).stem}")

    from sketchknitter.data.prepare import open_data
    from sketchknitter.experiments.report import write_all
    from sketchknitter.experiments.results import run_table
    from sketchknitter.experiments.steps import Context
    from sketchknitter.experiments.team import Team, first
    from sketchknitter.metrics.judge.network import load_judge

    if options.jobs > 1 and options.threads > 1:
        raise UserError("--jobs 2 and more take one thread each; leave --threads out")
    team = Team.joined()
    with first(team, "reading"):
        data = open_data(places, table.classes or None, progress=not rank_of(team))
    device = pick_device(options.device, team.world if team else 1)
    jobs = jobs_of(options, device, team is not None)
    # a last row is worked on in this process: with one thread too, so that budgets mean the same
    use_threads(1 if jobs > 1 else options.threads)
    context = Context(data, load_judge(options.judge or None), device)
    with meter_of(team) as meter:
        results = run_table(table, context, folder, meter, jobs, team)
    if rank_of(team):
        return
    paths = write_all(results, folder)
    print((folder / "results.md").read_text(encoding="utf-8"))
    print("written: " + ", ".join(map(str, paths)))


def jobs_of(options: Table, device: str, teamed: bool) -> int:
    """How many rows are worked on at the same time."""
    if options.jobs < 0:
        raise SettingError("jobs", f"must be 0 (one for each core) or more, not {options.jobs}")
    if options.jobs:
        return options.jobs
    if options.threads or teamed or device != "cpu":
        return 1
    own = getattr(os, "sched_getaffinity", None)  # Linux alone says which cores are ours
    return min(MOST_JOBS, len(own(0)) if own else os.cpu_count() or 1)


def rank_of(team: Team | None) -> int:
    """This process's number; the first one shows and writes."""
    return 0 if team is None else team.rank


def meter_of(team: Team | None) -> AbstractContextManager[Meter]:
    """The bar of the first process; the others are silent."""
    from sketchknitter.experiments.runner import Silent

    return nullcontext(Silent()) if rank_of(team) else Bar()


def own_data() -> list[str]:
    place = os.environ.get("SKETCHKNITTER_DATA")
    if not place:
        raise UserError("which drawings? --data-dir takes a prepared set, a folder, or files")
    return [str(Path(place) / "quickdraw")]


def _with_source(table: Declared, source: str) -> Declared:
    import dataclasses

    if not source:
        return table
    models = {
        name: dataclasses.replace(model, options={"source": source})
        if model.kind == "pretrained"
        else model
        for name, model in table.models.items()
    }
    if models == table.models:
        raise UserError("--model-path: no model of this table is given as a file")
    return dataclasses.replace(table, models=models)


class Bar:
    """A bar over the whole table, with time left; where nobody watches, a line now and then."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._watched = sys.stderr.isatty()
        self._quiet = None if self._watched else open(os.devnull, "w")  # noqa: SIM115
        self._bar = tqdm(
            total=0,
            smoothing=0.02,
            dynamic_ncols=self._watched,
            file=self._quiet,
            bar_format="{percentage:3.0f}%|{bar:20}| {elapsed} gone, {remaining} left{postfix}",
        )
        self._said = 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *unused: object) -> None:
        self._bar.close()
        if self._quiet is not None:
            self._quiet.close()

    def plan(self, total: float, finished: float) -> None:
        self._bar.reset(total=total)
        self._bar.initial = self._bar.n = self._bar.last_print_n = finished
        self._bar.refresh()

    def start(self, what: str) -> None:
        self._bar.set_postfix_str(what, refresh=self._watched)
        self._say()

    def tick(self, work: float) -> None:
        self._bar.update(min(work, max(0.0, self._bar.total - self._bar.n)))
        if time.monotonic() > self._said + 60:
            self._say()

    def _say(self) -> None:
        if not self._watched:
            self._said = time.monotonic()
            print(self._bar, file=sys.stderr, flush=True)
