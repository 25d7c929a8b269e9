"""One text at a time, in-process: the median and the 99th percentile of a short text's answer.

    python -m benchmarks.single --data FOLDER

Texts of trec-6 (questions); as in the bulk benchmark every contestant is fitted to the same rows on the same encoder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
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

TEXTS = 200
QUICK_TEXTS = 18  # more than Likewise remembers of the texts asked last, here as above


def main() -> None:
    """Run what is not there yet, and print the page's section."""
    given = arguments(__doc__).parse_args()
    for name, train, test in datasets(given, ("trec-6",)):
        once(given.results / f"single-{name}.json", lambda name=name, a=train, b=test: run(given, name, a, b))
    print(section(given.results))


def run(given: argparse.Namespace, name: str, train: Part, test: Part) -> dict[str, Any]:
    """One data set."""
    around = surroundings()
    asked = min(len(test), QUICK_TEXTS if given.quick else TEXTS)
    with (
        write_rows(train=train, test=test) as data,
        contestants(given, chosen(given, ANSWERING), data=data) as (there, found),
    ):
        turns = in_turn(there, rounds(given), lambda one: one.call("singles", data=data, count=asked))
    for who, given_turns in turns.items():
        for figure, share in (("p50", 50), ("p99", 99)):
            found[who][figure] = spread([float(np.percentile(turn["seconds"], share)) for turn in given_turns])
    middle = found["likewise"]["p50"]["median"] * 1000
    return {
        "data": name, "train": len(train), "texts": asked, "found": found, "ratios": against(found, "p50"),
        "ratios_p99": against(found, "p99"), "surroundings": around, "short": f"likewise p50 {middle:.1f} ms",
    }  # fmt: skip


def section(folder: Path = RESULTS) -> str:
    """The page's part, and its pictures."""
    parts = []
    for result in results(folder, "single-*.json"):
        found, name = result["found"], result["data"]
        bars(folder / f"single-{name}.png", f"One at a time, {name}: median", "milliseconds", found, "p50", 1000)
        rows = [
            [
                titled(who), with_spread(facts["p50"], 1, 1000), times(result["ratios"].get(who)),
                with_spread(facts["p99"], 1, 1000), times(result["ratios_p99"].get(who)),
            ]
            for who, facts in found.items()
            if "p50" in facts
        ]  # fmt: skip
        head = ["", "p50, ms", "Likewise takes so many times as long", "p99, ms", "Likewise, so many times"]
        parts.append(
            f"### {name}: {result['texts']} texts one by one\n\n{table(head, rows)}\n{missing(result)}"
            f"![One at a time, {name}](single-{name}.png)\n\n{origin(result)}"
        )
    return "## One at a time\n\n" + "\n".join(parts) if parts else ""


if __name__ == "__main__":
    main()
