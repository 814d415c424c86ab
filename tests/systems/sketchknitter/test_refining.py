"""Training of a refiner: what counts, that lines come out cleaner, and what the file holds then."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pupils import NAMES, with_student

from sketchknitter.cli import main
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.metrics.statistics import stroke_statistics, wasserstein
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import AugmentConfig, MatchConfig, RefineConfig
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter import refining
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.matching import MatchTrainer
from sketchknitter.systems.sketchknitter.refiner import PREFIX, Refiner, refiner_of
from sketchknitter.systems.sketchknitter.refining import AXES, Lines, Refining, fit, run_stage
from sketchknitter.systems.sketchknitter.windows import FEATURES, distance, windows
from sketchknitter.training.objective import Streams
from tiny_model import tiny

FEW = RefineConfig(drawings=20, updates=3, stage_batch=8, width=16)


def arcs(tremor: float, count: int, seed: int) -> list[Sketch]:
    """Arcs of circles, drawn by a hand that trembles by so many px."""
    rng, out = np.random.default_rng(seed), []
    for _ in range(count):
        angle = rng.uniform(0, 6) + np.arange(rng.integers(12, 24)) * rng.uniform(0.15, 0.4)
        points = 90 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        out.append(Sketch([points + tremor * rng.normal(size=points.shape)]))
    return out


def human(sketches: list[Sketch]) -> torch.Tensor:
    lines = Lines.of(sketches)
    return windows(lines.points, lines.drawn)


# -- drawings as lines -----------------------------------------------------------------------------
def test_lines_are_the_drawings_and_no_wider_than_they_need_be() -> None:
    few = Sketch([[[0, 0], [9, 1]], [[5, 5]], [[1, 2], [3, 4], [8, 8.0]]])
    more = Sketch([np.arange(18.0).reshape(9, 2)])
    lines = Lines.of([few, more])
    assert lines.points.shape == (2, 9, 2)
    assert lines.drawn[0].tolist() == [True, False, False, True, True, False, False, False]
    assert lines.mask.sum(dim=1).tolist() == [6, 9]
    assert lines.sketches() == [few, more]
    assert lines[torch.tensor([0])].points.shape == (1, 6, 2)


# -- the loss --------------------------------------------------------------------------------------
def test_the_loss_is_the_distance_and_how_far_points_moved() -> None:
    lines, people = Lines.of(arcs(3.0, 6, 1)), human(arcs(0.3, 40, 2))
    torch.manual_seed(0)
    refiner = Refiner(16)
    torch.nn.init.normal_(refiner.last.weight)
    how = dataclasses.replace(FEW, keep=0.5)
    rows = torch.tensor([0, 2, 5])
    loss = Refining(refiner, lines, people, how, 7).loss(rows, Streams(7, 4, np.arange(3), 3))
    moved = refiner(lines.points[rows], lines.drawn[rows], lines.mask[rows])
    weight = torch.tensor([1, 1, 1, 2, 1, 1]) / people.std(dim=0)
    found = windows(moved, lines.drawn[rows]) * weight
    rng = stream(7, Stream.LINES, 2, 4)
    chosen = rng.integers(len(people), size=2 * len(found))
    axes = torch.from_numpy(rng.standard_normal((FEATURES, AXES))).float()
    axes = torch.cat([axes / axes.norm(dim=0), torch.eye(FEATURES)], dim=1)
    far = float(FEATURES * distance(found, (people * weight)[chosen], axes).detach())
    gone = float((moved - lines.points[rows]).detach().square().sum())
    count = int(lines.mask[rows].sum())
    assert min(far, gone / count) > 0.1
    found_mean = float((loss.total.sum() / loss.count.sum()).detach())
    assert found_mean == pytest.approx(far + 0.5 * gone / count, rel=1e-4)


def test_a_trembling_hand_is_calmed() -> None:
    """Learned from some drawings, on others; and no point goes far."""
    calm = arcs(0.3, 150, 1)
    how = RefineConfig(drawings=150, updates=150, stage_batch=32, width=32)
    refiner = fit(Lines.of(arcs(2.0, 150, 2)), human(calm), how, 0, lambda what, share: None)
    rough = Lines.of(arcs(2.0, 60, 3))
    with torch.no_grad():
        points = refiner(rough.points, rough.drawn, rough.mask)
    clean = dataclasses.replace(rough, points=points)
    angles = [
        stroke_statistics(sketches)["turning_angle"]
        for sketches in (calm, rough.sketches(), clean.sketches())
    ]
    before, after = (wasserstein(angles[0], a) for a in angles[1:])
    assert after < 0.35 * before
    moved = (points - rough.points).norm(dim=-1)[rough.mask]
    assert 0.2 < float(moved.median()) < 4
    for axis in (0, 1):  # arcs stay where they were
        assert float((points - rough.points)[..., axis].mean().abs()) < 0.5


# -- the stage -------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_file(data: PreparedSet, tmp_path: Path) -> None:
    base, paths = with_student("matching"), [tmp_path / f"{i}.safetensors" for i in range(2)]
    said = []
    for path in paths:
        base.save(path)
        said.append(run_stage(path, data, config=FEW, seed=3))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert said[0] == said[1]
    assert "4 drawings not learned from" in said[0]
    made = Checkpoint.load(paths[0])
    assert made.notes["refiner"]["data"] == data.fingerprint
    assert made.notes["refiner"]["config"] == dataclasses.asdict(FEW)
    assert refiner_of(made) is not None
    assert all(torch.equal(v, made.extras[k]) for k, v in base.extras.items())
    # again: what the student drew is learned from, not what was refined before
    run_stage(paths[1], data, config=FEW, seed=3)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_is_told_is_of_drawings_not_learned_from(
    data: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, learned = tmp_path / "m.safetensors", []
    with_student("matching").save(path)

    def remembered(drawn: Lines, *rest: Any) -> Refiner:
        learned.append(drawn)
        return fit(drawn, *rest)

    monkeypatch.setattr(refining, "fit", remembered)
    run_stage(path, data, config=FEW)
    assert [len(drawn) for drawn in learned] == [16]


def test_another_student_has_no_refiner_yet(data: PreparedSet, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with_student("matching").save(path)
    run_stage(path, data, config=FEW)
    how = MatchConfig(iterations=1, batch_size=8, warmup=0)
    trainer = MatchTrainer(data, Checkpoint.load(path), how, AugmentConfig(0, 0, 0))
    made = trainer.checkpoint()
    assert refiner_of(made) is None
    assert "refiner" not in made.notes
    assert not any(k.startswith(PREFIX) for k in made.extras)


def test_what_it_cannot_be_trained_for(data: PreparedSet, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tiny(classes=NAMES, conditions=True).checkpoint.save(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="only a student's lines are refined"):
        run_stage(path, data, config=FEW)
    assert path.read_bytes() == before
    with pytest.raises(UserError, match="drawings"):
        RefineConfig(drawings=3)
    with pytest.raises(UserError, match="keep"):
        RefineConfig(keep=-1.0)


def test_the_command(data: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.safetensors"
    with_student("matching").save(path)
    before = SketchKnitter.from_pretrained(path).sample("cat")
    words = ["train", "--stage", "refine", "--model-path", str(path), "--data-dir", str(data.path)]
    main([*words, "--drawings", "20", "--updates", "3", "--stage-batch", "8", "--width", "16"])
    said = capsys.readouterr().out
    assert "before" in said
    assert f"sample --model-path {path}" in said
    assert SketchKnitter.from_pretrained(path).sample("cat") != before
    with pytest.raises(SystemExit) as end:
        main(words[:5])
    assert end.value.code == 2
    assert "--data-dir" in capsys.readouterr().err
