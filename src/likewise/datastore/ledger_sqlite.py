"""A ledger's SQLite file: how it is opened, read, written, copied, and what its errors mean.

Every operation takes a connection of its own from a pool, so one store may be used by many threads: readers do not
wait for each other nor for the writer (WAL), writers of one process queue on a lock, those of several processes on
SQLite's. A directory that may not be written is read without locks; its files are then watched for changes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from likewise.datastore.ledger_reading import TEXTS
from likewise.datastore.schema import metadata, versions
from likewise.datastore.store import not_unicode
from likewise.errors import (
    LedgerBusy,
    LedgerError,
    LedgerFull,
    LedgerMoved,
    LedgerReadOnly,
    LikewiseError,
    ModelDamaged,
    ModelError,
    ModelForeign,
)
from likewise.files import edition

_Result = TypeVar("_Result")
_Signature = tuple[tuple[int, int, int] | None, ...]

_TEXTS_OF = str(
    TEXTS.where(versions.c.example_id.in_(text("SELECT value FROM json_each(:ids)"))).compile(
        dialect=sqlite.dialect(paramstyle="named")
    )
)
_ATTEMPTS = 10  # how often a read begins anew when files that we cannot lock change under it


class SqliteStore:
    """Connections to one SQLite file, in WAL mode with synchronous=FULL and foreign keys on.

    `read_only` is true when it was asked for, or when the file or its directory may not be written.
    """

    def __init__(self, path: Path, *, read_only: bool, lock_timeout: float) -> None:
        self.path = path
        self.location = str(path)
        self._lock_timeout = lock_timeout
        self._process = os.getpid()
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        if not path.is_file():
            raise ModelDamaged(f"{path}: no datastore there; restore the file, or fit the model anew")
        if not _may(path, os.R_OK):
            raise ModelError(f"{path}: no permission to read it; ask its owner for it")
        self._frozen = not (_may(path, os.W_OK) and _may(path.parent, os.W_OK))
        self.read_only = read_only or self._frozen
        with translated(self.path):
            self._source = self._open()
            self._identity = _identity(path)

    @classmethod
    def create(cls, path: Path, *, lock_timeout: float, fill: Callable[[Connection], None]) -> SqliteStore:
        """Make the file, and in it the tables, filled as one transaction; on an error nothing stays behind.

        ModelForeign when something is there, LedgerReadOnly when the folder may not be written, LedgerError when there
        is no such folder.
        """
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            raise ModelForeign(f"{path} exists already; name a file that does not") from None
        except OSError as error:
            kinds = {errno.EACCES: LedgerReadOnly, errno.EPERM: LedgerReadOnly, errno.EROFS: LedgerReadOnly,
                     errno.ENOSPC: LedgerFull}  # fmt: skip
            kind = kinds.get(error.errno or 0, LedgerError)
            raise kind(f"{path}: cannot make the datastore there ({error.strerror}); choose another folder") from error
        store = None
        try:
            store = cls(path, read_only=False, lock_timeout=lock_timeout)
            with store.write() as connection:
                metadata.create_all(connection)
                fill(connection)
        except BaseException:
            if store is not None:
                store.close()
            path.unlink()
            raise
        return store

    @property
    def name(self) -> str:
        return str(self.path)

    def announcements(self, stop: threading.Event) -> Iterator[None]:
        """None: SQLite announces nothing."""
        return iter(())

    @property
    def engine(self) -> Engine:
        """The engine in use; another one after an unwritable file has changed."""
        return self._source.engine

    def read(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run `work` in one read transaction: it sees one state of the ledger, whatever others write meanwhile."""

        def transact(source: _Source) -> _Result:
            with source.engine.connect() as connection, connection.begin():
                return work(connection)

        return self._reading(transact)

    def revision(self) -> int:
        """The number of the last change, 0 when there is none. On a raw connection: this is read for every answer."""
        return self._reading(_Source.revision)

    def texts_of(self, ids: Sequence[int], at: int) -> dict[int, str]:
        """The texts of examples; see Store. On a raw connection, too: an answer cites them."""
        given = {"ids": json.dumps(ids), "at": at}
        return dict(self._reading(lambda source: source.rows(_TEXTS_OF, given)))

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction, committed at the end of the block and rolled back on any error.

        Raises LedgerBusy when the lock is not had within the lock timeout, LedgerFull, LedgerReadOnly.
        """
        if self.read_only:
            raise LedgerReadOnly(f"{self.path}: opened for reading only, nothing was written; "
                                 "use an account that may write the file and its directory")  # fmt: skip
        self._usable()
        if not self._writing.acquire(timeout=self._lock_timeout):
            raise _busy(self.path)
        try:
            engine = self._source.engine.execution_options(immediate=True)
            with translated(self.path), engine.connect() as connection, connection.begin():
                self._usable()  # once more: it has waited for the lock
                yield connection
                self._usable()
        finally:
            self._writing.release()

    def scrub(self) -> None:
        """Rewrite the file without its free pages, and empty the WAL: nothing deleted can be read from them again.

        Raises LedgerBusy while another process reads or writes, LedgerFull where there is no room for the rewriting.
        """
        self._usable()
        if not self._writing.acquire(timeout=self._lock_timeout):
            raise _busy(self.path)
        try:
            with translated(self.path), closing(self._source.connect()) as connection:
                connection.execute("VACUUM")
                if _scalar(connection, "PRAGMA wal_checkpoint(TRUNCATE)"):
                    raise LedgerBusy(f"{self.path}: another process reads it and keeps its WAL from being emptied; "
                                     "try again later, or wait longer with the setting lock_timeout")  # fmt: skip
        finally:
            self._writing.release()

    def integrity(self) -> list[str]:
        """What SQLite's own checks of pages, indices and foreign keys find, a sentence each."""

        def check(connection: Connection) -> list[str]:
            pages = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            keys = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            found = [f"{self.path.name}: {line}" for line in pages if line != "ok"]
            return found + [f"{self.path.name}: a row of {row[0]} points to a row of {row[2]} that is not there"
                            for row in keys]  # fmt: skip

        return self.read(check)

    def copy_to(self, path: Path) -> None:
        """Copy the present state into a new file. ModelForeign when something is there; nothing is left on an error."""
        if path.exists():
            raise ModelForeign(f"{path} exists already; name a file that does not")

        def back_up(source: _Source) -> None:
            with translated(path), closing(source.connect()) as ours, closing(sqlite3.connect(path)) as copy:
                ours.backup(copy)

        try:
            self._reading(back_up)
        except BaseException:
            _remove(path)
            raise

    def lies_there(self) -> bool:
        """Whether the file is the one that was opened."""
        return self._frozen or _identity(self.path) == self._identity

    def rest(self) -> None:
        """Give up the connections that nobody uses."""
        self._source.engine.dispose()

    def close(self) -> None:
        """Close the connections; the last one to close moves the WAL into the file. Closing twice is fine."""
        with self._opening:
            if not self._closed and os.getpid() == self._process:
                self._source.close()
            self._closed = True

    def _reading(self, work: Callable[[_Source], _Result]) -> _Result:
        """Run `work` on the source; for a frozen one, anew until the files did not change meanwhile."""
        self._usable()
        with translated(self.path):
            if not self._frozen:
                return work(self._source)
            for _ in range(_ATTEMPTS):
                source = self._current()
                try:
                    result = work(source)
                except (sqlite3.Error, DBAPIError, ModelDamaged):
                    if source.signature == _signature(self.path):
                        raise
                    continue
                if source.signature == _signature(self.path):
                    return result
        raise LedgerBusy(f"{self.path}: it changes faster than it can be read without its lock; try again later")

    def _current(self) -> _Source:
        """The frozen source, opened anew when the files have changed since."""
        with self._opening:
            if self._source.signature != _signature(self.path):
                fresh = self._open()
                self._source.close()
                self._source = fresh
            return self._source

    def _open(self) -> _Source:
        if not self._frozen:
            return _Source(self.path, "rw", self._lock_timeout, query_only=self.read_only)
        signature = _signature(self.path)
        if signature[1] is None:
            return _Source(self.path, "ro&immutable=1", self._lock_timeout, query_only=True, signature=signature)
        # A WAL is left: reading it needs a shared-memory file beside it, which we may not make. So read a copy.
        folder = tempfile.TemporaryDirectory(prefix="likewise-")
        for _ in range(_ATTEMPTS):
            signature = _signature(self.path)
            copy = Path(shutil.copyfile(self.path, Path(folder.name, "datastore.db")))
            _remove(_wal(copy))
            if signature[1] is not None:
                with suppress(FileNotFoundError):  # the last writer closes it right now: once more
                    shutil.copyfile(_wal(self.path), _wal(copy))
            if signature == _signature(self.path):
                return _Source(copy, "rw", self._lock_timeout, query_only=True, signature=signature, folder=folder)
        folder.cleanup()
        raise LedgerBusy(f"{self.path}: it changes faster than it can be copied; try again later")

    def _usable(self) -> None:
        if self._closed:
            raise LedgerError(f"{self.path}: the ledger was closed; open the model again")
        if os.getpid() != self._process:
            # SQLite's locks do not survive a fork: going on could lose changes.
            raise LedgerError(f"{self.path}: opened before this process was forked; open the model again in it")
        if not self.lies_there():
            # What is open still is a file without a name: changes to it would be lost.
            raise LedgerMoved(f"{self.path}: it was removed or replaced since it was opened; open the model again")


class _Source:
    """Connections to the file that is read: the ledger's own, or a private copy of it."""

    def __init__(
        self,
        path: Path,
        mode: str,
        lock_timeout: float,
        *,
        query_only: bool,
        signature: _Signature = (),
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.signature = signature
        self._uri = f"{path.absolute().as_uri()}?mode={mode}"
        self._lock_timeout = lock_timeout
        self._query_only = query_only
        self._folder = folder
        self._immutable = "immutable" in mode
        self._probing = threading.Lock()
        self._probe = self.connect()
        self.engine = create_engine("sqlite://", creator=self.connect, poolclass=QueuePool, max_overflow=-1)
        event.listen(self.engine, "begin", _begin)

    def connect(self) -> sqlite3.Connection:
        """A connection that leaves transactions to us, with our pragmas."""
        connection = sqlite3.connect(
            self._uri, uri=True, timeout=self._lock_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")  # what is deleted, only by erasing, is overwritten
            # Not by an immutable connection: it takes a file in WAL mode for one in another mode.
            if not self._immutable and (mode := _scalar(connection, "PRAGMA journal_mode=WAL")) != "wal":
                raise LedgerError(f"{self._uri}: journal mode is {mode}, expected wal; keep the model on a local disk")
            connection.execute(f"PRAGMA query_only={int(self._query_only)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def revision(self) -> int:
        return int(self.rows("SELECT max(revision) FROM revisions", {})[0][0] or 0)

    def rows(self, statement: str, given: Mapping[str, Any]) -> list[Any]:
        """What a statement reads, at one moment; without a transaction, which would take longer than the reading."""
        with self._probing:
            return self._probe.execute(statement, given).fetchall()

    def close(self) -> None:
        with self._probing:
            self._probe.close()
        self.engine.dispose()
        if self._folder is not None:
            self._folder.cleanup()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say into our errors, each naming the file and what to do next."""
    try:
        yield
    except DBAPIError as error:
        raise _refusal(error.orig, path) from error
    except UnicodeEncodeError as error:
        raise not_unicode(error) from error
    except (sqlite3.Error, OSError) as error:
        raise _refusal(error, path) from error


def _refusal(error: BaseException | None, path: Path) -> LikewiseError:
    """Our error for one of SQLite's, by its result code (sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _busy(path)
    full = primary == sqlite3.SQLITE_FULL or (
        # SQLite reports a full disk as an I/O error where it happens to extend the WAL's shared memory.
        primary == sqlite3.SQLITE_IOERR and _crowded(path.parent)
    )
    if full:
        return LedgerFull(f"{path}: the disk is full, nothing was written; make room and try again")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM) or isinstance(error, PermissionError):
        return LedgerReadOnly(f"{path}: it may not be written, nothing was; "
                              "use an account that may write the file and its directory")  # fmt: skip
    # Without a code: text that is not UTF-8. SQLITE_ERROR: a table or column that should be there is not.
    damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR, None)
    ours = (OSError, sqlite3.ProgrammingError, sqlite3.InterfaceError)  # the disk's, or what we asked for is at fault
    if primary in damage and not isinstance(error, ours):
        return ModelDamaged(f"{path}: the datastore is damaged ({error}); restore it from a backup")
    return LedgerError(f"{path}: {error}, nothing was written; check the disk and try again")


def _busy(path: Path) -> LedgerBusy:
    return LedgerBusy(f"{path}: another writer holds its lock, nothing was written; "
                      "try again later, or wait longer with the setting lock_timeout")  # fmt: skip


def _begin(connection: Connection) -> None:
    """Take the write lock at once where a change begins: waiting for it later could end in a deadlock."""
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _scalar(connection: sqlite3.Connection, statement: str) -> Any:
    rows = connection.execute(statement).fetchall()  # to the end, so that no read transaction stays open
    return rows[0][0] if rows else None


def _may(path: Path, mode: int) -> bool:
    """Whether the user whose rights we act with may read or write the path."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _crowded(folder: Path) -> bool:
    """Whether the disk that holds this folder has less than 1 MiB left."""
    return folder.is_dir() and shutil.disk_usage(folder).free < 1 << 20


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from any other, None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _signature(path: Path) -> _Signature:
    """What tells that a file and its WAL have not changed: the edition of each; None where it is empty."""
    found: list[tuple[int, int, int] | None] = []
    for part in (path, _wal(path)):
        try:
            stat = part.stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append(edition(stat) if stat.st_size else None)
    return tuple(found)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
