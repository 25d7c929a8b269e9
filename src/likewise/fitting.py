"""A fit: labelled texts in, a model out.

The candidates are made (`candidates.py`), the better one is kept; all examples go into a new ledger, and the first
generation of a model directory is written.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from likewise.bundle import Layout, Manifest, temporary_root, write_manifest
from likewise.candidates import Candidate, Encoded, best, candidates, keep
from likewise.datastore.ledger import Ledger, NewExample
from likewise.encoding.names import DEFAULT
from likewise.job import Job, checked
from likewise.model import Model, who
from likewise.progress import Progress
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
        job = checked(texts, labels, refs, task, recipe, encoder, dev, chosen_settings, progress, place)
        found = candidates(job)
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
