"""Drawing under torchrun: the drawings of one process, and no share drawn twice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sketchknitter import io
from sketchknitter.cli import main
from sketchknitter.cli.shares import Shares, fingerprint
from sketchknitter.data.chunks import Recipe
from sketchknitter.data.prepare import prepare
from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.model import DrawingModel
from tiny_model import tiny

N = 600  # three windows of 256


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny().save_pretrained(folder)
    return folder


def words(model: Path, out: Path) -> list[str]:
    return ["sample", "-n", str(N), "--steps", "2", "--model-path", str(model), "--device", "cpu",
            "-o", str(out)]  # fmt: skip


def drawings(path: Path) -> list[Sketch]:
    return list(io.read(path))


def torchrun(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*run, "-m", "sketchknitter", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_two_processes_draw_what_one_draws(model: Path, tmp_path: Path) -> None:
    main(words(model, tmp_path / "one.npz"))
    done = torchrun(words(model, tmp_path / "two.npz"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("two.npz: 600 sketches") == 1
    assert drawings(tmp_path / "two.npz") == drawings(tmp_path / "one.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.npz", "two.npz"]


def test_finished_shares_survive(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(words(model, tmp_path / "whole.npz"))
    out, asked = tmp_path / "lost.npz", []
    stream = DrawingModel.stream

    def watched(self: DrawingModel, *args: object, first: int = 0, **options: object) -> object:
        asked.append(first)
        if first == 256 and len(asked) == 2:
            raise KeyboardInterrupt  # the process is lost in its second share
        return stream(self, *args, first=first, **options)

    monkeypatch.setattr(DrawingModel, "stream", watched)
    (tmp_path / ".lost.npz.shares").mkdir()
    with pytest.raises(SystemExit):
        main(words(model, out))
    assert not out.exists()
    assert len(list((tmp_path / ".lost.npz.shares").iterdir())) == 1
    main(words(model, out))
    assert asked == [0, 256, 256, 512]
    assert drawings(out) == drawings(tmp_path / "whole.npz")
    assert not (tmp_path / ".lost.npz.shares").exists()


def test_shares_keep_every_digit(tmp_path: Path) -> None:
    odd = [Sketch([[(1 / 3, 2e-9)], [(0, 1), (np.pi, 5)]], "é"), Sketch([]), Sketch([[(7, 7)]])]
    shares = Shares(tmp_path / "a.svg", "0f", 2)

    def draw(k: int) -> Iterator[Sketch]:
        yield from odd[2 * k : 2 * k + 2]

    shares.draw(draw, 0, 1)
    assert list(shares.sketches()) == odd
    shares.path(1).write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match="a damaged share"):
        list(shares.sketches())


def test_other_drawings_have_other_shares() -> None:
    weights = tiny().denoiser.state_dict()
    one = fingerprint({"seed": 0}, weights)
    assert one == fingerprint({"seed": 0}, weights)
    assert one != fingerprint({"seed": 1}, weights)
    weights = {name: value + 1e-6 for name, value in weights.items()}
    assert one != fingerprint({"seed": 0}, weights)


def test_what_one_process_must_do(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        main(["sample", "--verbose"])


def test_two_processes_measure_what_one_measures(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    for kind in ("airplane", "apple", "cactus", "cat", "crab", "duck", "face", "pig"):
        (folder / f"{kind}.npz").symlink_to(data_dir / f"quickdraw/{kind}.npz")
    command = ["evaluate", f"{folder}:valid", "--against", str(folder),
               "--geometry-repeats", "0", "--no-copy-check"]  # fmt: skip
    main([*command, "-o", str(tmp_path / "one.json")])
    done = torchrun([*command, "-o", str(tmp_path / "two.json")])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to") == 1
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert figures(one) == figures(two)
    assert len(figures(one)) > 10
    assert not list(tmp_path.glob(".*.shares"))


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize(
    "join",
    [
        "from sketchknitter.cli.process import process_group; process_group('cpu').__enter__()",
        "from sketchknitter.cli.shares import processes; processes().__enter__()",
        "from sketchknitter.experiments.team import Team; team = Team.joined()",
    ],
)
def test_processes_end_when_their_torchrun_is_killed(join: str, tmp_path: Path) -> None:
    """torchrun gives them sessions of their own: no signal to its group reaches them."""
    script = tmp_path / "waits.py"
    script.write_text(
        f"import os, time\nfrom pathlib import Path\n{join}\n"
        f"Path({str(tmp_path)!r}, str(os.getpid())).touch()\ntime.sleep(120)\n"
    )
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launcher = subprocess.Popen([*run, str(script)], start_new_session=True)
    try:
        assert within(60, lambda: len(numbers(tmp_path)) == 2)
    finally:
        os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
    assert within(10, lambda: not any(Path(f"/proc/{pid}").exists() for pid in numbers(tmp_path)))


def numbers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.isdigit()]


def within(seconds: float, what: Callable[[], bool]) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


TABLE = """
title = "A sliver"
[measure]
drawings = 8
seeds = 2
geometry_repeats = 1
chunk = 4
batch_size = 4
[models.tiny]
network = { widths = [16, 24], num_res_blocks = 1, attention_levels = [], num_heads = 2 }
optim = { iterations = 4, batch_size = 8, warmup = 2 }
[[rows]]
name = "three steps"
model = "tiny"
settings = { steps = 3, guidance = 1.0 }
[[rows]]
name = "two steps"
model = "tiny"
settings = { steps = 2, guidance = 1.0 }
"""


@pytest.fixture(scope="module")
def real(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real drawings of two classes, prepared."""
    folder = tmp_path_factory.mktemp("few")
    for kind in ("apple", "crab"):
        drawn = list(io.read(data_dir / f"quickdraw/{kind}.npz", split="test"))[:60]
        io.write(drawn, folder / f"{kind}.ndjson")
    recipe = Recipe(split=(60, 20, 20))
    return prepare([folder], folder / "prepared", recipe, processes=1, progress=False).path


def results(folder: Path) -> str:
    """What was measured, without how long it took."""
    rows = csv.DictReader((folder / "results.csv").read_text().splitlines())
    return "".join(f"{r['group']} {r['row']} {r['metric']} {r['fold']} {r['mean']}\n" for r in rows)


def test_two_processes_make_the_table_of_one(real: Path, tmp_path: Path) -> None:
    (tmp_path / "sliver.toml").write_text(TABLE)
    command = ["table", "--preset", str(tmp_path / "sliver.toml"), "--data-dir", str(real)]
    main([*command, "-o", str(tmp_path / "one")])
    done = torchrun([*command, "-o", str(tmp_path / "two")])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written: ") == 1
    assert results(tmp_path / "two") == results(tmp_path / "one")
    assert results(tmp_path / "two").count("fid_sketch all") == 3  # and the floor
    again = torchrun([*command, "-o", str(tmp_path / "one")])  # nothing is left to do
    assert "training" not in again.stderr


def test_two_processes_measure_the_protocols_as_one(real: Path, tmp_path: Path) -> None:
    tiny(classes=("apple", "crab")).save_pretrained(tmp_path / "model")
    command = ["evaluate-condition", "--levels", "30", "--masks", "", "--cuts", "50",
               "--seeds", "1", "--per-class", "2", "--data-dir", str(real),
               "--model-path", str(tmp_path / "model")]  # fmt: skip
    main([*command, "-o", str(tmp_path / "one")])
    done = torchrun([*command, "-o", str(tmp_path / "two")])
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "two") == results(tmp_path / "one")
    assert results(tmp_path / "two").count("chamfer") > 4


def figures(report: object) -> list[float]:
    """All numbers with a fraction in a report, in order."""
    if isinstance(report, dict):
        return [f for key in report if "second" not in key for f in figures(report[key])]
    if isinstance(report, list):
        return [f for item in report for f in figures(item)]
    return [report] if isinstance(report, float) else []
