import json
import os
from dataclasses import replace

import numpy as np
import pytest
from real_drawings import CLASSES, drop_strokes, jitter, lift_pens, quickdraw, shuffle_points
from safetensors import safe_open

from sketchknitter import Sketch, UserError
from sketchknitter.metrics.features import Features
from sketchknitter.metrics.fid import frechet_distance
from sketchknitter.metrics.judge.network import JUDGE_WEIGHTS, Judge, load_judge
from sketchknitter.metrics.kid import kernel_distance
from sketchknitter.metrics.precision_recall import precision_and_recall
from sketchknitter.metrics.recognition import recognize


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.fixture(scope="module")
def seen(judge, real) -> Features:
    return judge.embed(real)


def test_shipped_judge_is_small_and_says_how_it_was_made():
    assert JUDGE_WEIGHTS.stat().st_size < 2.5e6
    with safe_open(JUDGE_WEIGHTS, "pt") as archive:
        header = json.loads(archive.metadata()["sketchknitter"])
    assert header["record"]["test_top1"] >= 0.95
    assert header["record"]["drawings"] == 17234
    assert len(header["classes"]) == 31


def test_shipped_judge_recognizes_the_whole_test_split(judge):
    drawings = quickdraw("test", 1000, judge.classes)
    assert len(drawings) == 2160
    labels = [s.label or "" for s in drawings]
    top = recognize(judge.embed(drawings).probabilities, labels, judge.classes).top
    assert top[1] >= 0.95
    assert top[5] >= 0.99


def test_a_drawing_is_seen_alike_alone_and_in_company_at_any_size(judge, real, seen):
    alone = judge.embed([real[7]])
    assert alone.vectors[0] == pytest.approx(seen.vectors[7], abs=1e-4)
    assert alone.probabilities.sum() == pytest.approx(1.0)
    moved = judge.embed([real[7].transformed(10, (300, -40))])
    assert np.abs(moved.vectors[0] - alone.vectors[0]).max() < 0.1 * np.abs(alone.vectors).max()


def test_weights_survive_a_file(tmp_path, real):
    network = Judge(("a", "b", "c"), features=16).eval()
    network.save(tmp_path / "j.safetensors", {"seed": 4})
    again = load_judge(tmp_path / "j.safetensors")
    assert again.classes == ("a", "b", "c")
    a, b = (n.embed(real[:8]).vectors for n in (network, again))
    assert a == pytest.approx(b, rel=0.02, abs=1e-3)  # fp16 on disk
    assert os.listdir(tmp_path) == ["j.safetensors"]


def test_missing_and_foreign_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match="train --stage judge"):
        load_judge(tmp_path / "none.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"\x00" * 99)
    with pytest.raises(UserError, match="no readable judge"):
        load_judge(tmp_path / "junk.safetensors")
    guide = JUDGE_WEIGHTS.with_name("guide.safetensors")
    if guide.exists():
        with pytest.raises(UserError, match="not a judge"):
            load_judge(guide)


@pytest.mark.parametrize(
    ("spoil", "degrees"),
    [
        (jitter, (0.02, 0.03, 0.05)),
        (lift_pens, (0.1, 0.25, 0.5)),
        (drop_strokes, (0.15, 0.35, 0.6)),
        (shuffle_points, (0.1, 0.25, 0.6)),
    ],
)
def test_damage_moves_every_metric_the_right_way(judge, real, seen, other, spoil, degrees):
    labels = [s.label or "" for s in real]
    rows = [judge.embed(other), *(judge.embed(spoil(other, degree)) for degree in degrees)]
    fids = [frechet_distance(seen.vectors, f.vectors) for f in rows]
    kids = [kernel_distance(seen.vectors, f.vectors)[0] for f in rows]
    shares = [precision_and_recall(seen.whitened, f.whitened) for f in rows]
    top = [recognize(f.probabilities, [s.label or "" for s in other], f.classes).top for f in rows]
    assert fids == sorted(fids)
    assert fids[1] > 1.2 * fids[0]
    assert kids == sorted(kids)
    for name in ("precision", "density", "coverage"):
        values = [getattr(p, name) for p in shares]
        assert max(np.diff(values)) <= 0.01, name  # three drawings of 300
        assert values[-1] < 0.9 * values[0], name
    assert max(np.diff([t[1] for t in top])) <= 0.01
    assert top[-1][1] < top[0][1]
    assert len(labels) == 300


def test_strange_classes_mixed_in_cost_precision_not_recall(judge, real, seen, other):
    strangers = judge.embed(quickdraw("valid", 40, ("guitar", "candle", "television", "crayon")))
    own = judge.embed(other)
    order = np.random.default_rng(0).permutation(len(own))
    rows = []
    for count in (0, 50, 150):
        kept = order[: len(own) - count]
        added = np.arange(count) * (len(strangers) // 150)
        rows.append(
            replace(own, vectors=np.concatenate([own.vectors[kept], strangers.vectors[added]]))
        )
    fids = [frechet_distance(seen.vectors, x.vectors) for x in rows]
    precisions = [precision_and_recall(seen.whitened, x.whitened).precision for x in rows]
    assert fids[0] < fids[1] / 1.5 < fids[2] / 2
    assert precisions[0] > precisions[1] + 0.05 > precisions[2] + 0.2


def test_one_class_only_is_precise_and_recalls_little(judge, real, seen):
    apples = judge.embed(quickdraw("train", 300, (CLASSES[1],)))
    found = precision_and_recall(seen.whitened, apples.whitened)
    assert found.precision > 0.7
    assert found.recall < 0.35
    assert found.coverage < 0.35


@pytest.mark.parametrize(("points", "lifts"), [(96, 0.1), (64, 0.3), (64, 0.0)])
def test_noise_is_nothing_like_a_drawing(judge, points, lifts):
    """Against the whole test split, whose odd drawings have large balls."""
    rng = np.random.default_rng(0)
    noise = []
    for _ in range(300):
        cuts = np.flatnonzero(rng.random(points - 1) < lifts) + 1
        noise.append(Sketch(np.split(rng.normal(size=(points, 2)).cumsum(0), cuts)))
    everything = judge.embed(quickdraw("test", 10_000, judge.classes))
    answer = judge.embed(noise)
    shares = precision_and_recall(everything.whitened, answer.whitened)
    assert shares.precision < 0.05
    assert shares.density < 0.02
    assert max(shares.recall, shares.coverage) < 0.05
    assert (answer.scribble > 0.5).mean() > 0.9
    floor = frechet_distance(everything.vectors[::2], everything.vectors[1::2])
    assert frechet_distance(everything.vectors, answer.vectors) > 50 * floor


def test_whitened_features_have_unit_spread_within_classes(judge, seen, real):
    """Exactly so on the training drawings; about so on others."""
    labels = np.array([s.label for s in real])
    apart = np.concatenate(
        [seen.whitened[labels == c] - seen.whitened[labels == c].mean(0) for c in set(labels)]
    )
    assert 0.5 < apart.var(axis=0).mean() < 3.0
    small = Judge(["a", "b"], size=16, features=4).eval()
    pictures = np.random.default_rng(0).integers(0, 255, (60, 16, 16)).astype(np.uint8)
    small.whiten(pictures, np.arange(60) % 2)
    vectors = small.embed_pictures(pictures).whitened
    for label in (0, 1):
        vectors[label::2] -= vectors[label::2].mean(axis=0)
    axes = np.linalg.eigvalsh(vectors.T @ vectors / 60)
    assert axes.max() < 1.0  # a tenth of the mean variance is added before it is divided by
    assert axes.max() > 0.5
