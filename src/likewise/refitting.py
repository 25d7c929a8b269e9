"""A refit: a new generation from the examples as they stand, beside the present one, which answers until it is there.

the examples, with the recipe, encoder and settings of the present generation unless others are given
the candidates, as in a fit (`candidates.py`); the present generation scored on the same held-out rows
the new generation written; the examples' embeddings by it added to the ledger
one transaction: the revision that says so, and likewise.json naming the new generation

Examples keep their ids, refs and history. Whoever has the model open takes up the new generation at the next answer.
A text that it has not met, because it was taught meanwhile or stands in the past alone, is encoded when it is needed.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from likewise.answering import Answering
from likewise.bundle import (
    Layout,
    Manifest,
    drop_generations,
    fingerprints,
    generations,
    read_manifest,
    require_unmoved,
    write_manifest,
)
from likewise.candidates import Candidate, Encoded, best, candidates, keep, nearest, parts_of
from likewise.card import write_card
from likewise.datastore.ledger import Delta, Ledger, NotEmbedded
from likewise.decision.tuning import scores
from likewise.encoders import Embeddings
from likewise.errors import LedgerError, LedgerReadOnly, LikewiseError, ModelError, SettingError, UsageError
from likewise.job import Job, checked
from likewise.planning import of_use
from likewise.progress import Progress
from likewise.recipes import recipe_named
from likewise.settings import Settings, check_scopes, settings_of
from likewise.types import Example, Refit, Storage

CHUNK = 1000
"""Embeddings added to the ledger in one transaction: no other process waits long for its turn."""


def refit(
    layout: Layout,
    ledger: Ledger,
    answering: Answering,
    *,
    recipe: str | None,
    encoder: str | None,
    source_task: tuple[Sequence[str], Sequence[object]] | None,
    given: Mapping[str, object],
    work: Path | None,
    progress: Progress,
    by: str,
    note: str | None,
) -> Refit:
    """Make a new generation and answer from it. Raises what a fit raises; after any error the present one goes on.

    `source_task`: texts and labels of another task, for a recipe that learns from one; models do not keep them.
    `given` are settings in the place of the present generation's. LedgerError where examples were erased meanwhile,
    which the new generation would know, or where the datastore was moved while it was about to answer.
    """
    if ledger.read_only:
        raise LedgerReadOnly(f"{layout.root}: may not be written; use an account that may")
    started = time.monotonic()
    with answering.lock:
        at = answering.current().revision
        old = answering.manifest
    settings = _settings(old, answering.settings, recipe, given, ledger.storage)
    deltas = [delta for delta in ledger.changes(0, at)[1] if delta.labels is not None]
    examples = ledger.examples(ids=[delta.example_id for delta in deltas], at=at)
    if not examples:
        raise UsageError("the model has no examples, expected some of two labels or more; teach them first")
    try:
        present = ledger.vectors([delta.text_id for delta in deltas], answering.fingerprint)
    except NotEmbedded:
        _require_unerased(ledger, at)
        raise
    with tempfile.TemporaryDirectory(prefix="likewise-") as folder:
        try:
            job = _job(old, examples, recipe, encoder, source_task, settings, work or Path(folder, "work"), progress)
            found = candidates(job)
            chosen = best(found)
            before = _before(job, present, answering)
            encoded = chosen.finish()
            progress.stage("Writing the new generation")
            answering.catch_up()  # the datastore may have been moved
            _require_unerased(ledger, at)
            manifest = _write(layout, old, job, found, encoded, time.monotonic() - started, at)
            try:
                _embed(ledger, deltas, encoded)
                revision = _switch(layout, ledger, answering.manifest, manifest, at, by, note)
            except LikewiseError:
                _withdraw(layout, ledger, manifest.generation)
                raise
            shutil.rmtree(job.work, ignore_errors=True)
        finally:
            progress.done()
    with answering.lock:
        answering.renew()
        if layout.card.exists():
            answering.write_snapshot(layout)
            write_card(layout, answering.manifest, answering.decision, ledger.labels())
    return Refit(
        generation=manifest.generation,
        revision=revision,
        kept=chosen.kind,
        examples=len(examples),
        measure=job.measure,
        judged_on=job.split.judged_on,
        held=sum(len(rows) for _, rows in job.split.parts),
        seen=_seen(job, examples, old, ledger, at),
        before=before,
        after=dict(chosen.tuned.scores),
        seconds=round(time.monotonic() - started, 1),
    )


def prune(layout: Layout, ledger: Ledger, answering: Answering) -> list[int]:
    """Remove the generations that no longer answer, and their embeddings; the numbers of those removed."""
    answering.renew()
    gone: list[int] = []
    _drop(layout, ledger, lambda present: gone.extend(drop_generations(layout, present)))
    ledger.scrub()
    return gone


def _switch(
    layout: Layout, ledger: Ledger, known: Manifest, made: Manifest, at: int, by: str | None, note: str | None
) -> int:
    """Let the new generation answer; the revision. What others have done since `known` and revision `at` is kept."""

    def switch() -> None:
        now = read_manifest(layout.root)
        require_unmoved(now, known)
        _require_unerased(ledger, at)
        if not layout.decision(made.generation).exists():
            raise ModelError(
                f"generation {made.generation} was pruned before it could answer, the present one goes on; refit again"
            )
        write_manifest(layout, replace(made, datastore=now.datastore))

    return ledger.refit(switch, by=by, note=note)


def _require_unerased(ledger: Ledger, at: int) -> None:
    if ledger.erased(at):
        raise LedgerError(
            "examples were erased during the refit, which has learnt from them; the present generation goes on, "
            "refit again"
        )


def _withdraw(layout: Layout, ledger: Ledger, number: int) -> None:
    """Remove a generation that was not to be, unless it answers all the same."""

    def remove(present: int) -> None:
        if present != number:
            shutil.rmtree(layout.generation(number), ignore_errors=True)

    with contextlib.suppress(LikewiseError):
        _drop(layout, ledger, remove)


def _drop(layout: Layout, ledger: Ledger, remove: Callable[[int], None]) -> None:
    """Call `remove` with the generation that answers, then delete the embeddings of generations that are gone."""

    def remaining() -> set[str]:
        manifest = read_manifest(layout.root)
        remove(manifest.generation)
        return {str(manifest.fit["fingerprint"]), *fingerprints(layout).values()}

    ledger.drop_embeddings(remaining)


def _settings(
    old: Manifest, answer: Settings, recipe: str | None, given: Mapping[str, object], storage: Storage
) -> Settings:
    """The fit's settings as the generation before had them, the answering side's as they are; then what is given.

    What another recipe has no use for is not handed on to it.
    """
    if given.get("storage") not in (None, storage):
        raise SettingError(
            f"storage: found {given['storage']!r}, but this datastore keeps {storage}; "
            "it is chosen when a datastore is made, by fit"
        )
    check_scopes(given, "fit")
    kept = {item.name: old.settings.get(item.name) for item in settings_of("fit")}
    if recipe not in (None, old.recipe):
        kept = of_use(recipe_named(recipe), kept)
    return Settings.resolve(**{**kept, **answer.of("answer"), **given})


def _job(
    old: Manifest,
    examples: list[Example],
    recipe: str | None,
    encoder: str | None,
    source_task: tuple[Sequence[str], Sequence[object]] | None,
    settings: Settings,
    work: Path,
    progress: Progress,
) -> Job:
    texts, labels = [example.text for example in examples], [example.labels for example in examples]
    chosen, name = recipe or old.recipe, encoder or old.encoder
    return checked(
        texts, labels, None, old.task, recipe_named(chosen), name, None, settings, progress, work, source_task
    )


def _before(job: Job, embeddings: Embeddings, answering: Answering) -> dict[str, float]:
    """What the present generation scores on the rows held out, with the others as its examples."""
    decision, parts = answering.decision, job.split.parts
    with answering.lock:
        state = answering.current()
        tuned, names = state.tuned, state.names
        encoder = answering.encoder if decision.head else None
    # What the ledger does not keep: a head that takes logits is asked about the held-out texts afresh.
    held = [[job.texts[i] for i in rows] for _, rows in parts] if encoder and encoder.labels else []
    logits = [encoder.encode_with_logits(texts)[1] for texts in held] if encoder else []
    folds = parts_of(job, [embeddings] * len(parts), None, [decision.head] * len(parts), logits, names)
    return scores(folds, decision.whitening, tuned, job.task, job.measure, nearest)


def _seen(job: Job, examples: Sequence[Example], old: Manifest, ledger: Ledger, at: int) -> int:
    """How many held-out examples were there when the present generation was trained; none, if it was not trained."""
    if old.fit["kept"] == "frozen":
        return 0
    fits = [change.revision for change in ledger.revisions(at=at) if change.action == "refitted"]
    last = ledger.last_id(max(fits, default=1))
    return sum(examples[i].id <= last for _, held in job.split.parts for i in held)


def _write(
    layout: Layout,
    old: Manifest,
    job: Job,
    found: list[Candidate],
    encoded: Encoded,
    seconds: float,
    at: int,
) -> Manifest:
    while True:
        number = generations(layout)[-1] + 1
        try:
            facts: dict[str, Any] = keep(layout, number, job, found, encoded, seconds, at)
            break
        except OSError:
            if number not in generations(layout):  # otherwise another refit has just taken this number
                raise
    return replace(
        old,
        generation=number,
        recipe=job.recipe.name,
        encoder=job.encoder,
        settings=asdict(job.settings),
        fit=facts,
    )


def _embed(ledger: Ledger, deltas: Sequence[Delta], encoded: Encoded) -> None:
    vectors = dict(zip([delta.text_id for delta in deltas], encoded.embeddings, strict=True))
    ids = list(vectors)
    for start in range(0, len(ids), CHUNK):
        ledger.embed({i: vectors[i] for i in ids[start : start + CHUNK]}, encoded.fingerprint)
