import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sketchknitter import Sketch, UserError
from sketchknitter.cli.train_recognizer import main
from sketchknitter.metrics.judge.training import crowding, scribbles
from sketchknitter.recognizers.learning import go_on
from sketchknitter.recognizers.picture_training import Distortion, blur, distort, fit

SQUARE = Sketch([[(0, 0), (100, 0), (100, 100)], [(100, 100), (0, 100)], [(0, 100), (0, 0)]], "box")


def test_distortion_keeps_points_and_says_what_it_damaged():
    rng = np.random.default_rng(0)
    drawn, damage = distort([SQUARE] * 400, Distortion(damaged=0.5), rng)
    assert {d.num_points for d in drawn} == {7}
    assert 0.4 < (damage[:, 0] > 0).mean() < 0.6
    whole = [len(d) for d, (jitter, _) in zip(drawn, damage, strict=True) if jitter == 0]
    assert set(whole) == {3}  # no lifts where nothing is damaged
    assert any(len(d) > 3 for d in drawn)
    none, zero = distort([SQUARE], Distortion(0, 0, 0, 0, 0), rng)
    assert np.allclose(none[0].points, SQUARE.points)
    assert not zero.any()


def test_scribbles_are_of_five_kinds_and_unlabeled():
    found = scribbles([SQUARE, Sketch([[(0, 0), (1, 1)]])], 50, np.random.default_rng(0))
    assert len(found) == 50
    assert all(s.label is None and s.num_points for s in found)
    shuffled = [s for s in found[2::5] if s.num_points == 7]
    assert all(sorted(s.points.tolist()) == sorted(SQUARE.points.tolist()) for s in shuffled)
    assert all(len(s) == 3 for s in found[4::5])


def test_blur_keeps_ink_and_spreads_it():
    dot = torch.zeros(1, 1, 21, 21)
    dot[..., 10, 10] = 1
    soft = blur(dot, 1.5)
    assert soft.sum() == pytest.approx(1, abs=1e-5)
    spread = (soft[0, 0].sum(0) * (torch.arange(21) - 10) ** 2).sum()
    assert spread == pytest.approx(1.5**2, rel=0.05)


def test_fit_learns_and_keeps_the_best_epoch():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (256, 4, 4)).astype(np.uint8)
    labels = (pictures[:, 0, 0] > 127).astype(np.int64)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))

    def logits(net: torch.nn.Module) -> torch.Tensor:
        return net(torch.from_numpy(pictures).float() / 255 - 0.5)

    def score(net: torch.nn.Module) -> float:
        return float((logits(net).argmax(1).numpy() == labels).mean())

    def loss(p: np.ndarray, y: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        ink = torch.from_numpy(p).float() / 255 - 0.5
        return torch.nn.functional.cross_entropy(network(ink), y)

    epochs = iter(lambda: (pictures, labels, np.zeros((256, 2), np.float32)), None)
    before = score(network)
    best, record = fit(network, epochs, loss, score, seconds=0.6, seed=0, lr=0.03)
    assert record["valid_score"] == max(record["valid_curve"]) == round(score(best), 4)
    assert score(best) > max(before, 0.9)


@pytest.mark.parametrize("which", ["judge", "guide"])
def test_command_trains_and_writes_a_loadable_file(which, tmp_path, capsys):
    root = os.environ.get("SKETCHKNITTER_DATA")
    if not root:
        pytest.skip("needs real drawings: set SKETCHKNITTER_DATA")
    data = tmp_path / "data"
    data.mkdir()
    for name in ("apple", "face"):
        with np.load(Path(root) / "quickdraw" / f"{name}.npz", allow_pickle=True) as archive:
            few = {key: archive[key][:70] for key in ("train", "valid", "test")}
        np.savez(data / f"{name}.npz", **few)
    out = tmp_path / "net.safetensors"
    main([which, "--data", str(data), "--out", str(out), "--seconds", "1"])
    assert "top-1 on test" in capsys.readouterr().out
    if which == "judge":
        from sketchknitter.metrics.judge.network import load_judge

        assert load_judge(out).classes == ("apple", "face")
    else:
        from sketchknitter.recognizers.picture import Recognizer

        assert Recognizer.load(out).classes == ("apple", "face")


def test_unlabeled_or_single_class_data_are_refused(tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(["judge", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "o")])
    assert "no such file" in str(caught.value)
    assert issubclass(UserError, Exception)


def test_noise_is_pushed_away_from_everything_and_drawings_from_nothing():
    vectors = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0], [100.0, 0.0]], requires_grad=True)
    noise = torch.tensor([False, False, True, True])
    crowding(vectors, noise, 10.0).backward()
    slope = vectors.grad
    assert slope is not None
    assert slope[0, 0] > 0 > slope[1, 0]  # both move off the scribble between them
    assert slope[3].abs().max() == 0  # far enough already
    alone = crowding(vectors, torch.zeros(4, dtype=torch.bool), 10.0)
    assert float(alone) == 0
    # noise among itself is kept half as far again
    pair = torch.tensor([[0.0], [12.0]])
    assert float(crowding(pair, torch.tensor([True, False]), 10.0)) == 0
    assert float(crowding(pair, torch.tensor([True, True]), 10.0)) > 0


def test_training_goes_on_from_earlier_weights_of_the_same_classes():
    from sketchknitter.recognizers.points import Reader, ReaderShape

    def reader(*classes: str) -> Reader:
        return Reader(classes, ReaderShape((8, 8, 8), 1))

    network, earlier = reader("a", "b"), reader("a", "b")
    earlier.record = {"seconds": 7}
    assert go_on(network, None, "data") == {}
    assert go_on(network, earlier, "data") == {"start": {"seconds": 7}}
    pairs = zip(network.parameters(), earlier.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)
    with pytest.raises(UserError, match="--start: those weights know other classes"):
        go_on(network, reader("a", "c"), "data")
