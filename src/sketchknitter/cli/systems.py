"""``train --system …`` and ``sample --model-path …``: other systems than this library's own."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

import tyro

from sketchknitter.classes import split_names
from sketchknitter.cli.process import Signals, pick_device, span, use_threads
from sketchknitter.cli.toml import to_toml, words_of
from sketchknitter.errors import UserError
from sketchknitter.files import LOG, MODEL, STATE

if TYPE_CHECKING:
    from sketchknitter.sketch import Sketch
    from sketchknitter.systems.contract import Generator

DESCRIPTION = """Train another system on your drawings; --log-dir gets its model, state and log.

systems: {systems}, or a class of your own as module:Class

examples:
  sketchknitter train --system sketchrnn --data-dir drawings/ --log-dir runs/rnn
  sketchknitter train --system healer --data-dir prepared --seconds 1200 --log-dir runs/healer
  sketchknitter train --system sketchrnn --option net.decoder_only=true --data-dir prepared
  sketchknitter train --resume --log-dir runs/rnn
  sketchknitter sample --model-path runs/rnn -n 9 -o page.svg
"""
OPTIONS = "options.toml"
_PASSING = {"resume", "overwrite", "log_dir", "threads"}


@dataclass(frozen=True)
class SystemOptions:
    """The system and its training."""

    system: str = ""
    """which one"""
    data_dir: tuple[str, ...] = ()
    """a prepared set, a folder of drawing files, or drawing files"""
    category: tuple[str, ...] = ()
    """only these classes"""
    log_dir: str = "logs"
    """folder of the run"""
    size: Literal["auto", "cpu", "published"] = "auto"
    """published, or what learns in minutes on one core; auto takes cpu where there is no GPU"""
    iterations: int = 0
    """training updates; 0 is the system's own number"""
    seconds: float = 0.0
    """of training, instead of updates: the processor's, of all threads together; on a GPU those of
    the clock"""
    batch_size: int = 0
    """drawings for each update; 0 is the system's own number"""
    option: tuple[str, ...] = ()
    """of the system: NAME=VALUE, such as net.hidden=64 or pens_in_scale=false"""
    seed: int = 0
    """of weights, data order, noise, augmentation"""
    model_path: str = ""
    """start from this model of the same system"""
    resume: bool = False
    """continue the run in --log-dir, with its options, bit for bit"""
    overwrite: bool = False
    """start anew although --log-dir holds a run"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""


@dataclass(frozen=True)
class TrainSystem:
    """All options, in one group."""

    run: SystemOptions = field(default_factory=SystemOptions)


class Stopped(Exception):
    """A signal asked the training to end."""


# -- training ------------------------------------------------------------------------------------
def asked(argv: list[str]) -> bool:
    """Whether ``train`` was asked for another system, now or when the run to resume began."""
    if any(word == "--system" or word.startswith("--system=") for word in argv):
        return True
    if "--resume" not in argv:
        return False
    folder = "logs"
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name in ("--log-dir", "--log_dir"):
            folder = value or after
    try:
        saved = tomllib.loads((Path(folder) / OPTIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    run = saved.get("run", {})
    return isinstance(run, dict) and bool(run.get("system"))


def parse(argv: list[str]) -> SystemOptions:
    """Options from the command line, over those of a resumed run.

    Raises:
        UserError: there is no such option, or something is missing.
    """
    options = _parsed(argv)
    saved = Path(options.log_dir) / OPTIONS
    if options.resume and saved.exists():
        options = _parsed(words_of(saved, {f.name for f in fields(SystemOptions)}) + argv)
    if not options.system:
        raise UserError("which system? --system takes a name")
    if not options.data_dir:
        raise UserError("which drawings? --data-dir takes a prepared set, a folder, or files")
    if options.iterations < 0 or options.seconds < 0 or options.batch_size < 0:
        raise UserError("--iterations, --seconds and --batch-size are not negative")
    return options


def _parsed(argv: list[str]) -> SystemOptions:
    from sketchknitter.systems.registry import SYSTEMS

    # empty lists in a saved file have no value to stand after their name
    return tyro.cli(
        TrainSystem,
        args=argv,
        prog="sketchknitter train",
        description=DESCRIPTION.format(systems=", ".join(SYSTEMS)),
        config=(tyro.conf.OmitArgPrefixes,),
    ).run


def run(argv: list[str]) -> None:
    """Train as ``argv`` says."""
    options = parse(argv)
    folder = Path(options.log_dir)
    if (folder / STATE).exists() and not options.resume and not options.overwrite:
        raise UserError(
            f"{folder} holds a run; --resume goes on with it, --overwrite starts anew,"
            " and another --log-dir keeps both"
        )

    from sketchknitter.data.prepare import open_data
    from sketchknitter.systems.registry import make

    if options.threads < 0:
        raise UserError(f"--threads must be 0 or more, not {options.threads}")
    use_threads(options.threads)
    device = pick_device(options.device)
    system = make(options.system, table_of(options, device), options.system)
    data = open_data(options.data_dir, options.category or None)
    if options.overwrite and not options.resume and folder.exists():
        for name in (STATE, LOG, MODEL):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "previews", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    kept = replace(options, data_dir=tuple(str(Path(p).resolve()) for p in options.data_dir))
    text = to_toml(TrainSystem(kept), _PASSING)
    (folder / OPTIONS).write_text(text, encoding="utf-8")
    start = Path(options.model_path) if options.model_path else None
    print(
        f"{folder}: {options.system}, {len(data.train):,} drawings of"
        f" {len(data.classes) or 'no'} classes, {len(data.valid):,} held out, on {device}",
        flush=True,
    )
    with Signals() as signals, _Bar() as bar:

        def progress(what: str, done: float, total: float) -> None:
            bar(what, done, total)
            if signals.caught is not None:
                raise Stopped

        try:
            record = system.train(
                data, folder, start=start, seed=options.seed, device=device, progress=progress
            )
        except Stopped:
            stopped = signals.caught or 0
            print(f"saved; go on with: sketchknitter train --resume --log-dir {quote(str(folder))}")
            sys.exit(128 + stopped)
    remarks = "".join(f"; {remark}" for remark in record.said())
    print(
        f"finished {record.updates:,} updates of {record.parameters:,} parameters after"
        f" {span(record.seconds)}{remarks}"
    )
    print(f"draw with: sketchknitter sample --model-path {quote(str(folder))}")


def table_of(options: SystemOptions, device: str) -> dict[str, Any]:
    """The options of the system as a table of plain values.

    Raises:
        UserError: an --option that is no NAME=VALUE.
    """
    from sketchknitter.systems.registry import find

    names = {f.name for f in fields(find(options.system))}
    table = pairs(options.option)
    budget = {
        "updates": options.iterations,
        "seconds": options.seconds,
        "batch_size": options.batch_size,
    }
    if any(budget.values()):
        table["budget"] = {k: v for k, v in budget.items() if v}
    if "size" in names:
        auto = "cpu" if device == "cpu" else "published"
        table.setdefault("size", auto if options.size == "auto" else options.size)
    elif options.size != "auto":
        raise UserError(f"{options.system} has no sizes; leave --size out")
    return table


def pairs(words: tuple[str, ...]) -> dict[str, Any]:
    """``("a=1", "b.c=x")`` -> ``{"a": 1, "b": {"c": "x"}}``; values as in TOML, else text.

    Raises:
        UserError: a word without a name and a value.
    """
    out: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise UserError(f"--option {word!r}: write NAME=VALUE")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            value = text
        inner = out
        *path, last = name.split(".")
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UserError(f"--option {word!r}: {part} already has a value")
        inner[last] = value
    return out


class _Bar:
    """A progress bar for what a system tells."""

    def __enter__(self) -> _Bar:
        from tqdm import tqdm

        tty = sys.stderr.isatty()
        self.bar = tqdm(dynamic_ncols=True, mininterval=0.2 if tty else 30, smoothing=0.05)
        return self

    def __call__(self, what: str, done: float, total: float) -> None:
        self.bar.unit = f" {what}"
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __exit__(self, *unused: object) -> None:
        self.bar.close()


# -- drawing -------------------------------------------------------------------------------------
def is_system(path: str) -> bool:
    """Whether a model on disk is one of another system."""
    if not path or not os.path.exists(path):
        return False
    from sketchknitter.systems.stored import is_system

    return is_system(path)


def drawn(
    path: str,
    n: int,
    names: Sequence[str],
    seed: int,
    batch_size: int,
    device: str,
    settings: dict[str, Any],
) -> Iterator[Sketch]:
    """``n`` drawings of the model in ``path``, of the classes in turn, behind a progress bar."""
    from sketchknitter.systems.stored import load

    model: Generator = load(path, device)
    turn = split_names(names)
    labels = [turn[i % len(turn)] for i in range(n)] if turn else None
    with _Bar() as bar:
        yield from model.generate(
            n, labels=labels, seed=seed, batch_size=batch_size, progress=bar, **settings
        )


def changed(how: Any) -> dict[str, Any]:
    """Settings of the command line that were given, by name: what is at its default was not."""
    return {f.name: getattr(how, f.name) for f in fields(how) if getattr(how, f.name) != f.default}
