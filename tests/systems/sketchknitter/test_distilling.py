"""Distillation: what the student is asked to learn, that it learns it, and who draws afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pupils import NAMES, batch

from sketchknitter.cli import main
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.denoiser import expand
from sketchknitter.diffusion.guidance.autoguided import Autoguided
from sketchknitter.diffusion.guidance.classifier_free import Absorbed, Guided
from sketchknitter.diffusion.guidance.conditioned import Conditioned
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import Renoised
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.editing.plain import sampling_of
from sketchknitter.errors import UserError
from sketchknitter.recognizers import picture
from sketchknitter.settings import (
    AugmentConfig,
    Completing,
    DistillationName,
    DistillConfig,
    Settings,
)
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import build_denoiser
from sketchknitter.systems.sketchknitter.distilling import Distilling, DistillTrainer
from sketchknitter.systems.sketchknitter.run import digest
from sketchknitter.systems.sketchknitter.student import student_of
from sketchknitter.systems.sketchknitter.teacher import Teacher
from sketchknitter.systems.sketchknitter.teaching import StudentRun
from sketchknitter.training.objective import Streams
from tiny_model import tiny

HOW = DistillConfig(
    iterations=4, batch_size=8, warmup=1, steps=4, teacher_steps=8, optimizer="adamw"
)


def model() -> SketchKnitter:
    return tiny(classes=NAMES, conditions=True)


def pupil(weight: float = 1.0, way: DistillationName = "progressive") -> tuple[Distilling, Teacher]:
    """A student that has learned nothing yet, whose teacher takes as few steps as itself."""
    base = model()
    student = build_denoiser(base.config, guided=True)
    student.load_state_dict(student.state_dict() | base.denoiser.state_dict())
    teacher = Teacher(base.denoiser, 4, len(NAMES), (0.0, 1.0))
    return Distilling(student, teacher, 4, way, (weight, weight), 0.1), teacher


STREAMS = Streams(0, 0, np.arange(8), 8)


# -- the loss ------------------------------------------------------------------------------------
def test_a_student_that_steps_like_its_teacher_has_nothing_to_learn(
    random_rows: Callable[..., list[np.ndarray]],
) -> None:
    objective, teacher = pupil()
    examples = batch(random_rows)
    loss = objective.loss(examples, STREAMS)
    assert loss.count.min() > 0
    assert loss.per_sketch.max() < 1e-9
    # a teacher of twice the steps, or with guidance, goes elsewhere
    objective.teacher = dataclasses.replace(teacher, steps=8)
    assert objective.loss(examples, STREAMS).per_sketch.min() > 1e-5
    guided, _ = pupil(weight=3.0)
    named = examples.batch.label < 2
    assert guided.loss(examples, STREAMS).per_sketch[named].max() > 1e-5


def test_one_step_by_the_wanted_estimate_ends_where_the_teachers_steps_do(
    random_rows: Callable[..., list[np.ndarray]],
) -> None:
    teacher = dataclasses.replace(pupil()[1], steps=8)
    examples = batch(random_rows)
    own, denoiser = examples.batch, teacher.denoiser
    t = torch.tensor(policies.trailing(4, denoiser.schedule).levels).repeat(2)
    noise = SketchNoise([np.random.default_rng(i) for i in range(8)])
    x_t = noise.normal(own.length.tolist(), own.xy.shape[1], 5)
    s = torch.tensor([749, 499, 249, -1] * 2)
    x_s = teacher.ahead(examples, x_t, t, s, own.label, torch.full((8,), 2.0))
    alpha, sigma = (expand(c, x_t) for c in denoiser.schedule(t))
    alpha_s, sigma_s = (expand(c, x_t) for c in denoiser.schedule(s))
    x0 = (x_s - sigma_s / sigma * x_t) / (alpha_s - sigma_s / sigma * alpha)
    eps = (x_t - alpha * x0) / sigma
    torch.testing.assert_close(alpha_s * x0 + sigma_s * eps, x_s, atol=1e-4, rtol=1e-4)


def test_consistency_leads_to_the_data_from_every_level(
    random_rows: Callable[..., list[np.ndarray]],
) -> None:
    examples = batch(random_rows)
    objective, teacher = pupil(way="consistency")
    # in one step: the teacher's own estimate is the target
    objective.teacher = dataclasses.replace(teacher, steps=1)
    objective.grid = policies.trailing(1, teacher.denoiser.schedule)
    objective.levels = type(objective.levels)(objective.grid.levels)
    assert objective.loss(examples, STREAMS).per_sketch.max() < 1e-9
    own = examples.batch
    noise = SketchNoise([np.random.default_rng(i) for i in range(8)])
    x_t = noise.normal(own.length.tolist(), own.xy.shape[1], 5)
    t = torch.tensor([999, 999, 749, 749, 499, 499, 249, 249])
    weight, data = torch.full((8,), 2.0), torch.full((8,), -1)
    together = teacher.ahead(examples, x_t, t, data, own.label, weight)
    for i in range(8):
        one = torch.tensor([i])
        alone = teacher.ahead(
            examples[one], x_t[one], t[one], data[one], own.label[one], weight[one]
        )
        torch.testing.assert_close(together[one], alone, atol=1e-4, rtol=1e-4)


def test_weights_of_their_own_for_each_sketch(
    random_rows: Callable[..., list[np.ndarray]],
) -> None:
    base, examples = model(), batch(random_rows)
    own = examples.batch
    label = torch.where(torch.arange(8) % 3 == 0, 2, own.label)
    t = torch.tensor([999, 900, 700, 500, 300, 200, 100, 5])
    noise = SketchNoise([np.random.default_rng(i) for i in range(8)])
    x_t = noise.normal(own.length.tolist(), own.xy.shape[1], 5)
    weight = torch.linspace(1, 4, 8)
    conditioned = Conditioned(base.denoiser, examples)
    together = Guided(conditioned, weight, 2, (0.15, 0.95))(x_t, t, label, own.mask)
    for i in range(8):
        index = torch.tensor([i])
        alone = Guided(conditioned.rows(index), float(weight[i]), 2, (0.15, 0.95))
        out = alone(x_t[index], t[index], label[index], own.mask[index])
        torch.testing.assert_close(together.x0[index], out.x0, atol=1e-4, rtol=1e-4)


def weak() -> Checkpoint:
    """The model's like, with other weights."""
    base = model().checkpoint
    rng = torch.Generator().manual_seed(5)
    moved = {k: v + 0.05 * torch.randn(v.shape, generator=rng) for k, v in base.weights.items()}
    return dataclasses.replace(base, weights=moved)


def test_autoguidance_steers_away_from_the_weak_network(
    random_rows: Callable[..., list[np.ndarray]],
) -> None:
    examples = batch(random_rows)
    own = examples.batch
    strong, worse = model().denoiser, weak().denoiser()
    t = torch.tensor([999, 900, 700, 500, 300, 200, 100, 5])
    noise = SketchNoise([np.random.default_rng(i) for i in range(8)])
    x_t = noise.normal(own.length.tolist(), own.xy.shape[1], 5)
    label = torch.where(torch.arange(8) % 3 == 0, 2, own.label)
    teacher = Teacher(strong, 4, len(NAMES), (0.15, 0.95), worse, 2.5)
    weight = torch.linspace(1, 4, 8)
    together = teacher.model(examples, weight)(x_t, t, label, own.mask)

    def alone(i: int, label: int) -> torch.Tensor:
        one = torch.tensor([i])
        asked = (x_t[one], t[one], torch.tensor([label]), own.mask[one])
        a, b = (Conditioned(d, examples[one])(*asked).x0[0] for d in (strong, worse))
        return b + 2.5 * (a - b)

    for i in range(8):
        wanted, named = alone(i, int(label[i])), int(label[i]) != 2
        if named and 150 <= int(t[i]) <= 950:
            plain = alone(i, 2)
            wanted = plain + float(weight[i]) * (wanted - plain)
        torch.testing.assert_close(together.x0[i], wanted, atol=1e-3, rtol=1e-3)
    # what is known stays; of itself, or at weight 1, it is the strong network
    known = ~examples.free.expand_as(together.x0)
    clean = strong.state(own.xy, own.pen)
    torch.testing.assert_close(together.x0[known], clean[known])
    plain = Conditioned(strong, examples)
    for same in (Autoguided(plain, plain, 3.0), Autoguided(plain, Conditioned(worse, examples), 1)):
        out = same(x_t, t, label, own.mask)
        torch.testing.assert_close(out.x0, plain(x_t, t, label, own.mask).x0)


def test_no_label_reads_no_weight() -> None:
    student = pupil()[0].denoiser
    torch.nn.init.normal_(student.backbone.embedding.weight.weight, std=0.1)
    x, t, mask = torch.randn(2, 9, 5), torch.tensor([500, 500]), torch.ones(2, 9) > 0
    label = torch.tensor([2, 0])
    light, heavy = (Absorbed(student, w, 2)(x, t, label, mask) for w in (1.0, 4.0))
    assert torch.equal(light.x0[0], heavy.x0[0])
    assert not torch.allclose(light.x0[1], heavy.x0[1])


# -- training ------------------------------------------------------------------------------------
def run(data: PreparedSet, folder: Path, checkpoint: Checkpoint, how: DistillConfig) -> StudentRun:
    trainer = DistillTrainer(data, checkpoint, how, AugmentConfig(0, 0, 0))
    return StudentRun(trainer, folder, save_interval=2)


def test_it_learns_and_resumes_bit_for_bit(data: PreparedSet, tmp_path: Path) -> None:
    how = dataclasses.replace(HOW, iterations=60, lr=3e-3)
    whole = run(data, tmp_path / "whole", model().checkpoint, how)
    losses: list[float] = []
    whole.go(report=lambda update: losses.append(update.loss))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    first = run(data, tmp_path / "parts", model().checkpoint, how)
    first.go(17)
    first.close()
    second = run(data, tmp_path / "parts", model().checkpoint, how)
    second.resume()
    second.go()
    assert second.digests() == whole.digests()


def kept_losses(folder: Path) -> dict[str, float]:
    stages = Checkpoint.load(folder / "model.safetensors").notes["distilled"]["stages"]
    losses: dict[str, float] = stages[-1]["losses"]
    return losses


def test_a_run_outlives_its_previews_and_goes_on_with_its_losses(
    data: PreparedSet, tmp_path: Path
) -> None:
    (tmp_path / "previews").write_text("in the way")
    said: list[str] = []
    first = run(data, tmp_path, model().checkpoint, HOW)
    first.say = said.append
    first.go(2)
    assert "loss " in said[0]
    assert "no preview (" in said[0]
    found = kept_losses(tmp_path)
    assert list(found) == ["valid_loss"]
    second = run(data, tmp_path, model().checkpoint, HOW)
    second.resume()
    second.save(brief=True)
    second.close()
    assert kept_losses(tmp_path) == found


def test_nothing_held_out_leaves_no_loss(data: PreparedSet, tmp_path: Path) -> None:
    none = np.zeros(len(data.valid), dtype=bool)
    alone = dataclasses.replace(data, valid=data.valid.where(none))
    said: list[str] = []
    only = run(alone, tmp_path, model().checkpoint, HOW)
    only.say = said.append
    only.go(2)
    assert kept_losses(tmp_path) == {}
    assert "no loss measured" in said[0]
    assert "nan" not in said[0]


def test_a_weak_model_teaches_what_to_leave(data: PreparedSet, tmp_path: Path) -> None:
    base = model().checkpoint
    students = {}
    for name, worse in (("plain", None), ("weak", weak())):
        trainer = DistillTrainer(data, base, HOW, AugmentConfig(0, 0, 0), weak=worse)
        StudentRun(trainer, tmp_path / name, save_interval=2).go()
        students[name] = Checkpoint.load(tmp_path / name / "model.safetensors")
    extras = {name: digest(made.extras) for name, made in students.items()}
    assert extras["plain"] != extras["weak"]
    # another weak model is another training
    for worse in (None, base):
        other = DistillTrainer(data, base, HOW, AugmentConfig(0, 0, 0), weak=worse)
        with pytest.raises(UserError, match="another weak"):
            other.load_state(tmp_path / "weak" / "state.safetensors")
    with pytest.raises(UserError, match="no use for a weak model"):
        DistillTrainer(data, students["weak"], dataclasses.replace(HOW, steps=2), weak=weak())
    larger = tiny(classes=(*NAMES, "pig"), conditions=True).checkpoint
    with pytest.raises(UserError, match="another configuration"):
        DistillTrainer(data, base, HOW, weak=larger)


def test_stages_follow_each_other(data: PreparedSet, tmp_path: Path) -> None:
    base = model().checkpoint
    first = run(data, tmp_path / "4", base, HOW)
    first.go()
    made = Checkpoint.load(tmp_path / "4" / "model.safetensors")
    # the model's own weights are as they were
    assert digest(made.weights) == digest(base.weights)
    last = run(data, tmp_path / "2", made, dataclasses.replace(HOW, steps=2))
    assert last.trainer.teacher.steps == 4
    assert last.trainer.teacher.denoiser.guided
    last.go()
    again = Checkpoint.load(tmp_path / "2" / "model.safetensors")
    assert again.notes["distilled"]["steps"] == 2
    assert len(again.notes["distilled"]["stages"]) == 2
    way = dataclasses.replace(HOW, steps=2, distillation="consistency")
    run(data, tmp_path / "c", made, way).go()
    jumping = Checkpoint.load(tmp_path / "c" / "model.safetensors")
    student = student_of(jumping)
    assert student is not None
    assert isinstance(student.method, Renoised)
    with pytest.raises(UserError, match="consistency distillation cannot teach"):
        run(data, tmp_path / "d", jumping, dataclasses.replace(HOW, steps=1))
    with pytest.raises(UserError, match="must divide the teacher's 4 and be fewer, not 3"):
        run(data, tmp_path / "3", made, dataclasses.replace(HOW, steps=3))


# -- drawing -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def distilled(data: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distilled")
    run(data, folder, model().checkpoint, HOW).go()
    return folder


def visited(found: SketchKnitter, **settings: object) -> list[int]:
    levels: list[int] = []
    chosen = Settings(**settings)  # type: ignore[arg-type]
    list(found.stream("cat", 1, settings=chosen, watch=lambda n, f: levels.extend(f.t.tolist())))
    return levels


def test_the_student_draws_unless_something_else_is_asked(distilled: Path) -> None:
    found = SketchKnitter.from_pretrained(distilled)
    assert visited(found) == visited(found, steps=4) == [999, 749, 499, 249]
    assert len(visited(found, steps=7)) == 7
    assert len(visited(found, sampler="ddim")) == 12
    assert found.sample("cat", guidance=1.0) != found.sample("cat", guidance=4.0)
    assert sampling_of(found, Completing()).student is not None
    assert sampling_of(found, Completing()).steps == 4
    assert sampling_of(found, Completing(steps=9)).student is None
    assert sampling_of(found, Completing(timesteps="quadratic")).student is None
    assert sampling_of(model(), Completing()).student is None


def test_the_student_draws_again_what_is_not_recognized(
    distilled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def never(sketches: list[Sketch]) -> np.ndarray:
        asked.append(len(sketches))
        return np.zeros(len(sketches))

    monkeypatch.setattr(picture, "clearness", never)
    found = SketchKnitter.from_pretrained(distilled)
    assert found.student is not None
    once = found.sample("cat", 2, tries=1)
    assert asked == []
    assert once == found.sample("cat", 2, tries=1, guidance=found.student.guidance)
    # no other is clearer; with less guidance, for unlikely drawings will be drawn again
    less = found.sample("cat", 2, tries=1, guidance=0.75 * found.student.guidance)
    assert found.sample("cat", 2) == less != once
    assert asked == [2, 2]
    found.sample("cat", 2, steps=7)  # the many-step network
    visited(found)  # somebody watches
    assert asked == [2, 2]


def test_temperature_is_of_the_noise_that_drawing_starts_from(distilled: Path) -> None:
    found = SketchKnitter.from_pretrained(distilled)

    def first(temperature: float) -> torch.Tensor:
        states: list[torch.Tensor] = []
        chosen = Settings(temperature=temperature)
        watch = lambda numbers, frame: states.append(frame.x_t)  # noqa: E731
        list(found.stream("cat", 2, settings=chosen, watch=watch))
        return states[0]

    torch.testing.assert_close(first(0.5), 0.5 * first(1.0))
    assert sampling_of(found, Completing(temperature=0.7)).temperature == 0.7
    with pytest.raises(UserError, match="temperature must be more than 0, not 0"):
        Settings(temperature=0)


def test_it_is_saved_with_its_student(distilled: Path, tmp_path: Path) -> None:
    found = SketchKnitter.from_pretrained(distilled)
    found.save_pretrained(tmp_path)
    assert SketchKnitter.from_pretrained(tmp_path).sample("dog", 3) == found.sample("dog", 3)


@pytest.mark.parametrize("note", [{}, {"steps": 0}, {"steps": "4"}, {"steps": 4, "way": "x"}])
def test_a_damaged_note_is_refused(distilled: Path, note: dict[str, object]) -> None:
    checkpoint = Checkpoint.load(distilled / "model.safetensors")
    checkpoint.notes["distilled"] = note
    with pytest.raises(UserError, match="distilled student has no"):
        student_of(checkpoint)


def test_the_command(data: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.safetensors"
    model().checkpoint.save(path)
    words = ["train", "--stage", "distill", "--model-path", str(path), "--data-dir"]
    words += [str(data.path), "--log-dir", str(tmp_path / "run"), "--iterations", "2"]
    words += ["--batch-size", "8", "--save-interval", "1", "--weak-path", str(path)]
    main(words)
    assert "finished" in capsys.readouterr().out
    main(["sample", "cat", "--model-path", str(tmp_path / "run"), "-o", str(tmp_path / "c.svg")])
    assert (tmp_path / "c.svg").exists()
