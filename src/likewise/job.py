"""What a fit was asked, checked: the examples, the task, the recipe, and which rows are held out.

Held out is a part of the examples; cross-validation where they are few, or the user's own dev rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from likewise.decision.splitting import Rows, folds, hold_out
from likewise.encoding.names import from_scratch, resolve
from likewise.encoding.sessions import check_precision
from likewise.errors import DataError, LabelError, SettingError
from likewise.planning import check_source, planned
from likewise.progress import Progress
from likewise.recipes import Recipe
from likewise.settings import Measure, Settings
from likewise.training.schedule import Schedule
from likewise.types import Pooling, Task
from likewise.validation import check_labels, check_list, check_pair, check_refs, check_text, decide_task, normalised

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
class SourceTask:
    """Another task that a recipe learns from: its texts, label sets and kind, and row numbers that choose its epoch."""

    texts: list[str]
    labels: LabelSets
    task: Task
    held: Rows

    def rows(self, held: bool) -> tuple[list[str], LabelSets]:
        """The rows that choose the epoch, or the others."""
        chosen = self.held if held else np.setdiff1d(np.arange(len(self.texts)), self.held)
        return [self.texts[i] for i in chosen], [self.labels[i] for i in chosen]


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
    source: SourceTask | None = None

    @property
    def measure(self) -> Measure:
        """What tuning optimises: the recipe's own where the user named none."""
        return self.settings.measure or self.recipe.measure

    @property
    def pooling(self) -> Pooling:
        """How tokens become an embedding."""
        return self.settings.pooling or self.recipe.pooling

    @property
    def held(self) -> tuple[list[str], LabelSets]:
        """The user's dev rows, or else what is held out of the first part."""
        rows = self.split.parts[0][1]
        return self.split.dev or ([self.texts[i] for i in rows], [self.labels[i] for i in rows])

    @property
    def stages(self) -> tuple[Schedule, ...]:
        """What trains the encoder, one after the other."""
        return planned(self.recipe, self.split.few, self.settings, from_scratch(self.encoder))


def checked(
    texts: Sequence[str],
    labels: Sequence[object],
    refs: Sequence[str | None] | None,
    task: Literal["auto"] | Task,
    plan: Recipe,
    encoder: str,
    dev: tuple[Sequence[str], Sequence[object]] | None,
    settings: Settings,
    progress: Progress,
    work: Path,
    source: tuple[Sequence[str], Sequence[object]] | None = None,
) -> Job:
    """The job, with the encoder found and the split made. DataError, LabelError, SettingError or EncoderError.

    `source`: texts and labels of another task, for a recipe that learns from one.
    """
    planned(plan, False, settings, from_scratch(encoder))  # before any work: what the recipe cannot do
    check_source(plan, source is not None)
    check_precision(settings.precision, settings.runtime)
    if settings.precision == "int8" and from_scratch(encoder):
        raise SettingError(
            f"precision: found 'int8', which is for the linear layers of a transformer; encoder {encoder!r} has hardly "
            "any: choose 'fp32'"
        )
    good, label_sets = _examples(texts, labels, "texts", "labels", settings)
    decided = decide_task(label_sets, task)
    good, label_sets, given = _latest(good, label_sets, check_refs(refs, len(good)), progress)
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
        held = _examples(*check_pair(dev, "dev"), "dev texts", "dev labels", settings)
        decide_task(held[1], decided)
        unknown = sorted({label for row in held[1] for label in row} - set(counts))
        if unknown:
            fate = "such rows count as missed" if decided == "single" else "scores leave those labels out"
            progress.warn(f"dev rows bear labels that no example has: {', '.join(unknown[:5])}; {fate}")
    return Job(
        good, label_sets, given, decided, plan, encoder, Path(encoder) if from_scratch(encoder) else resolve(encoder),
        _split(good, label_sets, len(counts), held, settings), settings, progress, work,
        None if source is None else _source(source, settings),
    )  # fmt: skip


def _source(rows: tuple[Sequence[str], Sequence[object]], settings: Settings) -> SourceTask:
    texts, labels = _examples(*check_pair(rows, "source_task"), "source texts", "source labels", settings)
    counts = Counter(label for row in labels for label in row)
    if len(counts) < 2:
        raise LabelError(f"source labels: found {len(counts)} label(s), expected at least two different ones")
    split = _split(texts, labels, len(counts), None, settings, "source texts")
    held = np.array([], dtype=np.int64) if len(split.parts) > 1 else split.parts[0][1]
    return SourceTask(texts, labels, decide_task(labels, "auto"), held)


def _examples(
    texts: Sequence[str], labels: Sequence[object], of_texts: str, of_labels: str, settings: Settings
) -> tuple[list[str], LabelSets]:
    if isinstance(texts, str) or isinstance(labels, str):
        raise DataError("texts and labels: found one string, expected a list of texts and a list of their labels")
    texts, labels = check_list(texts, of_texts), check_list(labels, of_labels)
    if len(texts) == 0:
        raise DataError(f"{of_texts}: found none, expected a list of labelled texts")
    if len(texts) != len(labels):
        raise DataError(f"{of_labels}: found {len(labels)}, expected one entry for each of {len(texts)} texts")
    good = [check_text(text, f"{of_texts}[{i}]", settings.max_text) for i, text in enumerate(texts)]
    return good, [check_labels(row, None, f"{of_labels}[{i}]") for i, row in enumerate(labels)]


def _latest(
    texts: list[str], labels: LabelSets, refs: list[str | None], progress: Progress
) -> tuple[list[str], LabelSets, list[str | None]]:
    """The same without rows whose reference a later row has too: as in teaching, that one updates them."""
    last = {ref: i for i, ref in enumerate(refs) if ref is not None}
    kept = [i for i, ref in enumerate(refs) if ref is None or last[ref] == i]
    if len(kept) < len(refs):
        repeated = next(ref for i, ref in enumerate(refs) if ref is not None and last[ref] != i)
        progress.warn(
            f"{len(refs) - len(kept):,} row(s) have a reference that a later row has too, such as {repeated!r}; "
            "the last one counts"
        )
    return [texts[i] for i in kept], [labels[i] for i in kept], [refs[i] for i in kept]


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
    texts: list[str],
    labels: LabelSets,
    classes: int,
    dev: tuple[list[str], LabelSets] | None,
    settings: Settings,
    of_texts: str = "texts",
) -> Split:
    everything = np.arange(len(texts))
    few = len(texts) < FEW * classes or (dev is None and len(texts) * settings.holdout < LEAST_HELD)
    if dev is not None:
        return Split([(everything, np.array([], dtype=np.int64))], dev, few)
    keys = [normalised(text) for text in texts]
    if len(set(keys)) < 2:
        raise DataError(f"{of_texts}: all are the same, expected different ones; nothing could be learnt from them")
    if not few:
        kept, held = hold_out(keys, labels, settings.holdout, settings.seed)
        if len(kept) and len(held):
            return Split([(kept, held)], None, few)
    parts = [part for part in folds(keys, labels, min(FOLDS, len(set(keys))), settings.seed) if len(part)]
    return Split([(np.setdiff1d(everything, part), part) for part in parts], None, few)
