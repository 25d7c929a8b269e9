"""What the ledger asks of a database: a file of SQLite, or a schema of a PostgreSQL server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Connection, insert, select, text

from likewise.datastore.schema import examples, metadata, texts
from likewise.errors import DataError

Result = TypeVar("Result")

_ROWS = 1000  # rows copied at once


class Store(Protocol):
    """A database that holds a ledger. Every operation may raise LedgerBusy, LedgerAway, ModelDamaged or LedgerError."""

    read_only: bool
    location: str
    """The place as it was named when it was opened."""

    @property
    def name(self) -> str:
        """What messages call it; never with a password."""

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in one read transaction: it sees one state of the ledger, whatever others write meanwhile."""

    def revision(self) -> int:
        """The number of the last change, 0 when there is none."""

    def texts_of(self, ids: Sequence[int], at: int) -> dict[int, str]:
        """The texts of examples (ids that a database can hold) as of a revision; see `LedgerView.texts_of`."""

    def write(self) -> AbstractContextManager[Connection]:
        """One write transaction, alone in the ledger, committed at the end of the block, rolled back on any error."""

    def copy_to(self, path: Path) -> None:
        """Copy the present state into a new SQLite file."""

    def scrub(self) -> None:
        """Rewrite the storage, so that nothing deleted can be read from it again."""

    def integrity(self) -> list[str]:
        """What the database's own checks find, a sentence each."""

    def announcements(self, stop: threading.Event) -> Iterator[None]:
        """One item whenever a change may have been made, until `stop` is set; hints, and no more."""

    def lies_there(self) -> bool:
        """Whether what was opened is what lies at its place still."""

    def rest(self) -> None:
        """Give up the connections that nobody uses: it was left, and few will ask for it again."""

    def close(self) -> None:
        """Let go of it. Closing twice is fine."""


def is_url(location: object) -> bool:
    """Whether a datastore's place is a server's, and not a file's."""
    return isinstance(location, str) and location.startswith(("postgresql:", "postgres:", "postgresql+"))


def not_unicode(error: UnicodeEncodeError) -> DataError:
    """Our error for text that no database can hold."""
    return DataError(f"found {error.object!r}, which holds half a surrogate pair; expected Unicode text, "
                     "correct its encoding")  # fmt: skip


def copy_rows(source: Connection, target: Connection) -> None:
    """Copy every row of every table into empty tables of another database, whose numbering goes on from there."""
    for table in metadata.sorted_tables:
        rows = source.execute(select(table).execution_options(yield_per=_ROWS)).mappings()
        for part in rows.partitions(_ROWS):
            target.execute(insert(table), [dict(row) for row in part])
    if target.dialect.name == "postgresql":
        for table in (examples, texts):
            sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
            target.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {table.name}))"))
