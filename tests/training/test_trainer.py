"""The generic trainer and run, on an objective that has nothing to do with drawings."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, multiprocessing, nn

from sketchknitter.errors import UserError
from sketchknitter.files import read_tensors
from sketchknitter.seeds import Stream
from sketchknitter.settings import TrainingConfig
from sketchknitter.training import optimizers
from sketchknitter.training.objective import Loss, Remembers, Streams
from sketchknitter.training.run import LOCK, Lock, Run, Saved
from sketchknitter.training.trainer import Trainer

CONFIG = TrainingConfig(iterations=40, batch_size=8, warmup=4, lr=0.02, ema_rate="0.5")


class Doubling:
    """Learns y = 2 x from jittered x; every row counts as often as its number says."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 3))

    def loss(self, batch: Tensor, streams: Streams) -> Loss:
        jitter = np.stack([rng.normal(size=3) for rng in streams.each(Stream.NOISE)])
        shared = streams.whole(Stream.NOISE).random(streams.size)[streams.rows]
        x = batch + 0.01 * torch.from_numpy(jitter).to(batch)
        count = 1 + torch.from_numpy((4 * shared).astype(np.int64))
        error = ((self.network(x) - 2 * batch) ** 2).sum(dim=1)
        return Loss(error * count, count)


class Watching(Doubling):
    """One that remembers which rows it saw cost what."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = np.zeros(8)

    def observe(self, streams: Streams, losses: np.ndarray) -> None:
        assert streams.rows.tolist() == list(range(8))
        self.seen += losses

    def state(self) -> dict[str, np.ndarray]:
        return {"seen": self.seen}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.seen[:] = state["seen"]


def source(iteration: int) -> Any:
    return torch.from_numpy(np.random.default_rng(iteration).normal(size=(8, 3))).float()


def trainer(config: TrainingConfig = CONFIG, objective: Any = None, **options: Any) -> Trainer[Any]:
    return Trainer(objective or Doubling(), source, config, identity={"data": "x"}, **options)


# -- learning ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_it_learns(name: str) -> None:
    config = dataclasses.replace(CONFIG, optimizer=name, iterations=80)
    learner = trainer(config)
    losses = [u.loss for u in learner.run()]
    assert len(losses) == 80
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert learner.held_out([source(1000)]) < 0.5 * np.mean(losses[:5])


def test_microbatches_give_the_gradient_of_the_mean() -> None:
    whole = trainer()
    parts = trainer(dataclasses.replace(CONFIG, microbatch=3))
    for learner in (whole, parts):
        learner.network[1].p = 0.0  # dropout sees other rows in other pieces
    for a, b in zip(whole.run(3), parts.run(3), strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)


def test_weights_of_the_loss_change_the_gradient_and_not_the_report() -> None:
    class Weighted(Doubling):
        def loss(self, batch: Tensor, streams: Streams) -> Loss:
            return dataclasses.replace(super().loss(batch, streams), weight=torch.full((8,), 3.0))

    (one,), (three,) = (list(trainer(objective=o).run(1)) for o in (Doubling(), Weighted()))
    assert three.loss == pytest.approx(one.loss)
    assert three.grad_norm == pytest.approx(3 * one.grad_norm, rel=1e-5)


def test_a_budget_of_seconds_ends_it() -> None:
    learner = trainer(share=lambda updates, seconds: updates / 5, course=optimizers.one_cycle(0.1))
    rates = [u.lr for u in learner.run()]
    assert len(rates) == 5
    assert rates[1] > rates[-1] > 0


def test_a_source_of_the_wrong_size_is_a_fault() -> None:
    with pytest.raises(ValueError, match="instead of 8"):
        list(Trainer(Doubling(), lambda i: source(i)[:5], CONFIG).run(1))


# -- optimizers ----------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (3, 16, 16)])
def test_orthogonalized_steps_turn_and_hardly_stretch(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    out = optimizers.orthogonalized(x)
    torch.testing.assert_close(
        torch.linalg.svdvals(out),
        torch.ones(1).expand(torch.linalg.svdvals(out).shape),
        atol=0.5,
        rtol=0,
    )
    assert ((out * (u @ v)).sum() / (out.norm() * (u @ v).norm())).item() > 0.95


def _stacks() -> list[Tensor]:
    random = torch.Generator().manual_seed(4)
    shapes = (3, 6, 20), (1, 8, 8), (4, 20, 6)
    return [torch.randn(shape, generator=random) for shape in shapes]


def _sharing(rank: int, meeting: str, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2
    )
    counts: list[int] = []
    whole = optimizers.orthogonalized
    optimizers.orthogonalized = lambda x, steps=5: counts.append(len(x)) or whole(x, steps)  # type: ignore[func-returns-value]
    made = optimizers.shared_out(_stacks())
    torch.save({"made": made, "counts": counts}, Path(out, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


def test_processes_share_out_the_orthogonalization(tmp_path: Path) -> None:
    multiprocessing.spawn(_sharing, (str(tmp_path / "meeting"), str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert [first["counts"], second["counts"]] == [[2, 1, 2], [1, 0, 2]]
    for a, b, stack in zip(first["made"], second["made"], _stacks(), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, optimizers.orthogonalized(stack), atol=0.02, rtol=0.02)


def test_muon_takes_hidden_matrices_alone() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner, self.last = nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 2)
            self.label = nn.Embedding(4, 8)
            self.outer = (self.first, self.last)

    net = Net()
    assert optimizers.hidden_matrices(net) == [net.inner.weight]
    plain, muon = optimizers.optimizers("muon", net, 0.1, 0.0)
    assert muon.param_groups[0]["params"] == [net.inner.weight]
    count = sum(len(g["params"]) for g in plain.param_groups)
    assert count == len(list(net.parameters())) - 1


def test_muon_steps_have_adams_size() -> None:
    weight = nn.Parameter(torch.zeros(40, 60))
    weight.grad = torch.randn(40, 60, generator=torch.Generator().manual_seed(0)) * 1e-4
    optimizers.Muon([weight], lr=1.0, weight_decay=0.0).step()
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)


def test_restored_moments_stand_where_the_weights_are() -> None:
    """Fused AdamW counts its steps on the device of the weight, and refuses any other."""
    weight = nn.Parameter(torch.zeros(3, device="meta"))
    optimizer = torch.optim.AdamW([weight], fused=False)
    optimizer.param_groups[0]["fused"] = True  # as on a GPU; there is none for this test
    moments = {"step": torch.tensor(5.0), "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)}
    optimizers.restore(optimizer, {weight: moments})
    assert {k: v.device.type for k, v in optimizer.state[weight].items()} == dict.fromkeys(
        moments, "meta"
    )


# -- resuming ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_resuming_is_bit_for_bit(tmp_path: Path, name: str) -> None:
    config = dataclasses.replace(CONFIG, optimizer=name, ema_rate="0.5,0.9")
    straight = trainer(config, Watching())
    losses = [u.loss for u in straight.run()]
    first = trainer(config, Watching())
    before = [u.loss for u in first.run(13)]
    first.save_state(tmp_path / "s")
    torch.manual_seed(5)
    second = trainer(config, Watching())
    assert isinstance(second.objective, Remembers)
    second.load_state(tmp_path / "s")
    assert before + [u.loss for u in second.run()] == losses
    for a, b in zip(straight.weights(1).values(), second.weights(1).values(), strict=True):
        assert torch.equal(a, b)
    np.testing.assert_array_equal(straight.objective.seen, second.objective.seen)


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    trainer().save_state(tmp_path / "s")
    other = Trainer(Doubling(), source, CONFIG, identity={"data": "y"})
    with pytest.raises(UserError, match="another data"):
        other.load_state(tmp_path / "s")
    wide = Doubling()
    wide.network = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 3))
    with pytest.raises(UserError, match="does not fit"):
        trainer(objective=wide).load_state(tmp_path / "s")


# -- the run -------------------------------------------------------------------------------------
class Kept:
    """Products: a file with the number of saves."""

    def __init__(self) -> None:
        self.saves: list[bool] = []
        self.resumed = False

    def save(self, folder: Path, brief: bool) -> Saved:
        self.saves.append(brief)
        return Saved({} if brief else {"held_out": 1.0}, "fine")

    def resume(self, folder: Path) -> None:
        self.resumed = True


def test_a_run_saves_stops_and_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    kept = Kept()
    run = Run(trainer(), tmp_path, kept, save_interval=10, log_interval=5, say=said.append)
    assert not run.go(stop=lambda: run.trainer.iteration == 17)
    assert kept.saves == [False, True]
    assert said == ["update 10: fine"]
    again = Run(trainer(), tmp_path, kept, save_interval=10, log_interval=5)
    again.resume()
    assert kept.resumed
    assert again.go()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in log if "loss" in r] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert [r["iteration"] for r in log if "held_out" in r] == [10, 20, 30, 40]
    assert read_tensors(tmp_path / "state.safetensors")[1]["iteration"] == 40
    assert not (tmp_path / LOCK).exists()


def test_two_trainings_in_one_folder_refuse(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from sketchknitter.training.run import Lock\n"
        "lock = Lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on .* is training there"):
            Run(trainer(), tmp_path, Kept())
    finally:
        holder.kill()
        holder.wait()
    Run(trainer(), tmp_path, Kept()).close()  # the dead hold nothing
    assert LOCK not in os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="no such locks")
def test_the_folder_of_a_lock_that_was_just_let_go_is_held_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder removes its file between our opening and our locking it."""
    import fcntl

    first, flock = Lock(tmp_path), fcntl.flock

    def late(file: Any, how: int) -> None:
        first.release()
        flock(file, how)

    monkeypatch.setattr("sketchknitter.training.run.fcntl.flock", late)
    second = Lock(tmp_path)
    monkeypatch.undo()
    with pytest.raises(UserError, match=f"process {os.getpid()} on .* is training there"):
        Lock(tmp_path)
    second.release()


def test_each_part_of_a_run_holds_the_folder(tmp_path: Path) -> None:
    run = Run(trainer(), tmp_path, Kept())
    run.go(until=3)
    assert not (tmp_path / LOCK).exists()
    held: list[bool] = []
    run.go(until=5, report=lambda update: held.append((tmp_path / LOCK).exists()))
    assert held == [True, True]


def test_a_run_killed_before_its_first_save_leaves_no_lines(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"iteration": 5, "loss": 9.0}\n')
    run = Run(trainer(), tmp_path, Kept(), log_interval=10)
    run.go(until=10)
    assert run.log.curve("loss")[0][0] == 10
    assert len(run.log.read().curve("loss")) == 1


def test_what_clock_a_training_goes_by() -> None:
    made = Trainer(Doubling(), source, CONFIG, share=lambda updates, seconds: seconds / 10)
    made.cpu, made.seconds = 2.0, 4.0
    assert made.spent == pytest.approx(0.2)
    made.device = torch.device("cuda")
    assert made.spent == pytest.approx(0.4)


def test_a_kill_costs_a_minute_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("sketchknitter.training.run.time.monotonic", lambda: now[0])
    kept = Kept()
    run = Run(trainer(), tmp_path, kept, save_interval=30)
    at: list[int] = []

    def report(update: Any) -> None:
        if len(kept.saves) > len(at):
            at.append(update.iteration - 1)
        now[0] += 13.0  # seconds

    run.go(report=report)
    # the fifth update ends later than a minute after the last save, whatever that was for
    assert at == [5, 10, 15, 20, 25, 30, 35]
    assert kept.saves == [True] * 5 + [False, True, True, False]
