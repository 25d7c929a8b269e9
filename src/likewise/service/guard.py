"""What every request passes: who asks, how much, how long it took; and what every answer carries."""

from __future__ import annotations

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
from likewise.service.limits import BODIES, again, check_json, read_body
from likewise.service.metrics import Metrics
from likewise.service.paths import Paths
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
    """Refuses what may not be, reads bodies within their bounds, counts and logs. The outermost layer."""

    def __init__(self, app: ASGIApp, access: Access, paths: Paths, settings: Settings) -> None:
        self._app, self._access, self._paths, self._settings = app, access, paths, settings
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        request = _Request(scope, send)
        self._under_way += 1
        try:
            try:
                receive = await self._admitted(request, scope, receive)
                await self._app(scope, receive, request.send)
            except Refusal as refusal:
                await refusal.response(scope["path"])(scope, receive, request.send)
            except Exception as error:
                request.error = _place_of(error)
                if request.status:  # half of an answer is on its way; closing the connection tells that it is broken
                    raise
                mistake = Refusal("internal", "the service made a mistake", f"report it with {request.id}")
                await mistake.response(scope["path"])(scope, receive, request.send)
        finally:
            self._under_way -= 1
            self._tell(request, scope)

    async def _admitted(self, request: _Request, scope: Scope, receive: Receive) -> Receive:
        """What the route receives from. Refusal."""
        headers = Headers(scope=scope)
        if self._under_way > self._settings.http_queue:
            raise Refusal("overloaded", f"{self._under_way:,} requests are under way", "try again soon")
        scope["likewise.by"] = request.by = self._access.by(scope["method"], scope["path"], headers)
        self._paths.check(scope["method"], scope["path"])
        if scope["method"] not in BODIES:
            return receive
        check_json(headers)
        body = await read_body(receive, headers, self._settings.http_max_body, self._settings.http_timeout)
        if self._settings.http_log == "texts":
            request.body = body.decode("utf-8", "replace")
        return again(body, receive)

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
            "by": request.by,
        }
        if error := request.error or scope.get("likewise.error"):
            line["error"] = error
        if request.body is not None and scope["path"] in ASKING:
            line["body"] = request.body
        LOGGER.info(json.dumps(line, ensure_ascii=True))


class _Request:
    """One request on its way: its number, who made it, and what became of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.id = secrets.token_hex(8)
        self.since = time.perf_counter()
        self.by: str | None = None
        self.status = 0
        self.error: str | None = None
        self.body: str | None = None
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
