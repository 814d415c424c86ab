"""A trained system is one file that knows what it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sketchknitter.errors import UserError
from sketchknitter.files import MODEL, write_tensors
from sketchknitter.sketch import Sketch
from sketchknitter.systems import stored
from sketchknitter.systems.contract import Budget, TrainRecord
from sketchknitter.systems.stored import Stored


@dataclass(frozen=True)
class Line:
    """A system that draws one line, as long as its weight."""

    length: float = 1.0
    budget: Budget = field(default_factory=Budget)

    def train(self, *args: Any, **more: Any) -> TrainRecord:
        raise AssertionError("no test trains it")

    def load(self, folder: Path, device: str = "cpu") -> Drawn:
        found = Stored.read(folder).check(Line, folder)
        return Drawn(found.fill(nn.Linear(1, 1), device), found.classes[0])


class Drawn:
    def __init__(self, network: nn.Module, label: str) -> None:
        self.network, self.label = network, label

    def generate(self, n: int, **options: Any) -> Iterator[Sketch]:
        weight = float(self.network.weight.detach())
        yield from [Sketch([[[0, 0], [weight, 0]]], self.label)] * n


@dataclass(frozen=True)
class Other(Line):
    pass


def made() -> Stored:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, 3.0)
    record = TrainRecord(parameters=2, updates=7, losses=((1.0, 0.5), (2.0, 0.25)))
    return Stored.of(
        Line(length=2.5, budget=Budget(updates=7)),
        ("line",),
        weights=network.state_dict(),
        extras={"lengths": torch.arange(3)},
        facts={"unit": 4.0},
        record=record,
    )


def test_a_file_or_its_folder_draws_without_being_told_what_it_is(tmp_path: Path) -> None:
    made().save(tmp_path / MODEL)
    for path in (tmp_path, tmp_path / MODEL):
        assert stored.is_system(path)
        (sketch,) = stored.load(path).generate(1)
        assert sketch == Sketch([[[0, 0], [3, 0]]], "line")


def test_everything_comes_back(tmp_path: Path) -> None:
    made().save(tmp_path / "m.safetensors")
    again = Stored.read(tmp_path / "m.safetensors")
    assert again.rebuild() == Line(length=2.5, budget=Budget(updates=7))
    assert (again.classes, again.facts, again.record) == (("line",), {"unit": 4.0}, made().record)
    assert again.extras["lengths"].tolist() == [0, 1, 2]


def test_what_is_no_system_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    assert not stored.is_system(path)
    write_tensors(path, {}, {"format": 1, "kind": "model"})
    assert not stored.is_system(path)
    with pytest.raises(UserError, match="holds model"):
        Stored.read(path)
    write_tensors(path, {}, {"format": 1, "kind": "system", "system": "x"})
    with pytest.raises(UserError, match="damaged"):
        Stored.read(path)
    made().save(path)
    with pytest.raises(UserError, match="is a model of"):
        Stored.read(path).check(Other, path)
    wrong = made()
    wrong.classes = ("line\n\x1b[31m",)
    wrong.save(path)
    with pytest.raises(UserError, match="damaged"):
        Stored.read(path)
    wrong = made()
    wrong.weights = nn.Linear(2, 1).state_dict()
    wrong.save(path)
    with pytest.raises(UserError, match="do not fit"):
        stored.load(path)


def test_a_file_never_makes_python_import_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile_module.py").write_text("raise SystemExit('it ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="does not come with sketchknitter"):
        Stored("hostile_module:System", {}, (), {}).rebuild()
