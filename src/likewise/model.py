"""Model: an opened model directory that answers, learns and remembers."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast, overload

import numpy as np

from likewise.answering import Answering
from likewise.bundle import Layout, Manifest, datastore_of, read_manifest
from likewise.comparing import changed_answers, differences
from likewise.datastore.ledger import Ledger, NewExample
from likewise.erasing import erase
from likewise.errors import LedgerReadOnly, LikewiseError, RevisionError, UsageError
from likewise.files import refuse_inside
from likewise.moving import move
from likewise.progress import Progress
from likewise.saving import copy, save
from likewise.settings import Settings, check_scopes
from likewise.types import (
    Change,
    ChangedAnswer,
    Difference,
    Erasure,
    Example,
    ExampleVersion,
    OnConflict,
    Prediction,
    Refit,
    Revision,
    Task,
)
from likewise.validation import (
    check_ids,
    check_label_sets,
    check_labels,
    check_moment,
    check_number,
    check_parts,
    check_refs,
    check_repeats,
    check_string,
    check_texts,
)

if TYPE_CHECKING:
    from likewise.evaluation.report import Evaluation

Labels = str | Iterable[str]


@dataclass(frozen=True)
class Past:
    """What makes a model one of the past: the model that it is taken from, kept alive by it, and the revision."""

    of: Model
    revision: int


class Model:
    """A model directory, opened. Every answer is made at the ledger's latest revision, whoever wrote it.

    One instance may be used by several threads. Close it, or use it as a context manager.
    """

    def __init__(self, root: Path, settings: Settings, temporary: bool = False, past: Past | None = None) -> None:
        """Not for callers: use `Model.open`, or `Classifier.fit`."""
        self.settings = settings
        self._temporary = temporary
        self._past = past
        self._binding = threading.RLock()
        self._taken: weakref.WeakSet[Model] = weakref.WeakSet()  # past models that were taken from this one
        # Nothing stays behind when nobody saves it, however the process goes on.
        self._discard = weakref.finalize(self, _discard, root, os.getpid()) if temporary else None
        manifest = self._read(root)
        self._answering = Answering(self._layout, manifest, self._ledger, settings, self._at)
        if past:
            self._answering.share_encoder(past.of._answering)

    @classmethod
    def open(cls, path: str | os.PathLike[str], **settings: object) -> Model:
        """Open a model directory, read-only where it may not be written.

        `settings` are those of the answering side (see `Settings`). ModelNotFound, ModelForeign, ModelNewer or
        ModelDamaged when there is no such model to be opened, SettingError for an unknown setting or another side's.
        """
        check_scopes(settings, "answer")
        return cls(Path(path), Settings.resolve(**settings))

    def _read(self, root: Path) -> Manifest:
        layout, manifest = Layout(root.absolute()), read_manifest(root)  # the process may go elsewhere
        self._ledger = Ledger.open(
            datastore_of(layout, manifest),
            read_only=self._past is not None,
            lock_timeout=self.settings.lock_timeout,
        )
        self._layout = layout
        return manifest

    @property
    def _manifest(self) -> Manifest:
        return self._answering.manifest

    # What it is

    @property
    def path(self) -> Path | None:
        """The directory that `save` bound the model to; None before the first save."""
        return None if self._temporary else self._layout.root

    @property
    def task(self) -> Task:
        """ "single": one label a text; "multi": none to several."""
        return self._manifest.task

    @property
    def _at(self) -> int | None:
        """The revision that answers; None: the latest."""
        return self._past.revision if self._past else None

    @property
    def revision(self) -> int:
        """The ledger's latest revision; for a past model its own."""
        return self._answering.ledger.revision() if self._at is None else self._at

    @property
    def labels(self) -> dict[str, int]:
        """The labels, sorted, with the number of examples that bear each."""
        return self._answering.ledger.labels(self._at)

    @property
    def info(self) -> Manifest:
        """Recipe, encoder, settings and what the fit measured, of the generation that answers now."""
        self._answering.catch_up()
        return self._manifest

    @property
    def truncated(self) -> int:
        """Texts whose end the encoder did not see, since the model was opened."""
        return self._answering.truncated

    @property
    def size(self) -> int:
        """How many examples there are."""
        return self._answering.ledger.example_count(self._at)

    # Answers

    @overload  # a string is a sequence of strings too, to a type checker; here it always means one text
    def classify(  # type: ignore[overload-overlap]
        self, texts: str, neighbours: int | None = None
    ) -> Prediction: ...
    @overload
    def classify(self, texts: Sequence[str], neighbours: int | None = None) -> list[Prediction]: ...
    def classify(self, texts: str | Sequence[str], neighbours: int | None = None) -> Prediction | list[Prediction]:
        """Classify one text or a list of texts; a list gives a list, a string one prediction.

        `neighbours`: how many a prediction cites at most (the setting, when None); the vote counts all k that were
        tuned. DataError for a text that is none, ModelError when every example was forgotten.
        """
        if isinstance(texts, str):
            return self.classify([texts], neighbours)[0]
        cite = check_number(neighbours, "neighbours")
        checked = check_texts(texts, self.settings.max_text)
        return list(self._answering.predictions(checked, self.settings.neighbours if cite is None else cite))

    def measured(self, texts: Sequence[str], from_end: bool = False) -> list[tuple[int, str]]:
        """How many tokens each text has, special ones included, and the text; `classify` reads `max_tokens`.

        With `from_end`, one that is too long comes back without its beginning, so that its end is what is read.
        DataError for a text that is none.
        """
        return self._answering.present_encoder().measured(check_texts(texts, self.settings.max_text), from_end)

    @property
    def max_tokens(self) -> int:
        """As many tokens of a text are read, special ones included."""
        return self._answering.present_encoder().max_tokens

    def evaluate(
        self, texts: Sequence[str], labels: Sequence[Labels], progress: Callable[[int, int], None] | None = None
    ) -> Evaluation:
        """How head, neighbours and blend do on labelled texts; see `likewise.evaluation.report`."""
        from likewise.evaluation.report import Evaluation

        checked = check_texts(texts, self.settings.max_text)
        truth = check_label_sets(labels, len(checked), self.task)
        parts: dict[str, list[tuple[str, ...]]] = {"blend": [], "head": [], "neighbours": []}
        done, revision, known = 0, self.revision, set[str]()
        for answered in self._answering.answers(checked):
            voices = answered.voices
            known.update(voices.labels)
            for name, table in zip(parts, (voices.blend, voices.head, voices.vote), strict=True):
                parts[name].extend(voices.decide(table))
            done, revision = done + len(answered.texts), answered.revision
            if progress:
                progress(done, len(checked))
        return Evaluation.of(truth, parts, self.task, revision, known)

    # Changes: each is one transaction, in force for every process at its next answer

    def teach(
        self,
        texts: str | Sequence[str],
        labels: Labels | Sequence[Labels],
        refs: str | Sequence[str | None] | None = None,
        by: str | None = None,
        note: str | None = None,
        on_conflict: OnConflict | None = None,
        source: str = "python",
        progress: Callable[[int, int], None] | None = None,
    ) -> Change:
        """Add labelled texts: one text with its label (or labels), or a list of each.

        A ref seen before updates its example. A text that is there already is a second example when its labels
        differ, or when it comes with another ref, and is already known if not; `on_conflict` says otherwise: "keep"
        leaves it, "replace" gives it the new labels, "both" always adds. DataError or LabelError for what cannot be
        taught; nothing is written then.
        """
        if isinstance(texts, str):
            if refs is not None and not isinstance(refs, str):
                raise UsageError("refs: found a list for one text, expected one string")
            texts, labels, refs = [texts], [cast(Labels, labels)], [refs]
        if on_conflict not in (None, "keep", "replace", "both"):
            raise UsageError(f"on_conflict: found {on_conflict!r}, expected keep, replace or both")
        checked = check_texts(texts, self.settings.max_text)
        label_sets = check_label_sets(labels, len(checked), self.task)
        given = check_refs(refs, len(checked))
        said = {"source": check_string(source, "source"), "by": who(by), "note": check_string(note, "note")}
        self._answering.catch_up()  # a refit elsewhere has changed the encoder
        embeddings, fingerprint = self._answering.embed(checked, progress)
        new = [
            NewExample(text, label_set, ref, embedding)
            for text, label_set, ref, embedding in zip(checked, label_sets, given, embeddings, strict=True)
        ]
        with self._writable() as ledger:
            return ledger.teach(new, fingerprint, on_conflict=on_conflict, **said)

    def forget(
        self, ids: int | Sequence[int], by: str | None = None, note: str | None = None, seen: int | None = None
    ) -> Change:
        """Forget examples; they no longer vote, cite or shape the head. ExampleError for an id that is not there.

        `seen`: the last revision that the caller has seen; ExampleChanged for an example that was changed after it.
        """
        numbers, said, last = check_ids(ids), check_string(note, "note"), check_number(seen, "seen")
        with self._writable() as ledger:
            return ledger.forget(numbers, by=who(by), note=said, seen=last)

    def relabel(
        self,
        ids: int | Sequence[int],
        labels: Labels | Sequence[Labels],
        by: str | None = None,
        note: str | None = None,
        seen: int | None = None,
    ) -> Change:
        """Give an example other labels, or each of a list of examples its own. ExampleError, LabelError.

        `seen`: the last revision that the caller has seen; ExampleChanged for an example that was changed after it.
        """
        if isinstance(ids, int | np.integer):
            labels = [cast(Labels, labels)]
        numbers = check_ids(ids, paired=True)
        label_sets = check_label_sets(labels, len(numbers), self.task)
        check_repeats(numbers, label_sets)
        said, last = check_string(note, "note"), check_number(seen, "seen")
        with self._writable() as ledger:
            return ledger.relabel(numbers, label_sets, by=who(by), note=said, seen=last)

    def rename_label(self, old: str, new: str, by: str | None = None, note: str | None = None) -> Change:
        """Give a label another name, one that is not in use. LabelUnknown, LabelTaken."""
        (former,) = check_labels(old, "single", "old label")
        (name,) = check_labels(new, "single", "new label")
        with self._writable() as ledger:
            return ledger.rename_label(former, name, by=who(by), note=check_string(note, "note"))

    def merge_labels(
        self, labels: str | Sequence[str], into: str, by: str | None = None, note: str | None = None
    ) -> Change:
        """Make one label, new or there already, of several. LabelUnknown."""
        (name,) = check_labels(into, "single", "into")
        olds = check_labels(labels, None, "labels")
        with self._writable() as ledger:
            return ledger.merge_labels(olds, name, by=who(by), note=check_string(note, "note"))

    def examples(
        self,
        ids: Sequence[int] | None = None,
        label: str | None = None,
        ref: str | None = None,
        contains: str | Sequence[str] | None = None,
        after_id: int = 0,
        limit: int | None = None,
    ) -> list[Example]:
        """The examples as they stand, in the order of their ids, as far as all the conditions given hold.

        `contains` is a part of the text, or several that all have to be in it, in upper or lower case. A page begins
        after `after_id` and holds at most `limit`.
        """
        return self._answering.ledger.examples(
            ids=None if ids is None else check_ids(ids), label=check_string(label, "label"),
            ref=check_string(ref, "ref"), contains=check_parts(contains),
            after_id=check_number(after_id, "after_id") or 0, limit=check_number(limit, "limit"), at=self._at,
        )  # fmt: skip

    # The past

    def history(self, limit: int | None = None, before: int | None = None) -> list[Revision]:
        """The changes up to this model's revision, or `before` another, newest first, at most `limit`."""
        before = check_number(before, "before")
        upto = self._at if before is None else before - 1 if self._at is None else min(before - 1, self._at)
        return self._answering.ledger.revisions(check_number(limit, "limit"), upto)

    def history_of(self, example: int) -> list[ExampleVersion]:
        """What each change made of one example, newest first. ExampleError for an id that was never given."""
        (number,) = check_ids([example])
        upto = self.revision
        return [version for version in self._answering.ledger.life(number) if version.change.revision <= upto]

    def as_of(self, when: int | str | datetime) -> Model:
        """The model as it stood at a revision or a time (ISO 8601; without offset it is UTC), for reading only.

        It answers from the examples as they stood then, with the present encoder, whitening and tuned values. Close
        it when done with it. RevisionError for a revision that is none, UsageError for a time that
        cannot be read.
        """
        with self._staying():
            past = Model(self._layout.root, self.settings, past=Past(self, self._revision_of(when)))
            self._taken.add(past)
        return past

    def revert(self, when: int | str | datetime, by: str | None = None, note: str | None = None) -> Change:
        """Make every example what it was at a revision or a time, as a new change that can itself be reverted.

        `ids` are the examples that it changed. Errors as those of `as_of`.
        """
        with self._writable() as ledger:
            return ledger.revert(self._revision_of(when), by=who(by), note=check_string(note, "note"))

    def erase(self, ids: int | Sequence[int], by: str | None = None, note: str | None = None) -> Erasure:
        """Take examples out for good, out of the past as well, and out of every file of the directory.

        The history keeps that they were erased, when and by whom. `likewise.erasing.BEYOND` says what it cannot reach;
        `shared` in what comes back names other examples that have the same text. ExampleError for an id that is
        unknown or was erased; LedgerBusy or LedgerError where it could not be completed: the same call completes it.
        """
        numbers, said = check_ids(ids), check_string(note, "note")
        with self._writable() as ledger:
            return erase(self._layout, ledger, self._answering, numbers, who(by), said)

    def refit(
        self,
        recipe: str | None = None,
        encoder: str | None = None,
        by: str | None = None,
        note: str | None = None,
        work: Path | None = None,
        progress: Progress | None = None,
        source_task: tuple[Sequence[str], Sequence[object]] | None = None,
        **settings: object,
    ) -> Refit:
        """Train a new generation on the examples as they stand; ids, refs and history stay.

        Recipe, encoder and the fit's settings are those of the present generation unless others are given. It answers
        until the new one is complete, in every process, and is kept until `prune`. `work` is where training keeps its
        checkpoints: the same call goes on there after a kill. `source_task` (texts, labels) is another task, for a
        recipe that learns from one. Errors as those of a fit; LedgerReadOnly; LedgerError where examples were erased
        meanwhile, which it would know.
        """
        from likewise.refitting import refit

        with self._writable() as ledger:
            return refit(
                self._layout, ledger, self._answering, recipe=recipe, encoder=encoder, given=settings,
                source_task=source_task, work=work, progress=progress or Progress(), by=who(by),
                note=check_string(note, "note"),
            )  # fmt: skip

    def move(self, datastore: str, by: str | None = None, note: str | None = None) -> int:
        """Move the datastore to `postgresql://user@host/database?schema=name`, or back: "sqlite". The new revision.

        Its history comes along. Passwords come from PGPASSWORD or ~/.pgpass. UsageError for a place that cannot be,
        ModelForeign where a datastore is already, LedgerAway where the server cannot be reached.
        """
        if self._temporary:
            raise UsageError("the model was not saved yet; save it, then move its datastore")
        with self._writable() as ledger:
            return move(self._layout, ledger, self._answering, datastore, who(by), check_string(note, "note"))

    def prune(self) -> list[int]:
        """Remove the generations that answer no more, and their embeddings; their numbers. The history stays."""
        from likewise.refitting import prune

        with self._writable() as ledger:
            return prune(self._layout, ledger, self._answering)

    def diff(self, first: int | str | datetime, second: int | str | datetime) -> list[Difference]:
        """The examples that are not at `second` what they were at `first`, by id."""
        return differences(self._answering.ledger, self._revision_of(first), self._revision_of(second))

    def diff_answers(
        self,
        texts: Sequence[str],
        first: int | str | datetime,
        second: int | str | datetime,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[ChangedAnswer]:
        """The texts that are decided differently at `second` than at `first`, and the examples that made it so."""
        checked, changed = (
            check_texts(texts, self.settings.max_text),
            [difference.id for difference in self.diff(first, second)],
        )
        with self.as_of(first) as a, self.as_of(second) as b:
            cite = self.settings.neighbours
            return changed_answers(a._answering, b._answering, checked, changed, cite, progress)

    def _revision_of(self, when: int | str | datetime) -> int:
        """The number of a revision, or of the last one at a time."""
        moment = check_moment(when)
        if isinstance(moment, datetime):
            return min(self._answering.ledger.revision_at(moment), self.revision)
        if not 0 <= moment <= self.revision:
            raise RevisionError(
                f"revision {moment}: found none of that number, expected 0 to {self.revision}; see the history"
            )
        return moment

    @contextlib.contextmanager
    def _writable(self) -> Iterator[Ledger]:
        """The ledger, for a change. LedgerReadOnly where this is a past model."""
        if self._past:
            raise LedgerReadOnly(
                f"this is the model as it stood at revision {self.revision}, which cannot be changed; "
                "change the model itself, or revert it to that revision"
            )
        with self._staying():
            yield self._ledger

    @contextlib.contextmanager
    def _staying(self) -> Iterator[None]:
        """The model stays in its directory meanwhile: the first save takes it to another, and waits."""
        with self._binding if self._temporary else contextlib.nullcontext():
            yield

    # The directory

    def save(self, path: str | os.PathLike[str]) -> Model:
        """Write the model to a new directory. The first save binds the model to it; a later one writes a copy.

        The directory appears whole or not at all. ModelError when something is there already: a live datastore is
        never replaced. UsageError for a past model.
        """
        target = self._elsewhere(path)
        if not self._temporary and target == self._layout.root.resolve():
            self._answering.refresh_snapshot()
            return self
        with self._staying(), self._answering.lock:  # no answer from what is about to go
            save(self._layout, self._ledger, self._answering, target, link=self._temporary)
            if self._temporary:
                self._bind(target)
                self._temporary = False
                if self._discard:
                    self._discard()
        return self

    def _bind(self, root: Path) -> None:
        """Go on in a directory that is a copy of the one so far, with all past models that were taken from it."""
        with self._answering.lock:
            left, manifest = self._ledger, self._read(root)
            self._answering.attach(self._layout, manifest, self._ledger)
            left.close()
        for past in list(self._taken):
            past._bind(root)

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Write an independent copy, with its history, into a directory that does not exist yet. Errors of `save`."""
        with self._staying():
            copy(self._layout, self._ledger, self._answering, self._elsewhere(path), link=self._temporary)

    def _elsewhere(self, path: str | os.PathLike[str]) -> Path:
        """Where a path for a copy leads, links followed. ModelError for one in a model, UsageError for a past model."""
        if self._past:
            raise UsageError(
                f"this is the model as it stood at revision {self.revision}, which cannot be saved; "
                "save the model, and revert the copy to that revision"
            )
        target = Path(os.path.realpath(path))
        refuse_inside(target)
        return target

    def close(self) -> None:
        """Let go of the directory; a model that was never saved is gone."""
        try:
            if not self._temporary:
                with contextlib.suppress(OSError, LikewiseError):  # a snapshot only saves time
                    self._answering.refresh_snapshot()
        finally:
            self._ledger.close()
            self._answering.let_go()
            if self._past:
                self._past.of._taken.discard(self)
            if self._discard:
                self._discard()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Model {self.path or 'not saved'}: {len(self.labels)} labels, revision {self.revision}>"


def _discard(root: Path, made_by: int) -> None:
    """Remove a model that was not saved, unless this is a fork of the process that has it."""
    if os.getpid() == made_by:
        shutil.rmtree(root, ignore_errors=True)


def who(by: str | None) -> str:
    """The name under which a change is recorded: the one given, or the system user. DataError for what is no name."""
    if given := check_string(by, "by"):
        return given
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a container may run under a number that has no name
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"
