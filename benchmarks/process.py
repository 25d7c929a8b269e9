"""A contestant in a process of its own: asked by a line of JSON, it answers with one.

So every contestant has its own interpreter, its own environment, its own memory and its own threads, and none waits for
what another one left behind. It measures itself: what passes between the processes costs it nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.contestants import OURS, REQUIRED

# No contestant asks a network for anything, or reports its use.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
}


class Absent(Exception):
    """A contestant is not installed; the benchmark goes on without it."""


class Failed(Exception):
    """A contestant could not do what it was asked."""


def python_of(name: str, peers: Path) -> Path:
    """The interpreter of a contestant's environment."""
    if name in OURS:
        return Path(sys.executable)
    found = peers / "bin" / "python"
    if not found.exists():
        raise Absent(f"{name}: left out, for there is no environment {peers}; `make bench` makes it")
    return found


def environment() -> dict[str, str]:
    """What the processes of contestants find in their environment; the number of threads is everybody's own default."""
    inherited = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    return {**inherited, **QUIET}


class Contestant:
    """Started when made, ended by `close`, or as a context manager. Absent where it is not installed."""

    def __init__(self, name: str, peers: Path) -> None:
        self.name = name = name.partition(":")[0]  # "faiss:3" is the third process of faiss
        python = python_of(name, peers)
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.contestants", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment(),
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        hello = self._heard()
        if "missing" in hello:
            self.close()
            raise Absent(
                f"{name}: left out, for {', '.join(hello['missing'])} is not installed in the environment of "
                f"{python}; `make bench` installs what peers need ({', '.join(REQUIRED[name])})"
            )
        self.versions: dict[str, str] = hello["versions"]

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """What a method of the contestant returns. Failed when it failed there."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"method": method, "given": given}) + "\n")
        self._process.stdin.flush()
        answer = self._heard()
        if "failed" in answer:
            raise Failed(f"{self.name}: left out, for it failed to {method}: {answer['failed']}")
        return answer

    def close(self) -> None:
        """End its process; closing twice is fine."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.name}: left out, for its process ended with status {self._process.wait()}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
