"""How a change is written: each function works on a connection that is given, inside the caller's write transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, insert, select, update

from likewise.datastore.ledger_embeddings import write_vectors
from likewise.datastore.ledger_reading import (
    Version,
    changes,
    chunks,
    erasing,
    labels_as_stored,
    last_revision,
    latest_versions,
    live_with_any,
    possible,
)
from likewise.datastore.schema import ERASING, MOVED, embeddings, examples, meta, revisions, texts, versions
from likewise.datastore.teaching import Slot
from likewise.errors import ExampleChanged, ExampleError
from likewise.types import Change, Erasure, Storage

_ROWS = 1000  # rows handed to the database at once


def write_taught(
    connection: Connection,
    changed: Sequence[Slot],
    known_texts: Mapping[str, int],
    entries: Sequence[tuple[str, bytes]],
    fingerprint: str,
    storage: Storage,
    source: str | None,
    by: str | None,
    note: str | None,
) -> int:
    """Write what teaching changed and return its revision; new examples get their ids.

    `known_texts` maps digests to the ids of the texts that are there; `entries` are the texts and vectors as taught.
    """
    ids_of_texts = {**known_texts, **_write_texts(connection, changed, known_texts, entries)}
    _write_embeddings(connection, changed, ids_of_texts, entries, fingerprint, storage)
    revision = write_revision(connection, "taught", len(changed), by, note)
    new = [slot for slot in changed if slot.example_id is None]
    if new:
        statement = insert(examples).returning(examples.c.id, sort_by_parameter_order=True)
        made = connection.execute(statement, [{"created_revision": revision}] * len(new)).scalars()
        for slot, number in zip(new, made, strict=True):
            slot.example_id = number
    after = (
        Version(id_of(slot), ids_of_texts[now.digest], now.digest, now.labels, now.ref, source, revision)
        for slot, now in ((slot, slot.now) for slot in changed)
    )
    _write_versions(connection, revision, after)
    return revision


def record(
    connection: Connection,
    action: str,
    listed: Sequence[int],
    before: Mapping[int, Version],
    wanted: Mapping[int, tuple[str, ...] | None],
    by: str | None,
    note: str | None,
) -> Change:
    """Give examples the wanted labels (None: forget them) as one change; nothing differs: no revision."""
    after = [replace(before[number], labels=labels) for number, labels in sorted(wanted.items())]
    changed = [version for version in after if version != before[version.example_id]]
    if changed:
        revision = write_revision(connection, action, len(changed), by, note)
        _write_versions(connection, revision, changed)
    else:
        revision = last_revision(connection)
    return Change(revision, tuple(listed), updated=len(changed), known=len(after) - len(changed))


def exchange(connection: Connection, action: str, olds: set[str], new: str, by: str | None, note: str | None) -> Change:
    """Put one label in the place of others wherever they stand."""
    before = {version.example_id: version for version in live_with_any(connection, olds)}
    wanted = {number: tuple(sorted({new, *(version.labels or ())} - olds)) for number, version in before.items()}
    return record(connection, action, list(before), before, wanted, by, note)


def revert(connection: Connection, target: int, by: str | None, note: str | None) -> Change:
    """Make every example what it was at the target revision, as one change; `ids` are those that it changes."""
    _, undone = changes(connection, last_revision(connection), target)
    now = latest_versions(connection, [delta.example_id for delta in undone])  # what was erased does not come back
    listed = sorted(now)
    then = latest_versions(connection, listed, at=target)
    after = [then.get(number, replace(now[number], labels=None)) for number in listed]
    changed = [version for version in after if version != now[version.example_id]]
    if not changed:
        return Change(last_revision(connection), ())
    said = f"to revision {target}" + (f": {note}" if note else "")
    revision = write_revision(connection, "reverted", len(changed), by, said)
    _write_versions(connection, revision, changed)
    return Change(revision, tuple(version.example_id for version in changed), updated=len(changed))


def erase(connection: Connection, ids: Sequence[int], by: str | None, note: str | None) -> Erasure:
    """Take everything that examples ever were out of the tables but their ids; forgotten ones may be erased too.

    Texts and embeddings go, unless another example has the same text. Until `complete` is called the ledger says
    that an erasure is under way, and erasing the same examples again is no error.
    """
    listed = sorted(set(ids))
    texts_by_example: dict[int, set[int]] = {}
    for chunk in chunks(possible(listed)):
        columns = select(versions.c.example_id, versions.c.text_id).where(versions.c.example_id.in_(chunk))
        for number, text_id in connection.execute(columns):
            texts_by_example.setdefault(number, set()).update(() if text_id is None else (text_id,))
    under_way = erasing(connection) is not None
    for number in listed:
        if number not in texts_by_example:
            raise ExampleError(f"there is no example {number}; nothing was erased, look up the ids and try again")
        if not (texts_by_example[number] or under_way):
            raise ExampleError(f"example {number} was erased already; nothing was erased, leave it out and try again")
    present = [number for number in listed if texts_by_example[number]]
    if not present:
        return Erasure(last_revision(connection), ())
    revision = write_revision(connection, "erased", len(present), by, note)
    for chunk in chunks(present):
        blank = update(versions).where(versions.c.example_id.in_(chunk))
        connection.execute(blank.values(text_id=None, labels=None, ref=None, source=None))
    connection.execute(insert(versions), [{"example_id": number, "revision": revision} for number in present])
    shared: set[int] = set()
    for chunk in chunks(sorted(set().union(*texts_by_example.values()))):
        users = connection.execute(
            select(versions.c.text_id, versions.c.example_id).where(versions.c.text_id.in_(chunk)).distinct()
        ).all()
        shared.update(number for _, number in users)
        unused = sorted(set(chunk) - {text_id for text_id, _ in users})
        connection.execute(delete(embeddings).where(embeddings.c.text_id.in_(unused)))
        connection.execute(delete(texts).where(texts.c.id.in_(unused)))
    complete(connection, revision)
    connection.execute(insert(meta), {"key": ERASING, "value": str(revision)})
    return Erasure(revision, tuple(present), tuple(sorted(shared)))


def complete(connection: Connection, upto: int) -> None:
    """Write that no erasure up to a revision is under way."""
    under_way = erasing(connection)
    if under_way is not None and under_way <= upto:
        connection.execute(delete(meta).where(meta.c.key == ERASING))


def required(connection: Connection, ids: Iterable[int], seen: int | None = None) -> dict[int, Version]:
    """The latest versions of these examples. Raises ExampleError for one that is unknown or forgotten.

    With `seen`, ExampleChanged for one whose latest version came after that revision.
    """
    listed = list(ids)
    found = latest_versions(connection, listed)
    for number in listed:
        if number not in found:
            if connection.execute(select(examples.c.id).where(examples.c.id.in_(possible([number])))).first():
                raise ExampleError(f"example {number} was erased; nothing was changed, leave it out and try again")
            raise ExampleError(f"there is no example {number}; nothing was changed, look up the ids and try again")
        if found[number].labels is None:
            raise ExampleError(
                f"example {number} was forgotten already; nothing was changed, leave it out and try again"
            )
        if seen is not None and found[number].revision > seen:
            raise ExampleChanged(
                f"example {number} was changed at revision {found[number].revision}, after revision {seen}, the last "
                "one that was seen; nothing was changed, look at it again"
            )
    return found


def id_of(slot: Slot) -> int:
    """The id of a slot's example, which is written by now."""
    assert slot.example_id is not None
    return slot.example_id


def _write_texts(
    connection: Connection, changed: Sequence[Slot], known: Mapping[str, int], entries: Sequence[tuple[str, bytes]]
) -> dict[str, int]:
    """Write the texts that are not there yet; their ids by digest."""
    new = {slot.now.digest: entries[slot.entry][0] for slot in changed if slot.now.digest not in known}
    if not new:
        return {}
    statement = insert(texts).returning(texts.c.id, sort_by_parameter_order=True)
    rows = [{"text": text, "digest": digest} for digest, text in new.items()]
    return dict(zip(new, connection.execute(statement, rows).scalars(), strict=True))


def _write_embeddings(
    connection: Connection,
    changed: Sequence[Slot],
    ids_of_texts: Mapping[str, int],
    entries: Sequence[tuple[str, bytes]],
    fingerprint: str,
    storage: Storage,
) -> None:
    """Write the embeddings of this generation that the changed examples' texts do not have yet."""
    wanted = {ids_of_texts[slot.now.digest]: slot.entry for slot in changed if slot.now.labels is not None}
    write_vectors(connection, {text_id: entries[entry][1] for text_id, entry in wanted.items()}, fingerprint, storage)


def leave(connection: Connection, for_place: str) -> None:
    """Delete all but the revisions, and write where the datastore was moved to."""
    for table in (versions, embeddings, texts, examples):
        connection.execute(delete(table))
    connection.execute(insert(meta), {"key": MOVED, "value": for_place})


def write_revision(connection: Connection, action: str, touched: int, by: str | None, note: str | None) -> int:
    """Write the next revision, of now; its number."""
    number = last_revision(connection) + 1
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    values = {"revision": number, "at": now, "action": action, "by": by, "note": note, "examples": touched}
    connection.execute(insert(revisions), values)
    return number


def _write_versions(connection: Connection, revision: int, after: Iterable[Version]) -> None:
    """Write what the examples are from this revision on."""

    def rows() -> Iterator[dict[str, object]]:
        for version in after:
            labels = None if version.labels is None else labels_as_stored(version.labels)
            yield {"example_id": version.example_id, "revision": revision, "text_id": version.text_id,
                   "labels": labels, "ref": version.ref, "source": version.source}  # fmt: skip

    for chunk in chunks(rows(), _ROWS):
        connection.execute(insert(versions), chunk)
