"""What the benchmarks share: their arguments and data, contestants in turn, medians, spread and ratios, the machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from experiments.data import Missing, Part, read
from experiments.running import arguments as experiments_arguments

from benchmarks.contestants import ENCODER_TOKENS, TITLES
from benchmarks.process import Absent, Contestant, Failed
from likewise.decision.measures import accuracy, macro_f1
from likewise.encoding.names import DEFAULT, resolve
from likewise.machine import cores

RESULTS = Path(__file__).parent / "results"
PEERS = Path(__file__).parents[1] / ".venv-bench"
QUICK_ROWS = 54
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")


def arguments(description: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """Those of the experiments; also how often each contestant's turn comes, and where the peers are installed."""
    parser = experiments_arguments(description, RESULTS)
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="measured turns of each contestant, after a first one"
    )
    parser.add_argument(
        "--peers", type=Path, default=PEERS, help="the environment that `make bench` makes for the peers"
    )
    parser.add_argument("--contestants", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--quick", action="store_true", help="a trial on few rows of the bundled data, two rounds")
    return parser


def chosen(given: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """The contestants that were asked for; Likewise comes first, and always."""
    return [name for name in names if not given.contestants or name in ("likewise", *given.contestants)]


def rounds(given: argparse.Namespace) -> int:
    """Measured turns."""
    return 2 if given.quick else int(given.rounds)


# The data


def datasets(given: argparse.Namespace, names: Sequence[str]) -> Iterator[tuple[str, Part, Part]]:
    """Name, train and test rows of the data sets that are there; the bundled sample where no folder is given."""
    if given.quick or given.data is None:
        names = ("sample",)
    for name in names:
        if given.only and given.only != name:
            continue
        try:
            train, test = (read(given.data, name, part) for part in ("train", "test"))
        except Missing as missing:
            print(missing, file=sys.stderr)
            continue
        assert train is not None and test is not None
        if given.quick:
            train, test = spread_over_classes(train, QUICK_ROWS), spread_over_classes(test, QUICK_ROWS // 3)
        yield name, train, test


def spread_over_classes(part: Part, rows: int) -> Part:
    """The first rows of each class in turn, so many in all."""
    turn = _turns(part)
    return part.rows(sorted(sorted(range(len(part)), key=lambda i: (turn[i], i))[:rows]))


def per_class(part: Part, count: int | None) -> Part:
    """The first `count` rows of each class; all where it is None."""
    return part if count is None else part.rows([i for i, turn in enumerate(_turns(part)) if turn <= count])


def _turns(part: Part) -> list[int]:
    """Of each row the how manieth of its class it is, from 1."""
    seen: Counter[tuple[str, ...]] = Counter()
    turns = []
    for labels in part.labels:
        seen[labels] += 1
        turns.append(seen[labels])
    return turns


@contextmanager
def write_rows(**parts: Part) -> Iterator[str]:
    """A file of these parts, as contestants read them; gone afterwards."""
    rows = {
        name: {"texts": part.texts, "labels": [labels[0] for labels in part.labels]} for name, part in parts.items()
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(rows, file)
        file.flush()
        yield file.name


def scores(truth: Part, decided: Sequence[str]) -> dict[str, float]:
    """Accuracy and macro-F1 of one decided label a text."""
    names = sorted({label for labels in truth.labels for label in labels} | set(decided))
    column = {label: i for i, label in enumerate(names)}
    true, said = (np.zeros((len(truth), len(names)), dtype=bool) for _ in range(2))
    for row, (labels, label) in enumerate(zip(truth.labels, decided, strict=True)):
        true[row, column[labels[0]]] = said[row, column[label]] = True
    return {"accuracy": round(accuracy(true, said), 4), "macro_f1": round(macro_f1(true, said), 4)}


# The contestants


@contextmanager
def contestants(
    given: argparse.Namespace, names: Iterable[str], *, ready: bool = True, **prepared: Any
) -> Iterator[tuple[dict[str, Contestant], dict[str, Any]]]:
    """Each contestant in a process of its own, ready; and what was found of them so far: versions, or what is missing.

    `prepared` is what each is given to make ready with, and a folder of its own; nothing where `ready` is false.
    """
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="likewise-benchmark-")))
        encoder = str(resolve(DEFAULT))
        there: dict[str, Contestant] = {}
        found: dict[str, Any] = {}
        for name in names:
            folder = work / name.replace(":", "-")
            folder.mkdir()
            try:
                contestant = stack.enter_context(Contestant(name, given.peers))
                made = contestant.call("prepare", encoder=encoder, folder=str(folder), **prepared) if ready else {}
            except (Absent, Failed) as error:  # the others go on, but for Likewise itself
                if name == "likewise":
                    raise
                print(error, file=sys.stderr)
                found[name] = {"missing": str(error)}
                continue
            there[name], found[name] = contestant, {"versions": contestant.versions, **made}
        yield there, found


def in_turn(there: Mapping[str, Any], count: int, turn: Callable[[Any], Any]) -> dict[str, list[Any]]:
    """What each contestant's turns gave, one after the other in every round; a first round warms up and is left out."""
    given: dict[str, list[Any]] = {name: [] for name in there}
    for number in range(count + 1):
        order = list(there) if number % 2 == 0 else list(there)[::-1]  # nobody always follows the same one
        for name in order:
            got = turn(there[name])
            if number:
                given[name].append(got)
    return given


# The figures


def spread(values: Sequence[float], digits: int = 4) -> dict[str, Any]:
    """Median, lowest and highest of some rounds, and the rounds."""
    rounded = [float(f"{value:.{digits + 2}g}") for value in values]
    return {"median": median(rounded), "low": min(rounded), "high": max(rounded), "rounds": rounded}


def ratio(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """Ours over theirs: of the medians, and the lowest and highest of the rounds, which were measured side by side."""
    each = [a / b for a, b in zip(ours["rounds"], theirs["rounds"], strict=True)]
    return {
        "median": round(ours["median"] / theirs["median"], 3),
        "low": round(min(each), 3),
        "high": round(max(each), 3),
    }


def against(found: Mapping[str, Any], figure: str, reference: str = "likewise") -> dict[str, dict[str, float]]:
    """The ratios of the reference's figure to everybody's."""
    return {
        name: ratio(found[reference][figure], facts[figure])
        for name, facts in found.items()
        if name != reference and figure in facts and figure in found.get(reference, {})
    }


def surroundings() -> dict[str, Any]:
    """The machine's instruction sets and cores, and how busy it was when a benchmark began."""
    flags: set[str] = set()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                flags |= set(line.split(":", 1)[1].split())
    return {
        "instruction_sets": [name for name in INSTRUCTIONS if name in flags],
        "threads": cores(),
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "encoder": DEFAULT,
        "max_tokens": ENCODER_TOKENS,
    }


# The page


def results(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """The results of one benchmark, by file name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(pattern))]


def titled(name: str) -> str:
    """What the page calls a contestant."""
    return TITLES.get(name, name)


def with_spread(figure: Mapping[str, Any] | None, digits: int = 0, scale: float = 1.0) -> str:
    """As it stands in a table: the median, with the lowest and the highest."""
    if figure is None:
        return "-"
    middle, low, high = (f"{figure[key] * scale:,.{digits}f}" for key in ("median", "low", "high"))
    return f"{middle} ({low} to {high})"


def times(figure: Mapping[str, float] | None) -> str:
    """A ratio as it stands in a table."""
    return "1" if figure is None else f"{figure['median']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def origin(*found: Mapping[str, Any]) -> str:
    """Where a table comes from, in a sentence: all commits, loads and versions where its results differ in them."""
    around = found[-1]["surroundings"]
    loads = [load for one in found if (load := one["surroundings"]["load_at_start"]) is not None]
    load = " to ".join(dict.fromkeys(str(some(loads)) for some in (min, max))) if loads else "unknown"
    versions: dict[str, set[str]] = {}
    for one in found:
        for facts in one["found"].values():
            for name, version in facts.get("versions", {}).items():
                versions.setdefault(name, set()).add(version)
    listed = ", ".join(f"{name} {' and '.join(sorted(each))}" for name, each in sorted(versions.items()))
    commits = " and ".join(dict.fromkeys(one["commit"] for one in found))
    return (
        f"{found[-1]['machine']} ({', '.join(around['instruction_sets'])}); {around['threads']} threads each; load "
        f"{load} at the start; commit {commits}; {listed}.\n"
    )


def missing(found: Mapping[str, Any]) -> str:
    """A line for each contestant that was not there."""
    return "".join(f"{facts['missing']}\n\n" for facts in found["found"].values() if "missing" in facts)


def bars(path: Path, title: str, unit: str, found: Mapping[str, Any], figure: str, scale: float = 1.0) -> None:
    """A bar for each contestant's median, with its spread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name, facts in found.items() if figure in facts][::-1]
    middle = np.array([found[name][figure]["median"] for name in names]) * scale
    low, high = (np.array([found[name][figure][key] for name in names]) * scale for key in ("low", "high"))
    plot, axes = pyplot.subplots(figsize=(7, 0.7 + 0.4 * len(names)), layout="constrained")
    colours = ["tab:orange" if name.startswith("likewise") else "tab:blue" for name in names]
    axes.barh([titled(name) for name in names], middle, xerr=[middle - low, high - middle], color=colours, capsize=2)
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10)
    plot.savefig(path, dpi=110)
    pyplot.close(plot)
