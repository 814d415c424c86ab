"""Who is let in: names, origins, tokens, rates, slow and huge messages; what browsers are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient

from sketchknitter.errors import UserError
from sketchknitter.studio import gate
from sketchknitter.studio.app import PAGE, create_app
from sketchknitter.studio.gate import Gate, Rates
from sketchknitter.studio.server import bound, run
from sketchknitter.studio.worker import Worker
from tiny_model import tiny


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", ""]
)
def test_other_names_are_not_answered(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["code"] == "host"


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:1", "[::1]:8765", "LOCALHOST"])
def test_our_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1234"},
        {"origin": "https://127.0.0.1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_other_pages_are_not_answered(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/api/v1/guess", json={"strokes": [[[0, 0], [9, 9]]]}, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["code"] == "origin"


def test_our_page_and_links_to_it_are_answered(client: TestClient) -> None:
    own = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
    assert client.get("/api/v1/model", headers=own).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200


def test_no_code_in_the_page_and_none_from_elsewhere(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8")
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        if file.suffix == ".html":
            assert " style=" not in text
            assert " onclick=" not in text


def test_the_page_is_small() -> None:
    assert sum(f.stat().st_size for f in PAGE.iterdir()) <= 200_000


def test_every_file_of_the_page_is_served_as_what_it_is(client: TestClient) -> None:
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    for file in PAGE.iterdir():
        answer = client.get(f"/{file.name}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        if file.suffix in kinds:
            assert answer.headers["content-type"].startswith(kinds[file.suffix])


# -- tokens ----------------------------------------------------------------------------------------
@pytest.fixture(name="guarded")
def _guarded() -> TestClient:
    app = create_app(Worker(tiny), token="a-long-secret")
    client = TestClient(app, base_url="http://192.168.1.5:8765", follow_redirects=False)
    return client  # not entered: no model is needed here


def test_without_the_token_nothing_is_answered(guarded: TestClient) -> None:
    for path in ("/", "/main.js", "/api/v1/model", "/?token=wrong"):
        assert guarded.get(path).status_code == 401
    wrong = {"authorization": "Bearer a-long-secreT"}
    assert guarded.get("/api/v1/model", headers=wrong).status_code == 401
    strange = {"cookie": 'sketchknitter_token="; x=;;=,'}
    assert guarded.get("/api/v1/model", headers=strange).status_code == 401


def test_the_token_opens_by_address_and_by_header(guarded: TestClient) -> None:
    header = {"authorization": "Bearer a-long-secret"}
    assert guarded.get("/api/v1/model", headers=header).status_code == 200
    answer = guarded.get("/?token=a-long-secret")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]
    assert guarded.get("/").status_code == 200  # the cookie is kept


def test_a_name_that_could_be_rebound_is_not_answered_even_with_a_token(
    guarded: TestClient,
) -> None:
    headers = {"host": "evil.example", "authorization": "Bearer a-long-secret"}
    assert guarded.get("/", headers=headers).status_code == 421


def test_other_machines_are_let_in_with_a_token_alone() -> None:
    with pytest.raises(UserError, match="--token"):
        run(tiny, host="0.0.0.0", port=0, browser=False)


def test_a_port_that_is_taken_is_named() -> None:
    with bound("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken"):
            bound("127.0.0.1", port)


# -- how much and how fast -------------------------------------------------------------------------
def test_rates_let_through_what_comes_back() -> None:
    rates = Rates(rate=2.0, burst=3.0)
    assert [rates.take("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert rates.take("b", 0.0)
    assert [rates.take("a", 1.0) for _ in range(3)] == [True, True, False]


def test_rates_forget_the_oldest() -> None:
    rates = Rates(rate=1.0, burst=1.0)
    for i in range(3 * gate.REMEMBERED):
        rates.take(str(i), float(i))
    assert len(rates._buckets) == gate.REMEMBERED


def test_a_page_that_asks_too_often_is_slowed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = gate.monotonic()
    monkeypatch.setattr(gate, "monotonic", lambda: now)

    def code(name: str) -> int:
        return client.get("/api/v1/model", headers={"x-studio-client": name}).status_code

    codes = [code("hasty") for _ in range(60)]
    assert codes == [200] * 40 + [429] * 20
    assert code("patient") == 200
    now += 1
    assert code("hasty") == 200


def test_strange_clients_are_refused(client: TestClient) -> None:
    headers = {"x-studio-client": "../../x"}
    assert client.get("/api/v1/model", headers=headers).status_code == 422


def answered(scope: dict[str, Any], receive: Any) -> list[dict[str, Any]]:
    """What the gate sends when nothing behind it is reached."""

    async def behind(*unused: object) -> None:
        raise AssertionError("let in")

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Gate(behind)(scope, receive, send))
    return sent


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/api/v1/complete",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 1),
    }


def test_a_message_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.05)

    async def drip() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    assert answered(scope(), drip)[0]["status"] == 408


def test_a_message_without_length_is_cut_at_the_limit() -> None:
    async def flood() -> dict[str, Any]:
        return {"type": "http.request", "body": b" " * 65536, "more_body": True}

    assert answered(scope(), flood)[0]["status"] == 413


@pytest.mark.parametrize("length", [b"99999999999", b"9" * 5000, b"-1", b"x", b"\xc2\xb2"])
def test_lengths_that_lie_or_are_too_large(length: bytes) -> None:
    async def never() -> dict[str, Any]:
        raise AssertionError("read")

    assert answered(scope((b"content-length", length)), never)[0]["status"] == 413


def test_a_message_cut_short_is_no_fault_of_ours() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    assert answered(scope(), gone)[0]["status"] == 400
