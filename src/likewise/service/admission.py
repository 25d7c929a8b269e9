"""What a request passes before a route: its token, its path, its body within its bounds."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from likewise.service.access import PROBES, Access
from likewise.service.errors import Refusal
from likewise.service.limits import BODIES, again, check_json, read_body
from likewise.service.paths import Paths
from likewise.settings import Settings


class Admission:
    """Lets in who may ask for what there is; tells routes who asked (`likewise.by`), and the log what."""

    def __init__(self, app: ASGIApp, access: Access, paths: Paths, settings: Settings) -> None:
        self._app, self._access, self._paths, self._settings = app, access, paths, settings
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counted = scope["path"] not in PROBES
        self._under_way += counted
        try:
            receive = await self._admitted(scope, receive)
        except Refusal as refusal:
            await refusal.response(scope["path"])(scope, receive, send)
        else:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= counted

    async def _admitted(self, scope: Scope, receive: Receive) -> Receive:
        """What the route receives from. Refusal."""
        headers = Headers(scope=scope)
        if self._under_way > self._settings.http_queue and scope["path"] not in PROBES:
            raise Refusal("overloaded", f"{self._under_way:,} requests are under way", "try again soon")
        scope["likewise.by"] = self._access.by(scope["method"], scope["path"], headers)
        self._paths.check(scope["method"], scope["path"], scope["query_string"])
        if scope["method"] not in BODIES:
            return receive
        check_json(headers)
        body = await read_body(receive, headers, self._settings.http_max_body, self._settings.http_timeout)
        if self._settings.http_log == "texts":
            scope["likewise.body"] = body.decode("utf-8", "replace")
        return again(body, receive)
