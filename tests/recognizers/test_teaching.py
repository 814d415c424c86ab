import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sketchknitter import Sketch, UserError
from sketchknitter.cli import stage
from sketchknitter.data.distort import Distortion, distort
from sketchknitter.metrics.judge.training import crowding, scribbles
from sketchknitter.recognizers.picture import Recognizer
from sketchknitter.recognizers.picture_training import GUIDE_CONFIG, GuideLesson, blur
from sketchknitter.recognizers.training import Examples, Lesson, Splits, go_on, teach
from sketchknitter.seeds import Stream, stream
from sketchknitter.settings import TrainingConfig
from sketchknitter.training.objective import Loss

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


def lines(count: int, seed: int) -> list[Sketch]:
    """Flat zigzags, and tall ones."""
    rng = np.random.default_rng(seed)
    flat = np.column_stack([20.0 * np.arange(12), 10.0 * (np.arange(12) % 2)])
    return [
        Sketch([(flat[:, ::-1] if i % 2 else flat) + rng.normal(0, 1, flat.shape)], name)
        for i, name in zip(range(count), ("flat", "tall") * count, strict=False)
    ]


def test_the_guide_learns_from_drawings_and_parts_of_them(tmp_path):
    sets = Splits(("flat", "tall"), lines(64, 0), lines(16, 1), lines(16, 2))
    config = replace(GUIDE_CONFIG, iterations=24, batch_size=16)
    lessons = []

    def make():
        lessons.append(GuideLesson(sets))
        return lessons[-1]

    record = teach(make, config, tmp_path / "g.safetensors")
    for name in ("test_top1", "test_top1_half", "test_top1_at_10", "valid_top1_half"):
        assert record[name] > 0.8
    seen = lessons[0].examples(np.arange(16), [stream(0, Stream.EXAMPLE, i) for i in range(16)])
    assert seen.seen.shape == (16, 1, 48, 48)
    whole, half = lessons[0].valid[""], lessons[0].valid["_half"]
    assert (255 - half).sum() != (255 - whole).sum()  # another picture: the half fills the frame
    assert not np.array_equal(whole, lessons[0].valid["_at_10"])


class Brightness:
    """A lesson: whether the first pixel of a picture is bright."""

    classes = ("dark", "bright")

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.pictures = torch.from_numpy(rng.random((256, 16), dtype=np.float32))
        self.labels = (self.pictures[:, 0] > 0.5).long()
        self.count = 256
        self.network = torch.nn.Sequential(torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 2))
        self.saved: dict[str, object] = {}

    def examples(self, chosen, rngs):
        noise = torch.from_numpy(np.stack([0.01 * rng.normal(size=16) for rng in rngs])).float()
        return Examples(
            self.pictures[chosen] + noise, self.labels[chosen], torch.zeros(len(rngs), 0)
        )

    def loss(self, batch, streams):
        out = self.network(batch.seen)
        each = torch.nn.functional.cross_entropy(out, batch.label, reduction="none")
        return Loss(each, torch.ones_like(each))

    def score(self):
        return float((self.network(self.pictures).argmax(1) == self.labels).double().mean())

    def finish(self):
        return {"test_top1": self.score()}

    def save(self, path, record):
        self.saved = dict(record)
        torch.save(0, path)


CONFIG = TrainingConfig(iterations=40, batch_size=32, lr=0.05, ema_rate="0.9", seed=3)


def weights(lesson: Lesson) -> list[torch.Tensor]:
    return list(lesson.network.state_dict().values())


def test_teaching_keeps_the_best_weights_and_resumes_exactly(tmp_path):
    first, cut, last = Brightness(), Brightness(), Brightness()

    def again(lesson):  # the seed must decide the weights at the start, too
        def make():
            for p in lesson.network[1].parameters():
                torch.nn.init.normal_(p)
            return lesson

        return make

    record = teach(again(first), CONFIG, tmp_path / "a")
    assert record is not None
    assert record["valid_score"] == max(record["valid_curve"]) == round(first.score(), 4) > 0.9
    assert len(record["valid_curve"]) == 5  # after every epoch of eight updates
    seen: list[int] = []
    stopped = teach(
        again(cut),
        CONFIG,
        tmp_path / "b",
        folder=tmp_path / "run",
        report=lambda update: seen.append(update.iteration),
        stop=lambda: len(seen) == 19,
    )
    assert stopped is None
    assert not (tmp_path / "b").exists()
    with pytest.raises(UserError, match="holds a run"):
        teach(again(last), CONFIG, tmp_path / "b", folder=tmp_path / "run")
    resumed = teach(again(last), CONFIG, tmp_path / "b", folder=tmp_path / "run", resume=True)
    assert resumed == record
    assert all(map(torch.equal, weights(first), weights(last)))


def few(folder: Path, count: int) -> Path:
    """A handful of real drawings of two classes."""
    root = os.environ.get("SKETCHKNITTER_DATA")
    if not root:
        pytest.skip("needs real drawings: set SKETCHKNITTER_DATA")
    folder.mkdir()
    for name in ("apple", "face"):
        with np.load(Path(root) / "quickdraw" / f"{name}.npz", allow_pickle=True) as archive:
            part = {key: archive[key][:count] for key in ("train", "valid", "test")}
        np.savez(folder / f"{name}.npz", **part)
    return folder


@pytest.mark.parametrize("which", ["judge", "guide", "outlook"])
def test_the_same_command_writes_the_same_file(which, tmp_path, capsys):
    data = few(tmp_path / "data", 20)
    outs = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for out in outs:
        words = ["--stage", which, "--data-dir", str(data), "--out", str(out)]
        assert stage.run([*words, "--iterations", "3", "--batch-size", "16"]) == 0
    assert "top-1 on test" in capsys.readouterr().out
    assert outs[0].read_bytes() == outs[1].read_bytes()
    from sketchknitter.metrics.judge.network import load_judge
    from sketchknitter.recognizers.outlook import Outlook

    load = {
        "judge": load_judge,
        "guide": Recognizer.load,
        "outlook": Outlook.load,
    }[which]
    made = load(outs[0])
    assert made.classes == ("apple", "face")
    on = tmp_path / "on.safetensors"
    words = ["--stage", which, "--data-dir", str(data), "--out", str(on), "--start", str(outs[0])]
    assert stage.run([*words, "--iterations", "3", "--batch-size", "16"]) == 0
    assert load(on).record["start"] == made.record


def test_what_cannot_be_learned_from_is_refused(tmp_path):
    words = ["--stage=judge", "--out", str(tmp_path / "o")]
    with pytest.raises(UserError, match="no such file"):
        stage.run([*words, "--data-dir", str(tmp_path / "none")])
    with pytest.raises(UserError, match="--data-dir and --out"):
        stage.run(words)


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
    def guide(*classes: str) -> Recognizer:
        return Recognizer(classes, 16, channels=(8, 8))

    network, earlier = guide("a", "b"), guide("a", "b")
    earlier.record = {"seconds": 7}
    assert go_on(network, None) == {}
    assert go_on(network, earlier) == {"start": {"seconds": 7}}
    pairs = zip(network.parameters(), earlier.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)
    with pytest.raises(UserError, match="know other classes"):
        go_on(network, guide("a", "c"))
