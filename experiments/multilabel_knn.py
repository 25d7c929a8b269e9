"""Multi-label kNN: its Tables 3 to 8, its Figures 2, 3 and 4, on the data sets that are there.

    python -m experiments.multilabel_knn --folder FOLDER                                both data sets, hours
    python -m experiments.multilabel_knn --folder FOLDER --data semeval2018-ec --only cnn
    python -m experiments.multilabel_knn --quick                                        a small made-up set, in seconds

Networks: transformer (the encoder named by --encoder), cnn and ldgn (both from nothing). Each is trained without the
contrastive loss (gamma 0), with it (gamma 0.1), without its dynamic coefficient, and with other gammas; and each fit is
judged with and without neighbours, by the paper's values (k, lambda 0.5, T 1, a threshold of a half) and by those that
the recipe `multilabel-knn` chooses on dev rows. Test chooses nothing. Each run leaves one JSON file and is not repeated
where that is there.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import multilabel_knn_tables
from experiments.data import Part
from experiments.paper import arguments, keep_page
from experiments.running import Quiet, parts
from experiments.shallow import starting
from likewise import Model
from likewise.bundle import Layout, read_decision
from likewise.candidates import nearest
from likewise.decision.blend import blend
from likewise.decision.measures import count
from likewise.decision.vote import vote, vote_weights
from likewise.encoding.names import FROM_SCRATCH
from likewise.encoding.runtime import Encoder
from likewise.fitting import fit
from likewise.settings import Settings

SETS = ("semeval2018-ec", "goemotions", "aapd", "rcv1-v2")
NETWORKS = ("transformer", *FROM_SCRATCH)
PAPER_K = {"rcv1-v2": 10}
"""The paper's k: 10 for RCV1-V2, 5 for AAPD, and here for the others."""
LAMBDA, TEMPERATURE, THRESHOLD = 0.5, 1.0, 0.5
KS = (1, 2, 5, 10, 20, 50, 100)
LAMBDAS = tuple(round(0.1 * step, 1) for step in range(11))
TIMED = 200
NEAR = 80
"""Neighbours on the map of one text."""
Found = dict[str, Any]
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """How a network is trained."""

    name: str
    gamma: float
    shared: str = "counted"


VARIANTS = (
    Variant("without contrast", 0.0), Variant("with contrast", 0.1), Variant("without beta", 0.1, "any"),
    Variant("gamma 0.01", 0.01), Variant("gamma 1", 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """A data set and a network."""

    data: str
    network: str
    train: Part
    dev: Part | None
    test: Part
    encoder: str
    epochs: int | None
    results: Path
    seed: int


def main() -> None:
    """Run what the command line asks for, and keep the page up to date."""
    keep_page(arguments("multilabel_knn", __doc__, NETWORKS), _runs, multilabel_knn_tables.write)


def _runs(given: Any, scratch: Path) -> Iterator[tuple[str, Any]]:
    """Every run: of each data set and network those of Tables 3 and 4 first."""
    sets = _made_up() if given.quick else parts(given.folder, given.data or SETS, "train", "dev", "test")
    variants = VARIANTS[:2] if given.quick else VARIANTS
    benches = []
    for data, (train, dev, test) in sets:
        assert train is not None and test is not None
        encoder = starting(given, scratch / "encoder", train, test)
        for network in NETWORKS:
            if given.only is None or network in given.only:
                epochs = 2 if given.quick else None
                benches.append(Bench(data, network, train, dev, test, encoder, epochs, given.results, 0))
    for seed in range(given.seeds):
        for variant in variants:
            for bench in benches:
                one = Bench(**{**bench.__dict__, "seed": seed})
                name = f"{bench.data}-{bench.network}-{seed}-{variant.name.replace(' ', '-')}"
                yield name, partial(measured, one, variant, name)


def _made_up() -> Iterator[tuple[str, list[Part | None]]]:
    """Texts about none to three of four things, for a quick run."""
    words = {"parcel": "delivery", "money": "payment", "broken": "fault", "thanks": "praise"}
    rng = np.random.default_rng(0)

    def some(n: int) -> Part:
        texts, labels = [], []
        for _ in range(n):
            about = sorted(rng.choice(list(words), rng.integers(0, 4), replace=False).tolist())
            texts.append(" ".join([*about, *rng.choice(["please", "today", "again", "my", "the", "very"], 4)]))
            labels.append(tuple(sorted(words[word] for word in about)))
        return Part(texts, labels)

    yield "made-up", [some(200), some(60), some(60)]


def measured(bench: Bench, variant: Variant, name: str) -> Found:
    """One fit, judged in every way."""
    settings = Settings.resolve(
        seed=bench.seed, gamma=variant.gamma, shared_labels=variant.shared, epochs=bench.epochs,
        batch_size=32 if bench.epochs else None,
    )  # fmt: skip
    encoder = bench.network if bench.network in FROM_SCRATCH else bench.encoder
    dev = (bench.dev.texts, bench.dev.labels) if bench.dev else None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "model"
        started = time.monotonic()
        fit(
            bench.train.texts, bench.train.labels, task="multi", recipe="multilabel-knn", encoder=encoder, dev=dev,
            settings=settings, progress=Quiet(),
        ).save(root).close()  # fmt: skip
        seconds = round(time.monotonic() - started, 1)
        with Model.open(root) as model:
            chosen = model.evaluate(bench.test.texts, bench.test.labels).to_dict()
            examples = model.examples()
        about = {"data": bench.data, "network": bench.network, "variant": variant.name, "gamma": variant.gamma,
                 "seed": bench.seed, "encoder": Path(bench.encoder).name, "train": len(bench.train),
                 "test": len(bench.test), "fit_seconds": seconds}  # fmt: skip
        tuned = {
            voice: {measure: chosen[voice][measure] for measure in ("micro_f1", "hamming_loss")}
            for voice in ("head", "neighbours", "blend")
        }
        rows = Part([one.text for one in examples], [one.labels for one in examples])
        found = _by_the_paper(bench, Layout(root), rows, name)
        disk = sum(path.stat().st_size for path in (Layout(root).datastore, Layout(root).snapshot))
    return {**about, "tuned": tuned, "disk": disk, "short": tuned["blend"]["micro_f1"], **found}


def _by_the_paper(bench: Bench, layout: Layout, rows: Part, name: str) -> Found:
    """The same network with the paper's k, lambda, T and threshold; sweeps of k and lambda; what neighbours share."""
    decision, encoder = read_decision(layout, 1), Encoder(layout.onnx(1))
    assert decision.head is not None
    head = decision.head
    labels = head.labels
    keys, (queries, logits) = encoder.encode(rows.texts), encoder.encode_with_logits(bench.test.texts)
    has, truth = _table(rows, labels), _table(bench.test, labels)
    headed = head.probabilities(queries if logits is None else logits)
    k = PAPER_K.get(bench.data, 5)
    distances, found = nearest(keys, queries, min(max(*KS, NEAR), len(keys)))

    def neighbours(count: int) -> Table:
        near = found[:, :count]
        return vote(vote_weights(distances[:, :count], TEMPERATURE), near.astype(np.int32), has)

    def scores(table: Table) -> Found:
        counts = count(truth > 0, table >= THRESHOLD)
        return {"micro_f1": float(counts.micro_f1()), "hamming_loss": float(counts.hamming_loss())}

    voted = neighbours(k)
    shared = (has[found[:, :k]] * truth[:, None, :]).sum(axis=(1, 2)) / np.maximum(
        has[found[:, :k]].sum(axis=(1, 2)), 1
    )
    _map(bench, keys, queries, has, truth, found, name)
    return {
        "k": k,
        "paper": {"head": scores(headed), "neighbours": scores(voted), "blend": scores(blend(voted, headed, LAMBDA))},
        "ks": [[n, scores(blend(neighbours(n), headed, LAMBDA))["micro_f1"]] for n in KS if n <= len(keys)],
        "lambdas": [[share, scores(blend(voted, headed, share))["micro_f1"]] for share in LAMBDAS],
        "shared": float(shared[truth.any(axis=1)].mean()),
        "milliseconds": _times(encoder, head, keys, has, bench.test.texts[:TIMED], k),
    }


def _table(part: Part, labels: list[str]) -> Table:
    return np.array([[float(label in its) for label in labels] for its in part.labels])


def _times(encoder: Encoder, head: Any, keys: Any, has: Table, texts: list[str], k: int) -> Found:
    """Milliseconds a text, one by one, without neighbours and with them."""
    from likewise.datastore.index import Index

    index, rows = Index(keys.shape[1]), np.arange(len(keys))
    index.add(rows, keys, rows.astype(np.int32))
    seconds = {"without": 0.0, "with": 0.0}
    for text in texts:
        started = time.perf_counter()
        query, logits = encoder.encode_with_logits([text])
        head.probabilities(query if logits is None else logits)
        seconds["without"] += (passed := time.perf_counter() - started)
        started = time.perf_counter()
        hits = index.search(query, min(k, len(keys)))
        vote(vote_weights(hits.distances, TEMPERATURE), hits.codes, has)
        seconds["with"] += passed + time.perf_counter() - started
    return {way: 1000 * total / len(texts) for way, total in seconds.items()}


def _map(bench: Bench, keys: Any, queries: Any, has: Table, truth: Table, found: Any, name: str) -> None:
    """Figure 3: a text of two labels or more and its nearest, by how many labels they share."""
    from experiments.paper import maps

    row = int(np.argmax(truth.sum(axis=1) >= 2))
    near = found[row, :NEAR]
    shared = (has[near] * truth[row]).sum(axis=1).astype(int)
    names = ["the text", *(f"{n} shared" for n in shared)]
    table = np.concatenate([queries[row : row + 1], keys[near]])
    title = f"{bench.data}, {bench.network}: test row {row} and its {len(near)} nearest"
    maps(bench.results / f"{name}-map.png", title, {"t-SNE": (table, names)}, seed=bench.seed)


if __name__ == "__main__":
    main()
