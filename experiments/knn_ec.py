"""KNN-EC (emotion classification with whitened neighbours): its Tables 3, 4 and 5, its Figures 2 and 3, its claims.

    python -m experiments.knn_ec --folder FOLDER                         both data sets
    python -m experiments.knn_ec --folder FOLDER --data isear --only table3
    python -m experiments.knn_ec --quick              the bundled sample data, one short fit, in about 20 seconds

Each data set is fitted twice: with the paper's values, which are the recipe `knn-ec` as it is, and with a higher
learning rate and T chosen, too. Whitening, k, T and lambda are chosen on held-out rows of train (the data set's dev
rows where it has some) as `fit` does; test is scored with what was chosen, and chooses nothing. Fitted models are kept
in the folder LIKEWISE_EXPERIMENT_WORK, or a temporary one, and are used again; remove them to train anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from experiments import knn_ec_tables
from experiments.data import Part
from experiments.knn_ec_store import Asked, Run, Store, mean_cosine, search_times, work_folder
from experiments.paper import arguments, maps, provenance
from experiments.running import once, parts
from experiments.shallow import starting
from likewise.decision.splitting import hold_out
from likewise.decision.tuning import Tuned
from likewise.encoding.names import DEFAULT
from likewise.recipes import KNN_EC
from likewise.validation import normalised

SETS = ("isear", "goemotions-ekman")
LEARNING_RATES = {"paper": None, "tuned": 1e-4}
"""The paper's values, and values that suit a small encoder better; None is the recipe's own, which is the paper's."""
TEMPERATURES = (0.1, 0.3, 1.0, 2.0, 3.0, 10.0)
"""Among them the paper's 2 and its published code's 0.1."""
KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
DRAWS = 3
QUERIES = 500
ALONE = (1.0,)
"""The lambdas of p_kNN: the vote by itself."""

Found = dict[str, Any]


def main() -> None:
    """Run what the command line asks for, and write the page."""
    given = arguments("knn_ec", __doc__, PARTS)
    with work_folder(given.quick) as work:
        _run_all(given, work)
    if any(given.results.glob("*.json")):
        print(knn_ec_tables.text(given.results))


def _run_all(given: argparse.Namespace, work: Path) -> None:
    command = provenance(given.folder)
    sets = ("sample",) if given.quick else given.data or SETS
    for name, (train, test, dev) in parts(given.folder, sets, "train", "test", "dev"):
        assert train is not None and test is not None
        if given.quick:
            train, dev = _few(train)
        start = starting(given, work / "encoder", train, dev, test)
        for named in _named(given, name, (train, dev, test), start, work):
            run = Run(named.asked)
            for part in given.only or PARTS:
                job = partial(_told, run, named, part, command, given.results)
                once(given.results / f"{named.name}-{part}.json", job)
            knn_ec_tables.write(given.results)


@dataclass(frozen=True)
class Named:
    """A run, by which values, and what its files begin with."""

    asked: Asked
    values: str

    name: str


def _named(
    given: argparse.Namespace, data: str, rows: tuple[Part, Part | None, Part], start: str, work: Path
) -> Iterator[Named]:
    """Every run of a data set, by the encoder to `start` from; all values of a seed before the next."""
    encoder = "" if given.encoder == DEFAULT else f"-{Path(given.encoder).name}"
    for seed in range(given.seeds):
        for values, rate in LEARNING_RATES.items():
            grid = KNN_EC.grid if values == "paper" else replace(KNN_EC.grid, temperatures=TEMPERATURES)
            name = f"{data}{encoder}-{values}-{seed}"
            if given.quick:  # one fit serves both
                rate = LEARNING_RATES["tuned"]
            epochs = 1 if given.quick else None
            folder = work / f"{data}{encoder}-{rate or 'paper'}-{seed}"
            asked = Asked(data, *rows, start, rate, epochs, grid, seed, folder, work / f"{data}{encoder}")
            yield Named(asked, values, name)


def _few(train: Part) -> tuple[Part, Part]:
    """Half of the rows, for a quick run: some to train on, and dev rows."""
    for share in (0.5, 0.3):
        kept, held = hold_out([normalised(text) for text in train.texts], train.labels, share, 0)
        train, dev = train.rows(kept.tolist()), train.rows(held.tolist())
    return train, dev


def _told(run: Run, named: Named, part: str, command: str, results: Path) -> Found:
    """A part's results, with what they are results of."""
    asked = named.asked
    about = {
        "data": asked.data, "encoder": Path(asked.encoder).name, "values": named.values, "seed": asked.seed,
        "part": part, "made_by": command,
    }  # fmt: skip
    return {**about, **PARTS[part](run, results / f"{named.name}-{part}.png")}


# The parts


def fitted(run: Run, _: Path) -> Found:
    """The fit: its rows and its course."""
    facts, store = run.manifest.fit, run.fine_tuned
    (schedule,) = run.job.stages
    return {
        "train": len(store.train), "test": len(store.test), "overlap": len(store.test) - len(store.apart),
        "judged_on": facts["judged_on"], "dev_scores": facts["scores"]["fine-tuned"],
        "schedule": asdict(schedule), "course": run.course,
        "dimension": store.train.shape[1], "whitened": store.all_dimensions,
    }  # fmt: skip


def table3(run: Run, _: Path) -> Found:
    """p_model, p_kNN and p, and how far they lie above p_model."""
    store = run.fine_tuned
    alone = store.choose(replace(run.asked.grid, lambdas=ALONE))
    decided = {**store.decide(run.tuned), "neighbours": store.decide(alone)["neighbours"]}
    settings = {"neighbours": alone, "blend": run.tuned}
    return {
        **{voice: store.score(columns) for voice, columns in decided.items()},
        "settings": {voice: _settings(tuned) for voice, tuned in settings.items()},
        "over_model": {voice: store.difference(decided[voice], decided["model"]) for voice in settings},
        "short": store.score(decided["blend"])["all"],
    }  # fmt: skip


def table4(run: Run, _: Path) -> Found:
    """p_kNN without and with whitening, by the fine-tuned encoder and by the one before."""
    stores = {
        "fine-tuned": lambda: run.fine_tuned,
        "pretrained, mean pooling": lambda: run.pretrained("mean"),
        "pretrained, cls pooling": lambda: run.pretrained("cls"),
    }
    rows = []
    for name, made in stores.items():
        store = made()
        plain, white = (
            store.choose(replace(run.asked.grid, dimensions=dimensions, lambdas=ALONE))
            for dimensions in ((None,), run.asked.grid.dimensions)
        )
        decided = [store.decide(tuned)["neighbours"] for tuned in (plain, white)]
        rows.append({
            "encoder": name, "without": _one(store, plain, decided[0]), "with": _one(store, white, decided[1]),
            "gain": store.difference(decided[1], decided[0]),
        })  # fmt: skip
    return {"rows": rows}


def _one(store: Store, tuned: Tuned, decided: Any) -> Found:
    keys = store.whitening.first(tuned.dimensions).keys(store.train)
    return {**_settings(tuned), **store.score(decided), "cosine": mean_cosine(keys)}


def table5(run: Run, _: Path) -> Found:
    """p for each number of dimensions, with the size of keys and the time of a search."""
    store = run.fine_tuned
    chosen = {
        n: store.choose(replace(run.asked.grid, dimensions=(n,))) for n in (*store.dimensions(run.asked.grid), None)
    }
    # With too few rows for so many dimensions tuning falls back to the embedding; that is no result for them.
    chosen = {n: tuned for n, tuned in chosen.items() if tuned.dimensions == n}
    times = search_times(
        [store.whitening.first(n) for n in chosen], store.train, store.test[:QUERIES], run.tuned.k
    )  # fmt: skip
    widest = max((n for n in chosen if n is not None), default=None)
    base = store.decide(chosen[widest])["blend"]
    dimension = store.train.shape[1]
    rows = []
    for (n, tuned), milliseconds in zip(chosen.items(), times, strict=True):
        decided = store.decide(tuned)
        rows.append({
            "n": n, **_settings(tuned), **store.score(decided["blend"]), "milliseconds": milliseconds,
            "neighbours": store.score(decided["neighbours"]), "size": (n or dimension) / dimension,
            "over_widest": store.difference(decided["blend"], base),
        })  # fmt: skip
    return {"rows": rows, "all": store.all_dimensions, "queries": len(store.test[:QUERIES]), "searched_k": run.tuned.k}


def sweep(run: Run, _: Path) -> Found:
    """p and p_kNN for each k, in the dimensions and with the T that were chosen; lambda is chosen for each k."""
    store, chosen = run.fine_tuned, run.tuned
    grid = replace(run.asked.grid, dimensions=(chosen.dimensions,), temperatures=(chosen.temperature,))
    rows = []
    for k in (k for k in KS if k <= len(store.fold.embeddings)):
        tuned = store.choose(replace(grid, ks=(k,)))
        decided = store.decide(tuned)
        rows.append({**_settings(tuned), "held_out": tuned.scores["blend"], **_voices(store, decided)})
    return {"rows": rows, "tuned": _settings(chosen)}


def fractions(run: Run, _: Path) -> Found:
    """p and p_kNN with parts of the datastore, drawn at random; encoder, head and whitening stay as they are.

    Settings are chosen for each part; `kept` is p with those of the whole, so that nothing but the rows differs.
    """
    store, chosen = run.fine_tuned, run.tuned
    grid = replace(run.asked.grid, temperatures=(chosen.temperature,))
    full: dict[str, Any] = {}
    rows = []
    for draw in range(DRAWS):
        for share in reversed(FRACTIONS):
            if share == 1 and draw:
                continue  # all rows are the same rows in any draw
            part = store.drawn(share, [run.asked.seed, draw])
            tuned, alone = (store.choose_for(part, chosen, one) for one in (grid, replace(grid, lambdas=ALONE)))
            decided = {**store.decide(tuned, part), "neighbours": store.decide(alone, part)["neighbours"]}
            decided["kept"] = store.decide(chosen, part)["blend"]
            full = full or decided
            row = {
                "share": share, "draw": draw, "rows": len(part), **_settings(tuned), "k_alone": alone.k,
                **_voices(store, decided),
            }  # fmt: skip
            if not draw:
                row["full_over_this"] = {v: store.difference(full[v], decided[v]) for v in ("neighbours", "kept")}
            rows.append(row)
    return {"rows": rows, "kept": _settings(chosen)}


def pictures(run: Run, path: Path) -> Found:
    """2-D maps of the test rows, without and with whitening; `path` is where they go."""
    store = run.fine_tuned
    grid = replace(run.asked.grid, lambdas=ALONE)
    n = store.choose(grid).dimensions
    labels = [store.labels[column] for column in store.truth]
    panels = {
        "without whitening": (store.test, labels),
        f"whitened, {n} dimensions": (store.whitening.first(n).keys(store.test), labels),
    }
    maps(path, f"{run.asked.data}: test rows by the fine-tuned encoder", panels)
    return {"n": n, "picture": path.name}


PARTS: Mapping[str, Callable[[Run, Path], Found]] = {
    "fit": fitted, "table3": table3, "table4": table4, "table5": table5, "figure3": sweep, "figure2": pictures,
    "fractions": fractions,
}  # fmt: skip


def _settings(tuned: Tuned) -> Found:
    return {"n": tuned.dimensions, "k": tuned.k, "temperature": tuned.temperature, "lambda": tuned.lambda_}


def _voices(store: Store, decided: Mapping[str, Any]) -> Found:
    return {voice: store.score(columns) for voice, columns in decided.items()}


if __name__ == "__main__":
    main()
