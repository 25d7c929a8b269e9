"""A private PostgreSQL server for tests, in a temporary folder and on a free local port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

ACCOUNT = "postgres"  # the server refuses to run as root


def binaries() -> Path | None:
    """The folder of the server's programs; None where it is not installed."""
    found = sorted(glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    if found:
        return Path(found[-1]).parent
    on_path = shutil.which("initdb")
    return Path(os.path.realpath(on_path)).parent if on_path else None


class Server:
    """Started when made; `stop` and `start` it as often as you like, `remove` it in the end."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._account = ACCOUNT if os.getuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="likewise-pg-"))
        if self._account:
            shutil.chown(self.folder, self._account)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._schemas = 0
        self._run("initdb", "-D", "data", "-U", "likewise", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self.folder, user=self._account, check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=60 -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """Break every connection, at once."""
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All of its processes stand still: connections stay, and nothing is said."""
        parent = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        stopped = [parent]
        os.kill(parent, signal.SIGSTOP)  # first of all: what ends from now on is not reaped, and keeps its number
        try:
            listed = subprocess.run(
                ["ps", "-o", "pid=", "--ppid", str(parent)], check=True, capture_output=True, text=True
            )
            for process in map(int, listed.stdout.split()):
                os.kill(process, signal.SIGSTOP)
                stopped.append(process)
            yield
        finally:
            for process in reversed(stopped):
                os.kill(process, signal.SIGCONT)

    def place(self) -> str:
        """The URL of a schema that nothing has used yet."""
        self._schemas += 1
        return f"postgresql://likewise@127.0.0.1:{self.port}/postgres?schema=test_{os.getpid()}_{self._schemas}"

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def remove(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
