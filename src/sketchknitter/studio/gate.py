"""Who may ask for what: names, origins, tokens, sizes, rates; and what a browser must not do.

A server on 127.0.0.1 is within reach of every page that its owner visits: foreign pages may send
requests to it (hence the check of ``Origin``), and a name whose address changes to 127.0.0.1 makes
a foreign page a page of ours (DNS rebinding; hence the check of ``Host``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sketchknitter.studio.messages import Error, error_body

Scope = MutableMapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
COOKIE = "sketchknitter_token"
CLIENT = re.compile(r"[A-Za-z0-9_-]{1,64}")

MAX_BODY = 2 << 20  # bytes of a message
MAX_FILE = 8 << 20  # bytes of a drawing file
MAX_OPEN = 128  # requests that are served at once
BODY_SECONDS = 10.0  # for a message to arrive
CLIENT_RATE, CLIENT_BURST = 12.0, 40.0  # requests a second of one page
ADDRESS_RATE, ADDRESS_BURST = 200.0, 500.0  # requests a second of one machine
REMEMBERED = 2048  # clients whose rates are counted

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}


class Refused(Exception):
    """A request that is answered at the gate."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Rates:
    """Token buckets by name, the ones longest unused forgotten.

    Args:
        rate: tokens that come back in a second.
        burst: tokens of a full bucket.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float) -> bool:
        """Whether ``name`` has a token left at ``now`` seconds; one is taken."""
        left, then = self._buckets.pop(name, (self.burst, now))
        left = min(self.burst, left + max(0.0, now - then) * self.rate)
        self._buckets[name] = (left - 1 if left >= 1 else left, now)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return left >= 1


class Gate:
    """ASGI middleware before everything else.

    Args:
        app: what is guarded.
        hosts: names and addresses under which the server is asked for.
        token: a secret without which nothing is answered; None asks for none.
    """

    def __init__(
        self, app: App, hosts: frozenset[str] = LOOPBACK, token: str | None = None
    ) -> None:
        self.app, self.hosts, self.token = app, hosts, token
        self._clients = Rates(CLIENT_RATE, CLIENT_BURST)
        self._addresses = Rates(ADDRESS_RATE, ADDRESS_BURST)
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1003})
            return
        self._open += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self._open -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        guarded = _with_headers(send)
        try:
            self._check_host(headers)
            _check_origin(scope, headers)
            if self.token is not None and await self._ask_token(scope, headers, guarded):
                return
            if scope["path"].startswith("/api/"):
                self._check_rate(scope, headers)
                receive = await _whole_body(scope, headers, receive)
        except Refused as refused:
            await _refuse(guarded, refused)
            return
        await self.app(scope, receive, guarded)

    def _check_host(self, headers: dict[str, str]) -> None:
        host = _name(headers.get("host", ""))
        if host in self.hosts or (self.token is not None and _is_address(host)):
            return
        raise Refused(421, "host", "this server does not go by that name")

    async def _ask_token(self, scope: Scope, headers: dict[str, str], send: Send) -> bool:
        """Whether the request is answered already: an address with the token becomes a cookie."""
        assert self.token is not None
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not given:
            try:
                cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
            except CookieError:
                cookie = None
            given = cookie.value if cookie else ""
        if _same(given, self.token):
            return False
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and _same(asked, self.token):
            cookie_text = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            fields = [(b"location", b"/"), (b"set-cookie", cookie_text.encode())]
            await send({"type": "http.response.start", "status": 303, "headers": fields})
            await send({"type": "http.response.body", "body": b""})
            return True
        raise Refused(401, "token", "open the address with ?token=… that the server printed")

    def _check_rate(self, scope: Scope, headers: dict[str, str]) -> None:
        now = monotonic()
        address = scope["client"][0] if scope.get("client") else ""
        client = headers.get("x-studio-client", "")
        if client and not CLIENT.fullmatch(client):
            raise Refused(422, "client", "X-Studio-Client: at most 64 letters, digits, - and _")
        if not self._addresses.take(address, now):
            raise Refused(429, "rate", "too many requests; try again in a second")
        if client and not self._clients.take(f"{address} {client}", now):
            raise Refused(429, "rate", "too many requests; try again in a second")
        if self._open > MAX_OPEN:
            raise Refused(429, "busy", "too many requests at once; try again in a moment")


def _name(host: str) -> str:
    """``Host`` without its port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    """Whether a name is an address: those cannot be bent to point elsewhere."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _same(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode(), secret.encode())


def _check_origin(scope: Scope, headers: dict[str, str]) -> None:
    """A browser names the page that sends a request; only our own may."""
    origin = headers.get("origin")
    if origin is not None and origin != f"{scope['scheme']}://{headers.get('host', '')}":
        raise Refused(403, "origin", "requests of other pages are not answered")
    site = headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return
    # following a link to the page is no attack; anything else from elsewhere may be one
    if headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET":
        return
    raise Refused(403, "origin", "requests of other pages are not answered")


async def _whole_body(scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
    """Read a body within its limits; returns a ``receive`` that hands it on in one piece.

    Raises:
        Refused: larger than allowed, or slower.
    """
    most = MAX_FILE if scope["path"].endswith("/open") else MAX_BODY
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length[:20]) > most:
        raise Refused(413, "too_large", f"at most {most >> 20} MiB are taken")
    try:
        body = await asyncio.wait_for(_read(receive, most), BODY_SECONDS)
    except TimeoutError:
        raise Refused(408, "slow", f"a message arrives within {BODY_SECONDS:g} s or not") from None
    first: list[ASGIMessage] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> ASGIMessage:
        return first.pop() if first else await receive()

    return replay


async def _read(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "gone", "the message was cut short")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise Refused(413, "too_large", f"at most {most >> 20} MiB are taken")
        if not message.get("more_body"):
            return b"".join(parts)


def _with_headers(send: Send) -> Send:
    extra = [(k.encode(), v.encode()) for k, v in HEADERS.items()]

    async def guarded(message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *extra]
        await send(message)

    return guarded


async def _refuse(send: Send, refused: Refused) -> None:
    body = error_body(Error(refused.code, str(refused)))
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what was not read of the message is not waited for
    ]
    if refused.status == 429:
        fields.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": refused.status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
