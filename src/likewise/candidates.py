"""The candidates of a fit: encoders with the settings tuned for them, compared on the same held-out rows.

the frozen encoder         encode, tune on the held-out rows
the encoder, fine-tuned    train on the rest, encode, tune on the same held-out rows
the recipe says which of them are candidates; the better one is finished: where the recipe has it so, what was trained
for the choice without the held-out rows is trained anew on all
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from likewise import precision
from likewise.bundle import Decision, Layout, write_generation
from likewise.datastore.index import Index
from likewise.decision.head import LinearHead
from likewise.decision.measures import turned
from likewise.decision.splitting import Rows
from likewise.decision.trained import align
from likewise.decision.tuning import Fold, Tuned, tune
from likewise.decision.whitening import fit_whitening
from likewise.encoders import Embeddings, View, course, exported, opened, read, trained, write
from likewise.errors import LabelError
from likewise.job import Job, LabelSets
from likewise.types import Precision

if TYPE_CHECKING:
    from likewise.encoding.runtime import Encoder
    from likewise.training.trainable import Trainable
    from likewise.training.trainer import History
    from likewise.training.wrapping import WrappedClassifier


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoder's folder (in it `onnx/`, which answers), its fingerprint, its precision, and all examples by it, shape
    (rows, d).

    `head` is the one trained with it, where the recipe has it so. `epochs` tells of its training: stage, loss, score on
    the held-out rows, seconds.
    """

    folder: Path
    fingerprint: str
    precision: Precision
    embeddings: Embeddings
    head: LinearHead | None
    epochs: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """An encoder with the settings tuned for it; `finish` makes what a generation keeps of it."""

    kind: Literal["frozen", "fine-tuned", "wrapped"]
    tuned: Tuned
    finish: Callable[[], Encoded]

    @property
    def score(self) -> float:
        """What the blend reached on held-out rows; more is better."""
        return turned(self.tuned.measure, self.tuned.scores["blend"])


def candidates(job: Job) -> list[Candidate]:
    """Every candidate of the recipe: the frozen encoder, the fine-tuned one, or one after the other.

    The fine-tuned one is left out where the examples do not allow it, and there is the frozen one. LabelError where
    there is not.
    """
    if not job.stages:
        return [_frozen(job)]
    trainable = all(_classes(job.labels, kept) >= 2 for kept, _ in job.split.parts)
    if not (job.recipe.frozen_too or trainable):
        raise LabelError(
            f"labels: too few examples to hold some out and train on two labels or more, as recipe {job.recipe.name!r} "
            "does; give more examples, or use the recipe 'frozen'"
        )
    if not job.recipe.frozen_too:
        return [_fine_tuned(job)]
    frozen = _frozen(job)
    return [frozen, _fine_tuned(job, frozen.finish().embeddings)] if trainable else [frozen]


def best(found: Sequence[Candidate]) -> Candidate:
    """The one with the best score; of equals the first."""
    return max(found, key=lambda candidate: candidate.score)


# The candidates


def _frozen(job: Job) -> Candidate:
    def encoded(of: Precision) -> tuple[Encoded, View]:
        folder = exported(job, of)
        encoder = opened(folder, job.settings)
        view = read(job, encoder, None)
        if of == precision.first(job.settings):
            _warn(job, encoder, view.embeddings.shape[1])
        return Encoded(folder, encoder.fingerprint, of, view.embeddings, None, []), view

    job.progress.stage("Encoding with the frozen encoder")
    return _as_it_is(job, "frozen", encoded)


def _warn(job: Job, encoder: Encoder, dimension: int) -> None:
    if encoder.truncated:
        job.progress.warn(
            f"{encoder.truncated:,} texts are longer than {encoder.max_tokens} tokens; their end is not seen"
        )
    if len(job.texts) < dimension:
        job.progress.warn(
            f"fewer examples ({len(job.texts)}) than dimensions ({dimension}): "
            "directions without variance are left out of the whitening"
        )


def _fine_tuned(job: Job, start: Embeddings | None = None) -> Candidate:
    """`start`: all examples by the encoder as it is, where that is known."""
    parts = job.split.parts
    exact, lower, single = [], [], len(parts) == 1
    for number, (kept, rows) in enumerate(parts, start=1):
        job.progress.stage("Training the encoder" if single else f"Training, fold {number} of {len(parts)}")
        name = "part" if single else f"fold-{number}"
        model, histories = trained(job, kept, job.held if single else None, name, start=start)
        held = job.held[0] if single else [job.texts[i] for i in rows]
        dev = job.split.dev
        exact.append(
            View(model.embed(job.texts), model.embed(dev[0]) if dev else None, _head(job, model), model.logits(held))
        )
        if precision.open_question(job):
            folder = job.work / "lower"
            write(model, folder, precision.lower(job.settings))
            lower.append(read(job, opened(folder, job.settings), _head(job, model), held))
    chosen, tuned = _tuned(job, exact, lambda: lower)

    def finish() -> Encoded:
        if not single:
            return _finished(job, *_anew(job, [], start), chosen)
        # The user's own dev rows were no part of the examples: the encoder has seen all of those.
        anew = job.recipe.anew and not job.split.dev
        last = _anew(job, [one.best_epoch for one in histories], start)[0] if anew else model
        return _finished(job, last, histories, chosen)

    return Candidate("fine-tuned", tuned, finish)


def wrapped(job: Job, classifier: WrappedClassifier) -> Candidate:
    """A classifier that was trained elsewhere, as the encoder and the head."""

    def encoded(of: Precision) -> tuple[Encoded, View]:
        made = _encoded(job, classifier, [], of)
        held = opened(made.folder, job.settings).encode(job.split.dev[0]) if job.split.dev else None
        return made, View(made.embeddings, held, made.head, None)

    return _as_it_is(job, "wrapped", encoded)


def _as_it_is(
    job: Job, kind: Literal["frozen", "wrapped"], encoded: Callable[[Precision], tuple[Encoded, View]]
) -> Candidate:
    """An encoder that is not trained here: the same for every part of the split, and finished once it is read."""
    made: dict[Precision, Encoded] = {}

    def views(of: Precision) -> list[View]:
        made[of], view = encoded(of)
        return [view] * len(job.split.parts)

    chosen, tuned = _tuned(job, views(precision.first(job.settings)), lambda: views(precision.lower(job.settings)))
    return Candidate(kind, tuned, lambda: made[chosen])


def _tuned(job: Job, exact: list[View], lower: Callable[[], list[View]]) -> tuple[Precision, Tuned]:
    """The precision and the settings; a view for each part of the split, in the first precision and in a lower one."""
    job.progress.stage("Tuning neighbours, head and blend")
    folds = _folds(job, exact)
    tuned = tune(folds, job.task, job.measure, nearest, job.recipe.grid)
    return precision.chosen(job, tuned, folds, lambda: _folds(job, lower()), nearest)


def _folds(job: Job, views: list[View]) -> list[Fold]:
    tables, devs, heads, logits = zip(*views, strict=True)
    return parts_of(job, list(tables), devs[0], heads, logits)


def _anew(job: Job, stop_after: Sequence[int], start: Embeddings | None) -> tuple[Trainable, list[History]]:
    """The encoder trained on all examples; where one was trained on a part of them, each stage for as many epochs."""
    job.progress.stage("Training the encoder on all examples")
    return trained(job, np.arange(len(job.texts)), None, "all", stop_after, start)


def _finished(job: Job, model: Trainable, histories: Sequence[History], chosen: Precision) -> Encoded:
    return _encoded(job, model, course(histories), chosen)


def _head(job: Job, model: Trainable | WrappedClassifier) -> LinearHead | None:
    """The head that was trained with the encoder, where the recipe has it so."""
    if job.recipe.head != "trained":
        return None
    return LinearHead(model.labels, model.weights, model.bias, model.task)


def _encoded(
    job: Job, model: Trainable | WrappedClassifier, epochs: list[dict[str, Any]], chosen: Precision
) -> Encoded:
    job.progress.stage("Encoding with the trained encoder")
    folder = job.work / f"encoder-{chosen}"
    write(model, folder, chosen)
    encoder = opened(folder, job.settings)
    embeddings = encoder.encode(job.texts, job.progress.update)
    return Encoded(folder, encoder.fingerprint, chosen, embeddings, _head(job, model), epochs)


def parts_of(
    job: Job,
    tables: list[Embeddings],
    dev: Embeddings | None,
    heads: Sequence[LinearHead | None] = (),
    logits: Sequence[Embeddings | None] = (),
    names: Mapping[str, str] | None = None,
) -> list[Fold]:
    """The split's parts with their embeddings; each part may have an encoder of its own, and a head trained with it.

    `logits` are the network's own for the held-out rows of each part, where the head takes those. `names` are what the
    heads' labels are called by now, where they were renamed.
    """
    none, out = [None] * len(tables), []
    for table, head, own, (kept, held) in zip(tables, heads or none, logits or none, job.split.parts, strict=True):
        if dev is not None and job.split.dev is not None:
            queries, truth = dev, job.split.dev[1]
        else:
            queries, truth = table[held], [job.labels[i] for i in held]
        label_sets = [job.labels[i] for i in kept]
        aligned = None
        if head is not None:  # as it will answer: over the labels that examples bear, whatever others it knows
            labels = sorted({label for its in label_sets for label in its})
            aligned = align(head, labels, {label: label for label in head.labels} if names is None else names)
        out.append(Fold(table[kept], label_sets, queries, truth, aligned, own))
    return out


def nearest(keys: Embeddings, queries: Embeddings, k: int) -> tuple[NDArray[np.float64], Rows]:
    """Distances and row numbers of each query's k nearest keys, by the index that will answer later."""
    index = Index(keys.shape[1])
    rows = np.arange(len(keys), dtype=np.int64)
    index.add(rows, keys, rows.astype(np.int32))
    hits = index.search(queries, k)
    return hits.distances, hits.ids


def _classes(labels: LabelSets, rows: Rows) -> int:
    return len({label for i in rows for label in labels[i]})


# What is kept


def keep(
    layout: Layout,
    number: int,
    job: Job,
    found: list[Candidate],
    encoded: Encoded,
    seconds: float,
    revision: int = 1,
) -> dict[str, Any]:
    """Write the best candidate, finished, as a generation; what the manifest tells of the fit.

    `revision` is where the ledger stands, or will, with the labels that it was fitted to.
    """
    chosen = best(found)
    facts: dict[str, Any] = {
        "fingerprint": encoded.fingerprint,
        "precision": encoded.precision,
        "examples": len(job.texts),
        "kept": chosen.kind,
        "judged_on": job.split.judged_on,
        "measure": job.measure,
        "scores": {one.kind: dict(one.tuned.scores) for one in found},
        "seconds": round(seconds, 1),
    }
    info = {**facts, "history": encoded.epochs, "stages": [asdict(stage) for stage in job.stages]}
    decision = Decision(fit_whitening(encoded.embeddings), replace(chosen.tuned, revision=revision), encoded.head)
    write_generation(layout, number, encoder=encoded.folder, decision=decision, info=info)
    return facts
