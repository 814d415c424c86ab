"""The server: messages in, server-sent events and files out, and the page itself."""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

import sketchknitter
from sketchknitter.errors import UserError
from sketchknitter.studio import files, messages
from sketchknitter.studio.gate import LOOPBACK, Gate
from sketchknitter.studio.messages import VERSION, BadMessage, Error, parse
from sketchknitter.studio.worker import Busy, Worker

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
API = f"/api/v{VERSION}"
VERBS: dict[str, Any] = {
    "guess": messages.Guess,
    "complete": messages.Complete,
    "heal": messages.Heal,
    "vary": messages.Vary,
    "interpolate": messages.Interpolate,
    "sample": messages.Sample,
}
FILE_TURNS = 2  # files read or written at once
FILE_QUEUE = 16  # that wait for it

for suffix, kind in ((".js", "text/javascript"), (".css", "text/css"), (".svg", "image/svg+xml")):
    mimetypes.add_type(kind, suffix)  # a Windows registry may say otherwise


def create_app(
    worker: Worker, hosts: frozenset[str] = LOOPBACK, token: str | None = None
) -> FastAPI:
    """The studio as an ASGI application; the worker runs as long as it does.

    Args:
        hosts: names under which the server may be asked for.
        token: a secret without which nothing is answered.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()

    app = FastAPI(
        title="sketchknitter studio",
        version=sketchknitter.__version__,
        lifespan=lifespan,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
    )
    app.add_middleware(Gate, hosts=hosts, token=token)
    _add_errors(app)
    _add_model(app, worker)
    for name, kind in VERBS.items():
        _add_verb(app, worker, name, kind)
    _add_files(app)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def answer(status: int, code: str, message: str, where: str = "") -> JSONResponse:
    """An error in the form that every answer has."""
    error = Error(code, message, where)
    content = {"code": error.code, "message": error.message, "where": where, "v": VERSION}
    headers = {"retry-after": "1"} if status == 429 else None
    return JSONResponse(content, status, headers)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(BadMessage)
    async def bad(request: Request, error: BadMessage) -> Response:
        return answer(422, "invalid", str(error), error.where)

    @app.exception_handler(RequestValidationError)
    async def field(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer(422, "invalid", first["msg"], ".".join(map(str, first["loc"])))

    @app.exception_handler(UserError)
    async def unusable(request: Request, error: UserError) -> Response:
        return answer(422, "unusable", str(error))

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        return answer(429, "busy", str(error))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        codes = {404: "not_found", 405: "method"}
        return answer(error.status_code, codes.get(error.status_code, "http"), error.detail)


def _add_model(app: FastAPI, worker: Worker) -> None:
    @app.get(f"{API}/model", summary="What the model can draw, and whether it is ready")
    async def model() -> dict[str, Any]:
        return {
            "v": VERSION,
            "version": sketchknitter.__version__,
            "ready": worker.ready,
            "fault": worker.fault,
            "classes": list(worker.model.classes) if worker.model is not None else [],
            "waiting": worker.waiting,
            "limits": {
                "strokes": messages.MAX_STROKES,
                "points": messages.MAX_POINTS,
                "coordinate": messages.FARTHEST,
            },
        }


def _add_verb(app: FastAPI, worker: Worker, name: str, kind: Any) -> None:
    async def verb(request: Request) -> Response:
        message = parse(kind, await request.body())
        job = worker.submit(message, request.headers.get("x-studio-client") or None)
        return StreamingResponse(job.stream(), media_type="text/event-stream")

    app.add_api_route(
        f"{API}/{name}",
        verb,
        methods=["POST"],
        name=name,
        summary=(kind.__doc__ or "").strip(),
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}, **_REFUSALS},
        openapi_extra=_body_of(kind),
    )


_REFUSALS: dict[int | str, dict[str, Any]] = {
    422: {"description": "the message cannot be obeyed"},
    429: {"description": "too many requests"},
}


def _body_of(kind: Any) -> dict[str, Any]:
    schema = kind.model_json_schema(mode="validation")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _add_files(app: FastAPI) -> None:
    turns = anyio.Semaphore(FILE_TURNS)
    waiting = 0

    async def in_turn(work: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal waiting
        if waiting >= FILE_QUEUE:
            raise Busy("many files are read and written already; try again in a moment")
        waiting += 1
        try:
            async with turns:
                return await work()
        finally:
            waiting -= 1

    async def in_thread(work: Callable[[], bytes]) -> bytes:
        return await anyio.to_thread.run_sync(work)

    @app.post(f"{API}/open", summary="The drawings of a file (svg, ndjson, npz, npy, bin)")
    async def open_file(request: Request, name: str) -> Response:
        data = await request.body()
        return JSONResponse({"v": VERSION, **await in_turn(partial(files.opened, name, data))})

    @app.post(f"{API}/export", openapi_extra=_body_of(messages.Export), summary="A file to keep")
    async def export(request: Request) -> Response:
        message = parse(messages.Export, await request.body())
        data = await in_turn(partial(in_thread, partial(files.exported, message)))
        return _file(data, f"drawing.{message.format}")

    @app.post(f"{API}/film", openapi_extra=_body_of(messages.Film), summary="Frames as a film")
    async def film(request: Request) -> Response:
        message = parse(messages.Film, await request.body())
        data = await in_turn(partial(in_thread, partial(files.filmed, message)))
        return _file(data, f"film.{message.format}")


def _file(data: bytes, name: str) -> Response:
    kind = files.TYPES[name.rpartition(".")[2]]
    return Response(data, 200, {"content-disposition": f'attachment; filename="{name}"'}, kind)
