"""What a user's own system meets first: options from tables, and the errors that name a remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sketchknitter.errors import UserError
from sketchknitter.systems.contract import Budget, TrainRecord, check_task
from sketchknitter.systems.registry import make


@dataclass(frozen=True)
class Net:
    widths: tuple[int, ...] = (1, 2)
    dropout: float = 0.0


@dataclass(frozen=True)
class Mine:
    size: str = "cpu"
    net: Net | None = None
    budget: Budget = field(default_factory=lambda: Budget(updates=3))

    def train(self, data: Any, folder: Path, **rest: Any) -> TrainRecord:
        return TrainRecord()

    def load(self, folder: Path, device: str = "cpu") -> Any:
        raise UserError("nothing there")


@dataclass(frozen=True)
class Half:
    def train(self) -> None: ...


KIND = f"{__name__}:Mine"


def test_a_table_becomes_a_system() -> None:
    made = make(KIND, {"net": {"widths": [3, 4], "dropout": 1}, "budget": {"seconds": 2}})
    assert made == Mine(net=Net((3, 4), 1.0), budget=Budget(seconds=2.0))
    assert make(KIND, {}).budget.updates == 3


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("nothing", {}, "no system 'nothing'"),
        ("no_such_package_here:X", {}, "No module named"),
        (f"{__name__}:Other", {}, "has no Other"),
        (f"{__name__}:Any", {}, "is no dataclass"),
        (f"{__name__}:Half", {}, "lacks load()"),
        (KIND, {"sise": "cpu"}, "did you mean 'size'"),
        (KIND, {"net": {"dropout": "much"}}, "net: dropout = 'much': a number is expected"),
        (KIND, {"budget": {"updates": 1, "seconds": 1}}, "not both"),
        (KIND, {"budget": {"seconds": float("nan")}}, "not negative"),
    ],
)
def test_mistakes_are_named(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make(kind, options, "models.mine")


def test_a_budget_counts_updates_or_seconds() -> None:
    assert Budget(updates=8).share(2, 1e9) == 0.25
    assert Budget(seconds=10).share(10**9, 5.0) == 0.5
    assert Budget().share(0, 0.0) == Budget(updates=1).share(5, 0) == 1.0


def test_remarks_are_said_as_words() -> None:
    remarks = {"temperature": 0.4, "distance": {"0.2": 17.4586, "1": 14.39}, "sampler": "ddim"}
    said = TrainRecord(remarks=remarks).said()
    assert said == ["temperature 0.4", "distance 0.2: 17.46, 1: 14.39", "sampler ddim"]


def test_a_record_survives_json() -> None:
    import json

    made = TrainRecord(5, 6, losses=((1, 0.5),), held_out=((2, 0.25), (3, 0.125)))
    assert TrainRecord.from_dict(json.loads(json.dumps(made.to_dict())) | {"new": 1}) == made


def test_tasks_are_refused_by_name() -> None:
    check_task("complete", ("draw", "complete"), "it", True)
    with pytest.raises(UserError, match="it cannot heal; it can draw, complete"):
        check_task("heal", ("draw", "complete"), "it", True)
    with pytest.raises(UserError, match="needs a source"):
        check_task("complete", ("draw", "complete"), "it", False)
    with pytest.raises(UserError, match="takes no source"):
        check_task("draw", ("draw",), "it", True)
