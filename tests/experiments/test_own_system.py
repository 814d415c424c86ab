"""The page about a user's own system says what works: its code and its table run as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.errors import UserError
from sketchknitter.experiments.declare import open_table
from sketchknitter.experiments.results import run_table
from sketchknitter.experiments.steps import Context
from sketchknitter.metrics.judge.network import load_judge

PAGE = Path(__file__).parents[2] / "docs" / "your-own-system.md"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page says to save."""
    text = PAGE.read_text(encoding="utf-8")
    for kind, name in (("python", "average_drawing.py"), ("toml", "average.toml")):
        (block,) = re.findall(rf"```{kind}\n(.*?)```", text, re.S)
        (tmp_path / name).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("average_drawing", None)
    return tmp_path


def test_the_page_runs_as_it_stands(place: Path, prepared: PreparedSet) -> None:
    table, context = open_table(str(place / "average.toml")), Context(prepared, load_judge())
    results = run_table(table, context, place / "out")
    rows = {r.row.name: r for r in results.groups["table"]}
    assert rows["average"].facts.parameters == 2 * 16 * 2
    assert rows["average"].drawings["all"] == 8
    calm, usual = (rows[n].figures["all"]["w_turning_angle"] for n in ("average, calm", "average"))
    assert calm != usual
    # changed code is trained again, a renamed variable is not
    models = sorted(place.glob("out/cache/model-*"))
    file = place / "average_drawing.py"
    again(file, "counts", "how_many", table, context, place)
    assert sorted(place.glob("out/cache/model-*")) == models
    again(file, "sums[label] += line", "sums[label] += 2 * line", table, context, place)
    assert len(list(place.glob("out/cache/model-*"))) == 2


def again(file: Path, old: str, new: str, table, context, place: Path) -> None:  # type: ignore[no-untyped-def]
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    sys.modules.pop("average_drawing")
    run_table(table, context, place / "out")


def test_a_wrong_setting_is_found_before_the_work(place: Path, prepared: PreparedSet) -> None:
    text = (place / "average.toml").read_text().replace("noise = 0.5", "noise = 'some'")
    (place / "average.toml").write_text(text)
    table = open_table(str(place / "average.toml"))
    with pytest.raises(UserError, match="row 'average, calm'"):
        run_table(table, Context(prepared, load_judge()), place / "out")
    assert not list(place.glob("out/cache/drawings-*"))
