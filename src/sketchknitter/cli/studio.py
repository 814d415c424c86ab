"""``sketchknitter studio``: draw in the browser, the model answers while one draws."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from sketchknitter.errors import UserError

if TYPE_CHECKING:
    from sketchknitter.editing.model import SketchKnitter

DESCRIPTION = """Open a page to draw on; the model finishes, heals and varies what one draws.

Nothing leaves this machine. Needs the extra: pip install 'sketchknitter[studio]'.

examples:
  sketchknitter studio
  sketchknitter studio --port 8765 --no-browser
  sketchknitter studio --model-path runs/mine/model.safetensors
  sketchknitter studio --host 0.0.0.0 --token a-long-secret
"""


@dataclass(frozen=True)
class StudioOptions:
    """Where the studio is, and what draws there."""

    port: int = 8765
    """0 takes any that is free"""
    host: str = "127.0.0.1"
    """address to listen at; any but this machine's own asks for --token"""
    token: str = ""
    """a secret that the page's address has to carry"""
    browser: bool = True
    """open the page at once"""
    model_path: str = ""
    """a .safetensors file, a run's folder, a hub id; nothing is the shipped model"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    threads: int = 1
    """processor threads of the network, which is too small for more; 0 is torch's choice"""


def run(argv: list[str]) -> None:
    """Serve the studio until Ctrl-C."""
    options = tyro.cli(
        StudioOptions,
        args=argv,
        prog="sketchknitter studio",
        description=DESCRIPTION,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    _check(options)
    from sketchknitter.studio import server

    def load() -> SketchKnitter:
        from sketchknitter.cli.process import pick_device
        from sketchknitter.editing.model import SketchKnitter

        return SketchKnitter.from_pretrained(
            options.model_path or None, pick_device(options.device)
        )

    def say(text: str) -> None:
        print(text, flush=True)

    server.run(
        load,
        host=options.host,
        port=options.port,
        token=options.token or None,
        threads=options.threads,
        browser=options.browser,
        say=say,
    )


def _check(options: StudioOptions) -> None:
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"the studio needs {' and '.join(missing)}: pip install 'sketchknitter[studio]'"
        )
    if not 0 <= options.port < 65536:
        raise UserError(f"--port must lie in 0 … 65535, not {options.port}")
    if options.threads < 0:
        raise UserError(f"--threads must not be negative, not {options.threads}")
    if options.token and not re.fullmatch(r"[A-Za-z0-9._~-]{8,200}", options.token):
        raise UserError("--token takes 8 to 200 letters, digits, and any of - . _ ~")
