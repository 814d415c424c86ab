"""What the outlook is shown in training, and that it learns from it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sketchknitter.data.prepare import open_data
from sketchknitter.raster import render_batch
from sketchknitter.recognizers.glimpses import AS_DRAWN, rows_of
from sketchknitter.recognizers.outlook import LONGEST, Outlook, OutlookShape
from sketchknitter.recognizers.outlook_training import OUTLOOK_CONFIG, GlimpseBatch, OutlookLesson
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.recognizers.training import Splits, teach
from sketchknitter.sketch import Sketch
from sketchknitter.training.objective import Streams

SHAPE = OutlookShape(widths=(16, 24), heads=2, frames=2)


def test_a_batch_is_sorted_by_length_and_no_part_is_wider_than_it_must_be() -> None:
    law = replace(AS_DRAWN, prefix=1)
    (rows,) = rows_of(drawings(1, 0))
    seen = [law(rows, np.random.default_rng(i)) for i in range(12)]
    batch = GlimpseBatch.of(seen, np.arange(12))
    lengths = (~batch.rows[..., 0].isnan()).sum(dim=1)
    assert (lengths.diff() >= 0).all()
    for row, label in enumerate(batch.label.tolist()):
        assert int(batch.missing[row]) == seen[label].missing
    part = batch[:3]
    assert part.inputs[0].shape[1] == int(lengths[2])


def drawings(count: int, seed: int) -> list[Sketch]:
    """Zigzags and rounds."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        n = int(rng.integers(8, 20))
        u = np.arange(n) / n
        if i % 2:
            points = np.column_stack([100 * u, 40 * (np.arange(n) % 2)])
        else:
            angle = 2 * np.pi * u
            points = 60 * np.column_stack([np.cos(angle), np.sin(angle)])
        out.append(Sketch([points + rng.normal(0, 2, (n, 2))], "zigzag" if i % 2 else "round"))
    return out


@pytest.fixture(scope="module")
def sets() -> Splits:
    return Splits(("round", "zigzag"), drawings(192, 0), drawings(24, 1), drawings(24, 2))


def test_it_learns_class_and_missing_points(sets: Splits, tmp_path: Path) -> None:
    config = replace(OUTLOOK_CONFIG, iterations=48, batch_size=16, microbatch=8)
    record = teach(lambda: OutlookLesson(sets, shape=SHAPE), config, tmp_path / "o.safetensors")
    assert record is not None
    assert record["test_top1"] > 0.9
    assert record["test_top3_half"] == 1  # of two classes
    assert record["missing_labeled"] > -np.log(LONGEST)
    assert record["optimizer"] == "muon"
    assert Outlook.load(tmp_path / "o.safetensors").record["test_top1"] == record["test_top1"]


def test_it_is_asked_of_finished_drawings_and_of_those_that_lack_whole_strokes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strokes = [
        np.column_stack([10.0 * np.arange(n), 100 * i + 60.0 * (np.arange(n) % 2)])
        for i, n in enumerate((6, 9, 7))
    ]
    sketch = Sketch(strokes, "zigzag")
    lesson = OutlookLesson(Splits(("zigzag",), *([sketch] * 12,) * 3), shape=SHAPE)
    asked: list[GlimpseBatch] = []

    def missing(self: OutlookLesson, batch: GlimpseBatch, labeled: bool) -> tuple[Tensor, Tensor]:
        """The truth."""
        asked.append(batch)
        log_p = torch.full((len(batch), LONGEST), -20.0)
        log_p[torch.arange(len(batch)), batch.missing] = 0
        return log_p, torch.zeros(len(batch))

    monkeypatch.setattr(OutlookLesson, "_missing", missing)
    figures = lesson.finish()
    assert (figures["test_finished"], figures["test_part_finished"]) == (1, 0)
    seen = (~asked[1].rows[..., 0].isnan()).sum(dim=1)
    assert set(seen.tolist()) == {6, 15}


def test_the_told_label_never_reaches_what_is_said_of_the_class(sets: Splits) -> None:
    torch.manual_seed(0)
    lesson = OutlookLesson(sets, shape=SHAPE)
    lesson.network.eval()
    read = lesson.network.read(*lesson.valid.inputs)
    lesson.network.named(read).sum().backward()
    assert lesson.network.label.weight.grad is None
    # while the other losses do teach it, with the class and without
    rows = np.arange(len(lesson.valid))
    lesson.loss(lesson.valid, Streams(0, 0, rows, len(rows))).total.sum().backward()
    assert lesson.network.label.weight.grad is not None
    assert (lesson.network.label.weight.grad.abs().sum(dim=1) > 0).all()


def test_the_shipped_recognizers_know_rough_and_half_drawings() -> None:
    data = os.environ.get("SKETCHKNITTER_DATA")
    if not data:
        pytest.skip("needs real drawings: set SKETCHKNITTER_DATA")
    test, rng = open_data([f"{data}/quickdraw"]).test, np.random.default_rng(0)
    guide, outlook = Recognizer.load(), Outlook.load()
    drawings = [test.sketch(int(i)) for i in rng.permutation(len(test))[:150]]
    laws = {
        "whole": AS_DRAWN,
        "rough": replace(AS_DRAWN, rough=1, farthest=(0.1, 0.1)),
        "half": replace(AS_DRAWN, prefix=1, left=0.5),
    }
    right = {}
    for name, law in laws.items():
        seen = [law(rows, rng) for rows in rows_of(drawings)]
        read = [outlook.class_probabilities(s.rows).argmax() for s in seen]
        pictures = render_batch([s.sketch() for s in seen], guide.size, width=guide.width)
        with torch.inference_mode():
            looked = guide(1 - torch.from_numpy(pictures).float()[:, None] / 255).argmax(1)
        for who, network, guesses in (("outlook", outlook, read), ("guide", guide, looked)):
            found = [
                network.classes[int(i)] == d.label for i, d in zip(guesses, drawings, strict=True)
            ]
            right[who, name] = np.mean(found)
    asked = {"whole": (0.88, 0.88), "rough": (0.8, 0.4), "half": (0.58, 0.58)}
    for name, (reads, looks) in asked.items():
        assert right["outlook", name] > reads, (name, right)
        assert right["guide", name] > looks, (name, right)
