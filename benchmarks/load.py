"""The service under load, beside a minimal FastAPI service around SetFit on the same encoder.

    python -m benchmarks.load

Each client is a thread with a connection of its own (Python's http.client, on loopback) that sends one text of the
bundled sample's test part after the other. All services run; they take turns, a phase each, which ends after so many
seconds or requests. With "taught" another client teaches ten examples a second meanwhile, one a request; SetFit cannot
be taught while it serves. What the clients take of the processor they take from the services on a machine with few
cores; processor time a request says more than the rate where a machine has other work (Linux only).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data import Part
from experiments.paper import table
from experiments.running import once

from benchmarks.contestants import precision_of
from benchmarks.measuring import (
    RESULTS,
    arguments,
    chosen,
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
from benchmarks.process import Absent, python_of
from benchmarks.services import Service, phase, served, teaching
from likewise.encoding.names import DEFAULT, resolve
from likewise.encoding.sessions import multiplies_bfloat16
from likewise.fitting import fit
from likewise.settings import Settings

NAMES = ("likewise", "likewise-taught", "likewise-bf16", "likewise-bf16-taught", "setfit")
FIGURES = ("requests", "p50", "p95", "p99", "client_cpu", "cpu_ms", "failed", "taught")
LIKEWISE = str(Path(sys.executable).with_name("likewise"))


def main() -> None:
    """Run what is not there yet, and print the page's section."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=10.0, help="a phase at most")
    parser.add_argument("--requests", type=int, default=20_000, help="a phase at most")
    parser.add_argument("--workers", type=int, help="processes of our service (default: cores); SetFit's has one")
    given = parser.parse_args()
    given.data = None  # the clients' texts are the bundled ones
    for _, train, test in datasets(given, ("sample",)):
        once(given.results / "load.json", lambda a=train, b=test: run(given, a, b))
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


def run(given: argparse.Namespace, train: Part, test: Part) -> dict[str, Any]:
    """All services, for every number of clients."""
    around = surroundings()
    workers = given.workers or around["threads"]
    with services(given, train, workers) as (there, found):
        for clients in given.clients:
            turns = in_turn(there, rounds(given), lambda one, n=clients: one.phase(test.texts, n, given))
            for who, phases in turns.items():
                found[who][str(clients)] = {figure: spread([one[figure] for one in phases]) for figure in FIGURES}
    return {"found": found, "workers": workers, "clients": given.clients, "surroundings": around}


@contextlib.contextmanager
def services(
    given: argparse.Namespace, train: Part, workers: int
) -> Iterator[tuple[dict[str, Asked], dict[str, dict[str, Any]]]]:
    """Those that could be started, and what is missing of the others."""
    names = chosen(given, NAMES)
    there: dict[str, Asked] = {}
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="likewise-load-")))
        for name in ("likewise", "likewise-bf16"):
            if name not in names or (precision_of(name) == "bf16" and not multiplies_bfloat16()):
                continue
            settings = Settings(precision=precision_of(name))
            fit(train.texts, train.labels, recipe="frozen", settings=settings).save(folder / name).close()
            command = [LIKEWISE, "serve", str(folder / name), "--log", "none", "--workers", str(workers), "--port"]
            service = stack.enter_context(served(command))
            there |= {name: Asked(service, False), f"{name}-taught": Asked(service, True)}
        try:
            python = python_of("setfit", given.peers)
        except Absent as absent:
            print(absent, file=sys.stderr)
            found["setfit"] = {"missing": str(absent)}
        else:
            rows = stack.enter_context(write_rows(train=train))
            command = [str(python), "-m", "benchmarks.setfit_service", str(resolve(DEFAULT)), rows]
            there["setfit"] = Asked(stack.enter_context(served(command)), False)
        yield {name: there[name] for name in names if name in there}, found


def section(folder: Path = RESULTS) -> str:
    """The page's part."""
    for result in results(folder, "load.json"):
        parts = []
        for clients in map(str, result["clients"]):
            measured = {name: facts[clients] for name, facts in result["found"].items() if clients in facts}
            rows = [[titled(name), *_cells(facts, measured.get("setfit"))] for name, facts in measured.items()]
            head = [
                "", "requests a second", "times SetFit's", "p50, ms", "p95, ms", "p99, ms", "times SetFit's p99",
                "processor time a request, ms", "the clients' cores", "taught a second", "failed",
            ]  # fmt: skip
            parts.append(f"### {clients} {'client' if clients == '1' else 'clients'}\n\n{table(head, rows)}")
        told = f"Likewise with {result['workers']} workers.\n"
        return "## The service under load\n\n" + "\n".join([*parts, told, missing(result) + origin(result)])
    return ""


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
