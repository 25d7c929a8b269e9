"""Training an encoder alone: labelled texts in, an ordinary sentence-transformers folder out.

It keeps no examples and cites none. A fit on other data can start from it (`--encoder OUT`), and so can anything else
that takes sentence-transformers folders.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from likewise.encoders import course, require_training, trained
from likewise.encoding.names import DEFAULT
from likewise.errors import SettingError
from likewise.files import made_whole, refuse_taken, temporary_root
from likewise.job import Job, checked
from likewise.planning import recipes_with
from likewise.progress import Progress
from likewise.recipes import recipe_named
from likewise.settings import Settings
from likewise.training.schedule import Schedule
from likewise.types import Task


@dataclass(frozen=True)
class EncoderSummary:
    """What was trained: where it lies, from what, on what, and how it went.

    `epochs` tells of each stage's epochs: loss, score on the rows in `judged_on` (both None where examples are too few
    to hold some out), seconds; `kept` is the epoch of each stage whose weights were kept.
    """

    encoder: str
    base: str
    recipe: str
    examples: int
    labels: dict[str, int]
    judged_on: str | None
    epochs: list[dict[str, Any]]
    kept: list[int]
    seconds: float


def train_encoder(
    target: str | os.PathLike[str],
    texts: Sequence[str],
    labels: Sequence[object],
    *,
    task: Literal["auto"] | Task = "auto",
    recipe: str = "retrofit",
    encoder: str = DEFAULT,
    dev: tuple[Sequence[str], Sequence[object]] | None = None,
    source_task: tuple[Sequence[str], Sequence[object]] | None = None,
    settings: Settings | None = None,
    work: Path | None = None,
    progress: Progress | None = None,
) -> EncoderSummary:
    """Train an encoder on labelled texts as a recipe's stages have it, and write its folder to `target`.

    `dev` rows choose the epoch that is kept; without them a part of the examples is held out, unless they are few.
    `source_task`: texts and labels of another task, for a recipe that learns from one.
    `work` is where checkpoints are kept: training that was killed goes on there when it is called again. ModelError
    where something is at `target` already, SettingError for a recipe that trains nothing, and what `fit` raises.
    """
    progress, chosen, place = progress or Progress(), settings or Settings.resolve(), Path(os.path.abspath(target))
    plan = recipe_named(recipe)
    if not any(map(_trains, plan.stages)):
        training = recipes_with(_trains)
        raise SettingError(f"recipe {recipe!r} trains no encoder; recipes that do are {training}")
    refuse_taken(place)
    require_training()
    started = time.monotonic()
    own = None if work else temporary_root()
    try:
        job = checked(
            texts, labels, None, task, plan, encoder, dev, chosen, progress, work or own or place, source_task
        )
        summary = _trained(job, place, started)
        shutil.rmtree(job.work, ignore_errors=True)
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
        progress.done()
    return summary


def _trains(stage: Schedule) -> bool:
    """Whether a stage trains an encoder, and not only a classifier on it."""
    return not stage.frozen


def _trained(job: Job, target: Path, started: float) -> EncoderSummary:
    job.progress.stage("Training the encoder")
    if len(job.split.parts) > 1:  # too few to hold some out
        rows, held = np.arange(len(job.texts)), None
    else:
        rows, held = job.split.parts[0][0], job.held
    model, histories = trained(job, rows, held, "encoder")
    summary = EncoderSummary(
        str(target), job.encoder, job.recipe.name, len(job.texts),
        dict(sorted(Counter(label for row in job.labels for label in row).items())),
        job.split.judged_on if held else None,
        course(histories), [one.best_epoch for one in histories], round(time.monotonic() - started, 1),
    )  # fmt: skip
    with made_whole(target) as making:
        model.save(making)
        (making / "README.md").write_text(_card(summary, job), encoding="utf-8")
    return summary


def _card(summary: EncoderSummary, job: Job) -> str:
    """README.md of the folder."""
    labels = ", ".join(f"{label} ({count})" for label, count in summary.labels.items())
    usual = asdict(Schedule())
    own = [{name: value for name, value in asdict(stage).items() if value != usual[name]} for stage in job.stages]
    stages = "\n".join(f"- Stage {number}: `{json.dumps(stage)}`" for number, stage in enumerate(own, start=1))
    judged = f"best of {summary.judged_on}" if summary.judged_on else "the last: too few examples to hold some out"
    return f"""---
library_name: sentence-transformers
tags: [sentence-transformers]
---

# An encoder trained by Likewise

- From {summary.base}, by recipe {summary.recipe}, with seed {job.settings.seed}
- Trained on {summary.examples} texts: {labels}
- Epochs kept: {", ".join(map(str, summary.kept))} ({judged})
{stages}

```console
likewise fit MODEL DATA --encoder PATH-OF-THIS-FOLDER
```
"""
