"""Shared by all tests: real drawings, one torch thread, fixed seeds."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # two threads on busy cores are slower than one
# a shell that starts the tests in the background lets them, and all they start, ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real drawings that SKETCHKNITTER_DATA names; the test is skipped without."""
    place = os.environ.get("SKETCHKNITTER_DATA")
    if not place:
        pytest.skip("SKETCHKNITTER_DATA is not set")
    if not Path(place).is_dir():
        pytest.fail(f"SKETCHKNITTER_DATA={place} is no folder")
    return Path(place)


@pytest.fixture(scope="session")
def random_rows() -> Callable[..., list[np.ndarray]]:
    """``random_rows(count, low, high, seed)``: stroke-3 drawings of whole px, (n, 3) int16."""

    def make(
        count: int = 8, low: int = 2, high: int = 20, seed: int = 0, lift: float = 0.2
    ) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        out = []
        for n in rng.integers(low, high, count, endpoint=True):
            steps = rng.normal(0, 12, (n, 2)).round()
            pens = rng.random(n) < lift
            pens[-1] = True
            out.append(np.column_stack([steps, pens]).astype(np.int16))
        return out

    return make


@pytest.fixture(scope="session")
def write_archives(random_rows: Callable[..., list[np.ndarray]]) -> Callable[..., Path]:
    """``write_archives(folder, counts, names)``: an archive in sketch-rnn's form for each class, of
    so many random drawings for train, valid and test."""

    def write(
        folder: Path, counts: tuple[int, int, int] = (20, 6, 3), names: Sequence[str] = CLASSES
    ) -> Path:
        for k, name in enumerate(names):
            parts = {}
            for j, (split, n) in enumerate(zip(("train", "valid", "test"), counts, strict=True)):
                parts[split] = np.empty(n, dtype=object)
                parts[split][:] = random_rows(n, seed=10 * k + j)
            np.savez(folder / f"{name}.npz", **parts)
        return folder

    return write


NO_BROWSER = "no Chromium here"  # the one thing that a machine may be without
_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and NO_BROWSER not in str(report.longrepr):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything must be there (``SKETCHKNITTER_NO_SKIPS``, as in .ci/run) a skip is a
    failure, but for the page's tests on a machine without a browser."""
    if os.environ.get("SKETCHKNITTER_NO_SKIPS") and _skipped and session.exitstatus == 0:
        print(f"\n{len(_skipped)} skipped, and nothing may be: {', '.join(_skipped[:5])}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
