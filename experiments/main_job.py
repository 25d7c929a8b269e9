"""The main job on real data: scores, a class that is taught later, and few examples.

    python -m experiments.main_job scores  --data FOLDER     every data set: fit by the command line, test scored once
    python -m experiments.main_job hidden  --data FOLDER     each class hidden during the fit, then taught
    python -m experiments.main_job few     --data FOLDER     8 examples a class, against logistic regression
    python -m experiments.main_job report                    docs/results.md from the committed results
    python -m experiments.main_job scores hidden few --quick on the bundled sample data, in seconds

Every run leaves one JSON file in experiments/results/main_job/; runs that have theirs are not repeated. Nothing is
chosen on a test split: the fit sees train (and dev, where the data set has one), and test is scored once at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import main_job_report
from experiments.data import Part, overlapping
from experiments.main_job_report import DRAWS, FEW, HIDDEN, SCORES
from experiments.running import arguments, once, parts
from likewise import Model
from likewise.decision.measures import OBJECTIVES, Decisions, count
from likewise.evaluation.report import Evaluation

RESULTS = Path(__file__).parent / "results" / "main_job"
MEASURES = {"trec-6": "accuracy", "semeval2018-ec": "micro_f1"}  # what the goal is stated in; else macro_f1
PER_CLASS = 8
BOOTSTRAP = 1000


def main() -> None:
    """Run what the command line asks for."""
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("parts", nargs="+", choices=["scores", "hidden", "few", "report"])
    parser.add_argument("--quick", action="store_true", help="the bundled sample data and the frozen recipe")
    given = parser.parse_args()
    if given.quick and given.results == RESULTS:
        given.results = Path(tempfile.mkdtemp(prefix="likewise-quick-"))
    for part in given.parts:
        if part == "report":
            main_job_report.write(given.results)
            continue
        for name, job in _jobs(part, given):
            once(given.results / f"{name}.json", job)
    if given.quick:
        print(main_job_report.text(given.results))


def _jobs(part: str, given: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    sets: Sequence[str] = {"scores": tuple(SCORES), "hidden": tuple(HIDDEN), "few": FEW}[part]
    sets = ("sample",) if given.quick else [name for name in sets if given.only in (None, name)]
    for name, (train, test, dev) in parts(given.data, sets, "train", "test", "dev"):
        assert train is not None and test is not None
        recipe = "frozen" if given.quick else "likewise"
        if part == "scores":
            for seed in SCORES.get(name, (0,)):
                yield f"scores-{name}-{seed}", lambda s=seed: scores(name, train, dev, test, s, recipe)  # noqa: B023
        elif part == "hidden":
            for label in sorted({label for labels in train.labels for label in labels})[: 2 if given.quick else None]:
                yield f"hidden-{name}-{label}", lambda x=label: hidden(name, train, test, x, recipe)  # noqa: B023
        else:
            for draw in range(1 if given.quick else DRAWS):
                yield f"few-{name}-{draw}", lambda d=draw: few(name, train, test, d, recipe)  # noqa: B023


def fitted(name: str, train: Part, dev: Part | None, seed: int, recipe: str, folder: Path) -> tuple[Model, float]:
    """A model made by the installed command, and the wall time of that whole process in seconds."""
    _write(folder / "train.jsonl", train)
    command = [
        str(Path(sys.executable).with_name("likewise")),
        "fit",
        str(folder / "model"),
        str(folder / "train.jsonl"),
    ]
    command += ["--recipe", recipe, "--seed", str(seed), "--measure", MEASURES.get(name, "macro_f1")]
    if dev is not None:
        _write(folder / "dev.jsonl", dev)
        command += ["--dev", str(folder / "dev.jsonl")]
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Model.open(folder / "model"), time.monotonic() - started


def _write(path: Path, part: Part) -> None:
    rows = (json.dumps({"text": t, "labels": list(ls)}) for t, ls in zip(part.texts, part.labels, strict=True))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def scores(name: str, train: Part, dev: Part | None, test: Part, seed: int, recipe: str) -> dict[str, Any]:
    """Fit on train, tune on dev or a hold-out, score test once."""
    with tempfile.TemporaryDirectory() as folder:
        model, seconds = fitted(name, train, dev, seed, recipe, Path(folder))
        with model:
            found = model.evaluate(test.texts, test.labels)
            apart = sorted(set(range(len(test))) - set(overlapping(train, test)))
            rest = model.evaluate(*_columns(test.rows(apart)))
            facts = dict(model.info.fit)
    main = MEASURES.get(name, "macro_f1")
    result = {
        "data": name, "seed": seed, "measure": main, "fit_seconds": round(seconds, 1), "fit": facts,
        "test": _without_details(found), "test_without_overlap": _without_details(rest),
        "overlap": len(test) - len(apart),
        "difference": difference(found, main), "short": found.to_dict()["blend"][main],
    }  # fmt: skip
    return result


def _columns(part: Part) -> tuple[list[str], list[tuple[str, ...]]]:
    return part.texts, part.labels


def _without_details(evaluation: Evaluation) -> dict[str, Any]:
    content = evaluation.to_dict()
    return {key: content[key] for key in ("n", "blend", "head", "neighbours")}


def difference(evaluation: Evaluation, measure: str) -> dict[str, float]:
    """Blend minus the better of its two voices, and the bootstrap's standard error of that difference."""
    truth, tables = evaluation.truth, evaluation.decided

    def score(true: Decisions, decided: Decisions) -> float:
        return float(OBJECTIVES[measure](count(true, decided)))  # type: ignore[index]

    better = max(("head", "neighbours"), key=lambda voice: score(truth, tables[voice]))
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(BOOTSTRAP):
        rows = rng.integers(0, len(truth), len(truth))
        drawn.append(score(truth[rows], tables["blend"][rows]) - score(truth[rows], tables[better][rows]))
    return {
        "better_voice": better,  # type: ignore[dict-item]
        "difference": score(truth, tables["blend"]) - score(truth, tables[better]),
        "standard_error": float(np.std(drawn)),
    }


def hidden(name: str, train: Part, test: Part, label: str, recipe: str) -> dict[str, Any]:
    """Fit without one class, then teach all its training rows; score test before and after."""
    rest, later = train.hiding(label)
    with tempfile.TemporaryDirectory() as folder:
        model, _ = fitted(name, rest, None, 0, recipe, Path(folder))
        with model:
            before = model.evaluate(test.texts, test.labels)
            started = time.monotonic()
            model.teach(later.texts, later.labels, on_conflict="both")
            model.classify(test.texts[0])
            seconds = time.monotonic() - started
            after = model.evaluate(test.texts, test.labels)
    main = MEASURES.get(name, "macro_f1")
    return {
        "data": name, "hidden": label, "measure": main, "taught": len(later), "teach_seconds": round(seconds, 2),
        "before": _without_details(before), "after": _without_details(after),
        "short": after.to_dict()["blend"][main],
    }  # fmt: skip


def few(name: str, train: Part, test: Part, draw: int, recipe: str) -> dict[str, Any]:
    """PER_CLASS examples a class: our blend and logistic regression on the frozen encoder, on the same rows."""
    rng = np.random.default_rng(draw)
    by_label: dict[tuple[str, ...], list[int]] = {}
    for i, labels in enumerate(train.labels):
        by_label.setdefault(labels, []).append(i)
    chosen = [int(i) for key in sorted(by_label) for i in rng.permutation(by_label[key])[:PER_CLASS]]
    part = train.rows(chosen)
    with tempfile.TemporaryDirectory() as folder:
        model, seconds = fitted("few", part, None, draw, recipe, Path(folder))
        with model:
            found = model.evaluate(test.texts, test.labels)
            facts = dict(model.info.fit)
    return {
        "data": name, "draw": draw, "per_class": PER_CLASS, "fit_seconds": round(seconds, 1), "fit": facts,
        "test": _without_details(found), "logistic_regression": logistic_regression(part, test),
        "short": found.to_dict()["blend"]["macro_f1"],
    }  # fmt: skip


def logistic_regression(train: Part, test: Part) -> float:
    """Macro-F1 of scikit-learn's LogisticRegression with its defaults on the frozen encoder's embeddings."""
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    from likewise.encoding.names import DEFAULT, resolve

    encoder = SentenceTransformer(str(resolve(DEFAULT)), device="cpu")
    x, z = (encoder.encode(part.texts, normalize_embeddings=True, show_progress_bar=False) for part in (train, test))
    y, truth = ([labels[0] for labels in part.labels] for part in (train, test))
    predicted = LogisticRegression(max_iter=1000).fit(x, y).predict(z)
    return float(f1_score(truth, predicted, average="macro"))


if __name__ == "__main__":
    main()
