"""The ledger's queries: each reads on a connection that is given, inside the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import BindParameter, Connection, Select, and_, bindparam, exists, func, select

from likewise.datastore.schema import ERASING, MOVED, meta, revisions, texts, versions
from likewise.errors import ModelDamaged
from likewise.types import Example, ExampleVersion, Revision
from likewise.validation import GREATEST

_Item = TypeVar("_Item")

_CHUNK = 500  # values in one IN list
_PATTERN = 1000  # characters of a label that the database looks for

_later = versions.alias("later")
_at: BindParameter[int] = bindparam("at", value=GREATEST)

NEWEST = and_(
    versions.c.revision <= _at,
    ~exists().where(
        _later.c.example_id == versions.c.example_id, _later.c.revision > versions.c.revision, _later.c.revision <= _at
    ),
)
"""That a row of `versions` is its example's last one up to revision `at`, a parameter; without it, the last of all."""

LIVE = and_(versions.c.labels.is_not(None), NEWEST)
"""The same, and that it does not say that the example is forgotten."""

TEXTS = select(versions.c.example_id, texts.c.text).join_from(versions, texts).where(NEWEST)
"""Ids and texts of all examples that ever were."""

# Built once, because every answer reads them.
_TEXTS_OF = TEXTS.where(versions.c.example_id.in_(bindparam("ids", expanding=True)))
_TOUCHED = (
    select(versions.c.example_id, versions.c.text_id, versions.c.labels)
    .where(versions.c.revision > bindparam("after"), NEWEST)
    .execution_options(yield_per=10_000)
)


_touched = (
    select(versions.c.example_id)
    .where(versions.c.revision > bindparam("target"), versions.c.revision <= bindparam("start"))
    .distinct()
    .subquery("touched")
)
_UNDONE = (
    select(_touched.c.example_id, versions.c.text_id, versions.c.labels)
    .join_from(_touched, versions, and_(versions.c.example_id == _touched.c.example_id, NEWEST), isouter=True)
    .execution_options(yield_per=10_000)
)


@dataclass(frozen=True, slots=True)
class Delta:
    """What became of an example between two revisions: its text and its labels afterwards.

    None: it is forgotten, or, where the way leads back, not there yet; its text is then of no account.
    """

    example_id: int
    text_id: int
    labels: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Version:
    """An example's latest version, as a change needs it."""

    example_id: int
    text_id: int
    digest: str
    labels: tuple[str, ...] | None
    ref: str | None
    source: str | None
    revision: int = field(compare=False)
    """When it became so; two versions are equal where they say the same."""


def chunks(items: Iterable[_Item], size: int = _CHUNK) -> Iterator[list[_Item]]:
    """Lists of at most `size` items."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def possible(ids: Iterable[int]) -> list[int]:
    """The ids that a database can hold, ascending, each once."""
    return sorted({number for number in ids if 0 < number <= GREATEST})


def label_reader() -> Callable[[str], tuple[str, ...]]:
    """A reader of the JSON in versions.labels that gives equal label sets as one tuple. Raises ModelDamaged."""
    seen: dict[str, tuple[str, ...]] = {}

    def read(stored: str) -> tuple[str, ...]:
        if stored not in seen:
            try:
                seen[stored] = tuple(map(str, json.loads(stored)))
            except (ValueError, TypeError) as error:
                raise ModelDamaged(
                    f"the datastore holds labels {stored[:80]!r}, which are no JSON list; restore it from a backup"
                ) from error
        return seen[stored]

    return read


def labels_as_stored(labels: Iterable[str]) -> str:
    """The JSON in versions.labels: sorted, without repeats."""
    return json.dumps(sorted(set(labels)), ensure_ascii=False, separators=(",", ":"))


def last_revision(connection: Connection) -> int:
    """The number of the last change, 0 when there is none."""
    return connection.execute(select(func.max(revisions.c.revision))).scalar_one() or 0


def happened(connection: Connection, actions: Sequence[str], after: int) -> bool:
    """Whether there was a change of one of these kinds after a revision."""
    statement = select(revisions.c.revision).where(revisions.c.revision > after, revisions.c.action.in_(actions))
    return connection.execute(statement.limit(1)).first() is not None


def last_change(connection: Connection) -> tuple[int, str] | None:
    """The number and the moment of the last change; None when there is none."""
    newest = select(revisions.c.revision, revisions.c.at).order_by(revisions.c.revision.desc()).limit(1)
    found = connection.execute(newest).first()
    return None if found is None else (int(found[0]), str(found[1]))


def goes_on(connection: Connection, known: tuple[int, str] | None, upto: int) -> bool:
    """Whether this history has a change of that number and moment, and goes at least as far as `upto`."""
    if known is None:
        return True
    number, moment = known
    at = connection.execute(select(revisions.c.at).where(revisions.c.revision == number)).scalar()
    return at == moment and last_revision(connection) >= upto


def erasing(connection: Connection) -> int | None:
    """The revision of an erasure that was not completed."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == ERASING)).scalar()
    return None if found is None else int(found)


def moved(connection: Connection) -> str | None:
    """The place that the datastore was moved to, None where it was not."""
    return connection.execute(select(meta.c.value).where(meta.c.key == MOVED)).scalar()


def latest_versions(connection: Connection, ids: Iterable[int], at: int = GREATEST) -> dict[int, Version]:
    """The latest versions (up to a revision) of these examples, also of forgotten ones.

    Unknown ids are left out, and those of examples that were erased.
    """
    read = label_reader()
    columns = (
        versions.c.example_id,
        versions.c.text_id,
        texts.c.digest,
        versions.c.labels,
        versions.c.ref,
        versions.c.source,
        versions.c.revision,
    )
    statement = select(*columns).join_from(versions, texts).where(NEWEST)
    found: dict[int, Version] = {}
    for chunk in chunks(possible(ids)):
        for row in connection.execute(statement.where(versions.c.example_id.in_(chunk)), {"at": at}):
            number, text_id, digest, stored, ref, source, revision = row
            labels = None if stored is None else read(stored)
            found[number] = Version(number, text_id, digest, labels, ref, source, revision)
    return found


def text_ids(connection: Connection, digests: Iterable[str]) -> dict[str, int]:
    """The ids of the texts with these digests, as far as there are any."""
    found: dict[str, int] = {}
    for chunk in chunks(sorted(set(digests))):
        rows = connection.execute(select(texts.c.digest, texts.c.id).where(texts.c.digest.in_(chunk)))
        found.update((digest, text_id) for digest, text_id in rows)
    return found


def examples_ever(connection: Connection, with_texts: Iterable[int], with_refs: Iterable[str]) -> set[int]:
    """The ids of examples that have, or once had, one of these texts or references."""
    found: set[int] = set()
    statement = select(versions.c.example_id)
    for numbers in chunks(sorted(set(with_texts))):
        found.update(connection.execute(statement.where(versions.c.text_id.in_(numbers))).scalars())
    for refs in chunks(sorted(set(with_refs))):
        found.update(connection.execute(statement.where(versions.c.ref.in_(refs))).scalars())
    return found


def changes(connection: Connection, after: int, upto: int | None) -> tuple[int, list[Delta]]:
    """The revision reached, at most `upto`, and what every example touched between `after` and there has become, by id.

    An earlier `upto` leads back: the examples are then as they stood at it.
    """
    last = last_revision(connection)
    reached = last if upto is None else min(upto, last)
    read = label_reader()
    if reached >= after:
        rows = connection.execute(_TOUCHED, {"after": after, "at": reached})
    else:
        rows = connection.execute(_UNDONE, {"target": reached, "start": after, "at": reached})
    deltas = [Delta(number, text_id or 0, None if stored is None else read(stored)) for number, text_id, stored in rows]
    return reached, sorted(deltas, key=lambda delta: delta.example_id)


def texts_present(connection: Connection, wanted: Iterable[int]) -> set[int]:
    """Those of these texts that are there, by id."""
    return {
        number
        for chunk in chunks(wanted)
        for number in connection.execute(select(texts.c.id).where(texts.c.id.in_(chunk))).scalars()
    }


def texts_by_id(connection: Connection, wanted: Iterable[int]) -> dict[int, str]:
    """Texts by their own ids; unknown ones are left out."""
    found: dict[int, str] = {}
    for chunk in chunks(sorted(set(wanted)), 4 * _CHUNK):
        rows = connection.execute(select(texts.c.id, texts.c.text).where(texts.c.id.in_(chunk)))
        found.update((number, text) for number, text in rows)
    return found


def last_id(connection: Connection, at: int) -> int:
    """The greatest id that was given up to a revision; 0 when none was."""
    statement = select(func.max(versions.c.example_id)).where(versions.c.revision <= at)
    return connection.execute(statement).scalar_one() or 0


def find_examples(
    connection: Connection,
    *,
    ids: Sequence[int] | None,
    label: str | None,
    ref: str | None,
    contains: str | Sequence[str] | None,
    after_id: int,
    limit: int | None,
    at: int | None,
) -> list[Example]:
    """The live examples (at a revision) that meet all conditions, by id, at most `limit`."""
    number = versions.c.example_id
    columns = (number, texts.c.text, versions.c.labels, versions.c.ref, versions.c.source, versions.c.revision)
    statement = select(*columns).join_from(versions, texts).where(LIVE, number > after_id).order_by(number)
    statement = statement.execution_options(yield_per=1000)  # a page is full long before the last example
    if ref is not None:
        statement = statement.where(versions.c.ref == ref)
    if label is not None:
        # The exact test follows below; this one leaves out most of the rest. SQLite refuses a much longer pattern.
        beginning = json.dumps(label, ensure_ascii=False)[:_PATTERN]
        statement = statement.where(versions.c.labels.contains(beginning, autoescape=True))
    statements: Iterable[Select[Any]] = (
        [statement] if ids is None else (statement.where(number.in_(chunk)) for chunk in chunks(possible(ids)))
    )
    read = label_reader()
    parts = [contains] if isinstance(contains, str) else contains or ()
    folded = [part.casefold() for part in parts]

    def found() -> Iterator[Example]:
        for one in statements:
            for example_id, text, stored, its_ref, source, revision in connection.execute(
                one, {"at": GREATEST if at is None else at}
            ):
                labels = read(stored)
                if (label is None or label in labels) and _has_all(text, folded):
                    yield Example(example_id, text, labels, its_ref, source, revision)

    return list(islice(found(), limit))


def _has_all(text: str, folded: Sequence[str]) -> bool:
    """Whether a text has all these parts, in upper or lower case."""
    if not folded:
        return True
    text = text.casefold()
    return all(part in text for part in folded)


def live_count(connection: Connection, at: int | None = None) -> int:
    """How many examples there are (at a revision)."""
    statement = select(func.count()).select_from(versions).where(LIVE)
    return connection.execute(statement, {"at": GREATEST if at is None else at}).scalar_one()


def label_counts(connection: Connection, at: int | None = None) -> dict[str, int]:
    """How many live examples (at a revision) have each label, by name."""
    read = label_reader()
    counts: dict[str, int] = {}
    statement = select(versions.c.labels, func.count()).where(LIVE).group_by(versions.c.labels)
    rows = connection.execute(statement, {"at": GREATEST if at is None else at})
    for stored, count in rows:
        for label in read(stored):
            counts[label] = counts.get(label, 0) + count
    return dict(sorted(counts.items()))


def labels_ever(connection: Connection) -> set[str]:
    """Every label that an example has or once had, minus what was erased."""
    read = label_reader()
    stored = connection.execute(select(versions.c.labels).where(versions.c.labels.is_not(None)).distinct()).scalars()
    return {label for labels in stored for label in read(labels)}


def live_with_any(connection: Connection, labels: Iterable[str]) -> list[Version]:
    """The live examples that have one of these labels, by id."""
    wanted = set(labels)
    read = label_reader()
    rows = connection.execute(select(versions.c.example_id, versions.c.labels).where(LIVE))
    return sorted(
        latest_versions(connection, [number for number, stored in rows if wanted.intersection(read(stored))]).values(),
        key=lambda version: version.example_id,
    )


def texts_of(connection: Connection, ids: Iterable[int], at: int) -> dict[int, str]:
    """The texts of these examples, also of forgotten ones; unknown ids are left out."""
    found: dict[int, str] = {}
    for chunk in chunks(ids):
        rows = connection.execute(_TEXTS_OF, {"ids": chunk, "at": at})
        found.update((number, text) for number, text in rows)
    return found


def history(connection: Connection, limit: int | None, at: int | None) -> list[Revision]:
    """The last changes (up to a revision), newest first."""
    upto = revisions.c.revision <= (GREATEST if at is None else at)
    statement = select(revisions).where(upto).order_by(revisions.c.revision.desc()).limit(limit)
    return [Revision(*row) for row in connection.execute(statement)]


def life(connection: Connection, example_id: int) -> list[ExampleVersion]:
    """What each change made of an example, newest first; nothing for an unknown one."""
    statement = (
        select(revisions, texts.c.text, versions.c.labels, versions.c.ref, versions.c.source)
        .join_from(versions, revisions, versions.c.revision == revisions.c.revision)
        .join(texts, versions.c.text_id == texts.c.id, isouter=True)
        .where(versions.c.example_id == bindparam("id"))
        .order_by(versions.c.revision.desc())
    )
    read = label_reader()
    width = len(revisions.c)
    found = []
    for row in connection.execute(statement, {"id": example_id}) if possible([example_id]) else ():
        text, stored, ref, source = row[width:]
        labels = None if stored is None else read(stored)
        found.append(ExampleVersion(Revision(*row[:width]), text, labels, ref, source))
    return found


def revision_at(connection: Connection, when: str) -> int:
    """The last revision made at this time or before; 0 when none was. `when` is written as in revisions.at."""
    return connection.execute(select(func.max(revisions.c.revision)).where(revisions.c.at <= when)).scalar_one() or 0
