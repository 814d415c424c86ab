"""One ``.safetensors`` file is a trained system: weights, and a header with all that rebuilds it.

Systems that bring no file format of their own store themselves by this one; whoever finds such a
file (``sketchknitter sample --model-path``) can draw with it without knowing the system.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sketchknitter.classes import check_names
from sketchknitter.errors import UserError
from sketchknitter.files import MODEL, AnyPath, described_by, read_tensors, write_tensors
from sketchknitter.nn.stored import build
from sketchknitter.systems.contract import Generator, System, TrainRecord
from sketchknitter.systems.registry import SYSTEMS, make, name_of

Network = TypeVar("Network", bound=nn.Module)

KIND = "system"
_WEIGHTS = "model."


@dataclass
class Stored:
    """A trained system on disk and in memory.

    Attributes:
        system: its name in the registry, or ``module:Class``.
        options: the fields of its dataclass, as plain values.
        classes: that it draws; empty if it was trained without labels.
        weights: its network's state dict.
        extras: further tensors by name: counts of lengths, a mixture of codes.
        facts: further JSON by name: px of a model unit, temperatures, …
        record: how it was trained.
    """

    system: str
    options: dict[str, Any]
    classes: tuple[str, ...]
    weights: dict[str, Tensor]
    extras: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    record: TrainRecord = field(default_factory=TrainRecord)

    @classmethod
    def of(cls, system: System, classes: tuple[str, ...], **parts: Any) -> Stored:
        """What stores ``system``, a dataclass."""
        options = dataclasses.asdict(system)  # type: ignore[call-overload]
        return cls(name_of(type(system)), options, classes, **parts)

    def save(self, path: AnyPath) -> None:
        """Write one file, whole or not at all."""
        header = {
            "format": 1,
            "kind": KIND,
            "system": self.system,
            "options": self.options,
            "classes": list(self.classes),
            "facts": self.facts,
            "record": self.record.to_dict(),
        }
        tensors = {f"{_WEIGHTS}{k}": v for k, v in self.weights.items()} | self.extras
        write_tensors(path, tensors, header)

    @classmethod
    def read(cls, path: AnyPath) -> Stored:
        """Read a file, or the model of a run's folder.

        Raises:
            UserError: nothing there, damaged, or no system's.
        """
        place = locate(path)
        tensors, header = read_tensors(place)
        try:
            if header.get("kind") != KIND:
                raise UserError(f"{place}: holds {header.get('kind', 'something else')}, no system")
            check_names(header["classes"])
            return cls(
                str(header["system"]),
                dict(header["options"]),
                tuple(header["classes"]),
                {k[len(_WEIGHTS) :]: v for k, v in tensors.items() if k.startswith(_WEIGHTS)},
                {k: v for k, v in tensors.items() if not k.startswith(_WEIGHTS)},
                dict(header["facts"]),
                TrainRecord.from_dict(header["record"]),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            raise UserError(f"{place}: its header is damaged") from None

    def rebuild(self) -> System:
        """The system with its options.

        A file never makes Python import anything: a system that does not come along must have been
        imported by whoever opens the file.

        Raises:
            UserError: an unknown system, or options that it does not know.
        """
        if self.system not in SYSTEMS and self.system.partition(":")[0] not in sys.modules:
            raise UserError(
                f"this model belongs to {self.system!r}, which does not come with "
                "sketchknitter; import its module first, if you trust it"
            )
        with described_by(f"a model of {self.system}"):
            return make(self.system, self.options, self.system)

    def fill(self, network: Network, device: str) -> Network:
        """Give ``network`` these weights; in evaluation mode, on ``device``.

        Raises:
            UserError: they do not fit.
        """
        try:
            network.load_state_dict(self.weights, strict=True)
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise UserError(f"{self.system}: its weights do not fit its options: {first}") from None
        return network.to(torch.device(device)).eval()

    def check(self, system: type, path: AnyPath) -> Stored:
        """This, if it is a model of ``system``.

        Raises:
            UserError: it is another one's.
        """
        if self.system != name_of(system):
            raise UserError(f"{path}: is a model of {self.system}, not of {name_of(system)}")
        return self


def locate(path: AnyPath) -> Path:
    """The model's file: ``path`` itself, or ``model.safetensors`` in a run's folder."""
    return Path(path) / MODEL if Path(path).is_dir() else Path(path)


def is_system(path: AnyPath) -> bool:
    """Whether a file or folder holds a model of this kind."""
    place = locate(path)
    try:
        return place.is_file() and read_tensors(place)[1].get("kind") == KIND
    except UserError:
        return False


def load(path: AnyPath, device: str = "cpu") -> Generator:
    """Whatever was trained there, ready to draw.

    Raises:
        UserError: nothing there, damaged, or no system's.
    """
    stored = Stored.read(path)
    with described_by(locate(path)):
        system = stored.rebuild()
        return build(lambda: system.load(Path(path), device), stored.weights | stored.extras)
