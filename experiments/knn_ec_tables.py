"""The page and the curves of the KNN-EC experiment, made from its result files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import knn_ec_paper as paper
from experiments.paper import curves, mean_and_deviation, table

Found = dict[str, Any]
NAMES = {"paper": "the paper's", "tuned": "tuned"}

ABOUT = """\
The paper's method on its two data sets, with a much smaller encoder; its own figures stand beside ours, those of
bert-base and the mean of its five encoders (means of five runs). All scores are macro-F1 on test; "apart" leaves out
the test rows whose text also stands in train. *The paper's* values are the recipe `knn-ec` as it is (learning rate
2e-5, T = 2); *tuned* are a learning rate of 1e-4 and T chosen among 0.1, 0.3, 1, 2, 3 and 10. In both, n, k and lambda
(and T) are chosen on rows held out of train, or the set's dev rows; the paper does not say on which rows it chose
them. Errors are the bootstrap's standard errors over test rows (1,000 draws); they do not cover the chance of training.
Training stops early where the held-out rows gain nothing for two epochs. Times are wall times on a machine that had
other work to do as well.
"""

CAPTIONS = {
    "claims": """\
A difference is called so where it exceeds two standard errors; "not told apart" is no proof of being equal.
""",
    "table3": """\
The settings of p_kNN and of p are chosen for each; those of p are what the recipe itself chooses.
""",
    "table4": """\
p_kNN alone; k (and n, T) chosen for each row on held-out rows. Mean cosine: of 20,000 random pairs of train rows'
keys. Whitening subtracts the mean, so that with it the mean cosine is about 0 by construction. "Pretrained" is the
encoder before any fine-tuning, not normalised; the paper's figures are of fine-tuned encoders.
""",
    "table5": """\
k and lambda (and T) are chosen for each n. "All" is whitened without reduction, "none" the embedding without
whitening: the paper's "default" is "without dimension reduction", and may be either. Size: of the keys, relative to
the embedding's dimensions. Time: an exact search for {queries} test rows together among all of train, k = {searched_k},
the fastest of five rounds in which the maps took turns; relative to the embedding without whitening.
""",
    "figure3": """\
n and T are those chosen for p with whitening, lambda is chosen for each k. "Held out" is p on the rows that choose k.
The paper shows curves without figures.
""",
    "fractions": """\
A part of train is the datastore, drawn at random, of each label alike (mean and deviation of {draws} draws); encoder,
head, whitening and n (of p in Table 3) stay. k and lambda are chosen for each draw; "settings kept" are those of all
the datastore, so that nothing but the rows differs. Differences: all of it less this part, of the first draw.
""",
    "figure2": "2-D maps (t-SNE) of the test rows, without and with whitening; n as chosen for p_kNN.\n",
}

TITLES = {
    "table3": "Table 3: model, neighbours, blend",
    "table4": "Table 4: neighbours without and with whitening",
    "table5": "Table 5: dimensions",
    "figure3": "Figure 3: k",
    "fractions": "More data for retrieval",
    "figure2": "Figure 2: maps",
}


def write(results: Path) -> None:
    """Write the page and the curves."""
    for (data, encoder, values), runs in _runs(results).items():
        mark = f"{data}, {encoder}, {NAMES[values]} values"
        for part, key, x in (("figure3", "k", "k"), ("fractions", "share", "share of the datastore")):
            if part in runs:
                picture = results / f"{runs[part][0]['files']}-{part}.png"
                curves(picture, mark, x, "macro-F1", _curves(_rows(runs[part], key)), log=part == "figure3")
    (results / "README.md").write_text(text(results), encoding="utf-8")


def text(results: Path) -> str:
    """The page, as Markdown."""
    groups = _runs(results)
    lines = ["# KNN-EC", "", ABOUT, _made_by(groups), "## What holds", "", CAPTIONS["claims"], _claims(groups)]
    for part, section in SECTIONS.items():
        there = {key: runs for key, runs in groups.items() if part in runs}
        if not there:
            continue
        first = next(iter(there.values()))[part][0]
        facts = {"queries": first.get("queries"), "searched_k": first.get("searched_k")}
        facts["draws"] = 1 + max((row.get("draw", 0) for row in first.get("rows", [])), default=0)
        lines += [f"## {TITLES[part]}", "", CAPTIONS[part].format(**facts), section(there)]
    return "\n".join(lines)


Runs = Mapping[str, list[Found]]
Groups = Mapping[tuple[str, str, str], Runs]


def _runs(results: Path) -> dict[tuple[str, str, str], dict[str, list[Found]]]:
    """By data set, encoder and values: each part's results, one a seed."""
    groups: dict[tuple[str, str, str], dict[str, list[Found]]] = defaultdict(lambda: defaultdict(list))
    for path in results.glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        found["files"] = path.stem.removesuffix(f"-{found['part']}")
        groups[found["data"], found["encoder"], found["values"]][found["part"]].append(found)
    for runs in groups.values():
        for found in runs.values():
            found.sort(key=lambda one: int(one["seed"]))
    return {key: dict(groups[key]) for key in sorted(groups)}


def _mean(found: Iterable[float]) -> str:
    return mean_and_deviation(list(found))


def _each(found: Iterable[object]) -> str:
    """What was chosen, for each seed where they differ."""
    shown = ["none" if one is None else f"{one:g}" if isinstance(one, float) else str(one) for one in found]
    return shown[0] if len(set(shown)) == 1 else "/".join(shown)


def _gain(found: Sequence[Found]) -> str:
    difference, error = (float(np.mean([one[key] for one in found])) for key in ("difference", "standard_error"))
    return f"{difference:+.3f} (error {error:.3f})"


def _verdict(found: Sequence[Found]) -> str:
    difference, error = (float(np.mean([one[key] for one in found])) for key in ("difference", "standard_error"))
    if abs(difference) <= 2 * error:
        return "not told apart"
    return "yes" if difference > 0 else "no"


def _rows(found: Sequence[Found], key: str) -> dict[Any, list[Found]]:
    """The rows of a part's results over all seeds, by what they are rows of."""
    by: dict[Any, list[Found]] = defaultdict(list)
    for one in found:
        for row in one["rows"]:
            by[row[key]].append(row)
    return by


def _scores(rows: Sequence[Found], *path: str) -> list[str]:
    """Macro-F1 on all test rows and on those apart."""
    for key in path:
        rows = [row[key] for row in rows]
    return [_mean(row[which] for row in rows) for which in ("all", "apart")]


# The sections


def _made_by(groups: Groups) -> str:
    rows = []
    commands = sorted({found["made_by"] for runs in groups.values() for part in runs.values() for found in part})
    for (data, encoder, values), runs in groups.items():
        for fit in runs.get("fit", []):
            schedule, course = fit["schedule"], fit["course"]
            wall = sum(one["wall_seconds"] for part in runs.values() for one in part if one["seed"] == fit["seed"])
            rows.append([
                data, encoder, NAMES[values], fit["seed"], f"{schedule['learning_rate']:g}",
                f"{len(course)} of {schedule['epochs']}", fit["train"], fit["judged_on"],
                f"{fit['test']} ({fit['overlap']})", f"{sum(epoch['seconds'] for epoch in course):.0f}", f"{wall:.0f}",
                fit["machine"],
            ])  # fmt: skip
    header = [
        "data", "encoder", "values", "seed", "learning rate", "epochs", "train", "chosen on", "test (in train, too)",
        "training, s", "last run, s", "machine",
    ]  # fmt: skip
    return "\n".join(["Made by " + "; ".join(commands) + ".", "", table(header, rows)])


CLAIMS: Sequence[tuple[str, str, Callable[[Found], Found | None]]] = (
    ("p_kNN is better than p_model", "table3", lambda one: one["over_model"]["neighbours"]),
    ("p is better than p_model", "table3", lambda one: one["over_model"]["blend"]),
    ("whitening improves p_kNN, fine-tuned encoder", "table4", lambda one: one["rows"][0]["gain"]),
    ("the same, pretrained encoder, mean pooling", "table4", lambda one: one["rows"][1]["gain"]),
    ("the same, pretrained encoder, cls pooling", "table4", lambda one: one["rows"][2]["gain"]),
    ("p with 8 whitened dimensions is as good as with all, or better", "table5", lambda one: _of_n(one, 8)),
    ("p_kNN: all of the datastore is better than 20 % of it", "fractions", lambda one: _of_share(one, "neighbours")),
    ("p, settings kept: the same", "fractions", lambda one: _of_share(one, "kept")),
)


def _of_n(found: Found, n: int) -> Found | None:
    return next((row["over_widest"] for row in found["rows"] if row["n"] == n), None)


def _of_share(found: Found, voice: str) -> Found | None:
    return next((row["full_over_this"][voice] for row in found["rows"] if row["share"] == 0.2), None)


def _claims(groups: Groups) -> str:
    rows = []
    for claim, part, read in CLAIMS:
        for (data, encoder, values), runs in groups.items():
            found = [one for one in map(read, runs.get(part, [])) if one is not None]
            if found:
                rows.append([claim, data, encoder, NAMES[values], _gain(found), _verdict(found)])
    return table(["the paper's claim", "data", "encoder", "values", "difference", "holds"], rows)


def _table3(groups: Groups) -> str:
    rows = []
    for (data, encoder, values), runs in groups.items():
        found, theirs = runs["table3"], dict(zip(VOICES, paper.table_3(data), strict=False))
        for voice, name in VOICES.items():
            gain = _gain([one["over_model"][voice] for one in found]) if voice != "model" else ""
            chosen = [one["settings"][voice] for one in found] if voice != "model" else []
            keys = [_each(one[key] for one in chosen) if chosen else "" for key in ("n", "k", "temperature", "lambda")]
            scores = _scores(found, voice)
            rows.append([data, encoder, NAMES[values], name, *scores, gain, *keys, *theirs.get(voice, ("-", "-"))])
    header = ["data", "encoder", "values", "", "all rows", "apart", "over p_model", "n", "k", "T", "lambda"]
    return table([*header, "paper, bert-base", "paper, mean of 5"], rows)


def _table4(groups: Groups) -> str:
    rows = []
    for (data, encoder, values), runs in groups.items():
        theirs = paper.table_4(data)
        for name, found in _rows(runs["table4"], "encoder").items():
            for i, which in enumerate(("without", "with")):
                of = [row[which] for row in found]
                chosen = [_each(one[key] for one in of) for key in ("n", "k", "temperature")]
                gain = _gain([row["gain"] for row in found]) if which == "with" else ""
                beside = theirs[i] if theirs and name == "fine-tuned" else ("-", "-")
                shown = [data, f"{encoder}, {name}", NAMES[values], which, *_scores(of), gain]
                rows.append([*shown, *chosen, _mean(one["cosine"] for one in of), *beside])
    header = ["data", "encoder", "values", "whitening", "all rows", "apart", "gain", "n", "k", "T", "mean cosine"]
    return table([*header, "paper, bert-base", "paper, mean of 5"], rows)


def _table5(groups: Groups) -> str:
    rows = []
    for (data, encoder, values), runs in groups.items():
        by_n = _rows(runs["table5"], "n")
        theirs = dict(zip((*paper.DIMENSIONS, runs["table5"][0]["all"]), paper.table_5(data), strict=False))
        sizes = dict(zip(theirs, paper.SIZES, strict=False))
        plain = by_n[None]
        for n in (*paper.DIMENSIONS, *(n for n in by_n if n not in (*paper.DIMENSIONS, None)), None):
            name = "none" if n is None else f"all ({n})" if n == runs["table5"][0]["all"] else str(n)
            if n not in by_n:
                rows.append(
                    [data, encoder, NAMES[values], name, "too few rows", *[""] * 7, *theirs.get(n, ("-", "-")), ""]
                )
                continue
            found = by_n[n]
            times = [row["milliseconds"] for row in found]
            ratio = [one / other["milliseconds"] for one, other in zip(times, plain, strict=True)]
            chosen = [_each(row[key] for row in found) for key in ("k", "temperature", "lambda")]
            cost = [f"{found[0]['size']:.2f}x", _mean(times), f"{np.mean(ratio):.2f}x"]
            beside = [*theirs.get(n, ("-", "-")), f"{sizes[n]:.2f}x" if n in sizes else ""]
            rows.append([data, encoder, NAMES[values], name, *_scores(found), *chosen, *cost, *beside])
    header = ["data", "encoder", "values", "n", "all rows", "apart", "k", "T", "lambda", "size", "ms a query", "time"]
    return table([*header, "paper, bert-base", "paper, mean of 5", "paper, size"], rows)


def _figure3(groups: Groups) -> str:
    lines = []
    rows = []
    for (data, encoder, values), runs in groups.items():
        lines.append(_picture(runs["figure3"], "figure3"))
        picked = [one["tuned"]["k"] for one in runs["figure3"]]
        for k, found in _rows(runs["figure3"], "k").items():
            name = f"**{k}**" if k in picked else str(k)
            held = _mean(row["held_out"] for row in found)
            share = _each(row["lambda"] for row in found)
            scores = [*_scores(found, "neighbours"), *_scores(found, "blend")]
            rows.append([data, encoder, NAMES[values], name, share, held, *scores])
    header = ["data", "encoder", "values", "k (bold: chosen)", "lambda", "held out", "p_kNN", "apart", "p", "apart"]
    return "\n".join([table(header, rows), *lines])


def _fractions(groups: Groups) -> str:
    lines = []
    rows = []
    for (data, encoder, values), runs in groups.items():
        lines.append(_picture(runs["fractions"], "fractions"))
        for share, found in sorted(_rows(runs["fractions"], "share").items()):
            first = [row for row in found if row["draw"] == 0]
            gains = [
                _gain([row["full_over_this"][voice] for row in first]) if share < 1 else ""
                for voice in ("neighbours", "kept")
            ]
            about = [data, encoder, NAMES[values], f"{share:.0%}", found[0]["rows"]]
            chosen = [_each(row[key] for row in found) for key in ("k_alone", "k", "lambda")]
            shown = [*_scores(found, "neighbours"), chosen[0], gains[0], *_scores(found, "blend"), *chosen[1:]]
            rows.append([*about, *shown, *_scores(found, "kept"), gains[1]])
    header = ["data", "encoder", "values", "datastore", "rows"]
    header += ["p_kNN", "apart", "k", "all of it over this", "p", "apart", "k", "lambda", "p, settings kept", "apart"]
    header.append("all of it over this")
    return "\n".join([table(header, rows), *lines])


def _figure2(groups: Groups) -> str:
    return "\n".join(_picture(runs["figure2"], "figure2") for runs in groups.values())


def _picture(found: Sequence[Found], part: str) -> str:
    """The picture of the first seed (curves are of all)."""
    name = f"{found[0]['files']}-{part}.png"
    return f"![{name}]({name})\n"


def _curves(found: Mapping[Any, list[Found]]) -> dict[str, list[tuple[float, float]]]:
    """A voice's macro-F1 on all test rows over what the rows are rows of; means over seeds and draws."""
    return {
        name: [(x, float(np.mean([row[voice]["all"] for row in rows]))) for x, rows in found.items()]
        for voice, name in {**VOICES, "kept": "p, settings kept"}.items()
        if all(voice in row for rows in found.values() for row in rows)
    }


VOICES = {"model": "p_model", "neighbours": "p_kNN", "blend": "p"}
SECTIONS: Mapping[str, Callable[[Groups], str]] = {
    "table3": _table3, "table4": _table4, "table5": _table5, "figure3": _figure3, "fractions": _fractions,
    "figure2": _figure2,
}  # fmt: skip
