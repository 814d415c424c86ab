"""Diff-HW, SketchODE, ChiroDiff and flow matching as systems: train, resume, store, draw, heal."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sketchknitter.data.dataset import PreparedSet, Split
from sketchknitter.errors import UserError
from sketchknitter.files import MODEL, STATE, read_tensors
from sketchknitter.settings import BackboneConfig
from sketchknitter.sketch import Sketch
from sketchknitter.systems import registry, stored
from sketchknitter.systems.chirodiff import ChiroDiff
from sketchknitter.systems.contract import Budget
from sketchknitter.systems.diffhw import DiffHW
from sketchknitter.systems.drawing import drawn_lengths
from sketchknitter.systems.flow import FlowMatching
from sketchknitter.systems.learning import LearnedSystem, kept
from sketchknitter.systems.sketchode import SketchODE, damped_cosine

BUDGET = Budget(updates=5, batch_size=6)
SLIM = BackboneConfig(widths=(16, 24), num_res_blocks=1, attention_levels=())
SYSTEMS: dict[str, LearnedSystem] = {
    "diffhw": DiffHW(budget=BUDGET, points=16),
    "sketchode": SketchODE(budget=BUDGET),
    "chirodiff": ChiroDiff(budget=BUDGET),
    "flow": FlowMatching(budget=BUDGET, network=SLIM, points=16),
}
CLASSES = ("arc", "box")


def drawing(label: int, rng: np.random.Generator) -> np.ndarray:
    """An arc or a box, and a short second stroke, as stroke-3."""
    w, h = rng.uniform(60, 250, 2)
    if label:
        first = np.array([[0, 0], [w, 0], [w, h], [0, h], [0, 0.0]])
    else:
        u = np.linspace(0, np.pi, 8)
        first = np.column_stack([w * np.cos(u), -h * np.sin(u)])
    return Sketch([first, first[:3] * 0.5 + 20]).to_stroke3()


def split(name: str, count: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int16)
    rows = [drawing(int(k), rng).astype(np.float32) for k in labels]
    ends = np.cumsum([len(r) for r in rows]).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    return Split(name, np.concatenate(rows), starts, ends, labels, CLASSES)


class Unseen:
    """A split that nobody may look at."""

    def __getattr__(self, name: str) -> None:
        raise AssertionError("test drawings were looked at")


@pytest.fixture(scope="module")
def data() -> PreparedSet:
    test: Split = Unseen()  # type: ignore[assignment]
    parts = split("train", 20, 0), split("valid", 8, 1), test
    return PreparedSet(Path("made-up"), *parts, CLASSES, "0" * 64, {})


@pytest.fixture(scope="module")
def trained(data: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = {}
    for name, system in SYSTEMS.items():
        out[name] = tmp_path_factory.mktemp(name)
        system.train(data, out[name], seed=3)
    return out


pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")
each = pytest.mark.parametrize("name", SYSTEMS)


@each
def test_training_says_what_it_did_and_is_not_done_twice(
    name: str, data: PreparedSet, trained: dict[str, Path]
) -> None:
    told: list[float] = []
    record = SYSTEMS[name].train(
        data, trained[name], seed=3, progress=lambda what, done, total: told.append(done)
    )
    assert told == []
    assert (record.updates, record.batch_size) == (5, 6)
    assert record.parameters > 1000
    assert record.held_out[-1][0] == 5
    assert all(np.isfinite(loss) for _, loss in (*record.losses, *record.held_out))
    assert record.losses


@each
def test_an_interrupted_training_goes_on_bit_for_bit(
    name: str, data: PreparedSet, trained: dict[str, Path], tmp_path: Path
) -> None:
    def interrupt(what: str, done: float, total: float) -> None:
        assert (what, total) == ("updates", 5)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SYSTEMS[name].train(data, tmp_path, seed=3, progress=interrupt)
    assert read_tensors(tmp_path / STATE)[1]["iteration"] == 2
    assert next(stored.load(tmp_path).generate(1)).num_points  # what there is draws already
    SYSTEMS[name].train(data, tmp_path, seed=3)
    for file in (MODEL, STATE):
        whole, parts = (read_tensors(f / file)[0] for f in (trained[name], tmp_path))
        assert whole.keys() == parts.keys()
        for key in whole:
            assert whole[key].equal(parts[key]), f"{file}: {key}"


@each
def test_another_seed_or_other_options_do_not_resume(
    name: str, data: PreparedSet, trained: dict[str, Path], tmp_path: Path
) -> None:
    SYSTEMS[name].train(data, tmp_path, seed=4)
    ours, theirs = (read_tensors(f / MODEL)[0] for f in (trained[name], tmp_path))
    assert any(not ours[k].equal(theirs[k]) for k in ours if k.startswith("model."))
    other = dataclasses.replace(
        SYSTEMS[name], augment=dataclasses.replace(SYSTEMS[name].augment, rotate=1.0)
    )
    with pytest.raises(UserError, match="options"):
        other.train(data, tmp_path, seed=4)


@each
def test_drawings_depend_on_their_number_alone(name: str, trained: dict[str, Path]) -> None:
    generator = stored.load(trained[name])
    four = list(generator.generate(4, labels=["box", "arc", "box", "arc"], seed=1))
    assert [s.label for s in four] == ["box", "arc", "box", "arc"]
    single = list(generator.generate(4, labels=["box", "arc", "box", "arc"], seed=1, batch_size=1))
    for a, b in zip(four, single, strict=True):
        assert a.num_points == b.num_points
        size = max(a.extent, 1.0)
        np.testing.assert_allclose(a.points / size, b.points / size, atol=2e-3)
    again = list(generator.generate(4, labels=["box", "arc", "box", "arc"], seed=1))
    assert again == four
    assert list(generator.generate(1, labels=["box"], seed=2)) != four[:1]


@each
def test_classes_come_evenly_and_progress_is_told(name: str, trained: dict[str, Path]) -> None:
    told: list[tuple[str, float, float]] = []
    drawn = stored.load(trained[name]).generate(
        5, seed=0, batch_size=2, progress=lambda *at: told.append(at)
    )
    labels = [s.label for s in drawn]
    assert abs(labels.count("arc") - labels.count("box")) == 1
    assert told == [("drawings", 2, 5), ("drawings", 4, 5), ("drawings", 5, 5)]


@each
def test_a_source_is_healed_where_it_stands(
    name: str, data: PreparedSet, trained: dict[str, Path]
) -> None:
    at = (500.0, -300.0)
    source = [data.valid.sketch(i).transformed(1.0, at).with_label(None) for i in range(2)]
    generator = stored.load(trained[name])
    # one evaluation: a network of five updates moves a drawing by its size with every one
    settings = {} if name == "sketchode" else {"strength": 0.005}
    healed = list(generator.generate(2, source=source, task="heal", seed=0, **settings))
    for given, made in zip(source, healed, strict=True):
        assert made.label is None
        middle = (made.points.min(axis=0) + made.points.max(axis=0)) / 2
        own = (given.points.min(axis=0) + given.points.max(axis=0)) / 2
        assert np.abs(middle - own).max() < given.extent
        assert 0.2 < made.extent / given.extent < 3 or name == "sketchode"


@each
def test_what_makes_no_sense_is_refused(name: str, trained: dict[str, Path]) -> None:
    generator = stored.load(trained[name])
    source = [Sketch([[[0, 0], [9, 9]]])]
    for wrong, words in (
        ({"labels": ["dog"]}, "no class 'dog'"),
        ({"sharpness": 1}, "no setting 'sharpness'"),
        ({"task": "complete", "source": source}, "cannot complete"),
        ({"task": "heal"}, "needs a source"),
        ({"source": [*source, *source]}, "2 source for 1"),
        ({"source": [Sketch([[[1, 1]]])]}, "fewer than two points"),
    ):
        with pytest.raises(UserError, match=words):
            list(generator.generate(1, **wrong))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least 1"):
        list(generator.generate(0))


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("diffhw", {"step": "big"}),
        ("diffhw", {"strength": 0.0}),
        ("sketchode", {"points": 1}),
        ("sketchode", {"temperature": -1.0}),
        ("chirodiff", {"variance": -0.1}),
        ("flow", {"solver": "rk4"}),
        ("flow", {"steps": 0}),
        ("flow", {"guidance": -1.0}),
    ],
)
def test_settings_out_of_range_are_refused(
    name: str, setting: dict[str, object], trained: dict[str, Path]
) -> None:
    with pytest.raises(UserError, match=next(iter(setting))):
        list(stored.load(trained[name]).generate(1, **setting))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("diffhw", {"step": 2}, "step = 2: text is expected"),
        ("diffhw", {"strength": "abc"}, "strength = 'abc': a number is expected"),
        ("sketchode", {"temperature": "abc"}, "temperature = 'abc': a number is expected"),
        ("sketchode", {"points": 50.5}, "points = 50.5: a whole number is expected"),
        ("chirodiff", {"variance": [1]}, "variance = .1.: a number is expected"),
        ("flow", {"steps": "abc"}, "steps = 'abc': a whole number is expected"),
        ("flow", {"steps": 2.7}, "steps = 2.7: a whole number is expected"),
        ("flow", {"steps": True}, "steps = True: a whole number is expected"),
        ("flow", {"pen_break": "abc"}, "pen_break = 'abc': a number is expected"),
    ],
)
def test_settings_of_another_type_are_refused(
    name: str, setting: dict[str, object], message: str, trained: dict[str, Path]
) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        stored.load(trained[name]).generate(1, **setting)  # type: ignore[arg-type]


def test_numbers_from_numpy_and_whole_numbers_are_settings(trained: dict[str, Path]) -> None:
    generator = stored.load(trained["flow"])
    usual = list(generator.generate(2, steps=3, guidance=2.0))
    assert list(generator.generate(2, steps=np.int64(3), guidance=2)) == usual
    assert list(generator.generate(2, steps=3, guidance=np.float32(2))) == usual


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (DiffHW, {"points": 12}),
        (DiffHW, {"classes": "none"}),
        (DiffHW, {"size": "tiny"}),
        (SketchODE, {"encoder": "gru"}),
        (ChiroDiff, {"spacing": 2.0}),
        (ChiroDiff, {"radius": 0.0}),
        (ChiroDiff, {"representation": "angles"}),
        (FlowMatching, {"size": "huge"}),
    ],
)
def test_options_out_of_range_are_refused(kind: type, options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=str(next(iter(options.values())))):
        kind(**options)


def test_they_are_in_the_registry() -> None:
    for name, system in SYSTEMS.items():
        assert registry.find(name) is type(system)
        assert registry.name_of(type(system)) == name


def test_points_of_a_curve_are_free(trained: dict[str, Path]) -> None:
    generator = stored.load(trained["sketchode"])
    few, many = (next(generator.generate(1, labels=["box"], points=n)) for n in (50, 199))
    assert many.num_points > 2 * few.num_points or many.num_points == few.num_points == 1


def test_drawings_that_do_not_fit_are_left_out(data: PreparedSet) -> None:
    short = DiffHW(points=8)
    assert len(kept(data, short.fitting(data)).train) == 10  # boxes have 7 rows, arcs 10
    with pytest.raises(UserError, match="no training drawing"):
        kept(data, lambda rows: False)


def test_lengths_are_those_of_the_class() -> None:
    counts = np.array([[0, 0, 4, 0], [0, 2, 0, 2], [0, 2, 4, 2]])
    streams = [np.random.default_rng(i) for i in range(60)]
    assert drawn_lengths(counts, [0] * 60, streams) == [2] * 60
    drawn = drawn_lengths(counts, [1] * 60, streams)
    assert set(drawn) == {1, 3}
    assert set(drawn_lengths(counts, [2] * 60, streams)) == {1, 2, 3}


def test_the_damped_cosine_of_sketchode() -> None:
    assert damped_cosine(0) == pytest.approx(1)
    assert damped_cosine(100) == pytest.approx(1 / 50)
    assert damped_cosine(200) == pytest.approx(49 / 50 / 4 + 1 / 50)


@pytest.mark.parametrize(
    "system",
    [
        DiffHW(budget=BUDGET, points=16, length="given", scale="data", pen_weight="drawing"),
        DiffHW(budget=BUDGET, points=16, classes="token"),
        SketchODE(budget=Budget(updates=1, batch_size=2), encoder="cde", control="released"),
        ChiroDiff(budget=BUDGET, representation="offsets", spacing=0.2),
    ],
    ids=["diffhw-given", "diffhw-token", "sketchode-cde", "chirodiff-offsets"],
)
def test_options_train_and_draw(system: LearnedSystem, data: PreparedSet, tmp_path: Path) -> None:
    system.train(data, tmp_path, seed=1)
    drawn = list(system.load(tmp_path).generate(2, seed=1))
    assert all(s.num_points for s in drawn)
    if isinstance(system, DiffHW) and system.length == "given":
        assert all(s.num_points <= 11 for s in drawn)
