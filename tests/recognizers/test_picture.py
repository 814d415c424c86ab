import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from sketchknitter import Sketch, UserError
from sketchknitter.recognizers import picture
from sketchknitter.recognizers.picture import (
    GUIDE_WEIGHTS,
    Recognizer,
    clearness,
    until_recognized,
)


def test_gradients_reach_every_pixel_and_every_weight():
    torch.manual_seed(0)
    network = Recognizer(("a", "b", "c"), size=32, channels=(8, 16, 16))
    ink = torch.rand(3, 1, 32, 32, requires_grad=True)
    network.train()(ink).square().sum().backward()
    assert (ink.grad != 0).float().mean() > 0.99
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_picture_is_seen_alike_alone_and_in_company():
    torch.manual_seed(0)
    network = Recognizer(("a", "b"), size=48).eval().requires_grad_(False)
    ink = torch.rand(5, 1, 48, 48)
    together = network.probabilities(ink)
    assert together.shape == (5, 2)
    assert torch.allclose(together.sum(1), torch.ones(5))
    assert torch.allclose(network.probabilities(ink[2:3])[0], together[2], atol=1e-5)


def test_weights_survive_a_file_and_come_back_frozen(tmp_path):
    network = Recognizer(("a", "b"), size=32, width=0.04, channels=(8, 16, 16)).eval()
    network.save(tmp_path / "g.safetensors", {"seed": 3})
    again = Recognizer.load(tmp_path / "g.safetensors")
    assert (again.classes, again.size, again.width) == (("a", "b"), 32, 0.04)
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    ink = torch.rand(4, 1, 32, 32)
    assert torch.allclose(network(ink), again(ink), atol=5e-3)  # fp16 on disk


def test_missing_and_foreign_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match="train --stage guide"):
        Recognizer.load(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="not a guide"):
        Recognizer.load(GUIDE_WEIGHTS.with_name("judge.safetensors"))
    Recognizer(("a", "\x1b[31mb")).save(tmp_path / "g.safetensors")
    with pytest.raises(UserError, match="characters that are not seen"):
        Recognizer.load(tmp_path / "g.safetensors")


def test_shipped_guide_is_small_and_says_how_it_was_made():
    guide = Recognizer.load()
    assert GUIDE_WEIGHTS.stat().st_size < 2.5e6
    with safe_open(GUIDE_WEIGHTS, "pt") as archive:
        record = json.loads(archive.metadata()["sketchknitter"])["record"]
    assert len(guide.classes) == 31
    assert record["test_top1"] > 0.9


CAT = [[[0, 0], [9, 0], [9, 9], [0, 0]]]


def test_clearness_is_the_guides_probability_of_the_label():
    network = picture.guide()
    assert network is not None
    several = [Sketch(CAT, "cat"), Sketch(CAT, "zebra"), Sketch(CAT), Sketch([CAT[0][:2]], "pig")]
    found = clearness(several)
    assert np.isnan(found).tolist() == [False, True, True, False]  # it knows no zebra
    for i, name in ((0, "cat"), (3, "pig")):
        alone = network.log_probabilities([several[i]])[0, network.classes.index(name)]
        assert found[i] == pytest.approx(np.exp(alone), rel=1e-4)


@pytest.mark.parametrize(
    ("shows", "rounds", "kept"),
    [
        # what each try shows, of three drawings; which are drawn again; which try is kept
        ([[0.9, 0.9, 0.9]], [], [0, 0, 0]),
        ([[0.9, 0.1, 0.2], [0.0, 0.8, 0.1], [0.0, 0.0, 0.25]], [[1, 2], [2]], [0, 1, 2]),
        ([[0.1, np.nan, 0.9], [0.05, 0.0, 0.0], [0.02, 0.0, 0.0]], [[0], [0]], [0, 0, 0]),
        ([[0.3, 0.29, 0.9], [0.0, 0.9, 0.0]], [[1]], [0, 1, 0]),
    ],
)
def test_what_is_not_recognized_is_drawn_again(monkeypatch, shows, rounds, kept):
    def tried(i: int, k: int) -> Sketch:
        return Sketch([[[i, k], [i + 1, k + 1]]])

    def says(sketches):
        places = [s.points[0].astype(int) for s in sketches]
        return np.array([shows[k][i] for i, k in places])

    asked = []

    def draw(rows, streams):
        asked.append(rows.tolist())
        # each drawing goes on with a stream of its own, whatever the others do
        fresh = [np.random.default_rng(i).spawn(2)[len(asked) - 1].random() for i in rows.tolist()]
        assert [s.random() for s in streams] == fresh
        return [tried(i, len(asked)) for i in rows.tolist()]

    monkeypatch.setattr(picture, "clearness", says)
    streams = [np.random.default_rng(i) for i in range(3)]
    once = [tried(i, 0) for i in range(3)]
    assert until_recognized(once, draw, streams, 3) == [tried(i, k) for i, k in enumerate(kept)]
    assert asked == rounds
    asked.clear()
    assert until_recognized(once, draw, streams, 1) == once
    assert asked == []
