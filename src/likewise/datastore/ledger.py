"""The ledger: every example, and every change to the examples, in one SQL database.

One transaction records a change, its revision and the embeddings it needs; once a method that changes something has
returned, the change is on the disk. Many threads and many processes may use a ledger at once: every operation has a
connection of its own, writers wait for each other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import get_args

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, insert

from likewise.datastore import ledger_reading as reading
from likewise.datastore.ledger_checks import digest_of, kind_of
from likewise.datastore.ledger_embeddings import STORED, NotEmbedded, drop_vectors, write_vectors
from likewise.datastore.ledger_reading import Delta, Version
from likewise.datastore.ledger_view import ATTEMPTS, LedgerView
from likewise.datastore.ledger_writing import (
    complete,
    erase,
    exchange,
    id_of,
    leave,
    record,
    required,
    revert,
    write_revision,
    write_taught,
)
from likewise.datastore.migrations import migrate
from likewise.datastore.places import created, opened, require_room
from likewise.datastore.schema import SCHEMA_VERSION, STORAGE, meta
from likewise.datastore.store import Store, copy_rows, is_url
from likewise.datastore.teaching import Slot, State, Teaching
from likewise.errors import (
    DataError,
    LabelError,
    LabelTaken,
    LabelUnknown,
    LedgerMoved,
    RevisionError,
    UsageError,
    suggestion,
)
from likewise.types import Change, Erasure, OnConflict, Storage, Task

__all__ = ["Delta", "Ledger", "NewExample", "NotEmbedded", "is_url", "require_room"]


@dataclass(frozen=True, slots=True)
class NewExample:
    """A text to teach: its labels, the user's own reference, its embedding (float32, shape (d,))."""

    text: str
    labels: tuple[str, ...]
    ref: str | None
    embedding: npt.NDArray[np.float32]


class Ledger(LedgerView):
    """An opened ledger. Make one with `create` or `open`; close it, or use it in a `with` statement.

    Every method may raise LedgerBusy, ModelDamaged or LedgerError; those that change something also LedgerReadOnly and
    LedgerFull. After any error nothing was written.
    """

    def __init__(self, store: Store, task: Task, storage: Storage, known: tuple[int, str] | None = None) -> None:
        """`known`: the last change when it was opened, by which a datastore elsewhere is known to go on from there."""
        super().__init__(store, task, storage)
        self._known = known
        self._left: list[Store] = []  # where it was before it was moved

    @classmethod
    def create(
        cls, location: str | os.PathLike[str], *, task: Task, storage: Storage = "float32", lock_timeout: float = 10.0
    ) -> Ledger:
        """Make a new, empty ledger in a file that is not there yet, or on a server. `lock_timeout` in seconds.

        Raises ModelForeign when something is there, LedgerReadOnly when the folder may not be written, LedgerError
        when there is no such folder, LedgerAway when the server cannot be reached, UsageError for a URL that cannot be.
        """
        facts = {"schema": str(SCHEMA_VERSION), "task": task, STORAGE: storage}

        def fill(connection: Connection) -> None:
            connection.execute(insert(meta), [{"key": key, "value": value} for key, value in facts.items()])

        return cls(created(location, lock_timeout, fill), task, storage)

    @classmethod
    def open(cls, location: str | os.PathLike[str], *, read_only: bool = False, lock_timeout: float = 10.0) -> Ledger:
        """Open a ledger; for reading only where that is asked for, or where its file or folder may not be written.

        Raises ModelDamaged when the file is missing, cut short or altered, ModelForeign when it is another database,
        ModelNewer when a newer Likewise made it, ModelError when it may not be read, LedgerAway when the server cannot
        be reached.
        """
        return cls(*_opened(location, read_only, lock_timeout))

    def at(self, location: str | os.PathLike[str]) -> bool:
        """Whether this is what lies at a place."""
        return self._store.location == str(location) and self._store.lies_there()

    def reopen(self, location: str | os.PathLike[str], *, lock_timeout: float = 10.0) -> None:
        """Go on at another place, where the ledger was moved to.

        LedgerMoved where what is there does not go on where this one was; else errors as those of `open`.
        """
        store, task, storage, known = _opened(location, self.read_only, lock_timeout)
        try:
            goes_on = store.read(lambda connection: reading.goes_on(connection, self._known, self._highest))
            if (task, storage) != (self.task, self.storage) or not goes_on:
                raise LedgerMoved(f"{store.name}: it is another datastore than was opened, or an earlier state of it; "
                                  "open the model again")  # fmt: skip
        except BaseException:
            store.close()
            raise
        left, self._store, self._known = self._store, store, known
        self._left.append(left)  # closed with the ledger: another thread may be reading from it
        left.rest()

    @property
    def read_only(self) -> bool:
        """Whether changes are refused."""
        return self._store.read_only

    @property
    def name(self) -> str:
        """The file, or the server's URL without a password."""
        return self._store.name

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Closing twice is fine; anything else afterwards raises LedgerError."""
        for store in (self._store, *self._left):
            store.close()

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Copy the ledger as it stands, with its history, into a new file. ModelForeign when something is there."""
        self._store.copy_to(Path(path))

    def move_to(
        self,
        location: str | os.PathLike[str],
        switch: Callable[[], None],
        *,
        make_room: Callable[[], None] = lambda: None,
        lock_timeout: float = 10.0,
        by: str | None = None,
        note: str | None = None,
    ) -> int:
        """Move the ledger with its history to a file or a server where there is none; the revision that says so.

        No change can come between, and no other move. `make_room` prepares the new place, `switch` makes it known
        before the old one lets go. A file that is left keeps the revisions alone, so that others learn of the move; a
        server's ledger stays as it is, for others may share it. Errors as those of `create`; UsageError where it is
        there already.
        """
        with self._write() as source:
            if self._store.location == str(location):
                raise UsageError(f"the datastore is in {self.name} already")
            make_room()
            revision = write_revision(source, "moved", reading.live_count(source), by, note)
            created(location, lock_timeout, lambda target: copy_rows(source, target)).close()
            if not is_url(self.name):
                leave(source, str(location))
            switch()
        return revision

    def announcements(self, stop: threading.Event) -> Iterator[None]:
        """One item whenever another process may have changed something; hints, and no more."""
        return self._store.announcements(stop)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A write transaction where the datastore is. LedgerMoved where that is not here: no one would follow a change.

        Asked under the lock, which a move holds as well: it may have been made while we waited.
        """
        for _ in range(ATTEMPTS):
            store, begun = self._store, False
            try:
                with store.write() as connection:
                    directory = self._directory()
                    place = reading.moved(connection) or (store.location if directory is None else directory.place())
                    if place != store.location:
                        raise LedgerMoved(f"{store.name}: the datastore was moved to {place}, nothing was written "
                                          "here; open the model again")  # fmt: skip
                    begun = True
                    yield connection
                    reached = reading.last_revision(connection)
                self._highest = max(self._highest, reached)
                return
            except LedgerMoved:
                if begun or not self._followed(store):
                    raise
        raise self._restless()

    # Changes

    def teach(
        self,
        new: Sequence[NewExample],
        fingerprint: str,
        *,
        source: str | None = None,
        by: str | None = None,
        note: str | None = None,
        on_conflict: OnConflict | None = None,
    ) -> Change:
        """Teach examples whose embeddings come from the encoder with this fingerprint, one after the other.

        teaching.Teaching says what happens to texts and references that are there already. The outcomes count the
        entries given; `ids` names for each the example that it became, changed, or met. Nothing changed: no revision.
        Raises DataError or LabelError for an entry that cannot be recorded, and ValueError for an embedding that is
        not a vector of finite numbers as long as the first.
        """
        if on_conflict not in (None, *get_args(OnConflict)):
            raise ValueError(f"on_conflict is {on_conflict!r}; expected None, 'keep', 'replace' or 'both'")
        states, entries = self._prepared(new)
        with self._write() as connection:
            known_texts = reading.text_ids(connection, (state.digest for state in states))
            refs = {state.ref for state in states if state.ref is not None}
            ever = reading.examples_ever(connection, known_texts.values(), refs)
            before = {
                number: version
                for number, version in sorted(reading.latest_versions(connection, ever).items())
                if version.labels is not None
            }
            teaching = Teaching(on_conflict)
            teaching.know(Slot(number, now := _state(version), now) for number, version in before.items())
            slots = [teaching.teach(entry, state) for entry, state in enumerate(states)]
            changed = [slot for slot in teaching.slots if slot.changed]
            if changed:
                known_texts.update((version.digest, version.text_id) for version in before.values())
                revision = write_taught(
                    connection, changed, known_texts, entries, fingerprint, self.storage, source, by, note
                )
            else:
                revision = reading.last_revision(connection)
        counts = teaching.counts
        conflicts = {str(name): count for name, count in teaching.conflicts.items()}
        return Change(revision, tuple(id_of(slot) for slot in slots), added=counts["added"], updated=counts["updated"],
                      known=counts["known"], kept=counts["kept"], conflicts=conflicts)  # fmt: skip

    def forget(
        self, ids: Iterable[int], *, by: str | None = None, note: str | None = None, seen: int | None = None
    ) -> Change:
        """Forget examples: they stay in the history and decide nothing any more.

        Raises ExampleError for an id that is unknown or forgotten already, ExampleChanged for an example that was
        changed after revision `seen`, where that is given.
        """
        listed = [int(number) for number in ids]
        with self._write() as connection:
            found = required(connection, listed, seen)
            return record(connection, "forgot", listed, found, dict.fromkeys(found), by, note)

    def relabel(
        self,
        ids: Iterable[int],
        labels: Sequence[tuple[str, ...]],
        *,
        by: str | None = None,
        note: str | None = None,
        seen: int | None = None,
    ) -> Change:
        """Give examples other labels, one label set an id; for an id given twice the later one holds.

        Raises ExampleError for an id that is unknown or forgotten, ExampleChanged for an example that was changed after
        revision `seen`, where that is given, LabelError for labels that the task does not allow.
        """
        listed = [int(number) for number in ids]
        if len(listed) != len(labels):
            raise LabelError(f"{len(listed)} ids and {len(labels)} label sets; expected one label set for each id")
        wanted = {number: self._checked(its, f"example {number}") for number, its in zip(listed, labels, strict=True)}
        with self._write() as connection:
            return record(connection, "relabelled", listed, required(connection, listed, seen), wanted, by, note)

    def rename_label(self, old: str, new: str, *, by: str | None = None, note: str | None = None) -> Change:
        """Rename a label wherever it stands; `ids` are the examples that have it.

        Raises LabelUnknown for `old`, or LabelTaken when `new` is there already (merge_labels joins two labels).
        """
        with self._write() as connection:
            known = reading.label_counts(connection)
            if old not in known:
                raise _unknown_label(old, known)
            if new in known:
                raise LabelTaken(f"label {new!r} exists already; to join {old!r} with it use merge-labels")
            return exchange(connection, "renamed", {old}, new, by, note)

    def merge_labels(self, olds: Sequence[str], into: str, *, by: str | None = None, note: str | None = None) -> Change:
        """Put `into`, a new label or one that is there, in the place of others; `ids` are the examples that had them.

        Raises LabelUnknown.
        """
        with self._write() as connection:
            known = reading.label_counts(connection)
            for old in olds:
                if old not in known:
                    raise _unknown_label(old, known)
            return exchange(connection, "merged", set(olds) - {into}, into, by, note)

    def revert(self, target: int, *, by: str | None = None, note: str | None = None) -> Change:
        """Make every example what it was at an earlier revision, as one new change; `ids` are those that it changes.

        Nothing differs: no revision. The history keeps what is undone. RevisionError for a revision that is none.
        """
        with self._write() as connection:
            last = reading.last_revision(connection)
            if not 0 <= target <= last:
                raise RevisionError(
                    f"revision {target}: found none of that number, expected 0 to {last}; see the history"
                )
            return revert(connection, target, by, note)

    def erase(self, ids: Iterable[int], *, by: str | None = None, note: str | None = None) -> Erasure:
        """Take all that examples ever were out of the tables; the history keeps that they were erased.

        `scrub` then rewrites the files, and `complete` ends the erasure; until then `erasing` tells of it, and erasing
        the same examples anew is no error. Raises ExampleError for an id that is unknown, or erased before.
        """
        listed = [int(number) for number in ids]
        with self._write() as connection:
            return erase(connection, listed, by, note)

    def embed(self, vectors: Mapping[int, npt.NDArray[np.float32]], fingerprint: str) -> None:
        """Add embeddings, by text id, by the encoder with this fingerprint, and no revision: no example changes by it.

        Those that are there stay; a text that was erased meanwhile gets none.
        """
        kind = STORED[self.storage]
        stored = {text_id: np.asarray(vector, dtype=kind).tobytes() for text_id, vector in vectors.items()}
        with self._write() as connection:
            there = reading.texts_present(connection, stored)
            write_vectors(connection, {text_id: stored[text_id] for text_id in there}, fingerprint, self.storage)

    def refit(self, switch: Callable[[], None], *, by: str | None = None, note: str | None = None) -> int:
        """Record that another generation answers from here on; `switch` makes it so before that is committed."""
        with self._write() as connection:
            revision = write_revision(connection, "refitted", reading.live_count(connection), by, note)
            switch()
        return revision

    def drop_embeddings(self, keep: Callable[[], Collection[str]]) -> None:
        """Delete the embeddings by all encoders but those with the fingerprints that `keep` gives.

        It is called when no refit can end, and no move, before this is done.
        """
        with self._write() as connection:
            drop_vectors(connection, keep())

    def scrub(self) -> None:
        """Rewrite the files, so that they hold nothing of what was deleted. LedgerBusy while others read."""
        self._store.scrub()

    def complete(self, erasure: int) -> None:
        """Record that an erasure has left every file, by its revision; a later one may be under way still."""
        with self._write() as connection:
            complete(connection, erasure)

    # Checks before a change

    def _prepared(self, new: Sequence[NewExample]) -> tuple[list[State], list[tuple[str, bytes]]]:
        """What the entries say, and their texts and embeddings as stored; checked before anything is written."""
        states: list[State] = []
        entries: list[tuple[str, bytes]] = []
        for place, one in enumerate(new):
            where = f"texts[{place}]"
            try:
                digest = digest_of(one.text)
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{where} holds half a surrogate pair, which is no text; correct its encoding"
                ) from error
            states.append(State(digest, self._checked(one.labels, where), one.ref))
            with np.errstate(over="ignore"):  # found below
                vector = np.asarray(one.embedding, dtype=STORED[self.storage])
            if vector.ndim != 1 or len(vector) != len(new[0].embedding) or not np.isfinite(vector).all():
                raise ValueError(f"the embedding of {where} has shape {vector.shape}; "
                                 f"expected {len(new[0].embedding)} finite numbers")  # fmt: skip
            entries.append((one.text, vector.tobytes()))
        return states, entries

    def _checked(self, labels: Iterable[str], where: str) -> tuple[str, ...]:
        """The labels sorted and distinct. LabelError where the task wants exactly one."""
        distinct = tuple(sorted(set(labels)))
        if self.task == "single" and len(distinct) != 1:
            raise LabelError(f"{where} has {len(distinct)} labels; this model has exactly one a text")
        return distinct


def _opened(
    location: str | os.PathLike[str], read_only: bool, lock_timeout: float
) -> tuple[Store, Task, Storage, tuple[int, str] | None]:
    """A store that holds a ledger of this schema, with the ledger's task and storage, and its last change."""
    store = opened(location, read_only, lock_timeout)
    try:
        kind = kind_of(store)
        migrate(store)
        return store, *kind, store.read(reading.last_change)
    except BaseException:
        store.close()
        raise


def _unknown_label(found: str, known: Iterable[str]) -> LabelUnknown:
    return LabelUnknown(f"no example has the label {found!r}{suggestion(found, known)}; nothing was changed, "
                        "use a label that the model knows")  # fmt: skip


def _state(version: Version) -> State:
    return State(version.digest, version.labels, version.ref)
