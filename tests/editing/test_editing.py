from dataclasses import replace

import numpy as np
import pytest
import torch

from sketchknitter.data.outline import outline
from sketchknitter.data.prepare import open_data
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion import timesteps as policies
from sketchknitter.diffusion.guidance.inversion import inverted
from sketchknitter.diffusion.guidance.perceptual import Perceptual
from sketchknitter.editing import classify as guessing
from sketchknitter.editing import heal as healing
from sketchknitter.editing.complete import complete
from sketchknitter.editing.heal import heal, heal_all, target_of
from sketchknitter.editing.interpolate import interpolate
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.editing.options import settings_of
from sketchknitter.editing.plan import Plan, emitted
from sketchknitter.editing.posing import state_of, task_of, whole
from sketchknitter.editing.vary import vary
from sketchknitter.errors import UserError
from sketchknitter.geometry import QUICKDRAW_SIZE
from sketchknitter.metrics.spread import spread_of
from sketchknitter.settings import Completing, Editing, Healing
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from tiny_model import CLASSES, half, tiny

KINDS = [
    ("leaky", 0.5, "bits", "given"),
    ("absolute", 0.0, "head", "given"),
    ("offset", 1.0, "bits", "given"),
    ("offset", 1.0, "head", "learned"),
]


@pytest.fixture(scope="module")
def model() -> SketchKnitter:
    return tiny()


@pytest.fixture(autouse=True)
def no_guide(monkeypatch):
    """Shipped weights, present or not, do not change what is tested here."""
    monkeypatch.setattr(guessing, "guide", lambda *device: None)
    monkeypatch.setattr(healing, "guide", lambda *device: None)


# -- complete ------------------------------------------------------------------------------------
def test_a_class_without_training_drawings_ends_as_all_classes_do(model):
    made = model.checkpoint
    lengths = made.lengths.clone()
    lengths[1] = 0
    other = SketchKnitter(replace(made, lengths=lengths))
    sketch = half()
    plans = [
        guessing.proposals(m, sketch, [k] * 20, [np.random.default_rng(i) for i in range(20)])
        for m, k in ((other, 1), (model, 3))
    ]
    assert [p.count for p in plans[0]] == [p.count for p in plans[1]]
    assert max(p.count for p in plans[0]) > len(plans[0][0].outline) + 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["end", "start", "anywhere"])
def test_completions_keep_every_drawn_stroke_untouched(kind, where):
    sketch = half(7.3, (1e4, -250.0))
    done = complete(tiny(*kind), sketch, 3, label="box", where=where, seed=4, steps=4, resamples=1)
    assert len(done) == 3
    for result in done:
        assert result.label == "box"
        order = []
        for stroke in sketch.strokes:
            order += [i for i, s in enumerate(result.strokes) if np.array_equal(s, stroke)][:1]
        assert len(order) == len(sketch)
        assert order == sorted(order)
        # a model that learned where drawings end may find this one complete
        assert len(result) > len(sketch) or kind[3] == "learned"


def test_new_strokes_come_after_before_or_among(model):
    sketch = half()
    last = complete(model, sketch, 2, label=None, where="end", steps=3, seed=1)
    first = complete(model, sketch, 2, label=None, where="start", steps=3, seed=1)
    for after, before in zip(last, first, strict=True):
        assert np.array_equal(after.strokes[0], sketch.strokes[0])
        assert np.array_equal(after.strokes[1], sketch.strokes[1])
        assert np.array_equal(before.strokes[-1], sketch.strokes[-1])


def test_same_seed_same_endings_other_seed_others(model):
    one, two, three = (complete(model, half(), 3, label="cup", steps=3, seed=s) for s in (5, 5, 6))
    assert one == two
    assert one != three
    assert spread_of(one) > 0
    assert len({hash(s) for s in one}) == 3


def test_spread_compares_what_endings_add():
    kept = Sketch([[[0, 0], [100, 0]]])
    up, down = (Sketch([*kept.strokes, [[0, y], [100, y]]]) for y in (10, -10))
    # from (0, 10) the nearest of the other's ink is the kept line, 10 away of 100
    assert spread_of([up, down], kept) == pytest.approx(0.1, abs=1e-3)
    assert spread_of([up, down]) == pytest.approx(0.05, abs=1e-3)
    assert spread_of([up, up], kept) == spread_of([kept, kept], kept) == 0


def test_completion_follows_the_drawing_into_other_coordinates(model):
    """Ten times as large and elsewhere: the same drawing, ten times as large and elsewhere."""
    plain = complete(model, half(), 2, label="arc", steps=3, seed=2)
    moved = complete(model, half(10.0, (500, -70)), 2, label="arc", steps=3, seed=2)
    for a, b in zip(plain, moved, strict=True):
        assert len(a) == len(b)
        assert np.allclose(a.transformed(10.0, (500, -70)).points, b.points, atol=0.5)


@pytest.mark.parametrize("size", [1e9, 1e-6])
def test_huge_and_tiny_coordinates(model, size):
    sketch = half(size, (3 * size, 0))
    for result in complete(model, sketch, 2, label=None, steps=3):
        assert all(np.isfinite(s).all() for s in result.strokes)
        assert result.extent < 30 * sketch.extent


def test_thousands_of_points_are_thinned_for_the_model_alone(model):
    u = np.linspace(0, 60, 5000)
    spiral = Sketch([np.column_stack([u * np.cos(u), u * np.sin(u)])])
    known = outline(spiral, 1.0, 60)
    assert len(known) <= 60
    result = complete(model, spiral, 1, label=None, steps=3)[0]
    assert np.array_equal(result.strokes[0], spiral.strokes[0])


def test_many_short_strokes_are_all_re_emitted(model):
    rng = np.random.default_rng(0)
    tick = np.array([[0, 0], [9, 9.0]])
    hatch = Sketch([tick + rng.uniform(0, 200, (1, 2)) for _ in range(120)])
    assert len(outline(hatch, 1.0, 70)) <= 70
    result = complete(model, hatch, 1, label=None, steps=3)[0]
    got = {s.tobytes() for s in result.strokes}
    assert all(s.tobytes() in got for s in hatch.strokes)


@pytest.mark.parametrize(
    ("bad", "word"),
    [(Sketch([]), "empty"), (Sketch([[[3, 4.0]]]), "dot"), (Sketch([[[5, 5.0]] * 4]), "dot")],
)
def test_nothing_to_go_on(model, bad, word):
    for edit in (complete, heal, vary):
        with pytest.raises(UserError, match=word):
            edit(model, bad)


def test_wrong_requests_are_refused(model):
    with pytest.raises(UserError, match="did you mean 'box'"):
        complete(model, half(), label="boxx")
    with pytest.raises(UserError, match="no setting 'stepz'"):
        complete(model, half(), stepz=3)
    with pytest.raises(UserError, match=r"^n must"):
        complete(model, half(), 0)
    with pytest.raises(UserError, match=r"^where is one of"):
        complete(model, half(), where="top")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="strength"):
        heal(model, half(), 1.5)
    with pytest.raises(UserError, match="no stroke 7"):
        heal(model, half(), keep=(7,))


def test_label_is_guessed_given_or_none(model):
    guessed = complete(model, half(), 1, steps=3)[0].label
    assert guessed in CLASSES
    assert complete(model, half().with_label("cup"), 1, steps=3)[0].label == "cup"
    assert complete(model, half(), 1, label=None, steps=3)[0].label is None


# -- emission ------------------------------------------------------------------------------------
def test_a_continued_stroke_starts_where_the_drawn_one_ends():
    sketch = Sketch([[[0, 0], [10, 0], [20, 10.0]]])
    known = outline(sketch, 1.0)
    plan = Plan(known, np.arange(len(known)), len(known) + 2, 2.0)
    drawn = np.concatenate([plan.model_points(), [[40, 40], [60, 60.0]]])
    result = emitted(plan, Sketch([drawn]), frozenset({0}), None)
    assert np.array_equal(result.strokes[0], sketch.strokes[0])
    assert np.allclose(result.strokes[1], np.array([[20, 10], [30, 25], [40, 35.0]]))


# -- heal ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_the_identity(kind):
    sketch = half(3.0, (40, 5))
    assert heal(tiny(*kind), sketch, 0.0) == sketch


@pytest.mark.parametrize("kind", KINDS[:3])
def test_healing_stays_nearer_the_weaker_it_is(kind):
    model, sketch = tiny(*kind), half(2.0, (70, 0))
    gaps = []
    for strength in (0.02, 0.2, 0.6):
        healed = heal_all(model, [sketch] * 3, strength, label=None, steps=8, seed=1)
        gaps.append(np.mean([spread_of([sketch, s]) for s in healed]))
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[0] < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_locked_strokes_stay(kind):
    sketch = half(2.0, (70, 0))
    healed = heal(tiny(*kind), sketch, 0.5, label="cup", keep=(1,), steps=8)
    assert any(np.array_equal(s, sketch.strokes[1]) for s in healed.strokes)
    assert not any(np.array_equal(s, sketch.strokes[0]) for s in healed.strokes)


def test_steering_lowers_its_own_loss(model):
    """With guidance the healed drawing looks more like the input than without."""
    sketch = half()
    plans = [whole(model, sketch)] * 4
    target = target_of(model, plans, 0.0)
    judge = Perceptual(model.config.codec.map, target, QUICKDRAW_SIZE)

    def distance(weight: float) -> float:
        healed = heal_all(
            model, [sketch] * 4, 0.6, label=None, anchor=False, perceptual=weight, steps=12
        )
        points = [h.points - whole(model, h).center for h in healed]
        wide = max(len(p) for p in points)
        batch = torch.zeros(4, wide, 2)
        ink = torch.zeros(4, wide - 1)
        for i, p in enumerate(points):
            batch[i, : len(p)] = torch.tensor(p)
            ink[i, : len(p) - 1] = 1
            ink[i, np.cumsum([len(s) for s in healed[i].strokes])[:-1] - 1] = 0
        picture = judge.describe(judge.picture(batch, ink))
        pairs = zip(picture, judge.seen, strict=True)
        return sum(float(((a[0] - b[0]) ** 2).mean()) for a, b in pairs)

    assert distance(1.0) < distance(0.0)


def test_vary_gives_different_relatives(model):
    relatives = vary(model, half(), 3, 0.05, label=None, steps=6)
    assert len({hash(s) for s in relatives}) == 3
    far = vary(model, half(), 3, 0.9, label=None, steps=6)
    assert spread_of(relatives) < spread_of(far)


# -- interpolate ---------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS[:3])
def test_interpolation_runs_from_one_to_the_other(kind):
    model = tiny(*kind)
    a, b = half(), half(4.0, (900, 100)).with_label("cup")
    path = interpolate(model, a, b, 5, label=None, steps=20)
    assert len(path) == 5
    assert path[0] == a
    assert path[-1] == b
    assert len({hash(s) for s in path}) == 5
    assert {s.label for s in path[1:-1]} == {None}


def test_inversion_finds_the_noise_that_draws_the_drawing(model):
    sketch = half()
    plans = [whole(model, sketch)]
    task = task_of(model, plans, [0], [np.random.default_rng(0)])
    state = state_of(model, plans)
    grid = policies.Grid(np.linspace(900, 0, 40), 1000)
    noise = inverted(model.denoiser, state, task, grid.levels)
    drawn = sampling.draw(model.denoiser, sampling.method("ddim"), grid, task, noise)
    error = (drawn.x0 - state)[..., :2].abs().mean() / state[..., :2].abs().mean()
    assert float(error) < 0.05


@pytest.mark.parametrize("kind", KINDS[:3])
def test_between_a_drawing_and_itself_nothing_moves_away(kind):
    """Offsets know no place, so it has to be given back to them."""
    model = tiny(*kind)
    a = half(2.0, (700, 300))
    between = interpolate(model, a, a, 3, label=None, steps=40)[1]
    away = np.abs(np.array(between.bounds) - np.array(a.bounds)).max()
    assert away < 0.15 * a.extent


def test_every_edit_refuses_what_it_would_ignore(model):
    for edit in (heal, vary):
        for name in ("timesteps", "resamples"):
            with pytest.raises(UserError, match=f"no setting '{name}' here"):
                edit(model, half(), **{name: 1})
    with pytest.raises(UserError, match="no setting 'perceptual' here"):
        complete(model, half(), perceptual=1.0)
    for name in ("sampler", "guidance", "timesteps", "eta"):
        with pytest.raises(TypeError, match=name):
            model.interpolate(half(), half(2.0), **{name: 1})
    assert model.interpolate(half(), half(2.0), 3, steps=4, label=None) != model.interpolate(
        half(), half(2.0), 3, num_inference_steps=6, label=None
    )


def test_the_guide_stands_where_the_pictures_are(model, monkeypatch):
    asked = []
    monkeypatch.setattr(healing, "guide", lambda *device: asked.append(device))
    heal(model, half(), 0.4, steps=4, perceptual=0.5, label="box")
    assert asked == [(model.device,)]
    monkeypatch.undo()
    network = guessing.guide(torch.device("meta"))
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert {p.device.type for p in guessing.guide().parameters()} == {"cpu"}


def test_guess_gives_probabilities(model):
    chances = model.guess(half())
    assert set(chances) == set(CLASSES)
    assert sum(chances.values()) == pytest.approx(1)
    assert list(chances.values()) == sorted(chances.values(), reverse=True)
    assert CLASSES[guessing.guess(model, half(), finished=True)] == next(iter(chances))
    with pytest.raises(UserError, match="empty"):
        model.guess([])


def test_a_path_or_points_stand_for_a_sketch(model, tmp_path):
    half().save(tmp_path / "half.ndjson")
    fast = {"steps": 3, "label": "box"}
    from_file = model.complete(str(tmp_path / "half.ndjson"), 1, **fast)
    assert from_file == model.complete(tmp_path / "half.ndjson", 1, **fast)
    points = Sketch.open(tmp_path / "half.ndjson").strokes
    assert from_file == model.complete(points, 1, **fast)
    assert model.heal(points[0], 0.0) == Sketch(points[0])
    assert model.guess(str(tmp_path / "half.ndjson"))


def test_public_edits_take_the_ecosystems_names_and_no_others(model):
    one = model.complete(half(), 1, label="box", steps=3, guidance=2.0)
    assert one == model.complete(
        half(), 1, label="box", num_inference_steps=3, guidance_scale=2.0, method="guided"
    )
    assert one == model.complete(half(), 1, label="BOX", settings=Completing(steps=3, guidance=2.0))
    with pytest.raises(UserError, match="method is auto or guided"):
        model.heal(half(), method="best")
    with pytest.raises(TypeError, match="flavor"):
        model.vary(half(), flavor="mint")
    model.vary(half(), 1, label="box", steps=3, seed=None)
    assert model.last_seed != 0


def test_a_model_without_classes_edits_too():
    old = tiny().checkpoint
    config = replace(old.config, classes=())
    weights = dict(old.weights)
    for name in [k for k in weights if k.endswith("label.weight")]:
        weights[name] = weights[name][-1:]
    plain = SketchKnitter(Checkpoint(config, weights, old.lengths[-1:]))
    assert plain.complete(half(), 1, steps=3)[0].label is None
    assert plain.heal(half(), steps=3).label is None
    with pytest.raises(UserError, match="without classes"):
        plain.guess(half())


def test_settings_are_replaced_not_shared():
    assert settings_of({"steps": 9}, Editing()).steps == 9
    assert replace(Healing(), steps=9) == settings_of({"steps": 9}, Healing())


# -- with the shipped weights --------------------------------------------------------------------
def test_healing_moves_real_drawings_the_farther_the_stronger(data_dir):
    model = SketchKnitter.from_pretrained()
    files = [data_dir / "quickdraw" / f"{name}.npz" for name in ("apple", "cat", "crab")]
    test = open_data([str(f) for f in files]).test
    picks = np.random.default_rng(0).choice(len(test), 50, replace=False)
    sketches = [test.sketch(int(i)) for i in picks]
    moved = []
    for strength in (0.0, 0.1, 0.3, 0.6):
        healed = heal_all(model, sketches, strength, steps=8, perceptual=0.0)
        pairs = zip(sketches, healed, strict=True)
        moved.append(float(np.mean([spread_of([a, b]) for a, b in pairs])))
    assert moved[0] == 0
    assert moved == sorted(moved)
    assert moved[1] < 0.04
