"""What every request passes first and last: from where it comes, how long it took, and what every answer carries."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from likewise.service.access import ASKING, Access
from likewise.service.errors import Refusal
from likewise.service.metrics import Metrics
from likewise.settings import Settings

LOGGER = logging.getLogger("likewise.service")

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer, unless it has one of its own."""


class Guard:
    """Refuses other hosts and origins, tells of mistakes, counts and logs. The outermost layer."""

    def __init__(self, app: ASGIApp, access: Access, settings: Settings) -> None:
        self._app, self._access, self._settings = app, access, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        request = _Request(scope, send)
        try:
            await self._answered(request, scope, receive)
        finally:
            self._tell(request, scope)

    async def _answered(self, request: _Request, scope: Scope, receive: Receive) -> None:
        try:
            self._access.check(Headers(scope=scope))
            await self._app(scope, receive, request.send)
            return
        except Refusal as found:
            refusal = found
        except asyncio.CancelledError:  # a stop has waited for as long as it may
            if request.status:
                raise
            refusal = Refusal("unavailable", "the service was stopped before this was done",
                              "try again; whether a change was made stands in the history")  # fmt: skip
        except Exception as error:
            request.error = _place_of(error)
            if request.status:  # half of an answer is on its way; closing the connection tells that it is broken
                raise
            refusal = Refusal("internal", "the service made a mistake", f"report it with {request.id}")
        await refusal.response(scope["path"])(scope, receive, request.send)

    def _tell(self, request: _Request, scope: Scope) -> None:
        seconds = time.perf_counter() - request.since
        route = getattr(scope.get("route"), "path", "none")  # as it is declared: what a client made up is not counted
        metrics: Metrics = scope["app"].state.serving.metrics
        method = scope["method"] if scope["method"] in ("GET", "POST", "PATCH", "DELETE") else "other"
        metrics.request(route, method, request.status, seconds)
        if self._settings.http_log == "none":
            return
        line: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "id": request.id,
            "method": method,
            "route": route,
            "status": request.status,
            "ms": round(seconds * 1000, 1),
            "by": scope.get("likewise.by"),
        }
        if error := request.error or scope.get("likewise.error"):
            line["error"] = error
        if "likewise.body" in scope and scope["path"] in ASKING:
            line["body"] = scope["likewise.body"]
        LOGGER.info(json.dumps(line, ensure_ascii=True))


class _Request:
    """One request on its way: its number, and what became of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.id = secrets.token_hex(8)
        self.since = time.perf_counter()
        self.status = 0
        self.error: str | None = None
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self.id
        await self._send(message)


def _place_of(error: Exception) -> str:
    """Where a mistake of ours happened; not its message, which may hold a text."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {last.filename.rpartition('likewise/')[2]}:{last.lineno}"


def log_to_stderr() -> None:
    """Write the lines on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
