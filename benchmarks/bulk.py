"""Texts a second: all of a test set at once, with citations by Likewise, without by the peers.

    python -m benchmarks.bulk --data FOLDER

Three lengths: trec-6 (questions), isear (a sentence or two), and documents of 200 to 400 words, texts of isear of one
label joined. Every contestant is fitted to the same train rows on the same encoder, as it is, and asked the same texts;
its scores on them come along. Without a folder: the bundled sample and documents joined of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
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
    scores,
    spread,
    surroundings,
    times,
    titled,
    with_spread,
    write_rows,
)  # fmt: skip

WORDS = 300
TEXTS = 1000


def main() -> None:
    """Run what is not there yet, and print the page's section."""
    given = arguments(__doc__).parse_args()
    for name, train, test in sets(given):
        once(given.results / f"bulk-{name}.json", lambda name=name, a=train, b=test: run(given, name, a, b))
    print(section(given.results))


def sets(given: argparse.Namespace) -> Iterator[tuple[str, Part, Part]]:
    """Short texts, longer ones, and documents."""
    for name, train, test in datasets(given, ("trec-6", "isear")):
        yield name, train, test.rows(list(range(min(len(test), TEXTS))))
        if name in ("isear", "sample"):
            yield "documents", documents(train), documents(test)


def documents(part: Part) -> Part:
    """Texts of one label joined, each document as soon as it has 300 words, which few texts exceed by 100."""
    waiting: dict[tuple[str, ...], list[str]] = {}
    texts, labels = [], []
    for text, label in zip(part.texts, part.labels, strict=True):
        waiting.setdefault(label, []).append(text)
        joined = " ".join(waiting[label])
        if len(joined.split()) >= WORDS:
            texts.append(" ".join(joined.split()[:400]))
            labels.append(label)
            waiting[label] = []
    for label, rest in waiting.items():  # a class with few words has its document, too
        if rest:
            texts.append(" ".join(rest))
            labels.append(label)
    return Part(texts, labels)


def run(given: argparse.Namespace, name: str, train: Part, test: Part) -> dict[str, Any]:
    """One data set."""
    around = surroundings()
    with (
        write_rows(train=train, test=test) as data,
        contestants(given, chosen(given, ANSWERING), data=data) as (there, found),
    ):
        turns = in_turn(there, rounds(given), lambda one: one.call("bulk", data=data))
    for who, given_turns in turns.items():
        found[who]["rate"] = spread([len(test) / turn["seconds"] for turn in given_turns])
        found[who]["score"] = scores(test, given_turns[-1]["labels"])
        found[who]["peak_mib"] = given_turns[-1]["peak_mib"]
    words = sum(len(text.split()) for text in test.texts) / len(test)
    rate = found["likewise"]["rate"]["median"]
    return {
        "data": name, "train": len(train), "texts": len(test), "words": round(words, 1), "found": found,
        "ratios": against(found, "rate"), "surroundings": around, "short": f"likewise {rate:.0f} texts/s",
    }  # fmt: skip


def section(folder: Path = RESULTS) -> str:
    """The page's part, and its pictures."""
    parts = []
    for result in results(folder, "bulk-*.json"):
        found = result["found"]
        bars(folder / f"bulk-{result['data']}.png", f"Bulk, {result['data']}", "texts a second", found, "rate")
        rows = [
            [
                titled(name), with_spread(facts["rate"]), times(result["ratios"].get(name)),
                f"{facts['score']['accuracy']:.3f}", f"{facts['score']['macro_f1']:.3f}", f"{facts['peak_mib']:,}",
            ]
            for name, facts in found.items()
            if "rate" in facts
        ]  # fmt: skip
        head = ["", "texts a second", "Likewise is so many times as fast", "accuracy", "macro-F1", "peak MiB"]
        parts.append(
            f"### {result['data']}: {result['texts']:,} texts of {result['words']:.0f} words, "
            f"{result['train']:,} examples\n\n{table(head, rows)}\n{missing(result)}"
            f"![Bulk, {result['data']}](bulk-{result['data']}.png)\n\n{origin(result)}"
        )
    return "## Bulk\n\nMedians over the rounds, lowest and highest in brackets.\n\n" + "\n".join(parts) if parts else ""


if __name__ == "__main__":
    main()
