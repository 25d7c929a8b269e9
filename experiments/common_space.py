"""Common-space transfer (from sentiment to emotion): its Tables 1 and 2, and its degenerate solution.

    python -m experiments.common_space --folder FOLDER                                      both data sets
    python -m experiments.common_space --folder FOLDER --data isear --only model-3.3        one of them, one model
    python -m experiments.common_space --quick                                              the sample data, in seconds

Each model is a fit by its recipe with the recipe's values: no transfer, Model-1 (`transfer`), Model-2 (`multitask`),
Models 3.1, 3.2 and 3.3 (`common-space-...`), the last two with each way to draw the Siamese network's pairs. The
source task is semeval2017-4a. Epochs, k, T, lambda and thresholds are chosen on the data set's dev rows, or on held-out
rows of train where it has none; test chooses nothing. Each run leaves one JSON file and is not repeated where that is
there. Encoders that several models train alike are trained once an invocation.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import common_space_tables
from experiments.data import Missing, Part, money, money_or_other, overlapping, read
from experiments.paper import arguments, keep_page
from experiments.running import Quiet, parts
from experiments.shallow import starting
from likewise.bundle import Layout, read_decision
from likewise.decision.measures import count, jaccard
from likewise.decision.thresholds import label_thresholds
from likewise.fitting import fit
from likewise.model import Model
from likewise.settings import Settings

SOURCE = "semeval2017-4a"
SETS = ("semeval2018-ec", "isear")
VOICES = {"head": "head", "neighbours": "vote", "blend": "scores"}
"""Each voice, and what a prediction calls it."""
Found = dict[str, Any]
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """A model of the paper: by which recipe, with what settings."""

    name: str
    recipe: str
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def given(self) -> Found:
        """The settings."""
        return dict(self.settings)


ALONE = (("epochs", 4), ("learning_rate", 1e-4), ("pooling", "auto"))
"""What makes `knn-ec` train as the others do, but on the target task alone."""
VARIANTS = (
    Variant("no transfer", "knn-ec", ALONE),
    Variant("model-1", "transfer"),
    Variant("model-2", "multitask"),
    Variant("model-3.1", "common-space-3.1"),
    *(Variant(f"model-{model}, {pairs} pairs", f"common-space-{model}", (("siamese_pairs", pairs),))
      for model in ("3.2", "3.3") for pairs in ("random", "distinct")),
)  # fmt: skip
QUICK = {"sample": (VARIANTS[0], VARIANTS[6]), "sample-several": (VARIANTS[2], VARIANTS[4], VARIANTS[7])}
"""What a quick run does: one label a text, and several."""
MODELS = tuple(dict.fromkeys(variant.name.partition(",")[0].replace(" ", "-") for variant in VARIANTS))


@dataclass(frozen=True)
class Bench:
    """A data set, the source task, and the encoder to begin with."""

    data: str
    train: Part
    dev: Part | None
    test: Part
    source: Part
    encoder: str
    epochs: int | None
    scratch: Path
    seed: int = 0


def main() -> None:
    """Run what the command line asks for, and keep the page up to date."""
    keep_page(arguments("common_space", __doc__, MODELS), _runs, common_space_tables.write)


def _runs(given: Any, scratch: Path) -> Iterator[tuple[str, Any]]:
    """Every run: all models of a data set before the next one, all of a seed before the next."""
    try:
        # For a quick run whether a text is about money stands for sentiment.
        source = money_or_other(_sample("train", 400, 520)) if given.quick else read(given.folder, SOURCE, "train")
    except Missing as missing:
        print(missing, file=sys.stderr)
        return
    assert source is not None
    benches = []
    sets = _samples() if given.quick else parts(given.folder, given.data or SETS, "train", "dev", "test")
    for data, (train, dev, test) in sets:
        assert train is not None and test is not None
        encoder = starting(given, scratch / "encoder", train, test, source)
        benches.append(Bench(data, train, dev, test, source, encoder, 1 if given.quick else None, scratch))
    for seed in range(given.seeds):
        for bench in benches:
            for variant in QUICK[bench.data] if given.quick else VARIANTS:
                if given.only is None or variant.name.partition(",")[0].replace(" ", "-") in given.only:
                    name = f"{bench.data}-{seed}-{variant.name.replace(', ', '-').replace(' ', '-')}"
                    yield name, partial(measured, replace(bench, seed=seed), variant)


def _sample(part: str, first: int, last: int) -> Part:
    whole = read(None, "sample", part)
    assert whole is not None
    return whole.rows(list(range(first, last)))


def _samples() -> Iterator[tuple[str, list[Part | None]]]:
    """For a quick run: topics, one a text; and the same with a second label, none where it is not about money."""
    one = [_sample("train", 0, 150), _sample("train", 150, 210), _sample("test", 0, 60)]
    yield "sample", list(one)
    yield "sample-several", [
        Part(part.texts, [(*its, "money") if money(its) else its[: len(text) % 7] for text, its in
                          zip(part.texts, part.labels, strict=True)]) for part in one
    ]  # fmt: skip


def measured(bench: Bench, variant: Variant) -> Found:
    """One fit, its voices on test, and what its common space takes from sentiment."""
    given = {**variant.given, **({"epochs": bench.epochs} if bench.epochs else {})}
    settings = Settings.resolve(seed=bench.seed, **given)
    dev = (bench.dev.texts, bench.dev.labels) if bench.dev else None
    alone = variant.recipe == "knn-ec"
    with tempfile.TemporaryDirectory(dir=bench.scratch) as folder:
        root = Path(folder, "model")
        fit(
            bench.train.texts, bench.train.labels, recipe=variant.recipe, encoder=bench.encoder, dev=dev,
            source_task=None if alone else (bench.source.texts, bench.source.labels), settings=settings,
            work=_work(bench, variant, Path(folder, "work")), progress=Quiet(),
        ).save(root).close()  # fmt: skip
        with Model.open(root) as model:
            task, kept, scores = model.task, model.info.fit, _scores(bench, model)
        halves = _halves(bench, Layout(root)) if variant.recipe.startswith("common-space") else {}
    return {
        "data": bench.data, "model": variant.name, "recipe": variant.recipe, "settings": given, "seed": bench.seed,
        "task": task, "encoder": Path(bench.encoder).name, "train": len(bench.train), "test": len(bench.test),
        "overlap": len(overlapping(bench.train, bench.test)), "source": 0 if alone else len(bench.source),
        "judged_on": kept["judged_on"],
        "fit_seconds": kept["seconds"], "scores": scores, "halves": halves, "copies": _copies(bench.train),
        "short": next(iter(scores.values()))["head"]["macro_f1"],
    }  # fmt: skip


def _scores(bench: Bench, model: Model) -> Found:
    """Each voice's scores on test, by each way to decide.

    One label a text: by the highest probability, on all test rows, and on those whose text is not in train, too.
    Several: at a half; and at thresholds chosen on dev rows for each voice by itself, where there are dev rows.
    """
    labels = sorted(model.labels)
    tables, truth = _tables(model, bench.test, labels)
    if model.task == "single":
        decided = {voice: table == table.max(axis=1, keepdims=True) for voice, table in tables.items()}
        apart = np.setdiff1d(np.arange(len(truth)), overlapping(bench.train, bench.test))
        return {
            "highest": {voice: _measured(truth, table) for voice, table in decided.items()},
            "highest, without the overlap": {
                voice: _measured(truth[apart], table[apart]) for voice, table in decided.items()
            },
        }
    found = {"a half": {voice: _measured(truth, table >= 0.5) for voice, table in tables.items()}}
    if bench.dev:
        held, known = _tables(model, bench.dev, labels)
        chosen = {voice: label_thresholds(known, table, "macro_f1")[1] for voice, table in held.items()}
        found["chosen"] = {voice: _measured(truth, table >= chosen[voice]) for voice, table in tables.items()}
    return found


def _tables(model: Model, part: Part, labels: list[str]) -> tuple[dict[str, Table], NDArray[np.bool_]]:
    """Each voice's probabilities (rows, labels), and the truth."""
    said = model.classify(part.texts)
    tables = {
        voice: np.array([[dict(getattr(one, name)).get(label, 0.0) for label in labels] for one in said])
        for voice, name in VOICES.items()
    }
    return tables, np.array([[label in its for label in labels] for its in part.labels])


def _measured(truth: NDArray[np.bool_], decided: NDArray[np.bool_]) -> Found:
    counts = count(truth, decided)
    return {
        "jaccard": jaccard(truth, decided), "micro_f1": float(counts.micro_f1()), "macro_f1": float(counts.macro_f1())
    }  # fmt: skip


def _work(bench: Bench, variant: Variant, work: Path) -> Path:
    """Where a fit keeps its checkpoints. Those of encoders that other fits train alike lie elsewhere, to be found."""
    work.mkdir()
    kind = "space" if variant.recipe.startswith("common-space") else variant.recipe
    shared = {"source-1": bench.scratch / f"{kind}-{bench.seed}-source"}
    if kind == "space":
        shared["part-2"] = bench.scratch / f"{kind}-{bench.seed}-{bench.data}"
    for name, place in shared.items():
        place.mkdir(exist_ok=True)
        (work / name).symlink_to(place.resolve(), target_is_directory=True)
    return work


def _copies(train: Part) -> float:
    """Of all pairs of copies that random drawing is among, the share of those that are of one text."""
    counts = Counter(text for text, its in zip(train.texts, train.labels, strict=True) for _ in its)
    copies = sum(counts.values())
    return sum(n * (n - 1) for n in counts.values()) / (copies * (copies - 1))


def _halves(bench: Bench, layout: Layout) -> Found:
    """What the common space takes from each encoder: weights, what they add on test rows, and what that decides.

    Norms are Frobenius norms of the layer's two halves. `spread`: the root of the mean squared distance of a half's
    share in the layer's input to its tanh from the mean over rows. `macro_f1`: the head's, at a half or by the
    greatest probability, with both halves, and with the sentiment half or the emotion half held at its mean.
    """
    from likewise.training.loading import load
    from likewise.training.scoring import encoded

    model = load(layout.encoder(1))
    both: NDArray[np.float32] = encoded(_first(model), bench.test.texts).numpy()
    linear: Any = model[1].linear
    weights, bias = linear.weight.detach().numpy().T, linear.bias.detach().numpy()
    middle = both.shape[1] - weights.shape[1]
    names = {"sentiment": slice(0, middle), "emotion": slice(middle, None)}
    head = read_decision(layout, 1).head
    assert head is not None
    still = both.mean(axis=0)
    tables = {"both": both}
    for name, half in names.items():
        tables[name] = both.copy()
        tables[name][:, half] = still[half]
    truth = np.array([[label in its for label in head.labels] for its in bench.test.labels])

    def macro(table: NDArray[np.float32]) -> float:
        found = head.probabilities(np.tanh(table @ weights + bias))
        single = head.task == "single"
        return float(count(truth, found == found.max(axis=1, keepdims=True) if single else found >= 0.5).macro_f1())

    return {
        "norm": {name: float(np.linalg.norm(weights[half])) for name, half in names.items()},
        "spread": {
            name: float(np.sqrt((((both - still)[:, half] @ weights[half]) ** 2).sum(axis=1).mean()))
            for name, half in names.items()
        },
        "macro_f1": {name: macro(table) for name, table in tables.items()},
    }


def _first(model: Any) -> Any:
    """Both encoders without the layer behind them."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(modules=[model[0]], device="cpu")


if __name__ == "__main__":
    main()
