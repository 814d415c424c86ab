"""A sliver of everything, end to end: killed midway, gone on with, and the same figures."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sketchknitter.data.dataset import PreparedSet
from sketchknitter.experiments.declare import open_table, read_table
from sketchknitter.experiments.report import write_all
from sketchknitter.experiments.results import Results, run_table
from sketchknitter.experiments.runner import Silent
from sketchknitter.experiments.steps import Context
from sketchknitter.metrics.judge.network import load_judge
from sketchknitter.reports.document import number


class Notes(Silent):
    """Remembers what was begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.total = self.done = 0.0

    def plan(self, total: float, finished: float) -> None:
        self.total, self.done = total, finished

    def start(self, what: str) -> None:
        self.begun.append(what)

    def tick(self, work: float) -> None:
        self.done += work


def go(data: PreparedSet, folder: Path, jobs: int = 1) -> tuple[Results, Notes]:
    notes = Notes()
    context = Context(data, load_judge())
    results = run_table(open_table("sliver"), context, folder, notes, jobs)
    write_all(results, folder)
    return results, notes


@pytest.fixture(scope="module")
def whole(prepared: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder = tmp_path_factory.mktemp("whole")
    return folder, *go(prepared, folder)


def killed(data: Path, folder: Path) -> None:
    """Run the command and kill it in the middle of training the second model."""
    call = "from sketchknitter.cli import main; main()"
    words = ["table", "--preset", "sliver", "-o", str(folder), "--data-dir", str(data)]
    words += ["--jobs", "1", "--threads", "1"]  # one model after the other
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", call, *words], env=environment)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            models = list(folder.glob("cache/model-*"))
            half = [m for m in models if (m / "state.safetensors").exists()]
            half = [m for m in half if not (m / "done.json").exists()]
            if half and any((m / "done.json").exists() for m in models):
                break
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.timeout(900)  # three processes on a busy machine
def test_killed_midway_it_goes_on_and_says_the_same(
    whole: tuple, prepared: PreparedSet, tmp_path: Path
) -> None:
    killed(prepared.path, tmp_path)
    done = list(tmp_path.glob("cache/model-*/done.json"))
    assert len(done) == 1
    stamp = done[0].stat().st_mtime_ns
    assert not (tmp_path / "results.csv").exists()
    _, notes = go(prepared, tmp_path, jobs=2)  # goes on in two processes
    assert done[0].stat().st_mtime_ns == stamp
    assert "training paper" not in notes.begun
    assert "training points" in notes.begun
    assert (tmp_path / "results.csv").read_bytes() == (whole[0] / "results.csv").read_bytes()
    for log in tmp_path.glob("cache/model-*/log.jsonl"):
        seen = [json.loads(line)["iteration"] for line in log.read_text().splitlines()]
        assert seen == sorted(seen)


def test_again_nothing_is_left_to_do(whole: tuple, prepared: PreparedSet) -> None:
    folder, _, first = whole
    before = (folder / "results.csv").read_bytes()
    _, notes = go(prepared, folder)
    assert [what for what in notes.begun if not what.startswith("trying ")] == []
    assert notes.done == notes.total > 0
    assert (folder / "results.csv").read_bytes() == before
    assert first.done == pytest.approx(first.total, rel=0.35)  # an estimate, and a bar that fills


def test_every_row_has_its_figures(whole: tuple) -> None:
    folder, results, _ = whole
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    fid = {
        (r["group"], r["row"]): r
        for r in rows
        if r["metric"] == "fid_sketch" and r["fold"] == "all"
    }
    names = {name for _, name in fid}
    assert {"Linear-DDIM, S = 5", "Point-Shuffle (all points), S = 5"} <= names
    assert "real, points shuffled and reconnected" in names
    assert ("clamp", "S = 5, clamp 1.0") in fid
    linear = fid["table", "Linear-DDIM, S = 5"]
    assert (linear["n"], linear["seeds"]) == ("8", "2")
    assert float(linear["spread"]) > 0
    assert float(linear["mean"]) > 3 * float(linear["floor"]) > 0
    assert float(linear["published"]) == pytest.approx((11.9 + 13.3) / 2)
    assert fid["table", "Quadratic-DDIM, S = 5"]["spread"] == ""
    assert fid["clamp", "real against real (floor)"]["n"] == "4"
    assert {r["fold"] for r in rows} == {"all", "Simple", "Moderate"}
    assert not any("nan" in v.lower() for r in rows for v in (r["mean"], r["spread"], r["floor"]))
    assert results.floors["table"].drawings == {"all": 8, "Simple": 4, "Moderate": 4}
    # the clamp changes drawings of one model and one seed
    assert fid["clamp", "S = 5, clamp none"]["mean"] != fid["clamp", "S = 5, clamp 1.0"]["mean"]


def test_the_reports_say_what_a_reader_must_know(whole: tuple) -> None:
    folder, results, _ = whole
    text = (folder / "results.md").read_text()
    page = (folder / "report.html").read_text()
    for said in (
        "not comparable with ours in absolute value",
        "real against real (floor)",
        "Spearman",
        "batches of 4 on 1 thread(s)",
        "What clamping the estimates of x_0 does",
        "Simple: apple",
        "one seed: Quadratic-DDIM, S = 5; Point-Shuffle",
    ):
        assert said in text
        assert said in page
    if results.omitted:
        assert "## Left out" in text
    assert page.count("<svg") == 7 - len(results.omitted)  # one page of drawings for each row
    assert page.count("data:image/png") == 3  # two plots of losses, all rows side by side
    assert (folder / "drawings.png").stat().st_size > 5_000
    assert 'src="http' not in page
    assert "href=" not in page
    assert len(page) < 2_000_000
    assert "56,517" in text  # parameters
    assert "26 × 8" in text  # updates
    timing = (folder / "timing.csv").read_text().splitlines()
    assert len(timing) == 7 - len(results.omitted)


def test_chunks_are_shared_between_groups(whole: tuple) -> None:
    """The first four drawings of a row of eight are those of a row of four."""
    folder, results, _ = whole
    sizes = [json.loads(p.read_text())["n"] for p in folder.glob("cache/drawings-*/key.json")]
    # 2 seeds × 2 chunks for one row, 1 seed for two or three others; of the group of four
    # drawings only the clamped row has anything of its own to draw
    assert sizes == [4] * (4 + 2 + 2 + 1 + 2 * (not results.omitted))


def test_one_model_against_steps(whole: tuple, prepared: PreparedSet, tmp_path: Path) -> None:
    """What the frontier does: a model given as a file, crossed rows, a plot, paired differences."""
    source = next(p for p in whole[0].glob("cache/model-*") if _name(p) == "paper")
    content = {
        "measure": {"drawings": 8, "seeds": 2, "geometry_repeats": 0, "copies": False},
        "plot": ["steps", "{sampler}"],
        "compare": ["ddim 4"],
        "models": {"given": {"kind": "pretrained", "source": str(source / "model.safetensors")}},
        # a row that says less than the plot's lines are named by is in the table alone
        "rows": [{"name": "2", "group": "frontier", "model": "given", "settings": {"steps": 2}}],
        "cross": [
            {
                "name": "{sampler} {steps}",
                "group": "frontier",
                "model": "given",
                "settings": {"guidance": 1.0},
                "axes": {"sampler": ["ddim"], "steps": [4, 2, 3]},
            },
            {
                "name": "{timesteps}",
                "group": "frontier",
                "model": "given",
                "optional": True,
                "settings": {"sampler": "ddim", "steps": 4, "guidance": 1.0},
                "axes": {"timesteps": ["shortcut"]},
            },
        ],
    }
    results = run_table(read_table(content, "t"), Context(prepared, load_judge()), tmp_path)
    rows = {r.row.name: r for r in results.groups["frontier"]}
    evaluations = {"2": 2, "ddim 2": 2, "ddim 3": 3, "ddim 4": 4}
    assert {n: r.evaluations for n, r in rows.items()} == evaluations
    assert rows["ddim 2"].facts.parameters == 56_517
    assert "no recognizability network" in results.omitted["frontier: shortcut"]
    # a row of the same name in another group stays
    twin = {"name": "shortcut", "model": "given", "settings": {"sampler": "ddim", "steps": 2}}
    results = run_table(
        read_table(content | {"rows": [*content["rows"], twin]}, "t"),
        Context(prepared, load_judge()),
        tmp_path,
    )
    assert list(results.omitted) == ["frontier: shortcut"]
    assert [r.row.name for r in results.groups["table"]] == ["shortcut"]
    names = {p.name for p in write_all(results, tmp_path)}
    assert "frontier.png" in names
    text = (tmp_path / "results.md").read_text()
    assert "### Against ddim 4" in text
    places = [text.index(f"\n| ddim {steps} |") for steps in (2, 3, 4)]
    assert places == sorted(places)  # whatever their order in the declaration
    base, low = (rows[n].figures["all"]["fid_sketch"] for n in ("ddim 4", "ddim 2"))
    apart = sum(a - b for a, b in zip(low, base, strict=True)) / 2
    assert f"| ddim 2 | {number(apart)} ±" in text
    assert "- S = 3: ddim 3" in text


def _name(part: Path) -> str:
    return json.loads((part / "done.json").read_text())["model"]
