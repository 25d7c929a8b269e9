"""How much of the machine the encoder reaches: its floating-point operations a second beside a matrix product's.

    python -m benchmarks.limit --data FOLDER

A text of n tokens takes n (8 h^2 + 4 h f) + 4 n^2 h operations a layer (attention's four projections, the two matrices
of the feed-forward network, scores and their weighted sum; h wide, f in between), a multiplication and an addition
counted as two; what normalisation, activation and softmax take is not counted. The measured rate is that of a product
of two matrices of 2048 by 2048 in the same runtime, with the same threads and precision. Texts are some with about 15
tokens and some with 100 to 200, as they come, through the whole of `encode`, tokenisation included. A turn measures
all three, one after the other, for the rates of a machine that others share change from minute to minute; shares are
of one turn.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.data import Part
from experiments.paper import table
from experiments.running import once

from benchmarks.bulk import documents
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
    titled,
    with_spread,
    write_rows,
)  # fmt: skip

SHORT, LONG = (13, 17), (100, 200)
TEXTS = 1000
NAMES = ("likewise", "likewise-openvino", "likewise-bf16")


def main() -> None:
    """Run what is not there yet, and print the page's section."""
    given = arguments(__doc__).parse_args()
    for _, train, _ in datasets(given, ("isear",)):
        once(given.results / "limit.json", lambda train=train: run(given, train))
    print(section(given.results))


def run(given: argparse.Namespace, train: Part) -> dict[str, Any]:
    """Short and long texts, and the matrix product, in turn."""
    around = surroundings()
    count = 20 if given.quick else TEXTS
    joined = documents(train)
    pool = Part([*train.texts, *_halves(joined)], [*train.labels, *joined.labels])
    with (
        write_rows(train=train.rows(list(range(min(300, len(train))))), pool=pool) as data,
        contestants(given, chosen(given, NAMES), data=data) as (
            there,
            found,
        ),
    ):
        for name, one in there.items():
            found[name] |= one.call("texts_of_lengths", data=data, short=SHORT, long=LONG, count=count)
        for name, turns in in_turn(there, rounds(given), lambda one: one.call("rates")).items():
            for figure in ("product", "short", "long"):
                found[name][figure] = spread([turn[figure] / 1e9 for turn in turns])
    return {"found": found, "surroundings": around}


def _halves(part: Part) -> list[str]:
    return [" ".join(text.split()[:110]) for text in part.texts]


def section(folder: Path = RESULTS) -> str:
    """The page's part."""
    for result in results(folder, "limit.json"):
        rows = []
        for name, facts in result["found"].items():
            if "product" not in facts:
                continue
            row = [titled(name), with_spread(facts["product"])]
            for figure in ("short", "long"):
                share = ratio(facts[figure], facts["product"])
                row += [with_spread(facts[figure]), with_spread(share, scale=100)]
            rows.append(row)
        facts = result["found"]["likewise"]
        head = ["", "matrix product, GFLOP/s"]
        for figure in ("short", "long"):
            head += [f"texts of {facts['tokens'][figure]:.0f} tokens, GFLOP/s", "share, %"]
        return f"## Limit\n\n{table(head, rows)}\n{missing(result)}{origin(result)}"
    return ""


if __name__ == "__main__":
    main()
