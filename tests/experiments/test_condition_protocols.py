import numpy as np
import pytest
import torch

from sketchknitter.data.dataset import Split
from sketchknitter.editing import classify as guessing
from sketchknitter.editing import heal as healing
from sketchknitter.errors import UserError
from sketchknitter.experiments.condition import (
    Experiment,
    Protocol,
    Row,
    cut,
    deformed,
    masked,
    verdicts,
)
from sketchknitter.metrics.judge.network import Judge
from sketchknitter.metrics.retrieval import retrieve
from sketchknitter.reports.document import Table, to_html, to_markdown
from sketchknitter.sketch import Sketch
from tiny_model import CLASSES, half, tiny


@pytest.fixture(autouse=True)
def no_guide(monkeypatch):
    monkeypatch.setattr(guessing, "guide", lambda: None)
    monkeypatch.setattr(healing, "guide", lambda: None)


def split_of(sketches: list[Sketch]) -> Split:
    rows = [np.asarray(s.to_stroke3(), dtype=np.float32) for s in sketches]
    ends = np.cumsum([len(r) for r in rows])
    labels = np.array([CLASSES.index(s.label or "") for s in sketches], dtype=np.int16)
    return Split("test", np.concatenate(rows), ends - [len(r) for r in rows], ends, labels, CLASSES)


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


def test_retrieval_by_hand():
    gallery = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    labels = ["a", "a", "b", "b"]
    perfect = retrieve(gallery, labels, [0, 1, 2, 3], gallery, labels)
    assert (perfect.mean_precision, perfect.first, perfect.ten) == (1, 1, 1)
    # a query like the other class: its only match comes third
    wrong = retrieve(np.array([[0.0, 1.0]]), ["a"], [0], gallery, labels)
    assert wrong.mean_precision == pytest.approx(1 / 3)
    assert (wrong.first, wrong.ten) == (0, 1)


def test_the_report_has_every_row_of_every_protocol():
    rng = np.random.default_rng(0)
    drawings = [deformed(half(), 0.03, rng).with_label(CLASSES[i % 3]) for i in range(12)]
    torch.manual_seed(0)
    judge = Judge(CLASSES).eval()
    protocol = Protocol(
        (10,), (30,), (50,), per_class=1, seeds=2, settings={"steps": 4, "perceptual": 0.0}
    )
    said: list[str] = []
    report = Experiment(tiny(), split_of(drawings), judge, protocol, said.append).report()
    grids = [b for b in report.blocks if isinstance(b, Table)]
    assert [row[0] for row in grids[0].rows] == [
        "clean",
        "deformed",
        "noised and denoised",
        "healed",
        "class only",
    ]
    assert [row[0] for row in grids[1].rows] == ["masked", "completed"]
    assert [row[0] for row in grids[2].rows] == ["cut", "completed"]
    assert "endings apart, % of longer side" in grids[2].head
    assert len(said) == 2 * (5 + 1 + 1)
    text = to_markdown(report)
    assert "Published" in text
    assert " ± " in text
    assert "<svg" in to_html(report)


def test_verdicts_say_missed_when_missed():
    figures = {"top1": [0.5], "retrieval1": [0.4], "chamfer": [3.0]}
    better = {"top1": [0.45], "retrieval1": [0.6], "chamfer": [2.0]}
    rows = [Row("clean", figures), Row("deformed", figures), Row("noised and denoised", better)]
    said = list(verdicts([*rows, Row("healed", better)]))
    assert said[0].startswith("healed drawings are recognized 90%")
    assert sum("NOT better" in s for s in said) == 2


def test_wrong_counts_and_strange_classes_are_refused():
    with pytest.raises(UserError, match="percentages"):
        Protocol(levels=(0,))
    with pytest.raises(UserError, match="counts"):
        Protocol(seeds=0)
    with pytest.raises(UserError, match="no class"):
        Experiment(
            tiny(), split_of([half().with_label("cup")]), Judge(("zebra",)).eval(), Protocol()
        )
