"""A job's encoders: as they came and trained, written with the ONNX encoder that answers, and read with."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from likewise.decision.head import LinearHead
from likewise.decision.splitting import Rows
from likewise.decision.tuning import probe
from likewise.encoding.names import from_scratch
from likewise.errors import MissingExtra
from likewise.files import temporary_root
from likewise.job import Job, LabelSets
from likewise.recipes import FROZEN
from likewise.settings import Settings
from likewise.training.schedule import Schedule
from likewise.types import Precision, Task

if TYPE_CHECKING:
    from likewise.encoding.runtime import Encoder
    from likewise.training.trainable import Trainable
    from likewise.training.trainer import History
    from likewise.training.wrapping import WrappedClassifier

Embeddings = NDArray[np.float32]


class View(NamedTuple):
    """What an encoder makes of all examples and of the user's dev rows, the head trained with it, and the network's own
    logits for the held-out rows, where there are such."""

    embeddings: Embeddings
    dev: Embeddings | None
    head: LinearHead | None
    logits: Embeddings | None


def read(job: Job, encoder: Encoder, head: LinearHead | None, held: Sequence[str] = ()) -> View:
    """What an opened encoder makes of a job's rows; `held` are those whose logits are wanted."""
    dev = encoder.encode(job.split.dev[0]) if job.split.dev else None
    logits = encoder.encode_with_logits(held)[1] if held else None
    return View(encoder.encode(job.texts, job.progress.update), dev, head, logits)


def opened(folder: Path, settings: Settings) -> Encoder:
    """The ONNX encoder in a folder, as it will answer."""
    from likewise.encoding.runtime import Encoder

    return Encoder(folder / "onnx", **settings.encoding())


def write(model: Trainable | WrappedClassifier, folder: Path, chosen: Precision) -> None:
    """Write the encoder's folder afresh, to answer in this precision."""
    shutil.rmtree(folder, ignore_errors=True)
    model.write(folder)
    _answer_in(chosen, folder)


def _answer_in(chosen: Precision, folder: Path) -> None:
    """Have a folder that was written in float32 answer in this precision."""
    from likewise.encoding.runtime import set_precision

    if chosen == "int8":
        from likewise.training.eight_bits import rewrite

        rewrite(folder / "onnx")
    set_precision(folder / "onnx", chosen)


# The training side, imported where a fit begins


def require_training() -> None:
    """MissingExtra unless the training side is installed."""
    missing = [name for name in ("torch", "sentence_transformers", "datasets") if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"fitting needs the training side ({missing[0]} is not installed); run: pip install 'likewise[train]'"
        )


def trainable(job: Job, normalise: bool) -> Trainable:
    require_training()
    from likewise.training.trainable import Trainable

    base = job.base
    if from_scratch(job.encoder):
        from likewise.training.scratch import build

        base = job.work / "untrained"  # the same whenever it is made; its words are those of all examples
        shutil.rmtree(base, ignore_errors=True)
        build(job.encoder, job.texts, job.settings.seed, base)
    return Trainable(base, pooling=job.pooling, normalise=normalise, max_tokens=job.settings.max_tokens)


_exports: dict[Any, Path] = {}
"""Where encoders were exported to, by what they were exported from."""


def exported(job: Job, chosen: Precision) -> Path:
    """The folder of the encoder as it is, its ONNX encoder in it; exported once a process, until its files change."""
    files = [(path, *_told(path)) for path in sorted(job.base.rglob("*"))]
    key = (job.base, *files, job.pooling, job.settings.max_tokens)
    if key not in _exports:
        root = temporary_root()
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        write(trainable(job, FROZEN.normalise), root / "fp32", "fp32")
        _exports[key] = root
    folder = _exports[key] / chosen
    if not folder.exists():
        shutil.copytree(_exports[key] / "fp32", folder)
        _answer_in(chosen, folder)
    return folder


def _told(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


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
    encoder, histories, source = trainable(job, job.recipe.normalise), [], job.source
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


def course(histories: Sequence[History]) -> list[dict[str, Any]]:
    """All epochs of a training: the stage, and what the epoch brought."""
    return [
        {"stage": stage, **asdict(epoch)}
        for stage, history in enumerate(histories, start=1)
        for epoch in history.epochs
    ]
