import dataclasses
import hashlib
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import Split
from sketchknitter.diffusion.denoiser import Denoised
from sketchknitter.diffusion.guidance.encouraged import Encouraged
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.sampler import Drawn, Task
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.experiments import explain, explain_figure
from sketchknitter.metrics.prediction import along, correlation, ranks, to_text
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.recognizers.recognizability import Recognizability, probability
from sketchknitter.recognizers.scorer import INPUTS, Scorer, best_of, offsets, seen
from sketchknitter.settings import BackboneConfig, DiffusionConfig, Settings, StageConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.systems.sketchknitter.recognizability import Examples, fit, predict, run_stage

STAGE = StageConfig(
    drawings=16, trajectories=8, levels=4, updates=3, stage_batch=8, hidden=8, inputs="placed"
)


def tiny_model(path, classes=("line", "circle", "star"), codec=None):
    torch.manual_seed(0)
    config = ModelConfig(
        network=BackboneConfig(widths=(8, 16), num_res_blocks=1, attention_levels=()),
        diffusion=DiffusionConfig(),
        codec=codec or Codec(max_rows=16),
        classes=classes,
    )
    denoiser = build_denoiser(config)
    for p in denoiser.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=0.1)
    lengths = torch.zeros(len(classes) + 1, config.codec.max_points + 1, dtype=torch.int32)
    lengths[:, 8:16] = 1
    Checkpoint(config, denoiser.state_dict(), lengths).save(path)
    return path


@pytest.fixture(scope="module")
def guide():
    torch.manual_seed(1)
    return Recognizer(("circle", "line", "fish"), channels=(8, 8, 8)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, guide):
    path = tiny_model(tmp_path_factory.mktemp("stage") / "model.safetensors")
    run_stage(path, config=STAGE, guide=guide)
    return path


# -- the network -----------------------------------------------------------------------------------
def inputs(b=4, n=10, channels=5):
    torch.manual_seed(2)
    mask = torch.arange(n)[None] < torch.tensor([10, 7, 3, 1])[:b, None]
    return (
        torch.randn(b, n, channels),
        torch.rand(b),
        torch.randint(1000, (b,)),
        torch.tensor([0, 1, 2, 3])[:b],
        mask,
    )


def test_gradients_reach_every_weight():
    network = Recognizability(5, 3, hidden=8)
    network(*inputs()).square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert bool((p.grad.abs().sum(dim=-1) > 0).any() if p.ndim > 1 else (p.grad != 0).any()), (
            name
        )
    # every label was used, "no label" among them
    assert (network.label.weight.grad.abs().sum(dim=1) > 0).all()


def test_padding_and_batch_mates_change_nothing():
    network = Recognizability(5, 3, hidden=8).eval()
    points, noise, t, label, mask = inputs()
    together = network(points, noise, t, label, mask)
    rubbish = torch.where(mask[..., None], points, torch.tensor(1e3))
    torch.testing.assert_close(network(rubbish, noise, t, label, mask), together)
    for i, n in enumerate(mask.sum(dim=1).tolist()):
        own = slice(i, i + 1)
        alone = network(points[own, :n], noise[own], t[own], label[own], mask[own, :n])
        torch.testing.assert_close(alone, together[own])


def test_without_a_label_the_best_class_counts():
    p = torch.tensor([[0.2, 0.7, 0.1], [0.2, 0.7, 0.1]])
    assert probability(p, torch.tensor([0, 3])).tolist() == pytest.approx([0.2, 0.7])


def test_time_noise_and_label_matter():
    network = Recognizability(5, 3, hidden=8).eval()
    points, noise, t, label, mask = inputs()
    base = network(points, noise, t, label, mask)
    assert not torch.allclose(network(points, noise, t // 2, label, mask), base)
    assert not torch.allclose(network(points, noise + 1, t, label, mask), base)
    assert not torch.allclose(network(points, noise, t, (label + 1) % 4, mask), base)


# -- what it sees ----------------------------------------------------------------------------------
@pytest.mark.parametrize("representation", ["offset", "leaky", "absolute"])
def test_offsets_undo_every_representation(representation):
    codec = Codec(representation=representation, leak=0.7, max_rows=12, scale=3.0)
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=(9, 2)) * 20, np.zeros(9)])
    steps = offsets(codec.encode([rows], [0]).xy, codec.rho)[0].double().numpy()
    wanted = rows[:, :2] if representation == "offset" else np.vstack([[0, 0], rows[:, :2]])
    np.testing.assert_allclose(
        steps / np.abs(steps).max(), wanted / np.abs(wanted).max(), atol=1e-5
    )


@pytest.mark.parametrize("name", list(INPUTS))
def test_what_is_seen_forgets_size_and_padding(name):
    torch.manual_seed(0)
    x, x0, pen = torch.randn(3, 8, 5), torch.randn(3, 8, 5), torch.randn(3, 8, 3)
    mask = torch.arange(8)[None] < torch.tensor([8, 5, 2])[:, None]
    x, x0 = x * mask[..., None], x0 * mask[..., None]
    points = seen(name, x, Denoised(x0, x, pen), mask, 0.8)
    assert points.shape == (3, 8, INPUTS[name])
    assert (points[~mask] == 0).all()
    larger = seen(name, 7 * x, Denoised(7 * x0, x, pen), mask, 0.8)
    torch.testing.assert_close(larger, points, rtol=1e-4, atol=1e-4)
    short = seen(name, x[:, :5], Denoised(x0[:, :5], x[:, :5], pen[:, :5]), mask[:, :5], 0.8)
    torch.testing.assert_close(short[1], points[1, :5])


# -- learning --------------------------------------------------------------------------------------
def test_it_learns_to_tell_circles_from_lines():
    rng = np.random.default_rng(0)
    n, count = 12, 240
    angle = np.linspace(0, 2 * np.pi, n)
    kind = np.arange(count) % 2
    round_ = np.stack([np.cos(angle), np.sin(angle)], -1)
    steps = np.where(kind[:, None, None] == 1, round_, np.ones((n, 2)))
    steps = steps + 0.4 * rng.normal(size=(count, n, 2))
    points = torch.tensor(np.concatenate([steps, np.zeros((count, n, 1))], -1)).float()
    target = torch.nn.functional.one_hot(torch.from_numpy(kind), 2).float()
    examples = Examples(
        {"estimate": points},
        torch.rand(count),
        torch.from_numpy(rng.integers(1000, size=count)),
        torch.zeros(count, dtype=torch.long),  # all are asked: how much of class 0 is it?
        torch.ones(count, n, dtype=torch.bool),
        {"estimate": target},
        torch.from_numpy(rng.permutation(count)),
        torch.zeros(count, dtype=torch.bool),
    )
    config = dataclasses.replace(STAGE, updates=60, stage_batch=32, hidden=16, inputs="estimate")
    network = fit(examples, "estimate", config, 0, lambda what, share: None)
    test = examples.held_out.numpy()
    guess = predict(network, examples, "estimate")[test]
    assert ((guess > 0.5) == (kind[test] == 0)).mean() > 0.95


def test_the_table_measures_what_it_says():
    rng = np.random.default_rng(0)
    truth, t = rng.random(400), rng.integers(1000, size=400).astype(float)
    perfect = along("perfect", truth, truth, t, 1000)
    assert perfect.r2 == pytest.approx([1.0] * 9)
    monotone = along("cube", truth**3, truth, t, 1000)
    assert monotone.spearman == pytest.approx([1.0] * 9)
    assert monotone.r2[-1] < 0.9
    still = along("mean", np.full(400, truth.mean()), truth, t, 1000)
    assert still.r2[-1] == pytest.approx(0)
    assert np.isnan(still.spearman[-1])
    assert "-" in to_text([still], "title", 400)
    assert ranks(np.array([5.0, 1.0, 5.0])).tolist() == [2.5, 1.0, 2.5]
    assert correlation(truth, -truth) == pytest.approx(-1)


# -- the stage -------------------------------------------------------------------------------------
def test_two_runs_with_one_seed_write_one_file(tmp_path, guide, trained):
    again = tiny_model(tmp_path / "again.safetensors")
    torch.manual_seed(99)  # what was drawn before must not matter
    text = run_stage(again, config=STAGE, guide=guide)
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (trained, again)]
    assert digests[0] == digests[1]
    assert "R2" in text
    assert "Spearman" in text
    run_stage(again, config=STAGE, guide=guide, seed=1)
    assert hashlib.sha256(again.read_bytes()).hexdigest() != digests[0]


def test_the_stage_leaves_the_model_alone(tmp_path, trained):
    before = Checkpoint.load(tiny_model(tmp_path / "before.safetensors"))
    after = Checkpoint.load(trained)
    assert after.weights.keys() == before.weights.keys()
    assert all(torch.equal(after.weights[k], v) for k, v in before.weights.items())
    assert after.notes["shortcut"]["warp"][0] == 1
    # classes the guide does not know have no own class there
    labels = SketchKnitter(after).scorer.labels.tolist()
    assert labels == [1, 0, 3, 3]


def test_real_drawings_can_be_noised(tmp_path, guide):
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(-30, 30, (300, 2)), np.zeros(300)]).astype(np.float32)
    starts = np.arange(0, 300, 10)
    labels = np.arange(30, dtype=np.int16) % 3
    split = Split("train", rows, starts, starts + 10, labels, ("circle", "bird", "line"))
    data = SimpleNamespace(train=split, classes=split.classes)
    path = tiny_model(tmp_path / "m.safetensors")
    run_stage(path, data, config=STAGE, guide=guide)
    assert len(SketchKnitter.from_pretrained(path).sample("line", 2, steps=3, timesteps="shortcut"))


def test_a_checkpoint_without_the_stage_says_so(tmp_path):
    model = SketchKnitter.from_pretrained(tiny_model(tmp_path / "plain.safetensors"))
    for options in ({"timesteps": "shortcut"}, {"timesteps": "shortcut-adaptive"}, {"best_of": 2}):
        with pytest.raises(UserError, match="no recognizability network; add one with") as error:
            model.sample("line", 1, steps=3, **options)
        assert "\n" not in str(error.value)


def test_a_stage_with_nothing_to_learn_from_is_refused(tmp_path, guide):
    path = tiny_model(tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="needs >= 8 drawings"):
        run_stage(path, config=dataclasses.replace(STAGE, trajectories=2), guide=guide)


# -- sampling with it ------------------------------------------------------------------------------
@pytest.mark.parametrize("timesteps", ["shortcut", "shortcut-static", "shortcut-adaptive"])
@pytest.mark.parametrize("sampler", ["dpm++", "ddim", "ddpm"])
def test_every_sampler_takes_every_shortcut(trained, timesteps, sampler):
    model = SketchKnitter.from_pretrained(trained)
    visited: dict[int, list[int]] = {}

    def watch(numbers, frame):
        for row, t in zip(frame.rows.tolist(), frame.t.tolist(), strict=True):
            visited.setdefault(int(numbers[row]), []).append(t)

    settings = Settings(timesteps=timesteps, steps=6, sampler=sampler)
    assert len(list(model.stream("line", 5, settings=settings, watch=watch))) == 5
    assert len(visited) == 5
    for levels in visited.values():
        assert len(levels) <= 6
        assert all(a > b for a, b in pairwise(levels))


def test_best_of_keeps_the_highest_score():
    scorer = SimpleNamespace(finished=lambda drawn, task: drawn.x0.mean(dim=(1, 2)))
    mask = torch.ones(6, 4, dtype=torch.bool)
    tried = []

    def draw(task, x):
        tried.append(x)
        return Drawn(x, x[..., :1].expand(-1, -1, 3), tuple((1,) for _ in range(len(x))))

    def start():
        return Task(torch.zeros(6, dtype=torch.long), mask, SketchNoise.keyed(0, range(6)))

    task = start()
    first = draw(task, task.normal(2))
    kept = best_of(4, first, draw, task, 2, scorer)
    means = torch.stack([x.mean(dim=(1, 2)) for x in tried])
    assert len(tried) == 4
    torch.testing.assert_close(kept.x0.mean(dim=(1, 2)), means.amax(dim=0))
    assert len(set(means.argmax(dim=0).tolist())) > 1
    task = start()
    again = best_of(4, draw(task, task.normal(2)), draw, task, 2, scorer)
    assert torch.equal(again.x0, kept.x0)
    with pytest.raises(UserError, match="best_of must be at least 1"):
        best_of(0, first, draw, task, 2, scorer)


def test_best_of_one_is_plain_sampling(trained):
    model = SketchKnitter.from_pretrained(trained)
    plain = model.sample("line", 3, steps=3)
    assert model.sample("line", 3, steps=3, best_of=1) == plain
    assert model.sample("line", 3, steps=3, best_of=3) != plain


def test_encouragement_raises_the_score_and_keeps_the_forward_equation(trained):
    model = SketchKnitter.from_pretrained(trained)
    torch.manual_seed(0)
    mask, label = torch.ones(8, 10, dtype=torch.bool), torch.arange(8) % 3
    t = torch.full((8,), 300)
    x_t = torch.randn(8, 10, model.width)
    with torch.no_grad():
        plain = model.denoiser(x_t, t, label, mask)
        pushed = Encouraged(model.denoiser, model.scorer, 50.0)(x_t, t, label, mask)
        scores = [model.scorer(x_t, out, t, label, mask) for out in (plain, pushed)]
    assert (scores[1] > scores[0]).all()
    alpha, sigma = (c.float()[:, None, None] for c in model.denoiser.schedule(t))
    torch.testing.assert_close(alpha * pushed.x0 + sigma * pushed.eps, x_t, atol=1e-5, rtol=1e-4)
    push = (pushed.x0 - plain.x0).square().sum(dim=(1, 2)).div(10).sqrt()
    assert (push <= 0.2 + 1e-5).all()


# -- the evidence ----------------------------------------------------------------------------------
def test_a_score_of_the_noisy_state_encourages_nothing(trained, monkeypatch):
    """It does not depend on the estimate, so there is no slope to follow."""
    model = SketchKnitter.from_pretrained(trained)
    monkeypatch.setattr(model.scorer, "inputs", "state")
    with pytest.raises(UserError, match=r"^encourage needs a recognizability network that sees"):
        model.sample("line", 1, steps=3, encourage=1.0)


def test_explain_draws_the_figure_and_says_what_it_found(tmp_path, trained):
    question = explain.Question(8, (4,), count=8)
    evidence = explain.explain(str(trained), question, tmp_path)
    assert evidence.noise.shape == (len(evidence.t), 8)
    assert set(evidence.marks[4]) <= set(evidence.t.tolist())
    # the noisiest level estimates all of its noise: E|N(0, 1)| = 0.80
    assert evidence.noise[-1].mean() > 0.6
    for name in ("figure.png", "r.md", "r.html", "r.csv"):
        explain_figure.save(evidence, tmp_path / name)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert (tmp_path / "evidence.png").read_bytes() == (tmp_path / "figure.png").read_bytes()
    assert (tmp_path / "r.csv").read_text().count("\n") == 4 * len(evidence.t) + 1
    assert "95 % bootstrap" in explain.verdict(evidence)
    (done,) = tmp_path.glob("cache/walk-*/done.json")
    stamp = done.stat().st_mtime_ns
    again = explain.explain(str(trained), question, tmp_path)
    assert done.stat().st_mtime_ns == stamp
    assert explain.verdict(again) == explain.verdict(evidence)
    with pytest.raises(UserError, match="at least 8"):
        explain.Question(4)
    with pytest.raises(UserError, match=r"one of \.png"):
        explain_figure.check_output(tmp_path / "figure.txt")


@pytest.mark.parametrize(
    ("over", "beside", "said"),
    [(-1, -1, "also at equal t"), (-1, 0, "over time only"), (1, 0, "contradicts")],
)
def test_the_verdict_follows_the_data(over, beside, said):
    rng = np.random.default_rng(0)
    level = np.linspace(0, 1, 20)[:, None]
    sketch = rng.normal(size=(1, 60))
    noise = 0.4 + 0.3 * level + 0.05 * sketch
    chance = 0.5 + 0.4 * over * (level - 0.5) + 0.05 * beside * sketch
    chance = chance + 0.02 * rng.normal(size=(20, 60)) * (beside == 0)
    text = explain._reading(
        explain.across_levels(noise, chance, 100), explain.within_levels(noise, chance, 100)
    )
    assert said in text


def test_scorer_has_no_own_opinion_on_unknown_classes():
    network = Recognizability(3, 2, hidden=8).eval()
    scorer = Scorer(network, "estimate", 0.8, torch.tensor([1, 2, 2]))
    x = torch.randn(2, 6, 5)
    out = Denoised(x, x, torch.zeros(2, 6, 3))
    mask, t = torch.ones(2, 6, dtype=torch.bool), torch.tensor([5, 5])
    unknown = scorer(x, out, t, torch.tensor([1, 1]), mask)
    nobody = scorer(x, out, t, torch.tensor([2, 2]), mask)
    assert torch.equal(unknown, nobody)
    assert (unknown >= 0.5).all()  # of two classes the better one
