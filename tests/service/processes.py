"""`likewise serve` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx

COMMAND = str(Path(sys.executable).parent / "likewise")


class Served:
    """A service that was started; `lines` are those of its standard error after the first."""

    def __init__(self, path: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "serve", str(path), "--port", "0", "--threads", "1", *arguments],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, start_new_session=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.first = self.process.stderr.readline()
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        found = re.search(r"http://[^ ]*", self.first)
        self.url = found[0] if found else ""

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    def ready(self) -> None:
        """Wait until it answers."""
        transport = httpx.HTTPTransport(retries=0)
        with httpx.Client(base_url=self.url, transport=transport, timeout=60) as client:
            assert client.get("/ready").status_code == 200  # the socket listens already: the request waits

    def workers(self) -> set[int]:
        """The processes that answer, where there are several."""
        found: set[int] = set()
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.add(int(child))
        return found

    def stop(self) -> int:
        """Tell it to stop, and wait; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """All its processes, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.ended()

    def ended(self) -> int:
        status = self.process.wait(60)
        self._reader.join(60)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status


@contextlib.contextmanager
def served(path: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    found = Served(path, *arguments, **environment)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.kill()
        found.ended()
