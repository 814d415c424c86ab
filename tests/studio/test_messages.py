"""Messages that are wrong in every way get a typed error and never a server's fault."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from sketchknitter.studio import messages
from sketchknitter.studio.messages import BadMessage, parse

OK = [[[0, 0], [50, 0], [50, 50]]]
LINE = json.dumps(OK)


def refused(answer: Any) -> dict[str, Any]:
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()
    assert set(error) == {"code", "message", "where", "v"}
    assert error["code"]
    assert error["message"]
    return error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe\x00",
        b'{"strokes": []}',
        b'{"strokes": [[]]}',
        b'{"strokes": [[[0, 0, 0]]]}',
        b'{"strokes": [[["0", "1"]]]}',
        b'{"strokes": [[[true, 1]]]}',
        b'{"strokes": [[[NaN, 1]]]}',
        b'{"strokes": [[[Infinity, 1]]]}',
        b'{"strokes": [[[1e999, 1]]]}',
        b'{"strokes": [[[1e7, 1]]]}',
        b'{"strokes": [[[null, 1]]]}',
        f'{{"strokes": {LINE}, "n": 0}}'.encode(),
        f'{{"strokes": {LINE}, "n": 1.5}}'.encode(),
        f'{{"strokes": {LINE}, "n": 1000000}}'.encode(),
        f'{{"strokes": {LINE}, "seed": -1}}'.encode(),
        f'{{"strokes": {LINE}, "seed": {10**40}}}'.encode(),
        f'{{"strokes": {LINE}, "v": 2}}'.encode(),
        f'{{"strokes": {LINE}, "where": "nowhere"}}'.encode(),
        f'{{"strokes": {LINE}, "tidy": 2}}'.encode(),
        f'{{"strokes": {LINE}, "keep": [1]}}'.encode(),
        f'{{"strokes": {LINE}, "surprise": 1}}'.encode(),
        f'{{"strokes": {LINE}, "label": "{"x" * 101}"}}'.encode(),
        f'{{"strokes": {LINE}, "label": 3}}'.encode(),
        b"[" * 200_000,
        b'{"strokes":' * 50_000,
        b'{"strokes":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda b: repr(b[:40]),
)
def test_malformed_messages(client: TestClient, body: bytes) -> None:
    refused(client.post("/api/v1/complete", content=body))


def test_the_place_of_a_fault_is_named(client: TestClient) -> None:
    body = json.dumps({"strokes": [OK[0], [[0, 0], [1, "x"]]]})
    assert refused(client.post("/api/v1/heal", content=body))["where"] == "strokes.1.1.1"


@pytest.mark.parametrize("verb", ["complete", "heal", "vary", "guess"])
def test_too_many_strokes_or_points(client: TestClient, verb: str) -> None:
    many = [OK[0]] * (messages.MAX_STROKES + 1)
    refused(client.post(f"/api/v1/{verb}", json={"strokes": many}))
    long = [[[i, i % 7] for i in range(3000)]] * 7
    error = refused(client.post(f"/api/v1/{verb}", json={"strokes": long}))
    assert str(messages.MAX_POINTS) in error["message"]


def test_huge_messages(client: TestClient) -> None:
    body = b'{"strokes": [[' + b"[0,0]," * 500_000 + b"[0,0]]]}"
    assert refused(client.post("/api/v1/complete", content=body))["code"] == "too_large"


def test_unknown_places_and_methods(client: TestClient) -> None:
    assert refused(client.post("/api/v1/paint", json={}))["code"] in ("not_found", "method")
    assert refused(client.get("/api/v1/complete"))["code"] in ("not_found", "method")
    assert refused(client.get("/api/v2/model"))["code"] == "not_found"
    assert refused(client.get("/../../etc/passwd"))["code"] == "not_found"
    assert refused(client.get("/%2e%2e/app.py"))["code"] == "not_found"


def test_the_margins_of_a_sheet_leave_paper() -> None:
    with pytest.raises(BadMessage, match="no paper"):
        parse(messages.Paper, b'{"width": 100, "height": 50, "margin": 25}')


def test_the_schema_names_every_verb(client: TestClient) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    for verb in ("guess", "complete", "heal", "vary", "interpolate", "sample", "open", "export"):
        assert f"/api/v1/{verb}" in schema["paths"]
    body = schema["paths"]["/api/v1/complete"]["post"]["requestBody"]
    assert "strokes" in body["content"]["application/json"]["schema"]["properties"]
