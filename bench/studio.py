"""The studio under one hand and under twenty: how soon it answers, what it refuses, what it keeps.

    python bench/studio.py [--seconds 60] [--clients 20] [--model-path FILE] [--json FILE]

Starts ``sketchknitter studio`` with one torch thread. First one client finishes half drawings, one
after the other, by messages and, where there is Chromium, with a mouse on the page; then many
clients draw for a minute, each a stroke every two seconds, and one message in ten is garbage.
Prints percentiles; who draws on before a first ending has come counts with the time waited. Exits
with 1 if a server's fault (5xx) was seen, an answer was lost, or memory grew by more than a tenth.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

PAUSE = 2.0  # seconds between two strokes of a client
GARBAGE = (
    b"",
    b"{",
    b"null",
    b'{"strokes": [[[NaN, 0]]]}',
    b'{"strokes": [[[1e999, 0]]]}',
    b'{"strokes": "x"}',
    b'{"strokes": []}',
    b"[" * 100_000,
    b'{"strokes": [[' + b"[0,0]," * 400_000 + b"[0,0]]]}",
    b"\xff" * 1000,
)


@dataclass
class Tally:
    """What the clients saw."""

    frame: list[float] = field(default_factory=list)  # s to the first frame
    ending: list[float] = field(default_factory=list)  # s to the first finished ending
    done: list[float] = field(default_factory=list)  # s to the last one
    codes: dict[int, int] = field(default_factory=dict)
    superseded: int = 0
    late: int = 0  # first endings that were not waited for
    lost: int = 0


class Studio:
    """The command, in a process of its own."""

    def __init__(self, model_path: str = "") -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        command = "from sketchknitter.cli import main; main()"
        options = ["--port", str(self.port), "--no-browser", "--threads", "1", "--device", "cpu"]
        options += ["--model-path", model_path] if model_path else []
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, "studio", *options],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        while not self._ready():
            if self.process.poll() is not None:
                sys.exit("the studio has ended")
            time.sleep(0.2)

    def _ready(self) -> bool:
        try:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/api/v1/model")
            model = json.loads(connection.getresponse().read())
            if model["fault"]:
                sys.exit(model["fault"])
            return bool(model["ready"])
        except OSError:
            return False

    @property
    def memory(self) -> float:
        """Resident memory, MiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            line = next(line for line in f if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    @property
    def processor(self) -> float:
        """Processor seconds used so far, which do not depend on what else the machine does."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            words = f.read().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def ask(
    port: int, verb: str, body: bytes, client: str, tally: Tally, patience: float | None = None
) -> list[dict[str, Any]]:
    """One request; returns the drawings of its answer.

    Args:
        patience: seconds after which the client draws on and gives the answer up.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=patience or 120)
    start = time.perf_counter()
    drawings: list[dict[str, Any]] = []
    try:
        headers = {"content-type": "application/json", "x-studio-client": client}
        connection.request("POST", f"/api/v1/{verb}", body, headers)
        answer = connection.getresponse()
        tally.codes[answer.status] = tally.codes.get(answer.status, 0) + 1
        if answer.status != 200:
            if "code" not in json.loads(answer.read()):
                tally.lost += 1
            return []
        name, seen, last = "", False, ""
        for line in answer:
            now = time.perf_counter() - start
            if line.startswith(b"event: "):
                name = last = line[7:].strip().decode()
            elif line.startswith(b"data: ") and name in ("frame", "drawn", "error"):
                data = json.loads(line[6:])
                if name == "drawn":
                    if not drawings:
                        tally.ending.append(now)
                    drawings.append(data["drawing"])
                elif name == "error" and data["code"] == "superseded":
                    tally.superseded += 1
                if name == "frame" and not seen:
                    seen = True
                    tally.frame.append(now)
            if patience is not None and now > patience:
                raise TimeoutError
        if last == "done":
            tally.done.append(time.perf_counter() - start)
        elif last != "error":
            tally.lost += 1
    except TimeoutError:  # the connection is closed: the network stops
        if patience is None:
            tally.lost += 1
        elif not drawings:
            tally.late += 1
            tally.ending.append(time.perf_counter() - start)
    except (OSError, HTTPException, ValueError):
        tally.lost += 1
    finally:
        connection.close()
    return drawings


def percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    """Printed, and returned in ms."""
    if not seconds:
        print(f"  {name:<16} -")
        return {}
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    print(
        f"  {name:<16} median {at(0.5):6.0f}   p90 {at(0.9):6.0f}   p95 {at(0.95):6.0f}"
        f"   worst {1000 * ordered[-1]:6.0f} ms   ({len(ordered)})"
    )
    return {"median": at(0.5), "p90": at(0.9), "p95": at(0.95), "n": len(ordered)}


def halves(port: int, count: int) -> list[list[Any]]:
    """Unfinished drawings: the first half of the strokes of new ones."""
    tally = Tally()
    body = json.dumps({"n": 12, "seed": 1, "frames": False}).encode()
    drawn = ask(port, "sample", body, "halves", tally)
    out = [d["strokes"][: max(1, len(d["strokes"]) // 2)] for d in drawn]
    return [out[i % len(out)] for i in range(count)]


def one_hand(studio: Studio, count: int) -> dict[str, Any]:
    tally, first = Tally(), Tally()
    drawings = halves(studio.port, count)
    spent = []
    for n, seen in ((1, first), (6, tally)):
        before = studio.processor
        for i, strokes in enumerate(drawings):
            body = json.dumps({"strokes": strokes, "n": n, "seed": i}).encode()
            ask(studio.port, "complete", body, "one", seen)
        spent.append((studio.processor - before) / count)
    print(f"one client, {count} half drawings, six endings each, one thread:")
    print(f"  processor: {1000 * spent[0]:.0f} ms for one ending, {1000 * spent[1]:.0f} ms for six")
    return {
        "first_frame": percentiles("first frame", tally.frame),
        "first_ending": percentiles("first ending", tally.ending),
        "six_endings": percentiles("six endings", tally.done),
        "processor_s": spent,
    }


WATCH = """() => {
  const paper = document.getElementById("paper");
  let lifted = 0;
  window.seen = [];
  const painted = (name) => requestAnimationFrame((now) => {
    const last = window.seen.at(-1);
    if (last && !(name in last)) last[name] = performance.now() - lifted;
  });
  addEventListener("pointerup", () => {
    lifted = performance.now();
    window.seen.push({});
  }, true);
  Object.defineProperty(paper, "offered", { set: () => painted("frame") });
  const cells = document.getElementById("endings");
  new MutationObserver(() => {
    if (cells.querySelector(".cell:enabled")) painted("ending");
  }).observe(cells, { subtree: true, attributes: true, attributeFilter: ["disabled"] });
}"""


def in_the_page(studio: Studio, count: int) -> dict[str, Any]:
    """From the lift of the pen to what is painted, in a real browser: half drawings by mouse."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        print("in the page: no Chromium or no playwright here, not measured")
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"http://127.0.0.1:{studio.port}/#seed=1")
        page.locator("body[data-server=ready]").wait_for(timeout=60_000)
        page.evaluate(WATCH)
        box = page.locator("#paper").bounding_box()
        view = page.evaluate("() => document.getElementById('paper').view")
        for strokes in halves(studio.port, count):
            for stroke in strokes:
                at = [
                    (box["x"] + view["x"] + view["scale"] * (500 + 2 * x),
                     box["y"] + view["y"] + view["scale"] * (500 + 2 * y))
                    for x, y in stroke
                ]  # fmt: skip
                page.mouse.move(*at[0])
                page.mouse.down()
                for place in at[1:]:
                    page.mouse.move(*place)
                page.mouse.up()
                page.wait_for_function("() => 'ending' in window.seen.at(-1)", timeout=60_000)
            page.click("#clear")
        seen = page.evaluate("() => window.seen")
        browser.close()
    print(f"in the page, {count} half drawings, each stroke from the lift of the pen:")
    return {
        name: percentiles(f"first {name}", [s[name] / 1000 for s in seen if name in s])
        for name in ("frame", "ending")
    }


def draw_on(port: int, number: int, until: float, drawings: list[list[Any]], tally: Tally) -> None:
    """A client: a stroke more every two seconds; its older request is given up each time."""
    rng = random.Random(number)
    while time.monotonic() < until:
        strokes = rng.choice(drawings)
        for count in range(1, len(strokes) + 1):
            if rng.random() < 0.1:
                ask(port, "complete", rng.choice(GARBAGE), f"c{number}", tally)
            body = json.dumps({"strokes": strokes[:count], "n": 6, "seed": count}).encode()
            begin = time.monotonic()
            ask(port, "complete", body, f"c{number}", tally, patience=PAUSE)
            time.sleep(max(0.0, PAUSE - (time.monotonic() - begin)))


def many_hands(studio: Studio, clients: int, seconds: float) -> dict[str, Any]:
    drawings = halves(studio.port, 12)
    tallies = [Tally() for _ in range(clients)]
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=draw_on, args=(studio.port, i, until, drawings, tallies[i]))
        for i in range(clients)
    ]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 4)
    early = studio.memory
    for thread in threads:
        thread.join()
    late = studio.memory
    whole = Tally()
    for t in tallies:
        whole.frame += t.frame
        whole.ending += t.ending
        whole.done += t.done
        whole.lost += t.lost
        whole.late += t.late
        whole.superseded += t.superseded
        for code, count in t.codes.items():
            whole.codes[code] = whole.codes.get(code, 0) + count
    print(f"{clients} clients, {seconds:g} s, one message in ten garbage:")
    frame = percentiles("first frame", whole.frame)
    ending = percentiles("first ending", whole.ending)
    print(f"  drew on before the first ending: {whole.late}")
    print(f"  answers by status: {dict(sorted(whole.codes.items()))}; lost: {whole.lost}")
    print(f"  memory: {early:.0f} MiB after a quarter, {late:.0f} MiB at the end")
    return {
        "first_frame": frame,
        "first_ending": ending,
        "codes": whole.codes,
        "late": whole.late,
        "lost": whole.lost,
        "memory_mib": [early, late],
        "good": not (whole.lost or any(c >= 500 for c in whole.codes) or late > 1.1 * early),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--drawings", type=int, default=12, help="of the single client")
    parser.add_argument("--model-path", default="", help="default: the shipped model")
    parser.add_argument("--json", help="file for the figures")
    options = parser.parse_args()
    studio = Studio(options.model_path)
    try:
        one = one_hand(studio, options.drawings)
        page = in_the_page(studio, options.drawings)
        many = many_hands(studio, options.clients, options.seconds)
    finally:
        studio.end()
    if options.json:
        Path(options.json).write_text(
            json.dumps({"one": one, "page": page, "many": many}, indent=1)
        )
    sys.exit(0 if many["good"] else 1)


if __name__ == "__main__":
    main()
