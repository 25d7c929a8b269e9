"""What can be wrong with a ledger, found by reading all of it; each finding is a sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import cast, get_args

from sqlalchemy import Connection, exists, func, inspect, select

from likewise.datastore.ledger_embeddings import STORED
from likewise.datastore.ledger_reading import LIVE, erasing, label_reader, labels_as_stored, moved
from likewise.datastore.schema import SCHEMA_VERSION, STORAGE, embeddings, examples, meta, revisions, texts, versions
from likewise.datastore.store import Store
from likewise.errors import ModelDamaged, ModelForeign, ModelNewer
from likewise.types import Storage, Task

_NAMED = 10  # findings of one kind that are named; the rest is counted


def digest_of(text: str) -> str:
    """The SHA-256 of the exact text, in hexadecimal. Raises UnicodeEncodeError for a lone surrogate."""
    return hashlib.sha256(text.encode()).hexdigest()


def findings(
    connection: Connection, task: Task, storage: Storage, fingerprint: str | None, others: Collection[str]
) -> list[str]:
    """Everything that is wrong with the rows; with the present generation's fingerprint, also with the embeddings'.

    `others` are the fingerprints of earlier generations, whose embeddings may be there.
    """
    kinds: list[Iterable[str]] = [
        _gaps(connection),
        _stray_versions(connection),
        _stray_examples(connection),
        _altered_texts(connection),
        _half_erased(connection),
        _moved(connection),
        _labels(connection, task),
        _shared_refs(connection),
        _wrong_lengths(connection, STORED[storage].itemsize),
    ]
    if fingerprint is not None:
        known = {fingerprint, *others}
        kinds += [_other_generations(connection, fingerprint, known), _not_embedded(connection, fingerprint)]
    return [sentence for kind in kinds for sentence in _shortened(kind)]


def _shortened(sentences: Iterable[str]) -> Iterator[str]:
    rest = iter(sentences)
    yield from islice(rest, _NAMED)
    more = sum(1 for _ in rest)
    if more:
        yield f"... and {more} more of this kind"


def _gaps(connection: Connection) -> Iterator[str]:
    expected = 1
    for number in connection.execute(select(revisions.c.revision).order_by(revisions.c.revision)).scalars():
        if number < expected:
            yield f"revision {number} is out of range: revisions start at 1"
        elif number == expected + 1:
            yield f"revision {expected} is missing"
        elif number > expected:
            yield f"revisions {expected} to {number - 1} are missing"
        expected = max(expected, number + 1)


def _stray_versions(connection: Connection) -> Iterator[str]:
    known = exists().where(revisions.c.revision == versions.c.revision)
    for number, revision in connection.execute(select(versions.c.example_id, versions.c.revision).where(~known)):
        yield f"example {number} has a version of revision {revision}, which is not in the ledger"


def _stray_examples(connection: Connection) -> Iterator[str]:
    first = func.min(versions.c.revision)
    statement = (
        select(examples.c.id, examples.c.created_revision, first)
        .join_from(examples, versions, examples.c.id == versions.c.example_id, isouter=True)
        .group_by(examples.c.id, examples.c.created_revision)
        .having((first.is_(None)) | (first != examples.c.created_revision))
    )
    for number, created, found in connection.execute(statement):
        what = "has no version" if found is None else f"has its first version at revision {found}"
        yield f"example {number}, made at revision {created}, {what}"


def _altered_texts(connection: Connection) -> Iterator[str]:
    statement = select(texts.c.id, texts.c.text, texts.c.digest).execution_options(yield_per=1000)
    for number, text, digest in connection.execute(statement):
        if digest_of(text) != digest:
            yield f"text {number} is not the one that was written: its SHA-256 is not {digest}"


def _half_erased(connection: Connection) -> Iterator[str]:
    if (revision := erasing(connection)) is not None:
        yield f"the erasure of revision {revision} was interrupted: erase the same examples again to complete it"
    bare = versions.c.text_id.is_(None) & versions.c.labels.is_not(None)
    for number, at in connection.execute(select(versions.c.example_id, versions.c.revision).where(bare)):
        yield f"example {number} has labels and no text at revision {at}"
    used = exists().where(versions.c.text_id == texts.c.id)
    for number in connection.execute(select(texts.c.id).where(~used)).scalars():
        yield f"text {number} belongs to no example"


def _moved(connection: Connection) -> Iterator[str]:
    if (place := moved(connection)) is not None:
        yield f'the examples were moved to {place}: make it the "datastore" in likewise.json'


def _labels(connection: Connection, task: Task) -> Iterator[str]:
    read = label_reader()
    statement = select(versions.c.example_id, versions.c.revision, versions.c.labels)
    for number, revision, stored in connection.execute(statement.where(versions.c.labels.is_not(None))):
        try:
            labels = read(stored)
        except ModelDamaged:
            yield f"example {number} has labels at revision {revision} that are no JSON list: {stored[:80]!r}"
            continue
        if labels_as_stored(labels) != stored:
            yield f"example {number} has labels at revision {revision} that are not sorted or repeat: {stored[:80]!r}"
        elif task == "single" and len(labels) != 1:
            yield f"example {number} has {len(labels)} labels at revision {revision}; this model has exactly one a text"


def _shared_refs(connection: Connection) -> Iterator[str]:
    statement = select(versions.c.ref, func.count()).where(LIVE, versions.c.ref.is_not(None))
    for ref, count in connection.execute(statement.group_by(versions.c.ref).having(func.count() > 1)):
        yield f"the reference {ref!r} belongs to {count} examples; expected one"


def _wrong_lengths(connection: Connection, size: int) -> Iterator[str]:
    expected = embeddings.c.dimension * size
    columns = (embeddings.c.text_id, embeddings.c.fingerprint, embeddings.c.dimension)
    length = func.length(embeddings.c.vector)
    for number, fingerprint, dimension, found in connection.execute(select(*columns, length).where(length != expected)):
        yield (
            f"the embedding of text {number}, generation {fingerprint}, has {found} bytes; expected {dimension * size}"
        )
    sizes = select(embeddings.c.fingerprint, func.count(embeddings.c.dimension.distinct()))
    for fingerprint, count in connection.execute(sizes.group_by(embeddings.c.fingerprint)):
        if count > 1:
            yield f"the embeddings of generation {fingerprint} have {count} different dimensions; expected one"


def _other_generations(connection: Connection, fingerprint: str, known: Collection[str]) -> Iterator[str]:
    statement = select(embeddings.c.text_id, embeddings.c.fingerprint).where(embeddings.c.fingerprint.not_in(known))
    for number, other in connection.execute(statement.order_by(embeddings.c.text_id)):
        yield f"text {number} has an embedding of generation {other}; expected {fingerprint}"


def _not_embedded(connection: Connection, fingerprint: str) -> Iterator[str]:
    there = exists().where(embeddings.c.text_id == versions.c.text_id, embeddings.c.fingerprint == fingerprint)
    statement = select(versions.c.example_id, versions.c.text_id).where(LIVE, ~there)
    for number, text_id in connection.execute(statement.order_by(versions.c.example_id)):
        yield f"example {number} (text {text_id}) has no embedding of generation {fingerprint}: an answer will make it"


def kind_of(store: Store) -> tuple[Task, Storage]:
    """What `meta` says of task and storage, once the store is known to be a ledger that we can read."""

    def facts(connection: Connection) -> dict[str, str] | None:
        tables = inspect(connection).get_table_names()
        if "meta" not in tables:
            if tables:
                raise ModelForeign(f"{store.name}: a database, but no datastore of Likewise; name another file")
            return None
        return {key: value for key, value in connection.execute(select(meta.c.key, meta.c.value))}

    found = store.read(facts)
    if found is None or not {"schema", "task"} <= found.keys() or found["task"] not in get_args(Task):
        raise ModelDamaged(
            f"{store.name}: the datastore is empty or cut short, or there is none; restore it from a backup"
        )
    storage = found.get(STORAGE, "float32")
    with suppress(ValueError):
        if int(found["schema"]) <= SCHEMA_VERSION and storage in STORED:
            return cast(Task, found["task"]), cast(Storage, storage)
    raise ModelNewer(f"{store.name}: the datastore has schema {found['schema']}, this version reads up to "
                     f"{SCHEMA_VERSION}; upgrade likewise")  # fmt: skip
