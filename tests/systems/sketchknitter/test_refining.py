"""Refinement: what the critic of lines sees, which way a drawing moves, and what stays."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from pupils import NAMES, Rows, batch, grown, with_student
from torch.nn import functional as F

from sketchknitter.cli import main
from sketchknitter.data.batch import PEN_STATES
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.representation import Representation
from sketchknitter.seeds import Stream
from sketchknitter.settings import AugmentConfig, RefineConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.refining import (
    REACH,
    LineCritic,
    RefineTrainer,
    Refining,
)
from sketchknitter.systems.sketchknitter.student import student_of
from sketchknitter.systems.sketchknitter.teacher import Teacher
from sketchknitter.systems.sketchknitter.teaching import Pair, StudentRun
from sketchknitter.training.objective import Streams
from tiny_model import tiny

STREAMS = Streams(0, 5, np.arange(8), 8)
HOW = RefineConfig(
    iterations=4, batch_size=8, warmup=1, head_start=0, guidance=(2.0, 2.0), label_dropout=0.0
)
STILL = AugmentConfig(0, 0, 0)


def model(way: str = "matching", steps: int = 4) -> Checkpoint:
    return with_student(way, steps)


def critic(representation: Representation, seed: int = 0) -> LineCritic:
    """A critic that has opinions, if no good ones."""
    torch.manual_seed(seed)
    out = LineCritic(representation, 16)
    torch.nn.init.normal_(out.last.weight)
    return out


def refining(how: RefineConfig = HOW) -> Refining:
    base = model()
    student, before = student_of(base), student_of(base)
    assert student is not None
    assert before is not None
    teacher = Teacher(before.denoiser.requires_grad_(False), 4, len(NAMES), (0.0, 1.0))
    pair = Pair(student.denoiser.train(), critic(base.config.codec.map))
    objective = Refining(pair, teacher, how)
    objective.seen_dropout = 0.0
    return objective


def states(points: np.ndarray, representation: Representation) -> torch.Tensor:
    """Drawings of one stroke, (B, P, 2) px, as states."""
    xy = torch.from_numpy(representation.filter(points)).float()
    pens = torch.tensor([1.0, -1, -1]).expand(*xy.shape[:2], PEN_STATES)
    return torch.cat([xy, pens], dim=-1)


# -- the critic ------------------------------------------------------------------------------------
@pytest.mark.parametrize("leak", [0.0, 0.5, 1.0])
def test_a_verdict_depends_on_a_few_points_around_wherever_they_lie(leak: float) -> None:
    representation = Representation(leak, 30.0)
    network = critic(representation)
    points = np.random.default_rng(0).normal(0, 40, (2, 40, 2)).cumsum(axis=1) / 3
    here = states(points, representation)
    mask = torch.ones(here.shape[:2]) > 0
    odds = network(here, mask)
    assert odds.std() > 0.1
    moved = points.copy()
    moved[:, 20] += 7
    apart = (network(states(moved, representation), mask) - odds).abs().amax(dim=0)
    place = 20 - representation.implied
    changed = apart.gt(1e-4).nonzero()[:, 0]
    assert changed.min() == place - REACH + 1
    assert changed.max() == place + REACH
    shifted = network(states(points + np.array([30, -50]), representation), mask)
    torch.testing.assert_close(shifted, odds, atol=1e-3, rtol=1e-3)


def test_padding_changes_no_verdict() -> None:
    representation = Representation(0.5, 30.0)
    network = critic(representation)
    here = states(np.random.default_rng(0).normal(0, 40, (2, 12, 2)), representation)
    alone = network(here, torch.ones(2, 12) > 0)
    padded = network(F.pad(here, (0, 0, 0, 5)), torch.arange(17).expand(2, 17) < 12)
    torch.testing.assert_close(padded[:, :12], alone)


def test_it_learns_to_tell_arcs_from_trembling_ones() -> None:
    representation = Representation(0.5, 40.0)
    torch.manual_seed(0)
    network, rng = LineCritic(representation, 32), np.random.default_rng(0)

    def arcs(tremor: float) -> torch.Tensor:
        angle = rng.uniform(0, 6, (32, 1)) + np.arange(24) * rng.uniform(0.15, 0.4, (32, 1))
        points = 60 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        return states(points + tremor * rng.normal(size=points.shape), representation)

    mask = torch.ones(32, 24) > 0
    assert not network(arcs(0.5), mask).any()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(80):
        real, fake = network(arcs(0.5), mask), network(arcs(2.0), mask)
        optimizer.zero_grad()
        (F.softplus(-real) + F.softplus(fake)).mean().backward()
        optimizer.step()
    right = ((network(arcs(0.5), mask) > 0).float() + (network(arcs(2.0), mask) < 0).float()) / 2
    assert right.mean() > 0.8


# -- the loss --------------------------------------------------------------------------------------
def test_without_a_verdict_nothing_moves(random_rows: Rows) -> None:
    for how in (
        dataclasses.replace(HOW, adversary=0.0),
        dataclasses.replace(HOW, adversary=1.0, head_start=10**9),
    ):
        moved = grown(refining(how), batch(random_rows), STREAMS)
        student = [g.abs().max() for k, g in moved.items() if k.startswith("student.")]
        assert max(map(float, student)) < 1e-6
        # the critic learns all the same
        assert max(float(g.abs().max()) for k, g in moved.items() if "critic." in k) > 1e-4


def test_the_last_step_alone_moves_to_where_lines_look_human(random_rows: Rows) -> None:
    """Against a gradient taken by hand, through the last step from where the others lead."""
    objective, examples = refining(), batch(random_rows)
    found = grown(objective, examples, STREAMS)["student.backbone.last.linear.bias"]
    student, own = objective.denoiser, examples.batch
    bias = student.backbone.last.linear.bias  # type: ignore[union-attr]
    representation = objective.critic.representation
    clean = student.state(own.xy, own.pen)
    free = examples.free & own.mask[..., None]
    total = torch.zeros_like(bias)
    for i, (noise, blur) in enumerate(
        zip(STREAMS.each(Stream.NOISE), STREAMS.each(Stream.BLUR), strict=True)
    ):
        k = int(own.length[i])
        one = examples[torch.tensor([i])].narrowed(k)
        known, fixed, mask = one.free, clean[i : i + 1, :k], one.batch.mask
        x = torch.from_numpy(noise.standard_normal((1, k, 5), dtype=np.float32))
        for t, s in ((999, 749), (749, 499), (499, 249), (249, -1)):
            a, sig, b, sig_s = (
                v.to(clean) for level in (t, s) for v in student.schedule(torch.tensor(level))
            )
            x = torch.where(known, x.detach(), fixed)
            given = one.batch.label, mask, one.condition, torch.tensor([2.0])
            x0 = torch.where(known, student(x, torch.tensor([t]), *given).x0, fixed)
            x = b * x0 + sig_s * (x - a * x0) / sig
        points = torch.from_numpy(blur.standard_normal((1, k, 2), dtype=np.float32))
        fine = F.pad(representation.filter(HOW.blur * points), (0, PEN_STATES))
        odds = objective.critic(x + fine, mask)
        mine = free[i : i + 1, :k]
        pull = torch.autograd.grad((F.softplus(-odds) * mine[..., 0]).sum(), x, retain_graph=True)
        pulled = (HOW.adversary * pull[0]).clamp(-10, 10) * mine
        total += torch.autograd.grad((x * pulled).sum() / 5, bias)[0]
    wanted = total / (free.sum() / 5)
    assert float(wanted.abs().max()) > 1e-4
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)


def test_what_the_student_did_is_kept_at_every_level(random_rows: Rows) -> None:
    """Its last estimates are, and at each of the earlier levels those of v."""
    objective, none = (
        refining(dataclasses.replace(HOW, adversary=0.0, keep=k)) for k in (2.0, 0.0)
    )
    examples, own = batch(random_rows), batch(random_rows).batch
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p, q in zip(objective.denoiser.parameters(), none.denoiser.parameters(), strict=True):
            p += 0.02 * torch.randn(p.shape, generator=generator)
            q.copy_(p)
    found = objective.loss(examples, STREAMS).total - none.loss(examples, STREAMS).total
    levels = torch.from_numpy(objective.drawn_levels(STREAMS)[0])
    assert set(levels.tolist()) == {999, 749, 499}
    noise = SketchNoise(STREAMS.each(Stream.NOISE))
    eps = noise.normal(own.length.tolist(), own.xy.shape[1], 5)
    weight = torch.full((8,), 2.0)
    path = objective.path(examples, own.label, weight, eps, levels)
    wanted = torch.zeros(8)
    with torch.no_grad():
        for t, x_t, was in ((torch.full((8,), 249), *path[:2]), (levels, *path[2:])):
            x_t = torch.where(examples.free, x_t, objective.denoiser.state(own.xy, own.pen))
            asked = x_t, t, own.label, own.mask, examples.condition, weight
            sigma = objective.denoiser.schedule(t)[1].float()
            gap = (objective.denoiser(*asked).x0 - was) * examples.free * own.mask[..., None]
            gap = gap if t is not levels else gap / sigma[:, None, None]
            wanted += 2.0 * gap.square().sum(dim=(1, 2)) / 5
    assert wanted.min() > 0.01
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


# -- training --------------------------------------------------------------------------------------
def run(data: PreparedSet, folder: Path, checkpoint: Checkpoint, how: RefineConfig) -> StudentRun:
    return StudentRun(RefineTrainer(data, checkpoint, how, STILL), folder, save_interval=2)


def test_it_keeps_the_student_and_resumes_bit_for_bit(data: PreparedSet, tmp_path: Path) -> None:
    base = model()
    how = dataclasses.replace(HOW, iterations=8, lr=3e-3, head_start=4)
    whole = run(data, tmp_path / "whole", base, how)
    whole.go()
    note = Checkpoint.load(tmp_path / "whole" / "model.safetensors").notes["distilled"]
    assert (note["steps"], note["way"], len(note["stages"])) == (4, "matching", 1)
    first = run(data, tmp_path / "parts", base, how)
    first.go(5)
    first.close()
    second = run(data, tmp_path / "parts", base, how)
    second.resume()
    second.go()
    assert second.digests() == whole.digests()


def test_what_it_starts_from(data: PreparedSet) -> None:
    bare = tiny(classes=NAMES, conditions=True).checkpoint
    for base in (bare, model("consistency")):
        with pytest.raises(UserError, match="needs a model with a student whose steps lead"):
            RefineTrainer(data, base, HOW)
    with pytest.raises(UserError, match="must be the student's 4, not 2"):
        RefineTrainer(data, model(), dataclasses.replace(HOW, steps=2))
    with pytest.raises(UserError, match="optimizer is adamw"):
        dataclasses.replace(HOW, optimizer="muon")
    with pytest.raises(UserError, match="blur"):
        dataclasses.replace(HOW, blur=-1.0)
    # a student of a single step has no earlier ones to keep
    one = RefineTrainer(data, model(steps=1), dataclasses.replace(HOW, steps=1))
    assert one.objective_of(one.teacher.denoiser).levels.levels.tolist() == [999]


def test_the_command(data: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.safetensors"
    model().save(path)
    words = ["train", "--stage", "refine", "--model-path", str(path), "--data-dir", str(data.path)]
    words += ["--log-dir", str(tmp_path / "run"), "--iterations", "3", "--batch-size", "8"]
    main([*words, "--head-start", "0", "--lr", "0.01", "--warmup", "0"])
    assert "finished" in capsys.readouterr().out
    drawn = SketchKnitter.from_pretrained(tmp_path / "run").sample("cat")
    assert drawn != SketchKnitter.from_pretrained(path).sample("cat")
