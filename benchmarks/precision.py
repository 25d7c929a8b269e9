"""What lower precisions do to scores and probabilities: recipe `frozen`, fitted in float32 and in each, every data set.

    python -m benchmarks.precision --data FOLDER

Scores of the blend on test (macro-F1; it chooses nothing). `elsewhere`: the model fitted in a lower precision as it
answers on another machine. In place of bfloat16 that may be float32, against its examples' embeddings in bfloat16.
Whole numbers of eight bits are the same everywhere, but what stands between them is float32, which processors round
differently, and a number half-way between two whole ones then goes the other way; that is had here by a runtime that
calculates each step of the graph by itself. How far probabilities are then from those that the model had: the greatest
difference of a text's labels, and how many texts get other labels. Without a folder: the bundled sample.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
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
from likewise.types import Precision, Prediction

SETS = ("trec-6", "trec-50", "isear", "goemotions-ekman", "semeval2018-ec")
FAR = 1e-3
"""A probability that moves by more than this is counted."""
KINDS = {"fp32": "in fp32", "lower": "in {}", "elsewhere": "elsewhere"}
LOWER: tuple[Precision, ...] = ("bf16", "int8")


def main() -> None:
    """Run what is not there yet, and print the page's section."""
    given = arguments(__doc__).parse_args()
    there = [precision for precision in LOWER if precision != "bf16" or multiplies_bfloat16()]
    if "bf16" not in there:
        print("bf16: takes OpenVINO and a processor that multiplies bfloat16; skipped", file=sys.stderr)
    names = SETS if given.data and not given.quick else ("sample",)
    for name, rows in parts(given.data, names, "train", "dev", "test"):
        for lower in there if given.only in (None, name) else ():
            once(given.results / f"precision-{lower}-{name}.json", partial(run, given, name, lower, *rows))
    print(section(given.results))


def run(
    given: argparse.Namespace, name: str, lower: Precision, train: Part | None, dev: Part | None, test: Part | None
) -> dict[str, Any]:
    """One data set, float32 and a lower precision."""
    assert train is not None and test is not None
    if given.quick:
        train, dev, test = spread_over_classes(train, 54), None, spread_over_classes(test, 18)
    around, said, scores = surroundings(), {}, {}

    def ask(model: Model, kind: str) -> None:
        said[kind] = model.classify(test.texts)
        scores[kind] = round(model.evaluate(test.texts, test.labels).voices["blend"].overall()["macro_f1"], 4)

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", LikewiseWarning)  # that it is slower elsewhere
        kinds: dict[str, Precision] = {"fp32": "fp32", "lower": lower}
        for kind, precision in kinds.items():
            settings = Settings.resolve(precision=precision)
            held = (dev.texts, dev.labels) if dev else None
            with fit(
                train.texts, train.labels, dev=held, recipe="frozen", settings=settings, progress=Quiet()
            ) as model:
                ask(model, kind)
                model.save(Path(folder) / kind)
        rounding = step_by_step() if lower == "int8" else nullcontext()
        with rounding, Model.open(Path(folder) / "lower", runtime="onnxruntime") as elsewhere:
            ask(elsewhere, "elsewhere")
    pairs = list(zip(said["lower"], said["elsewhere"], strict=True))
    moved = np.array([_moved(a, b) for a, b in pairs])
    return {
        "data": name, "precision": lower, "train": len(train), "texts": len(test), "macro_f1": scores,
        "moved": {"median": float(np.median(moved)), "p99": float(np.quantile(moved, 0.99)), "max": float(moved.max())},
        "far": float((moved > FAR).mean()), "other_labels": sum(a.labels != b.labels for a, b in pairs),
        "surroundings": around,
    }  # fmt: skip


@contextmanager
def step_by_step() -> Iterator[None]:
    """ONNX Runtime joins no steps of the graphs that it opens meanwhile, and so rounds differently."""
    import onnxruntime

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    before = onnxruntime.SessionOptions
    onnxruntime.SessionOptions = Options
    try:
        yield
    finally:
        onnxruntime.SessionOptions = before


def _moved(a: Prediction, b: Prediction) -> float:
    """The greatest difference of a label's probability."""
    first, second = dict(a.scores), dict(b.scores)
    return max(abs(first.get(label, 0.0) - second.get(label, 0.0)) for label in {*first, *second})


def section(folder: Path = RESULTS) -> str:
    """The page's part: a table for each lower precision."""
    tables = []
    for lower in LOWER:
        rows = [
            [
                found["data"], f"{found['texts']:,}", *(f"{found['macro_f1'][kind]:.4f}" for kind in KINDS),
                *(f"{found['moved'][figure]:.4f}" for figure in ("median", "p99", "max")), f"{found['far']:.0%}",
                str(found["other_labels"]),
            ]
            for found in results(folder, f"precision-{lower}-*.json")
        ]  # fmt: skip
        scores = [f"macro-F1 {title.format(lower)}" for title in KINDS.values()]
        head = ["", "texts", *scores, "probabilities moved elsewhere, median", "p99", "most", f"by more than {FAR}",
                "other labels"]  # fmt: skip
        if rows:
            tables.append(f"### {lower}\n\n{table(head, rows)}")
    return "## Precision\n\n" + "\n".join(tables) if tables else ""


if __name__ == "__main__":
    main()
