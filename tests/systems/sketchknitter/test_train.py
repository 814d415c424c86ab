"""Training: it learns, resumes bit for bit, and k processes do what one would."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing

from sketchknitter.data.codec import Codec
from sketchknitter.data.dataset import PreparedSet
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.files import read_tensors
from sketchknitter.plot import Series, lines, ticks
from sketchknitter.settings import AugmentConfig, BackboneConfig, DiffusionConfig, OptimConfig
from sketchknitter.systems.sketchknitter import run
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig
from sketchknitter.systems.sketchknitter.pens import PenCalibration, calibrate_pens, threshold
from sketchknitter.systems.sketchknitter.run import DenoiserRun, adapted, digest, within
from sketchknitter.systems.sketchknitter.trainer import DenoiserTrainer
from sketchknitter.training.ema import ema_rates
from sketchknitter.training.run import Log
from sketchknitter.training.trainer import LONG

NETWORK = BackboneConfig(widths=(8, 16), num_res_blocks=1, attention_levels=(1,), num_heads=2)
OPTIM = OptimConfig(iterations=12, batch_size=8, warmup=4)


def tiny(**changes: object) -> ModelConfig:
    diffusion = dataclasses.replace(DiffusionConfig(diffusion_steps=40), **changes)  # type: ignore[arg-type]
    return ModelConfig(NETWORK, diffusion, Codec(max_rows=24))


def whole_state(trainer: DenoiserTrainer, folder: Path) -> tuple[str, dict[str, object]]:
    """Digest of every tensor of the state, and its header without the clock."""
    trainer.save_state(folder / "look.safetensors")
    tensors, header = read_tensors(folder / "look.safetensors")
    del header["seconds"], header["cpu"]
    return digest(tensors), header


# -- learning --------------------------------------------------------------------------------------
def test_the_loss_falls(data: PreparedSet) -> None:
    optim = OptimConfig(iterations=50, batch_size=20, lr=4e-3, warmup=5, ema_rate="0.9")
    trainer = DenoiserTrainer(data, tiny(), optim, AugmentConfig(0, 0, 0))
    before = trainer.evaluate(data.train)
    losses = [record.loss for record in trainer.run()]
    assert len(losses) == 50
    # the drawings are random walks, of which little more than the spread can be learned
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:5])
    assert trainer.evaluate(data.train) < 0.92 * before


def test_one_update_moves_every_weight(data: PreparedSet) -> None:
    trainer = DenoiserTrainer(data, tiny(pens="head"), OPTIM)
    before = {k: p.detach().clone() for k, p in trainer.denoiser.named_parameters()}
    for _ in trainer.run(3):  # layers that start at zero pass a gradient on from the second on
        pass
    still = [k for k, p in trainer.denoiser.named_parameters() if torch.equal(p, before[k])]
    assert not still


def test_learning_rate_warms_up_and_falls_to_zero(data: PreparedSet) -> None:
    trainer = DenoiserTrainer(
        data, tiny(), dataclasses.replace(OPTIM, iterations=100, warmup=10, lr=1.0)
    )
    rates = [trainer.learning_rate(i) for i in range(101)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)


def test_microbatches_add_up_to_the_batch(data: PreparedSet) -> None:
    whole = DenoiserTrainer(data, tiny(), OPTIM)
    parts = DenoiserTrainer(data, tiny(), dataclasses.replace(OPTIM, microbatch=3))
    for a, b in zip(whole.run(3), parts.run(3), strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)


@pytest.mark.parametrize("text", ["fast", "1.0", "-0.1", "", "0.9,,0.99"])
def test_bad_ema_rates(text: str) -> None:
    with pytest.raises(UserError, match=r"^ema_rate"):
        ema_rates(text)


# -- precision -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("iterations", "half", "chosen"),
    [(LONG, 0.5, "bfloat16"), (LONG, 0.95, "float32"), (LONG - 1, 0.5, "float32")],
)
def test_a_long_training_takes_the_precision_that_is_faster(
    data: PreparedSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    iterations: int,
    half: float,
    chosen: str,
) -> None:
    optim = dataclasses.replace(OPTIM, iterations=iterations, precision="auto")
    trainer = DenoiserTrainer(data, tiny(), optim)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    assert min(trainer._seconds(p) for p in ("float32", "bfloat16")) > 0
    for name, value in trainer.network.state_dict().items():  # measuring learns nothing
        assert torch.equal(value, before[name])
    seconds = {"float32": 1.0, "bfloat16": half}
    monkeypatch.setattr(DenoiserTrainer, "_seconds", lambda self, p: seconds[p])
    assert trainer.settle() == trainer.config.precision == chosen
    trainer.save_state(tmp_path / "state.safetensors")
    seconds["bfloat16"] = 2.0  # on another day the processor is busy
    again = DenoiserTrainer(data, tiny(), optim)
    assert again.settle(tmp_path / "state.safetensors") == chosen


# -- resuming --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule_sampler": "loss-second-moment", "ema_rate": "0.9,0.99", "microbatch": 4},
        {"precision": "bfloat16"},
    ],
)
def test_resuming_is_bit_for_bit(
    data: PreparedSet, tmp_path: Path, changes: dict[str, object]
) -> None:
    optim = dataclasses.replace(OPTIM, **changes)  # type: ignore[arg-type]
    network = dataclasses.replace(NETWORK, dropout=0.2)
    model = dataclasses.replace(tiny(), network=network)
    straight = DenoiserTrainer(data, model, optim)
    records = [r.loss for r in straight.run()]
    first = DenoiserTrainer(data, model, optim)
    before = [r.loss for r in first.run(7)]
    first.save_state(tmp_path / "state.safetensors")
    torch.manual_seed(99)  # another process has other global streams
    second = DenoiserTrainer(data, model, optim)
    second.load_state(tmp_path / "state.safetensors")
    assert second.iteration == 7
    after = [r.loss for r in second.run()]
    assert before + after == records
    assert whole_state(second, tmp_path) == whole_state(straight, tmp_path)
    assert digest(second.checkpoint().weights) == digest(straight.checkpoint().weights)
    assert digest(first.checkpoint().weights) != digest(straight.checkpoint().weights)


def test_a_state_of_another_run_is_refused(data: PreparedSet, tmp_path: Path) -> None:
    trainer = DenoiserTrainer(data, tiny(), OPTIM)
    trainer.save_state(tmp_path / "state.safetensors")
    other = DenoiserTrainer(data, tiny(parametrization="eps"), OPTIM)
    with pytest.raises(UserError, match="another model"):
        other.load_state(tmp_path / "state.safetensors")
    cats = DenoiserTrainer(dataclasses.replace(data, fingerprint="0" * 64), tiny(), OPTIM)
    with pytest.raises(UserError, match="other data"):
        cats.load_state(tmp_path / "state.safetensors")
    trainer.checkpoint().save(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="not a training state"):
        trainer.load_state(tmp_path / "model.safetensors")


# -- many processes --------------------------------------------------------------------------------
def _worker(rank: int, world: int, meeting: str, prepared: str, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world
    )
    trainer = DenoiserTrainer(PreparedSet.open(prepared), tiny(), OPTIM)
    records = [(r.loss, r.grad_norm) for r in trainer.run(4)]
    if rank == 0:
        Path(out, "records.json").write_text(json.dumps(records))
        trainer.save_state(Path(out) / "state.safetensors")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_match_one_with_the_doubled_batch(data: PreparedSet, tmp_path: Path) -> None:
    multiprocessing.spawn(
        _worker, (2, str(tmp_path / "meeting"), str(data.path), str(tmp_path)), nprocs=2
    )
    one = DenoiserTrainer(data, tiny(), OPTIM)
    records = [(r.loss, r.grad_norm) for r in one.run(4)]
    np.testing.assert_allclose(
        json.loads((tmp_path / "records.json").read_text()), records, rtol=1e-5
    )
    one.save_state(tmp_path / "one.safetensors")
    theirs, _ = read_tensors(tmp_path / "state.safetensors")
    own, _ = read_tensors(tmp_path / "one.safetensors")
    assert theirs.keys() == own.keys()
    for name, value in own.items():
        # AdamW divides rounding by tiny gradients; only weights that began at zero can show it,
        # and four updates have moved them by 2e-3
        floor = 3e-7 if name.startswith(("model", "ema")) else 1e-4 * value.abs().max().item()
        torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=floor, msg=name)


# -- preparing -------------------------------------------------------------------------------------
def test_longer_drawings_are_left_out_and_counted(data: PreparedSet) -> None:
    short, dropped = within(data, 10)
    lengths = np.concatenate(
        [np.asarray(data.split(s).lengths) for s in ("train", "valid", "test")]
    )
    assert dropped == int((lengths > 10).sum()) > 0
    assert len(short) == len(data) - dropped
    assert np.asarray(short.train.lengths).max() <= 10
    kept = np.flatnonzero(np.asarray(data.train.lengths) <= 10)
    np.testing.assert_array_equal(short.train.labels, np.asarray(data.train.labels)[kept])
    for a, b in zip(short.train.take(range(len(kept))), data.train.take(kept), strict=True):
        np.testing.assert_array_equal(a, b)
    assert within(data, 96) == (data, 0) or within(data, 96)[0].train is data.train


@pytest.mark.parametrize("backbone", ["unet1d", "transformer"])
def test_weights_go_on_with_other_classes(data: PreparedSet, backbone: str) -> None:
    network = dataclasses.replace(NETWORK, backbone=backbone, widths=(16, 16), attention_levels=())
    model = dataclasses.replace(tiny(), network=network)
    start = DenoiserTrainer(data, model, OPTIM).checkpoint()
    name = next(k for k in start.weights if k.endswith("label.weight"))
    config, weights = adapted(start, ("dog", "fish"))
    _, dog, none = start.weights[name]
    torch.testing.assert_close(weights[name], torch.stack([dog, none, none]))
    assert config.classes == ("dog", "fish")
    assert config.codec == start.config.codec
    both = dataclasses.replace(data, classes=("dog", "fish"))
    tuned = DenoiserTrainer(both, config, OPTIM, weights=weights)
    assert [r.iteration for r in tuned.run(2)] == [1, 2]
    drawn = SketchKnitter(tuned.checkpoint()).sample("fish", 2, steps=2)
    assert [s.label for s in drawn] == ["fish", "fish"]


# -- pens ------------------------------------------------------------------------------------------
def test_threshold_lifts_as_often_as_it_should() -> None:
    p = np.array([0.9, 0.8, 0.3, 0.2, 0.1, 0.05])
    assert threshold(p, 2) == 0.5
    assert threshold(p, 3) == pytest.approx(0.25)
    assert threshold(p, 1) == pytest.approx(0.85)
    assert threshold(p, 0) == pytest.approx(0.95)
    assert threshold(p, 6) == pytest.approx(0.05)


class _Timid(torch.nn.Module):
    """Knows every pen, but timidly: P(lift) is 0.2 where the pen lifts, else 0.1."""

    def __init__(self, inner: torch.nn.Module, pens: list[torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.queue = inner, pens
        self.schedule, self.length_given = inner.schedule, True

    def state(self, xy: torch.Tensor, pen: torch.Tensor) -> torch.Tensor:
        self.queue.append(pen)
        return self.inner.state(xy, pen)

    def forward(self, x_t, t, label, mask):  # type: ignore[no-untyped-def]
        lift = torch.where(self.queue.pop() == 1, 0.2, 0.1)
        pen = torch.stack([1 - lift, lift, torch.zeros_like(lift)], dim=-1).clamp(min=1e-9).log()
        return dataclasses.replace(self.inner(x_t, t, label, mask), head=pen)


def test_calibration_finds_the_threshold_of_a_timid_head(data: PreparedSet) -> None:
    trainer = DenoiserTrainer(data, tiny(pens="head"), OPTIM)
    found = calibrate_pens(_Timid(trainer.denoiser, []), trainer.model.codec, data.valid)  # type: ignore[arg-type]
    assert 0.1 < found.pen_break < 0.2
    assert found.f1 == 1
    assert found.drawings == 12
    assert 0.1 < found.lift_rate < 0.35


# -- the run's folder ------------------------------------------------------------------------------
def test_a_run_leaves_everything_behind(data: PreparedSet, tmp_path: Path) -> None:
    optim = dataclasses.replace(OPTIM, ema_rate="0.3,0.99")
    said: list[str] = []
    training = DenoiserRun(
        DenoiserTrainer(data, tiny(), optim),
        tmp_path / "run",
        save_interval=6,
        log_interval=4,
        record={"command": "x"},
        say=said.append,
    )
    assert training.go()
    names = {p.name for p in (tmp_path / "run").iterdir()} - {"tensorboard"}
    assert names == {
        "log.jsonl",
        "state.safetensors",
        "model.safetensors",
        "model-ema0.99.safetensors",
        "previews",
        "loss.png",
    }
    previews = sorted(p.name for p in (tmp_path / "run" / "previews").iterdir())
    assert previews == ["00000006.png", "00000012.png"]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in log if "loss" in r] == [4, 8, 12]
    judged = [r for r in log if "valid_loss" in r]
    assert [r["iteration"] for r in judged] == [6, 12]
    assert all(math.isfinite(r["train_loss"]) for r in judged)
    assert len(said) == 2
    model = Checkpoint.load(tmp_path / "run" / "model.safetensors")
    assert model.record["command"] == "x"
    assert model.record["updates"] == 12
    assert model.record["losses"]["valid_loss"] == judged[-1]["valid_loss"]
    assert model.record["sha256"] == digest(model.weights) == training.digests()[0]
    assert model.config.codec.pen_break == judged[-1]["pen_break"]
    other = Checkpoint.load(tmp_path / "run" / "model-ema0.99.safetensors")
    assert digest(other.weights) != digest(model.weights)


def test_a_resumed_run_that_is_stopped_at_once_keeps_its_threshold(
    data: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = PenCalibration(0.31, 0.9, 0.2, 12)
    monkeypatch.setattr(run, "calibrate_pens", lambda *args: found)
    assert DenoiserRun(DenoiserTrainer(data, tiny(), OPTIM), tmp_path).go(6)
    again = DenoiserRun(DenoiserTrainer(data, tiny(), OPTIM), tmp_path)
    again.resume()
    assert not again.go(stop=lambda: True)
    made = Checkpoint.load(tmp_path / "model.safetensors")
    assert made.record["updates"] == 7
    assert made.config.codec.pen_break == 0.31
    assert made.record["pens"] == found.to_dict()
    assert "valid_loss" in made.record["losses"]


def test_tensorboard_reads_the_log(data: PreparedSet, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    DenoiserRun(
        DenoiserTrainer(data, tiny(), OPTIM), tmp_path, save_interval=6, log_interval=4
    ).go()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"loss", "grad_norm", "lr", "valid_loss"} <= set(events.Tags()["scalars"])
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for key in ("loss", "valid_loss"):
        seen = [(e.step, e.value) for e in events.Scalars(key)]
        assert seen == [(r["iteration"], pytest.approx(r[key], rel=1e-6)) for r in log if key in r]


def test_the_log_forgets_what_a_killed_run_wrote_too_much(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"iteration": 10, "loss": 1}\n{"iteration": 20, "loss": 2}\n{"iterat')
    log = Log(path)
    log.back_to(10)
    assert path.read_text() == '{"iteration": 10, "loss": 1}\n'
    log.add({"iteration": 20, "loss": math.nan})
    assert json.loads(path.read_text().splitlines()[1]) == {"iteration": 20, "loss": None}
    assert log.series("loss", "x").points(True) == [(10.0, 1.0)]


# -- the plot --------------------------------------------------------------------------------------
def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 10) == pytest.approx([0, 2, 4, 6, 8, 10])
    assert ticks(0.013, 0.029) == pytest.approx([0.015, 0.02, 0.025])
    assert ticks(3, 3) == [3]


@pytest.mark.parametrize("log_y", [False, True])
def test_a_falling_line_falls(log_y: bool) -> None:
    picture = np.asarray(lines([Series("", [0, 50, 100], [3.0, 2.0, 1.0])], log_y=log_y))
    blue = (picture[..., 2].astype(int) - picture[..., 0]) > 25
    blue[:56] = False  # the legend
    rows, columns = np.nonzero(blue)
    assert np.corrcoef(rows, columns)[0, 1] > 0.97
    assert np.ptp(columns) > 600


def test_a_plot_of_nothing_is_still_a_plot() -> None:
    picture = lines([Series("a", [], []), Series("b", [1.0], [math.nan])], title="empty")
    assert picture.size == (760, 440)
