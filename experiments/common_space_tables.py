"""The page of `experiments.common_space`, from its runs' JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.paper import PAGE, mean_and_deviation, table

Found = dict[str, Any]
MEASURES = {"jaccard": "accuracy (Jaccard)", "micro_f1": "micro-F1", "macro_f1": "macro-F1"}
VOICES = {"head": "classifier", "neighbours": "neighbours", "blend": "blend"}
ORDER = ("no transfer", "model-1", "model-2", "model-3.1", "model-3.2", "model-3.3")

# In percent: Table 1 has all three measures, Table 2 micro-F1 alone and no Models 3.1 and 3.2.
PAPER: dict[tuple[str, str], dict[str, float]] = {
    **{("semeval2018-ec", model): dict(zip(MEASURES, values, strict=True)) for model, values in {
        "no transfer": (54.7, 65.6, 54.2), "model-1": (58.7, 68.9, 57.3), "model-2": (56.6, 67.2, 55.8),
        "model-3.1": (55.4, 66.8, 55.2), "model-3.2": (57.8, 67.7, 56.7), "model-3.3": (58.6, 70.6, 58.0),
    }.items()},
    **{("isear", model): {"micro_f1": value} for model, value in {
        "no transfer": 55.9, "model-1": 57.1, "model-2": 56.2, "model-3.3": 57.5,
    }.items()},
}  # fmt: skip
TABLES = {"semeval2018-ec": "Table 1", "isear": "Table 2"}

MISSING = """\
- Table 2's General Tweets: not among the data sets here.
- The paper's source tasks are SemEval-2017 Task 4, Subtasks A (6K training rows) and B, and a corpus of tweets from
  Kaggle. Ours is Subtask A alone, all of its training rows; the paper does not say which source its figures rest on.
- The paper's encoder is BERT, which is not here. Its figures stand beside ours to show what transfer was worth there.
- The rows "SOTA" are other groups' systems.
- isear: the paper's split is not published, ours is another.
"""


def write(folder: Path, command: str) -> None:
    """Make the page anew."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    runs.sort(key=lambda run: (ORDER.index(_model(run)), run["model"] != f"{_model(run)}, random pairs", run["seed"]))
    sets = sorted({run["data"] for run in runs}, key=lambda name: (name not in TABLES, name != "semeval2018-ec", name))
    sections = [_head(runs, command), *(_scores(name, runs) for name in sets), _halves(runs), _pairs(runs),
                f"## What cannot be reproduced\n\n{MISSING}"]  # fmt: skip
    (folder / PAGE).write_text("\n".join(section for section in sections if section), encoding="utf-8")


def _model(run: Found) -> str:
    return str(run["model"]).partition(",")[0]


def _head(runs: Sequence[Found], command: str) -> str:
    hours = sum(run["wall_seconds"] for run in runs) / 3600
    machines = "; ".join(sorted({run["machine"] for run in runs}))
    encoders = ", ".join(sorted({run["encoder"] for run in runs}))
    source = max(run["source"] for run in runs)
    return f"""# Common-space transfer

Last command: {command}. {len(runs)} runs, {hours:.1f} hours of wall time in all, on {machines}, shared with other work.

Encoder: {encoders}; in Model-3 two of them. Source task: {source:,} rows of sentiment. No transfer is recipe `knn-ec`
at the same rate, for as many epochs and with the same pooling; its best epoch on dev is kept, where the other recipes
keep the last one that cannot be told from the best. Settings are the recipes' own: the paper names none, neither sizes
nor rates nor epochs. k, T and lambda are chosen on dev or held-out rows. The paper has the classifier alone.
"""


def _by_model(runs: Sequence[Found]) -> dict[str, list[Found]]:
    out: dict[str, list[Found]] = {}
    for run in runs:
        out.setdefault(run["model"], []).append(run)
    return out


def _mean(runs: Sequence[Found], read: Callable[[Found], float]) -> str:
    return mean_and_deviation([read(run) for run in runs])


def _scores(data: str, runs: Sequence[Found]) -> str:
    its = [run for run in runs if run["data"] == data]
    first, several = its[0], its[0]["task"] == "multi"
    title = f"{TABLES[data]}: {data}" if data in TABLES else data
    about = "none to several labels a text" if several else "one label a text"
    text = f"{first['train']:,} training rows, {first['test']:,} test rows, {about}. Chosen on {first['judged_on']}."
    if not several:
        return f"## {title}\n\n{text}\n\n" + _one_label(data, its)
    return f"## {title}\n\n{text}\n\n" + _several_labels(data, its)


def _paper(data: str, run: Found, measure: str) -> str:
    found = PAPER.get((data, _model(run)), {}).get(measure)
    return "" if found is None else f"{found / 100:.3f}"


def _one_label(data: str, runs: Sequence[Found]) -> str:
    """All voices, with and without the test rows that also stand in train."""
    plain, apart = "highest", "highest, without the overlap"
    rows = []
    for name, its in _by_model(runs).items():
        for voice, shown in VOICES.items():
            paper = _paper(data, its[0], "micro_f1") if voice == "head" else ""
            macro = [_voice(its, decided, voice, "macro_f1") for decided in (plain, apart)]
            rows.append([name, shown, _voice(its, plain, voice, "micro_f1"), paper, *macro, len(its)])
    header = ["model", "voice", "micro-F1 (accuracy)", "paper", "macro-F1",
              f"macro-F1 without {runs[0]['overlap']} test rows that stand in train", "seeds"]  # fmt: skip
    return table(header, rows)


def _several_labels(data: str, runs: Sequence[Found]) -> str:
    """The classifier at a half, beside the paper; then all voices at thresholds that were chosen."""
    rows: list[list[object]] = []
    for name, its in _by_model(runs).items():
        cells = [cell for measure in MEASURES
                 for cell in (_voice(its, "a half", "head", measure), _paper(data, its[0], measure))]  # fmt: skip
        rows.append([name, *cells, len(its)])
    header = ["model", *(part for shown in MEASURES.values() for part in (shown, "paper")), "seeds"]
    text = "The classifier, at a threshold of a half.\n\n" + table(header, rows)
    if any("chosen" not in run["scores"] for run in runs):
        return text
    rows = [
        [name, shown, *(_voice(its, "chosen", voice, measure) for measure in MEASURES), len(its)]
        for name, its in _by_model(runs).items() for voice, shown in VOICES.items()
    ]  # fmt: skip
    header = ["model", "voice", *MEASURES.values(), "seeds"]
    return text + "\nEach voice, at thresholds that dev rows chose for it by macro-F1.\n\n" + table(header, rows)


def _voice(runs: Sequence[Found], decided: str, voice: str, measure: str) -> str:
    return _mean(runs, lambda run: run["scores"][decided][voice][measure])


def _halves(runs: Sequence[Found]) -> str:
    rows = []
    for data in dict.fromkeys(run["data"] for run in runs):
        for name, some in _by_model([run for run in runs if run["data"] == data and run["halves"]]).items():
            cells = [
                _mean(some, lambda run, k=kind, h=half: run["halves"][k][h])  # type: ignore[misc]
                for kind, halves in (("norm", ("sentiment", "emotion")), ("spread", ("sentiment", "emotion")),
                                     ("macro_f1", ("both", "sentiment", "emotion")))
                for half in halves
            ]  # fmt: skip
            rows.append([data, name, *cells, len(some)])
    if not rows:
        return ""
    header = ["data", "model", "norm: sentiment", "emotion", "spread: sentiment", "emotion",
              "macro-F1: both halves", "sentiment held still", "emotion held still", "seeds"]  # fmt: skip
    text = """\
The paper names a degenerate solution, in which the sentiment half of what goes into the common space has weights of
zero. Norm: Frobenius norms of both halves of the common space's first layer; as drawn they are equal. Spread: how far a
half's share in the layer's sum moves from text to text on test rows (root of the mean square). Held still: the half's
values are put to their mean over the test rows; macro-F1 is the classifier's, at a half or by the greatest probability.
"""
    return f"## The degenerate solution\n\n{text}\n{table(header, rows)}"


def _pairs(runs: Sequence[Found]) -> str:
    rows = [
        [data, f"{next(run['copies'] for run in runs if run['data'] == data):.1e}"]
        for data in dict.fromkeys(run["data"] for run in runs)
    ]
    text = """\
Texts are copied once for each of their labels; the paper's strategies differ in the pairs of copies of one text, which
have different labels, and which one of them avoids. A frozen encoder gives both copies the same representation, so
their distance is 0 whatever the projection: such a pair has no gradient, and random drawing meets hardly any.
"""
    header = ["data", "share of pairs that are copies of one text, drawn at random"]
    return f"## The two strategies for pairs\n\n{text}\n{table(header, rows)}"
