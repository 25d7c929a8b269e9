"""The page of `experiments.cea`: the tables, the paper's figures beside ours, and plots, from the runs' JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from experiments.cea_fits import METHODS
from experiments.paper import PAGE, curves, mean_and_deviation, table

Found = dict[str, Any]

# The paper's own, with BERT-base: Tables 2, 3, 5 and 6, and section 4.2.
TABLE2 = {
    "trec-6": ("0.9706 ± 0.0049", "0.9680 ± 0.0028", "0.9653 ± 0.0033", "0.8286 ± 0.0002", "0.9626 ± 0.0018"),
    "trec-50": ("0.8980 ± 0.0028", "0.9093 ± 0.0049", "0.8840 ± 0.0090", "0.7120 ± 0.0090", "0.9013 ± 0.0041"),
    "imdb": ("0.9314 ± 0.0005", "0.9344 ± 0.0006", "0.9329 ± 0.0012", "0.8719 ± 0.0004", "0.9286 ± 0.0012"),
    "dbpedia": ("0.9932 ± 0.0000", "0.9930 ± 0.0001", "0.9929 ± 0.0001", "0.9788 ± 0.0004", "0.9919 ± 0.0002"),
    "agnews": ("0.9366 ± 0.0013", "0.9387 ± 0.0007", "0.9352 ± 0.0007", "0.8891 ± 0.0006", "0.9362 ± 0.0002"),
    "yelp": ("0.6916 ± 0.0009", "0.6955 ± 0.0001", "0.6890 ± 0.0017", "0.5831 ± 0.0005", "0.6972 ± 0.0005"),
}
TABLE3 = {"trec-6": "0.4", "agnews": "2.9", "imdb": "9.5", "dbpedia": "2.5", "yelp": "10"}
TABLE5 = {
    ("trec-6", "ABBR"): {
        "ABBR": ("-", "0.7500", "0.8750"), "DESC": ("0.9484", "0.9718", "0.9750"),
        "ENTY": ("0.9101", "0.9101", "0.9450"), "HUM": ("0.9697", "0.9697", "0.9767"),
        "LOC": ("0.9753", "0.9753", "0.9816"), "NUM": ("0.9912", "0.9912", "0.9869"),
        "accuracy": ("0.9500", "0.9620", "0.9720"),
    },
    ("agnews", "World"): {"accuracy": ("0.7073", "0.9168", "0.9356")},
    ("dbpedia", "Company"): {"accuracy": ("0.9237", "0.9909", "0.9932")},
}  # fmt: skip
TABLE6 = {
    "trec-6": (6, 0.9706), "trec-50": (3, 0.9047), "agnews": (11, 0.9767), "imdb": (21, 0.9712),
    "dbpedia": (13, 0.9926), "yelp": (95, 0.6832),
}  # fmt: skip
SUBCLASSES = "0.846"
SHOWN = 4  # wrong answers of each kind


def write(folder: Path, provenance: str) -> None:
    """Make the page anew from the JSON files that are there, with its plots."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    sections = (_table2, _table5, _table3, _objectives, _table6, _figure3, _subclasses, _table4, _maps)
    parts = [text for section in sections if (text := section(found, folder))]
    (folder / PAGE).write_text("\n".join([_head(found, provenance), *parts]), encoding="utf-8")


def _of(found: dict[str, Found], prefix: str) -> list[Found]:
    return [run for name, run in found.items() if name.startswith(prefix)]


def _sets(runs: Iterable[Found]) -> list[str]:
    return sorted({run["data"] for run in runs}, key=lambda name: (len(name), name))


def _per_set(found: dict[str, Found], prefix: str, title: str, text: Callable[[str, list[Found]], str]) -> str:
    """A section with a part for each data set; empty without runs."""
    runs = _of(found, prefix)
    if not runs:
        return ""
    said = [text(name, [run for run in runs if run["data"] == name]) for name in _sets(runs)]
    return "\n".join([f"## {title}\n", *said])


def _head(found: dict[str, Found], provenance: str) -> str:
    runs = list(found.values())
    seeds = sorted({run["seed"] for run in runs})
    encoders = {Path(run["encoder"]).name for run in runs}
    hours = sum(run["wall_seconds"] for run in runs) / 3600
    return f"""# Class-driven embedding alignment (CEA)

Last command: {provenance}. Seeds: {", ".join(map(str, seeds))} (all parts but Table 2: seed 0). {len(runs)} runs,
{hours:.1f} hours of wall time in all, on {"; ".join(sorted({run["machine"] for run in runs}))}, shared with other work.

The paper's figures are those of BERT-base (110 million parameters); ours are of {", ".join(sorted(encoders))}. A tenth
of train is held out (dev), the same rows for all methods of a seed: it chooses epochs, k, and learning rates where
they are chosen at all. Test chooses nothing. CEA is trained in its in-batch form unless it says otherwise; before test
is scored the dev rows join the index. "Apart": without the test rows whose text also stands in train, which flatter
neighbours. "Vote" is the paper's majority vote, "head" the closed-form head that every model has beside it. Results of
one seed say little about differences of a percent: 5 of 500 test rows. Training seconds are the number of epochs times
the median epoch, since other work slowed or paused the runs; so wall times are rough. Those on a GPU are marked.
"""


def _table2(found: dict[str, Found], folder: Path) -> str:
    text = _per_set(found, "table2-", "Table 2: the five methods, accuracy on test", _methods)
    return text and text + (
        "\n`cea-softmax` and `cea-frozen-softmax` begin with the encoder that `cea` left for the same seed; that this "
        "is the\nsame as fitting the recipe of two stages is held by a test (tests/experiments/test_cea.py). The "
        "paper's rates: 2e-5 for\nCEA, 3e-6 for softmax, 20 epochs. Chosen rates have the best dev accuracy of seed 0 "
        "among 2e-5 and 1e-4 for CEA, 3e-6,\n2e-5 and 1e-4 for softmax; the classifier's own layer learns at 1e-3 "
        "throughout, so where the encoder is frozen there is\nnothing to choose. Our in-batch batches hold 64 texts, "
        "each encoded once; the paper's 32 pairs of two.\n"
    )


def _methods(data: str, runs: list[Found]) -> str:
    rows, choice = [], []
    for i, method in enumerate(METHODS):
        own = [run for run in runs if run["method"] == method and run["asked"] is None and run["start"] is None]
        best = _best(runs, method)
        paper = TABLE2.get(data, ("",) * 5)[i]
        rate = _rate(best[0]) if best else ""
        rows.append([method, paper, *_both(own), *_both(best), rate, f"{len(own)}, {len(best)}"])
        for run in runs:
            if run["method"] == method and run["seed"] == 0:
                choice.append([method, _rate(run), run["dev"], run["k"] if method == "cea" else "", _seconds(run)])
    header = ["method", "paper, BERT-base", "paper's rates", "apart", "chosen rates", "apart", "which", "seeds"]
    dev = table(["method", "rate", "dev accuracy", "k", "training, s"], choice)
    return f"### {data}\n\n{table(header, rows)}\nWhat the rates were chosen by (seed 0):\n\n{dev}"


def _both(runs: list[Found]) -> list[str]:
    """Mean and deviation over all test rows and over those apart."""
    if not runs:
        return ["", ""]
    return [mean_and_deviation([run["test"]["blend"][rows] for run in runs]) for rows in ("accuracy", "apart")]


def _best(runs: list[Found], method: str) -> list[Found]:
    """The runs of all seeds at the rate with the best dev accuracy of seed 0, once rates were tried."""
    mine = [run for run in runs if run["method"] == method]
    if method.startswith("cea-"):
        begun = _best(runs, "cea")
        mine = [run for run in mine if begun and run["start"] == begun[0]["asked"]]
    first = [run for run in mine if run["seed"] == 0]
    if not first or (len(first) < 2 and "frozen" not in method):
        return []
    asked = max(first, key=lambda run: (run["dev"], run["asked"] is None))["asked"]
    return [run for run in mine if run["asked"] == asked]


def _rate(run: Found) -> str:
    said = "-" if run["rate"] is None else f"{run['rate']:g}"
    return f"{said}, from CEA at {run['start'] or 2e-5:g}" if run["method"].startswith("cea-") else said


def _seconds(run: Found) -> str:
    return f"{run['train_seconds']:.0f}" + (" (GPU)" if "NVIDIA" in run["machine"] else "")


def _table5(found: dict[str, Found], folder: Path) -> str:
    full = {run["data"]: run for run in _of(found, "table5-") if run["hidden"] is None}
    hidden = [run for run in _of(found, "table5-") if run["hidden"] is not None]
    if not hidden:
        return ""
    said = [_hidden(run, full.get(run["data"])) for run in hidden]
    return "\n".join([
        "## Table 5: a class hidden during the fit, then its rows taught\n",
        "F1 of each class and accuracy on test; held-out: before its rows are taught; index++: after, without "
        "training; full: the\nfit that saw all classes. k stays what it was.\n",
        *said,
    ])  # fmt: skip


def _hidden(run: Found, full: Found | None) -> str:
    data, label = run["data"], run["hidden"]
    paper = TABLE5.get((data, label), {})
    stages = [run["held-out"], run["index++"], full["full"] if full else None]
    classes = sorted(run["index++"]["neighbours"]["per_label"])

    def cells(measure: Callable[[Found], float], name: str) -> list[str]:
        out = []
        for voice in ("neighbours", "head"):
            for i, stage in enumerate(stages):
                shown = "" if stage is None else f"{measure(stage[voice]):.3f}"
                out.append("-" if name == label and i == 0 else shown)
        return out

    rows = []
    for name in classes:
        support = run["index++"]["neighbours"]["per_label"][name]["support"]
        rows.append([name, *paper.get(name, ("", "", "")), *cells(lambda v, n=name: _f1(v, n), name), support])
    total = next(iter(stages[1].values()))["per_label"] if stages[1] else {}
    n = sum(its["support"] for its in total.values())
    rows.append(["accuracy", *paper.get("accuracy", ("", "", "")), *cells(lambda v: v["accuracy"], ""), n])
    rows.append(["accuracy, apart", "", "", "", *cells(lambda v: v["apart"], ""), run["apart"]])
    steps = ("held-out", "index++", "full")
    header = ["", *(f"paper: {s}" for s in steps), *(f"vote: {s}" for s in steps), *(f"head: {s}" for s in steps),
              "support"]  # fmt: skip
    note = f"{run['taught']:,} rows taught in {run['teach_seconds']:.1f} s; k {run['k']}, rate {run['rate']:g}."
    return f"### {data} without {label}\n\n{note}\n\n{table(header, rows)}"


def _f1(voice: Found, label: str) -> float:
    return float(voice["per_label"].get(label, {"f1": 0.0})["f1"])


def _table3(found: dict[str, Found], folder: Path) -> str:
    rows = [
        [run["data"], TABLE3.get(run["data"], ""), run["answer"], run["encode"], run["search"], run["words"],
         f"{run['index']:,}", run["k"], run["machine"]]
        for run in _of(found, "table3-")
    ]  # fmt: skip
    header = ["data", "paper, V100: ms a text", "ours: ms a text", "encoding alone", "search alone", "words a text",
              "index", "k", "our machine"]  # fmt: skip
    if not rows:
        return ""
    return (
        f"## Table 3: time of an answer, all test texts in one batch\n\n{table(header, rows)}\nThe whole answer (both "
        "voices) and two of its parts, each the fastest of several goes. Exact search; other work ran beside.\n"
    )


def _objectives(found: dict[str, Found], folder: Path) -> str:
    return _per_set(found, "objective-", "Algorithm 1 against the in-batch form, and other objectives", _objective)


def _objective(data: str, runs: list[Found]) -> str:
    said = {
        "in-batch": "cosine, all pairs of a batch (in-batch)", "pairs": "cosine, Algorithm 1's pairs (pairs)",
        "contrastive": "contrastive loss, Algorithm 1's pairs", "triplet": "triplet loss, hardest of a batch",
    }  # fmt: skip
    rows = []
    for run in sorted(runs, key=lambda run: (list(said).index(run["objective"]), run["epochs"])):
        vote, head = run["test"]["neighbours"], run["test"]["head"]
        cost = (f"{run['texts_encoded']:,}", _seconds(run), f"{run['fit_cpu_seconds']:.0f}")
        scores = (vote["accuracy"], vote["apart"], head["accuracy"], run["dev"], run["k"])
        rows.append([said[run["objective"]], run["epochs"], *scores, *cost])
    header = [
        "objective",
        "epochs",
        "vote",
        "vote, apart",
        "head",
        "dev",
        "k",
        "texts encoded",
        "training, s",
        "whole fit, CPU s",
    ]
    return (
        f"### {data}\n\nRate {runs[0]['rate']:g} for all, chosen for the in-batch form; 64 texts or 32 pairs a batch. "
        "The longer in-batch run\nhas the epochs that the pairs' seconds allow, at most five times as many. The paper "
        "reports no figures, only that its\nobjective was best of cosine, contrastive and triplet.\n\n"
        + table(header, rows)
    )


def _table6(found: dict[str, Found], folder: Path) -> str:
    runs = _of(found, "table6-")
    if not runs:
        return ""
    rows = [[run["data"], *TABLE6.get(run["data"], ("", "")), run["k"], run["dev"], _flat(run)] for run in runs]
    curves(folder / "table6-k.png", "Majority vote on dev rows", "k", "accuracy",
           {run["data"]: run["curve"] for run in runs}, log=True)  # fmt: skip
    header = ["data", "paper: k", "paper: dev", "ours: k", "ours: dev", "k within a standard error of the best"]
    return f"## Table 6: k, chosen on dev from 1 to 100\n\n{table(header, rows)}\n![curve](table6-k.png)\n"


def _flat(run: Found) -> str:
    """How little k matters: how many of those tried cannot be told from the best."""
    best = max(score for _, score in run["curve"])
    error = (best * (1 - best) / run["rows"]) ** 0.5
    near = [k for k, score in run["curve"] if score >= best - error]
    return f"{len(near)} of {len(run['curve'])}, from {min(near)} to {max(near)}"


def _figure3(found: dict[str, Found], folder: Path) -> str:
    runs = _of(found, "figure3-")
    return (
        "\n".join(
            ["## Figure 3: trained on a share of train, the rest then taught\n"]
            + [_shares(name, [run for run in runs if run["data"] == name], found, folder) for name in _sets(runs)]
        )
        if runs
        else ""
    )


def _shares(data: str, runs: list[Found], found: dict[str, Found], folder: Path) -> str:
    lines: dict[str, list[tuple[float, float]]] = {"kNN": [], "kNN index++": [], "head index++": [], "softmax": []}
    apart: dict[tuple[str, int], float] = {}

    def add(line: str, run: Found, score: Found) -> None:
        lines[line].append((run["share"], score["accuracy"]))
        apart[line, run["share"]] = score["apart"]

    for run in runs:
        if run["method"] == "softmax":
            add("softmax", run, run["alone"]["blend"])
        else:
            add("kNN", run, run["alone"]["neighbours"])
            add("kNN index++", run, run["index++"]["neighbours"])
            add("head index++", run, run["index++"]["head"])
    full = found.get(f"table5-{data}-full")
    if full:
        for line, voice in (("kNN", "neighbours"), ("kNN index++", "neighbours"), ("head index++", "head")):
            add(line, {"share": 100}, full["full"][voice])
    soft = _best(_of(found, f"table2-{data}-0-"), "softmax")
    if soft:
        add("softmax", {"share": 100}, soft[0]["test"]["blend"])
    shares = sorted({share for _, share in apart})
    rows = [
        [f"{share}%", *(f"{dict(points)[share]:.3f} ({apart[line, share]:.3f})" if share in dict(points) else ""
                        for line, points in lines.items())]
        for share in shares
    ]  # fmt: skip
    name = f"figure3-{data}.png"
    curves(folder / name, f"Trained on a share of {data}", "percent of train", "accuracy on test",
           {line: points for line, points in lines.items() if points})  # fmt: skip
    rates = {run["method"]: run["rate"] for run in runs}
    note = ", ".join(f"{method} at {rate:g}" for method, rate in sorted(rates.items()))
    return (
        f"### {data}\n\nAccuracy on test (apart in brackets). The share is of the nine tenths that are not dev; "
        f"dev rows are the same\nfor all shares. Rates as chosen on all of train: {note}. The paper shows a "
        f"curve without numbers: index++\nwithin 3 to 4 points of the full fit at small shares.\n\n"
        f"{table(['share', *lines], rows)}\n![curves]({name})\n"
    )


def _subclasses(found: dict[str, Found], folder: Path) -> str:
    return _per_set(found, "subclasses-", "Sub-classes: trained on coarse labels, voted with fine ones", _subclass)


def _subclass(data: str, runs: list[Found]) -> str:
    (run,) = runs
    vote, head, dev, frozen = run["test"]["neighbours"], run["test"]["head"], run["by_dev"], run["frozen"]
    paper = SUBCLASSES if data == "trec-6" else ""
    rows = [
        [f"CEA, vote, k as chosen on coarse labels ({run['k']})", paper, vote["accuracy"], vote["apart"]],
        [f"CEA, vote, k chosen on fine labels of dev rows ({dev['k']})", "", dev["accuracy"], dev["apart"]],
        ["CEA, closed-form head on fine labels", "", head["accuracy"], head["apart"]],
        [f"frozen encoder, vote, k chosen on fine labels ({frozen['k']})", "", frozen["accuracy"], frozen["apart"]],
    ]
    coarse = run["frozen_coarse"]
    each = [
        [label, its["precision"], its["recall"], its["f1"], its["support"], head["per_label"][label]["f1"]]
        for label, its in vote["per_label"].items()
    ]
    report = table(["class", "precision", "recall", "F1", "support", "F1 of the head"], each)
    return (
        f"### {data}\n\n{table(['', 'paper, BERT-base', 'accuracy', 'apart'], rows)}\nThe examples were relabelled, "
        "nothing else. For comparison, the frozen encoder's vote on the coarse labels: "
        f"{coarse['accuracy']:.3f}\n(apart {coarse['apart']:.3f}, k {coarse['k']}).\n\n"
        f"Figure 6: the vote's report by class (test; k {run['k']}).\n\n{report}"
    )


def _table4(found: dict[str, Found], folder: Path) -> str:
    return _per_set(found, "table4-", "Table 4: wrong answers and their nearest neighbours", _wrong)


KINDS = {
    "agree": "all four nearest bear one label, not the truth: perhaps the test row is labelled otherwise than train",
    "contradict": "the four nearest bear different labels: a border, or labels that contradict each other",
    "duplicates": "two or more of all that vote are the same text, normalised: train holds it more than once",
    "in train": "the test text itself stands in train, among those that vote",
}


def _wrong(data: str, runs: list[Found]) -> str:
    (run,) = runs
    wrong, train = run["wrong"], run["train"]
    said = [
        f"### {data}\n\n{len(wrong)} of the test rows are wrong. {train['repeated']} texts stand in train more than "
        f"once (normalised), {train['contradicting']} of them\nwith different labels. Rows are numbered from 0; the "
        "texts belong to others and are not copied.\n"
    ]
    for kind, meaning in KINDS.items():
        of_kind = [one for one in wrong if kind in one["kinds"]]
        said.append(f"{len(of_kind)} where {meaning}.\n")
        if of_kind:
            key = "same" if kind == "duplicates" else "neighbours"
            most = max(len(one[key]) for one in of_kind)
            what = "of the same text" if kind == "duplicates" else "nearest"
            header = ["test row", "truth", "decided",
                      *(f"{what} #{i}: train row, label, distance" for i in range(1, most + 1))]  # fmt: skip
            said.append(table(header, [
                [one["row"], one["truth"], one["decided"],
                 *(f"{n['row']} {n['label']} {n['distance']:.3f}" for n in one[key]), *[""] * (most - len(one[key]))]
                for one in of_kind[:SHOWN]
            ]))  # fmt: skip
    return "\n".join(said)


def _maps(found: dict[str, Found], folder: Path) -> str:
    return _per_set(found, "maps-", "Figures 1 and 4: maps of train (t-SNE)", _map)


def _map(data: str, runs: list[Found]) -> str:
    (run,) = runs
    near = run["nearest_alike"]
    shown = "\n".join(f"![map]({name})\n" for name in run["files"])
    return (
        f"### {data}\n\nThe share of train rows whose nearest other row bears their label: {near['frozen']:.3f} by the "
        f"frozen encoder, {near['cea']:.3f} by CEA\n(which was trained on nine tenths of these rows). "
        f"Where labels are many, several share a colour.\n\n{shown}"
    )
