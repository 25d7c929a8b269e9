"""The page of `experiments.common_space`, from its runs' JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.paper import mean_and_deviation, table

PAGE = "README.md"
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
- The source tasks of the paper are SemEval-2017 Task 4, Subtasks A and B, and a corpus of tweets from Kaggle. Ours is
  Subtask A alone, with all of its earlier years' training rows; the paper does not say which of its rows come from
  which source task.
- BERT: bert-base is not here. A row says which encoder it began with; the paper's figures stand beside it to show what
  transfer was worth there, and not what an encoder six times as large was.
- The rows "SOTA" are other groups' systems.
- isear: the paper's split is not published, ours is another. Its best isear figure is below that of our simplest model.
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
nor rates nor epochs. Thresholds, k, T and lambda are chosen on dev or held-out rows. The paper has the classifier alone.
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
    first, rows = its[0], []
    measures = [measure for measure in MEASURES if measure != "jaccard" or first["task"] == "multi"]
    overlap = first["test"] > first["apart"]
    for name, some in _by_model(its).items():
        paper = PAPER.get((data, _model(some[0])), {})
        for voice, shown in VOICES.items():
            cells: list[object] = []
            for measure in measures:
                cells.append(_mean(some, lambda run, v=voice, m=measure: run[v][m]))  # type: ignore[misc]
                cells.append(f"{paper[measure] / 100:.3f}" if voice == "head" and measure in paper else "")
            if overlap:
                cells.append(_mean(some, lambda run, v=voice: run["without_overlap"][v]["macro_f1"]))  # type: ignore[misc]
            rows.append([name, shown, *cells, len(some)])
    header = ["model", "voice", *(part for measure in measures for part in (MEASURES[measure], "paper")),
              *(["macro-F1 without the overlap"] if overlap else []), "seeds"]  # fmt: skip
    title = f"{TABLES[data]}: {data}" if data in TABLES else data
    several = "none to several labels a text" if first["task"] == "multi" else "one label a text"
    texts = f"{first['train']:,} training rows, {first['test']:,} test rows, {several}. Chosen on {first['judged_on']}."
    if overlap:
        texts += f" {first['test'] - first['apart']} test rows also stand in train."
    return f"## {title}\n\n{texts}\n\n{table(header, rows)}"


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
have different labels, and which one of them avoids. A frozen encoder gives both copies the same representation, so their
distance is 0 whatever the projection: such a pair has no gradient, and random drawing meets hardly any.
"""
    header = ["data", "share of pairs that are copies of one text, drawn at random"]
    return f"## The two strategies for pairs\n\n{text}\n{table(header, rows)}"
