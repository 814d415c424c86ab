"""Declarations are read strictly: a misspelled name must not cost an hour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sketchknitter.errors import UserError
from sketchknitter.experiments.declare import open_table, presets, read_table
from sketchknitter.systems.registry import make


def test_every_preset_is_in_order() -> None:
    assert set(presets()) >= {"quick", "paper", "frontier", "sliver"}
    for name in presets():
        table = open_table(name)
        for model in table.models.values():
            make(model.kind, model.options, model.name)


def test_quick_has_the_rows_that_were_asked_for() -> None:
    table = open_table("quick")
    names = {r.published for r in table.rows} - {""}
    ddim = {"SketchKnitter", "r-Shortcut", "Linear-DDIM", "Quadratic-DDIM"}
    assert names == ddim | {"Abs", "Point-Shuffle", "Stroke-Shuffle"}
    assert sum(r.published == "Point-Shuffle" for r in table.rows) == 2
    assert max(table.drawings(r) for r in table.rows) <= 600
    updates = {
        m.options["optim"]["iterations"] for m in table.models.values() if "optim" in m.options
    }
    assert len(updates) == 1
    clamp = {
        (r.settings["steps"], r.settings.get("clip")) for r in table.rows if r.group == "clamp"
    }
    assert clamp == {(s, c) for s in (30, 100, 1000) for c in (None, 1.0)}


def test_the_frontier_is_crossed_where_it_must_be() -> None:
    rows = [r.settings for r in open_table("frontier").rows]
    for steps in (8, 30):
        pairs = {(r["timesteps"], r["sampler"]) for r in rows if r["steps"] == steps}
        policies = {"uniform", "quadratic", "geometric", "logsnr", "shortcut", "shortcut-adaptive"}
        assert pairs >= {(p, s) for p in policies for s in ("dpm++", "ddim", "ddpm")}
    assert {r["steps"] for r in rows} == {4, 6, 8, 12, 20, 30, 50, 100, 1000}
    assert sum(r["steps"] == 1000 for r in rows) == 1


def test_like_starts_from_another_model_and_replaces(minimal: dict[str, Any]) -> None:
    content = minimal
    content["models"]["more"] = {"like": "tiny", "optim": {"iterations": 9}, "shuffle": "strokes"}
    models = read_table(content, "t").models
    assert models["more"].options["optim"] == {"iterations": 9, "batch_size": 8, "warmup": 2}
    assert models["more"].options["network"] == models["tiny"].options["network"]
    assert models["tiny"].options["optim"]["iterations"] == 4
    assert "shuffle" not in models["tiny"].options


def test_cross_multiplies(minimal: dict[str, Any]) -> None:
    content = minimal
    content["cross"] = [
        {
            "name": "{sampler} {steps}",
            "model": "tiny",
            "settings": {"guidance": 1.0},
            "axes": {"steps": [2, 3], "sampler": ["ddim", "dpm++"]},
        }
    ]
    rows = read_table(content, "t").rows
    assert [r.name for r in rows] == ["only", "ddim 2", "dpm++ 2", "ddim 3", "dpm++ 3"]
    assert rows[2].settings == {"guidance": 1.0, "steps": 2, "sampler": "dpm++"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(row=[]), "unknown name 'row'; did you mean 'rows'"),
        (lambda c: c["rows"][0].update(sead=1), "unknown name 'sead'"),
        (lambda c: c["rows"][0].update(model="big"), "no model 'big'; one of: tiny"),
        (lambda c: c["rows"][0].update(finish="polish"), "finish is one of"),
        (lambda c: c["rows"][0].update(damage="burnt 10"), "deformed, masked, cut"),
        (lambda c: c["rows"][0].update(damage="cut 10"), "damage and a task"),
        (lambda c: c["rows"][0].update(task="heal"), "damage and a task"),
        (lambda c: c["rows"][0].update(task="dance"), "task is one of"),
        (lambda c: c["rows"][0].update(model="clean"), "no model 'clean'"),
        (lambda c: c["rows"][0].pop("name"), "name is missing"),
        (lambda c: c.update(rows=[]), "declares no rows"),
        (lambda c: c["measure"].update(seeds="three"), "a whole number is expected"),
        (lambda c: c["measure"].update(seeds=0), "start at 1"),
        (lambda c: c["models"].update(x={"like": "y"}), "no model declared before"),
        (lambda c: c["models"].update(x={"of": "y"}), "of = 'y' is no model"),
        (lambda c: c.update(compare=["none"]), "which is no row"),
        (lambda c: c.update(plot="steps"), "plot names a setting"),
        (lambda c: c.update(cross=[{"model": "tiny"}]), "axes must name settings"),
        (
            lambda c: c["rows"].append({"name": "b", "model": "tiny", "drawings": 4}),
            "count equally many",
        ),
    ],
)
def test_bad_declarations_say_where(minimal: dict[str, Any], change: Any, message: str) -> None:
    change(minimal)
    with pytest.raises(UserError, match=message):
        read_table(minimal, "t.toml")


def test_bad_options_are_found_before_the_work() -> None:
    for options, message in (
        ({"netwerk": {}}, "unknown name 'netwerk'"),
        ({"optim": {"iteration": 1}}, "did you mean 'iterations'"),
        ({"shuffle": "all"}, "no shuffle 'all'"),
    ):
        with pytest.raises(UserError, match=message):
            make("sketchknitter", options, "models.x")
    with pytest.raises(UserError, match="no system 'magic'"):
        make("magic", {})


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no table 'nowhere'"):
        open_table("nowhere")
    (tmp_path / "bad.toml").write_text("rows = [")
    with pytest.raises(UserError, match="not a TOML file"):
        open_table(str(tmp_path / "bad.toml"))
