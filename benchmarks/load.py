"""The service under load, beside a minimal FastAPI service around SetFit on the same encoder, in one run.

    python -m benchmarks.load                                 both, where setfit is installed; about five minutes
    python -m benchmarks.load --seconds 3 --clients 1 16      shorter
    python -m benchmarks.load --peer-python OTHER/bin/python  setfit in an environment of its own

Each client is a thread with a connection of its own (Python's http.client, on loopback) that sends one text of the
sample's test part after the other. A phase ends after so many seconds or requests, whichever comes first. `p50` to
`p99` are milliseconds of successful requests; `client_cpu` is what the clients themselves took of the processor, in
cores, which they take from the services on a machine with few; `cpu_ms` is what the service took a request, which says
more than the rate where the machine has other work (Linux only). With the writer another client teaches ten examples a
second, one a request; SetFit cannot be taught while it serves. The result goes to benchmarks/results/load.json.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.running import machine

from likewise.encoding.sessions import multiplies_bfloat16
from likewise.fitting import fit
from likewise.sample import load
from likewise.settings import Settings
from likewise.types import Precision

RESULTS = Path(__file__).parent / "results"
HEADERS = {"Content-Type": "application/json"}
TAUGHT_A_SECOND = 10
TAUGHT = ", taught meanwhile"
_OURS: dict[Precision, str] = {"fp32": "likewise", "bf16": "likewise, bfloat16"}


def main() -> None:
    """Measure both services one after the other and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=15.0, help="a phase at most")
    parser.add_argument("--requests", type=int, default=20_000, help="a phase at most")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service; SetFit's has one")
    parser.add_argument("--peer-python", type=Path, help="an interpreter that has setfit, fastapi and uvicorn")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "seconds": given.seconds, "workers": given.workers}
    with tempfile.TemporaryDirectory(prefix="likewise-load-") as folder:
        for precision, name in _OURS.items():
            if precision == "bf16" and not multiplies_bfloat16():
                continue
            path = Path(folder) / precision
            fit(*load("train"), recipe="frozen", settings=Settings(precision=precision)).save(path).close()
            command = [str(Path(sys.executable).parent / "likewise"), "serve", str(path), "--log", "none"]
            command += ["--workers", str(given.workers), "--port"]
            with service(command) as served:
                found[name] = phases(served, given, writing=False)
                found[name + TAUGHT] = phases(served, given, writing=True)
    python = given.peer_python or (Path(sys.executable) if importlib.util.find_spec("setfit") else None)
    if python is not None:
        with service([str(python), "-m", "benchmarks.setfit_service"]) as served:
            found["setfit"] = phases(served, given, writing=False)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "load.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    show(found)


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
def service(command: list[str]) -> Iterator[Service]:
    """A service that answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    process = subprocess.Popen([*command, str(port)], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError):
                if request(http.client.HTTPConnection("127.0.0.1", port, timeout=60), "GET", "/ready", None) == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]}: the service does not answer")
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


def phases(served: Service, given: argparse.Namespace, *, writing: bool) -> list[dict[str, float]]:
    """A phase for each number of clients, after one that is not counted."""
    phase(served, 4, min(2.0, given.seconds), 200)
    rows = []
    for clients in given.clients:
        with writer(served.port) if writing else contextlib.nullcontext(lambda: 0) as taught:
            row = phase(served, clients, given.seconds, given.requests)
            rows.append({**row, "taught_a_second": round(taught() / row["seconds"], 1)} if writing else row)
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def phase(served: Service, clients: int, seconds: float, requests: int) -> dict[str, float]:
    """What so many clients see."""
    texts, _ = load("test")
    numbers = itertools.count()
    times: list[float] = []
    failed: list[object] = []
    began, cpu, theirs = time.monotonic(), time.process_time(), served.cpu()
    until = began + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
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
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "clients": clients, "seconds": round(took, 2), "requests_a_second": round(len(times) / took, 1),
        "failed": len(failed), **{f"p{at}": round(cuts[at - 1] * 1000, 1) for at in (50, 95, 99)},
        "client_cpu": round((time.process_time() - cpu) / took, 2),
        "cpu_ms": round((served.cpu() - theirs) / len(times) * 1000, 1),
    }  # fmt: skip


@contextlib.contextmanager
def writer(port: int) -> Iterator[Callable[[], int]]:
    """Teaches ten examples a second; what comes out tells how many there were."""
    stop, done = threading.Event(), itertools.count()
    count = 0

    def teach() -> None:
        nonlocal count
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / TAUGHT_A_SECOND
            text = f"where is order {time.time_ns()} {next(done)}"
            if request(connection, "POST", "/v1/examples", {"examples": [{"text": text, "labels": "delivery"}]}) == 200:
                count += 1
        connection.close()

    thread = threading.Thread(target=teach)
    thread.start()
    try:
        yield lambda: count
    finally:
        stop.set()
        thread.join()


def show(found: dict[str, Any]) -> None:
    """The table, and how the services compare."""
    ours = [name for name in found if name.startswith("likewise")]
    for name in (*ours, "setfit"):
        for row in found.get(name, ()):
            print(f"{name:34}", *(f"{key} {value}" for key, value in row.items()))
    for name in ours:
        for row, theirs in zip(found[name], found.get("setfit", ()), strict=False):
            times = row["requests_a_second"] / theirs["requests_a_second"]
            slower = row["p99"] / theirs["p99"]
            print(f"{name}, {row['clients']} clients: {times:.1f} times the requests, {slower:.2f} times the p99")


if __name__ == "__main__":
    main()
