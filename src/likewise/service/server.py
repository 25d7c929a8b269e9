"""The server: one process that answers, or several that share a socket."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from traceback import format_exc
from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from likewise.errors import LikewiseError, ModelError, SettingError, UsageError
from likewise.model import Model
from likewise.service.access import is_loopback, origins
from likewise.service.app import make_app
from likewise.service.connections import Connection
from likewise.service.guard import log_to_stderr
from likewise.service.metrics import SHARED
from likewise.service.tokens import NAME, Tokens
from likewise.settings import Settings

PATIENCE = 30
"""Seconds until a worker that says nothing is taken for stuck, and replaced."""
KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than the proxies before it keep theirs."""

FAILED = "the service could not start; what happened stands above"


@dataclass(frozen=True)
class Factory:
    """Makes the application, in whichever process it is called; `parent` is the one without which it ends."""

    path: Path
    settings: Settings
    auth: bool | None
    parent: int | None = None

    def __call__(self) -> FastAPI:
        log_to_stderr()
        if self.parent is None:
            return make_app(self.path, self.settings, auth=self.auth)
        threading.Thread(target=_end_with, args=(self.parent,), name="likewise parent", daemon=True).start()
        try:
            return make_app(self.path, self.settings, auth=self.auth)
        except Exception as error:  # by this status the parent knows that another worker would fail as well
            print(f"likewise: {error}" if isinstance(error, LikewiseError) else format_exc(), file=sys.stderr)
            sys.exit(STARTUP_FAILURE)


def serve(path: Path, settings: Settings, *, auth: bool | None, ready: Callable[[str], None]) -> None:
    """Serve a model directory until told to stop (SIGTERM, SIGINT); what is under way is finished then.

    `auth` None: ask for tokens where there are or were any, and for others than this machine always. `ready` is told
    the address. UsageError without tokens where they are asked for, SettingError for an address that cannot be listened
    on, and what `Model.open` raises.
    """
    Model.open(path).close()  # its troubles, and those of what was asked, before the server's
    origins(settings.http_allow_origins)
    if auth is None and _asks_for_tokens(path, settings.http_host):
        auth = True  # in every process, whatever becomes of the file
    several = settings.http_workers > 1
    listening = listen(settings.http_host, settings.http_port)
    port = listening.getsockname()[1]
    config = configured(Factory(path.absolute(), settings, auth, os.getpid() if several else None), settings)
    ready(f"http://{f'[{settings.http_host}]' if ':' in settings.http_host else settings.http_host}:{port}")
    if not several:
        with listening:
            _run(uvicorn.Server(config), listening)
        return
    with listening, tempfile.TemporaryDirectory(prefix="likewise-metrics-") as folder:
        os.environ.setdefault(SHARED, folder)
        workers = _Workers(config, [listening])
        workers.run()
        if workers.failed:
            raise ModelError(FAILED)


def _asks_for_tokens(path: Path, host: str) -> bool:
    """Whether a service that is told neither way asks for tokens. UsageError where it does, and there are none."""
    tokens = Tokens(path)
    listed, here = tokens.listed(), is_loopback(host)
    if listed or (here and not tokens.ever):
        return bool(listed)
    if here:
        found = "found no tokens any more, expected one"
        way = f"remove {path / NAME} to serve this machine without"
    else:
        found = f"found no tokens, expected some to serve others than this machine ({host})"
        way = "let everybody in with --no-auth"
    raise UsageError(f"{found}; make one (likewise token add {path} NAME --write), or {way}")


class _Workers(Multiprocess):
    """Processes that share a socket. This one lets go of it when they stop: who connects later waits for nobody."""

    @property
    def failed(self) -> bool:
        """Whether one of them could not start, which ends all of them."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    def keep_subprocess_alive(self) -> None:
        for process in self.processes:
            process.child_conn.close()  # the worker's end: held here too, its death would look like silence
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        for listening in self.sockets:
            listening.close()
        super().terminate_all()


def configured(factory: Callable[[], FastAPI], settings: Settings) -> uvicorn.Config:
    """How the server is run: its own log of requests is off, and nothing of a header is believed but Host."""
    http = cast(type[Connection], partial(Connection, patience=settings.http_timeout))
    return uvicorn.Config(
        factory, factory=True, workers=settings.http_workers, lifespan="on", http=http, ws="none", log_config=None,
        log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE, timeout_worker_healthcheck=PATIENCE,
        timeout_graceful_shutdown=math.ceil(settings.http_grace),
    )  # fmt: skip


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. SettingError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio knows it for TCP and turns off Nagle's algorithm, which costs 40 ms an answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except (OSError, OverflowError) as error:
        listening.close()
        said = getattr(error, "strerror", None) or error
        raise SettingError(
            f"cannot listen on {host}, port {port} ({said}); choose another with --host and --port"
        ) from error
    listening.set_inheritable(True)
    return listening


def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    """Run until told to stop. The server raises the signal anew when it is done; to have stopped is no failure."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
    except SystemExit as error:
        raise ModelError(FAILED) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_with(parent: int) -> None:
    """Stop this process as if it was told to, once its parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
