"""Hostile files for every reader: none may raise anything but UserError, die, hang or eat memory.

    python tools/fuzz.py -n 30000 --seed 0          # what `make fuzz` runs
    python tools/fuzz.py --kinds svg --only 1234    # one input again, in this process

Each input is a good file, taken apart the way its format is (archive members, JSON headers,
opcodes, tags, bytes) and put together wrongly. Input number i of a kind is the same for the same
seed. Workers are processes of their own with so much memory beyond what they start with, and so
many seconds an input; what brings one down is kept under ``--keep``.
"""

from __future__ import annotations

import argparse
import copy
import io as stdio
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

MEMORY = 1 << 30  # bytes beyond what a worker has when it is ready
SECONDS = 5.0
MOST = 5000  # drawings read of one file

HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2, 255, 2**31, 2**63, -(2**63), 10**12, 10**30, 10**400, 0.5, -0.0),
    *(1e308, float("nan"), float("inf"), "", "x", "cat", "\x00", "\ud800", "\u202e", "x" * 5000),
    *([], {}, [[]], [0], [-1] * 9, [10**9] * 3, ["a", 1], {"a": {}}, {"": None}),
)
TOKENS: dict[str, tuple[bytes, ...]] = {
    "svg": (
        *(
            b"<g>",
            b"</g>",
            b"<path d='M0 0L9 9'/>",
            b"<use href='#a'/>",
            b"<style>.a{",
            b"}</style>",
        ),
        *(b"rotate(", b"matrix(1 2 3 4 5 6)", b"1e999", b"-", b"9" * 4000, b"M" * 3000, b"&amp;"),
        *(b"<!DOCTYPE svg [<!ENTITY a 'b'>]>", b"&a;", b"xlink:href", b"<a:b/>", b"scale(0)"),
        *(b"@import", b"<?xml version='1.0' encoding='utf-7'?>", b"A1 1 0 0 1 1e308 5", b"]]>"),
        *(b"<svg>" * 300, b"viewBox='0 0 0 0'", b"width='1e400mm'", b"C", b"z", b"\xff\xfe"),
    ),
    "json": (
        *(b"[" * 3000, b"]", b"{", b"}", b",", b":", b"null", b"1e400", b"-", b'"', b"\\ud800"),
        *(b"9" * 400, b"[[[0,1],[2]]]", b'"drawing"', b'"word"', b"true", b"\n", b"\xff", b"\x00"),
    ),
    "pickle": (
        *(
            b"(",
            b")",
            b"t",
            b"\x86",
            b"2\x86" * 40,
            b"R",
            b"b",
            b".",
            b"0",
            b"]",
            b"}",
            b"N",
            b"K\x01",
        ),
        *(b"cos\nsystem\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"\x96" + b"\xff" * 8),
        *(
            b"\x93",
            b"\x81",
            b"\x8c\x02O8",
            b"I-1\n",
            b"\x8a\xff",
            b"h\x00",
            b"q\x00",
            b"\x94",
            b"\x95",
        ),
    ),
    "npy": (
        *(b"'|O'", b"'<f8'", b"'|S0'", b"(-1,)", b"(9999999999, 3)", b"(", b")", b"'<U9'", b"'V8'"),
        *(b"True", b"'M8[s]'", b"()", b"\x93NUMPY\x03\x00", b"'<c16'", b"[('a','<f8')]", b"'<f2'"),
    ),
    "toml": (
        *(
            b"[" * 800,
            b"]" * 800,
            b"=",
            b"a.b.c = 1\n",
            b"inf",
            b"nan",
            b"1979-05-27T07:32:00Z",
            b'"""',
        ),
        *(
            b"{a = 1}",
            b"[[rows]]\n",
            b"[x]\n",
            b"9" * 5000,
            b"\xff",
            b"-1",
            b"[1, [2]]",
            b"true",
            b'""',
        ),
    ),
    "raw": (b"\x00" * 8, b"\xff" * 8, b"\x7f" * 4, struct.pack("<H", 65535), b"\x01\x00"),
}


# -- taking files apart and putting them together wrongly -----------------------------------------
def bytes_of(data: bytes, r: random.Random, tokens: str) -> bytes:
    """A few cuts, doublings, flips and hostile tokens."""
    out = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 3, 8))):
        at = r.randrange(len(out) + 1)
        end = min(len(out), at + int(r.expovariate(1 / 20)) + 1)
        match r.randrange(7):
            case 0:
                out[at:end] = r.randbytes(end - at)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end] * r.choice((1, 2, 50))
            case 3:
                out[at:at] = r.choice(TOKENS[tokens])
            case 4:
                token = r.choice(TOKENS[tokens])
                out[at : at + len(token)] = token
            case 5:
                if at < len(out):
                    out[at] ^= 1 << r.randrange(8)
            case _:
                if r.random() < 0.2:
                    del out[at:]
    return bytes(out)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands in a JSON value."""
    found = [path]
    if isinstance(value, dict):
        for k, v in value.items():
            found += places(v, (*path, k))
    elif isinstance(value, list):
        for k, v in enumerate(value[:8]):
            found += places(v, (*path, k))
    return found


def value_of(value: Any, r: random.Random) -> Any:
    """A JSON value with something else in a place or two."""
    value = copy.deepcopy(value)
    for _ in range(r.choice((1, 1, 1, 2, 4))):
        path = r.choice(places(value))
        if not path:
            if r.random() < 0.05:
                value = copy.deepcopy(r.choice(HOSTILE))
            continue
        inner = value
        for k in path[:-1]:
            inner = inner[k]
        old, kind = inner[path[-1]], r.randrange(6)
        if kind == 0 and isinstance(inner, dict):
            del inner[path[-1]]
        elif kind == 1 and isinstance(old, int | float):
            inner[path[-1]] = old * r.choice((-1, 2, 1000, 10**6, 10**9))
        elif kind == 2 and isinstance(old, list):
            inner[path[-1]] = old * r.choice((0, 2, 200))
        elif kind == 3:
            deep: Any = old
            for _ in range(r.choice((1, 5, 300))):
                deep = [deep]
            inner[path[-1]] = deep
        else:
            inner[path[-1]] = copy.deepcopy(r.choice(HOSTILE))
    return value


def text_of(value: Any) -> str:
    """JSON text of what a mutation made, escaped surrogates and all."""
    return json.dumps(value)


def archive_of(data: bytes, r: random.Random) -> bytes:
    """A zip whose checksums are right and whose members are not."""
    if r.random() < 0.15:
        return bytes_of(data, r, "raw")
    with zipfile.ZipFile(stdio.BytesIO(data)) as z:
        members = {name: z.read(name) for name in z.namelist()}
    name = r.choice(list(members))
    match r.randrange(8):
        case 0:
            del members[name]
        case 1:
            members[r.choice(("train.npy", "labels_test.npy", "x", "../a.npy"))] = members[name]
        case _:
            head, body = members[name][:128], members[name][128:]
            if r.random() < 0.4:
                head = bytes_of(head, r, "npy")
            else:
                body = bytes_of(body, r, "pickle")
            members[name] = head + body
    out = stdio.BytesIO()
    with zipfile.ZipFile(out, "w", r.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as z:
        for name, body in members.items():
            z.writestr(name, body)
    return out.getvalue()


def tensors_of(data: bytes, r: random.Random) -> bytes:
    """A safetensors file whose header says something else."""
    if r.random() < 0.1:
        return bytes_of(data, r, "raw")
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    if r.random() < 0.75:
        own = json.loads(header["__metadata__"]["sketchknitter"])
        changed = text_of(value_of(own, r))
        if r.random() < 0.1:
            changed = bytes_of(changed.encode(), r, "json").decode("utf-8", "replace")
        header["__metadata__"]["sketchknitter"] = changed
    else:
        header = value_of(header, r)
    text = text_of(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


# -- kinds of files -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Kind:
    """One reader under attack.

    Attributes:
        file: name of the file written, in a folder of its own.
        good: good files to begin with; for a prepared set, folders.
        mutate: bytes of a good file -> of a bad one.
        read: reads the file whole, as the program does.
    """

    file: str
    good: list[bytes]
    mutate: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], object]


def kinds(folder: Path, wanted: list[str]) -> dict[str, Kind]:
    """The kinds named, all if none is; good files are made in ``folder``."""
    out = _drawings(folder) | _tables() | _networks(folder) | {"prepared": _prepared(folder)}
    if not wanted:
        return out
    return {name: (out | PLANTED)[name] for name in wanted}


def _drawings(folder: Path) -> dict[str, Kind]:
    import numpy as np

    from sketchknitter import Sketch, io
    from sketchknitter.io.npz_write import write_splits

    cats = [Sketch([[(0, 0), (9, 9), (20, 3)], [(5, 5), (30.5, 8)]], "cat")] * 3
    for suffix in ("ndjson", "svg", "npz"):
        io.write(cats, folder / f"a.{suffix}")
    write_splits({"train": cats, "valid": [], "test": cats}, folder / "b.npz")
    rows = [s.to_stroke3().astype(np.int16) for s in cats]
    pickled = np.empty(3, object)
    pickled[:] = rows
    np.savez(folder / "rnn.npz", train=pickled, valid=pickled[:1], test=pickled[:0])
    np.save(folder / "a.npy", rows[0])
    np.save(folder / "o.npy", pickled)
    raw = [[[0, 5, 9], [0, 5.5, 9], [0, 10, 20]], [[1, 2], [3, 4], [30, 40]]]
    line = {"word": "cat", "countrycode": "DE", "timestamp": "2017", "recognized": True}
    line |= {"key_id": "5", "drawing": raw}
    strokes = struct.pack("<H3B3B", 3, 0, 5, 9, 0, 5, 9) + struct.pack("<H2B2B", 2, 1, 2, 3, 4)
    binary = struct.pack("<Q2sBIH", 5, b"DE", 1, 1_480_000_000, 2) + strokes
    svg = (
        b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 99 99'><style>.a{fill:none}</style>"
        b"<g transform='rotate(9) translate(1,2)'><path class='a' d='M1 2c3 4 5 6 7 8A3 3 0 0 1 9"
        b"z'/><polyline points='1,2 3,4'/><circle cx='5' cy='5' r='3'/></g></svg>"
    )

    def read(path: Path) -> object:
        return list(islice(io.read_counted(path), MOST))

    def by(tokens: str) -> Callable[[bytes, random.Random], bytes]:
        return lambda data, r: bytes_of(data, r, tokens)

    def lines(data: bytes, r: random.Random) -> bytes:
        if r.random() < 0.5:
            return bytes_of(data, r, "json")
        values = [json.loads(text) for text in data.splitlines()]
        return "\n".join(text_of(value_of(v, r)) for v in values).encode()

    def of(name: str) -> bytes:
        return (folder / name).read_bytes()

    return {
        "npz": Kind("a.npz", [of("a.npz"), of("b.npz")], archive_of, read),
        "sketch-rnn npz": Kind("a.npz", [of("rnn.npz")], archive_of, read),
        "npy": Kind("a.npy", [of("a.npy"), of("o.npy")], by("npy"), read),
        "ndjson": Kind("a.ndjson", [of("a.ndjson")], lines, read),
        "raw ndjson": Kind("a.ndjson", [json.dumps(line).encode()], lines, read),
        "bin": Kind("a.bin", [binary * 3], by("raw"), read),
        "svg": Kind("a.svg", [of("a.svg"), svg], by("svg"), read),
    }


def _tables() -> dict[str, Kind]:
    from sketchknitter.cli.toml import words_of
    from sketchknitter.experiments.declare import PRESETS, open_table
    from sketchknitter.studio import messages

    known = {"batch_size", "lr", "mirror", "category", "steps"}
    options = (
        b"[run]\nbatch_size = 32\nlr = 1e-3\n[data]\ncategory = ['cat', 'pig']\nmirror = 0.5\n"
    )
    strokes = [[[0.0, 1.0], [2.0, 3.5]], [[4.0, 5.0]]]
    said = [{"v": 1, "strokes": strokes}, {"v": 1, "strokes": strokes, "seed": 3, "n": 2}]
    asks = (messages.Guess, messages.Complete, messages.Heal, messages.Export, messages.Sample)

    def toml(data: bytes, r: random.Random) -> bytes:
        return bytes_of(data, r, "toml")

    def talk(data: bytes, r: random.Random) -> bytes:
        if r.random() < 0.3:
            return bytes_of(data, r, "json")
        return text_of(value_of(json.loads(data), r)).encode()

    def hear(path: Path) -> None:
        for kind in asks:
            try:
                messages.parse(kind, path.read_bytes())
            except messages.BadMessage:  # the studio's own UserError
                continue

    presets = [path.read_bytes() for path in sorted(PRESETS.glob("*.toml"))]
    return {
        "options": Kind("a.toml", [options], toml, lambda path: words_of(path, known)),
        "table": Kind("a.toml", presets, toml, lambda path: open_table(str(path))),
        "studio": Kind("a.json", [json.dumps(s).encode() for s in said], talk, hear),
    }


def _networks(folder: Path) -> dict[str, Kind]:
    import torch

    from sketchknitter.data.codec import Codec
    from sketchknitter.editing.model import SketchKnitter
    from sketchknitter.files import read_tensors, write_tensors
    from sketchknitter.metrics.judge.network import JUDGE_FORMAT, Judge, load_judge
    from sketchknitter.nn.stored import save_network
    from sketchknitter.recognizers.outlook import Outlook, OutlookShape
    from sketchknitter.recognizers.picture import Recognizer
    from sketchknitter.settings import BackboneConfig
    from sketchknitter.systems.registry import make
    from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
    from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
    from sketchknitter.systems.stored import Stored

    torch.set_num_threads(1)
    names = ("arc", "box")
    models = []
    for backbone in ("unet1d", "transformer"):
        network = BackboneConfig(backbone=backbone, widths=(16, 24), num_res_blocks=1)
        config = ModelConfig(network, codec=Codec(scale=40.0), classes=names)
        lengths = torch.ones(3, config.codec.max_points + 1, dtype=torch.int32)
        Checkpoint(config, build_denoiser(config).state_dict(), lengths).save(folder / "m")
        models.append((folder / "m").read_bytes())
    Recognizer(names, 16, 0.03, (8, 16)).save(folder / "guide")
    Outlook(names, OutlookShape((16, 16, 16), 4)).save(folder / "outlook")
    judge = Judge(names, 16)
    shape = {"classes": names, "size": 16, "width": 0.025, "features": 128, "record": {}}
    save_network(judge, folder / "judge", JUDGE_FORMAT, shape)
    state = {"kind": "training state", "format": 1, "iteration": 3, "optim": {"lr": 0.1}}
    write_tensors(folder / "state", {"model.a": torch.zeros(3, 4)}, state)
    for name in ("sketchrnn", "flow"):
        system = make(name, {}, name)
        Stored.of(system, names, weights={"a": torch.zeros(3)}).save(folder / name)

    def of(name: str, read: Callable[[Path], object]) -> Kind:
        return Kind("a.safetensors", [(folder / name).read_bytes()], tensors_of, read)

    return {
        "model": Kind("a.safetensors", models, tensors_of, SketchKnitter.from_pretrained),
        "guide": of("guide", Recognizer.load),
        "outlook": of("outlook", Outlook.load),
        "judge": of("judge", load_judge),
        "training state": of("state", read_tensors),
        "system": Kind(
            "a.safetensors",
            [(folder / name).read_bytes() for name in ("sketchrnn", "flow")],
            tensors_of,
            lambda path: Stored.read(path).rebuild(),
        ),
    }


def _prepared(folder: Path) -> Kind:
    """One file of a prepared set is bad; the others stand beside it."""
    from sketchknitter.data.dataset import SPLITS, PreparedSet
    from sketchknitter.data.prepare import prepare

    made = folder / "prepared"
    prepare([folder / "b.npz"], made)
    parts = sorted(p.name for p in made.iterdir())
    whole = {name: (made / name).read_bytes() for name in parts}

    def mutate(data: bytes, r: random.Random) -> bytes:
        name = r.choice([*parts, *(n for n in parts if n.endswith(".json"))])
        if name.endswith(".json") and r.random() < 0.8:
            bad = text_of(value_of(json.loads(whole[name]), r)).encode()
        else:
            bad = bytes_of(whole[name], r, "npy")
        return name.encode() + b"\n" + bad

    def read(path: Path) -> None:
        name, bad = path.read_bytes().split(b"\n", 1)
        with tempfile.TemporaryDirectory() as place:
            for other, data in whole.items():
                Path(place, other).write_bytes(data)
            Path(place, name.decode()).write_bytes(bad)
            data_set = PreparedSet.open(place)
            for split in SPLITS:
                part = data_set.split(split)
                _ = [part.sketch(i) for i in range(min(len(part), 5))]

    return Kind("a.file-of-a-set", [b""], mutate, read)


def _raise(path: Path) -> None:
    raise OverflowError(path)


def _fill(path: Path) -> None:
    bytearray(2 * MEMORY)


PLANTED = {  # faults that the fuzzer must find, for its own test
    name: Kind("a", [b"x"], lambda data, r: data, read)
    for name, read in {
        "planted exception": _raise,
        "planted hang": lambda path: time.sleep(60),
        "planted death": lambda path: os.abort(),
        "planted memory": _fill,
    }.items()
}


# -- running --------------------------------------------------------------------------------------
def make_input(kind: Kind, name: str, number: int, seed: int) -> bytes:
    """Input ``number`` of a kind: the same for the same seed."""
    r = random.Random(f"{seed}/{name}/{number}")
    return kind.mutate(r.choice(kind.good), r)


def attempt(kind: Kind, path: Path) -> str:
    """read, refused, or what went wrong."""
    import warnings

    from sketchknitter import UserError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(path)
    except UserError as error:
        return "refused" if str(error) else "exception: a UserError without words"
    except Exception as error:  # what no reader may let through: it is what we are after
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return f"exception: {type(error).__name__} at {where}: {str(error)[:120]}"
    return "read"


def work(folder: Path, seed: int, wanted: list[str]) -> None:
    """A worker: a kind and a number a line on stdin, what became of it on stdout."""
    table = kinds(folder, wanted)
    for kind in table.values():  # all modules are loaded before memory is counted
        for i in range(20):
            (folder / kind.file).write_bytes(make_input(kind, "warm", i, seed))
            if not wanted or not wanted[0].startswith("planted"):
                attempt(kind, folder / kind.file)
    try:
        import resource

        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError):
        print("no memory limit on this system", file=sys.stderr)
    print(json.dumps(list(table)), flush=True)
    for line in sys.stdin:
        name, number = json.loads(line)
        path = folder / table[name].file
        path.write_bytes(make_input(table[name], name, number, seed))
        print(json.dumps(attempt(table[name], path)), flush=True)


class Worker:
    """A worker process, replaced when it dies or hangs."""

    def __init__(self, seed: int, wanted: list[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        command = [sys.executable, __file__, "--worker", str(self.folder), "--seed", str(seed)]
        self.process = subprocess.Popen(
            [*command, *(["--kinds", *wanted] if wanted else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self.kinds = self._answer(300.0)

    def ask(self, name: str, number: int) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, number]).encode() + b"\n")
        self.process.stdin.flush()
        answer = self._answer(SECONDS)
        return str(answer)

    def _answer(self, seconds: float) -> Any:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return "hang"
        line = self.process.stdout.readline()
        return json.loads(line) if line else f"death: status {self.process.wait()}"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)


def run(count: int, seed: int, wanted: list[str], keep: Path) -> int:
    """All inputs, in turn over the kinds; prints a table, returns how many went wrong."""
    worker = Worker(seed, wanted)
    names = worker.kinds
    if not isinstance(names, list):
        sys.exit(f"the worker did not start ({names})")
    tally: dict[str, Counter[str]] = {name: Counter() for name in names}
    slowest = dict.fromkeys(names, 0.0)
    faults: Counter[str] = Counter()
    try:
        for i in range(count):
            name, number = names[i % len(names)], i // len(names)
            begun = time.monotonic()
            answer = worker.ask(name, number)
            slowest[name] = max(slowest[name], time.monotonic() - begun)
            what = answer.partition(":")[0]
            tally[name][what] += 1
            if what in ("read", "refused"):
                continue
            faults[f"{name}: {answer}"] += 1
            keep.mkdir(parents=True, exist_ok=True)
            label = f"{name.replace(' ', '-')}-{seed}-{number}"
            found = list(worker.folder.glob("a.*")) + list(worker.folder.glob("a"))
            newest = max(found, key=lambda p: p.stat().st_mtime_ns)
            shutil.copy(newest, keep / f"{label}{newest.suffix}")
            if what in ("hang", "death"):
                worker.close()
                worker = Worker(seed, wanted)
    finally:
        worker.close()
    columns = ("read", "refused", "exception", "hang", "death")
    print(f"{'':<16}" + "".join(f"{c:>11}" for c in columns) + "   slowest")
    for name in names:
        print(f"{name:<16}" + "".join(f"{tally[name][c]:>11}" for c in columns), end="")
        print(f"{slowest[name]:>8.2f} s")
    for fault, times in faults.most_common(40):
        print(f"{times:>5} × {fault}")
    bad = sum(faults.values())
    print(f"{count:,} inputs, seed {seed}: {bad} went wrong" + (f"; see {keep}" if bad else ""))
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("-n", type=int, default=30_000, help="inputs over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=[], help="kinds of files; all by default")
    parser.add_argument("--only", type=int, help="this one input of one kind, in this process")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="folder of faults")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.worker:
        work(said.worker, said.seed, said.kinds)
    elif said.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            ((name, kind),) = kinds(Path(folder), said.kinds).items()
            path = Path(folder, kind.file)
            path.write_bytes(make_input(kind, name, said.only, said.seed))
            kind.read(path)
    elif run(said.n, said.seed, said.kinds, said.keep):
        sys.exit(1)


if __name__ == "__main__":
    main()
