"""Distribution matching: which way a drawing is pulled, that it learns, and what it starts from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from pupils import NAMES, Rows, batch, grown, with_student

from sketchknitter.cli import main
from sketchknitter.data.conditions import NOTHING, collate
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.diffusion.denoiser import BitPens, Denoiser, Parametrization, expand
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import Ddim
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.seeds import Stream
from sketchknitter.settings import AugmentConfig, MatchConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.matching import Matching, MatchTrainer, Pair, critic_of
from sketchknitter.systems.sketchknitter.student import student_of
from sketchknitter.systems.sketchknitter.teacher import Teacher
from sketchknitter.systems.sketchknitter.teaching import StudentRun
from sketchknitter.training.objective import Streams
from tiny_model import tiny

STREAMS = Streams(0, 0, np.arange(8), 8)
HOW = MatchConfig(iterations=4, batch_size=8, warmup=1, steps=4)
STILL = AugmentConfig(0, 0, 0)


def model(way: str = "progressive", shift: float = 0.0) -> Checkpoint:
    return with_student(way, shift=shift)


def matching(weight: float = 1.0, adversary: float = 0.0) -> Matching:
    """A student, and a critic that still says what the teacher does."""
    base = model()
    found = student_of(base)
    assert found is not None
    network = base.denoiser()
    pair = Pair(found.denoiser.train(), critic_of(base.config, network))
    teacher = Teacher(network, 1000, len(NAMES), (0.0, 1.0))
    return Matching(pair, teacher, 4, (weight, weight), 0.0, adversary)


# -- the loss ------------------------------------------------------------------------------------
def test_a_critic_that_says_what_the_teacher_does_pulls_nowhere(random_rows: Rows) -> None:
    examples = batch(random_rows)
    still = grown(matching(), examples, STREAMS)
    moved = {k: float(g.abs().max()) for k, g in still.items()}
    assert max(v for k, v in moved.items() if k.startswith("student.")) < 1e-4
    # the critic has something to learn all the same: what is drawn, and who drew
    assert max(v for k, v in moved.items() if k.startswith("critic.")) > 1e-3
    # with guidance the teacher wants something else
    pulled = grown(matching(weight=3.0), examples, STREAMS)
    assert max(float(g.abs().max()) for k, g in pulled.items() if k.startswith("student.")) > 1e-4


def test_the_students_gradient_is_the_difference_of_two_estimates(random_rows: Rows) -> None:
    """Against a gradient taken of the whole chain by hand (Yin et al. 2024, eq. 7 and 8)."""
    objective, examples = matching(weight=2.5), batch(random_rows)
    objective.seen_dropout = 0.0
    with torch.no_grad():
        for p in objective.critic.parameters():
            p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    found = grown(objective, examples, STREAMS)["student.backbone.last.linear.bias"]

    student, teacher = objective.denoiser, objective.teacher
    bias = student.backbone.last.linear.bias  # type: ignore[union-attr]
    own, label = examples.batch, examples.batch.label
    width, n = examples.free.shape[2], examples.free.shape[1]
    lengths = own.length.tolist()
    start = SketchNoise(STREAMS.each(Stream.NOISE)).normal(lengths, n, width)
    again = SketchNoise(STREAMS.each(Stream.RENOISE)).normal(lengths, n, width)
    levels = torch.from_numpy(objective.drawn_levels(STREAMS)[0])
    clean = student.state(own.xy, own.pen)
    free = examples.free & own.mask[..., None]
    total = torch.zeros_like(bias)

    def at(level: int) -> tuple[torch.Tensor, ...]:
        return tuple(v.to(clean) for v in student.schedule(torch.tensor(level)))

    for i in range(8):
        one = examples[torch.tensor([i])].narrowed(lengths[i])
        k, w = lengths[i], torch.tensor([2.5])
        known, fixed, mask = one.free, clean[i : i + 1, :k], one.batch.mask
        x = start[i : i + 1, :k]
        for t, s in ((999, 749), (749, 499), (499, 249), (249, -1)):
            a, sig, b, sig_s = at(t) + at(s)
            x = torch.where(known, x, fixed)
            x0 = student(x, torch.tensor([t]), label[i : i + 1], mask, one.condition, w).x0
            x0 = torch.where(known, x0, fixed)
            x = b * x0 + sig_s * (x - a * x0) / sig
        alpha, sigma = at(int(levels[i]))
        noised = torch.where(known, alpha * x + sigma * again[i : i + 1, :k], fixed).detach()
        asked = noised, levels[i : i + 1], label[i : i + 1], mask
        with torch.no_grad():
            real = teacher.model(one, w)(*asked).x0
            out = objective.critic.outputs(*asked, one.condition, w)[0]
            fake, _ = student.parametrization.split(out, noised, alpha, sigma)
        mine = free[i : i + 1, :k]
        apart = (x.detach() - real).abs()[mine.expand_as(x)].mean() if mine.any() else 1.0
        pull = ((fake - real) / max(float(apart), 1e-3)).clamp(-3, 3) * mine
        total += torch.autograd.grad((x * pull).sum() / width, bias)[0]
    wanted = total / (free.sum() / width)
    assert float(wanted.abs().max()) > 1e-3
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)


def test_the_verdict_pulls_to_where_humans_draw(random_rows: Rows) -> None:
    """A critic that takes drawings to the right for human ones pulls to the right, more if more of
    it is asked for, and never what is known."""
    objective, examples = matching(adversary=1.0), batch(random_rows)
    last = objective.critic.backbone.last.linear  # type: ignore[union-attr]
    with torch.no_grad():
        last.weight[-1] = torch.linspace(-1, 1, last.in_features)
    own = examples.batch
    label, weight = own.label, torch.ones(8)
    eps = SketchNoise(STREAMS.each(Stream.NOISE)).normal(own.length.tolist(), own.xy.shape[1], 5)
    drawn = objective.drawn(examples, label, weight, eps).detach().requires_grad_()
    t = torch.full((8,), 100)
    view = objective.view(examples, label, weight, t, STREAMS, drawn)
    x_t = view.noised(drawn)
    out, odds = view.judged(objective.critic, x_t)
    one = objective.pull(view, drawn, x_t, out, odds)
    objective.adversary = 2.0
    two = objective.pull(view, drawn, x_t, out, odds)
    assert one.abs().max() > 1e-4
    known = ~examples.free.expand_as(one)
    assert one[known & own.mask[..., None]].abs().max() < 1e-6
    inside = two.abs() < 3
    torch.testing.assert_close(two[inside], 2 * one[inside], atol=1e-4, rtol=1e-3)
    # a little step against it makes drawings look more human
    with torch.no_grad():
        _, after = view.judged(objective.critic, view.noised(drawn - 0.01 * one))
    assert (after - odds)[one.abs().amax(dim=(1, 2)) > 1e-4].min() > 0


def test_the_critic_starts_as_the_teacher() -> None:
    base = model()
    network = base.denoiser()
    critic = critic_of(base.config, network)
    x, t = torch.randn(2, 9, 5), torch.tensor([500, 20])
    asked = x, t, torch.tensor([2, 0]), torch.ones(2, 9) > 0
    out, further, _, _ = critic.outputs(*asked, None, torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(out, network.outputs(*asked)[0])
    assert further.shape == (2, 9, 1)
    assert not further.any()


class Gaussian(torch.nn.Module):
    """A backbone that denoises drawings whose every coordinate is N(mean, spread²), exactly."""

    def __init__(self, mean: float, spread: float, further: int = 0) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(mean))
        self.spread = torch.nn.Parameter(torch.tensor(spread))
        self.schedule, self.further = Schedule("cosine", 1000), further

    def forward(self, x: torch.Tensor, t: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        x_t = x[..., :5]
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        share = self.spread**2 * alpha / (alpha**2 * self.spread**2 + sigma**2)
        x0 = self.mean + share * (x_t - alpha * self.mean)
        v = Parametrization("v").target(x0, (x_t - alpha * x0) / sigma, alpha, sigma)
        return torch.cat([v, torch.zeros_like(v[..., : self.further])], dim=-1)


def test_a_gaussian_student_comes_to_draw_what_its_gaussian_teacher_does(random_rows: Rows) -> None:
    def network(mean: float, spread: float, guided: bool = True, further: int = 0) -> Denoiser:
        backbone = Gaussian(mean, spread, further)
        parametrization = Parametrization("v")
        return Denoiser(backbone, backbone.schedule, parametrization, BitPens(), guided=guided)

    pair = Pair(network(1.0, 1.2), network(1.0, 1.2, further=1))
    teacher = Teacher(network(-0.5, 0.6, guided=False).requires_grad_(False), 1000, 2, (0, 1))
    objective = Matching(pair, teacher, 4, (1.0, 1.0), 0.1, adversary=0.0)
    codec = model().config.codec
    rows = random_rows(8, low=20, seed=3)
    rng = np.random.default_rng(0)
    whole = collate([NOTHING(r.astype(float), codec, rng) for r in rows], [0] * 8, codec)

    def moments(network: Denoiser) -> tuple[float, float]:
        own = whole.batch
        noise = SketchNoise([np.random.default_rng(i) for i in range(8)])
        eps = noise.normal(own.length.tolist(), own.xy.shape[1], 5)
        objective.denoiser = network
        drawn = objective.drawn(whole, own.label, torch.ones(8), eps)[own.mask].detach()
        objective.denoiser = pair.student
        return float(drawn.mean()), float(drawn.std())

    # in four steps even the teacher's own network draws something narrower
    assert moments(network(-0.5, 0.6))[1] < 0.52
    assert moments(pair.student)[0] > 0.9
    optimizer = torch.optim.Adam(
        [{"params": pair.student.parameters(), "lr": 0.01}, {"params": pair.critic.parameters()}],
        lr=0.05,
        betas=(0.5, 0.99),
    )
    for update in range(300):
        loss = objective.loss(whole, Streams(0, update, np.arange(8), 8))
        optimizer.zero_grad()
        (loss.total.sum() / loss.count.sum()).backward()
        optimizer.step()
    mean, spread = moments(pair.student)
    assert abs(mean + 0.5) < 0.06
    assert abs(spread - 0.6) < 0.06


# -- training ------------------------------------------------------------------------------------
def run(data: PreparedSet, folder: Path, checkpoint: Checkpoint, how: MatchConfig) -> StudentRun:
    return StudentRun(MatchTrainer(data, checkpoint, how, STILL), folder, save_interval=2)


def test_it_keeps_the_student_and_resumes_bit_for_bit(data: PreparedSet, tmp_path: Path) -> None:
    base = model(shift=0.3)
    how = dataclasses.replace(HOW, iterations=24, lr=3e-3)
    whole = run(data, tmp_path / "whole", base, how)
    whole.go()
    made = Checkpoint.load(tmp_path / "whole" / "model.safetensors")
    note = made.notes["distilled"]
    assert (note["steps"], note["way"], len(note["stages"])) == (4, "matching", 1)
    first = run(data, tmp_path / "parts", base, how)
    first.go(17)
    first.close()
    second = run(data, tmp_path / "parts", base, how)
    second.resume()
    second.go()
    assert second.digests() == whole.digests()
    # another student is another training
    with pytest.raises(UserError, match="another start"):
        run(data, tmp_path / "whole", model(shift=0.1), how).resume()


def test_what_it_starts_from(data: PreparedSet, tmp_path: Path) -> None:
    bare = tiny(classes=NAMES, conditions=True).checkpoint
    for base in (bare, model("consistency")):
        with pytest.raises(UserError, match="needs a model with a student of progressive"):
            MatchTrainer(data, base, HOW)
    with pytest.raises(UserError, match="must divide the student's 4, not 3"):
        MatchTrainer(data, model(), dataclasses.replace(HOW, steps=3))
    with pytest.raises(UserError, match="optimizer is adamw"):
        dataclasses.replace(HOW, optimizer="muon")
    # matched students match again, in fewer steps too, and draw by DDIM
    run(data, tmp_path / "2", model("matching"), dataclasses.replace(HOW, steps=2)).go()
    found = student_of(Checkpoint.load(tmp_path / "2" / "model.safetensors"))
    assert found is not None
    assert found.steps == 2
    assert isinstance(found.method, Ddim)


def test_the_command(data: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.safetensors"
    model().save(path)
    words = ["train", "--stage", "match", "--model-path", str(path), "--data-dir", str(data.path)]
    words += ["--log-dir", str(tmp_path / "run"), "--iterations", "2", "--batch-size", "8"]
    main(words)
    assert "finished" in capsys.readouterr().out
    drawn = SketchKnitter.from_pretrained(tmp_path / "run").sample("cat")
    assert drawn != SketchKnitter.from_pretrained(path).sample("cat")
