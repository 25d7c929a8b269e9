"""A ledger on a PostgreSQL server: how it is reached, read, written, and what its errors mean.

A ledger is a schema of a database: `postgresql://user@host/database?schema=name` ("likewise" when none is named).
Passwords come from where libpq takes them (PGPASSWORD, PGPASSFILE, ~/.pgpass), never from the URL, so that none gets
into a file, a log or a message. Writers take turns by an advisory lock of the schema; a reader sees one state of the
ledger through a whole transaction. Connections that a restart of the server has broken are made anew.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, func, inspect, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, PendingRollbackError
from sqlalchemy.schema import CreateSchema

from likewise.datastore import ledger_reading as reading
from likewise.datastore.schema import metadata, revisions
from likewise.datastore.store import copy_rows, not_unicode
from likewise.errors import (
    LedgerAway,
    LedgerBusy,
    LedgerError,
    LedgerFull,
    LedgerReadOnly,
    LedgerUnsure,
    LikewiseError,
    MissingExtra,
    ModelDamaged,
    ModelForeign,
    UsageError,
)

_Result = TypeVar("_Result")

DEFAULT_SCHEMA = "likewise"
CONNECT_SECONDS = 5
"""How long a server may take to answer the first knock."""
LISTEN_SECONDS = 0.5
"""How soon a listener notices that it is to stop."""
PAUSE = 1.0
"""Seconds for which a server that could not be reached is left in peace before an answer asks for it again."""
PATIENCE = 5.0
"""Seconds that a server may take to say its revision; one that hangs is as good as away."""
MOMENT = 0.4
"""Seconds that a rewrite waits for a table before it lets others go first."""
PROBE = "probe_"
"""How the tables are named by which a scrub finds out whether anybody sees what was deleted."""
LOST_MS = 10_000
"""Milliseconds after which a connection counts as broken whose other side does not confirm what was sent."""

_NO_LOCK = "55P03"
_BUSY = {_NO_LOCK, "40P01", "57014"}  # lock not available, deadlock, cancelled by a timeout
_FULL = {"53100"}
_READ_ONLY = {"25006", "42501"}  # read-only transaction, insufficient privilege
_MISSING = {"42P01", "3F000", "42703"}  # table, schema, column
_AWAY = ("08", "57P0", "53300")  # how codes begin: no connection, shut down or starting, too many connections


def knock(_: Connection) -> None:
    """Nothing more to ask: the server has answered when a connection is there, new or pinged (`pool_pre_ping`)."""


def address(location: str) -> tuple[URL, str]:
    """The server's address and the schema. UsageError, without what is secret in it, for a URL that cannot be."""
    try:
        url = make_url(location)
    except (ArgumentError, ValueError) as error:
        raise UsageError("the datastore's URL cannot be read; expected postgresql://user@host/database") from error
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise UsageError(f"the datastore's URL begins with {url.drivername!r}; expected postgresql://")
    if url.password is not None or "password" in url.query:
        raise UsageError("the datastore's URL holds a password, which would end in files and logs; leave it out there "
                         "and set PGPASSWORD, or use ~/.pgpass")  # fmt: skip
    schema = url.query.get("schema", DEFAULT_SCHEMA)
    if not isinstance(schema, str) or not re.fullmatch("[a-z_][a-z0-9_]{0,62}", schema):
        raise UsageError(f"schema {schema!r}: expected small letters, digits and underscores")
    return url.set(drivername="postgresql").difference_update_query(["schema"]), schema


class PostgresStore:
    """Connections to one schema of a PostgreSQL database."""

    def __init__(self, location: str, *, read_only: bool, lock_timeout: float) -> None:
        self._url, self.schema = address(location)
        self.location = location
        try:
            import psycopg
        except ImportError as error:
            raise MissingExtra(
                "a datastore on PostgreSQL needs psycopg; run: pip install 'likewise[postgresql]'"
            ) from error
        self._psycopg: Any = psycopg
        self.read_only = read_only
        self._lock_timeout = lock_timeout
        self._process = os.getpid()
        self._closed = threading.Event()
        self._over = threading.Event()  # closed, or left
        self._away: tuple[float, LedgerAway] | None = None  # until when, and why
        self._asked: Future[Any] | None = None  # a question that was not answered in time
        self.engine = create_engine(
            self._url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            max_overflow=-1,
            hide_parameters=True,  # texts belong into no log
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "tcp_user_timeout": LOST_MS,
                "application_name": "likewise",
                "options": f"-c search_path={self.schema} -c synchronous_commit=on -c client_encoding=UTF8",
            },
        )
        self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @classmethod
    def open(cls, location: str, *, read_only: bool, lock_timeout: float) -> PostgresStore:
        """Connect to a server. LedgerAway where it cannot be reached."""
        store = cls(location, read_only=read_only, lock_timeout=lock_timeout)
        try:
            store.patiently(knock)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def create(cls, location: str, *, lock_timeout: float, fill: Callable[[Connection], None]) -> PostgresStore:
        """Make the schema where it is missing, and in it the tables, filled as one transaction.

        ModelForeign when there is a datastore already.
        """
        store = cls(location, read_only=False, lock_timeout=lock_timeout)
        try:
            store.refuse_taken()
            with store.translated(), store.engine.begin() as connection:
                if not inspect(connection).has_schema(store.schema):
                    connection.execute(CreateSchema(store.schema, if_not_exists=True))
            with store.write() as connection:
                store.refuse_taken()  # once more, now that nobody else can make it
                metadata.create_all(connection, checkfirst=False)
                fill(connection)
        except BaseException:
            store.close()
            raise
        return store

    def refuse_taken(self) -> None:
        """ModelForeign where the schema holds a ledger."""
        if self.patiently(lambda connection: inspect(connection).has_table("meta", schema=self.schema)):
            raise ModelForeign(f"{self.name} holds a datastore already; name another schema: "
                               "postgresql://.../database?schema=NAME")  # fmt: skip

    @property
    def name(self) -> str:
        return str(self._url.update_query_dict({"schema": self.schema}))

    def read(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run `work` in one read transaction; see Store."""
        self._usable()
        with self.translated():
            return self._read(work)

    def _read(self, work: Callable[[Connection], _Result]) -> _Result:
        with self._connected(self._reading) as connection:
            with connection.begin():
                found = work(connection)
            self._away = None
            return found

    @contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        with engine.connect() as connection:
            try:
                yield connection
            finally:
                if self._over.is_set():  # meanwhile: it has no pool to go back to
                    connection.invalidate()

    def revision(self) -> int:
        """The number of the last change. LedgerAway at once where the server was away a moment ago."""
        if self._away is not None and time.monotonic() < self._away[0]:
            raise LedgerAway(str(self._away[1]))
        try:
            found = self.patiently(lambda connection: connection.scalar(select(func.max(revisions.c.revision))))
        except LedgerAway as error:
            self._away = (time.monotonic() + PAUSE, error)
            raise
        return int(found or 0)

    def texts_of(self, ids: Sequence[int], at: int) -> dict[int, str]:
        """The texts of examples; see Store."""
        return self.read(lambda connection: reading.texts_of(connection, ids, at))

    def patiently(self, work: Callable[[Connection], _Result], done: str = "") -> _Result:
        """`read`, but LedgerAway where the server says nothing for `PATIENCE` seconds.

        A thread of its own waits for it: nothing else gets a caller out of a connection whose other side hangs.
        """

        def run(answer: Future[_Result]) -> None:
            try:
                answer.set_result(self._read(work))
            except BaseException as error:
                answer.set_exception(error)

        self._usable()
        silent = LedgerAway(f"{self.name}: the server does not answer, {done}try again when it does")
        if self._asked is not None and not self._asked.done():
            raise silent
        answer: Future[_Result] = Future()
        threading.Thread(target=run, args=(answer,), name="likewise question", daemon=True).start()
        try:
            with self.translated(done):
                return answer.result(PATIENCE)
        except TimeoutError as error:
            self._asked = answer
            raise silent from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction; see Store. LedgerAway where it may have been committed all the same says so."""
        if self.read_only:
            raise LedgerReadOnly(f"{self.name}: opened for reading only, nothing was written")
        self._usable()
        self.patiently(knock, "nothing was written; ")  # a server that hangs is found out before anything is at stake
        with self.translated("nothing was written; "), self._connected(self.engine) as connection:
            change = connection.begin()
            try:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{max(1, round(self._lock_timeout * 1000))}ms'")
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended(current_schema(), 0))")
                yield connection
                connection.exec_driver_sql(f"NOTIFY {self._channel}")
            except BaseException:
                with suppress(DBAPIError):
                    change.rollback()
                raise
            self._commit(change)

    def _commit(self, change: Any) -> None:
        try:
            change.commit()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise LedgerUnsure(f"{self.name}: the connection broke while the change was committed, it may be there or "
                               "not; look at the history before you try again") from error  # fmt: skip

    def copy_to(self, path: Path) -> None:
        """Copy the present state into a new SQLite file. ModelForeign when something is there."""
        from likewise.datastore.ledger_sqlite import SqliteStore

        def copy(connection: Connection) -> None:
            SqliteStore.create(
                path, lock_timeout=self._lock_timeout, fill=lambda target: copy_rows(connection, target)
            ).close()

        self.read(copy)

    def scrub(self) -> None:
        """Rewrite the tables without what was deleted. The server's own log and its backups are not reached.

        Raises LedgerBusy where that would keep deleted rows for a transaction that may see them still, or where one
        holds a table, for longer than the lock timeout.
        """
        self._usable()
        until = time.monotonic() + self._lock_timeout
        with self.translated(), self._connected(self.engine) as connection:
            outside = connection.execution_options(isolation_level="AUTOCOMMIT")
            # A rewrite that waits holds up whoever reads after it: it asks again and again, for a moment each.
            outside.exec_driver_sql(f"SET lock_timeout = '{round(MOMENT * 1000)}ms'")
            try:
                self._outwait(outside, until)
                for table in metadata.sorted_tables:
                    while not _rewritten(outside, f"{self.schema}.{table.name}", until):
                        time.sleep(MOMENT)
            finally:
                with suppress(DBAPIError, PendingRollbackError):  # where the connection is lost
                    outside.exec_driver_sql("RESET lock_timeout")

    def _outwait(self, outside: Connection, until: float) -> None:
        """Return once no transaction is left that sees rows deleted before now. LedgerBusy where that takes too long.

        Nobody else may be told which transactions there are. So a row is deleted: its page can be given back as soon as
        no one sees it any more. (Not of a temporary table, which others cannot see.)
        """
        probe = f"{self.schema}.{PROBE}{round(time.time())}_{secrets.token_hex(8)}"
        self._drop_probes(outside)  # those that a kill has left
        outside.exec_driver_sql(f"CREATE TABLE {probe} (mark integer)")
        try:
            outside.exec_driver_sql(f"INSERT INTO {probe} VALUES (1)")
            outside.exec_driver_sql(f"DELETE FROM {probe}")
            while True:
                outside.exec_driver_sql(f"VACUUM (TRUNCATE) {probe}")
                if not outside.exec_driver_sql(f"SELECT pg_relation_size('{probe}')").scalar():
                    return
                if time.monotonic() > until:
                    raise LedgerBusy(f"{self.name}: a transaction that began before now still sees what was deleted; "
                                     "end it, or try again later")  # fmt: skip
                time.sleep(MOMENT / 4)
        finally:
            with suppress(DBAPIError, PendingRollbackError):  # where the connection is lost
                outside.exec_driver_sql(f"DROP TABLE IF EXISTS {probe}")

    def _drop_probes(self, outside: Connection) -> None:
        """Drop the probes of scrubs that were killed: those of an hour ago and more."""
        for name in inspect(outside).get_table_names(self.schema):
            ours = re.fullmatch(f"{PROBE}([0-9]+)_[0-9a-f]+", name)
            if ours and int(ours[1]) < time.time() - 3600:
                outside.exec_driver_sql(f"DROP TABLE IF EXISTS {self.schema}.{name}")

    def integrity(self) -> list[str]:
        """Nothing: the server looks after pages, indices and foreign keys."""
        return []

    @property
    def _channel(self) -> str:
        return f"likewise_{self.schema}"[:63]

    def announcements(self, stop: threading.Event) -> Iterator[None]:
        """One item whenever a change may have been made; see Store. On a connection of its own."""
        try:
            with self._psycopg.connect(
                str(self._url), autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="likewise follower"
            ) as connection:
                connection.execute(f"LISTEN {self._channel}")
                yield  # whatever was announced before we listened
                while not (stop.is_set() or self._closed.is_set()):
                    for _ in connection.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                        yield
        except self._psycopg.Error as error:
            raise self._refusal(error, "") from error

    def lies_there(self) -> bool:
        """Yes: a schema has no other identity than its name."""
        return True

    def rest(self) -> None:
        """Give up the connections that nobody uses, and those in use after that."""
        self._over.set()
        self.engine.dispose()

    def close(self) -> None:
        """Close the connections."""
        self._closed.set()
        self._over.set()
        if os.getpid() == self._process:
            self.engine.dispose()

    def _usable(self) -> None:
        if self._closed.is_set():
            raise LedgerError(f"{self.name}: the ledger was closed; open the model again")
        if os.getpid() != self._process:
            raise LedgerError(f"{self.name}: opened before this process was forked; open the model again in it")

    @contextmanager
    def translated(self, done: str = "") -> Iterator[None]:
        """Turn what the server says into our errors, each naming it and what to do next."""
        try:
            yield
        except DBAPIError as error:
            raise self._refusal(error.orig, done) from error
        except UnicodeEncodeError as error:
            raise not_unicode(error) from error

    def _refusal(self, error: BaseException | None, done: str) -> LikewiseError:
        """Our error for one of the server's, by its code (PostgreSQL's documentation, appendix A)."""
        code = getattr(error, "sqlstate", None)
        said = " ".join(str(error).split())[:300]
        if code in _BUSY:
            return LedgerBusy(f"{self.name}: another writer holds its lock, nothing was written; "
                              "try again later, or wait longer with the setting lock_timeout")  # fmt: skip
        if code in _FULL:
            return LedgerFull(f"{self.name}: the server's disk is full, nothing was written; make room and try again")
        if code in _READ_ONLY:
            return LedgerReadOnly(f"{self.name}: it may not be written by this user, nothing was ({said})")
        if code in _MISSING:
            return ModelDamaged(f"{self.name}: no datastore of Likewise there, or not a whole one ({said}); "
                                "check the URL, or restore it from a backup")  # fmt: skip
        lost = isinstance(error, self._psycopg.OperationalError | self._psycopg.InterfaceError)
        if lost and (code is None or code.startswith(_AWAY)):
            return LedgerAway(f"{self.name}: the server cannot be reached, {done}({said}); try again when it is back")
        return LedgerError(f"{self.name}: {said}, nothing was written")


def _rewritten(outside: Connection, table: str, until: float) -> bool:
    """Rewrite a table; False where another transaction holds it, which is an error after `until`."""
    before = _file_of(outside, table)
    try:
        outside.exec_driver_sql(f"VACUUM (FULL) {table}")
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _NO_LOCK:
            raise
        if time.monotonic() > until:
            raise LedgerBusy(f"{table}: another transaction holds the table; end it, or try again later") from error
        return False
    if _file_of(outside, table) == before:  # the server warns, and goes on to the next
        raise LedgerReadOnly(f"{table}: only its owner may rewrite it; let that account do it")
    return True


def _file_of(outside: Connection, table: str) -> int:
    return int(outside.exec_driver_sql(f"SELECT pg_relation_filenode('{table}')").scalar_one())
