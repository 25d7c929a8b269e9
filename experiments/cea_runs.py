"""The runs of `experiments.cea`: each takes a bench, and yields what a JSON file holds."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.cea_fits import Bench, Fit, encoder_of, fit_of
from experiments.data import Part
from experiments.paper import maps
from likewise.candidates import nearest
from likewise.datastore.index import Index
from likewise.decision.head import HeadSettings, LinearHead
from likewise.decision.tuning import Fold, Tuned, scores, tune
from likewise.decision.whitening import no_whitening
from likewise.encoding.names import resolve
from likewise.recipes import CEA
from likewise.validation import normalised

Embeddings = NDArray[np.float32]
LabelSets = list[tuple[str, ...]]
Found = dict[str, Any]
CITED = 4  # neighbours shown for a text, as in the paper's Table 4


def table2(bench: Bench, method: str, rate: float | None, start: float | None) -> Found:
    """One method at one rate; test is scored by what the recipe decides."""
    made = fit_of(method, rate, start, bench.plan.epochs)
    with bench.opened(made, keep=method == "cea") as model:
        trained = bench.trained(made, model)
        if method == "cea":
            bench.teach(model, bench.split[1])
        found = bench.scored(model)
    named = {"method": method, "asked": rate, "start": start, **_where(bench)}
    return {**named, **trained, "test": found, "short": found["blend"]["accuracy"]}


def table3(bench: Bench, rate: float | None) -> Found:
    """Milliseconds a text, of all test texts at once: the whole answer, and encoding and search by themselves."""
    with bench.opened(_cea(bench, rate), keep=True) as model:
        bench.teach(model, bench.split[1])
        texts, k = bench.test.texts, bench.trained(_cea(bench, rate), model)["k"]
        encoder = encoder_of(model)
        keys = encoder.encode(bench.train.texts)
        index, rows = Index(keys.shape[1]), np.arange(len(keys))
        index.add(rows, keys, rows)
        queries = encoder.encode(texts)
        answer = _milliseconds(bench, lambda: model.classify(texts, neighbours=0))
        encoding = _milliseconds(bench, lambda: encoder.encode(texts))
        search = _milliseconds(bench, lambda: index.search(queries, k))
    words = float(np.mean([len(text.split()) for text in texts]))
    found = {"answer": answer, "encode": encoding, "search": search, "words": words, "index": len(keys), "k": k}
    return {**_where(bench), **found, "texts": len(texts)}


def _milliseconds(bench: Bench, work: Any) -> float:
    """A text's share of the fastest of several goes: what slows the others is not this program."""
    work()
    goes = []
    for _ in range(bench.plan.timings):
        started = time.perf_counter()
        work()
        goes.append(time.perf_counter() - started)
    return 1000 * min(goes) / len(bench.test)


def table4(bench: Bench, rate: float | None) -> Found:
    """Test texts that the vote gets wrong, with their nearest neighbours, by row number."""
    with bench.opened(_cea(bench, rate), keep=True) as model:
        bench.teach(model, bench.split[1])
        voters = bench.trained(_cea(bench, rate), model)["k"]
        predictions = model.classify(bench.test.texts, neighbours=max(voters, CITED))
        refs = {example.id: int(example.ref or -1) for example in model.examples()}
    wrong = []
    for row, (said, truth) in enumerate(zip(predictions, bench.test.labels, strict=True)):
        decided = (said.vote[0][0],)
        if decided == truth:
            continue
        near = [{"row": refs[n.id], "label": n.labels[0], "distance": round(n.distance, 4)} for n in said.neighbours]
        labels = {n["label"] for n in near[:CITED]}
        texts = [normalised(n.text) for n in said.neighbours]
        same = [one for text, one in zip(texts, near, strict=True) if texts.count(text) > 1]
        kinds = {
            "agree": labels == {decided[0]},
            "contradict": len(labels) > 1,
            "duplicates": bool(same),
            "in train": normalised(bench.test.texts[row]) in texts,
        }
        wrong.append({"row": row, "truth": truth[0], "decided": decided[0], "neighbours": near[:CITED], "same": same,
                      "kinds": [kind for kind, holds in kinds.items() if holds]})  # fmt: skip
    return {**_where(bench), "wrong": wrong, "voters": voters, "train": _repeated(bench.train), "short": len(wrong)}


def _repeated(train: Part) -> Found:
    """How many texts of train stand there more than once, and how many of these with different labels."""
    labels: dict[str, list[tuple[str, ...]]] = {}
    for text, its in zip(train.texts, train.labels, strict=True):
        labels.setdefault(normalised(text), []).append(its)
    more = [its for its in labels.values() if len(its) > 1]
    return {"repeated": len(more), "contradicting": sum(len(set(its)) > 1 for its in more)}


def table5(bench: Bench, rate: float | None, hidden: str | None) -> Found:
    """A class hidden during the fit, then its rows taught; with hidden None the fit that saw all classes."""
    made = replace(_cea(bench, rate), hidden=hidden)
    with bench.opened(made, keep=hidden is None) as model:
        bench.teach(model, bench.rows(made)[1])
        trained = bench.trained(made, model)
        before = bench.scored(model, details=True)
        if hidden is None:
            return {**_where(bench), **trained, "hidden": None, "full": before}
        rows = [row for row, labels in enumerate(bench.train.labels) if hidden in labels]
        started = time.monotonic()
        bench.teach(model, rows)
        model.classify(bench.test.texts[0])
        seconds = time.monotonic() - started
        after = bench.scored(model, details=True)
    counted = {"taught": len(rows), "teach_seconds": round(seconds, 2), "short": after["neighbours"]["accuracy"]}
    return {**_where(bench), **trained, "hidden": hidden, "held-out": before, "index++": after, **counted}


def table6(bench: Bench, rate: float | None) -> Found:
    """Dev accuracy of the majority vote of the train rows, for every k that the recipe may choose."""
    with bench.opened(_cea(bench, rate), keep=True) as model:
        fold = _fold(bench, encoder_of(model).encode(bench.train.texts), bench.train.labels)
        chosen = bench.trained(_cea(bench, rate), model)
    tuned = Tuned(None, 1, float("inf"), 1.0, HeadSettings())
    curve = [[k, _voted(fold, replace(tuned, k=k))] for k in CEA.grid.ks if k <= len(fold.embeddings)]
    return {**_where(bench), "curve": curve, "k": chosen["k"], "dev": chosen["dev"], "rows": len(fold.held_embeddings)}


def _voted(fold: Fold, tuned: Tuned) -> float:
    """Accuracy of the vote on the held-out rows."""
    whitening = no_whitening(fold.embeddings.shape[1])
    return scores([fold], whitening, tuned, "single", "accuracy", nearest)["neighbours"]


def _fold(bench: Bench, embeddings: Embeddings, labels: LabelSets) -> Fold:
    """The dev rows against the rest of train."""
    kept, dev = bench.split
    return _votes_on(embeddings[kept], [labels[i] for i in kept], embeddings[dev], [labels[i] for i in dev])


def _votes_on(embeddings: Embeddings, labels: LabelSets, queries: Embeddings, truth: LabelSets) -> Fold:
    """A fold whose head says nothing, where the vote alone is asked for: no other head is made then."""
    names = sorted({label for its in labels for label in its})
    mute = LinearHead(names, np.zeros((embeddings.shape[1], len(names))), np.zeros(len(names)), "single")
    return Fold(embeddings, labels, queries, truth, mute)


def objective(bench: Bench, rate: float | None, name: str, epochs: int) -> Found:
    """An objective in the place of the recipe's, for some epochs; what it cost and what the vote is worth."""
    from likewise.training.pair_sampling import draw_pairs

    made = Fit("cea", epochs, rate, objective=name)
    started = time.process_time()
    with bench.opened(made) as model:
        seconds = round(time.process_time() - started, 1)
        trained = bench.trained(made, model)
        bench.teach(model, bench.split[1])
        test = bench.scored(model)
    labels = np.array([bench.train.labels[row][0] for row in bench.split[0]])
    pairs = len(draw_pairs(labels, np.random.default_rng(0))) if name in ("pairs", "contrastive") else None
    encoded = trained["epochs"] * (len(labels) if pairs is None else 2 * pairs)
    found = {
        "objective": name,
        "texts_encoded": encoded,
        "fit_cpu_seconds": seconds,
        "test": test,
        "short": test["neighbours"]["accuracy"],
    }
    return {**_where(bench), **trained, **found}


def figure3_cea(bench: Bench, rate: float | None, share: int) -> Found:
    """CEA on a share of train: the vote of that share, and of all of train once the rest is taught."""
    made = Fit("cea", bench.plan.epochs, rate, share=share)
    with bench.opened(made) as model:
        trained = bench.trained(made, model)
        alone = bench.scored(model)
        seen = set(bench.rows(made)[0])
        bench.teach(model, [row for row in range(len(bench.train)) if row not in seen])
        taught = bench.scored(model)
    named = {"share": share, "method": "cea", "short": taught["neighbours"]["accuracy"]}
    return {**_where(bench), **trained, **named, "alone": alone, "index++": taught}


def figure3_softmax(bench: Bench, rate: float | None, share: int) -> Found:
    """Plain fine-tuning on a share of train."""
    made = Fit("softmax", bench.plan.epochs, rate, share=share)
    with bench.opened(made) as model:
        trained, alone = bench.trained(made, model), bench.scored(model)
    return {**_where(bench), **trained, "share": share, "method": "softmax", "alone": alone,
            "short": alone["blend"]["accuracy"]}  # fmt: skip


def subclasses(bench: Bench, rate: float | None, train: LabelSets, test: Part) -> Found:
    """Trained on coarse labels, voted with fine ones: by the k chosen on coarse labels, and on fine ones."""
    with bench.opened(_cea(bench, rate), keep=True) as model:
        bench.teach(model, bench.split[1])
        table = encoder_of(model).encode(bench.train.texts)
        queries = encoder_of(model).encode(test.texts)
        examples = model.examples()
        model.relabel([one.id for one in examples], [train[int(one.ref or -1)] for one in examples])
        found = bench.scored(model, details=True, test=test)
        k = bench.trained(_cea(bench, rate), model)["k"]
    frozen = frozen_encoder(bench)
    before, asked = frozen.embed(bench.train.texts), frozen.embed(test.texts)
    return {
        **_where(bench), "k": k, "test": found, "short": found["neighbours"]["accuracy"],
        "by_dev": _tuned_vote(bench, table, queries, train, test.labels),
        "frozen": _tuned_vote(bench, before, asked, train, test.labels),
        "frozen_coarse": _tuned_vote(bench, before, asked, bench.train.labels, bench.test.labels),
    }  # fmt: skip


def _tuned_vote(bench: Bench, table: Embeddings, queries: Embeddings, labels: LabelSets, truth: LabelSets) -> Found:
    """k chosen on the dev rows, then the vote of all of train on test."""
    tuned = tune([_fold(bench, table, labels)], "single", "accuracy", nearest, CEA.grid)
    rows = {"accuracy": list(range(len(truth))), "apart": bench.apart}
    voted = {
        name: _voted(_votes_on(table, labels, queries[some], [truth[i] for i in some]), tuned)
        for name, some in rows.items()
    }
    return {"k": tuned.k, "dev": tuned.scores["neighbours"], **voted}


def frozen_encoder(bench: Bench) -> Any:
    """The encoder as it is, with the mean of its tokens, as Sentence-BERT has it."""
    from likewise.training.trainable import Trainable

    return Trainable(resolve(bench.encoder), pooling="mean", normalise=True, max_tokens=bench.plan.max_tokens)


def figures(bench: Bench, rate: float | None, fine: LabelSets | None, folder: Path) -> Found:
    """Figures 1 and 4: maps of train, drawn here and now, since embeddings are not kept."""
    with bench.opened(_cea(bench, rate), keep=True) as model:
        table = encoder_of(model).encode(bench.train.texts)
    coarse = [labels[0] for labels in bench.train.labels]
    before = frozen_encoder(bench).embed(bench.train.texts)
    drawn = {f"figure1-{bench.data}.png": {"frozen encoder": (before, coarse), "CEA": (table, coarse)}}
    if fine is not None:
        names = [labels[0] for labels in fine]
        drawn[f"figure4-{bench.data}.png"] = {
            "labels it was trained on": (table, coarse),
            f"the {len(set(names))} sub-classes": (table, names),
        }
    for name, panels in drawn.items():
        maps(folder / name, f"Train rows of {bench.data}", panels, seed=bench.seed)
    near = {"frozen": _agreement(before, coarse), "cea": _agreement(table, coarse)}
    return {**_where(bench), "files": sorted(drawn), "nearest_alike": near, "classes": dict(Counter(coarse))}


def _agreement(table: Embeddings, labels: list[str]) -> float:
    """The share of texts whose nearest other one bears their label: what a map shows, as a number."""
    _, rows = nearest(table, table, 2)
    others = np.where(rows[:, 0] == np.arange(len(table)), rows[:, 1], rows[:, 0])
    names = np.array(labels)
    return float((names[others] == names).mean())


def _cea(bench: Bench, rate: float | None) -> Fit:
    return fit_of("cea", rate, None, bench.plan.epochs)


def _where(bench: Bench) -> Found:
    return {"data": bench.data, "seed": bench.seed, "encoder": bench.encoder, "apart": len(bench.apart)}
