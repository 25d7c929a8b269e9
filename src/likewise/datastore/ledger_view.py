"""What a ledger can be asked: each answer comes from one read transaction."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from likewise.datastore import ledger_reading as reading
from likewise.datastore.ledger_checks import findings
from likewise.datastore.ledger_embeddings import STORED, not_embedded, vectors
from likewise.datastore.ledger_reading import Delta
from likewise.datastore.store import Store, is_url
from likewise.errors import ExampleError, LedgerBusy, LedgerMoved, ModelDamaged
from likewise.types import Example, ExampleVersion, Revision, Storage, Task
from likewise.validation import GREATEST

_Result = TypeVar("_Result")

ATTEMPTS = 5
"""How often a datastore that is moved meanwhile is followed in one operation."""


class Directory(Protocol):
    """What knows where a ledger is."""

    def place(self) -> str:
        """Where the datastore is now, as it is given to `Ledger.open`."""

    def renew(self) -> None:
        """`Ledger.reopen` it there, unless it is where it was opened."""


class LedgerView:
    """The reading side of a ledger. Every method may raise LedgerBusy, LedgerAway, ModelDamaged or LedgerError."""

    def __init__(self, store: Store, task: Task, storage: Storage) -> None:
        self._store = store
        self.task: Task = task
        self.storage: Storage = storage
        self._highest = 0  # the last revision that was seen
        self._directory: Callable[[], Directory | None] = lambda: None

    def belong(self, directory: Directory) -> None:
        """Be the ledger of a model directory, which is not kept alive: what it says of the datastore's place holds."""
        self._directory = weakref.ref(directory)

    def _read(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run `work` in one read transaction where the datastore is. Errors as those of `_there`."""
        return self._there(lambda store: store.read(work if is_url(store.location) else partial(_unless_left, work)))

    def _there(self, use: Callable[[Store], _Result]) -> _Result:
        """Use the store, or the one where the datastore has gone. LedgerMoved where the directory names none."""
        for _ in range(ATTEMPTS):
            store = self._store
            try:
                return use(store)
            except LedgerMoved:
                if not self._followed(store):
                    raise
        raise self._restless()

    def _followed(self, store: Store) -> bool:
        """Whether this ledger is at another place by now than that store."""
        directory = self._directory()
        if directory is not None:
            directory.renew()
        return self._store is not store

    def _restless(self) -> LedgerBusy:
        return LedgerBusy(f"{self._store.name}: the datastore is moved faster than it can be followed; try again later")

    def erasing(self) -> int | None:
        """The revision of an erasure that was not completed."""
        return self._read(reading.erasing)

    def erased(self, after: int) -> bool:
        """Whether examples were erased after a revision."""
        return self._read(lambda connection: reading.happened(connection, ("erased",), after))

    def labels_before_renaming(self, revision: int) -> dict[int, tuple[str, ...]]:
        """The labels that examples had at a revision, by id; empty where labels were never renamed, merged or
        reverted, so that they have the same names still."""
        if not self._read(lambda connection: reading.happened(connection, ("renamed", "merged", "reverted"), 0)):
            return {}
        return {delta.example_id: delta.labels for delta in self.changes(0, revision)[1] if delta.labels is not None}

    def moved(self) -> str | None:
        """The place that the datastore was moved to, None where it was not."""
        return self._store.read(reading.moved)

    def texts_by_id(self, text_ids: Iterable[int]) -> dict[int, str]:
        """Texts by their own ids; unknown ones are left out."""
        wanted = list(text_ids)
        return self._read(lambda connection: reading.texts_by_id(connection, wanted))

    def last_id(self, at: int) -> int:
        """The greatest id that was given up to a revision; 0 when none was."""
        return self._read(lambda connection: reading.last_id(connection, at))

    def not_embedded(self, text_ids: Iterable[int], fingerprint: str) -> dict[int, str]:
        """Those of these texts that have no embedding by the encoder with this fingerprint, by id."""
        wanted = list(text_ids)
        return self._read(lambda connection: not_embedded(connection, wanted, fingerprint))

    def labels_ever(self) -> set[str]:
        """Every label that an example has or once had, minus what was erased."""
        return self._read(reading.labels_ever)

    def revision(self) -> int:
        """The number of the last change; 0 when there is none. Takes microseconds."""
        found = self._there(lambda store: store.revision())
        self._highest = max(self._highest, found)
        return found

    def changes(self, after: int, upto: int | None = None) -> tuple[int, list[Delta]]:
        """The revision reached (the last one, or `upto` if that is less) and what every example touched between
        `after` and there has become, by id. An earlier `upto` leads back: the examples are as they stood at it."""
        return self._read(lambda connection: reading.changes(connection, after, upto))

    def as_stored(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Embeddings as they come back once they are stored: a text's own copy is then at distance 0."""
        return embeddings.astype(STORED[self.storage]).astype(np.float32)

    def vectors(self, text_ids: Sequence[int], fingerprint: str) -> npt.NDArray[np.float32]:
        """The embeddings of texts by the encoder with this fingerprint: float32 (n, d), in the order given.

        (0, 0) when none is asked for. Raises NotEmbedded for one that is missing, ModelDamaged for one of another
        length.
        """
        if not text_ids:
            return np.empty((0, 0), dtype=np.float32)
        return self._read(lambda connection: vectors(connection, text_ids, fingerprint, self.storage))

    def examples(
        self,
        *,
        ids: Iterable[int] | None = None,
        label: str | None = None,
        ref: str | None = None,
        contains: str | Sequence[str] | None = None,
        after_id: int = 0,
        limit: int | None = None,
        at: int | None = None,
    ) -> list[Example]:
        """The examples that meet all conditions, by id, at most `limit`: as they stand, or stood at revision `at`.

        `contains` is a part of the text, or several that all have to be in it, in upper or lower case. Unknown and
        forgotten ids are left out.
        """
        wanted = None if ids is None else list(ids)
        return self._read(
            lambda connection: reading.find_examples(
                connection, ids=wanted, label=label, ref=ref, contains=contains, after_id=after_id, limit=limit, at=at
            )
        )

    def example_count(self, at: int | None = None) -> int:
        """How many examples there are, or were at revision `at`."""
        return self._read(lambda connection: reading.live_count(connection, at))

    def labels(self, at: int | None = None) -> dict[str, int]:
        """How many examples have each label, by name: as they stand, or stood at revision `at`."""
        return self._read(lambda connection: reading.label_counts(connection, at))

    def texts_of(self, ids: Iterable[int], at: int | None = None) -> dict[int, str]:
        """The texts of examples as they stand, or stood at revision `at`; of forgotten ones the last.

        Unknown ids are left out. An answer cites what it rests on: with `at` its revision, a later change does
        not alter the citation.
        """
        wanted, upto = reading.possible(ids), GREATEST if at is None else at
        if not wanted:
            return {}
        found = self._there(lambda store: store.texts_of(wanted, upto))
        # None was found in a file that the datastore has just left.
        return found or self._read(lambda connection: reading.texts_of(connection, wanted, upto))

    def revisions(self, limit: int | None = None, at: int | None = None) -> list[Revision]:
        """The last changes, or the last up to revision `at`, newest first, at most `limit`."""
        return self._read(lambda connection: reading.history(connection, limit, at))

    def revision_at(self, when: datetime) -> int:
        """The last revision made at this time (a naive one is UTC) or before; 0 when none was."""
        exact = (when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)).isoformat(
            timespec="microseconds"
        )
        return self._read(lambda connection: reading.revision_at(connection, exact))

    def life(self, example_id: int) -> list[ExampleVersion]:
        """What each change made of one example, newest first. Raises ExampleError for an id that was never given."""
        found = self._read(lambda connection: reading.life(connection, example_id))
        if not found:
            raise ExampleError(f"there is no example {example_id}; look up the ids and try again")
        return found

    def damage(self, fingerprint: str | None = None, others: Collection[str] = ()) -> list[str]:
        """Everything that is wrong with the ledger, a sentence each. Reads all of it.

        With the fingerprint of the present generation's encoder, embeddings that are neither by it nor by one of the
        `others`, those of earlier generations, are found as well.
        """
        try:
            found = self._store.integrity()
            return found + self._store.read(
                lambda connection: findings(connection, self.task, self.storage, fingerprint, others)
            )
        except ModelDamaged as error:
            return [str(error)]


def _unless_left(work: Callable[[Connection], _Result], connection: Connection) -> _Result:
    """Run `work`. LedgerMoved where the datastore has left this file, in which nothing is found any more."""
    if place := reading.moved(connection):
        raise LedgerMoved(f"the datastore was moved to {place}; open the model again")
    return work(connection)
