"""Search alone: time a query, memory and recall, from a thousand examples to a million, at 32, 128 and 384 dimensions.

    python -m benchmarks.search

Likewise's index (exact, distances in float64) against the plain matrix product, FAISS flat, FAISS HNSW (32 links,
efSearch 128; only up to --hnsw-up-to examples, for it takes long to build) and FAISS flat over half floats and bytes.
Keys are synthetic, around 50 centres. The share of the whole answer is that of search in batches, beside the encoding
of texts of trec-6 (or the bundled sample) measured in the same run.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

from experiments.paper import table
from experiments.running import once

from benchmarks.measuring import (
    RESULTS,
    arguments,
    contestants,
    datasets,
    in_turn,
    missing,
    origin,
    results,
    rounds,
    spread,
    surroundings,
    with_spread,
    write_rows,
)  # fmt: skip

SIZES = (1_000, 10_000, 100_000, 1_000_000)
DIMENSIONS = (32, 128, 384)
KINDS = {
    "Likewise's index": ("index", ""),
    "matrix product": ("product", ""),
    "FAISS flat": ("faiss", "Flat"),
    "FAISS HNSW": ("faiss", "HNSW32,Flat"),
    "FAISS float16": ("faiss", "SQfp16"),
    "FAISS 8 bits": ("faiss", "SQ8"),
}


def main() -> None:
    """Run what is not there yet, one file a size and dimension, and print the page's section."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="examples")
    parser.add_argument("--dimensions", type=int, nargs="+", default=DIMENSIONS)
    parser.add_argument("--hnsw-up-to", type=int, default=100_000, metavar="EXAMPLES")
    given = parser.parse_args()
    if given.quick:
        given.sizes, given.dimensions = (1_000,), (32,)
    once(given.results / "search-encoding.json", lambda: encoding(given))
    for count, dimension in product(given.sizes, given.dimensions):
        once(
            given.results / f"search-{count:07}-{dimension:03}.json",
            lambda count=count, dimension=dimension: run(given, count, dimension),
        )
    print(section(given.results))


def encoding(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds that encoding takes a text, in bulk: what a search stands beside."""
    around = surroundings()
    name, train, test = next(datasets(given, ("trec-6",)))
    with (
        write_rows(train=train.rows(list(range(min(1000, len(train))))), test=test) as data,
        contestants(given, ["likewise"], data=data) as (there, found),
    ):
        turns = in_turn(there, rounds(given), lambda one: one.call("encode", data=data))
    found["likewise"]["seconds"] = spread([turn["seconds"] / len(test) for turn in turns["likewise"]])
    return {"data": name, "found": found, "surroundings": around}


def run(given: argparse.Namespace, count: int, dimension: int) -> dict[str, Any]:
    """One size and dimension: every kind is built in a process of its own; then they take turns."""
    around = surroundings()
    kinds = {
        kind: asked for kind, asked in KINDS.items() if "HNSW" not in asked[1] or count <= given.hnsw_up_to
    }  # fmt: skip
    there, found = {}, {}
    with contestants(given, [f"{who}:{i}" for i, (who, _) in enumerate(kinds.values())]) as (started, about):
        for kind, name in zip(kinds, about, strict=True):
            found[kind] = about[name]
            if name in started:
                there[kind] = started[name]
                built = there[kind].call("build", kind=kinds[kind][1], count=count, dimension=dimension)
                found[kind] |= {"build_seconds": round(built["seconds"], 3), "mib": round(built["mib"])}
        each = in_turn(there, rounds(given), lambda one: one.call("one_by_one"))
        batches = in_turn(there, rounds(given), lambda one: one.call("batch"))
    exact = batches["Likewise's index"][0]["ids"]
    for kind in there:
        found[kind]["single"] = spread([turn["seconds"] for turn in each[kind]])
        found[kind]["batch"] = spread([turn["seconds"] for turn in batches[kind]])
        found[kind]["recall"] = _recall(exact, batches[kind][0]["ids"])
    return {"count": count, "dimension": dimension, "found": found, "surroundings": around}


def _recall(exact: list[list[int]], found: list[list[int]]) -> float:
    """Which share of the k nearest was found."""
    hits = sum(len(set(a) & set(b)) for a, b in zip(exact, found, strict=True))
    return round(hits / sum(map(len, exact)), 4)


def section(folder: Path = RESULTS) -> str:
    """The page's part, and its picture."""
    searches = results(folder, "search-[0-9]*.json")
    if not searches:
        return ""
    (encoded,) = results(folder, "search-encoding.json")
    text = encoded["found"]["likewise"]["seconds"]["median"]
    _curves(folder / "search.png", searches)
    rows = []
    for result in searches:
        for kind, facts in result["found"].items():
            if "batch" not in facts:
                continue
            share = facts["batch"]["median"] / (facts["batch"]["median"] + text)
            rows.append(
                [
                    f"{result['count']:,}", str(result["dimension"]), kind, with_spread(facts["single"], 2, 1000),
                    with_spread(facts["batch"], 3, 1000), f"{share:.1%}", f"{facts['recall']:.4f}",
                    f"{facts['build_seconds']:.2f}", f"{facts['mib']:,}",
                ]
            )  # fmt: skip
    head = [
        "examples", "dimensions", "", "one by one, ms a query", "batches of 256, ms a query", "share of the answer",
        "recall", "building, s", "MiB beyond the keys given",
    ]  # fmt: skip
    words = ", ".join(sorted({line for result in searches for line in missing(result).splitlines() if line}))
    return (
        f"## Search\n\nEncoding takes {text * 1000:.2f} ms a text of {encoded['data']} in bulk.\n\n"
        f"{table(head, rows)}\n{words}\n\n![Search](search.png)\n\n{origin(*searches)}"
    )


def _curves(path: Path, searches: list[dict[str, Any]]) -> None:
    """Milliseconds a query in batches over examples, a picture a dimension."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    dimensions = sorted({result["dimension"] for result in searches})
    size = (4 * len(dimensions), 3.5)
    plot, all_axes = pyplot.subplots(1, len(dimensions), figsize=size, layout="constrained", squeeze=False)
    for axes, dimension in zip(all_axes[0], dimensions, strict=True):
        for kind in KINDS:
            points = [
                (result["count"], result["found"][kind]["batch"]["median"] * 1000)
                for result in searches
                if result["dimension"] == dimension and "batch" in result["found"].get(kind, {})
            ]
            if points:
                axes.loglog(*zip(*points, strict=True), marker="o", label=kind)
        axes.set_title(f"{dimension} dimensions", fontsize=10)
        axes.set_xlabel("examples")
    all_axes[0][0].set_ylabel("ms a query, batches of 256")
    all_axes[0][0].legend(fontsize=7)
    plot.savefig(path, dpi=110)
    pyplot.close(plot)


if __name__ == "__main__":
    main()
