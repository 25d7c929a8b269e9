"""Older ledgers become newer ones: each step is one transaction, recorded with it in `meta`.

A ledger that may not be written stays as it is; whatever reads it knows the older schemas too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, insert, select, update

from likewise.datastore.schema import SCHEMA_VERSION, STORAGE, meta
from likewise.datastore.store import Store


def _name_the_storage(connection: Connection) -> None:
    """Schema 2: `meta` says how embeddings are stored. In schema 1 it was float32 always."""
    if _value(connection, STORAGE) is None:
        connection.execute(insert(meta), {"key": STORAGE, "value": "float32"})


STEPS: Mapping[int, Callable[[Connection], None]] = {1: _name_the_storage}
"""What leads from each schema to the next."""


def migrate(store: Store) -> None:
    """Bring a ledger to the present schema, step by step, unless it is there or may not be written."""
    while not store.read_only and store.read(_version) < SCHEMA_VERSION:
        with store.write() as connection:
            version = _version(connection)  # another process may have been faster
            if version < SCHEMA_VERSION:
                STEPS[version](connection)
                connection.execute(update(meta).where(meta.c.key == "schema").values(value=str(version + 1)))


def _version(connection: Connection) -> int:
    return int(_value(connection, "schema") or 0)


def _value(connection: Connection, key: str) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()
