"""SketchRNN, SketchPix2seq, SketchHealer as systems: train, resume, load, draw, finish, repair."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.data.prepare import prepare
from sketchknitter.errors import UserError
from sketchknitter.files import MODEL, STATE, read_tensors
from sketchknitter.io.npz_write import write_splits
from sketchknitter.sketch import Sketch
from sketchknitter.systems import registry, stored
from sketchknitter.systems.autoregressive.generator import StrokeGenerator
from sketchknitter.systems.autoregressive.placing import placed_over
from sketchknitter.systems.autoregressive.system import StrokeSystem
from sketchknitter.systems.contract import Budget
from sketchknitter.systems.healer import SketchHealer
from sketchknitter.systems.pix2seq import SketchPix2seq
from sketchknitter.systems.sketchrnn import SketchRNN, SketchRNNSizes

KINDS = (SketchRNN, SketchPix2seq, SketchHealer)
ROWS = 16  # no drawing here has more
IDS = ["sketchrnn", "pix2seq", "healer"]


def tiny(kind: type[StrokeSystem]) -> StrokeSystem:
    small = kind(size="cpu").small()
    net = dataclasses.replace(small.net, max_rows=ROWS)
    return dataclasses.replace(small, net=net, budget=Budget(updates=4, batch_size=8))


TINY = [tiny(kind) for kind in KINDS]
HALF = Sketch([[[10, 10], [90, 15], [80, 70.0]], [[20, 30], [40, 44.0]]])


def drawing(label: str, rng: np.random.Generator) -> Sketch:
    """An arc or a box, and a short second stroke."""
    w, h = rng.uniform(60, 250, 2)
    if label == "box":
        first = np.array([[0, 0], [w, 0], [w, h], [0, h], [0, 0.0]])
    else:
        u = np.linspace(0, np.pi, 8)
        first = np.column_stack([w * np.cos(u), -h * np.sin(u)])
    return Sketch([first.round(), (first[:3] * 0.5 + 20).round()], label)


class Unseen:
    """A split that nobody may look at."""

    def __getattr__(self, name: str) -> None:
        raise AssertionError("test drawings were looked at")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """Two classes; 24 drawings to learn from, 52 held out, test drawings that are never seen."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("toys")
    splits = {
        split: [drawing(("arc", "box")[i % 2], rng) for i in range(count)]
        for split, count in (("train", 24), ("valid", 52), ("test", 4))
    }
    write_splits(splits, folder / "toys.npz")
    data = prepare([folder / "toys.npz"], folder / "prepared", processes=1, progress=False)
    return dataclasses.replace(data, test=Unseen())


@pytest.fixture(scope="module")
def trained(data: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each system, after four updates."""
    out = {}
    for system, name in zip(TINY, IDS, strict=True):
        out[name] = tmp_path_factory.mktemp(name)
        system.train(data, out[name], seed=3)
    return out


def generator(trained: dict[str, Path], name: str) -> StrokeGenerator:
    return TINY[IDS.index(name)].load(trained[name])


# -- training ----------------------------------------------------------------------------------
@pytest.mark.parametrize("system", TINY, ids=IDS)
def test_a_killed_training_goes_on_bit_for_bit(
    system: StrokeSystem, data: PreparedSet, trained: dict[str, Path], tmp_path: Path
) -> None:
    name = system.design().name
    run = system.run(data, tmp_path, seed=3)
    run.go(until=2)
    (tmp_path / MODEL).unlink()  # whatever the kill left: the state is what counts
    record = system.train(data, tmp_path, seed=3)
    whole, parts = (read_tensors(f / STATE)[0] for f in (trained[name], tmp_path))
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        assert torch.equal(value, parts[key]), key
    assert read_tensors(tmp_path / MODEL)[0].keys() == read_tensors(trained[name] / MODEL)[0].keys()
    assert record.updates == 4
    assert record.held_out[-1][0] == 4
    again = system.train(data, tmp_path, seed=3)  # nothing is left to do
    assert dataclasses.replace(again, seconds=record.seconds) == record


def test_a_kill_before_the_last_choices_leaves_them_to_be_made(
    data: PreparedSet, tmp_path: Path
) -> None:
    """Killed after the last update, before a temperature was chosen."""
    run = TINY[0].run(data, tmp_path, seed=3)
    for _ in run.trainer.run():
        pass
    run.save(brief=True)
    run.close()
    record = TINY[0].train(data, tmp_path, seed=3)
    assert record.updates == 4
    assert len(record.remarks["distance to validation drawings by temperature"]) == 5
    assert record.held_out[-1][0] == 4
    told: list[float] = []
    TINY[0].train(data, tmp_path, seed=3, progress=lambda what, done, total: told.append(done))
    assert told == []


@pytest.mark.parametrize("kind", [SketchRNN, SketchPix2seq])
def test_drawings_can_be_learned_as_they_are(kind: type[StrokeSystem]) -> None:
    rows = [np.array([[3.0, 4, 0], [5, 0, 0], [1, 1, 0], [2, 2, 0], [-2, 2, 1]])]
    streams = [np.random.default_rng(0)]
    changed, same = (
        kind(size="cpu", augmented=augmented).design().inputs(rows, 8, 1.0, streams=streams)
        for augmented in (True, False)
    )
    assert same.tokens[0, 1:6, :2].tolist() == rows[0][:, :2].tolist()
    assert not torch.equal(changed.tokens, same.tokens)


def test_the_record_says_what_was_chosen_on_validation_drawings(trained: dict[str, Path]) -> None:
    for system, name in zip(TINY, IDS, strict=True):
        record = system.record(trained[name])
        tried = record.remarks["distance to validation drawings by temperature"]
        assert len(tried) == len(system.design().temperatures)
        assert record.remarks["temperature"] == float(min(tried, key=lambda t: tried[t]))
        assert generator(trained, name).facts.temperature == record.remarks["temperature"]
        assert (trained[name] / "previews").is_dir()
        assert record.parameters > 0
        json.dumps(record.to_dict())


def test_a_state_of_another_training_is_refused(
    data: PreparedSet, trained: dict[str, Path]
) -> None:
    with pytest.raises(UserError, match="another system"):
        TINY[0].train(data, trained["pix2seq"])
    with pytest.raises(UserError, match="another data"):
        TINY[0].train(dataclasses.replace(data, fingerprint="1"), trained["sketchrnn"])


def test_one_can_start_from_an_earlier_model(
    data: PreparedSet, trained: dict[str, Path], tmp_path: Path
) -> None:
    run = TINY[0].run(data, tmp_path, start=trained["sketchrnn"])
    run.close()
    before = read_tensors(trained["sketchrnn"] / MODEL)[0]
    for name, value in run.trainer.network.state_dict().items():
        assert torch.equal(value, before[f"model.{name}"])
    with pytest.raises(UserError, match="a model of pix2seq"):
        TINY[0].run(data, tmp_path, start=trained["pix2seq"])


def test_a_budget_of_seconds_ends_and_squeezes_the_courses(
    data: PreparedSet, tmp_path: Path
) -> None:
    system = dataclasses.replace(TINY[0], budget=Budget(seconds=0.3, batch_size=8))
    few = dataclasses.replace(
        data,
        valid=dataclasses.replace(
            data.valid,
            starts=data.valid.starts[:9],
            ends=data.valid.ends[:9],
            labels=data.valid.labels[:9],
        ),
    )  # too few to choose by
    record = system.train(few, tmp_path)
    assert record.remarks["temperature"] == 0.6
    assert record.cpu >= 0.3
    assert record.updates >= 1
    design = system.design()
    assert design.step(1, 0.5) == 30_000
    assert design.divergence.at(design.step(1, 1.0)) == pytest.approx(0.5 - 0.49 * np.exp(-3), 1e-3)
    assert SketchRNN().design().step(7, 0.5) == 7
    assert design.learning_rate(1, 0.5) == pytest.approx((1e-3 + 1e-5) / 2)
    assert design.learning_rate(1, 1.0) == pytest.approx(1e-5)
    assert SketchRNN().design().learning_rate(7, 0.5) == pytest.approx(1e-3, rel=1e-2)


def test_offsets_are_divided_as_released(data: PreparedSet) -> None:
    rows = data.train.take(range(len(data.train)))
    offsets = np.concatenate([r[:, :2] for r in rows]).ravel()
    everything = np.concatenate(rows).ravel()
    assert SketchRNN().design().scale_of(rows) == pytest.approx(offsets.std())
    assert SketchHealer().design().scale_of(rows) == pytest.approx(everything.std())
    plain = SketchHealer(pens_in_scale=False).design()
    assert plain.scale_of(rows) == pytest.approx(offsets.std())


def test_what_is_seen_and_what_is_learned(data: PreparedSet) -> None:
    rows = data.train.take([0, 1])
    streams = [np.random.default_rng(i) for i in range(2)]
    for system in (SketchRNN(), SketchPix2seq(), SketchHealer()):
        design = system.design()
        plain = design.inputs(rows, 20, 30.0)
        changed = design.inputs(rows, 20, 30.0, streams=streams)
        augmented = design.name != "healer"
        assert torch.equal(plain.tokens, changed.tokens) != augmented
        # the picture is that of the drawing as it is; SketchRNN's encoder sees the changed rows
        same_view = all(map(torch.equal, plain.view, changed.view))
        assert same_view == (design.name != "sketchrnn")
        assert plain.length == plain.tokens.shape[1] - 1 == (21 if design.end == "point" else 20)
    trimmed = TINY[0].design().inputs(rows, 60, 30.0)
    assert trimmed.length == 60
    assert trimmed.tokens.shape[1] == max(map(len, rows)) + 2


# -- drawing -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", IDS)
def test_drawings_come_evenly_and_do_not_depend_on_their_batch(
    name: str, trained: dict[str, Path]
) -> None:
    model = generator(trained, name)
    told: list[float] = []
    five = list(
        model.generate(5, seed=4, batch_size=5, progress=lambda what, done, of: told.append(done))
    )
    assert told == [5]
    assert {s.label for s in five[:2]} == {s.label for s in five[2:4]} == {"arc", "box"}
    for a, b in zip(five, model.generate(5, seed=4, batch_size=2), strict=True):
        assert a.label == b.label
        np.testing.assert_allclose(a.points, b.points, atol=0.01)
    boxes = list(model.generate(2, labels=["box", "box"], seed=4, temperature=0.0))
    assert [s.label for s in boxes] == ["box", "box"]
    assert model.evaluations > 0


def test_priors(trained: dict[str, Path]) -> None:
    healer = generator(trained, "healer")
    first = next(healer.generate(1, seed=1))
    assert first != next(healer.generate(1, seed=1, prior="normal"))
    rnn = generator(trained, "sketchrnn")
    assert rnn.mixture is None
    with pytest.raises(UserError, match="no mixture"):
        next(rnn.generate(1, prior="mixture"))


@pytest.mark.parametrize("seed", range(4))
def test_an_unfinished_drawing_keeps_its_points(seed: int, trained: dict[str, Path]) -> None:
    model = generator(trained, "sketchrnn")
    (done,) = model.generate(1, source=[HALF], seed=seed, task="complete")
    np.testing.assert_array_equal(done.points[: HALF.num_points], HALF.points)
    np.testing.assert_array_equal(done.strokes[0], HALF.strokes[0])
    assert done.num_points > HALF.num_points
    assert done.label is None
    (told,) = model.generate(1, source=[HALF], labels=["arc"], seed=seed, task="complete")
    assert told.label == "arc"


def test_a_drawing_that_fills_all_rows_stays_as_it_is(trained: dict[str, Path]) -> None:
    model = generator(trained, "sketchrnn")
    model.facts = dataclasses.replace(model.facts, longest=9)
    for count in (10, 30):
        long = Sketch([np.random.default_rng(0).normal(0, 9, (count, 2))])
        assert next(model.generate(1, source=[long], task="complete")) == long


@pytest.mark.parametrize("name", IDS)
def test_a_drawing_is_redrawn_in_its_place(name: str, trained: dict[str, Path]) -> None:
    model = generator(trained, name)
    source = HALF.transformed(3.0, (400, -200))
    (done,) = model.generate(1, source=[source], task="heal", seed=1)
    assert done != source
    low, high = source.points.min(axis=0) - source.extent, source.points.max(axis=0) + source.extent
    middle = (done.points.min(axis=0) + done.points.max(axis=0)) / 2
    assert (low < middle).all()
    assert (middle < high).all()


def test_a_mask_changes_what_the_healer_sees(trained: dict[str, Path]) -> None:
    model = generator(trained, "healer")
    rows = HALF.to_stroke3()
    plain, _ = model.encoded([rows])
    masked, _ = model.encoded([rows], np.array([[True, False, False]]))
    assert not torch.allclose(plain, masked)
    assert list(model.generate(1, source=[HALF], mask=1.0))


def test_a_redrawing_is_laid_over_what_is_left_of_the_source() -> None:
    rng = np.random.default_rng(0)
    whole = Sketch([np.cumsum(rng.normal(0, 10, (30, 2)), axis=0), [[0, 0], [50, 40.0]]])
    left = Sketch(whole.strokes[:1])
    moved = whole.transformed(0.4, (300, 100))
    placed = placed_over(moved, left)
    np.testing.assert_allclose(placed.points, whole.points, atol=whole.extent * 0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 3}, "no setting 'steps'"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": "abc"}, "^temperature = 'abc': a number is expected"),
        ({"mask": "abc"}, "^mask = 'abc': a number is expected"),
        ({"convention": ["healer"]}, "^convention = .*: text is expected"),
        ({"prior": 1}, "^prior = 1: text is expected"),
        ({"convention": "loud"}, "no convention"),
        ({"prior": "wide"}, "no prior"),
        ({"mask": 0.5}, "mask"),
        ({"task": "complete"}, "needs a source"),
        ({"labels": ["cat"]}, "no class 'cat'"),
        ({"labels": ["arc"] * 2}, "2 labels for 1"),
        ({"source": [Sketch([])]}, "empty drawing"),
    ],
)
def test_mistakes_are_named(
    settings: dict[str, object], message: str, trained: dict[str, Path]
) -> None:
    with pytest.raises(UserError, match=message):
        list(generator(trained, "sketchrnn").generate(1, **settings))
    with pytest.raises(UserError, match="cannot complete"):
        list(generator(trained, "pix2seq").generate(1, source=[HALF], task="complete"))


def test_a_decoder_alone_draws_and_finishes(data: PreparedSet, tmp_path: Path) -> None:
    net = SketchRNNSizes(hidden=16, mixtures=3, decoder_only=True, max_rows=ROWS)
    system = SketchRNN(net=net, budget=Budget(updates=2, batch_size=8))
    system.train(data, tmp_path)
    model = system.load(tmp_path)
    assert len(list(model.generate(3))) == 3
    assert list(model.generate(1, source=[HALF], task="complete"))
    with pytest.raises(UserError, match="cannot heal"):
        model.generate(1, source=[HALF], task="heal")


# -- the registry ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", IDS)
def test_a_model_names_its_system(name: str, trained: dict[str, Path]) -> None:
    assert type(registry.make(name, {"size": "cpu"})) is KINDS[IDS.index(name)]
    loaded = stored.load(trained[name])
    a, b = (next(m.generate(1, seed=2)) for m in (loaded, generator(trained, name)))
    assert a == b
    with pytest.raises(UserError, match="a model of"):
        TINY[IDS.index(name) - 1].load(trained[name])


def test_unlabeled_drawings_make_the_published_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sketches = [drawing("arc", rng).with_label(None) for _ in range(6)]
    write_splits({"train": sketches}, tmp_path / "toys.npz")
    data = prepare([tmp_path / "toys.npz"], tmp_path / "set", processes=1, progress=False)
    system = SketchPix2seq().small()
    system.train(data, tmp_path / "run")
    model = system.load(tmp_path / "run")
    assert model.model.label is None
    assert [s.label for s in model.generate(2)] == [None, None]
