"""What bfloat16 does to scores and probabilities: recipe `frozen`, fitted in float32 and in bfloat16, every data set.

    python -m benchmarks.precision --data FOLDER

Scores of the blend on test (macro-F1; it chooses nothing). `elsewhere`: the model fitted in bfloat16 as it answers
where the processor lacks it, in float32 against its examples' embeddings in bfloat16; how far its probabilities are
then from those that it had, the greatest difference of a text's labels, and how many texts get other labels. Without a
folder: the bundled sample.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from experiments.data import Part
from experiments.paper import table
from experiments.running import Quiet, once, parts

from benchmarks.measuring import RESULTS, arguments, results, spread_over_classes, surroundings
from likewise.encoding.sessions import multiplies_bfloat16
from likewise.fitting import fit
from likewise.model import Model
from likewise.progress import LikewiseWarning
from likewise.settings import Settings
from likewise.types import Prediction

SETS = ("trec-6", "trec-50", "isear", "goemotions-ekman", "semeval2018-ec")
FAR = 1e-3
"""A probability that moves by more than this is counted."""
KINDS = {"fp32": "in fp32", "bf16": "in bf16", "elsewhere": "elsewhere"}


def main() -> None:
    """Run what is not there yet, and print the page's section."""
    given = arguments(__doc__).parse_args()
    if not multiplies_bfloat16():
        print("precision: takes OpenVINO and a processor that multiplies bfloat16; skipped", file=sys.stderr)
        return
    names = SETS if given.data and not given.quick else ("sample",)
    for name, rows in parts(given.data, names, "train", "dev", "test"):
        if given.only in (None, name):
            once(given.results / f"precision-{name}.json", lambda name=name, rows=rows: run(given, name, *rows))
    print(section(given.results))


def run(
    given: argparse.Namespace, name: str, train: Part | None, dev: Part | None, test: Part | None
) -> dict[str, Any]:
    """One data set."""
    assert train is not None and test is not None
    if given.quick:
        train, dev, test = spread_over_classes(train, 54), None, spread_over_classes(test, 18)
    around, said, scores = surroundings(), {}, {}

    def ask(model: Model, kind: str) -> None:
        said[kind] = model.classify(test.texts)
        scores[kind] = round(model.evaluate(test.texts, test.labels).voices["blend"].overall()["macro_f1"], 4)

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", LikewiseWarning)  # that it is slower elsewhere
        for precision in ("fp32", "bf16"):
            settings = Settings.resolve(precision=precision)
            held = (dev.texts, dev.labels) if dev else None
            with fit(
                train.texts, train.labels, dev=held, recipe="frozen", settings=settings, progress=Quiet()
            ) as model:
                ask(model, precision)
                model.save(Path(folder) / precision)
        with Model.open(Path(folder) / "bf16", runtime="onnxruntime") as elsewhere:
            ask(elsewhere, "elsewhere")
    pairs = list(zip(said["bf16"], said["elsewhere"], strict=True))
    moved = np.array([_moved(a, b) for a, b in pairs])
    return {
        "data": name, "train": len(train), "texts": len(test), "macro_f1": scores,
        "moved": {"median": float(np.median(moved)), "p99": float(np.quantile(moved, 0.99)), "max": float(moved.max())},
        "far": float((moved > FAR).mean()), "other_labels": sum(a.labels != b.labels for a, b in pairs),
        "surroundings": around,
    }  # fmt: skip


def _moved(a: Prediction, b: Prediction) -> float:
    """The greatest difference of a label's probability."""
    first, second = dict(a.scores), dict(b.scores)
    return max(abs(first.get(label, 0.0) - second.get(label, 0.0)) for label in {*first, *second})


def section(folder: Path = RESULTS) -> str:
    """The page's part."""
    rows = [
        [
            found["data"], f"{found['texts']:,}", *(f"{found['macro_f1'][kind]:.4f}" for kind in KINDS),
            *(f"{found['moved'][figure]:.4f}" for figure in ("median", "p99", "max")), f"{found['far']:.0%}",
            str(found["other_labels"]),
        ]
        for found in results(folder, "precision-*.json")
    ]  # fmt: skip
    head = ["", "texts", *(f"macro-F1 {kind}" for kind in KINDS.values()), "probabilities moved elsewhere, median",
            "p99", "most", f"by more than {FAR}", "other labels"]  # fmt: skip
    return f"## Precision\n\n{table(head, rows)}" if rows else ""


if __name__ == "__main__":
    main()
