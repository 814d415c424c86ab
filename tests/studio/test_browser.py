"""The page in a real browser: Debian's Chromium, moved by Playwright."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from sketchknitter import Sketch, io

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
if not CHROMIUM:
    pytest.skip("no Chromium here", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ARGS = ["--no-sandbox", "--disable-gpu"]
HERE = Path(__file__).parent
ROLES = {"button", "combobox", "radio", "slider", "spinbutton", "switch", "tab"}


class Studio:
    """A studio in a process of its own, which can be killed and started again."""

    def __init__(self) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(HERE / "serve_tiny.py"), str(self.port)]
        self.process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        for _ in range(1200):
            try:
                urlopen(self.address, timeout=1).close()
                return
            except (URLError, TimeoutError):
                assert self.process.poll() is None, "the studio has ended"
                time.sleep(0.05)
        self.process.kill()
        raise AssertionError("the studio has not opened within a minute")

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.wait(10)


@pytest.fixture(scope="module", name="studio")
def _studio() -> Iterator[Studio]:
    studio = Studio()
    yield studio
    studio.end(signal.SIGINT)
    assert studio.process.returncode == 0  # Ctrl-C is a clean end


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


class Page:
    """A person before the page: draws in px of the paper, 0 … 1000."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        self.devices = page.context.new_cdp_session(page)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: Any) -> None:
        # a refused message, or a server that is killed, makes the browser complain: rightly
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.page.locator("body[data-server=ready]").wait_for(timeout=60000)

    def place(self, x: float, y: float) -> tuple[float, float]:
        box = self.page.locator("#paper").bounding_box()
        view = self.page.evaluate("() => document.getElementById('paper').view")
        return (
            box["x"] + view["x"] + view["scale"] * x,
            box["y"] + view["y"] + view["scale"] * y,
        )

    def draw(self, *points: tuple[float, float]) -> None:
        """A stroke with the mouse."""
        self.page.mouse.move(*self.place(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.place(*point))
        self.page.mouse.up()

    def ring(self, x: float = 500, y: float = 500, r: float = 200) -> None:
        turn = [i * math.tau / 16 for i in range(17)]
        self.draw(*[(x + r * math.cos(a), y + r * math.sin(a)) for a in turn])

    def pen(self, kind: str, x: float, y: float) -> None:
        """``kind``: mousePressed, mouseMoved or mouseReleased, of a pen."""
        at = self.place(x, y)
        held = {"button": "left", "buttons": int(kind != "mouseReleased"), "clickCount": 1}
        message = {"type": kind, "x": at[0], "y": at[1], "pointerType": "pen", **held}
        self.devices.send("Input.dispatchMouseEvent", message)

    def fingers(self, kind: str, *places: tuple[float, float]) -> None:
        """``kind``: touchStart, touchMove or touchEnd, with the fingers that are down."""
        at = [self.place(*p) for p in places]
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(at)]
        self.devices.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    @property
    def strokes(self) -> list[Any]:
        """What is kept in the browser."""
        self.page.wait_for_timeout(160)
        kept = self.page.evaluate("() => JSON.parse(localStorage['sketchknitter.studio.1'])")
        return kept["drawing"]["now"]

    def strokes_come_to(self, count: int) -> None:
        for _ in range(100):
            if len(self.strokes) == count:
                return
        raise AssertionError(f"{len(self.strokes)} strokes, not {count}")

    def click(self, name: str) -> None:
        self.page.locator(name).click()

    def endings(self, count: int = 6) -> Any:
        """Wait for endings."""
        cells = self.page.locator("#endings .cell:enabled")
        cells.nth(count - 1).wait_for(timeout=60000)
        return cells

    def download(self, form: str, path: Path) -> Path:
        self.click("#save")
        self.page.locator(f"input[value={form}]").check(force=True)
        with self.page.expect_download() as found:
            self.click("#download")
        found.value.save_as(path)
        return path


@pytest.fixture(name="page")
def _page(browser: Any, studio: Studio) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1100, "height": 720}, reduced_motion="reduce")
    page = Page(context.new_page())
    page.open(studio.address)
    yield page
    context.close()
    assert page.faults == []


def test_draw_take_an_ending_undo_and_save(page: Page, tmp_path: Path) -> None:
    page.ring()
    assert len(page.strokes) == 1
    assert len(page.strokes[0]["p"]) > 16
    cells = page.endings()
    assert page.page.locator("#count").inner_text() == "1 of 6"
    page.click("#next")
    assert cells.nth(1).get_attribute("aria-pressed") == "true"
    page.click("#take")
    taken = page.strokes
    assert len(taken) > 1
    assert [s["by"] for s in taken][:2] == ["me", "model"]
    page.page.keyboard.press("Control+z")
    assert len(page.strokes) == 1
    page.page.keyboard.press("Control+Shift+z")
    assert page.strokes == taken
    sheet = page.download("plotter", tmp_path / "sheet.svg").read_text()
    assert 'width="210mm"' in sheet
    assert 'height="297mm"' in sheet
    back = Sketch.open(page.download("svg", tmp_path / "d.svg"))
    assert len(back) == len(taken)
    for stroke, kept in zip(back.strokes, taken, strict=True):
        assert np.abs(stroke[[0, -1]] - np.array(kept["p"])[[0, -1]]).max() < 0.06


def test_take_a_single_stroke_of_an_ending_and_go_on_from_there(page: Page) -> None:
    page.ring()
    page.endings()
    offered = page.page.evaluate("() => document.getElementById('paper').offered")
    middle = offered[0][len(offered[0]) // 2]
    page.page.mouse.click(*page.place(*middle))
    take = page.page.locator("#take")
    assert take.inner_text() == "Take 1 stroke"
    page.page.mouse.click(*page.place(*middle))
    assert take.inner_text() == "Take it"
    page.page.mouse.click(*page.place(*middle))
    seed = page.page.locator("#seed").input_value()
    page.click("#from-here")
    strokes = page.strokes
    assert [s["by"] for s in strokes] == ["me", "model"]
    assert strokes[1]["p"] == offered[0]
    page.endings()  # the others begin there
    assert page.page.locator("#seed").input_value() != seed


def test_a_finished_drawing_is_said_to_be_finished(page: Page) -> None:
    toast = page.page.locator("#toast", has_text="looks finished")

    def nothing_new(route: Any) -> None:
        strokes = route.request.post_data_json["strokes"]
        drawn = {"drawing": {"index": 0, "strokes": strokes, "new": [], "label": None}}
        events = (("drawn", drawn), ("done", {}))
        body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    page.ring()
    page.endings()
    assert toast.count() == 0
    page.page.route("**/complete", nothing_new)
    page.draw((300, 300), (700, 700))
    toast.wait_for()


def test_drawings_outlive_a_reload(page: Page, studio: Studio) -> None:
    page.ring()
    page.draw((300, 300), (700, 700))
    before = page.strokes
    page.open(studio.address)
    assert page.strokes == before
    page.click("#undo")
    assert page.strokes == before[:1]


def test_a_second_window_does_not_write_over_the_first(page: Page, studio: Studio) -> None:
    page.draw((300, 300), (700, 700))
    before = page.strokes
    other = Page(page.page.context.new_page())
    other.open(studio.address)
    page.draw((300, 700), (700, 300))
    assert len(page.strokes) == 2
    other.page.goto("about:blank")  # nothing was drawn there: nothing is kept from there
    other.page.close()
    page.open(studio.address)
    assert len(page.strokes) == 2
    assert page.strokes[:1] == before
    assert other.faults == []


def test_corners_stay_corners_and_tremor_goes(page: Page) -> None:
    side = [300 + 10 * i for i in range(41)]
    box = [
        *((x, 300 + i % 2) for i, x in enumerate(side)),
        *((700 + i % 2, y) for i, y in enumerate(side)),
    ]
    page.draw(*box)
    (stroke,) = page.strokes
    points = np.array(stroke["p"])
    assert np.hypot(*(points - [700, 300]).T).min() < 4
    assert np.minimum(abs(points[:, 1] - 300), abs(points[:, 0] - 700)).max() < 2
    assert len(points) < 10  # two straight lines, of 82 places with a tremor


def test_events_between_two_frames_are_drawn(page: Page) -> None:
    page.page.mouse.move(*page.place(200, 500))
    page.page.mouse.down()
    places = [page.place(x, y) for x, y in ((300, 300), (400, 600), (500, 300), (600, 600))]
    page.page.evaluate(
        """places => {
          const mouse = { pointerId: 1, pointerType: "mouse", isPrimary: true, buttons: 1 };
          const event = ([clientX, clientY], more = {}) =>
            new PointerEvent("pointermove", { ...mouse, clientX, clientY, ...more });
          const coalescedEvents = places.map((p) => event(p));
          document.getElementById("paper").dispatchEvent(event(places.at(-1), { coalescedEvents }));
        }""",
        places,
    )
    page.page.mouse.up()
    (stroke,) = page.strokes
    for corner in ((300, 300), (400, 600), (500, 300)):
        assert np.hypot(*(np.array(stroke["p"]) - corner).T).min() < 4


def test_erase_rub_move_lock_clear(page: Page) -> None:
    page.draw((100, 200), (900, 200))
    page.draw((100, 500), (900, 500))
    page.draw((100, 800), (900, 800))
    page.click("[data-tool=lock]")
    page.page.mouse.click(*page.place(500, 800))
    assert [s.get("locked", False) for s in page.strokes] == [False, False, True]
    page.click("[data-tool=erase]")
    page.draw((500, 100), (500, 300))
    assert len(page.strokes) == 2
    page.draw((500, 700), (500, 900))  # locked: stays
    assert len(page.strokes) == 2
    page.click("[data-tool=rub]")
    page.draw((500, 470), (500, 530))
    assert len(page.strokes) == 3  # one became two
    page.click("[data-tool=move]")
    page.draw((200, 500), (200, 300))
    assert [s["p"][0][1] for s in page.strokes].count(300) == 1
    page.page.keyboard.press("ArrowDown")
    assert 310 in [s["p"][0][1] for s in page.strokes]
    page.click("#clear")
    assert [s.get("locked") for s in page.strokes] == [True]


def test_heal_shows_before_and_after(page: Page) -> None:
    page.ring()
    before = page.strokes
    page.click("#tab-heal")
    page.page.locator("#strength").fill("0.5")
    page.page.locator("#compare:enabled").wait_for(timeout=60000)
    page.page.locator("#compare").fill("0")
    assert page.page.locator("#compare-out").inner_text() == "before"
    page.click("#take")
    after = page.strokes
    assert after
    assert after != before
    assert all(s["by"] == "model" for s in after)


def test_vary_new_blend_and_film(page: Page) -> None:
    page.click("#tab-new")
    page.click("#new-now")
    page.page.locator("#page .cell:enabled").nth(8).wait_for(timeout=60000)
    page.click("#film")
    assert page.page.locator("#film-bar").is_visible()
    assert int(page.page.locator("#film-at").get_attribute("max")) > 3
    page.click("#film-close")
    page.click("#take")
    assert page.strokes
    page.click("#tab-blend")
    page.click(".cell.add")
    page.click("#tab-vary")
    page.click("#vary-now")
    page.page.locator("#variations .cell:enabled").nth(8).wait_for(timeout=60000)
    page.page.locator("#variations .cell").nth(2).click()
    page.click("#take")
    page.click("#tab-blend")
    page.click("#blend-now")
    page.page.locator("#between:enabled").wait_for(timeout=60000)
    page.page.locator("#between").fill("4")
    assert page.page.locator("#between-out").inner_text() == "5 of 9"


def test_a_pen_draws_and_the_palm_does_not(page: Page) -> None:
    page.fingers("touchStart", (800, 800))  # the palm lands first
    page.fingers("touchMove", (820, 820))
    page.pen("mousePressed", 200, 200)
    page.pen("mouseMoved", 300, 250)
    page.fingers("touchMove", (850, 850))
    page.pen("mouseMoved", 400, 300)
    page.fingers("touchEnd")
    page.pen("mouseReleased", 400, 300)
    (stroke,) = page.strokes
    assert stroke["p"][0] == pytest.approx([200, 200], abs=2)
    page.fingers("touchStart", (100, 800))
    page.fingers("touchMove", (300, 900))
    page.fingers("touchEnd")
    assert len(page.strokes) == 1  # a pen was seen: from now on only the pen draws
    assert page.page.locator("#pen-only").is_checked()


def test_a_finger_draws_and_two_fingers_do_not(page: Page) -> None:
    page.fingers("touchStart", (100, 100))
    page.fingers("touchMove", (200, 300))
    page.fingers("touchMove", (300, 300))
    page.fingers("touchEnd")
    assert len(page.strokes) == 1
    page.fingers("touchStart", (100, 800))
    page.fingers("touchMove", (200, 800))
    page.fingers("touchStart", (200, 800), (900, 800))
    page.fingers("touchMove", (300, 900), (800, 800))
    page.fingers("touchEnd")
    assert len(page.strokes) == 1


def test_keys_alone_draw(page: Page) -> None:
    page.page.locator("#paper").focus()
    for key in ("ArrowRight", "Space", "ArrowRight", "Shift+ArrowDown", "Shift+ArrowDown", "Space"):
        page.page.keyboard.press(key)
    (stroke,) = page.strokes
    assert stroke["p"] == [[510, 500], [520, 500], [520, 550], [520, 600]]


def test_whatever_can_be_pressed_has_a_name(page: Page) -> None:
    page.ring()
    page.endings()
    found: set[str] = set()
    for place in ("#tab-finish", "#tab-heal", "#tab-vary", "#tab-blend", "#tab-new", "#save"):
        page.click(place)
        page.page.locator("#plotter").evaluate("sheet => { sheet.hidden = false; }")
        for node in page.devices.send("Accessibility.getFullAXTree")["nodes"]:
            role = node.get("role", {}).get("value")
            if role in ROLES and not node["ignored"]:
                assert node["name"]["value"].strip(), (place, node)
                found.add(role)
    assert found == ROLES


def test_an_address_holds_drawing_and_seed(page: Page, studio: Studio) -> None:
    page.draw((100, 100), (500, 300), (900, 100))
    page.page.locator("#seed").fill("1234")
    page.page.locator("#seed").press("Tab")
    assert "seed=1234" in page.page.url
    page.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    page.click("#link")
    page.page.wait_for_url("**d=*")
    address = page.page.url
    other = Page(page.page.context.browser.new_page())
    other.open(address)
    assert other.page.locator("#seed").input_value() == "1234"
    ends = [other.strokes[0]["p"][i] for i in (0, -1)]
    assert np.abs(np.array(ends) - [[100, 100], [900, 100]]).max() <= 2
    other.page.close()
    assert other.faults == []


def test_dropped_files_are_opened(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "two.ndjson"
    one = Sketch([[[0, 0], [300, 0], [300, 300.0]]], "corner")
    io.write([one, one], path)
    page.page.locator("#file").set_input_files(path)
    page.page.locator("#opened .cell").nth(1).click()
    assert len(page.strokes) == 1
    bad = tmp_path / "bad.svg"
    bad.write_text("<svg")
    page.page.locator("#file").set_input_files(bad)
    page.page.locator("#toast", has_text="bad.svg").wait_for()
    page.page.evaluate(  # the same file dropped on the page
        """text => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([text], "one.ndjson"));
          dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
        }""",
        path.read_text().splitlines()[0],
    )
    page.page.wait_for_function("document.getElementById('redo').disabled")
    page.strokes_come_to(1)


def test_the_model_takes_its_turn(page: Page) -> None:
    page.page.locator("input[value=turns]").check(force=True)
    assert page.page.locator("#most").is_disabled()  # a stroke each
    page.ring()
    page.strokes_come_to(2)
    page.draw((300, 300), (700, 700))
    page.strokes_come_to(4)
    assert [s["by"] for s in page.strokes] == ["me", "model", "me", "model"]
    page.click("#undo")
    page.page.wait_for_timeout(400)
    assert len(page.strokes) == 3  # what is undone stays undone, until one draws or asks
    page.click("#finish-now")
    page.strokes_come_to(4)


def test_the_page_recovers_when_the_server_is_killed_in_the_middle(
    page: Page, studio: Studio
) -> None:
    page.ring()
    page.page.locator("body.busy").wait_for()
    studio.end()
    page.page.locator("body[data-server=away]").wait_for(timeout=60000)
    page.draw((300, 300), (700, 700))  # the paper is at hand meanwhile
    assert len(page.strokes) == 2
    studio.start()
    page.page.locator("body[data-server=ready]").wait_for(timeout=60000)
    page.endings()  # what was asked for is asked for again
    page.click("#take")
    assert len(page.strokes) > 2


def test_the_page_fits_a_phone(browser: Any, studio: Studio) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 680}, has_touch=True)
    page = Page(context.new_page())
    page.open(studio.address)
    wide = page.page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= 360
    box = page.page.locator("#paper").bounding_box()
    assert box["height"] >= 300
    context.close()
    assert page.faults == []
