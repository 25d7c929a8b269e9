"""The candidates of a fit: encoders with the settings tuned for them, compared on the same held-out rows.

check the examples, decide the task
split: a hold-out, cross-validation where examples are few, or the user's own dev rows
candidate 1: the frozen encoder          encode, tune on the held-out rows
candidate 2: the encoder, fine-tuned     train on the rest, encode, tune on the same held-out rows
the better one is finished: what was trained for the choice without the held-out rows is trained anew on all
"""

from __future__ import annotations

import atexit
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from likewise.bundle import Decision, Layout, temporary_root, write_generation
from likewise.datastore.index import Index
from likewise.decision.splitting import Rows, folds, hold_out
from likewise.decision.tuning import Fold, Tuned, tune
from likewise.decision.whitening import fit_whitening
from likewise.encoding.names import resolve
from likewise.errors import DataError, LabelError, MissingExtra
from likewise.progress import Progress
from likewise.recipes import FROZEN, Recipe, recipe_named
from likewise.settings import Settings
from likewise.types import Task
from likewise.validation import check_labels, check_refs, check_text, decide_task, normalised

if TYPE_CHECKING:
    from likewise.encoding.runtime import Encoder
    from likewise.training.schedule import Schedule
    from likewise.training.trainable import Trainable
    from likewise.training.trainer import History

Embeddings = NDArray[np.float32]
LabelSets = list[tuple[str, ...]]

FEW = 30
"""With fewer examples a class than this, on average, settings are chosen by cross-validation."""
LEAST_HELD = 100
"""The same where a hold-out would have fewer rows than this: on so few, luck chooses."""
FOLDS = 4
UNBALANCED = 100
"""A warning is due when one class is this many times as frequent as another."""


@dataclass(frozen=True)
class Split:
    """Which rows train and which are held out, once or several times; `dev` rows are the user's own."""

    parts: list[tuple[Rows, Rows]]
    dev: tuple[list[str], LabelSets] | None
    few: bool

    @property
    def judged_on(self) -> str:
        """In words, for reports: what the scores of a fit rest on."""
        if self.dev:
            return f"{len(self.dev[0])} dev rows"
        if len(self.parts) > 1:
            return f"{len(self.parts)}-fold cross-validation"
        return f"{len(self.parts[0][1])} held-out examples"


@dataclass(frozen=True)
class Job:
    """Everything a fit was asked, checked."""

    texts: list[str]
    labels: LabelSets
    refs: list[str | None]
    task: Task
    recipe: Recipe
    encoder: str
    base: Path
    split: Split
    settings: Settings
    progress: Progress
    work: Path


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoder's folder (in it `onnx/`, which answers), its fingerprint, and all examples by it, shape (rows, d).

    `epochs` tells of its training: loss, score on the held-out rows, seconds.
    """

    folder: Path
    fingerprint: str
    embeddings: Embeddings
    epochs: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """An encoder with the settings tuned for it; `finish` makes what a generation keeps of it."""

    kind: Literal["frozen", "fine-tuned"]
    tuned: Tuned
    finish: Callable[[], Encoded]

    @property
    def score(self) -> float:
        return self.tuned.scores["blend"]


def candidates(job: Job) -> list[Candidate]:
    """Every candidate: the frozen encoder, then the fine-tuned one where the recipe and the examples allow it."""
    found = [_frozen(job)]
    if trained := _fine_tuned(job):
        found.append(trained)
    return found


def best(found: Sequence[Candidate]) -> Candidate:
    """The one with the best score; of equals the first."""
    return max(found, key=lambda candidate: candidate.score)


# What was asked, checked


def checked(
    texts: Sequence[str],
    labels: Sequence[object],
    refs: Sequence[str | None] | None,
    task: Literal["auto"] | Task,
    recipe: str,
    encoder: str,
    dev: tuple[Sequence[str], Sequence[object]] | None,
    settings: Settings,
    progress: Progress,
    work: Path,
) -> Job:
    """The job, with the encoder found and the split made. DataError, LabelError, SettingError or EncoderError."""
    plan = recipe_named(recipe)
    good, label_sets = _examples(texts, labels, "texts", "labels", settings)
    decided = decide_task(label_sets, task)
    given = check_refs(refs, len(good))
    counts = Counter(label for row in label_sets for label in row)
    if len(counts) < 2:
        found = f"only the label {next(iter(counts))!r}" if counts else "no labels"
        raise LabelError(f"labels: found {found}, expected at least two different ones; add examples of another")
    progress.tell(
        f"Task: {'one label a text' if decided == 'single' else 'none to several labels a text'}; "
        f"{len(good):,} examples, {len(counts)} labels"
    )
    _warn(counts, len(good), progress)
    held = None
    if dev is not None:
        held = _examples(*dev, "dev texts", "dev labels", settings)
        decide_task(held[1], decided)
        unknown = sorted({label for row in held[1] for label in row} - set(counts))
        if unknown:
            progress.warn(f"dev rows bear labels that no example has: {', '.join(unknown[:5])}; they count as missed")
    return Job(
        good, label_sets, given, decided, plan, encoder, resolve(encoder),
        _split(good, label_sets, len(counts), held, settings), settings, progress, work,
    )  # fmt: skip


def _examples(
    texts: Sequence[str], labels: Sequence[object], of_texts: str, of_labels: str, settings: Settings
) -> tuple[list[str], LabelSets]:
    if isinstance(texts, str) or isinstance(labels, str):
        raise DataError("texts and labels: found one string, expected a list of texts and a list of their labels")
    if len(texts) == 0:
        raise DataError(f"{of_texts}: found none, expected a list of labelled texts")
    if len(texts) != len(labels):
        raise DataError(f"{of_labels}: found {len(labels)}, expected one entry for each of {len(texts)} texts")
    good = [check_text(text, f"{of_texts}[{i}]", settings.max_text) for i, text in enumerate(texts)]
    return good, [check_labels(row, None, f"{of_labels}[{i}]") for i, row in enumerate(labels)]


def _warn(counts: Counter[str], examples: int, progress: Progress) -> None:
    lonely = sorted(label for label, count in counts.items() if count == 1)
    if lonely:
        shown = ", ".join(repr(label) for label in lonely[:5]) + (", ..." if len(lonely) > 5 else "")
        progress.warn(f"{len(lonely)} label(s) with one example only: {shown}; teach more of them for better answers")
    most, least = counts.most_common()[0], counts.most_common()[-1]
    if most[1] >= UNBALANCED * least[1]:
        progress.warn(
            f"strongly unbalanced: {most[0]!r} has {most[1]:,} examples, {least[0]!r} {least[1]}; "
            "watch the rare labels' own scores, accuracy hides them"
        )


def _split(
    texts: list[str], labels: LabelSets, classes: int, dev: tuple[list[str], LabelSets] | None, settings: Settings
) -> Split:
    everything = np.arange(len(texts))
    few = len(texts) < FEW * classes or (dev is None and len(texts) * settings.holdout < LEAST_HELD)
    if dev is not None:
        return Split([(everything, np.array([], dtype=np.int64))], dev, few)
    keys = [normalised(text) for text in texts]
    if len(set(keys)) < 2:
        raise DataError("texts: all are the same, expected different ones; nothing could be learnt from them")
    if not few:
        kept, held = hold_out(keys, labels, settings.holdout, settings.seed)
        if len(kept) and len(held):
            return Split([(kept, held)], None, few)
    parts = [part for part in folds(keys, labels, min(FOLDS, len(set(keys))), settings.seed) if len(part)]
    return Split([(np.setdiff1d(everything, part), part) for part in parts], None, few)


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
    job.progress.stage("Tuning neighbours, head and blend")
    tuned = tune(parts_of(job, [embeddings] * len(job.split.parts), held), job.task, job.settings.measure, nearest)
    return Candidate("frozen", tuned, lambda: Encoded(folder, encoder.fingerprint, embeddings, []))


def _fine_tuned(job: Job) -> Candidate | None:
    schedule = job.recipe.planned(job.split.few, job.settings)
    if schedule is None or any(_classes(job.labels, kept) < 2 for kept, _ in job.split.parts):
        return None
    dev, parts = job.split.dev, job.split.parts
    if len(parts) > 1:
        tables = []
        for number, (kept, _) in enumerate(parts, start=1):
            job.progress.stage(f"Training, fold {number} of {len(parts)}")
            tables.append(_trained(job, schedule, kept, None, f"fold-{number}")[0].embed(job.texts))
        tuned = tune(parts_of(job, tables, None), job.task, job.settings.measure, nearest)
        return Candidate("fine-tuned", tuned, lambda: _encoded(job, *_anew(job, schedule, 0)))
    job.progress.stage("Training the encoder")
    kept, held = parts[0]
    model, history = _trained(
        job, schedule, kept, dev or ([job.texts[i] for i in held], [job.labels[i] for i in held]), "part"
    )
    job.progress.stage("Tuning neighbours, head and blend")
    folds = parts_of(job, [model.embed(job.texts)], model.embed(dev[0]) if dev else None)
    tuned = tune(folds, job.task, job.settings.measure, nearest)

    def finish() -> Encoded:
        # The user's own dev rows were no part of the examples: the encoder has seen all of those.
        return _encoded(job, model if dev else _anew(job, schedule, history.best_epoch)[0], history)

    return Candidate("fine-tuned", tuned, finish)


def _anew(job: Job, schedule: Schedule, stop_after: int) -> tuple[Trainable, History]:
    """The encoder trained on all examples; where one was trained on a part of them, for as many epochs."""
    job.progress.stage("Training the encoder on all examples")
    return _trained(job, schedule, np.arange(len(job.texts)), None, "all", stop_after)


def _encoded(job: Job, model: Trainable, history: History) -> Encoded:
    job.progress.stage("Encoding with the trained encoder")
    folder = job.work / "encoder"
    shutil.rmtree(folder, ignore_errors=True)
    model.write(folder)
    encoder = _open(folder / "onnx", job.settings)
    embeddings = encoder.encode(job.texts, job.progress.update)
    return Encoded(folder, encoder.fingerprint, embeddings, [asdict(epoch) for epoch in history.epochs])


def parts_of(job: Job, tables: list[Embeddings], dev: Embeddings | None) -> list[Fold]:
    """The split's parts with their embeddings; each part may have been encoded by an encoder of its own."""
    out = []
    for table, (kept, held) in zip(tables, job.split.parts, strict=True):
        if dev is not None and job.split.dev is not None:
            out.append(Fold(table[kept], [job.labels[i] for i in kept], dev, job.split.dev[1]))
        else:
            out.append(Fold(table[kept], [job.labels[i] for i in kept], table[held], [job.labels[i] for i in held]))
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

    return Encoder(onnx, threads=settings.threads, token_budget=settings.token_budget, runtime=settings.runtime)


# The training side, imported where a fit begins


def _trainable(base: Path, recipe: Recipe, settings: Settings) -> Trainable:
    missing = [name for name in ("torch", "sentence_transformers", "datasets") if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"fitting needs the training side ({missing[0]} is not installed); run: pip install 'likewise[train]'"
        )
    from likewise.training.trainable import Trainable

    return Trainable(base, pooling=recipe.pooling, normalise=recipe.normalise, max_tokens=settings.max_tokens)


_exports: dict[tuple[Path, bool, str, int], Path] = {}


def _exported(job: Job) -> Path:
    """The folder of the encoder as it is, its ONNX encoder in it; exported once a process."""
    recipe = replace(job.recipe, normalise=FROZEN.normalise)
    key = (job.base, recipe.normalise, recipe.pooling, job.settings.max_tokens)
    if key not in _exports:
        root = temporary_root()
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        _trainable(job.base, recipe, job.settings).write(root / "encoder")
        _exports[key] = root / "encoder"
    return _exports[key]


def _trained(
    job: Job, schedule: Schedule, rows: Rows, dev: tuple[list[str], LabelSets] | None, name: str, stop_after: int = 0
) -> tuple[Trainable, History]:
    encoder = _trainable(job.base, job.recipe, job.settings)
    history = encoder.fine_tune(
        [job.texts[i] for i in rows],
        [job.labels[i] for i in rows],
        task=job.task,
        schedule=schedule,
        dev=dev,
        seed=job.settings.seed,
        work=job.work / name,
        progress=job.progress,
        stop_after=stop_after,
    )
    return encoder, history


# What is kept


def keep(
    layout: Layout, number: int, job: Job, found: list[Candidate], encoded: Encoded, seconds: float
) -> dict[str, Any]:
    """Write the best candidate, finished, as a generation; what the manifest tells of the fit."""
    chosen = best(found)
    facts: dict[str, Any] = {
        "fingerprint": encoded.fingerprint,
        "examples": len(job.texts),
        "kept": chosen.kind,
        "judged_on": job.split.judged_on,
        "scores": {one.kind: dict(one.tuned.scores) for one in found},
        "seconds": round(seconds, 1),
    }
    schedule = job.recipe.planned(job.split.few, job.settings)
    info = {**facts, "history": encoded.epochs, "schedule": asdict(schedule) if schedule else None}
    decision = Decision(fit_whitening(encoded.embeddings), chosen.tuned)
    write_generation(layout, number, encoder=encoded.folder, decision=decision, info=info)
    return facts
