"""Damage, and the protocols that heal and complete it."""

from pathlib import Path

import numpy as np
import pytest

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.editing import classify as guessing
from sketchknitter.editing import heal as healing
from sketchknitter.errors import UserError
from sketchknitter.experiments.conditional import Protocol, verdicts
from sketchknitter.experiments.damage import cut, damaged, deformed, masked
from sketchknitter.experiments.declare import Row
from sketchknitter.experiments.report import write_all
from sketchknitter.experiments.results import Measured, run_table
from sketchknitter.experiments.steps import Context
from sketchknitter.metrics.judge.network import Judge
from sketchknitter.metrics.retrieval import retrieve
from sketchknitter.sketch import Sketch
from tiny_model import half, tiny


@pytest.fixture(autouse=True)
def no_guide(monkeypatch):
    monkeypatch.setattr(guessing, "guide", lambda: None)
    monkeypatch.setattr(healing, "guide", lambda: None)


def test_deformation_is_relative_and_unlabeled():
    sketch = half(5.0).with_label("cup")
    bad = deformed(sketch, 0.1, np.random.default_rng(0))
    assert bad.label is None
    moved = (bad.points - sketch.points).std()
    assert 0.07 < moved / sketch.extent < 0.13


def test_masking_takes_patches_and_cutting_the_end():
    sketch = half(5.0).with_label("cup")
    holes = masked(sketch, 0.3, np.random.default_rng(0))
    assert 0.4 * sketch.num_points < holes.num_points < sketch.num_points
    there = {p.tobytes() for p in sketch.points}
    assert all(p.tobytes() in there for p in holes.points)
    assert all(len(s) > 1 for s in holes.strokes)
    begun = cut(sketch, 0.5)
    assert abs(begun.num_points - sketch.num_points / 2) <= 1
    assert np.array_equal(begun.points, sketch.points[: begun.num_points])


def test_damage_leaves_something_and_depends_on_the_seed_alone():
    sketches = [half(5.0).with_label("cup"), Sketch([[(0, 0), (1, 1)]], "cup")]
    again, other = (damaged(sketches, "masked 30", seed) for seed in (0, 1))
    assert damaged(sketches, "masked 30", 0) == again != other
    assert [s.label for s in again] == [None, None]
    assert damaged(sketches, "cut 90", 0)[1] == sketches[1].with_label(None)


def test_retrieval_by_hand():
    gallery = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    labels = ["a", "a", "b", "b"]
    perfect = retrieve(gallery, labels, [0, 1, 2, 3], gallery, labels)
    assert (perfect.mean_precision, perfect.first, perfect.ten) == (1, 1, 1)
    # a query like the other class: its only match comes third
    wrong = retrieve(np.array([[0.0, 1.0]]), ["a"], [0], gallery, labels)
    assert wrong.mean_precision == pytest.approx(1 / 3)
    assert (wrong.first, wrong.ten) == (0, 1)


def test_protocols_are_a_table_like_any_other(prepared: PreparedSet, tmp_path: Path) -> None:
    model = tiny(classes=("apple", "crab"))
    model.checkpoint.save(tmp_path / "m.safetensors")
    settings = (("steps", 3), ("perceptual", 0.0))
    protocol = Protocol((10,), (30,), (50,), 1, 2, str(tmp_path / "m.safetensors"), settings)
    table = protocol.table(prepared.classes)
    context = Context(prepared, Judge(("apple", "crab")).eval())
    results = run_table(table, context, tmp_path / "out")
    assert not results.omitted
    names = {group: [r.row.name for r in rows] for group, rows in results.groups.items()}
    assert names == {
        "Rectification, deformation 10 %": [
            *("clean", "deformed", "noised and denoised", "healed", "class only"),
        ],
        "Completion, masked 30 %": ["masked", "completed"],
        "Completion, cut 50 %": ["cut", "completed"],
    }
    at = {r.row.name: r.figures["all"] for rows in results.groups.values() for r in rows}
    assert at["clean"]["chamfer"] == [0.0, 0.0]
    assert len(at["healed"]["top1"]) == 2
    assert at["deformed"]["chamfer"][0] > 1
    assert "apart" in at["completed"]
    assert "apart" not in at["cut"]
    text = next(iter(write_all(results, tmp_path / "out"))).read_text()
    assert "Published" in text
    assert " ± " in text
    assert "endings apart" in text
    cached = sorted(p.stat().st_mtime_ns for p in tmp_path.glob("out/cache/*/done.json"))
    run_table(table, context, tmp_path / "out")
    assert cached == sorted(p.stat().st_mtime_ns for p in tmp_path.glob("out/cache/*/done.json"))


def test_verdicts_say_missed_when_missed():
    figures = {"top1": [0.5], "retrieval1": [0.4], "chamfer": [3.0]}
    better = {"top1": [0.45], "retrieval1": [0.6], "chamfer": [2.0]}
    rows = [
        measured("clean", figures),
        measured("deformed", figures),
        measured("noised and denoised", better),
        measured("healed", better),
    ]
    said = list(verdicts(rows))
    assert said[0].startswith("healed drawings are recognized 90%")
    assert sum("NOT better" in s for s in said) == 2


def measured(name: str, figures: dict[str, list[float]]) -> Measured:
    return Measured(Row(name, "real", damage="deformed 10"), {"all": figures}, {"all": 9})


def test_strokes_of_which_parts_are_gone_may_go_on():
    rows = Protocol().table(("apple", "crab")).rows
    completed = [dict(row.settings) for row in rows if row.name == "completed"]
    assert len(completed) == 4
    assert all(settings["goes_on"] for settings in completed)


def test_wrong_counts_and_strange_classes_are_refused():
    with pytest.raises(UserError, match="percentages"):
        Protocol(levels=(0,))
    with pytest.raises(UserError, match="counts"):
        Protocol(seeds=0)
    with pytest.raises(UserError, match="no class"):
        Protocol().table(())
