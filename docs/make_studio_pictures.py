"""Makes the pictures of docs/studio.md: the page in its main states, in a real browser.

    python docs/make_studio_pictures.py [--only NAME] [--model-path FILE]

Needs Chromium and playwright. Starts the studio, with the shipped weights if nothing else is said,
and draws with the mouse; all seeds are fixed.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

PICTURES = Path(__file__).parent / "pictures"
WAIT = 120_000  # ms: a busy machine may take its time

Points = list[tuple[float, float]]


def oval(x: float, y: float, w: float, h: float, start: float = -1.5, turn: float = 6.5) -> Points:
    """An oval as a hand draws it: a little more than once around, not quite true."""
    out = []
    for i in range(70):
        a = start + turn * i / 69
        wobble = 1 + 0.02 * math.sin(3 * a + 1) + 0.012 * i / 69
        out.append((x + w * wobble * math.cos(a), y + h * wobble * math.sin(a)))
    return out


def line(*corners: tuple[float, float]) -> Points:
    """A hand's way through some corners."""
    out = [corners[0]]
    for (ax, ay), (bx, by) in pairwise(corners):
        for k in range(1, 13):
            u = k / 12
            sway = 3 * math.sin(math.pi * u)
            out.append((ax + u * (bx - ax) + sway, ay + u * (by - ay) - sway))
    return out


FACE = [oval(500, 470, 270, 310), oval(400, 390, 34, 26, 0.3)]
CAT = [
    oval(500, 540, 255, 215),
    line((320, 400), (300, 190), (430, 335)),
    line((575, 335), (700, 185), (685, 405)),
    oval(415, 500, 18, 20),
]


class Person:
    """Somebody before the page."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.page.goto(address)
        self.page.locator("body[data-server=ready]").wait_for(timeout=WAIT)

    def draw(self, points: Points) -> None:
        box = self.page.locator("#paper").bounding_box()
        view = self.page.evaluate("() => document.getElementById('paper').view")
        left, top, scale = box["x"] + view["x"], box["y"] + view["y"], view["scale"]
        at = [(left + scale * x, top + scale * y) for x, y in points]
        self.page.mouse.move(*at[0])
        self.page.mouse.down()
        for point in at[1:]:
            self.page.mouse.move(*point)
        self.page.mouse.up()

    def wait(self, cells: str, count: int) -> None:
        self.page.locator(f"{cells} .cell:enabled").nth(count - 1).wait_for(timeout=WAIT)
        self.page.wait_for_timeout(1500)  # the ghost is drawn stroke by stroke

    def picture(self, name: str) -> None:
        self.page.mouse.move(2, 2)
        self.page.screenshot(path=PICTURES / f"studio-{name}.png")
        print(f"studio-{name}.png", flush=True)


def finish(browser: Any, address: str) -> None:
    one = Person(browser, f"{address}#seed=2", viewport={"width": 1280, "height": 800})
    for stroke in CAT:
        one.draw(stroke)
    one.wait("#endings", 6)
    one.picture("finish")


def heal(browser: Any, address: str) -> None:
    one = Person(browser, f"{address}#seed=3", viewport={"width": 1280, "height": 800})
    one.page.locator("input[value=wait]").check(force=True)
    for stroke in [
        *CAT,
        oval(590, 505, 20, 17),
        line((480, 590), (520, 590), (500, 620), (480, 590)),
    ]:
        shaken = [(x + 14 * math.sin(i * 1.7), y + 14 * math.cos(i * 2.3)) for i, (x, y) in
                  enumerate(stroke)]  # fmt: skip
        one.draw(shaken)
    one.page.click("#tab-heal")
    one.page.locator("#strength").fill("0.2")
    one.page.locator("#compare:enabled").wait_for(timeout=WAIT)
    one.page.locator("#compare").fill("0.75")
    one.picture("heal")


def vary(browser: Any, address: str) -> None:
    one = Person(
        browser,
        f"{address}#seed=5",
        viewport={"width": 1280, "height": 800},
        color_scheme="dark",
    )
    one.page.locator("input[value=wait]").check(force=True)
    for stroke in [*CAT, oval(590, 505, 20, 17), line((450, 620), (500, 645), (550, 615))]:
        one.draw(stroke)
    one.page.click("#tab-vary")
    one.page.click("#vary-now")
    one.wait("#variations", 9)
    one.picture("vary")


def new(browser: Any, address: str) -> None:
    one = Person(browser, f"{address}#seed=12", viewport={"width": 1280, "height": 800})
    one.page.click("#tab-new")
    one.page.locator("#new-class").select_option("pig")
    one.page.click("#new-now")
    one.wait("#page", 9)
    one.picture("new")


def phone(browser: Any, address: str) -> None:
    one = Person(
        browser,
        f"{address}#seed=2",
        viewport={"width": 390, "height": 844},
        device_scale_factor=2,
        has_touch=True,
    )
    for stroke in FACE:
        one.draw(stroke)
    one.wait("#endings", 6)
    one.picture("phone")


STATES = {f.__name__: f for f in (finish, heal, vary, new, phone)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", choices=STATES)
    parser.add_argument("--model-path", default="", help="default: the shipped model")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = "from sketchknitter.cli import main; main()"
    words = ["studio", "--port", str(port), "--no-browser", "--model-path", options.model_path]
    studio = subprocess.Popen(
        [sys.executable, "-c", command, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(300):
            try:
                urlopen(address, timeout=1).close()
                break
            except (URLError, TimeoutError):
                time.sleep(0.2)
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("chromium-browser")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for name, state in STATES.items():
                if options.only in (None, name):
                    state(browser, address)
            browser.close()
    finally:
        studio.send_signal(signal.SIGINT)
        studio.wait(10)


if __name__ == "__main__":
    main()
