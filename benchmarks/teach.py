"""Teaching: from the call to the changed answer, one example and a thousand, with 1,000 and 100,000 examples held.

    python -m benchmarks.teach --data FOLDER

Likewise's `teach` and `classify`, adaptive-classifier's `add_examples` and `predict`, and scikit-learn's
KNeighborsClassifier fitted again over embeddings that are kept. Beyond the rows of isear the examples held are
synthetic embeddings (nobody has to encode 100,000 texts), the same number for everybody.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

from experiments.data import Part
from experiments.paper import table
from experiments.running import once

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

NAMES = ("likewise", "knn", "adaptive")
HELD = (1_000, 100_000)
AT_ONCE = (1, 1000)
REAL = 1_000  # of those held: real texts, encoded


def main() -> None:
    """Run what is not there yet, and print the page's section."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--held", type=int, nargs="+", default=HELD, help="examples held")
    given = parser.parse_args()
    for _, train, test in datasets(given, ("isear",)):
        for held in (60,) if given.quick else given.held:
            once(
                given.results / f"teach-{held:06}.json",
                lambda held=held, train=train, test=test: run(given, held, train, test),
            )
    print(section(given.results))


def run(given: argparse.Namespace, held: int, train: Part, test: Part) -> dict[str, Any]:
    """One number of examples held. Each turn teaches new texts (a number is added), so that none is known already."""
    around = surroundings()
    kept = train.rows(list(range(min(REAL, held, len(train)))))
    at_once = (1, 20) if given.quick else AT_ONCE
    turns_taken = itertools.count(1)

    def taught(one: Any, count: int) -> dict[str, Any]:
        number = next(turns_taken)
        rows = [i % len(test) for i in range(count)]
        texts = [f"{test.texts[row]} {number}.{i}" for i, row in enumerate(rows)]
        answer: dict[str, Any] = one.call(
            "teach", texts=texts, labels=[test.labels[row][0] for row in rows], ask=texts[0]
        )
        return answer

    with (
        write_rows(train=kept) as data,
        contestants(given, chosen(given, NAMES), data=data, held=held) as (there, found),
    ):
        for count in at_once:
            turns = in_turn(there, rounds(given), lambda one, count=count: taught(one, count))
            for who, given_turns in turns.items():
                found[who][f"seconds_{count}"] = spread([turn["seconds"] for turn in given_turns])
                found[who]["encoding"] = spread([turn["encoding"] for turn in given_turns])
    first = found["likewise"]["seconds_1"]["median"] * 1000
    return {
        "held": held, "at_once": at_once, "found": found,
        "ratios": {str(count): against(found, f"seconds_{count}") for count in at_once},
        "surroundings": around, "short": f"likewise {first:.0f} ms for one",
    }  # fmt: skip


def section(folder: Path = RESULTS) -> str:
    """The page's part, and its pictures."""
    parts = []
    for result in results(folder, "teach-*.json"):
        found, held, at_once = result["found"], result["held"], result["at_once"]
        picture = f"teach-{held}.png"
        bars(folder / picture, f"Teach one, {held:,} held", "milliseconds", found, "seconds_1", 1000)
        rows = []
        for who, facts in found.items():
            if "seconds_1" not in facts:
                continue
            row = [titled(who)]
            for count in at_once:
                row += [with_spread(facts[f"seconds_{count}"], 1, 1000), times(result["ratios"][str(count)].get(who))]
            rows.append([*row, with_spread(facts["encoding"], 1, 1000)])
        head = [""]
        for count in at_once:
            head += [f"{count:,} taught, answer changed: ms", "Likewise takes so many times as long"]
        parts.append(
            f"### {held:,} examples held\n\n{table([*head, 'of it one encoding, ms'], rows)}\n{missing(result)}"
            f"![Teach one, {held:,} held]({picture})\n\n{origin(result)}"
        )
    return "## Teach\n\n" + "\n".join(parts) if parts else ""


if __name__ == "__main__":
    main()
