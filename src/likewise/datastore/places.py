"""Where a ledger may be: a file, opened as SQLite, or the URL of a PostgreSQL server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from likewise.datastore.ledger_sqlite import SqliteStore
from likewise.datastore.store import Store, is_url


def require_room(url: str) -> None:
    """Raise where a server's schema cannot take a ledger: UsageError, LedgerAway, or ModelForeign where one is."""
    from likewise.datastore.ledger_postgres import PostgresStore

    store = PostgresStore(url, read_only=True, lock_timeout=0)
    try:
        store.refuse_taken()
    finally:
        store.close()


def opened(location: str | os.PathLike[str], read_only: bool, lock_timeout: float) -> Store:
    """The database that is at a place."""
    if is_url(location):
        from likewise.datastore.ledger_postgres import PostgresStore

        return PostgresStore.open(str(location), read_only=read_only, lock_timeout=lock_timeout)
    return SqliteStore(Path(location), read_only=read_only, lock_timeout=lock_timeout)


def created(location: str | os.PathLike[str], lock_timeout: float, fill: Callable[[Connection], None]) -> Store:
    """A new database with a ledger's tables, filled as one transaction."""
    if is_url(location):
        from likewise.datastore.ledger_postgres import PostgresStore

        return PostgresStore.create(str(location), lock_timeout=lock_timeout, fill=fill)
    return SqliteStore.create(Path(location), lock_timeout=lock_timeout, fill=fill)
