"""The studio's process: a socket, the application, a clean end."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import webbrowser
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING

import uvicorn

from sketchknitter.errors import UserError
from sketchknitter.studio.app import create_app
from sketchknitter.studio.gate import LOOPBACK
from sketchknitter.studio.worker import Worker

if TYPE_CHECKING:
    from sketchknitter.editing.model import SketchKnitter


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise UserError(
                f"port {port} is taken; --port names another, 0 takes any that is free"
            ) from None
        raise UserError(f"{host}, port {port} cannot be used: {error}") from None
    return sock


def run(
    load: Callable[[], SketchKnitter],
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
    threads: int = 0,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the studio until Ctrl-C.

    Args:
        load: returns the model.
        port: 0 takes any that is free.
        token: a secret that every request has to carry; needed beyond this machine.
        threads: of torch.
        browser: open the page.
        say: called with the page's address.

    Raises:
        UserError: the port is taken, or others could reach the studio without a token.
    """
    if not is_loopback(host) and not token:
        raise UserError(
            f"--host {host} lets other machines in: give a secret of your own with --token"
        )
    sock = bound(host, port)
    port = sock.getsockname()[1]
    names = LOOPBACK | {host.lower(), socket.gethostname().lower()}
    app = create_app(Worker(load, threads), frozenset(names), token)
    shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()
    shown = f"[{shown}]" if ":" in shown else shown
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    say(f"the studio is open at {address} (Ctrl-C ends it)")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=20,
        timeout_graceful_shutdown=1,
    )
    if browser:
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    with sock, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[sock])
