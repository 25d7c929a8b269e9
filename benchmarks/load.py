"""The service under load, beside a minimal FastAPI service around SetFit on the same encoder.

    python -m benchmarks.load

Each client is a thread with a connection of its own (Python's http.client, on loopback) that sends one text of the
bundled sample's test part after the other. All services run; they take turns, a phase each, which ends after so many
seconds or requests. With "taught" another client teaches ten examples a second meanwhile, one a request; SetFit cannot
be taught while it serves. Ours runs in one process, which has all cores for each text, and in as many as there are
cores, which has more texts encoded at a time. What the clients take of the processor they take from the services on a
machine with few cores; processor time a request says more than the rate where a machine has other work (Linux only).
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data import Part
from experiments.paper import table
from experiments.running import Quiet, once

from benchmarks.contestants import precision_of
from benchmarks.contestants.ours import LIKEWISE
from benchmarks.measuring import (
    RESULTS,
    arguments,
    chosen,
    contestants,
    datasets,
    in_turn,
    missing,
    origin,
    ratio,
    results,
    rounds,
    spread,
    surroundings,
    times,
    titled,
    with_spread,
    write_rows,
)  # fmt: skip
from benchmarks.process import python_of
from benchmarks.services import Service, phase, served, teaching
from likewise.encoding.names import DEFAULT, resolve
from likewise.encoding.sessions import multiplies_bfloat16
from likewise.fitting import fit
from likewise.machine import cores
from likewise.settings import Settings

NAMES = (
    "likewise", "likewise-taught", "likewise-bf16", "likewise-bf16-taught", "likewise-int8", "likewise-int8-taught",
    "setfit",
)  # fmt: skip
FIGURES = ("requests", "p50", "p95", "p99", "client_cpu", "cpu_ms", "failed", "taught")


def main() -> None:
    """Run what is not there yet, and print the page's section."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=10.0, help="a phase at most")
    parser.add_argument("--requests", type=int, default=20_000, help="a phase at most")
    parser.add_argument(
        "--workers", type=int, nargs="+", help="processes of our service (default: 1, and cores); SetFit's has one"
    )
    given = parser.parse_args()
    given.data = None  # the clients' texts are the bundled ones
    for _, train, test in datasets(given, ("sample",)):
        for workers in given.workers or sorted({1, cores()}):
            once(given.results / f"load-{workers}.json", lambda a=train, b=test, n=workers: run(given, a, b, n))
    print(section(given.results))


@dataclass(frozen=True)
class Asked:
    """A service, and whether it is taught while it is asked."""

    service: Service
    taught: bool

    def phase(self, texts: list[str], clients: int, given: argparse.Namespace) -> dict[str, float]:
        """One phase."""
        seconds = 2.0 if given.quick else given.seconds
        with teaching(self.service) if self.taught else contextlib.nullcontext(lambda: 0) as taught:
            return {**phase(self.service, texts, clients, seconds, given.requests), "taught": taught() / seconds}


def run(given: argparse.Namespace, train: Part, test: Part, workers: int) -> dict[str, Any]:
    """All services, ours in so many processes, for every number of clients."""
    around = surroundings()
    names = chosen(given, NAMES)
    with contestants(given, dict.fromkeys(map(_service_of, names)), ready=False) as (_, found):
        pass  # who can take part, in which versions
    if not multiplies_bfloat16():
        found.pop("likewise-bf16", None)
    able = [name for name in names if "versions" in found.get(_service_of(name), {})]
    with services(given, able, train, workers) as there:
        for clients in given.clients:
            turns = in_turn(there, rounds(given), lambda one, n=clients: one.phase(test.texts, n, given))
            for who, phases in turns.items():
                measured = {figure: spread([one[figure] for one in phases]) for figure in FIGURES}
                found.setdefault(who, {})[str(clients)] = measured
    found = {name: found[name] for name in NAMES if name in found}
    return {"found": found, "workers": workers, "clients": given.clients, "surroundings": around}


def _service_of(name: str) -> str:
    return name.removesuffix("-taught")


@contextlib.contextmanager
def services(given: argparse.Namespace, names: Sequence[str], train: Part, workers: int) -> Iterator[dict[str, Asked]]:
    """A service that runs, for each name; those that are taught are the ones that are not, too."""
    running: dict[str, Service] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="likewise-load-")))
        for name in dict.fromkeys(map(_service_of, names)):
            if name == "setfit":
                rows = stack.enter_context(write_rows(train=train))
                python = str(python_of(name, given.peers))
                command = [python, "-m", "benchmarks.setfit_service", str(resolve(DEFAULT)), rows]
            else:
                settings = Settings(precision=precision_of(name))
                fitted = fit(train.texts, train.labels, recipe="frozen", settings=settings, progress=Quiet())
                fitted.save(folder / name).close()
                command = [LIKEWISE, "serve", str(folder / name), "--log", "none", "--workers", str(workers), "--port"]
            running[name] = stack.enter_context(served(command))
        yield {name: Asked(running[_service_of(name)], name.endswith("-taught")) for name in names}


def section(folder: Path = RESULTS) -> str:
    """The page's part."""
    parts = []
    for result in results(folder, "load-*.json"):
        workers = f"Likewise in {result['workers']} {'process' if result['workers'] == 1 else 'processes'}"
        for clients in map(str, result["clients"]):
            measured = {name: facts[clients] for name, facts in result["found"].items() if clients in facts}
            rows = [[titled(name), *_cells(facts, measured.get("setfit"))] for name, facts in measured.items()]
            head = [
                "", "requests a second", "times SetFit's", "p50, ms", "p95, ms", "p99, ms", "times SetFit's p99",
                "processor time a request, ms", "the clients' cores", "taught a second", "failed",
            ]  # fmt: skip
            heading = f"### {clients} {'client' if clients == '1' else 'clients'}. {workers}"
            parts.append(f"{heading}\n\n{table(head, rows)}")
        parts.append(missing(result) + origin(result))
    return "## The service under load\n\n" + "\n".join(parts) if parts else ""


def _cells(facts: dict[str, Any], setfit: dict[str, Any] | None) -> list[str]:
    rates, slowest = ((ratio(facts[figure], setfit[figure]) if setfit else None) for figure in ("requests", "p99"))
    latencies = [with_spread(facts[figure], 1) for figure in ("p50", "p95", "p99")]
    return [
        with_spread(facts["requests"]), times(rates), *latencies, times(slowest),
        f"{facts['cpu_ms']['median']:.1f}", f"{facts['client_cpu']['median']:.2f}",
        f"{facts['taught']['median']:.1f}", f"{sum(facts['failed']['rounds']):.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
