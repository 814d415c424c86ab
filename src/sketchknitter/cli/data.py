"""``sketchknitter data``: drawing files in, one training set out, and a look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sketchknitter.classes import visible
from sketchknitter.data.chunks import Recipe
from sketchknitter.errors import UserError

_BAR = 40  # characters of the longest bar of a histogram
_CLASSES_SHOWN = 50

Sources = tyro.conf.Positional[tuple[Path, ...]]


@dataclass(frozen=True)
class Prepare:
    """Drawing files of any mix of formats -> one training set.

    Timed (raw) ndjson, SVG and files of another scale are simplified as QuickDraw's own were.

    examples:
      sketchknitter data prepare drawings/*.ndjson -o prepared
      sketchknitter data prepare cat.npz my-svgs/ --label cat -o cats
      sketchknitter data prepare quickdraw/ --max-points 200 --split 80 10 10 -o long
    """

    sources: Sources
    """files (.ndjson .npz .npy .bin .svg) and folders of them"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """the folder to make; an older prepared set there is replaced"""
    recipe: Recipe = field(default_factory=Recipe)
    processes: int = 0
    """how many work at once; 0 takes all cores, the result is the same"""


@dataclass(frozen=True)
class Info:
    """What is in a prepared set, or in drawing files: counts, lengths, rejects and why.

    examples:
      sketchknitter data info prepared
      sketchknitter data info cat.npz drawings/*.ndjson
    """

    sources: Sources
    """a prepared set, or files and folders of drawings"""
    processes: int = 0
    """how many work at once; 0 takes all cores"""


@dataclass(frozen=True)
class View:
    """A page of drawings picked at random, as .png or .svg.

    examples:
      sketchknitter data view prepared -o page.png
      sketchknitter data view cat.ndjson -n 25 --seed 3 -o cats.svg
      sketchknitter data view prepared --class "alarm clock" -o clocks.png
    """

    sources: Sources
    """a prepared set, or files and folders of drawings"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """the picture: .png .svg .gif, or a drawing file .npz .ndjson"""
    count: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """how many drawings"""
    category: Annotated[str | None, tyro.conf.arg(name="class", aliases=["--category"])] = None
    """only this class"""
    split: Literal["train", "valid", "test"] | None = None
    """only this split"""
    seed: int = 0
    """which drawings"""


@dataclass(frozen=True)
class Download:
    """Files of the public QuickDraw bucket (Google, CC BY 4.0); continues where it broke off.

    examples:
      sketchknitter data download --category cat "alarm clock" -o quickdraw
      sketchknitter data download --category cat --npz -o quickdraw
    """

    category: tuple[str, ...]
    """one or more of QuickDraw's 345 categories"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("quickdraw")
    """the folder to fill"""
    simplified: bool = False
    """simplified ndjson; so it is when no form is named"""
    raw: bool = False
    """raw, timed ndjson"""
    npz: bool = False
    """sketch-rnn archives with their train, valid and test"""
    bin: bool = False
    """QuickDraw's binary format"""
    base_url: str = ""
    """another server with the bucket's layout"""


@dataclass(frozen=True)
class Trace:
    """A photograph or scan of a drawing -> strokes, to be finished, healed or learned from.

    examples:
      sketchknitter data trace photo.jpg -o drawing.svg
      sketchknitter data trace board.png --invert -o drawing.svg
      sketchknitter data trace photo.jpg -o drawing.svg && sketchknitter complete drawing.svg -n 6
    """

    photo: tyro.conf.Positional[Path]
    """any picture of lines: .png .jpg .tif …"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("traced.svg")
    """file to write: .svg .ndjson .npz"""
    label: str = ""
    """what is drawn, so that nobody has to guess"""
    invert: bool = False
    """light lines on a dark ground (usually found out)"""
    despeckle: float = 1.0
    """how large a blot must be to be taken for ink, as a multiple of the usual"""


Command = (
    Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[View, tyro.conf.subcommand("view")]
    | Annotated[Download, tyro.conf.subcommand("download")]
    | Annotated[Trace, tyro.conf.subcommand("trace")]
)


def run(argv: list[str]) -> None:
    """``sketchknitter data ARGV``."""
    command: Any = tyro.cli(
        Command,
        prog="sketchknitter data",
        description=__doc__,
        args=argv,
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.FlagCreatePairsOff,
        ),
    )
    match command:
        case Prepare():
            _prepare(command)
        case Info():
            _info(command)
        case View():
            _view(command)
        case Download():
            _download(command)
        case Trace():
            _trace(command)


# -- the verbs ------------------------------------------------------------------------------
def _prepare(c: Prepare) -> None:
    from sketchknitter.data.prepare import prepare

    made = prepare(_named(c.sources), c.out, c.recipe, processes=c.processes)
    info = made.info
    counts = ", ".join(f"{n:,} {split}" for split, n in info["drawings"].items())
    kinds = "1 class" if len(made.classes) == 1 else f"{len(made.classes):,} classes"
    print(f"{c.out}: {counts}; {kinds}; fingerprint {made.fingerprint[:12]}")
    print(_balance(info))


def _info(c: Info) -> None:
    from sketchknitter.data.dataset import HEADER, PreparedSet, is_prepared
    from sketchknitter.data.prepare import survey
    from sketchknitter.files import described_by

    sources = _named(c.sources)
    prepared = [s for s in sources if is_prepared(s)]
    for path in prepared:
        data = PreparedSet.open(path)
        print(f"{path}: a prepared set, fingerprint {data.fingerprint[:12]}, {_verified(data)}")
        with described_by(path / HEADER, "its report"):
            print(_report(data.info))
            print(f"filters    {', '.join(f'{k} {v}' for k, v in data.info['filters'].items())}")
            size = sum(s["bytes"] for s in data.info["sources"]) / 1e6
            print(f"sources    {data.info['source_files']} files, {size:,.1f} MB")
    if others := [s for s in sources if s not in prepared]:
        files, tally = survey(others, processes=c.processes)
        print(
            visible(f"{files[0]}") + (f" and {len(files) - 1} more files" if len(files) > 1 else "")
        )
        archives = any(f.suffix.lower() == ".npz" for f in files)
        print(_report(tally.report(), splits=archives))  # other files have no splits of their own


def _view(c: View) -> None:
    from sketchknitter import io
    from sketchknitter.data.pick import pick

    io.check_output(c.out)
    if c.count < 1:
        raise UserError(f"-n {c.count}: at least one drawing is needed")
    sketches = pick(_named(c.sources), c.count, label=c.category, split=c.split, seed=c.seed)
    io.write(sketches, c.out)
    print(f"{c.out}: {len(sketches)} drawings")


def _download(c: Download) -> None:
    from sketchknitter.data.download import BASE_URL, download

    forms = [f for f in ("simplified", "raw", "npz", "bin") if getattr(c, f)] or ["simplified"]
    if len(forms) > 1:
        raise UserError(f"--{forms[0]} and --{forms[1]}: one form at a time")
    base_url = c.base_url or BASE_URL
    paths = download(c.category, c.out, forms[0], base_url=base_url)  # type: ignore[arg-type]
    for path in paths:
        print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")


def _trace(c: Trace) -> None:
    from sketchknitter import io
    from sketchknitter.io.trace import trace

    io.check_output(c.out)
    if not c.despeckle >= 0:
        raise UserError(f"--despeckle {c.despeckle}: 0 or more")
    sketch = trace(
        c.photo, label=c.label or None, invert=True if c.invert else None, despeckle=c.despeckle
    )
    io.write([sketch], c.out)
    print(f"{c.out}: {len(sketch)} strokes, {sketch.num_points} points")


def _named(sources: tuple[Path, ...]) -> list[Path]:
    if not sources:
        raise UserError("name a source: a prepared set, or files and folders of drawings")
    return list(sources)


# -- what a person reads -------------------------------------------------------------------------
def _verified(data: Any) -> str:
    from tqdm import tqdm

    size = sum(f.stat().st_size for f in data.path.glob("*.npy"))
    with tqdm(total=size, unit="B", unit_scale=True, desc="verifying", delay=1.0) as bar:
        good = data.verify(bar.update)
    return "verified" if good else "which does NOT MATCH its files: prepare it again"


def _balance(report: dict[str, Any]) -> str:
    total, kept, rejected = report["total"], report["kept"], report["rejected"]
    lines = [f"drawings   {total:,} = {kept:,} kept + {rejected:,} rejected"]
    for reason, count in report["rejects"].items():
        first = next((e for e in report["reject_examples"] if e["reason"] == reason), None)
        where = f"  (first: {first['source']}, {first['position']})" if first else ""
        lines.append(visible(f"  {count:>8,}  {reason}{where}"))
    return "\n".join(lines)


def _report(report: dict[str, Any], splits: bool = True) -> str:
    lines = [_balance(report)]
    if splits:
        counts = report["drawings"].items()
        lines.append("splits     " + ", ".join(f"{n:,} {s}" for s, n in counts))
    stats = report["statistics"]
    if stats["rows"]:
        length = stats["length"]
        dx, dy = stats["offset_std"]
        lines += [
            f"pen lifts  {100 * stats['pen_lift_rate']:.1f} % of {stats['rows']:,} rows",
            f"offsets    standard deviation {dx:.1f}, {dy:.1f} px",
            f"lengths    {length['min']} … {length['max']} rows, median {length['median']},"
            f" 90 % within {length['5%']} … {length['95%']}",
            *_histogram(stats["length_histogram"]),
        ]
    return "\n".join(lines + _classes(report["counts"], splits))


def _histogram(bars: list[list[int]]) -> list[str]:
    top = max(count for _, _, count in bars)
    width = len(str(bars[-1][1]))
    return [
        f"  {first:>{width}}–{last:<{width}} {'█' * round(_BAR * count / top):<{_BAR}} {count:,}"
        for first, last, count in bars
    ]


def _classes(counts: dict[str, dict[str, int]], splits: bool) -> list[str]:
    lines = [f"classes    {len(counts)}{' (train / valid / test)' if splits else ''}"]
    wide = max((len(name) for name in counts), default=0)
    for name, split in list(counts.items())[:_CLASSES_SHOWN]:
        numbers = split.values() if splits else [sum(split.values())]
        shown = visible(name or "(no label)")
        lines.append(f"  {shown:<{wide}}  {' / '.join(f'{n:,}' for n in numbers)}")
    if len(counts) > _CLASSES_SHOWN:
        lines.append(f"  … and {len(counts) - _CLASSES_SHOWN} more")
    return lines
