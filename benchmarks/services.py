"""A service in processes of its own, and the clients that ask it: what they see, and what it takes of the processor."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.process import environment

HEADERS = {"Content-Type": "application/json"}
TAUGHT_A_SECOND = 10
PATIENCE = 300
"""Seconds until a service has to answer."""


@dataclass(frozen=True)
class Service:
    """Where a service answers, and the group of its processes."""

    port: int
    group: int

    def cpu(self) -> float:
        """Seconds of processor time that its processes have taken; 0 where the system does not tell."""
        ticks = 0
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                told = file.read_text().rpartition(")")[2].split()  # behind the name: state, parent, group, ...
                ticks += int(told[11]) + int(told[12]) if int(told[2]) == self.group else 0
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(command: Sequence[str]) -> Iterator[Service]:
    """A service that answers; the command is told the port at its end. SystemExit where it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    process = subprocess.Popen(
        [*command, str(port)], start_new_session=True, stderr=subprocess.DEVNULL, env=environment()
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                if request(http.client.HTTPConnection("127.0.0.1", port, timeout=60), "GET", "/ready", None) == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service does not answer: {' '.join(command)}")
            time.sleep(0.2)
        yield Service(port, process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def request(connection: http.client.HTTPConnection, method: str, path: str, body: object) -> int:
    """The status of the answer, which is read whole."""
    connection.request(method, path, None if body is None else json.dumps(body), HEADERS)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def phase(service: Service, texts: Sequence[str], clients: int, seconds: float, requests: int) -> dict[str, float]:
    """What so many clients see, each with a connection of its own, one text after the other; bounded in time and count.

    Times are milliseconds of successful requests; `client_cpu` is cores, `cpu_ms` the service's a successful request.
    """
    numbers = itertools.count()
    times: list[float] = []
    failed: list[object] = []
    began, cpu, theirs = time.monotonic(), time.process_time(), service.cpu()
    until = began + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        while (number := next(numbers)) < requests and time.monotonic() < until:
            sent = time.monotonic()
            try:
                status = request(connection, "POST", "/v1/classify", {"texts": [texts[number % len(texts)]]})
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                failed.append(error)
                continue
            if status == 200:
                times.append(time.monotonic() - sent)
            else:
                failed.append(status)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    if not times:
        raise SystemExit(f"the service answered none of {len(failed)} requests: {failed[:3]}")
    latencies = {f"p{at}": float(np.percentile(times, at)) * 1000 for at in (50, 95, 99)}
    return {
        "requests": len(times) / took, "failed": len(failed), **latencies,
        "client_cpu": (time.process_time() - cpu) / took, "cpu_ms": (service.cpu() - theirs) / len(times) * 1000,
    }  # fmt: skip


@contextlib.contextmanager
def teaching(service: Service) -> Iterator[Callable[[], int]]:
    """Somebody teaches ten examples a second, one a request; what comes out tells how many there were."""
    stop = threading.Event()
    count = 0

    def teach() -> None:
        nonlocal count
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / TAUGHT_A_SECOND
            example = {"text": f"where is order {time.time_ns()}", "labels": "delivery"}
            count += request(connection, "POST", "/v1/examples", {"examples": [example]}) == 200
        connection.close()

    thread = threading.Thread(target=teach)
    thread.start()
    try:
        yield lambda: count
    finally:
        stop.set()
        thread.join()
