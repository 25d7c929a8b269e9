"""The application: routes, the guard before them, and how a failure is told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from likewise import __version__
from likewise.bundle import read_manifest
from likewise.errors import LikewiseError
from likewise.service.access import OPEN, Access, hosts, origins
from likewise.service.admission import Admission
from likewise.service.errors import Kind, Refusal, refusal_of
from likewise.service.guard import Guard
from likewise.service.paths import Paths
from likewise.service.routes import classification, examples, health, history, labels, model, page, predict
from likewise.service.schemas import KINDS
from likewise.service.serving import Serving
from likewise.service.tokens import Tokens
from likewise.settings import Settings
from likewise.types import Task

DESCRIPTION = """Text classification by example: every answer cites the labelled texts it rests on, and a correction is
in force at the next answer, in every process. Failures are `{"error": {"type", "message", "hint"}}`."""

# FastAPI reports to whatever OpenTelemetry is set up, unless told not to; we report nothing to anybody.
_SILENT: TelemetryConfig = {
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False,
}  # fmt: skip

_KINDS: dict[int, Kind] = {404: "not_found", 405: "method_not_allowed"}


def make_app(path: Path, settings: Settings, *, auth: bool | None) -> FastAPI:
    """The application that serves a model directory; the model is opened when it starts.

    `auth`: ask for the model directory's tokens; None: as soon as there are some. SettingError for an origin that is
    none; ModelNotFound and the like.
    """
    tokens = Tokens(path)
    access = Access(
        None if auth is False else tokens,
        auth is True,
        hosts(settings.http_host, settings.http_allow_hosts),
        origins(settings.http_allow_origins),
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.serving = serving = Serving(path, settings)
        await serving.start()
        try:
            yield
        finally:
            await serving.stop()

    app = FastAPI(
        title="Likewise", version=__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None,
        redoc_url=None, redirect_slashes=False, generate_unique_id_function=_operation, telemetry=_SILENT,
    )  # fmt: skip
    for each in (classification, examples, labels, history, model, predict, health, page):
        app.include_router(each.router)
    app.add_exception_handler(LikewiseError, _on_ours)
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    _describe(app, read_manifest(path).task, secured=auth is True or (auth is None and bool(tokens.listed())))
    paths = Paths(app.openapi()["paths"], ("/docs", "/openapi.json"))
    app.add_middleware(Admission, access=access, paths=paths, settings=settings)
    if access.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=sorted(access.origins), allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-Match"], expose_headers=["ETag", "Retry-After"],
        )  # fmt: skip
    app.add_middleware(Guard, access=access, settings=settings)  # the last is the outermost
    return app


def _operation(route: APIRoute) -> str:
    return route.name


def _describe(app: FastAPI, task: Task, secured: bool) -> None:
    """Make the OpenAPI document once, with what FastAPI does not know of our routes."""
    document = app.openapi()
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    if task == "single":
        for name in ("NewExample", "Relabel"):
            schemas[name]["properties"]["labels"]["oneOf"][1].update(minItems=1, maxItems=1)
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):  # what may be left out cannot be null
                schema = parameter["schema"]
                if {"type": "null"} in schema.get("anyOf", ()):
                    schema.update(next(kind for kind in schema.pop("anyOf") if kind != {"type": "null"}))
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            if path not in OPEN:
                for operation in operations.values():
                    operation["security"] = [{"token": []}]


async def _on_refusal(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refusal.response(request.url.path)


async def _on_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, LikewiseError)
    refusal = refusal_of(error)
    if refusal.status >= 500:  # whoever runs the service has to know more than whoever asked
        request.scope["likewise.error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    return refusal.response(request.url.path)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """What FastAPI found wrong with a request: the first of it, with its place."""
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    if first["type"] == "json_invalid":
        refusal = _no_json()
    else:
        place = ".".join(str(part) for part in first["loc"] if part not in KINDS)
        message = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]  # ours, or pydantic's
        refusal = Refusal("invalid", f"{place}: {message[:1].lower()}{message[1:]}", "see /docs")
    return refusal.response(request.url.path)


async def _on_http(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI refuse; else than paths and methods, bodies that are not even text, or too deep."""
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code)
    refusal = Refusal(kind, error.detail, "see /docs", error.headers or {}) if kind else _no_json()
    return refusal.response(request.url.path)


def _no_json() -> Refusal:
    return Refusal("bad_request", "the body is no JSON", "send a JSON object")
