"""A fit: labelled texts in, a model out. And a wrap: labelled texts and a classifier that others have trained.

The candidates are made (`candidates.py`), the better one is kept; all examples go into a new ledger, and the first
generation of a model directory is written.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from likewise.bundle import Layout, Manifest, write_manifest
from likewise.candidates import Candidate, Encoded, best, candidates, keep, wrapped
from likewise.datastore.ledger import Ledger, NewExample
from likewise.encoders import require_training
from likewise.encoding.names import DEFAULT
from likewise.errors import LabelError
from likewise.files import temporary_root
from likewise.job import Job, checked
from likewise.model import Model, who
from likewise.progress import Progress
from likewise.recipes import WRAPPED, recipe_named
from likewise.settings import Settings
from likewise.types import Task


def fit(
    texts: Sequence[str],
    labels: Sequence[object],
    *,
    refs: Sequence[str | None] | None = None,
    task: Literal["auto"] | Task = "auto",
    recipe: str = "likewise",
    encoder: str = DEFAULT,
    dev: tuple[Sequence[str], Sequence[object]] | None = None,
    source_task: tuple[Sequence[str], Sequence[object]] | None = None,
    settings: Settings | None = None,
    source: str = "fit",
    work: Path | None = None,
    progress: Progress | None = None,
) -> Model:
    """Fit a model to labelled texts; it lives in a temporary directory until it is saved.

    `dev` rows choose the settings and join neither training nor datastore; without them a part of the examples is
    held out, and joins the datastore afterwards. `source_task`: texts and labels of another task, for a recipe that
    learns from one; none of them joins the datastore. `work` is where training keeps its checkpoints: a fit that was
    killed and is called again with the same arguments goes on there. DataError, LabelError, SettingError or
    EncoderError for what cannot be fitted, MissingExtra without `likewise[train]`.
    """
    progress = progress or Progress()

    def asked(root: Path) -> Job:
        chosen, place = settings or Settings.resolve(), work or root / "work"
        return checked(texts, labels, refs, task, recipe_named(recipe), encoder, dev, chosen, progress, place,
                       source_task)  # fmt: skip

    return _made(asked, candidates, source, progress)


def wrap(
    classifier: str | os.PathLike[str],
    texts: Sequence[str],
    labels: Sequence[object],
    *,
    refs: Sequence[str | None] | None = None,
    dev: tuple[Sequence[str], Sequence[object]] | None = None,
    settings: Settings | None = None,
    source: str = "wrap",
    progress: Progress | None = None,
) -> Model:
    """A model of a classifier that was trained elsewhere, and of the labelled texts that its answers shall cite.

    `classifier` is a transformers sequence-classification folder. Nothing is trained: what goes into its last linear
    layer is the embedding, that layer is the head, and the neighbours are blended in as KNN-EC has it. Labels that it
    does not know are the neighbours' alone. `dev` rows should be new to the classifier. Errors as those of `fit`.
    """
    progress = progress or Progress()
    require_training()
    from likewise.training.wrapping import WrappedClassifier

    chosen = settings or Settings.resolve()
    trained = WrappedClassifier(Path(classifier), max_tokens=chosen.max_tokens)

    def asked(root: Path) -> Job:
        place = os.path.abspath(classifier)
        job = checked(texts, labels, refs, trained.task, WRAPPED, place, dev, chosen, progress, root / "work")
        _compare_labels(trained.labels, {label for row in job.labels for label in row}, progress)
        if dev is None:
            progress.warn("without dev rows that the classifier has not seen, its own scores flatter it")
        return job

    return _made(asked, lambda job: [wrapped(job, trained)], source, progress)


def _compare_labels(known: Sequence[str], used: set[str], progress: Progress) -> None:
    """LabelError where a classifier knows none of the examples' labels, a warning where it does not know some."""
    strange = sorted(used - set(known))
    if len(strange) == len(used):
        raise LabelError(
            f"labels: found {', '.join(strange[:5])}, the classifier knows {', '.join(known[:5])}; expected some of "
            "its own: correct id2label in its config.json, or the examples' labels"
        )
    if strange:
        progress.warn(f"the classifier does not know {', '.join(strange[:5])}; the neighbours alone decide on these")


def _made(
    asked: Callable[[Path], Job], found_for: Callable[[Job], list[Candidate]], source: str, progress: Progress
) -> Model:
    """The model of the best candidate, in a temporary directory, which goes again when anything fails."""
    started = time.monotonic()
    root = temporary_root()
    try:
        job = asked(root)
        found = found_for(job)
        encoded = best(found).finish()
        progress.stage("Writing the datastore")
        _write(root, job, found, encoded, source, time.monotonic() - started)
        shutil.rmtree(job.work, ignore_errors=True)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    finally:
        progress.done()
    return Model(root, job.settings, temporary=True)


# The model directory


def _write(root: Path, job: Job, found: list[Candidate], encoded: Encoded, source: str, seconds: float) -> None:
    layout = Layout(root)
    layout.generation(1).parent.mkdir()
    facts = keep(layout, 1, job, found, encoded, seconds)
    settings = job.settings
    with Ledger.create(
        layout.datastore, task=job.task, storage=settings.storage, lock_timeout=settings.lock_timeout
    ) as ledger:
        new = [NewExample(*row) for row in zip(job.texts, job.labels, job.refs, encoded.embeddings, strict=True)]
        ledger.teach(new, encoded.fingerprint, source=source, by=who(None), note="fit", on_conflict="both")
    write_manifest(layout, Manifest(1, job.task, job.recipe.name, job.encoder, asdict(settings), facts))
