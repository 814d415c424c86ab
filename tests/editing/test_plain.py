"""Editing as one plain run: what was drawn stays, and a network that sees is asked once a step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from sketchknitter.data.outline import error_of, outline
from sketchknitter.editing import classify, finishing, plain, prospects
from sketchknitter.editing.complete import grouped
from sketchknitter.editing.plain import PlainSampling
from sketchknitter.editing.plan import unmoved
from sketchknitter.editing.posing import Where, whole
from sketchknitter.errors import UserError
from sketchknitter.recognizers.outlook import Outlook, OutlookShape, as_seen
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import Completing, Healing
from sketchknitter.sketch import Sketch
from tiny_model import CLASSES, half, tiny

HOW = PlainSampling(steps=3)
NONE = len(CLASSES)


def finished(model, network: Outlook, sketch: Sketch, n: int, label: int | None, **options):  # type: ignore[no-untyped-def]
    """All endings, drawn together."""
    how = options.pop("how", HOW)
    options["rounds"] = Completing(tries=options.pop("tries", 1)).rounds
    (done,) = finishing.endings(model, network, sketch, [n], label, how, **options)
    return done


@pytest.fixture(scope="module")
def model():  # type: ignore[no-untyped-def]
    return tiny(conditions=True)


@pytest.fixture(scope="module")
def network() -> Outlook:
    torch.manual_seed(1)
    return Outlook((*CLASSES, "sun"), OutlookShape(widths=(32, 48), heads=2, frames=2)).eval()


@pytest.mark.parametrize("where", ["end", "start", "anywhere"])
def test_what_was_drawn_stays(model, network: Outlook, where) -> None:  # type: ignore[no-untyped-def]
    sketch = half(3.0, (500.0, -200.0))
    for done in finished(model, network, sketch, 3, None, where=where, more=12):
        kept = {s.tobytes() for s in done.strokes}
        assert {s.tobytes() for s in sketch.strokes} <= kept
        assert done.ink_length > sketch.ink_length


@pytest.mark.parametrize("where", ["end", "start", "anywhere"])
def test_a_stroke_that_was_drawn_goes_on_only_where_that_is_allowed(
    model,  # type: ignore[no-untyped-def]
    network: Outlook,
    where: Where,
) -> None:
    sketch = half()

    def continued(goes_on: bool) -> int:
        found = 0
        for done in finished(model, network, sketch, 8, None, where=where, goes_on=goes_on, more=9):
            for stroke, follower in pairwise(done.strokes):
                found += (stroke[-1] == follower[0]).all()
        return found

    assert continued(goes_on=True) > 0
    assert continued(goes_on=False) == 0


def test_complete_lets_strokes_go_on_where_parts_of_them_may_be_missing(
    model,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def endings(*others: object, goes_on: bool, **options: object) -> list[list[Sketch]]:
        asked.append(goes_on)
        return []

    monkeypatch.setattr(finishing, "endings", endings)
    for how in ({}, {"where": "anywhere"}, {"goes_on": True}, {"where": "start"}):
        model.complete(half(), 1, **how)
    assert asked == [False, True, True, False]


@pytest.mark.parametrize("more", [12, None])
def test_an_ending_depends_on_its_number_and_not_on_its_group(
    model,  # type: ignore[no-untyped-def]
    network: Outlook,
    monkeypatch: pytest.MonkeyPatch,
    more: int | None,
) -> None:
    chances = np.append(0.6, np.full(96, 0.4 / 96))  # finished or not: the first one is
    monkeypatch.setattr(
        Outlook,
        "missing_probabilities",
        lambda self, rows, labels: (
            np.tile(chances, (len(labels), 1)),
            torch.zeros(len(labels), 256),
        ),
    )
    shown: dict[int, Sketch] = {}
    whole = finished(model, network, half(), 4, None, more=more, show=shown.update)
    last = dict(shown)
    shown.clear()
    groups = list(
        finishing.endings(model, network, half(), [1, 3], None, HOW, more=more, show=shown.update)
    )
    assert [len(g) for g in groups] == [1, 3]
    assert sorted(shown) == sorted(last) == [0, 1, 2, 3]
    apart = [e for g in groups for e in g]
    for mine, theirs in [*zip(apart, whole, strict=True), *((shown[i], last[i]) for i in last)]:
        assert len(mine) == len(theirs)
        assert np.abs(mine.points - theirs.points).max() < 0.01


@pytest.mark.parametrize(
    ("n", "groups", "sizes"),
    [(1, (1, 5), [1]), (6, (1, 5), [1, 5]), (12, (1, 5), [1, 5, 6]), (3, (), [3]), (2, (9,), [2])],
)
def test_groups_take_each_ending_once(n: int, groups: tuple[int, ...], sizes: list[int]) -> None:
    assert grouped(n, groups) == sizes


def test_as_many_points_are_added_as_asked_for(model, network: Outlook) -> None:  # type: ignore[no-untyped-def]
    rngs = [stream(0, Stream.PLAN, i) for i in range(4)]
    labels = [0, 1, NONE, NONE]
    for more in (0, 5, 30):
        made = prospects.plans(network, CLASSES, half(), labels, "end", rngs, 97, more)
        assert [p.count - len(p.outline) for p in made] == [more] * 4
    # where nothing is missing the drawing is its own ending
    done = finished(model, network, half(), 2, 0, more=0)
    assert len(done) == 2
    assert all(d == half().with_label("arc") for d in done)


def test_a_likely_finished_drawing_gets_nothing_added() -> None:
    chances = np.zeros(97)
    chances[0], chances[10] = 0.45, 0.55
    assert prospects._missing(chances, stream(0, Stream.PLAN)) == 0
    chances[0], chances[10] = 0.3, 0.7  # 1.4 x .3 to .7: nobody gets an unfinished drawing back
    for i in range(50):
        assert prospects._missing(chances, stream(0, Stream.PLAN, i), first=i == 0) == 10
    # of further endings as many are finished as that is likely: 1.4 x .45 to .55
    chances[0], chances[10] = 0.45, 0.55
    others = [
        prospects._missing(chances, stream(1, Stream.PLAN, i), first=False) for i in range(300)
    ]
    assert set(others) == {0, 10}
    assert 139 < others.count(0) < 181


def test_endings_differ_in_class_by_its_probability() -> None:
    chances = np.array([0.01, 0.64, 0.29, 0.0, 0.06])

    def counted(n: int) -> np.ndarray:
        rngs = [stream(3, Stream.ENDING_LABEL, i) for i in range(200)]
        labels = np.array([prospects.ending_labels(chances, n, rng) for rng in rngs])
        assert (labels[:, 0] == 1).all()  # the likeliest first
        return np.array([[(row == k).sum() for k in range(5)] for row in labels])

    # fourth roots .89, .73 and .49; the least likely is beyond 98 % of all probability
    share = np.array([0.64, 0.29, 0.06]) ** 0.25
    share *= 10 / share.sum()
    many = counted(10)
    assert np.abs(many[:, [1, 2, 4]] - share).max() <= 1
    assert np.abs(many[:, [1, 2, 4]].mean(axis=0) - share).max() < 0.1
    assert not many[:, [0, 3]].any()
    # of two endings only the two likeliest come into question
    assert not counted(2)[:, [0, 3, 4]].any()


def test_what_looks_like_nothing_known_is_continued_plainly(
    model,  # type: ignore[no-untyped-def]
    network: Outlook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def noise(chances: list[float], label: int | None = None) -> float:
        """How large the noise is that an ending starts from."""
        guess = prospects.Guess(CLASSES, np.array(chances))
        monkeypatch.setattr(finishing, "guessed", lambda *others: guess)
        first: list[float] = []
        watch = lambda frame: first.append(float(frame.x_t.square().mean()))  # noqa: E731
        finished(model, network, half(), 1, label, more=12, watch=watch)
        return first[0] ** 0.5

    known, unknown = [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]
    assert noise(unknown) / 0.7 == pytest.approx(noise(unknown, NONE) / 0.85)
    assert noise(known) == noise(unknown, 1)


def test_the_frame_of_an_ending_is_drawn_coolly(
    model,  # type: ignore[no-untyped-def]
    network: Outlook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def draw_frame(self: Outlook, h: object, n: int, rng: object, temperature: float = 1) -> object:
        asked.append(temperature)
        return np.zeros(3)

    monkeypatch.setattr(Outlook, "draw_frame", draw_frame)
    finished(model, network, half(), 2, NONE, more=12)
    assert asked == [prospects.FRAMED] * 2
    assert prospects.FRAMED < 1


def test_a_barely_known_class_must_be_clearly_likelier_to_be_an_endings(
    model,  # type: ignore[no-untyped-def]
    network: Outlook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def first(arc: float, box: float) -> str | None:
        guess = prospects.Guess(CLASSES, np.array([arc, box, 0.0, 1 - arc - box]))
        monkeypatch.setattr(finishing, "guessed", lambda *others: guess)
        return str(finished(model, network, half(), 1, None, more=12)[0].label)

    monkeypatch.setattr(type(model), "barely_known", ("arc",))
    assert first(0.55, 0.35) == "box"
    assert first(0.7, 0.25) == "arc"
    monkeypatch.setattr(type(model), "barely_known", ())
    assert first(0.55, 0.35) == "arc"


def test_a_guess_says_when_it_is_not_sure() -> None:
    likely = prospects.Guess(CLASSES, np.array([0.1, 0.6, 0.05, 0.25]))
    assert (likely.sure, likely.label) == (True, 1)
    assert str(likely) == "box 60%, arc 10%, cup 5%"
    clear = prospects.Guess(CLASSES, np.array([0.0, 0.998, 0.002, 0.0]))
    assert str(clear) == "box 100%, cup <1%, arc <1%"
    doubtful = prospects.Guess(CLASSES, np.array([0.3, 0.25, 0.25, 0.2]))
    assert (doubtful.sure, doubtful.label) == (False, 0)
    assert str(doubtful).startswith("not sure: arc 30%, ")
    strange = prospects.Guess(CLASSES, np.array([0.1, 0.1, 0.1, 0.7]))
    assert (strange.sure, strange.label) == (False, NONE)


def test_a_witness_says_nothing_of_classes_that_it_does_not_know() -> None:
    p = np.log([0.1, 0.3, 0.2, 0.4])
    heard = np.exp(classify.heard(p, np.log([0.9, 0.1, np.nan, np.nan])))
    np.testing.assert_allclose(heard[2:], [0.2, 0.4])  # as likely as before
    np.testing.assert_allclose(heard[:2], np.array([0.09, 0.03]) / 0.12 * 0.4)
    np.testing.assert_array_equal(classify.heard(p, np.full(4, np.nan)), p)


@pytest.mark.parametrize(
    ("finished", "errors"),
    [
        (True, {0.0: 0.6, 0.025: 0.475, 0.05: 0.35, 0.1: 0.175, 0.3: 0.0}),
        (False, {0.0: 0.45, 0.05: 0.45, 0.085: 0.225, 0.3: 0.0}),
    ],
)
def test_a_picture_counts_as_far_as_it_is_clear(
    monkeypatch: pytest.MonkeyPatch, finished: bool, errors: dict[float, float]
) -> None:
    guide, prior = np.log([0.8, 0.1, 0.1]), np.log([0.2, 0.3, 0.5])
    asked: list[str] = []
    monkeypatch.setattr(classify, "_seen", lambda *what: asked.append("guide") or guide)
    for error, weight in errors.items():
        asked.clear()
        monkeypatch.setattr(classify, "error_of", lambda sketch, e=error: e)
        p = np.exp(prior + weight * guide)
        found = np.exp(classify.witnessed(prior, CLASSES, half(), finished))
        np.testing.assert_allclose(found, p / p.sum())
        assert bool(asked) == (weight > 0)


def test_the_guide_is_asked_of_parts_and_wholes(
    network: Outlook, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(
        prospects, "witnessed", lambda p, classes, sketch, finished: asked.append(finished) or p
    )
    for where in ("end", "anywhere", None):
        prospects.guessed(network, CLASSES, half(), where)
    assert asked == [False, False, True]


def test_a_rough_drawing_is_healed_as_what_it_is_taken_for(
    model, network: Outlook, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    def taken_for(p: float) -> str | None:
        chances = np.array([0.0, p, 0.0, 1 - p])
        guess = prospects.Guess(CLASSES, chances)
        monkeypatch.setattr(plain, "guessed", lambda *args: guess)
        return str(model.heal(half(), steps=2).label)

    monkeypatch.setattr(plain, "outlook", lambda: network)
    assert taken_for(0.9) == "box"
    assert taken_for(0.1) == "None"
    monkeypatch.setattr(plain, "outlook", lambda: None)
    assert taken_for(0.9) == "None"  # nobody tells
    assert model.heal(half(), label="cup", steps=2).label == "cup"


def test_same_seed_same_endings(model, network: Outlook) -> None:  # type: ignore[no-untyped-def]
    first = finished(model, network, half(), 2, None, seed=5, more=8)
    assert first == finished(model, network, half(), 2, None, seed=5, more=8)
    assert first != finished(model, network, half(), 2, None, seed=6, more=8)


def test_one_evaluation_a_step(model, network: Outlook) -> None:  # type: ignore[no-untyped-def]
    seen: list[int] = []
    how = PlainSampling(steps=4, guidance=1.0)
    hook = model.denoiser.register_forward_hook(lambda *args: seen.append(1))
    try:
        finished(model, network, half(), 6, NONE, how=how, more=10)
    finally:
        hook.remove()
    assert len(seen) == 4


def test_healing_keeps_the_strokes_asked_for_and_the_count_of_all(model) -> None:  # type: ignore[no-untyped-def]
    sketch = half(2.0, (10.0, 20.0))
    (done,) = plain.redraw(model, [sketch], [NONE], HOW, strength=0.2, keep=[1])
    assert len(done) == len(sketch)
    np.testing.assert_array_equal(done.strokes[1], sketch.strokes[1])
    assert not np.array_equal(done.strokes[0], sketch.strokes[0])


def test_the_most_typical_of_several_healings_is_kept(
    model, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    sketch = half(2.0, (10.0, 20.0))
    line = np.column_stack([np.arange(9.0), np.zeros(9)])
    several = [Sketch([line + np.array([0, y])]) for y in (0.0, 70.0, 9.0, 8.0, -30.0)]
    assert plain.most_typical(several) == several[3]  # no label: nobody can tell
    assert plain.most_typical(several[:1]) == several[0]
    # a class that shows clearly makes up for some distance, and not for any
    for nats, chosen in (([0, 0, 3, 0, 0], 2), ([0, 3, 0, 0, 0], 3), ([0, 9, 0, 0, 0], 1)):
        monkeypatch.setattr(plain, "clearness", lambda drawings, n=nats: np.exp(n) * 1e-6)
        assert plain.most_typical(several) == several[chosen]
    monkeypatch.undo()

    asked: list[int] = []
    drawn = plain.drawn

    def spied(model, examples, labels, streams, how, tell):  # type: ignore[no-untyped-def]
        asked.append(len(examples))
        return drawn(model, examples, labels, streams, how, tell)

    monkeypatch.setattr(plain, "drawn", spied)
    shown: list[set[int]] = []
    options = {"strength": 0.4, "seed": 3}
    both = [sketch, half()]
    typical = plain.redraw(
        model, both, [NONE, 0], HOW, tries=4, show=lambda d: shown.append(set(d)), **options
    )
    assert asked == [8]
    assert set().union(*shown) == {0, 1}
    # the first try is the only one there is without others
    (one,) = plain.redraw(model, [sketch], [NONE], HOW, tries=1, **options)
    assert one == plain.redraw(model, both, [NONE, 0], HOW, **options)[0]
    # and a drawing does not depend on those beside it
    (alone,) = plain.redraw(model, [sketch], [NONE], HOW, tries=4, **options)
    for a, b in zip(alone.strokes, typical[0].strokes, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-2)


class Judged:
    """What stands for the guide: the k-th drawing it is asked about shows its class with
    probability ``says(k)``; nothing is missing of any."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, says: Callable[[int], float]) -> None:
        self.asked: list[int] = []  # how many drawings, of each call
        self.says = says
        monkeypatch.setattr(finishing, "clearness", self)
        monkeypatch.setattr(finishing, "finished", lambda n, sketches, name: np.ones(len(sketches)))

    def __call__(self, sketches: list[Sketch]) -> np.ndarray:
        first = sum(self.asked)
        self.asked.append(len(sketches))
        assert {s.label for s in sketches} == {CLASSES[1]}
        return np.array([self.says(first + k) for k in range(len(sketches))])


def apart(one: list[Sketch], other: list[Sketch]) -> float:
    pairs = [(a.points, b.points) for a, b in zip(one, other, strict=True)]
    return max(np.abs(a - b).max() if a.shape == b.shape else np.inf for a, b in pairs)


def test_an_ending_is_tried_until_it_shows_its_class(
    model, network: Outlook, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    def ending(clear_at: int, tries: int = 8) -> tuple[list[Sketch], list[int]]:
        judged = Judged(monkeypatch, lambda k: 0.9 if k == clear_at else 0.5 - k / 100)
        return finished(model, network, half(), 1, 1, more=9, tries=tries), judged.asked

    once = finished(model, network, half(), 1, 1, more=9)
    for clear_at, calls in ((0, [1]), (1, [1, 1]), (3, [1, 1, 2]), (5, [1, 1, 2, 4])):
        found, asked = ending(clear_at)
        assert asked == calls
        assert (apart(found, once) < 1e-2) == (clear_at == 0)
    # never clear: the best of all of them
    found, asked = ending(99, tries=7)
    assert apart(found, once) < 1e-2
    assert sum(asked) == 7
    # where nobody can tell the first one is taken
    monkeypatch.undo()
    frames: list[object] = []
    finished(model, network, half(), 2, NONE, more=9, tries=8, watch=frames.append)
    assert len(frames) == HOW.steps


def test_each_try_has_a_plan_of_its_own(
    model, network: Outlook, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    chances = np.zeros((1, 97))
    chances[0, [10, 20, 30]] = 0.3, 0.4, 0.3
    monkeypatch.setattr(
        Outlook,
        "missing_probabilities",
        lambda self, rows, labels: (
            np.tile(chances, (len(labels), 1)),
            torch.zeros(len(labels), 256),
        ),
    )
    points = set()
    for best in range(8):
        Judged(monkeypatch, lambda k, best=best: 0.9 if k == best else 0.1)
        (found,) = finished(model, network, half(), 1, 1, tries=8)
        points.add(found.num_points)
    assert len(points) > 1


def test_a_clear_part_of_a_drawing_is_no_ending(
    model, network: Outlook, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    Judged(monkeypatch, lambda k: 0.9)
    once = finished(model, network, half(), 1, 1, more=9)
    made: list[int] = []

    def done(network, sketches, name: str) -> np.ndarray:  # type: ignore[no-untyped-def]
        assert name == CLASSES[1]
        first = sum(made)
        made.append(len(sketches))
        return np.array([float(first + k == 1) for k in range(len(sketches))])

    monkeypatch.setattr(finishing, "finished", done)
    found = finished(model, network, half(), 1, 1, more=9, tries=8)
    assert made == [1, 1]  # the second is clear and finished
    assert apart(found, once) > 1


def test_what_is_missing_of_a_drawing_says_whether_it_is_finished(network: Outlook) -> None:
    drawings = [half(), Sketch([[[0, 0], [9, 0], [9, 9], [0, 0]]])]
    for name, label in (("sun", 3), ("moon", 4), (None, 4)):  # 4 is no label
        found = prospects.finished(network, drawings, name)
        for drawing, chance in zip(drawings, found, strict=True):
            known = outline(drawing)
            alone, _ = network.missing_probabilities(
                as_seen(known.points, known.ends, "end"), [label]
            )
            assert chance == pytest.approx(alone[0, 0], rel=1e-4)
    assert prospects.finished(network, drawings, "sun")[0] != pytest.approx(found[0], rel=1e-4)


def test_clear_endings_are_not_drawn_again(
    model, network: Outlook, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    frames: list[object] = []
    # of two endings the second is clear
    Judged(monkeypatch, lambda k: 0.9 if k == 1 else 0.1)
    finished(model, network, half(), 2, 1, more=9, tries=2, watch=frames.append)
    assert [len(f.rows) for f in frames] == [2] * 3 + [1] * 3  # type: ignore[attr-defined]


def test_strokes_that_the_model_is_not_shown_stay(model) -> None:  # type: ignore[no-untyped-def]
    crowd = Sketch([[[9 * i, j], [9 * i + 5 + i % 7, j + 4]] for i in range(10) for j in range(9)])
    shown = set(outline(crowd).stroke.tolist())
    hidden = {i for i in range(len(crowd)) if i not in shown}
    assert hidden
    healed = model.heal(crowd, 0.3)
    (varied,) = plain.variations(model, crowd, 1, NONE, HOW)
    for new in (healed, varied):
        kept = {s.tobytes() for s in new.strokes}
        assert all(crowd.strokes[i].tobytes() in kept for i in hidden)


def test_no_more_is_added_than_the_model_can_see_beside_the_drawing(
    model, network, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    for home in (plain, classify):
        monkeypatch.setattr(home, "outlook", lambda: network)
    longest = model.config.codec.max_points
    seen = len(outline(half()))
    (done,) = model.complete(half(), 1, label="box", more=longest - seen, steps=3)
    assert done.num_points > half().num_points
    for more in (-1, longest - seen + 1):
        with pytest.raises(UserError, match=f"more must lie in 0 … {longest - seen}"):
            model.complete(half(), 1, label="box", more=more, steps=3)
    # of a drawing of many points a quarter of what the model draws is shown
    turns = np.random.default_rng(0).uniform(0, 200, (400, 2))
    assert prospects.room(Sketch([turns]), longest) == longest - longest // 4


def test_variations_of_strength_0_are_the_drawing(model) -> None:  # type: ignore[no-untyped-def]
    assert model.vary(half(), 2, 0.0, label="box") == [half().with_label("box")] * 2


def test_variations_differ(model) -> None:  # type: ignore[no-untyped-def]
    out = plain.variations(model, half(), 3, 1, HOW)
    assert len({hash(s) for s in out}) == 3
    assert all(s.label == "box" for s in out)


def test_a_stroke_of_one_point_can_be_finished(model, network: Outlook) -> None:  # type: ignore[no-untyped-def]
    sketch = Sketch([[[0, 0], [50, 80]], [[30, 30]]])
    (done,) = finished(model, network, sketch, 1, None, more=6)
    assert len(done) >= 2


def test_the_public_way_is_plain_where_the_model_knows_it(
    model, network: Outlook, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(plain, "outlook", lambda: network)
    calls: list[int] = []
    hook = model.denoiser.register_forward_hook(lambda *args: calls.append(1))
    try:
        done = model.complete(half(), 3, label=None, more=7, steps=5)
        assert len(calls) == 5
        assert len(done) == 3
        model.heal(half(), label=None, steps=4)
        assert len(calls) == 9
        model.vary(half(), 2, label=None, steps=3)
        assert len(calls) == 12
        model.complete(half(), 1, label="box", steps=5, method="guided")
        assert len(calls) > 12 + 5  # pilots, and two evaluations a step
    finally:
        hook.remove()


def test_evaluations_are_counted_beforehand(model, network: Outlook, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for home in (plain, classify):
        monkeypatch.setattr(home, "outlook", lambda: network)
    Judged(monkeypatch, lambda k: 0.1)  # nothing is clear: all tries are made, 1, 1, 2, 4
    # batches are of 32
    for n, tries, batches in ((1, 1, 1), (8, 4, 3), (9, 8, 5)):
        frames: list[object] = []
        how = Completing(steps=3, tries=tries)
        model.complete(half(), n, label="box", more=5, settings=how, watch=frames.append)
        assert plain.evaluations(model, how, "auto", n) == len(frames) == 3 * batches
    for tries, batches in ((1, 1), (33, 2)):
        frames = []
        healing = Healing(steps=3, tries=tries)
        model.heal(half(), label="box", strength=0.3, settings=healing, watch=frames.append)
        assert plain.evaluations(model, healing, "auto") == len(frames) == 3 * batches


def test_a_model_that_does_not_see_is_guided(network: Outlook, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(plain, "outlook", lambda: network)
    blind = tiny()
    assert plain.outlook_for(blind) is None
    assert len(blind.complete(half(), 1, label="box", steps=3)) == 1


def test_strokes_that_are_right_stay_to_the_last_point(model, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    sketch = half(3.0, (500.0, -200.0))
    plan = whole(model, sketch)

    def redrawn(off: tuple[float, float]) -> Sketch:
        """The model's drawing: each stroke's points off to and fro by so much of the size."""
        signs = np.where(np.arange(len(plan.outline)) % 2, 1.0, -1.0)
        away = np.array(off)[plan.outline.stroke] * signs * sketch.extent * plan.scale
        points = plan.model_points() + np.column_stack([away, np.zeros(len(away))])
        first = int((plan.outline.stroke == 0).sum())
        return Sketch([points[:first], points[first:]])

    assert unmoved(plan, redrawn((0.005, 0.008)), 0.01) == {0, 1}
    assert unmoved(plan, redrawn((0.005, 0.03)), 0.01) == {0}
    assert unmoved(plan, redrawn((0.02, 0.03)), 0.01) == frozenset()
    assert unmoved(plan, redrawn((0.02, 0.3)), 0.01, most=0.2) == {1}
    assert unmoved(plan, Sketch([plan.model_points()[:-1]]), 0.01) == frozenset()
    monkeypatch.setattr(plain, "drawn", lambda *args: [redrawn((0.005, 0.08))])
    (healed,) = plain.redraw(model, [sketch], [0], HOW)
    assert np.array_equal(healed.strokes[0], sketch.strokes[0])
    assert len(healed) == 2
    assert not np.array_equal(healed.strokes[1], sketch.strokes[1])


def test_a_stroke_that_gets_smoother_is_redrawn(model) -> None:  # type: ignore[no-untyped-def]
    u = np.linspace(0, 1, 40)
    wavy = Sketch([np.column_stack([200 * u, 4 * np.sin(60 * u)]), [[0, 90], [200, 90.0]]])
    plan = whole(model, wavy)
    straight = plan.model_points()
    first = plan.outline.stroke == 0
    straight[first, 1] = straight[first, 1].mean()
    drawn = Sketch([straight[first], straight[~first]])
    assert unmoved(plan, drawn, 0.05) == {0, 1}
    assert unmoved(plan, drawn, 0.05, 0.8) == {1}


def test_a_few_corners_are_no_roughness(model) -> None:  # type: ignore[no-untyped-def]
    house = Sketch(
        [[[40, 90], [40, 180], [160, 180], [160, 90], [40, 90]], [[30, 95], [100, 30], [170, 95.0]]]
    )
    assert error_of(house) == 0
    rng = np.random.default_rng(0)
    u = np.linspace(0, 6, 40)
    line = np.column_stack([20 * u, 30 * np.sin(u)])
    assert error_of(Sketch([line])) < 0.01
    assert error_of(Sketch([line + rng.normal(0, 12, line.shape)])) > 0.05
    # clean, and of no class that is believed: not bent into one
    (healed,) = plain.redraw(model, [house], [NONE], HOW)
    assert len(healed) == 2
