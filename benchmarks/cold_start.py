"""From nothing to the first answer: wall time and peak memory of a whole process that answers one text.

    python -m benchmarks.cold_start

Likewise's command line against a script of a few lines for each peer, all with a model fitted before. The files are in
the system's cache, for a first round that is not counted has read them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from experiments.data import Part
from experiments.paper import table
from experiments.running import once

from benchmarks.contestants import ANSWERING
from benchmarks.measuring import (
    RESULTS,
    against,
    arguments,
    bars,
    chosen,
    contestants,
    datasets,
    in_turn,
    missing,
    origin,
    results,
    rounds,
    spread,
    surroundings,
    times,
    titled,
    with_spread,
    write_rows,
)  # fmt: skip
from benchmarks.process import environment

NAMES = [name for name in ANSWERING if name != "knn"]  # which starts as LogisticRegression does
ASKED = "where is the parcel that I ordered last week"


def main() -> None:
    """Run what is not there yet, and print the page's section."""
    given = arguments(__doc__).parse_args()
    given.data = None  # the bundled sample: what was fitted to plays no part in how long a start takes
    for name, train, _ in datasets(given, ()):
        once(given.results / "cold_start.json", lambda name=name, train=train: run(given, name, train))
    print(section(given.results))


def run(given: argparse.Namespace, name: str, train: Part) -> dict[str, Any]:
    """All contestants: each is fitted and its process ended; then their commands take turns."""
    around = surroundings()
    with (
        write_rows(train=train) as data,
        contestants(given, chosen(given, NAMES), data=data) as (there, found),
    ):
        commands = {}
        for who, contestant in there.items():
            commands[who] = contestant.call("command", text=ASKED)["command"]
            contestant.close()
        turns = in_turn(there, rounds(given), lambda one: whole_process(commands[one.name]))
    for who, given_turns in turns.items():
        found[who]["seconds"] = spread([seconds for seconds, _ in given_turns])
        found[who]["memory"] = spread([mebibytes for _, mebibytes in given_turns])
    first = found["likewise"]["seconds"]["median"]
    return {
        "data": name, "train": len(train), "found": found, "ratios": against(found, "seconds"),
        "ratios_memory": against(found, "memory"), "surroundings": around, "short": f"likewise {first:.2f} s",
    }  # fmt: skip


def whole_process(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak MiB of a process, from its start to its end. RuntimeError where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said.decode()[-500:]}")
    return seconds, used.ru_maxrss / 1024  # Linux counts in KiB


def section(folder: Path = RESULTS) -> str:
    """The page's part, and its picture."""
    for result in results(folder, "cold_start.json"):
        found = result["found"]
        bars(folder / "cold_start.png", "From nothing to the first answer", "seconds", found, "seconds")
        rows = [
            [
                titled(who), with_spread(facts["seconds"], 2), times(result["ratios"].get(who)),
                with_spread(facts["memory"]), times(result["ratios_memory"].get(who)),
            ]
            for who, facts in found.items()
            if "seconds" in facts
        ]  # fmt: skip
        head = ["", "seconds", "Likewise takes so many times as long", "peak MiB", "Likewise, so many times"]
        return (
            f"## Cold start\n\n{table(head, rows)}\n{missing(result)}![Cold start](cold_start.png)\n\n{origin(result)}"
        )
    return ""


if __name__ == "__main__":
    main()
