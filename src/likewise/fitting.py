"""A fit: labelled texts in, a model out.

check the examples, decide the task
split: a hold-out, cross-validation where examples are few, or the user's own dev rows
candidate 1: the frozen encoder          encode, tune on the held-out rows
candidate 2: the encoder, fine-tuned     train on the rest, encode, tune on the same held-out rows
keep the better one; put all examples into the ledger; write the generation
"""

from __future__ import annotations

import atexit
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from likewise.bundle import Decision, Layout, Manifest, write_generation, write_manifest
from likewise.datastore.index import Index
from likewise.datastore.ledger import Ledger, NewExample
from likewise.decision.splitting import Rows, folds, hold_out
from likewise.decision.tuning import Fold, Tuned, tune
from likewise.decision.whitening import fit_whitening
from likewise.encoding.names import DEFAULT, resolve
from likewise.errors import DataError, LabelError, MissingExtra
from likewise.model import Model, temporary_root, who
from likewise.progress import Progress
from likewise.recipes import FROZEN, Recipe, recipe_named
from likewise.settings import Settings
from likewise.types import Task
from likewise.validation import check_labels, check_refs, check_text, decide_task, normalised

if TYPE_CHECKING:
    from likewise.encoding.runtime import Encoder
    from likewise.training.schedule import Schedule
    from likewise.training.trainable import Trainable

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
class Candidate:
    """An encoder's folder (in it `onnx/`, which answers), and the settings tuned for it."""

    kind: Literal["frozen", "fine-tuned"]
    folder: Path
    embeddings: Embeddings
    tuned: Tuned
    fingerprint: str
    history: list[dict[str, Any]]

    @property
    def score(self) -> float:
        return self.tuned.scores["blend"]


def fit(
    texts: Sequence[str],
    labels: Sequence[object],
    *,
    refs: Sequence[str | None] | None = None,
    task: Literal["auto"] | Task = "auto",
    recipe: str = "likewise",
    encoder: str = DEFAULT,
    dev: tuple[Sequence[str], Sequence[object]] | None = None,
    settings: Settings | None = None,
    source: str = "fit",
    work: Path | None = None,
    progress: Progress | None = None,
) -> Model:
    """Fit a model to labelled texts; it lives in a temporary directory until it is saved.

    `dev` rows choose the settings and join neither training nor datastore; without them a part of the examples is
    held out, and joins the datastore afterwards. `work` is where training keeps its checkpoints: a fit that was
    killed and is called again with the same arguments goes on there. DataError, LabelError, SettingError or
    EncoderError for what cannot be fitted, MissingExtra without `likewise[train]`.
    """
    started = time.monotonic()
    root = temporary_root()
    progress = progress or Progress()
    try:
        chosen_settings, place = settings or Settings.resolve(), work or root / "work"
        job = _checked(texts, labels, refs, task, recipe, encoder, dev, chosen_settings, progress, place)
        candidates = [_frozen(job)]
        if trained := _fine_tuned(job):
            candidates.append(trained)
        chosen = max(candidates, key=lambda candidate: (candidate.score, candidate.kind == "frozen"))
        progress.stage("Writing the datastore")
        _write(root, job, chosen, candidates, source, time.monotonic() - started)
        shutil.rmtree(job.work, ignore_errors=True)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    finally:
        progress.done()
    return Model(root, job.settings, temporary=True)


# What was asked, checked


def _checked(
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
    plan = recipe_named(recipe)
    checked, label_sets = _examples(texts, labels, "texts", "labels", settings)
    decided = decide_task(label_sets, task)
    given = check_refs(refs, len(checked))
    counts = Counter(label for row in label_sets for label in row)
    if len(counts) < 2:
        found = f"only the label {next(iter(counts))!r}" if counts else "no labels"
        raise LabelError(f"labels: found {found}, expected at least two different ones; add examples of another")
    progress.tell(
        f"Task: {'one label a text' if decided == 'single' else 'none to several labels a text'}; "
        f"{len(checked):,} examples, {len(counts)} labels"
    )
    _warn(counts, len(checked), progress)
    held = None
    if dev is not None:
        held = _examples(*dev, "dev texts", "dev labels", settings)
        decide_task(held[1], decided)
        unknown = sorted({label for row in held[1] for label in row} - set(counts))
        if unknown:
            progress.warn(f"dev rows bear labels that no example has: {', '.join(unknown[:5])}; they count as missed")
    return Job(
        checked, label_sets, given, decided, plan, encoder, resolve(encoder),
        _split(checked, label_sets, len(counts), held, settings), settings, progress, work,
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
    checked = [check_text(text, f"{of_texts}[{i}]", settings.max_text) for i, text in enumerate(texts)]
    return checked, [check_labels(row, None, f"{of_labels}[{i}]") for i, row in enumerate(labels)]


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
    tuned = tune(_folds(job, [embeddings] * len(job.split.parts), held), job.task, job.settings.measure, nearest)
    return Candidate("frozen", folder, embeddings, tuned, encoder.fingerprint, [])


def _fine_tuned(job: Job) -> Candidate | None:
    schedule = job.recipe.planned(job.split.few, job.settings)
    if schedule is None or any(_classes(job.labels, kept) < 2 for kept, _ in job.split.parts):
        return None
    several = len(job.split.parts) > 1
    tables: list[Embeddings] = []
    for number, (kept, _) in enumerate(job.split.parts, start=1) if several else ():
        job.progress.stage(f"Training, fold {number} of {len(job.split.parts)}")
        model, _ = _trained(job, schedule, kept, None, job.work / f"fold-{number}")
        tables.append(model.embed(job.texts))
    job.progress.stage("Training the encoder")
    kept, held = job.split.parts[0]
    if several:
        model, history = _trained(job, schedule, np.arange(len(job.texts)), None, job.work / "all")
    else:
        dev = job.split.dev or ([job.texts[i] for i in held], [job.labels[i] for i in held])
        model, history = _trained(job, schedule, kept, dev, job.work / "all")
    job.progress.stage("Encoding with the trained encoder")
    folder = job.work / "encoder"
    shutil.rmtree(folder, ignore_errors=True)
    model.write(folder)
    encoder = _open(folder / "onnx", job.settings)
    embeddings = encoder.encode(job.texts, job.progress.update)
    job.progress.stage("Tuning neighbours, head and blend")
    held_embeddings = encoder.encode(job.split.dev[0]) if job.split.dev else None
    tuned = tune(_folds(job, tables or [embeddings], held_embeddings), job.task, job.settings.measure, nearest)
    return Candidate("fine-tuned", folder, embeddings, tuned, encoder.fingerprint, history)


def _folds(job: Job, tables: list[Embeddings], dev: Embeddings | None) -> list[Fold]:
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
    job: Job, schedule: Schedule, rows: Rows, dev: tuple[list[str], LabelSets] | None, work: Path
) -> tuple[Trainable, list[dict[str, Any]]]:
    encoder = _trainable(job.base, job.recipe, job.settings)
    history = encoder.fine_tune(
        [job.texts[i] for i in rows],
        [job.labels[i] for i in rows],
        task=job.task,
        schedule=schedule,
        dev=dev,
        seed=job.settings.seed,
        work=work,
        progress=job.progress,
    )
    return encoder, history


# The model directory


def _write(root: Path, job: Job, chosen: Candidate, candidates: list[Candidate], source: str, seconds: float) -> None:
    layout = Layout(root)
    layout.generation(1).parent.mkdir()
    decision = Decision(fit_whitening(chosen.embeddings), chosen.tuned)
    facts: dict[str, Any] = {
        "fingerprint": chosen.fingerprint,
        "examples": len(job.texts),
        "kept": chosen.kind,
        "judged_on": job.split.judged_on,
        "scores": {candidate.kind: dict(candidate.tuned.scores) for candidate in candidates},
        "seconds": round(seconds, 1),
    }
    schedule = job.recipe.planned(job.split.few, job.settings)
    info = {**facts, "history": chosen.history, "schedule": asdict(schedule) if schedule else None}
    write_generation(layout, 1, encoder=chosen.folder, decision=decision, info=info)
    with Ledger.create(layout.datastore, task=job.task, lock_timeout=job.settings.lock_timeout) as ledger:
        new = [NewExample(*row) for row in zip(job.texts, job.labels, job.refs, chosen.embeddings, strict=True)]
        ledger.teach(new, chosen.fingerprint, source=source, by=who(None), note="fit", on_conflict="both")
    manifest = Manifest(1, job.task, job.recipe.name, job.encoder, asdict(job.settings), facts)
    write_manifest(layout, manifest)
