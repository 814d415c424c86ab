"""``sketchknitter train --stage …``: what a trained model learns on top, and the recognizers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

from sketchknitter.cli import student
from sketchknitter.cli.process import Signals, use_threads
from sketchknitter.errors import UserError
from sketchknitter.settings import RefineConfig, StageConfig

DESCRIPTION = """Add a further stage to a trained model; the file is rewritten with it.

recognizability: a recurrent network that tells how recognizable a drawing already is, and the
timesteps calibrated with it. Then --timesteps shortcut, --best-of and --encourage work.

examples:
  sketchknitter train --stage recognizability --model-path m.safetensors
  sketchknitter train --stage recognizability --model-path runs/mine --data-dir prepared
"""

REFINE = """Clean the lines of what a student draws; the file is rewritten with what does.

The student draws some thousand drawings. Then a network that sees a few points at a time learns to
move them until lines are distributed as people's: how long their segments are, how they turn, how
far points lie off the chord of their neighbors. What is drawn stays. It takes a minute or two.

examples:
  sketchknitter train --stage refine --model-path runs/matched --data-dir prepared
  sketchknitter sample cat --model-path runs/matched
"""

RECOGNIZERS = """Train one of the small classifiers on labeled drawings.

judge: measures drawings (fid_sketch, recognition); guide: tells from the picture what a drawing, or
a part of one, shows; outlook: tells from the points what a rough or unfinished drawing will be, how
many points are missing, and where the whole drawing will lie.
The same drawings, options and seed give the same file.

examples:
  sketchknitter train --stage judge --data-dir drawings --out judge.safetensors
  sketchknitter train --stage guide --data-dir drawings --out guide.safetensors --iterations 500
  sketchknitter train --stage outlook --data-dir drawings --out o.safetensors --log-dir runs/o
  sketchknitter train --stage outlook --data-dir drawings --out o.safetensors --log-dir runs/o \\
    --resume
"""


Recognizer = Literal["judge", "guide", "outlook"]


@dataclass(frozen=True)
class RecognizerOptions:
    """The recognizer."""

    stage: Recognizer
    """what to train"""
    data_dir: tuple[str, ...] = ()
    """labeled drawings: a folder of files with splits, a prepared set, or drawing files"""
    out: str = ""
    """where the .safetensors file goes"""
    start: str = ""
    """weights of the same kind to go on from"""
    iterations: int = 0
    """training updates; 0 is the number for this recognizer: 8000, 9000, 6000"""
    batch_size: int = 0
    """drawings for each update; 0 is the number for this recognizer: 64, 64, 128"""
    lr: float = 0.0
    """peak learning rate of AdamW (of Muon for the outlook's hidden matrices twice that); 0 is the
    number for this recognizer: 0.003, 0.003, 0.002"""
    seed: int = -1
    """same seed, same file; -1 is the number for this recognizer: 1, 2, 5"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """autocast type; bfloat16 pays off only where the processor has it"""
    log_dir: str = ""
    """folder of the run, for its log and --resume; else none"""
    resume: bool = False
    """go on with the run in --log-dir"""
    scribbled: float = 0.3
    """judge: scribbles for each drawing"""
    margin: float = 24.0
    """judge: how far noise is kept from drawings, in raw features"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""


@dataclass(frozen=True)
class StageOptions:
    """The stage."""

    stage: Literal["recognizability"]
    """what to add"""
    model_path: str = ""
    """the model: a .safetensors file or a run's folder"""
    data_dir: tuple[str, ...] = ()
    """drawings to be noised; else the model's own"""
    guide: str = ""
    """weights of the recognizer whose opinion is learned; else the shipped ones"""
    seed: int = 0
    """same seed, same file"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""


@dataclass(frozen=True)
class Stage:
    """All options, in groups."""

    what: StageOptions
    how: StageConfig = field(default_factory=StageConfig)


@dataclass(frozen=True)
class RefineOptions:
    """The stage."""

    stage: Literal["refine"]
    """what to add"""
    model_path: str = ""
    """the model, which has a student: a .safetensors file or a run's folder"""
    data_dir: tuple[str, ...] = ()
    """people's drawings: a prepared set, a folder of drawing files, or drawing files"""
    seed: int = 0
    """same seed, same file"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""


@dataclass(frozen=True)
class Refine:
    """All options, in groups."""

    what: RefineOptions
    how: RefineConfig = field(default_factory=RefineConfig)


def asked(argv: list[str]) -> bool:
    """Whether ``train`` was asked for a stage instead of a model."""
    return any(word == "--stage" or word.startswith("--stage=") for word in argv)


def run(argv: list[str]) -> int:
    """Train the stage that was asked for; returns the exit status.

    Raises:
        UserError: no such stage.
    """
    words = " ".join(argv).replace("--stage=", "--stage ").split()
    after = words[words.index("--stage") + 1 :] if "--stage" in words else []
    name = after[0] if after else ""
    if name in get_args(Recognizer):
        return _recognizer(argv)
    if name in student.STAGES:
        return student.run(name, argv)
    added = {"refine": _refine, "recognizability": _recognizability}
    if name not in added:
        every = ", ".join([*student.STAGES, *added, *get_args(Recognizer)])
        raise UserError(f"no stage {name!r}; one of: {every}")
    added[name](argv)
    return 0


def _recognizer(argv: list[str]) -> int:
    """Train a recognizer and say how good it is."""
    options = tyro.cli(
        RecognizerOptions, args=argv, prog="sketchknitter train", description=RECOGNIZERS
    )
    if not options.data_dir or not options.out:
        raise UserError("--data-dir and --out are needed: from which drawings, and to which file")
    if not Path(options.out).absolute().parent.is_dir():
        raise UserError(f"{options.out} cannot be written: make that folder first")
    if options.resume and not options.log_dir:
        raise UserError("--resume needs the --log-dir of the run to go on with")
    from tqdm import tqdm

    from sketchknitter.recognizers.training import Splits, teach

    use_threads(options.threads)
    sets = Splits.open(options.data_dir)
    make, config = _lesson(options, sets)
    config = replace(
        config,
        iterations=options.iterations or config.iterations,
        batch_size=options.batch_size or config.batch_size,
        lr=options.lr or config.lr,
        seed=config.seed if options.seed < 0 else options.seed,
        precision=options.precision,
    )
    with (
        Signals() as signals,
        tqdm(total=config.iterations, unit="update", mininterval=2, file=sys.stderr) as bar,
    ):

        def report(update: Any) -> None:
            bar.update(update.iteration - bar.n)

        record = teach(
            make,
            config,
            options.out,
            folder=options.log_dir or None,
            record={"command": _command(options, config)},
            resume=options.resume,
            report=report,
            stop=lambda: signals.caught is not None,
            say=bar.write,
        )
    if record is None:
        kept = f"; go on with --resume --log-dir {options.log_dir}" if options.log_dir else ""
        print(f"interrupted{kept}", file=sys.stderr)
        return 130
    print(f"{options.out}: top-1 on test drawings {record['test_top1']:.2%}")
    return 0


def _command(options: RecognizerOptions, config: Any) -> str:
    """What gives the same weights again, with every number and without folders."""
    words = [f"sketchknitter train --stage {options.stage} --data-dir"]
    words += [Path(place).name for place in options.data_dir]
    if options.start:
        words.append(f"--start {Path(options.start).name}")
    words += [
        f"--iterations {config.iterations} --batch-size {config.batch_size} --lr {config.lr:g}",
        f"--seed {config.seed} --precision {config.precision}",
    ]
    if options.stage == "judge":
        words.append(f"--scribbled {options.scribbled:g} --margin {options.margin:g}")
    return " ".join(words)


def _lesson(options: RecognizerOptions, sets: Any) -> tuple[Callable[[], Any], Any]:
    """The lesson and how it is learned."""
    start = options.start or None
    if options.stage == "judge":
        from sketchknitter.metrics.judge.network import load_judge
        from sketchknitter.metrics.judge.training import JUDGE_CONFIG, JUDGE_LAW, JudgeLesson

        judge = load_judge(start) if start else None
        return (
            lambda: JudgeLesson(sets, JUDGE_LAW, options.scribbled, options.margin, judge),
            JUDGE_CONFIG,
        )
    if options.stage == "guide":
        from sketchknitter.recognizers.picture import Recognizer
        from sketchknitter.recognizers.picture_training import GUIDE_CONFIG, GuideLesson

        guide = Recognizer.load(start) if start else None
        return lambda: GuideLesson(sets, start=guide), GUIDE_CONFIG
    from sketchknitter.recognizers.outlook import Outlook
    from sketchknitter.recognizers.outlook_training import OUTLOOK_CONFIG, OutlookLesson

    outlook = Outlook.load(start) if start else None
    return lambda: OutlookLesson(sets, start=outlook), OUTLOOK_CONFIG


def _recognizability(argv: list[str]) -> None:
    """Train the stage, print which inputs predict best."""
    options = tyro.cli(
        Stage,
        args=argv,
        prog="sketchknitter train",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    what = options.what
    if not what.model_path:
        raise UserError("which model? --model-path takes a .safetensors file or a run's folder")
    from sketchknitter.data.prepare import open_data
    from sketchknitter.recognizers.picture import Recognizer
    from sketchknitter.systems.sketchknitter.hub import locate
    from sketchknitter.systems.sketchknitter.recognizability import run_stage

    use_threads(what.threads)
    path = locate(what.model_path)
    guide = Recognizer.load(what.guide or None)
    data = open_data(what.data_dir) if what.data_dir else None
    with _reported() as report:
        text = run_stage(path, data, config=options.how, guide=guide, seed=what.seed, report=report)
    print(text)
    print(f"\nstored in {path}; draw with:")
    print(f"sketchknitter sample --timesteps shortcut --model-path {path}")


def _refine(argv: list[str]) -> None:
    """Train the stage, say how far lines were from people's before and after."""
    options = tyro.cli(
        Refine,
        args=argv,
        prog="sketchknitter train",
        description=REFINE,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    what = options.what
    if not what.model_path or not what.data_dir:
        raise UserError("--model-path and --data-dir are needed: which model, and which drawings")
    from sketchknitter.data.prepare import open_data
    from sketchknitter.systems.sketchknitter.hub import locate
    from sketchknitter.systems.sketchknitter.refining import run_stage

    use_threads(what.threads)
    path, data = locate(what.model_path), open_data(what.data_dir)
    with _reported() as report:
        text = run_stage(path, data, config=options.how, seed=what.seed, report=report)
    print(text)
    print(f"\nstored in {path}; draw with:\nsketchknitter sample --model-path {path}")


@contextmanager
def _reported() -> Iterator[Callable[[str, float], None]]:
    """A bar that says what goes on, and which share of it is done."""
    from tqdm import tqdm

    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}"
    with tqdm(total=100, bar_format=form, file=sys.stderr) as bar:

        def report(doing: str, share: float) -> None:
            bar.set_description(doing, refresh=False)
            bar.n = round(100 * share)
            bar.refresh()

        yield report
        report("done", 1.0)
