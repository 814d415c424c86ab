"""What the code does, in a few numbers: they change when it would train or draw differently.

A hash of source text would throw away hours of training for a renamed variable, and a version
number is forgotten. So the runner trains each system at its least size, for two updates on a few
made-up drawings, and lets it draw three; what comes out is part of every key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from sketchknitter.data.dataset import SPLITS, PreparedSet, Split
from sketchknitter.errors import UserError
from sketchknitter.experiments.cache import digest
from sketchknitter.experiments.declare import Model
from sketchknitter.experiments.runner import one_thread
from sketchknitter.files import MODEL, atomic
from sketchknitter.seeds import Stream, stream
from sketchknitter.sketch import Sketch
from sketchknitter.systems.contract import Budget, Generator, System
from sketchknitter.systems.registry import make

CLASSES = ("apple", "crab")  # such as every recognizer knows
MOST, SHORT = 36, 12  # steps from which a probe takes fewer, and how many
ROOT = Path(__file__).parent.parent


class Probe:
    """Tiny models, one for each system that was asked about.

    Args:
        models: of the table, by name.
        notes: a folder where answers about this library's own systems are kept for as long as none
            of its source files changes; None asks anew each time.
    """

    def __init__(self, models: Mapping[str, Model], notes: Path | None = None) -> None:
        self.models, self.notes = models, notes
        self._place = TemporaryDirectory(prefix="sketchknitter-probe-")
        self._generators: dict[Path, Generator] = {}
        self._known: dict[str, Any] = {}

    def training(self, name: str) -> Any:
        """Losses of two updates, and the size of the weights that they make.

        Of a system that keeps its weights in a way of its own, three drawings speak for them.
        """
        return self._noted(name, ["training"], lambda: self._learned(name)[1])

    def drawing(self, name: str, settings: dict[str, Any], task: str = "draw") -> Any:
        """Sizes of three drawings, made in few steps."""
        find = lambda: self._drawn(name, settings, task)  # noqa: E731
        return self._noted(name, ["drawing", settings, task], find)

    def _recipe(self, name: str) -> list[Any]:
        """A model, and those that it starts from: all that is hashed of them."""
        model = self.models[name]
        system = make(model.kind, model.options, f"models.{name}")
        files = [file_hash(p) for p in getattr(system, "reads", list)()]
        more = self._recipe(model.of) if model.of else []
        return [model.kind, options_of(system), files, *more]

    def _noted(self, model: str, question: list[Any], find: Callable[[], Any]) -> Any:
        key = [*question, *self._recipe(model)]
        name = digest([key, *([sources()] if self.notes else [])])
        if name in self._known:
            return self._known[name]
        note = self.notes / f"probe-{name}.json" if self.notes is not None else None
        if note is not None and not self._ours(model):
            note = None  # nobody knows which files a user's own system is made of
        if note is not None and note.exists():
            found = json.loads(note.read_bytes())
        else:
            with one_thread():
                found = find()
            if note is not None:
                note.parent.mkdir(parents=True, exist_ok=True)
                with atomic(note) as f:
                    f.write(json.dumps(found).encode())
        self._known[name] = found
        return found

    def _ours(self, name: str) -> bool:
        """Whether a model, and all that it starts from, is made by this library's code alone."""
        model = self.models[name]
        own = type(make(model.kind, model.options)).__module__.startswith("sketchknitter.")
        return own and (not model.of or self._ours(model.of))

    def _learned(self, name: str) -> tuple[Path, Any]:
        """(folder of the tiny model, what its training was like)."""
        model = self.models[name]
        start = self._learned(model.of)[0] if model.of else None
        system = small(make(model.kind, model.options, f"models.{name}"))
        key = digest([model.kind, options_of(system), str(start)])
        folder = Path(self._place.name) / key
        if key not in self._known:
            folder.mkdir()
            record = system.train(toys(), folder, start=start)
            curves = [list(map(list, c)) for c in (record.losses, record.held_out)]
            weights = _weights(folder) or _described(_three(system.load(folder), {}, None))
            self._known[key] = [rounded(curves), weights]
        return folder, self._known[key]

    def _drawn(self, name: str, settings: dict[str, Any], task: str) -> Any:
        folder, _ = self._learned(name)
        if folder not in self._generators:
            model = self.models[name]
            system = small(make(model.kind, model.options, f"models.{name}"))
            self._generators[folder] = system.load(folder)
        own = dict(settings)
        if own.get("steps", 0) > MOST:
            own["steps"] = SHORT
        source = None
        if task != "draw":
            rows = toys().test.take(range(3))
            source = [Sketch.from_stroke3(r) for r in rows]
            own["task"] = task
        return _described(_three(self._generators[folder], own, source))


def _three(
    generator: Generator, settings: dict[str, Any], source: list[Sketch] | None
) -> list[Sketch]:
    labels = None if source is not None else [CLASSES[i % 2] for i in range(3)]
    return list(
        generator.generate(3, labels=labels, source=source, seed=0, batch_size=2, **settings)
    )


def _described(sketches: list[Sketch]) -> list[Any]:
    return [[len(s), s.num_points, *rounded([s.ink_length, s.extent])] for s in sketches]


def small(system: System) -> System:
    """The same recipe at its least size: as the system says, or two updates of four drawings."""
    own = getattr(system, "small", None)
    if own is not None:
        made: System = own()
        return made
    return dataclasses.replace(system, budget=Budget(updates=2, batch_size=4))  # type: ignore[type-var]


def options_of(system: System) -> Any:
    """All options of a system as JSON, those that it was not given among them."""
    return json.loads(json.dumps(dataclasses.asdict(system), default=str))  # type: ignore[call-overload]


def toys() -> PreparedSet:
    """Sixteen random drawings of two classes in every split."""
    rows = []
    for i in range(16):
        rng = stream(0, Stream.PROBE, i)
        n = int(rng.integers(5, 20))
        lifts = rng.random(n) < 0.2
        lifts[-1] = True
        rows.append(np.column_stack([rng.normal(0, 9, (n, 2)).round(), lifts]))
    ends = np.cumsum([len(r) for r in rows], dtype=np.int64)
    starts = ends - np.array([len(r) for r in rows], dtype=np.int64)
    flat, labels = np.concatenate(rows).astype(np.float32), np.array([0, 1] * 8, dtype=np.int16)
    parts = {s: Split(s, flat, starts, ends, labels, CLASSES) for s in SPLITS}
    return PreparedSet(Path(), **parts, classes=CLASSES, fingerprint="toys", info={})


def _weights(folder: Path) -> list[Any]:
    """Mean size of each tensor of a model's file, if it has one."""
    path = folder / MODEL
    if not path.exists():
        return []
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return [[n, rounded(float(t.to(torch.float64).abs().mean()))] for n, t in tensors.items()]


def rounded(values: Any) -> Any:
    """Numbers to four digits, in lists however deep."""
    if isinstance(values, list):
        return [rounded(v) for v in values]
    return float(f"{values:.4g}")


def file_hash(path: Path) -> str:
    """16 hex digits of a file's sha256.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(f"no {path.name} here ({error.strerror})") from None


def sources() -> str:
    """A hash of every source file of this library, and of torch's version."""
    out = hashlib.sha256(torch.__version__.encode())
    for path in sorted(ROOT.rglob("*.py")):
        out.update(path.read_bytes())
    return out.hexdigest()[:16]
