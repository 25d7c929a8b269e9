"""The paper on class-driven embedding alignment (CEA): its tables and figures, the paper's own numbers beside ours.

    python -m experiments.cea --data trec-6 --data trec-50 --seeds 3 --folder FOLDER     hours
    python -m experiments.cea --data trec-6 --only table2 --folder FOLDER                one part
    python -m experiments.cea --quick                                                    the sample data, in seconds

Parts: table2 (five methods, at the paper's learning rates and at rates chosen on dev rows), table3 (time), table4
(wrong answers with their neighbours), table5 (a class hidden, then taught), table6 (k), objectives (Algorithm 1 and
other losses against the in-batch form), figure3 (a share of train), subclasses (trained on trec-6, voted with trec-50's
labels), maps (Figures 1 and 4). Each run leaves one JSON file in experiments/results/cea/ and is not repeated where
that is there; the page there (README.md) and its plots are made anew after every run. Models that later parts build on
are kept in models/ beside them. Nothing is chosen on test.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from experiments import cea_runs, cea_tables
from experiments.cea_fits import METHODS, Bench, Plan
from experiments.data import Missing, Part, read
from experiments.paper import PAGE, arguments, provenance
from experiments.running import once, parts
from experiments.shallow import starting

SETS = ("trec-6", "trec-50", "agnews", "dbpedia", "imdb", "yelp")
FINE = {"trec-6": "trec-50"}  # the same rows with finer labels
HIDDEN = {"trec-6": "ABBR", "agnews": "World", "dbpedia": "Company"}  # the class that the paper hides
PARTS = ("table2", "table3", "table4", "table5", "table6", "objectives", "figure3", "subclasses", "maps")
ONLY_TABLES = ("trec-50", "imdb", "yelp")  # of these the paper shows Tables 2 and 6 alone
QUICK = Plan(
    epochs=1, cea_rates=(None, 1e-4), softmax_rates=(None,), short=1, matched=False, shares=(40,), rows=120,
    max_tokens=24, timings=2,
)  # fmt: skip
Run = tuple[str, str, Callable[[], dict[str, Any]]]
"""The part it belongs to, the name of its file, and what it does."""


def main() -> None:
    """Run what the command line asks for, and keep the page up to date."""
    given = arguments("cea", __doc__, PARTS)
    found = False
    for part, name, job in _runs(given):
        if given.only and part not in given.only:
            continue
        path = given.results / f"{name}.json"
        new = not path.exists()
        once(path, job)
        if new and not given.quick:
            cea_tables.write(given.results, provenance(given.folder))
        found = True
    if found:
        cea_tables.write(given.results, provenance(given.folder))
        print((given.results / PAGE).read_text(encoding="utf-8"))
        print(f"Written to {given.results}", file=sys.stderr)


def _runs(given: Any) -> Iterator[Run]:
    """Every run, what is most worth knowing first: one seed of each data set, then the other seeds, then the rest."""
    names = ("sample",) if given.quick else given.data or SETS
    plan = QUICK if given.quick else Plan()
    with tempfile.TemporaryDirectory() as folder:
        benches = []
        for name, (train, test) in parts(given.folder, names, "train", "test"):
            assert train is not None and test is not None
            train, test = _some(train, plan.rows), _some(test, plan.rows and plan.rows // 2)
            encoder = starting(given, Path(folder) / "encoder", train, test)
            benches.append(Bench(name, 0, train, test, plan, encoder, given.results / "models"))
        for bench in benches:
            yield from _first_seed(bench, given)
        for bench in benches:
            for seed in range(1, given.seeds):
                yield from _other_seed(replace(bench, seed=seed), given.results)
        for bench in benches:
            if bench.data not in ONLY_TABLES:
                for label in bench.labels if not given.quick else ():
                    yield _hidden(bench, given.results, label)


def _first_seed(bench: Bench, given: Any) -> Iterator[Run]:
    """All parts of one data set: those that need but a CEA model as soon as there is one."""
    results, every = given.results, bench.data not in ONLY_TABLES
    yield from _table2(bench, results, ("cea",), bench.plan.cea_rates)
    rate = chosen(results, bench.data, "cea")
    data = bench.data
    yield "table6", f"table6-{data}", partial(cea_runs.table6, bench, rate)
    if every:
        yield "table3", f"table3-{data}", partial(cea_runs.table3, bench, rate)
        yield "table4", f"table4-{data}", partial(cea_runs.table4, bench, rate)
        fine = fine_labels(bench, given.folder)
        if fine:
            yield "subclasses", f"subclasses-{data}", partial(cea_runs.subclasses, bench, rate, *fine)
        names = fine[0] if fine else None
        yield "maps", f"maps-{data}", partial(cea_runs.figures, bench, rate, names, results)
    yield from _table2(bench, results, METHODS[1:], (None,))
    if every:
        yield _hidden(bench, results, None)
        yield _hidden(bench, results, HIDDEN.get(data, bench.labels[0]))
        yield from _objectives(bench, results, rate)
    yield from _table2(bench, results, ("softmax", "cea-softmax"), bench.plan.softmax_rates, tuned=True)
    yield from _table2(bench, results, ("cea-frozen-softmax",), (None,), tuned=True)
    if every:
        soft = chosen(results, data, "softmax")
        for share in bench.plan.shares:
            named = f"figure3-{data}-{share:02d}"
            yield "figure3", f"{named}-cea", partial(cea_runs.figure3_cea, bench, rate, share)
            yield "figure3", f"{named}-softmax", partial(cea_runs.figure3_softmax, bench, soft, share)


def _other_seed(bench: Bench, results: Path) -> Iterator[Run]:
    """Table 2 with the rates that the first seed's dev rows chose."""
    yield from _table2(bench, results, METHODS, (None,))
    for method in ("cea", "cea-softmax", "cea-frozen-softmax", "softmax"):
        yield from _table2(bench, results, (method,), (chosen(results, bench.data, method),), tuned=True)


def _table2(
    bench: Bench, results: Path, methods: tuple[str, ...], rates: tuple[float | None, ...], tuned: bool = False
) -> Iterator[Run]:
    """`tuned`: what begins with a CEA model begins with the one at the chosen rate."""
    for method in methods:
        start = chosen(results, bench.data, "cea") if tuned and method.startswith("cea-") else None
        for rate in rates:
            name = f"table2-{bench.data}-{bench.seed}-{method}-{_said(rate)}" + (f"-{_said(start)}" if start else "")
            yield "table2", name, partial(cea_runs.table2, bench, method, rate, start)


def _said(rate: float | None) -> str:
    return "paper" if rate is None else f"{rate:g}"


def chosen(results: Path, data: str, method: str) -> float | None:
    """The rate with the best dev accuracy of the first seed; None is the paper's own, also where nothing was run.

    Of what begins with a CEA model those count that begin with the chosen one.
    """
    runs = [json.loads(path.read_text()) for path in sorted(results.glob(f"table2-{data}-0-{method}-*.json"))]
    start = chosen(results, data, "cea") if method.startswith("cea-") else None
    runs = [run for run in runs if run["method"] == method and run["start"] == start]
    best = max(runs, key=lambda run: (run["dev"], run["asked"] is None), default=None)
    return best["asked"] if best else None


def _hidden(bench: Bench, results: Path, label: str | None) -> Run:
    rate = chosen(results, bench.data, "cea")
    return "table5", f"table5-{bench.data}-{label or 'full'}", partial(cea_runs.table5, bench, rate, label)


def _objectives(bench: Bench, results: Path, rate: float | None) -> Iterator[Run]:
    """Each for as many epochs, then the in-batch form for as long as the pairs took."""
    short = bench.plan.short

    def run(name: str, epochs: int) -> Run:
        named = f"objective-{bench.data}-{name}-{epochs:02d}"
        return "objectives", named, partial(cea_runs.objective, bench, rate, name, epochs)

    for name in ("in-batch", "pairs", "triplet", "contrastive"):
        yield run(name, short)
    if not bench.plan.matched:
        return
    seconds = {}
    for name in ("in-batch", "pairs"):
        path = results / f"objective-{bench.data}-{name}-{short:02d}.json"
        if path.exists():
            seconds[name] = json.loads(path.read_text())["train_seconds"]
    if len(seconds) == 2:
        longer = int(short * seconds["pairs"] / max(seconds["in-batch"], 0.1))
        if short < longer:
            yield run("in-batch", min(longer, 5 * short))


def fine_labels(bench: Bench, folder: Path | None) -> tuple[list[tuple[str, ...]], Part] | None:
    """Finer labels of the train rows, and the test rows with theirs; None where there are none.

    The sample data have none: there a class's short and long texts stand for its sub-classes.
    """
    if bench.data == "sample":
        lengths = [
            [
                (f"{labels[0]}:{'short' if len(text) < 60 else 'long'}",)
                for text, labels in zip(p.texts, p.labels, strict=True)
            ]
            for p in (bench.train, bench.test)
        ]
        return lengths[0], Part(bench.test.texts, lengths[1])
    try:
        train, test = (read(folder, FINE[bench.data], part) for part in ("train", "test"))
    except (KeyError, Missing) as missing:
        if isinstance(missing, Missing):
            print(missing, file=sys.stderr)
        return None
    assert train is not None and test is not None
    if (train.texts, test.texts) != (bench.train.texts, bench.test.texts):
        raise SystemExit(f"{FINE[bench.data]}: found other rows than in {bench.data}; expected the same, in its order")
    return train.labels, test


def _some(part: Part, rows: int | None) -> Part:
    """The first rows, where not all are asked for."""
    return part.rows(list(range(min(rows or len(part), len(part)))))


if __name__ == "__main__":
    main()
