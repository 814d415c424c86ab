"""Drawings in and out over HTTP, hostile files among them."""

from __future__ import annotations

import io as bytes_io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from studio_talk import WAVE

from sketchknitter import Sketch, io
from sketchknitter.studio import files, messages, reading

DRAWING = Sketch([np.array(s) for s in WAVE], "cup")


def opened(client: TestClient, name: str, data: bytes) -> Any:
    return client.post("/api/v1/open", params={"name": name}, content=data)


@pytest.mark.parametrize("suffix", ["svg", "ndjson", "npz"])
def test_files_of_ours_come_back(client: TestClient, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"d.{suffix}"
    DRAWING.save(path)
    answer = opened(client, path.name, path.read_bytes())
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["drawings"]
    assert len(found["strokes"]) == len(WAVE)
    got = Sketch([np.array(s) for s in found["strokes"]])
    shift = got.points[0] - DRAWING.points[0]  # stroke-3 begins at the origin
    assert np.abs(got.points - shift - DRAWING.points).max() < 0.02


def test_many_drawings_are_offered_and_bad_ones_counted(client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "d.ndjson"
    io.write([DRAWING] * 3, path)
    data = path.read_bytes() + b'{"word": "x", "drawing": []}\n'
    answer = opened(client, "../../etc/d.ndjson", data).json()
    assert len(answer["drawings"]) == 3
    assert answer["skipped"] == 1
    assert answer["drawings"][0]["label"] == "cup"


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harmed"),))


def archive(member: bytes) -> bytes:
    out = bytes_io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("train.npy", member)
    return out.getvalue()


def pickled(thing: object) -> bytes:
    head = bytes_io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|O", "fortran_order": False, "shape": (1,)}
    )
    return archive(head.getvalue() + pickle.dumps(thing))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.svg", b""),
        ("a.svg", b"<svg"),
        ("a.svg", b'<!DOCTYPE x [<!ENTITY a "b">]><svg>&a;</svg>'),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><text>x</text></svg>"),
        ("a.ndjson", b"{" * 100_000),
        ("a.npz", b"PK\x03\x04" + b"\0" * 100),
        ("a.npz", pickled(Harm())),
        ("a.exe", b"MZ"),
        ("", b"x"),
        ("nul\0.svg", b"<svg/>"),
        ("🖼" * 200, b"x"),
    ],
    ids=lambda v: repr(v[:24]),
)
def test_files_that_cannot_be_read(client: TestClient, name: str, data: bytes) -> None:
    answer = opened(client, name, data)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["message"]
    assert not Path("harmed").exists()


def test_a_name_is_needed(client: TestClient) -> None:
    answer = client.post("/api/v1/open", content=b"x")
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid"


def test_a_file_that_holds_its_reader_is_given_up(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SECONDS", -4.9)  # a tenth of a second: Python takes longer to start
    answer = opened(client, "a.svg", b"<svg/>")
    assert answer.status_code == 422
    assert "more time or memory" in answer.json()["message"]


def test_limits_are_those_of_messages() -> None:
    assert reading.MAX_STROKES == messages.MAX_STROKES
    assert reading.MAX_POINTS == messages.MAX_POINTS


# -- out -------------------------------------------------------------------------------------------
def exported(client: TestClient, **message: Any) -> bytes:
    answer = client.post("/api/v1/export", json={"strokes": WAVE, **message})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"].startswith("attachment")
    return answer.content


@pytest.mark.parametrize("kind", ["svg", "ndjson"])
def test_what_is_taken_home_reads_back(client: TestClient, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"d.{kind}"
    path.write_bytes(exported(client, format=kind, label="cup"))
    back = Sketch.open(path)
    assert back.label == "cup"
    assert len(back) == 2
    assert np.abs(back.points - DRAWING.points).max() < 0.01


def test_pictures(client: TestClient) -> None:
    png = Image.open(bytes_io.BytesIO(exported(client, format="png", size=200)))
    assert png.size == (200, 200)
    assert np.asarray(png.convert("L")).min() < 50
    gif = Image.open(bytes_io.BytesIO(exported(client, format="gif", size=64, seconds=1)))
    assert gif.n_frames > 5


def test_a_sheet_for_the_plotter_is_in_mm_and_keeps_its_margin(
    client: TestClient, tmp_path: Path
) -> None:
    paper = {"width": 210, "height": 297, "margin": 20, "pen": 0.3}
    svg = exported(client, format="svg", paper=paper).decode()
    assert 'width="210mm"' in svg
    assert 'height="297mm"' in svg
    assert 'stroke-width="0.3"' in svg
    path = tmp_path / "sheet.svg"
    path.write_text(svg)
    x0, y0, x1, y1 = (v * 25.4 / 96 for v in Sketch.open(path).bounds)
    assert x0 == pytest.approx(20.15, abs=0.1)  # half a pen's width from the margin
    assert x1 == pytest.approx(189.85, abs=0.1)
    assert (y0 + y1) / 2 == pytest.approx(297 / 2, abs=0.1)


def test_a_dot_on_a_sheet(client: TestClient) -> None:
    paper = {"width": 100, "height": 100, "margin": 10}
    answer = client.post(
        "/api/v1/export", json={"strokes": [[[5, 5]]], "format": "svg", "paper": paper}
    )
    assert re.search(r"M50,50", answer.text)


def test_a_film_of_frames(client: TestClient) -> None:
    frames = [WAVE, WAVE[:1], WAVE]
    answer = client.post("/api/v1/film", json={"frames": frames, "size": 64})
    assert Image.open(bytes_io.BytesIO(answer.content)).n_frames == 3


@pytest.mark.parametrize(
    "message",
    [
        {"format": "pdf"},
        {"format": "png", "size": 10**6},
        {"format": "svg", "width": 0},
        {"format": "svg", "paper": {"width": 10, "height": 10, "margin": 5}},
        {"format": "svg", "paper": {"width": 1e9, "height": 10}},
        {"format": "gif", "seconds": 1e9},
        {"format": "svg", "label": "\ud800"},
    ],
    ids=str,
)
def test_files_that_cannot_be_made(client: TestClient, message: dict[str, Any]) -> None:
    body = json.dumps({"strokes": WAVE, **message})
    answer = client.post("/api/v1/export", content=body)
    assert answer.status_code == 422
    assert answer.json()["code"] in ("invalid", "unusable")
