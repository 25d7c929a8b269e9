"""Fitting: wall time and dev score at 8, 64 and all examples a class, on trec-6 and isear.

    python -m benchmarks.fit --data FOLDER

Likewise's recipes `frozen` and `likewise`, SetFit with its defaults but for a cap on its training steps where one epoch
of its pairs would take hours (`--setfit-steps`; what it would have been is told), and plain fine-tuning with the
optimiser, schedule and precision of `likewise`. A tenth of train, at least 100 rows, is held out as dev rows, the same
for everybody; test scores are reported once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.data import Part
from experiments.paper import curves, table
from experiments.running import once

from benchmarks.measuring import (
    RESULTS,
    arguments,
    chosen,
    contestants,
    datasets,
    missing,
    origin,
    per_class,
    results,
    scores,
    surroundings,
    titled,
    write_rows,
)  # fmt: skip
from likewise.decision.splitting import hold_out
from likewise.encoding.names import DEFAULT, resolve
from likewise.validation import normalised

CONTESTANTS = ("frozen", "likewise", "setfit", "plain")
PER_CLASS = (8, 64, None)
STEPS = 2000
MEASURE = {"trec-6": "accuracy"}


def main() -> None:
    """Run what is not there yet, one file a contestant, and print the page's section."""
    parser = arguments(__doc__)
    parser.add_argument("--setfit-steps", type=int, default=STEPS, help="SetFit trains no longer than this")
    parser.add_argument("--per-class", type=int, nargs="+", help="only these numbers of examples a class; 0: all")
    given = parser.parse_args()
    for name, train, test in datasets(given, ("trec-6", "isear")):
        rest, dev = split(train)
        for count in (3,) if given.quick else [n or None for n in given.per_class or ()] or PER_CLASS:
            part = per_class(rest, count)
            for who in chosen(given, ("frozen", "setfit") if given.quick else CONTESTANTS):
                once(
                    given.results / f"fit-{name}-{count or 'all'}-{who}.json",
                    lambda name=name, who=who, part=part, dev=dev, test=test, count=count: run(
                        given, name, who, count, part, dev, test
                    ),
                )
    print(section(given.results))


def split(train: Part) -> tuple[Part, Part]:
    """Train rows, and dev rows held out of them; equal texts stand on one side."""
    share = max(0.1, min(0.5, 100 / len(train)))
    kept, held = hold_out([normalised(text) for text in train.texts], train.labels, share, 0)
    return train.rows(kept.tolist()), train.rows(held.tolist())


def run(
    given: argparse.Namespace, name: str, who: str, count: int | None, train: Part, dev: Part, test: Part
) -> dict[str, Any]:
    """One fit."""
    around = surroundings()
    contestant = "likewise" if who == "frozen" else who
    asked: dict[str, Any] = {}
    if contestant == "likewise":
        asked["recipe"] = who
    elif who == "setfit":
        asked["most_steps"] = given.setfit_steps
    with (
        write_rows(train=train, dev=dev, test=test) as data,
        contestants(given, [contestant], ready=False) as (there, found),
    ):
        for one in there.values():
            found[contestant] |= one.call("fit", encoder=str(resolve(DEFAULT)), data=data, **asked)
    facts = found[contestant]
    measure = MEASURE.get(name, "macro_f1")
    if "dev" in facts:
        facts["dev"], facts["test"] = scores(dev, facts["dev"]), scores(test, facts["test"])
        points: Sequence[Any] = facts.get("curve", [])
        facts["curve"] = [(round(seconds, 1), scores(dev, said)[measure]) for seconds, said in points]
        facts["curve"].append((round(facts["seconds"], 1), facts["dev"][measure]))
    return {
        "data": name, "who": who, "per_class": count, "train": len(train), "dev": len(dev), "test": len(test),
        "measure": measure, "found": found, "surroundings": around, "short": str(facts.get("dev", "")),
    }  # fmt: skip


def section(folder: Path = RESULTS) -> str:
    """The page's part, and its pictures."""
    fits: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for result in results(folder, "fit-*.json"):
        fits.setdefault((result["data"], result["per_class"] or 10**9), []).append(result)
    parts = []
    for (name, count), group in sorted(fits.items()):
        words = "all examples" if count == 10**9 else f"{count} examples a class"
        picture = f"fit-{name}-{'all' if count == 10**9 else count}.png"
        measure = group[0]["measure"]
        points = {
            _titled(one["who"]): facts["curve"] for one in group for facts in one["found"].values() if "curve" in facts
        }
        curves(folder / picture, f"{name}, {words}", "seconds of fitting", f"dev {measure}", points, log=True)
        fitted = [(result, facts) for result in group for facts in result["found"].values() if "seconds" in facts]
        setfit = next((facts for result, facts in fitted if result["who"] == "setfit"), None)
        rows = []
        for result, facts in fitted:
            who, steps = result["who"], str(facts.get("steps", "-"))
            if facts.get("all_steps", 0) > facts.get("steps", 0):
                steps += f" of {facts['all_steps']:,}"
            compared = "-"
            if setfit and who != "setfit":
                enough = facts["dev"][measure] >= setfit["dev"][measure]
                compared = f"{facts['seconds'] / setfit['seconds']:.2f}" + (
                    "" if enough else ", with a lower dev score"
                )
            rows.append(
                [
                    _titled(who), f"{facts['seconds']:,.1f}", compared, f"{facts['dev'][measure]:.3f}",
                    f"{facts['test'][measure]:.3f}", steps, facts.get("kept", "-"),
                ]
            )  # fmt: skip
        head = ["", "seconds", "of SetFit's time", f"dev {measure}", f"test {measure}", "steps", "kept"]
        parts.append(
            f"### {name}, {words}: {group[0]['train']:,} rows\n\n{table(head, rows)}\n"
            f"{''.join(map(missing, group))}![{name}, {words}]({picture})\n\n{origin(*group)}"
        )
    return "## Fit\n\n" + "\n".join(parts) if parts else ""


def _titled(who: str) -> str:
    return {"frozen": "Likewise, recipe frozen", "likewise": "Likewise, recipe likewise"}.get(who) or titled(who)


if __name__ == "__main__":
    main()
