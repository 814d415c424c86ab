"""What users hold: it draws what was asked, as often as asked, the same in any batch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from sketchknitter import Sketch, SketchKnitter
from sketchknitter.data.codec import Codec
from sketchknitter.errors import UserError
from sketchknitter.recognizers import picture
from sketchknitter.settings import BackboneConfig, DiffusionConfig, Settings
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.systems.sketchknitter.model import LEAST_BATCH, SamplingProgress, _alike

CLASSES = ("airplane", "cat", "face")
MAX_ROWS = 24


def checkpoint(
    length: str = "given", classes: tuple[str, ...] = CLASSES, **network: object
) -> Checkpoint:
    """A small random model whose drawings have several strokes and lengths."""
    torch.manual_seed(11)
    options = {"widths": (16, 24), "num_res_blocks": 1, "attention_levels": (1,), "num_heads": 2}
    config = ModelConfig(
        network=BackboneConfig(**(options | network)),  # type: ignore[arg-type]
        diffusion=DiffusionConfig(length=length),  # type: ignore[arg-type]
        codec=Codec(scale=20.0, max_rows=MAX_ROWS),
        classes=classes,
    )
    denoiser = build_denoiser(config)
    with torch.no_grad():
        for p in denoiser.parameters():
            p.add_(0.08 * torch.randn_like(p))
    lengths = torch.zeros(len(classes) + 1, MAX_ROWS + 2, dtype=torch.int32)
    for c in range(len(classes)):
        lengths[c, 6 + 3 * c : 14 + 3 * c] = torch.arange(1, 9)
    lengths[-1] = lengths[:-1].sum(dim=0) if len(classes) else 1
    lengths[-1, :5] = 0
    return Checkpoint(config, denoiser.state_dict(), lengths)


@pytest.fixture(scope="module")
def model() -> SketchKnitter:
    return SketchKnitter(checkpoint())


@pytest.mark.parametrize("n", [1, 3, 10])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_exactly_n(model: SketchKnitter, n: int, batch_size: int) -> None:
    sketches = model.sample("cat", n, batch_size=batch_size, steps=3)
    assert len(sketches) == n
    assert all(isinstance(s, Sketch) and s.label == "cat" for s in sketches)
    # as long as training drawings of the class
    assert all(9 <= s.num_points < 17 for s in sketches)


def test_streams_more_than_a_window(model: SketchKnitter) -> None:
    stream = model.stream("face", 300, batch_size=100, settings=Settings(steps=3))
    first = next(stream)
    assert close(first, model.sample("face", 1, steps=3)[0])
    assert sum(1 for _ in stream) == 299


def test_seed_decides(model: SketchKnitter) -> None:
    one = model.sample("cat", 4, seed=3, steps=4)
    assert model.sample("cat", 4, seed=3, steps=4) == one
    assert not set(model.sample("cat", 4, seed=4, steps=4)) & set(one)
    assert len(set(one)) == 4


def close(a: Sketch, b: Sketch) -> bool:
    """The same pens, and coordinates within 0.01 px."""
    return (
        a.label == b.label
        and [len(s) for s in a.strokes] == [len(s) for s in b.strokes]
        and np.abs(a.points - b.points).max() < 0.01
    )


@pytest.mark.parametrize(("sampler", "label"), [("dpm++", None), ("ddim", "cat"), ("ddpm", None)])
def test_the_same_drawings_in_any_batch(
    model: SketchKnitter, sampler: str, label: str | None
) -> None:
    alone = model.sample(label, 25, batch_size=1, sampler=sampler, steps=6)
    together = model.sample(label, 25, batch_size=25, sampler=sampler, steps=6)
    assert all(close(a, b) for a, b in zip(alone, together, strict=True))
    assert max(len(s) for s in alone) > 1  # pens do something
    some = model.sample(label, 7, batch_size=4, sampler=sampler, steps=6)
    assert all(close(a, b) for a, b in zip(alone[:7], some, strict=True))


def test_mixed_classes_are_balanced(model: SketchKnitter) -> None:
    labels = [s.label for s in model.sample(None, 20, steps=2)]
    assert sorted(Counter(labels).values()) == [6, 7, 7]
    assert all(set(labels[a : a + 3]) == set(CLASSES) for a in range(0, 18, 3))
    assert [s.label for s in model.sample(None, 20, steps=2, seed=1)] != labels


def test_classes_learned_from_a_few_drawings_are_drawn_when_named_alone() -> None:
    made = checkpoint()
    lengths = made.lengths.clone()
    lengths[:-1] = 0
    lengths[0, 20], lengths[1, 20], lengths[2, 20] = 300, 299, 900  # airplane, cat, face
    model = SketchKnitter(dataclasses.replace(made, lengths=lengths))
    assert model.checkpoint.drawings == (300, 299, 900)
    assert model.well_known == model.usual_classes == ("airplane", "face")
    assert model.barely_known == ("cat",)
    assert "2 classes well known (airplane, face), 1 barely" in repr(model)
    labels = [s.label for s in model.sample(None, 12, steps=2)]
    assert Counter(labels) == {"airplane": 6, "face": 6}
    assert model.sample("cat", steps=2)[0].label == "cat"
    # a file may name what it draws when nobody does
    named = SketchKnitter(dataclasses.replace(made, notes={"usual": ["face", "moon"]}))
    assert named.usual_classes == ("face",)
    assert {s.label for s in named.sample(None, 3, steps=2)} == {"face"}
    # where no class is well known all of them are usual
    few = SketchKnitter(dataclasses.replace(made, lengths=lengths // 10))
    assert few.well_known == ()
    assert few.usual_classes == few.barely_known == CLASSES


def test_settings_matter(model: SketchKnitter) -> None:
    base = model.sample("cat", 3, steps=6)
    for change in (
        {"guidance": 1.0},
        {"steps": 7},
        {"sampler": "ddim"},
        {"timesteps": "quadratic"},
        {"clip": 0.5},
        {"interval": (0.0, 0.4)},
    ):
        assert model.sample("cat", 3, **({"steps": 6} | change)) != base
    assert model.sample("cat", 3, steps=6, sampler="ddim", eta=1.0) != model.sample(
        "cat", 3, steps=6, sampler="ddim"
    )
    assert all(len(s) == 1 for s in model.sample("cat", 3, steps=6, pen_break=1.0))


def test_lengths_the_model_decides() -> None:
    model = SketchKnitter(checkpoint("learned"))
    sizes = [s.num_points for s in model.sample(None, 12, steps=4)]
    assert max(sizes) <= MAX_ROWS + 1
    assert len(set(sizes)) > 2


@pytest.mark.parametrize("backbone", ["transformer", "official"])
def test_other_backbones_draw(backbone: str) -> None:
    sketches = SketchKnitter(checkpoint(backbone=backbone, widths=(16, 16))).sample(
        None, 3, steps=2
    )
    assert [s.label for s in sketches] != [None] * 3


def test_a_model_without_classes_draws() -> None:
    model = SketchKnitter(checkpoint(classes=()))
    sketches = model.sample(n=3, steps=2)
    assert [s.label for s in sketches] == [None] * 3


def test_a_class_without_training_drawings_gets_any_length() -> None:
    made = checkpoint()
    made.lengths[1] = 0
    assert all(1 <= s.num_points <= 25 for s in SketchKnitter(made).sample("cat", 5, steps=2))


def test_progress_and_watch(model: SketchKnitter) -> None:
    steps = Settings().filled().steps
    seen: list[SamplingProgress] = []
    rows: list[int] = []
    list(
        model.stream(
            "cat",
            5,
            batch_size=2,
            progress=seen.append,
            watch=lambda numbers, frame: rows.extend(numbers[frame.rows.numpy()].tolist()),
        )
    )
    assert [p.evaluations for p in seen[:steps]] == pytest.approx(np.arange(1, steps + 1) / steps)
    assert {p.total for p in seen} == {5}
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[0].done, seen[-1]) == (0, SamplingProgress(5, 1.0, 5))
    assert Counter(rows) == dict.fromkeys(range(5), steps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "cow"}, "no class 'cow'; .*this model draws: airplane, cat, face"),
        ({"label": "airplain"}, "did you mean 'airplane'"),
        ({"n": 0}, "^n must be at least 1, not 0"),
        ({"batch_size": 0}, "^batch_size must be at least 1"),
        ({"steps": 1}, "^steps must lie in 2 … 1000, not 1"),
        ({"steps": 1001}, "not 1001"),
        ({"sampler": "euler"}, "no sampler 'euler'"),
        ({"timesteps": "spiral"}, "no timesteps policy 'spiral'"),
        ({"timesteps": "shortcut"}, "no recognizability network"),
        ({"sampler": "ddim", "eta": 1.5}, "^eta must lie in 0 … 1"),
        ({"sampler": "dpm++", "eta": 0.5}, "^eta is DDIM's; the sampler dpm.. has no such number"),
        ({"guidance": -1.0}, "^guidance must be at least 0, not -1"),
        ({"guidance": float("nan")}, "^guidance must be"),
        ({"interval": (0.9, 0.1)}, "^interval takes two shares of T, the lower one first"),
        ({"interval": (0.1, 1.5)}, "^interval takes"),
        ({"pen_break": 2.0}, "^pen_break must lie in 0 … 1, not 2"),
        ({"clip": 0.0}, "^clip must be more than 0"),
        ({"best_of": 0}, "^best_of must be at least 1"),
        ({"tries": 0}, "^tries must be at least 1"),
        ({"encourage": -1.0}, "^encourage must be at least 0"),
        ({"label": []}, "^label is an empty list"),
        ({"steps": 4, "num_inference_steps": 5}, "^steps and num_inference_steps are two names"),
    ],
)
def test_bad_requests(model: SketchKnitter, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model.sample(**options)


def test_tries_do_not_depend_on_the_batch(
    model: SketchKnitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # never recognized, so that of four tries the clearest is kept: the one with the least ink
    monkeypatch.setattr(
        picture,
        "clearness",
        lambda sketches: np.array([0.1 / (1 + s.ink_length) for s in sketches]),
    )
    once, many = (model.sample("cat", 6, steps=3, tries=n) for n in (1, 4))
    assert all(a.ink_length <= b.ink_length for a, b in zip(many, once, strict=True))
    assert sum(a != b for a, b in zip(many, once, strict=True)) >= 3
    for a, b in zip(many, model.sample("cat", 6, steps=3, tries=4, batch_size=2), strict=True):
        assert np.abs(a.points - b.points).max() < 0.01


def test_a_network_that_is_not_distilled_draws_once(
    model: SketchKnitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(picture, "clearness", lambda sketches: asked.append(len(sketches)))
    model.sample("cat", 2, steps=3)
    assert asked == []


def test_save_and_load(model: SketchKnitter, tmp_path: Path) -> None:
    path = model.save_pretrained(tmp_path / "mine")
    assert path == tmp_path / "mine" / "model.safetensors"
    for source in (path, path.parent, str(path.parent)):
        back = SketchKnitter.from_pretrained(source)
        assert back.classes == CLASSES
        assert back.sample("cat", 2, steps=3) == model.sample("cat", 2, steps=3)
    with pytest.raises(UserError, match="no such file"):
        SketchKnitter.from_pretrained(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no such file or folder"):
        SketchKnitter.from_pretrained(tmp_path / "other")


def test_the_checkpoint_carries_the_scale() -> None:
    made = checkpoint()
    large = dataclasses.replace(
        made.config, codec=dataclasses.replace(made.config.codec, scale=40.0)
    )
    twice = Checkpoint(large, made.weights, made.lengths)
    a = SketchKnitter(made).sample("cat", 3, steps=3)
    b = SketchKnitter(twice).sample("cat", 3, steps=3)
    for one, two in zip(a, b, strict=True):
        np.testing.assert_allclose(2 * one.points, two.points, rtol=1e-9)


def test_batches_hold_drawings_of_similar_lengths():
    lengths = np.random.default_rng(0).integers(5, 97, 200)
    parts = list(_alike(lengths, 64))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(200))
    assert max(map(len, parts)) <= 64
    for part in parts[:-1]:
        low, high = lengths[part].min(), lengths[part].max()
        assert high <= 1.25 * low or len(part) <= LEAST_BATCH
    assert [len(p) for p in _alike(np.full(10, 30), 4)] == [4, 4, 2]
    assert [len(p) for p in _alike(np.array([5, 90, 40]), 4)] == [3]


def test_unknown_arguments_are_refused_by_python(model: SketchKnitter) -> None:
    with pytest.raises(TypeError, match="flavor"):
        model.sample("cat", flavor="mint")


def test_a_list_of_classes_is_drawn_in_turn(model: SketchKnitter) -> None:
    assert [s.label for s in model.sample(["face", "cat"], steps=2)] == ["face", "cat"]
    labels = [s.label for s in model.sample(["face", "cat"], 5, steps=2)]
    assert labels == ["face", "cat", "face", "cat", "face"]
    assert [s.label for s in model.sample("FACE", steps=2)] == ["face"]
    first = model.sample(["face", "cat"], steps=2)[0]
    assert close(first, model.sample("face", steps=2)[0])


def test_no_class_is_a_label_of_its_own(model: SketchKnitter) -> None:
    none = model.sample("none", 2, steps=3)
    assert [s.label for s in none] == [None, None]
    assert model.sample("none", 2, steps=3, guidance=9.0) == none  # nothing to guide toward
    assert [s.label for s in model.sample(["none", "cat"], steps=2)] == [None, "cat"]


def test_the_names_of_other_libraries(model: SketchKnitter) -> None:
    ours = model.sample("cat", 2, steps=4, guidance=2.0)
    assert model.sample("cat", 2, num_inference_steps=4, guidance_scale=2.0) == ours
    assert model.sample("cat", 2, steps=4, num_inference_steps=4, guidance=2.0) == ours
    assert model.sample("cat", 2, settings=Settings(steps=4, guidance=2.0)) == ours
    assert model.sample("cat", 2, guidance=2.0, settings=Settings(steps=4)) == ours


def test_without_a_seed_a_new_one_is_drawn_and_said(
    model: SketchKnitter, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = model.sample("cat", steps=3, seed=None)
    seed = model.last_seed
    assert caplog.messages == [f"seed {seed}"]
    assert model.sample("cat", steps=3, seed=seed) == drawn
    model.sample("cat", steps=3, seed=None)
    assert model.last_seed != seed


def test_it_says_what_it_is(model: SketchKnitter) -> None:
    said = repr(model)
    assert said.startswith("<SketchKnitter: 3 classes (airplane, cat, face), ")
    assert said.endswith("parameters, cpu>")
    size = sum(p.numel() for p in model.denoiser.parameters())
    assert f" {size:,} parameters" in said


def test_another_type_of_numbers() -> None:
    model = SketchKnitter(checkpoint())
    exact = model.sample("cat", 3, steps=3)
    assert model.to(dtype="bfloat16") is model
    assert "bfloat16" in repr(model)
    rough = model.sample("cat", 3, steps=3)
    assert rough != exact
    gaps = [np.abs(a.points - b.points).max() for a, b in zip(exact, rough, strict=True)]
    assert max(gaps) < 20 < max(s.extent for s in exact)
    model.to("cpu", torch.float32)
    assert model.device == torch.device("cpu")
    assert model.sample("cat", 3, steps=3) == exact
    with pytest.raises(UserError, match="dtype is one of float32"):
        model.to(dtype="int8")


def test_saving_saves_the_weights_that_the_model_holds_now(tmp_path: Path) -> None:
    made = checkpoint()
    made.weights = {k: v.half() if v.is_floating_point() else v for k, v in made.weights.items()}
    model = SketchKnitter(made)
    before = Checkpoint.load(model.save_pretrained(tmp_path / "before"))
    assert all(torch.equal(v, before.weights[k]) for k, v in made.weights.items())
    assert all(v.dtype == before.weights[k].dtype for k, v in made.weights.items())
    with torch.no_grad():
        for p in model.denoiser.parameters():
            p.mul_(0.5)
    back = SketchKnitter.from_pretrained(model.save_pretrained(tmp_path / "after").parent)
    assert back.sample("cat", 2, steps=3) == model.sample("cat", 2, steps=3)
    assert back.sample("cat", 2, steps=3) != SketchKnitter(made).sample("cat", 2, steps=3)
