"""The ledger on a PostgreSQL server: the same rules, many writers, restarts, and what its errors say."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from datastore.test_ledger_history import FINGERPRINT, TEXTS, AnySequenceOfChanges, vector_of
from likewise.datastore.ledger import Ledger, NewExample, is_url
from likewise.datastore.ledger_postgres import PostgresStore
from likewise.datastore.schema import metadata
from likewise.errors import (
    DataError,
    LedgerAway,
    LedgerBusy,
    LedgerError,
    LedgerFull,
    LedgerMoved,
    LedgerReadOnly,
    ModelDamaged,
    ModelForeign,
    ModelNewer,
    UsageError,
)
from likewise.validation import LONGEST_REF
from postgres import Server


@pytest.fixture
def place(server: Server) -> str:
    return server.place()


@pytest.fixture
def ledger(place: str) -> Iterator[Ledger]:
    with Ledger.create(place, task="single", lock_timeout=1) as made:
        yield made


def taught(ledger: Ledger, *texts: str, label: str = "app") -> tuple[int, ...]:
    return ledger.teach([NewExample(text, (label,), None, vector_of(text)) for text in texts], FINGERPRINT).ids


def test_any_sequence_of_changes(server: Server) -> None:
    class OnAServer(AnySequenceOfChanges):
        def place(self) -> str:
            return server.place()

    OnAServer.TestCase.settings = settings(deadline=None, max_examples=8, stateful_step_count=8)
    case = OnAServer.TestCase()
    case.runTest()


def test_it_moves_there_and_back_with_its_history(tmp_path: Path, place: str) -> None:
    with Ledger.create(tmp_path / "datastore.db", task="single") as ledger:
        taught(ledger, *TEXTS)
        ledger.forget([2])
        before = ledger.examples(), ledger.revisions(), ledger.life(2), ledger.vectors([1, 3], FINGERPRINT)
        switched: list[int] = []
        assert ledger.move_to(place, lambda: switched.append(1), by="ada", note="why") == 3
        assert switched == [1]
        assert ledger.moved() == place
        assert ledger.revision() == 3
        for use in (ledger.examples, ledger.labels_ever, lambda: ledger.changes(0), lambda: ledger.texts_of([1])):
            with pytest.raises(LedgerMoved, match="was moved to"):  # what is not here is not nothing
                use()
        with pytest.raises(LedgerMoved, match="was moved to"):
            taught(ledger, "late")
        ledger.scrub()
    raw = (tmp_path / "datastore.db").read_bytes()
    assert b"parcel" not in raw
    with Ledger.open(place) as moved:
        assert (moved.revisions()[0].action, moved.revisions()[0].by) == ("moved", "ada")
        assert (moved.examples(), moved.revisions()[1:], moved.life(2)) == before[:3]
        np.testing.assert_array_equal(moved.vectors([1, 3], FINGERPRINT), before[3])
        assert moved.damage(FINGERPRINT) == []
        assert taught(moved, "one more") == (len(TEXTS) + 1,)  # numbering goes on
        moved.copy_to(tmp_path / "copy.db")
        with pytest.raises(UsageError, match="already"):
            moved.move_to(place, lambda: None)
        moved.move_to(tmp_path / "back.db", lambda: None)
        assert moved.moved() is None  # others may share the server's
        for name, count in (("copy.db", 4), ("back.db", 5)):
            with Ledger.open(tmp_path / name) as back:
                assert back.examples() == moved.examples()
                assert back.revision() == count
                assert back.damage(FINGERPRINT) == []
                assert taught(back, "and one") == (len(TEXTS) + 2,)


WRITER = """
import sys
from likewise.datastore.ledger import Ledger, NewExample
import numpy as np
place, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Ledger.open(place, lock_timeout=60) as ledger:
    for i in range(count):
        text = f"{name} {i}"
        (number,) = ledger.teach([NewExample(text, ("app",), None, np.array([i, 1, 2], np.float32))], "fp").ids
        if i % 3 == 1:
            ledger.relabel([number], [("delivery",)], by=name)
        elif i % 3 == 2:
            ledger.forget([number], by=name)
"""


@pytest.mark.parametrize("kind", ["file", "server"])
def test_many_writers_lose_nothing_and_number_without_gap(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = str(tmp_path / "datastore.db") if kind == "file" else request.getfixturevalue("place")
    with Ledger.create(place, task="single") as ledger:
        count = 30
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, place, name, str(count)], env=dict(os.environ))
            for name in ("ann", "bob", "cid", "dan")
        ]
        assert [writer.wait(120) for writer in writers] == [0] * 4
        expected = {
            f"{name} {i}": ("delivery",) if i % 3 == 1 else ("app",)
            for name in ("ann", "bob", "cid", "dan") for i in range(count) if i % 3 != 2
        }  # fmt: skip
        assert {example.text: example.labels for example in ledger.examples()} == expected
        assert ledger.revision() == 4 * (count + 2 * count // 3)
        assert ledger.damage("fp") == []


@pytest.fixture(params=["file", "server"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in a file, and on a server."""
    place = str(tmp_path / "datastore.db") if request.param == "file" else request.getfixturevalue("place")
    with Ledger.create(place, task="single") as made:
        yield made


@pytest.mark.parametrize(("note", "error"), [(Path("x"), LedgerError), ("\ud800", DataError)])
def test_what_cannot_be_stored_is_no_damage(either: Ledger, note: str, error: type[Exception]) -> None:
    taught(either, *TEXTS)
    with pytest.raises(error) as caught:
        either.forget([1], note=note)
    assert type(caught.value) is error
    if error is DataError:
        with pytest.raises(DataError, match="half a surrogate pair"):
            either.examples(ref=note)
    assert (either.revision(), either.example_count()) == (1, len(TEXTS))


def test_the_longest_references(either: Ledger, place: str) -> None:
    generator = np.random.default_rng(0)
    first, second = ("".join(map(chr, generator.integers(0x4E00, 0x9F00, LONGEST_REF))) for _ in range(2))
    new = [NewExample(text, ("app",), ref, vector_of(text)) for text, ref in zip(TEXTS, (first, second), strict=False)]
    assert either.teach(new, FINGERPRINT).ids == (1, 2)
    assert either.teach(new, FINGERPRINT).known == 2
    assert [example.id for example in either.examples(ref=second)] == [2]
    if not is_url(either.name):
        either.move_to(place, lambda: None)
        with Ledger.open(place) as moved:
            assert [example.id for example in moved.examples(ref=first)] == [1]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("08006", LedgerAway), ("57P01", LedgerAway), ("57P03", LedgerAway), ("53300", LedgerAway),
        ("54000", LedgerError), ("53200", LedgerError), ("58030", LedgerError), ("XX001", LedgerError),
    ],
)  # fmt: skip
def test_only_a_server_that_is_gone_is_away(ledger: Ledger, code: str, error: type[LedgerError]) -> None:
    with pytest.raises(LedgerError, match="on purpose") as caught, ledger._store.write() as connection:
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}'; END $$")
    assert type(caught.value) is error


def test_waiting_for_a_lock_is_bounded(ledger: Ledger, place: str) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with Ledger.open(place) as other, other._store.write():
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    started = time.monotonic()
    with pytest.raises(LedgerBusy, match="another writer"):
        taught(ledger, "late")
    assert time.monotonic() - started < 20
    release.set()
    holder.join()
    assert taught(ledger, "now") == (1,)


def test_a_restart_of_the_server(server: Server, ledger: Ledger) -> None:
    taught(ledger, "before")
    server.stop()
    try:
        for attempt in (ledger.revision, ledger.examples, lambda: taught(ledger, "meanwhile")):
            with pytest.raises(LedgerAway, match="cannot be reached"):
                attempt()
    finally:
        server.start()
    assert taught(ledger, "after") > (1,)  # a server that fell may leave ids out, never give one twice
    assert [example.text for example in ledger.examples()] == ["before", "after"]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert ledger.revision() == 2
            break
        except LedgerAway:  # it is left in peace for a moment
            time.sleep(0.1)
    else:
        pytest.fail("it was not asked again")


def test_announcements(server: Server, ledger: Ledger, place: str) -> None:
    stop, heard = threading.Event(), []

    def listen() -> None:
        with Ledger.open(place) as other:
            heard.extend(other.revision() for _ in other.announcements(stop))

    listener = threading.Thread(target=listen)
    listener.start()
    deadline = time.monotonic() + 20
    while not heard and time.monotonic() < deadline:
        time.sleep(0.05)
    taught(ledger, "something new")
    while heard[-1:] != [1] and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    listener.join(10)
    assert (heard[0], heard[-1]) == (0, 1)


def test_what_it_refuses(server: Server, ledger: Ledger, place: str) -> None:
    with pytest.raises(ModelForeign, match="holds a datastore already"):
        Ledger.create(place, task="single")
    with pytest.raises(ModelDamaged, match="or there is none"):
        Ledger.open(server.place())
    with pytest.raises(UsageError, match="PGPASSWORD") as caught:
        Ledger.open(place.replace("likewise@", "likewise:hush@"))
    assert "hush" not in str(caught.value)
    with pytest.raises(UsageError, match="schema 'x;y'"):
        Ledger.open(place.split("?")[0] + "?schema=x;y")
    with pytest.raises(LedgerAway, match="cannot be reached"):
        Ledger.open(place.replace(f":{server.port}", ":1"))
    with Ledger.open(place, read_only=True) as reader, pytest.raises(LedgerReadOnly):
        taught(reader, "no")
    with pytest.raises(LedgerAway, match="does not exist"):
        Ledger.open(place.replace("/postgres?", "/nowhere?"))


@pytest.mark.parametrize("reads", ["SELECT 1", "SELECT * FROM texts"])
def test_what_was_erased_is_in_no_file(ledger: Ledger, server: Server, reads: str) -> None:
    """Even where another session still saw it: it is waited for, within the lock timeout."""
    store = ledger._store
    assert isinstance(store, PostgresStore)
    numbers = taught(ledger, "the okapi marimba", "another")
    with store.engine.connect() as session:
        session.execution_options(isolation_level="REPEATABLE READ").exec_driver_sql(reads)
        erasure = ledger.erase(numbers[:1])
        with pytest.raises(LedgerBusy):
            ledger.scrub()
        assert len(ledger.examples()) == 1  # nobody else is held up
    assert ledger.erasing() is not None
    ledger.scrub()
    ledger.complete(erasure.revision)
    assert tables(ledger) == sorted(metadata.tables)  # and none of ours besides
    with store.engine.connect() as session:
        session.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("CHECKPOINT")
    for table in ("texts", "versions"):
        with store.engine.connect() as session:
            place = session.exec_driver_sql(f"SELECT pg_relation_filepath('{table}')").scalar_one()
        assert b"okapi" not in (server.folder / "data" / place).read_bytes()


def tables(ledger: Ledger) -> list[str]:
    listed = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"
    found: list[str] = ledger._store.read(lambda connection: connection.exec_driver_sql(listed).scalars().all())  # type: ignore[arg-type,return-value]
    return list(found)


def test_an_erasure_by_whoever_does_not_own_the_tables_is_not_complete(ledger: Ledger, place: str) -> None:
    store = ledger._store
    assert isinstance(store, PostgresStore)
    (number,) = taught(ledger, "the okapi marimba")
    role = f"guest_{store.schema}"
    with store.engine.begin() as connection:
        for right in (
            f"CREATE ROLE {role} LOGIN",
            f"GRANT USAGE, CREATE ON SCHEMA {store.schema} TO {role}",
            f"GRANT ALL ON ALL TABLES IN SCHEMA {store.schema} TO {role}",
        ):
            connection.exec_driver_sql(right)
    with Ledger.open(place.replace("likewise@", f"{role}@"), lock_timeout=1) as guest:
        erasure = guest.erase([number])
        with pytest.raises(LedgerReadOnly, match="only its owner may rewrite it"):
            guest.scrub()
    assert ledger.erasing() == erasure.revision
    ledger.scrub()


def test_one_erasure_does_not_end_another(ledger: Ledger) -> None:
    numbers = taught(ledger, "the okapi marimba", "another")
    first, second = ledger.erase(numbers[:1]), ledger.erase(numbers[1:])
    ledger.complete(first.revision)
    assert ledger.erasing() == second.revision
    assert ledger.erase(numbers[1:]).ids == ()  # which is no error until it is complete
    ledger.complete(second.revision)
    assert ledger.erasing() is None


def test_what_a_killed_scrub_left_is_taken_away(ledger: Ledger) -> None:
    store = ledger._store
    assert isinstance(store, PostgresStore)
    others = f"probe_{round(time.time())}_ab"
    with store.engine.begin() as connection:
        for name in ("probe_1000_ab", others):
            connection.exec_driver_sql(f"CREATE TABLE {name} (mark integer)")
    ledger.scrub()
    assert tables(ledger) == sorted([*metadata.tables, others])  # which may be in use


def test_a_server_that_answered_is_not_away(ledger: Ledger) -> None:
    store = ledger._store
    assert isinstance(store, PostgresStore)
    store._away = time.monotonic() + 60, LedgerAway("a moment ago")
    with pytest.raises(LedgerAway, match="a moment ago"):
        ledger.revision()
    taught(ledger, "a change went through")
    assert ledger.revision() == 1


def test_what_was_erased_is_in_no_table(ledger: Ledger) -> None:
    numbers = taught(ledger, "the secret text", "another")
    ledger.relabel(numbers[:1], [("secret label",)])
    erasure = ledger.erase(numbers[:1])
    ledger.scrub()
    ledger.complete(erasure.revision)

    def everything(connection: object) -> str:
        tables = ("texts", "versions", "embeddings", "examples", "revisions", "meta")
        return repr([connection.exec_driver_sql(f"SELECT * FROM {table}").all() for table in tables])  # type: ignore[attr-defined]

    found = ledger._store.read(everything)
    assert "another" in found
    assert "secret" not in found
    assert ledger.damage(FINGERPRINT) == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM embeddings WHERE text_id = 3", "example 3 (text 3) has no embedding of generation 0123"),
        (
            "UPDATE embeddings SET vector = '\\x00' WHERE text_id = 3",
            "embedding of text 3, generation 0123456789abcdef, has 1 bytes",
        ),
        ("UPDATE texts SET text = 'another' WHERE id = 2", "is not the one that was written"),
        ("UPDATE versions SET labels = '[1' WHERE example_id = 4", "has labels at revision 1 that are no JSON"),
        ("DELETE FROM versions WHERE example_id = 4", "example 4, made at revision 1, has no version"),
        ("DROP TABLE embeddings", "not a whole one"),
    ],
)
def test_damage_on_a_server_is_named(ledger: Ledger, statement: str, found: str) -> None:
    taught(ledger, *TEXTS)
    assert ledger.damage(FINGERPRINT) == []
    with ledger._store.write() as connection:
        connection.exec_driver_sql(statement)
    assert any(found in sentence for sentence in ledger.damage(FINGERPRINT))


def test_what_is_broken_on_a_server_is_an_error_and_no_answer(ledger: Ledger, place: str) -> None:
    taught(ledger, *TEXTS)

    def run(*statements: str) -> None:
        with ledger._store.write() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    run("UPDATE embeddings SET vector = '\\x0000' WHERE text_id = 2")
    with pytest.raises(ModelDamaged, match="embedding of text 2"):
        ledger.vectors([1, 2], FINGERPRINT)
    run("CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER full_disk BEFORE INSERT ON texts EXECUTE FUNCTION full_disk()")  # fmt: skip
    with pytest.raises(LedgerFull, match="nothing was written"):
        taught(ledger, "one more")
    assert ledger.revision() == 1
    run("UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(ModelNewer):
        Ledger.open(place)
    run("DROP TABLE versions")
    with pytest.raises(ModelDamaged, match="restore it from a backup"):
        ledger.examples()


def test_no_text_and_no_password_in_errors_and_logs(
    server: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hush-hush")
    with Ledger.create(place, task="single") as ledger:
        taught(ledger, "a private message")
        assert "hush" not in ledger.name
        with pytest.raises(LedgerError) as caught, ledger._store.write() as connection:
            connection.exec_driver_sql("INSERT INTO texts (text, digest) VALUES ('a private message', NULL)")
        assert "hush" not in str(caught.value)
        server.stop()
        server.start()
    assert "hush" not in server.log()


def test_the_copy_of_a_server_s_ledger_is_a_sqlite_file(ledger: Ledger, tmp_path: Path) -> None:
    taught(ledger, *TEXTS)
    ledger.copy_to(tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "copy.db") as raw:
        assert raw.execute("SELECT count(*) FROM texts").fetchone() == (len(TEXTS),)
    with pytest.raises(ModelForeign):
        ledger.copy_to(tmp_path / "copy.db")
