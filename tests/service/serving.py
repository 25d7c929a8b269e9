"""A real server in a thread of the test's process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from likewise.service.app import make_app
from likewise.service.server import configured, listen
from likewise.settings import Settings


@contextlib.contextmanager
def serving(path: Path, *, auth: bool | None = False, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a service of this model; `auth`: it asks for tokens."""
    chosen = Settings.resolve(**{"threads": 1, "http_log": "none", **settings})
    listening = listen(chosen.http_host, 0)
    server = uvicorn.Server(configured(lambda: make_app(path, chosen, auth=auth), chosen))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    assert server.started
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
