"""The ledger's file: durability, atomicity, several processes, and copies."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from datastore.entries import FINGERPRINT, entry
from likewise.datastore.ledger import Ledger
from likewise.errors import (
    LedgerBusy,
    LedgerError,
    LedgerFull,
)


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as raw:
        return int(raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


TABLES = ["revisions", "texts", "embeddings", "examples", "versions"]


def test_every_connection_is_durable_and_checked(ledger: Ledger) -> None:
    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    with ledger._store.write() as connection:
        assert pragmas(connection) == ["wal", 2, 1]
    assert ledger._store.read(pragmas) == ["wal", 2, 1]


def test_foreign_keys_hold(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="FOREIGN KEY"), ledger._store.write() as connection:
        connection.exec_driver_sql("INSERT INTO examples (created_revision) VALUES (99)")
    assert ledger.damage() == []


@pytest.mark.parametrize("table", ["texts", "embeddings", "revisions", "examples", "versions"])
def test_an_error_in_the_middle_writes_nothing(ledger: Ledger, path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as raw:
        limit = raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] + (0 if table == "revisions" else 2)
        raw.execute(
            f"CREATE TRIGGER broken BEFORE INSERT ON {table} WHEN (SELECT count(*) FROM {table}) >= {limit} "
            "BEGIN SELECT RAISE(ABORT, 'broken on purpose'); END"
        )
        raw.commit()
    before = {name: count(path, name) for name in TABLES}
    with pytest.raises(LedgerError, match="broken on purpose"):
        ledger.teach([entry(f"new {i}") for i in range(5)], FINGERPRINT)
    assert {name: count(path, name) for name in TABLES} == before
    assert ledger.revision() == 1
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TRIGGER broken")
        raw.commit()
    assert ledger.teach([entry("new")], FINGERPRINT).revision == 2


def test_a_full_disk_is_said_and_nothing_is_written(ledger: Ledger, path: Path) -> None:
    def small(connection: sqlite3.Connection, record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")

    event.listen(ledger._store.engine, "connect", small)
    ledger._store.engine.dispose()
    before = {name: count(path, name) for name in TABLES}
    with pytest.raises(LedgerFull, match="disk is full, nothing was written"):
        ledger.teach([entry(f"new {i} " + "x" * 3000) for i in range(20)], FINGERPRINT)
    assert {name: count(path, name) for name in TABLES} == before
    assert ledger.revision() == 1 and ledger.damage(FINGERPRINT) == []
    event.remove(ledger._store.engine, "connect", small)
    ledger._store.engine.dispose()
    assert ledger.teach([entry("room again")], FINGERPRINT).revision == 2


# Several processes

HOLD_THE_LOCK = """
import sqlite3, sys
raw = sqlite3.connect(sys.argv[1], isolation_level=None)
raw.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
raw.execute("ROLLBACK")
"""

TEACH = """
import sys
import numpy as np
from likewise.datastore.ledger import Ledger, NewExample
path, name, many = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Ledger.open(path, lock_timeout=60) as ledger:
    for i in range(many):
        new = [NewExample(f"{name} {i} {j}", ("a",), None, np.ones(384, dtype=np.float32)) for j in range(3)]
        change = ledger.teach(new, "fp", by=name)
        print(change.revision, *change.ids, flush=True)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_held_lock_is_waited_for_only_so_long(ledger: Ledger, path: Path) -> None:
    with start(HOLD_THE_LOCK, path) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(LedgerBusy, match="another writer holds its lock, nothing was written"):
            ledger.teach([entry("new")], FINGERPRINT)
        waited = time.monotonic() - began
        assert 0.2 <= waited < 30
        assert ledger.revision() == 1 and len(ledger.examples()) == 20  # reading goes on
        holder.communicate("\n")
    assert ledger.teach([entry("new")], FINGERPRINT).revision == 2


def test_two_processes_write_without_gap_or_repeat(ledger: Ledger, path: Path) -> None:
    with start(TEACH, path, "left", 40) as left, start(TEACH, path, "right", 40) as right:
        printed = left.communicate()[0] + right.communicate()[0]
    assert left.returncode == right.returncode == 0
    lines = [list(map(int, line.split())) for line in printed.splitlines()]
    assert sorted(line[0] for line in lines) == list(range(2, 82))
    ids = [number for line in lines for number in line[1:]]
    assert len(set(ids)) == 240 and min(ids) == 21
    assert ledger.revision() == 81 and ledger.example_count() == 260
    assert ledger.damage(FINGERPRINT) == []


@pytest.mark.parametrize("after_lines", [1, 3, 8])
def test_a_killed_writer_loses_nothing_acknowledged(ledger: Ledger, path: Path, after_lines: int) -> None:
    ledger.close()
    with start(TEACH, path, "killed", 100_000) as writer:
        assert writer.stdout is not None
        printed = [writer.stdout.readline() for _ in range(after_lines)]
        time.sleep(0.005 * after_lines)
        writer.send_signal(signal.SIGKILL)
        printed += writer.stdout.readlines()
    acknowledged = [list(map(int, line.split())) for line in printed if line.endswith("\n")]
    with Ledger.open(path) as again:
        held = {e.id: (e.text, e.labels, e.revision) for e in again.examples(after_id=20)}
        for i, (revision, *ids) in enumerate(acknowledged):
            assert [held[number] for number in ids] == [(f"killed {i} {j}", ("a",), revision) for j in range(3)]
        # At most the one change that was under way is there as well, and whole.
        assert again.revision() - 1 in (len(acknowledged), len(acknowledged) + 1)
        assert len(held) == 3 * (again.revision() - 1)
        assert again.damage(FINGERPRINT) == []
        assert again.teach([entry("goes on")], FINGERPRINT).revision == again.revision()


def test_threads_share_a_ledger(path: Path) -> None:
    failures: list[BaseException] = []
    with Ledger.create(path, task="single") as ledger:

        def work(name: int) -> None:
            try:
                for i in range(15):
                    change = ledger.teach([entry(f"{name} {i}")], FINGERPRINT)
                    assert ledger.revision() >= change.revision
                    assert ledger.texts_of(change.ids) == {change.ids[0]: f"{name} {i}"}
                    reached, deltas = ledger.changes(0)
                    assert len(deltas) == reached
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert ledger.revision() == 90 and ledger.damage(FINGERPRINT) == []


FORK = """
import os, sys
from likewise.datastore.ledger import Ledger
from likewise.errors import LedgerError
with Ledger.open(sys.argv[1]) as ledger:
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        ledger.forget([1])
    else:
        for use in (ledger.revision, ledger.labels, lambda: ledger.forget([1])):
            try:
                use()
            except LedgerError as error:
                assert "forked" in str(error)
            else:
                raise AssertionError("used in a forked process")
"""


def test_a_forked_process_must_open_the_ledger_itself(ledger: Ledger, path: Path) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, path], check=True)
    assert ledger.revision() == 2


# Light


def test_the_object_mapper_is_not_imported(ledger: Ledger, path: Path) -> None:
    program = """
import sys
from likewise.datastore.ledger import Ledger
with Ledger.open(sys.argv[1]) as ledger:
    ledger.forget([1]), ledger.examples(), ledger.changes(0)
assert "sqlalchemy" in sys.modules and "sqlalchemy.orm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, path], check=True)


# Copies and closing


def test_a_copy_is_whole_independent_and_sound(ledger: Ledger, tmp_path: Path) -> None:
    ledger.forget([1])
    ledger.copy_to(tmp_path / "copy.db")
    with Ledger.open(tmp_path / "copy.db") as copy:
        assert copy.task == "single"
        assert copy.revisions() == ledger.revisions() and copy.examples() == ledger.examples()
        assert copy.damage(FINGERPRINT) == []
        copy.forget([2])
        assert ledger.revision() == 2 and copy.revision() == 3
    with pytest.raises(LedgerError):
        ledger.copy_to(tmp_path / "nowhere" / "copy.db")


def test_closing_leaves_one_file(ledger: Ledger, path: Path) -> None:
    ledger.close()
    ledger.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with pytest.raises(LedgerError, match="was closed"):
        ledger.revision()
