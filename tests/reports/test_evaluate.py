import os
from pathlib import Path

import numpy as np
import orjson
import pytest

from sketchknitter import Sketch, UserError, io
from sketchknitter.data.sides import read_drawings, read_sides, read_splits, split_spec
from sketchknitter.reports import report
from sketchknitter.reports.evaluate import (
    EvaluationSettings,
    evaluate,
    fid_sketch,
    histogram,
    spread_order,
)

QUICK = EvaluationSettings(geometry_repeats=3, halvings=2, bootstrap=20)
CLASSES = ("apple", "cactus", "face")


def drawings(split: str, count: int, classes: tuple[str, ...] = CLASSES) -> list[Sketch]:
    root = os.environ.get("SKETCHKNITTER_DATA")
    if not root:
        pytest.skip("needs real drawings: set SKETCHKNITTER_DATA")
    found: list[Sketch] = []
    for name in classes:
        archive = Path(root) / "quickdraw" / f"{name}.npz"
        found += [s for s, _ in zip(io.read(archive, split=split), range(count), strict=False)]
    return found


def noise(count: int, seed: int = 0) -> list[Sketch]:
    rng = np.random.default_rng(seed)
    rows = [
        np.column_stack([rng.normal(0, 20, (50, 2)), rng.random(50) < 0.1]) for _ in range(count)
    ]
    return [Sketch.from_stroke3(r) for r in rows]


@pytest.fixture(scope="module")
def held_split() -> list[Sketch]:
    return drawings("test", 75)


@pytest.fixture(scope="module")
def valid_split() -> list[Sketch]:
    return drawings("valid", 50)


@pytest.fixture(scope="module")
def itself(held_split, valid_split) -> report.Report:
    return evaluate(held_split, held_split, [*valid_split, *held_split], settings=QUICK)


def test_a_set_against_itself(itself):
    assert itself["fid_sketch"].value < 1e-6
    for name in ("precision", "recall", "coverage"):
        assert itself[name].value == 1.0
    assert itself["geometry_score"].value == 0.0
    assert itself["w_turning_angle"].value == 0.0
    assert itself["top1"].value > 0.9
    assert itself["kid"].value < 0  # unbiased: identical sets lie below 0


def test_every_figure_has_floor_and_n(itself):
    for figure in itself.figures:
        assert figure.floor is not None, figure.name
        assert (figure.n, figure.floor_n) == (225, 187), figure.name
        assert np.isfinite([figure.value, figure.floor]).all()
    assert itself["kid"].spread > 0
    assert itself["fid_sketch"].floor_spread > 0
    assert any("floors at N = 187" in note for note in itself.notes)


def test_real_drawings_score_about_their_floor_and_noise_far_from_it(held_split, valid_split):
    heldout = [*valid_split, *held_split]
    real = evaluate(valid_split, held_split, heldout, settings=QUICK)
    assert real["fid_sketch"].value < 2 * real["fid_sketch"].floor
    assert real["precision"].value > 0.7
    found = evaluate(noise(150), held_split, heldout, settings=QUICK)
    assert found["fid_sketch"].value > 10 * found["fid_sketch"].floor
    assert found["precision"].value < 0.05
    assert found["scribbles"].value > 0.9 > 0.1 > found["scribbles"].floor
    assert found["w_turning_angle"].value > 10 * found["w_turning_angle"].floor
    assert "top1" not in {f.name for f in found.figures}
    assert any("no recognition rate" in note for note in found.notes)


def test_same_seed_same_report_and_n_is_one_for_both_sides(held_split, valid_split):
    few = EvaluationSettings(n=60, geometry_repeats=0, halvings=2, bootstrap=5)
    a, b = (evaluate(valid_split, held_split, settings=few) for _ in range(2))
    assert a.figures == b.figures
    assert {f.n for f in a.figures} == {60}
    assert any(note.startswith("60 of the 225") for note in a.notes)
    assert "geometry_score" not in {f.name for f in a.figures}


def test_copies_of_training_drawings_are_told(held_split, valid_split):
    train = drawings("train", 60)
    settings = EvaluationSettings(geometry_repeats=0, halvings=2, bootstrap=5)
    copied = evaluate(train[:90], held_split, valid_split, train, settings=settings)
    assert copied["copied"].value == 1.0
    assert copied["copied"].floor < 0.05
    assert copied["nearest_training"].value < 0.01 < copied["nearest_training"].floor
    assert any("nearest" in title for title in copied.pages)


def test_warnings_name_measured_figures(itself, held_split, valid_split):
    small = next(w for w in itself.warnings if "N = 225 is small" in w)
    assert f"{itself['fid_sketch'].floor:.3g}" in small
    few = evaluate(
        held_split[:20],
        held_split,
        [*valid_split, *held_split],
        settings=EvaluationSettings(geometry_repeats=0, halvings=2, bootstrap=5),
    )
    assert any("at N = 187" in w for w in few.warnings)
    assert any("mixed differently" in w for w in few.warnings)  # apples only
    twice = evaluate(held_split[:10] * 10, held_split, settings=QUICK)
    assert any("only 10 of the 100" in w for w in twice.warnings)


def test_bad_sets_are_refused_in_one_line(held_split):
    stranger = [s.with_label("zebra") for s in held_split]
    cases = {
        "no drawing": [],
        "one drawing": held_split[:1],
        "at least 4": held_split[:3],
        "identical": [held_split[0]] * 50,
        "drawing 5 has no points": [*held_split[:5], Sketch([]), *held_split[5:9]],
        "never saw zebra": stranger,
    }
    for message, bad in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            evaluate(bad, held_split, settings=QUICK)
        assert "\n" not in str(caught.value)
        if message != "never saw zebra":
            with pytest.raises(UserError, match=message):
                fid_sketch(bad, held_split)
    with pytest.raises(UserError, match="never saw zebra"):
        evaluate(held_split, stranger, settings=QUICK)
    with pytest.raises(UserError, match="-n 2"):
        evaluate(held_split, held_split, settings=EvaluationSettings(n=2))


def test_dots_give_figures_and_never_nan(held_split):
    dots = [Sketch([[(i, 2 * i)]] * (i % 3 + 1)) for i in range(30)]
    found = evaluate(dots, held_split, settings=QUICK)
    assert np.isfinite([f.value for f in found.figures]).all()
    assert any("no turning_angle" in note for note in found.notes)


def test_prefixes_of_an_order_keep_the_shares():
    sketches = [Sketch([[(0, 0)]], "a")] * 90 + [Sketch([[(0, 0)]], "b")] * 30
    order = spread_order(sketches, np.random.default_rng(0))
    assert sorted(order) == list(range(120))
    assert sum(sketches[i].label == "b" for i in order[:40]) == pytest.approx(10, abs=2)


def test_histograms_share_their_edges_and_sum_to_one():
    rng = np.random.default_rng(0)
    for real, fake in (
        (rng.normal(size=400), rng.normal(3, size=90)),
        ([1, 2, 2], [2, 9]),
        ([4], [4]),
    ):
        edges, a, b = histogram(np.array(real, float), np.array(fake, float))
        assert len(edges) == len(a) + 1 == len(b) + 1
        assert (sum(a), sum(b)) == pytest.approx((1, 1))


# -- reports -------------------------------------------------------------------------------------
def test_reports_in_three_formats(itself, tmp_path):
    for suffix in report.SUFFIXES:
        report.write(itself, tmp_path / f"r{suffix}")
    data = orjson.loads((tmp_path / "r.json").read_bytes())
    by_name = {f["name"]: f for f in data["figures"]}
    assert by_name["precision"]["value"] == 1.0
    assert np.sum(data["recognition"]["confusion"]) == 225
    assert b"NaN" not in (tmp_path / "r.json").read_bytes()
    markdown = (tmp_path / "r.md").read_text()
    assert all(f"| {f.name} |" in markdown for f in itself.figures)
    page = (tmp_path / "r.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert page.count("<figure>") == 7
    assert "<polyline" in page or "<path" in page
    lines = (tmp_path / "r.csv").read_text().splitlines()
    assert len(lines) == len(itself.figures) + 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.csv", "r.html", "r.json", "r.md"]


def test_report_paths_are_checked_first(itself, tmp_path):
    with pytest.raises(UserError, match=r"\.json, \.md, \.html, \.csv"):
        report.check_path(tmp_path / "r.pdf")
    with pytest.raises(UserError, match="no such folder"):
        report.write(itself, tmp_path / "none" / "r.md")
    with pytest.raises(UserError, match="no figure 'bleu'"):
        itself["bleu"]


# -- sides ---------------------------------------------------------------------------------------
def test_split_spec(tmp_path):
    assert split_spec("a/b.npz:valid") == (Path("a/b.npz"), "valid")
    assert split_spec("a/b.npz") == (Path("a/b.npz"), None)
    assert split_spec("c:/b.npz") == (Path("c:/b.npz"), None)


def test_file_and_reference_take_the_same_way(held_split, tmp_path):
    root = Path(os.environ["SKETCHKNITTER_DATA"]) / "quickdraw"
    found, name = read_drawings(f"{root / 'apple.npz'}:valid")
    assert (len(found), name) == (50, "apple.npz:valid")
    splits = read_splits(root / "apple.npz")
    assert [len(splits[k]) for k in ("train", "valid", "test")] == [600, 50, 75]
    assert read_drawings(str(root / "apple.npz"))[0] == splits["test"]
    generated = tmp_path / "out.npz"
    io.write([s.with_label("apple") for s in splits["train"][:9]], generated)
    assert len(read_drawings(str(generated), "valid")[0]) == 9  # its one split that is not empty


def test_labels_choose_the_classes(held_split, tmp_path):
    root = Path(os.environ["SKETCHKNITTER_DATA"]) / "quickdraw"
    for name in CLASSES:
        (tmp_path / f"{name}.npz").symlink_to(root / f"{name}.npz")
    against = str(tmp_path)
    some = read_sides(f"{root / 'apple.npz'}:valid", against)
    assert {s.label for s in some.reference} == {"apple"}
    assert len(some.heldout) == 125
    assert any("the 1 class(es)" in n for n in some.notes)
    io.write(noise(9), tmp_path.parent / "noise.ndjson")
    unlabeled = read_sides(str(tmp_path.parent / "noise.ndjson"), against)
    assert {s.label for s in unlabeled.reference} == set(CLASSES)
    assert {s.label for s in unlabeled.drawings} == {None}
    io.write(
        [s.with_label(n) for s, n in zip(noise(9), "aab" * 3, strict=True)],
        tmp_path.parent / "m.npz",
    )
    with pytest.raises(UserError, match="'a', 'b' are none of the 3 classes"):
        read_sides(str(tmp_path.parent / "m.npz"), against)
    faces = read_sides(f"{against}:valid", against, classes=["face"])
    assert (len(faces.drawings), len(faces.reference)) == (50, 75)
    with pytest.raises(UserError, match="no class 'dog'"):
        read_sides(str(tmp_path.parent / "noise.ndjson"), against, classes=["dog"])


def test_nothing_to_read_is_told(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_drawings(str(tmp_path / "none.npz"))
    with pytest.raises(UserError, match="holds no file we read"):
        read_drawings(str(tmp_path))
    (tmp_path / "empty.ndjson").write_bytes(b"")
    with pytest.raises(UserError):
        read_drawings(str(tmp_path / "empty.ndjson"))
