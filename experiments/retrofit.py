"""Retrofitting: what emotions do to an encoder, and what such an encoder is worth to other tasks.

    python -m experiments.retrofit --folder FOLDER                                  all, hours
    python -m experiments.retrofit --folder FOLDER --only encoders --only sst2      one part, one data set
    python -m experiments.retrofit --quick                                          the sample data, in seconds

Encoders are trained on the goemotions rows with one label and without neutral, by `likewise train-encoder`, and
measured on such test rows: whether they fall into the classes, whether the nearest are of the same class, and how far
they have moved. Then other tasks start from them: by fine-tuning, and by neighbours on the encoder as it is; with all
training rows, and with shares of them. The summary of the paper that there is gives no tables, so none of its figures
stand beside ours.
Each run leaves one JSON file and is not repeated where that is there; the encoders are kept in models/ beside them.
Epochs are chosen on dev rows, nothing on test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import retrofit_tables
from experiments.data import Missing, Part, money_or_other, read
from experiments.paper import arguments, keep_page
from experiments.running import Quiet
from experiments.shallow import starting
from likewise.decision.splitting import hold_out
from likewise.encoding.names import resolve
from likewise.evaluation.embeddings import clustering, delta_emb, retrieval
from likewise.fitting import fit
from likewise.settings import Settings
from likewise.train_encoder import train_encoder
from likewise.validation import normalised

EMOTIONS = "goemotions"
TASKS = ("sst2", "irony", "semeval2017-4a")
PARTS = ("encoders", *TASKS)
Found = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """An encoder: by which recipe, with what settings; no recipe is the encoder as it came."""

    name: str
    recipe: str | None = "retrofit"
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def given(self) -> dict[str, Any]:
        """The settings."""
        return dict(self.settings)


CLS, MEAN = (("pooling", "cls"),), (("pooling", "mean"),)
BEFORE, RETROFITTED = Variant("before", None, CLS), Variant("retrofitted")
TRANSFER = Variant("transfer", "knn-ec", (*CLS, ("learning_rate", 1e-4), ("epochs", 4)))
BEFORE_MEAN, RETROFITTED_MEAN = Variant("before, mean", None, MEAN), Variant("retrofitted, mean", settings=MEAN)
TRANSFER_MEAN = replace(TRANSFER, name="transfer, mean", settings=(*MEAN, *TRANSFER.settings[1:]))
VARIANTS = (
    BEFORE, RETROFITTED, TRANSFER, BEFORE_MEAN, RETROFITTED_MEAN, TRANSFER_MEAN,
    Variant("no preservation", settings=(("preservation", 0.0),)),
    Variant("linear projection", settings=(("projection", "linear"),)),
    Variant("no projection", settings=(("projection", "none"),)),
    Variant("stratified", settings=(("batches", "stratified"),)),
    *(Variant(f"tau {tau:g}", settings=(("contrastive_temperature", tau),)) for tau in (0.03, 0.3, 1.0)),
    *(Variant(f"preservation {weight:g}", settings=(("preservation", weight),)) for weight in (10.0, 100.0)),
)  # fmt: skip
STARTS = (BEFORE_MEAN, RETROFITTED_MEAN, TRANSFER_MEAN)
"""What other tasks start from. By the mean of tokens, which is how all-MiniLM-L6-v2 was trained."""
MULTITASK = "multitask"
FINE_TUNED: dict[str, Any] = {"learning_rate": 1e-4, "epochs": 4}


@dataclass(frozen=True)
class Plan:
    """How much is done. `starts` of other tasks, `shares` of their rows; `epochs` None: as the variants have them."""

    variants: tuple[Variant, ...] = VARIANTS
    shares: tuple[float, ...] = (1.0, 0.02, 0.05, 0.1, 0.25, 0.5)
    starts: tuple[Variant | None, ...] = (*STARTS, None)
    epochs: int | None = None


QUICK = Plan((BEFORE_MEAN, RETROFITTED_MEAN), (1.0, 0.5), (RETROFITTED_MEAN, None), 1)


@dataclass(frozen=True)
class Bench:
    """The emotions, the encoder to begin with, and where encoders are kept."""

    train: Part
    dev: Part
    test: Part
    encoder: str
    models: Path
    plan: Plan
    seed: int = 0

    def folder(self, variant: Variant) -> str:
        """The variant's encoder, trained where that was not done before."""
        if variant.recipe is None:
            return self.encoder
        target = self.models / f"{self.seed}-{_file(variant.name)}"
        if not target.exists():
            train_encoder(
                target, self.train.texts, self.train.labels, recipe=variant.recipe, encoder=self.encoder,
                dev=(self.dev.texts, self.dev.labels), settings=self.settings(variant),
                work=target.with_name(f".{target.name}.work"), progress=Quiet(),
            )  # fmt: skip
        return str(target)

    def settings(self, variant: Variant) -> Settings:
        """The variant's, with those that a quick run changes."""
        given = {**variant.given, **({"epochs": self.plan.epochs} if self.plan.epochs else {})}
        return Settings.resolve(seed=self.seed, **given)


def main() -> None:
    """Run what the command line asks for, and keep the page up to date."""
    keep_page(arguments("retrofit", __doc__, PARTS), _runs, retrofit_tables.write)


def _runs(given: Any, scratch: Path) -> Iterator[tuple[str, Any]]:
    """Every run: the encoders first, then each task with all of its rows, then with shares of them."""
    try:
        train, dev, test = _emotions(given.folder, given.quick)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return
    encoder = starting(given, scratch / "encoder", train, dev, test)
    bench = Bench(train, dev, test, encoder, given.results / "models", QUICK if given.quick else Plan())
    wanted = given.only or PARTS
    for seed in range(given.seeds):
        bench = replace(bench, seed=seed)
        if "encoders" in wanted:
            for variant in bench.plan.variants if seed == 0 else bench.plan.variants[:6]:
                yield f"encoder-{seed}-{_file(variant.name)}", partial(measured, bench, variant)
        for share in bench.plan.shares:
            for task, rows in _tasks(given, wanted):
                for start in bench.plan.starts:
                    name = f"task-{task}-{seed}-{share:g}-{_file(start.name if start else MULTITASK)}"
                    yield name, partial(applied, bench, task, rows, start, share)


def _file(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def _emotions(folder: Path | None, quick: bool) -> tuple[Part, Part, Part]:
    """Train, dev and test rows with one emotion; of the sample data the topics stand for them."""
    if quick:
        train, test = read(None, "sample", "train"), read(None, "sample", "test")
        assert train is not None and test is not None
        return train.rows(list(range(0, 200))), train.rows(list(range(200, 300))), test.rows(list(range(80)))
    out = []
    for name in ("train", "dev", "test"):
        part = read(folder, EMOTIONS, name)
        assert part is not None
        out.append(part.rows([i for i, its in enumerate(part.labels) if len(its) == 1 and its != ("neutral",)]))
    return out[0], out[1], out[2]


def _tasks(given: Any, wanted: Any) -> Iterator[tuple[str, tuple[Part, Part | None, Part]]]:
    """The other tasks that are there: train, dev (None where there are none) and test rows."""
    if given.quick:
        train, dev, test = map(money_or_other, _emotions(None, True))
        yield "sample", (train, dev, test)
        return
    for task in TASKS:
        if task not in wanted:
            continue
        try:
            train, dev, test = (read(given.folder, task, part) for part in ("train", "dev", "test"))
        except Missing as missing:
            print(missing, file=sys.stderr)
            continue
        assert train is not None and test is not None
        yield task, (train, dev, test)


def measured(bench: Bench, variant: Variant) -> Found:
    """What an encoder makes of the emotions' test rows, and how far these have moved."""
    labels = [its[0] for its in bench.test.labels]
    after = _embedded(bench.folder(variant), bench, variant)
    before = _embedded(bench.encoder, bench, variant)
    found = {
        **clustering(after, labels, seed=bench.seed),
        **retrieval(after, labels),
        "delta": delta_emb(before, after),
    }
    norm = float(np.linalg.norm(before, axis=1).mean())
    return {"kind": "encoder", "variant": variant.name, "recipe": variant.recipe, "settings": variant.given,
            "pooling": _pooling(variant), "norm_before": norm, "rows": len(labels), "seed": bench.seed,
            "encoder": Path(bench.encoder).name, "short": found["map_at_r"], **found}  # fmt: skip


def _pooling(variant: Variant) -> str:
    return str(variant.given.get("pooling", "cls"))


def _embedded(folder: str, bench: Bench, variant: Variant) -> Any:
    from likewise.training.trainable import Trainable

    pooling: Any = _pooling(variant)
    return Trainable(resolve(folder), pooling=pooling, normalise=False, max_tokens=128).embed(bench.test.texts)


def applied(
    bench: Bench, task: str, rows: tuple[Part, Part | None, Part], start: Variant | None, share: float
) -> Found:
    """Another task, fine-tuned from an encoder, and by neighbours on that encoder as it is. None: multitask."""
    train, dev, test = rows
    if share < 1:
        _, drawn = hold_out([normalised(text) for text in train.texts], train.labels, share, bench.seed)
        train = train.rows(drawn.tolist())
    held = (dev.texts, dev.labels) if dev else None
    given = {**FINE_TUNED, **({"epochs": bench.plan.epochs} if bench.plan.epochs else {}), "pooling": "mean"}
    common: Any = {"dev": held, "settings": Settings.resolve(seed=bench.seed, **given), "progress": Quiet()}
    found: Found = {"kind": "task", "task": task, "share": share, "rows": len(train), "test": len(test),
                    "seed": bench.seed, "start": start.name if start else MULTITASK}  # fmt: skip
    if start is None:
        source = (bench.train.texts, bench.train.labels)
        model = fit(train.texts, train.labels, recipe="multitask", encoder=bench.encoder, source_task=source, **common)
    else:
        folder = bench.folder(start)
        model = fit(train.texts, train.labels, recipe="knn-ec", encoder=folder, **common)
        with fit(train.texts, train.labels, recipe="frozen", encoder=folder, **common) as frozen:
            scores = frozen.evaluate(test.texts, test.labels).to_dict()
        found["as it is"] = {voice: scores[voice]["macro_f1"] for voice in ("head", "neighbours", "blend")}
    with model:
        scores = model.evaluate(test.texts, test.labels).to_dict()
    found["fine-tuned"] = {voice: scores[voice]["macro_f1"] for voice in ("head", "neighbours", "blend")}
    return {**found, "short": found["fine-tuned"]["head"]}


if __name__ == "__main__":
    main()
