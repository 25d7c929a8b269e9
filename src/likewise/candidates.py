"""The candidates of a fit: encoders with the settings tuned for them, compared on the same held-out rows.

the frozen encoder         encode, tune on the held-out rows
the encoder, fine-tuned    train on the rest, encode, tune on the same held-out rows
the recipe says which of them are candidates; the better one is finished: where the recipe has it so, what was trained
for the choice without the held-out rows is trained anew on all
"""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from likewise.bundle import Decision, Layout, temporary_root, write_generation
from likewise.datastore.index import Index
from likewise.decision.head import Head, LinearHead
from likewise.decision.splitting import Rows
from likewise.decision.trained import TrainedHead
from likewise.decision.tuning import Fold, Tuned, probe, tune
from likewise.decision.whitening import fit_whitening
from likewise.encoding.names import from_scratch
from likewise.errors import LabelError, MissingExtra
from likewise.job import Job, LabelSets
from likewise.recipes import FROZEN
from likewise.settings import Settings
from likewise.training.schedule import Schedule
from likewise.types import Task

if TYPE_CHECKING:
    from likewise.encoding.runtime import Encoder
    from likewise.training.trainable import Trainable
    from likewise.training.trainer import History
    from likewise.training.wrapping import WrappedClassifier

Embeddings = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoder's folder (in it `onnx/`, which answers), its fingerprint, and all examples by it, shape (rows, d).

    `head` is the one trained with it, where the recipe has it so. `epochs` tells of its training: stage, loss, score on
    the held-out rows, seconds.
    """

    folder: Path
    fingerprint: str
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
        return self.tuned.scores["blend"]


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
    job.progress.stage("Encoding with the frozen encoder")
    folder = _exported(job)
    encoder = _open(folder / "onnx", job.settings)
    embeddings = encoder.encode(job.texts, job.progress.update)
    held = encoder.encode(job.split.dev[0]) if job.split.dev else None
    if encoder.truncated:
        job.progress.warn(
            f"{encoder.truncated:,} texts are longer than {encoder.max_tokens} tokens; their end is not seen"
        )
    if len(job.texts) < embeddings.shape[1]:
        job.progress.warn(
            f"fewer examples ({len(job.texts)}) than dimensions ({embeddings.shape[1]}): "
            "directions without variance are left out of the whitening"
        )
    tuned = _tuned(job, parts_of(job, [embeddings] * len(job.split.parts), held))
    return Candidate("frozen", tuned, lambda: Encoded(folder, encoder.fingerprint, embeddings, None, []))


def _fine_tuned(job: Job, start: Embeddings | None = None) -> Candidate:
    """`start`: all examples by the encoder as it is, where that is known."""
    dev, parts = job.split.dev, job.split.parts
    if len(parts) > 1:
        tables, heads, logits = [], [], []
        for number, (kept, held) in enumerate(parts, start=1):
            job.progress.stage(f"Training, fold {number} of {len(parts)}")
            model, _ = trained(job, kept, None, f"fold-{number}", start=start)
            tables.append(model.embed(job.texts))
            heads.append(_head(job, model))
            logits.append(model.logits([job.texts[i] for i in held]))
        tuned = _tuned(job, parts_of(job, tables, None, heads, logits))
        return Candidate("fine-tuned", tuned, lambda: _finished(job, *_anew(job, [], start)))
    job.progress.stage("Training the encoder")
    model, histories = trained(job, parts[0][0], job.held, "part", start=start)
    queries, logits_of_held = model.embed(dev[0]) if dev else None, model.logits(job.held[0])
    folds = parts_of(job, [model.embed(job.texts)], queries, [_head(job, model)], [logits_of_held])
    tuned = _tuned(job, folds)

    def finish() -> Encoded:
        # The user's own dev rows were no part of the examples: the encoder has seen all of those.
        anew = job.recipe.anew and not dev
        return _finished(job, _anew(job, [one.best_epoch for one in histories], start)[0] if anew else model, histories)

    return Candidate("fine-tuned", tuned, finish)


def wrapped(job: Job, classifier: WrappedClassifier) -> Candidate:
    """A classifier that was trained elsewhere, as the encoder and the head."""
    encoded = _encoded(job, classifier, [])
    held = _open(encoded.folder / "onnx", job.settings).encode(job.split.dev[0]) if job.split.dev else None
    parts = len(job.split.parts)
    tuned = _tuned(job, parts_of(job, [encoded.embeddings] * parts, held, [encoded.head] * parts))
    return Candidate("wrapped", tuned, lambda: encoded)


def _tuned(job: Job, folds: list[Fold]) -> Tuned:
    job.progress.stage("Tuning neighbours, head and blend")
    return tune(folds, job.task, job.measure, nearest, job.recipe.grid)


def _anew(job: Job, stop_after: Sequence[int], start: Embeddings | None) -> tuple[Trainable, list[History]]:
    """The encoder trained on all examples; where one was trained on a part of them, each stage for as many epochs."""
    job.progress.stage("Training the encoder on all examples")
    return trained(job, np.arange(len(job.texts)), None, "all", stop_after, start)


def _finished(job: Job, model: Trainable, histories: Sequence[History]) -> Encoded:
    return _encoded(job, model, course(histories))


def course(histories: Sequence[History]) -> list[dict[str, Any]]:
    """All epochs of a training: the stage, and what the epoch brought."""
    return [
        {"stage": stage, **asdict(epoch)}
        for stage, history in enumerate(histories, start=1)
        for epoch in history.epochs
    ]


def _head(job: Job, model: Trainable | WrappedClassifier) -> LinearHead | None:
    """The head that was trained with the encoder, where the recipe has it so."""
    if job.recipe.head != "trained":
        return None
    return LinearHead(model.labels, model.weights, model.bias, model.task)


def _encoded(job: Job, model: Trainable | WrappedClassifier, epochs: list[dict[str, Any]]) -> Encoded:
    job.progress.stage("Encoding with the trained encoder")
    folder = job.work / "encoder"
    shutil.rmtree(folder, ignore_errors=True)
    _write(model, folder, job.settings)
    encoder = _open(folder / "onnx", job.settings)
    embeddings = encoder.encode(job.texts, job.progress.update)
    return Encoded(folder, encoder.fingerprint, embeddings, _head(job, model), epochs)


def parts_of(
    job: Job,
    tables: list[Embeddings],
    dev: Embeddings | None,
    heads: Sequence[Head | None] = (),
    logits: Sequence[Embeddings | None] = (),
) -> list[Fold]:
    """The split's parts with their embeddings; each part may have an encoder of its own, and a head trained with it.

    `logits` are the network's own for the held-out rows of each part, where the head takes those.
    """
    none, out = [None] * len(tables), []
    for table, head, own, (kept, held) in zip(tables, heads or none, logits or none, job.split.parts, strict=True):
        if dev is not None and job.split.dev is not None:
            queries, truth = dev, job.split.dev[1]
        else:
            queries, truth = table[held], [job.labels[i] for i in held]
        out.append(Fold(table[kept], [job.labels[i] for i in kept], queries, truth, head, own))
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


def _open(onnx: Path, settings: Settings) -> Encoder:
    from likewise.encoding.runtime import Encoder

    return Encoder(onnx, **settings.encoding())


def _write(model: Trainable | WrappedClassifier, folder: Path, settings: Settings) -> None:
    """Write the encoder's folder, with the precision in which it will answer."""
    from likewise.encoding.runtime import set_precision

    model.write(folder)
    set_precision(folder / "onnx", settings.precision)


# The training side, imported where a fit begins


def require_training() -> None:
    """MissingExtra unless the training side is installed."""
    missing = [name for name in ("torch", "sentence_transformers", "datasets") if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"fitting needs the training side ({missing[0]} is not installed); run: pip install 'likewise[train]'"
        )


def _trainable(job: Job, normalise: bool) -> Trainable:
    require_training()
    from likewise.training.trainable import Trainable

    base = job.base
    if from_scratch(job.encoder):
        from likewise.training.scratch import build

        base = job.work / "untrained"  # the same whenever it is made; its words are those of all examples
        shutil.rmtree(base, ignore_errors=True)
        build(job.encoder, job.texts, job.settings.seed, base)
    return Trainable(base, pooling=job.pooling, normalise=normalise, max_tokens=job.settings.max_tokens)


_exports: dict[tuple[Path, str, int, str], Path] = {}


def _exported(job: Job) -> Path:
    """The folder of the encoder as it is, its ONNX encoder in it; exported once a process."""
    key = (job.base, job.pooling, job.settings.max_tokens, job.settings.precision)
    if key not in _exports:
        root = temporary_root()
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        _write(_trainable(job, FROZEN.normalise), root / "encoder", job.settings)
        _exports[key] = root / "encoder"
    return _exports[key]


def trained(
    job: Job,
    rows: Rows,
    dev: tuple[list[str], LabelSets] | None,
    name: str,
    stop_after: Sequence[int] = (),
    start: Embeddings | None = None,
) -> tuple[Trainable, list[History]]:
    """The encoder after all stages on these rows, and each stage's history; `stop_after` are each stage's epochs.

    `start`: all examples by the encoder before the first stage, where that is known.
    """
    encoder, histories, source = _trainable(job, job.recipe.normalise), [], job.source
    for stage, schedule in enumerate(job.stages):
        texts, labels, task, held = [job.texts[i] for i in rows], [job.labels[i] for i in rows], job.task, dev
        place, last = f"{name}-{stage + 1}", stop_after[stage] if stop_after else 0
        if source and schedule.data == "source":  # the same whatever the rows: what was trained is found again
            (texts, labels), task, held = source.rows(False), source.task, source.rows(True)
            place, last = f"source-{stage + 1}", 0
        before = start[rows] if start is not None and stage == 0 else None
        history = encoder.fine_tune(
            texts,
            labels,
            task=task,
            schedule=schedule,
            dev=held,
            seed=job.settings.seed,
            work=job.work / place,
            progress=job.progress,
            stop_after=last,
            beside=(source.texts, source.labels, source.task) if source and schedule.data == "both" else None,
            probe=_probed(schedule, encoder, texts, labels, task, before),
        )
        histories.append(history)
    return encoder, histories


def _probed(
    schedule: Schedule,
    encoder: Trainable,
    texts: list[str],
    labels: LabelSets,
    task: Task,
    embeddings: Embeddings | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Where the schedule starts from them: weights and bias of the closed-form head of these rows, by the encoder as it
    is. `embeddings` are theirs by it, where they are known."""
    if not schedule.probe:
        return None
    head = probe(encoder.embed(texts) if embeddings is None else embeddings, labels, task)
    return head.weights, head.bias


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
        "examples": len(job.texts),
        "kept": chosen.kind,
        "judged_on": job.split.judged_on,
        "scores": {one.kind: dict(one.tuned.scores) for one in found},
        "seconds": round(seconds, 1),
    }
    info = {**facts, "history": encoded.epochs, "stages": [asdict(stage) for stage in job.stages]}
    head = None if encoded.head is None else TrainedHead(encoded.head, revision)
    decision = Decision(fit_whitening(encoded.embeddings), chosen.tuned, head)
    write_generation(layout, number, encoder=encoded.folder, decision=decision, info=info)
    return facts
