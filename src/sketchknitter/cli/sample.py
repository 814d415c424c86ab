"""``sketchknitter sample``: new drawings from a model, in any format we write."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sketchknitter.classes import find_class, split_names
from sketchknitter.cli import shim, systems
from sketchknitter.cli.paper import Paper
from sketchknitter.cli.process import pick_device, use_threads
from sketchknitter.errors import UserError
from sketchknitter.settings import Settings

if TYPE_CHECKING:
    import numpy as np

    from sketchknitter.diffusion.sampler import Frame
    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.sketch import Sketch
    from sketchknitter.systems.sketchknitter.model import SamplingProgress

DESCRIPTION = """Draw new sketches; the suffix of -o picks the format: .svg .png .gif .npz .ndjson.

examples:
  sketchknitter sample cat -n 25 -o cats.svg
  sketchknitter sample -n 100 --seed 7 --captions -o page.png
  sketchknitter sample cat -n 4 -o drawing.gif
  sketchknitter sample cat -n 9 --denoising -o denoising.gif
  sketchknitter sample cat -n 9 --paper A5 --margin 10 -o plot.svg
  sketchknitter sample airplane -n 5000 --steps 30 --timesteps quadratic -o airplanes.ndjson
  torchrun --nproc-per-node 2 -m sketchknitter sample -n 5000 -o many.npz
  sketchknitter sample --model-path runs/mine --sampler ddim --eta 1 -o mine.npz

The original scripts' options work in their own spelling: docs/options.md.
"""


@dataclass(frozen=True)
class SampleOptions:
    """What to draw, and where to."""

    label: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[CLASS ...]")
    ] = ()
    """classes to draw in turn (cat pig, or cat,pig); nothing is the usual ones (31 of the shipped
    model), "none" is no class"""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 25
    """how many sketches"""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])] = "sketches.svg"
    """file to write"""
    model_path: str = ""
    """a .safetensors file, a run's folder, a hub id; nothing (or shipped) is the shipped model"""
    seed: int | None = 0
    """same seed, same drawings to 0.01 px, whatever the batch size; None takes a new seed"""
    batch_size: int = 64
    """sketches denoised together"""
    captions: bool = False
    """write the class under each sketch of a page"""
    animate: bool = False
    """.svg: show the drawing order (.gif always does)"""
    denoising: bool = False
    """.gif or .svg: film the denoising instead"""
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """print the noise levels visited"""
    option: tuple[str, ...] = ()
    """settings of another system's model: NAME=VALUE, such as temperature=0.4"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    threads: int = 0
    """processor threads; 0 is torch's choice"""


@dataclass(frozen=True)
class Sample:
    """All options, in groups."""

    what: SampleOptions = field(default_factory=SampleOptions)
    how: Settings = field(default_factory=Settings)
    paper: Paper = field(default_factory=Paper)


GROUPS = (SampleOptions, Settings, Paper)


def parse(argv: list[str]) -> Sample:
    """Options from the command line.

    Raises:
        UserError: a value is missing or cannot be what it is given for.
    """
    words = shim.apply(argv, shim.SAMPLE, shim.flags_of(*GROUPS))
    return tyro.cli(
        Sample,
        args=words,
        prog="sketchknitter sample",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _asked_steps(argv: list[str]) -> bool:
    """Whether a command says how many steps; ``ddpm`` visits every level when it does not."""
    words, _ = shim.rewrite(argv, shim.SAMPLE, shim.flags_of(*GROUPS))
    return any(word.partition("=")[0] == "--steps" for word in words)


def run(argv: list[str]) -> None:
    """Draw as ``argv`` says, write the file and say where it is."""
    options = parse(argv)
    what = options.what
    _check(options)
    from sketchknitter.cli import shares  # here, for NumPy takes a while to import

    workers = int(os.environ.get("WORLD_SIZE", "1"))
    if workers > 1 and (what.denoising or what.verbose):
        raise UserError("--denoising and --verbose watch one process; leave torchrun out")
    if systems.is_system(what.model_path):
        return _run_system(options)
    if what.option:
        raise UserError("--option is for models of other systems; name one with --model-path")
    if workers > 1 and what.seed is None:
        raise UserError("--seed None would give every process another seed; name one")

    from sketchknitter.editing.model import SketchKnitter

    use_threads(what.threads)
    model = SketchKnitter.from_pretrained(
        what.model_path or None, pick_device(what.device, workers)
    )
    if (options.how.sampler or "").startswith("ddpm") and not _asked_steps(argv):
        levels = model.config.diffusion.diffusion_steps
        options = replace(options, how=replace(options.how, steps=levels))
    start = time.perf_counter()
    watch = Watch(model, options)
    if workers > 1 or shares.begun(what.output):
        if not _drawn_by_many(model, options):
            return
    elif what.denoising:
        watch.write_film(list(_drawn(model, options, watch)), what.output)
    else:
        _write(_drawn(model, options, watch), options)
    spent = time.perf_counter() - start
    watch.say()
    seed = f", seed {model.last_seed}" if what.seed is None else ""
    count = f"{what.num_samples:,} sketch{'es' if what.num_samples > 1 else ''}"
    named = _named(model, what)
    print(f"{what.output}: {count}{named}, {spent / what.num_samples:.3g} s each{seed}")


def _named(model: SketchKnitter, what: SampleOptions) -> str:
    """ " of cat", " of 31 classes", or nothing for a model without classes."""
    names = split_names(what.label, model.classes)
    if not names:
        kinds = min(what.num_samples, len(model.usual_classes))
        return f" of {kinds} class{'es' if kinds > 1 else ''}" if kinds else ""
    return " of " + ", ".join(find_class(model.classes, n) or "no class" for n in names)


def _run_system(options: Sample) -> None:
    """Draw with a model of another system."""
    what = options.what
    if what.denoising or what.verbose:
        raise UserError("--denoising and --verbose are for this library's own models")
    settings = systems.changed(options.how) | systems.pairs(what.option)
    start = time.perf_counter()
    device = pick_device(what.device)
    if what.seed is None:
        raise UserError("--seed None is for this library's own models; name a seed")
    drawn = systems.drawn(
        what.model_path, what.num_samples, what.label, what.seed, what.batch_size, device, settings
    )
    _write(drawn, options)
    spent = (time.perf_counter() - start) / what.num_samples
    print(f"{what.output}: {what.num_samples:,} of {what.model_path}, {spent:.3g} s each")


def _check(options: Sample) -> None:
    """What is wrong with the command line, before the model is loaded."""
    from sketchknitter.io import check_output

    what = options.what
    check_output(what.output)
    suffix = Path(what.output).suffix.lower()
    if what.num_samples < 1:
        raise UserError(f"-n must be at least 1, not {what.num_samples}")
    if what.animate and what.denoising:
        raise UserError("--animate shows the drawing order, --denoising the denoising: give one")
    if what.denoising and what.captions:
        raise UserError("--denoising writes no captions; leave --captions out")
    if what.denoising and (options.how.best_of > 1 or (options.how.tries or 1) > 1):
        raise UserError(
            "--denoising shows the one way to each sketch; leave --best-of and --tries out"
        )
    if what.animate and suffix not in (".svg", ".gif"):
        raise UserError(f"--animate writes .svg or .gif, not {suffix}")
    if what.denoising and suffix not in (".svg", ".gif"):
        raise UserError(f"--denoising writes .svg or .gif, not {suffix}")
    if what.captions and suffix not in (".svg", ".gif", ".png"):
        raise UserError(f"--captions go on pages (.svg .png .gif); {suffix} keeps the labels")
    if options.paper.options(what.output) and (what.animate or what.denoising):
        raise UserError("--paper is for a pen; leave --animate and --denoising out")
    if options.how.eta and options.how.sampler != "ddim":
        raise UserError("--eta is the noise of DDIM; add --sampler ddim")


def _drawn_by_many(model: SketchKnitter, options: Sample) -> bool:
    """Draw this process's shares and, in the first process, write the file; whether this is it."""
    from sketchknitter.cli import shares
    from sketchknitter.systems.sketchknitter.model import window_of

    what = options.what
    window = window_of(what.batch_size)
    drawn = {
        "n": what.num_samples,
        "label": what.label,
        "seed": what.seed,
        "batch_size": what.batch_size,
        "settings": vars(options.how),
        "model": [model.config.to_dict(), model.checkpoint.notes],
    }
    all_of_it = shares.Shares(
        Path(what.output),
        shares.fingerprint(drawn, model.denoiser.state_dict()),
        -(-what.num_samples // window),
    )
    with shares.processes() as (rank, world):

        def draw(k: int) -> Iterator[Sketch]:
            end = min(what.num_samples, (k + 1) * window)
            return _drawn(model, options, None, k * window, end, shown=rank == 0)

        all_of_it.draw(draw, rank, world)
        if rank == 0:
            _write(all_of_it.sketches(), options)
            all_of_it.sweep()
    return rank == 0


def _drawn(
    model: SketchKnitter,
    options: Sample,
    watch: Watch | None,
    first: int = 0,
    end: int | None = None,
    shown: bool = True,
) -> Iterator[Sketch]:
    """The sketches as a stream, behind a progress bar: all, or those of numbers first … end - 1."""
    from tqdm import tqdm

    what = options.what
    end = what.num_samples if end is None else end
    bar = tqdm(
        total=end,
        initial=first,
        disable=not shown,
        unit="sketch",
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 30,
        leave=False,
        delay=2.0,  # seconds
    )

    def report(progress: SamplingProgress) -> None:
        batch = min(what.batch_size, progress.total - progress.done)
        bar.update(progress.done + int(progress.evaluations * batch) - bar.n)

    with bar:
        yield from model.stream(
            split_names(what.label, model.classes) or None,
            end,
            seed=what.seed,
            batch_size=what.batch_size,
            settings=options.how,
            progress=report,
            watch=watch if what.verbose or what.denoising else None,
            first=first,
        )


def _write(sketches: Iterator[Sketch], options: Sample) -> None:
    from sketchknitter import io

    what = options.what
    suffix = Path(what.output).suffix.lower()
    pages = {"captions": True} if what.captions else {}
    if what.animate and suffix == ".svg":
        pages["animate"] = True
    io.write(sketches, what.output, **pages, **options.paper.options(what.output))


class Watch:
    """Notes the levels that each sketch visits, and the frames of a film."""

    def __init__(self, model: SketchKnitter, options: Sample) -> None:
        self.model, self.options = model, options
        self._levels: defaultdict[int, list[int]] = defaultdict(list)
        self._frames: defaultdict[int, list[Sketch]] = defaultdict(list)

    def __call__(self, numbers: np.ndarray, frame: Frame) -> None:
        rows = [int(numbers[row]) for row in frame.rows.tolist()]
        for number, level in zip(rows, frame.t.tolist(), strict=True):
            self._levels[number].append(level)
        if self.options.what.denoising:
            pen_break = self.options.how.pen_break
            states = self.model.decode(frame.x_t, frame.denoised.pen, frame.task, pen_break)
            for number, sketch in zip(rows, states, strict=True):
                self._frames[number].append(sketch)

    def write_film(self, finished: list[Sketch], path: str) -> None:
        """Noise, every level, the drawing; a sketch that was finished early waits."""
        from sketchknitter import io

        films = [[*self._frames[i], sketch] for i, sketch in enumerate(finished)]
        count = max(map(len, films))
        frames = [[film[min(k, len(film) - 1)] for film in films] for k in range(count)]
        io.write_frames(frames, path)

    def say(self) -> None:
        """Print which levels were visited, by how many sketches."""
        if not self.options.what.verbose:
            return
        for levels, count in Counter(map(tuple, self._levels.values())).most_common():
            path = " ".join(map(str, levels))
            print(f"{count:,} sketches visited {len(levels)} levels: {path}")
