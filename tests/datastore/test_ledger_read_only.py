"""The ledger where it may not be written: by request, or by the rights of the user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datastore.entries import FINGERPRINT, entry
from likewise.datastore.ledger import Ledger
from likewise.errors import (
    LedgerReadOnly,
    ModelError,
)


def test_read_only_on_request_follows_other_writers(ledger: Ledger, path: Path) -> None:
    with Ledger.open(path, read_only=True) as reader:
        assert reader.read_only and not ledger.read_only
        ledger.forget([1])
        assert reader.revision() == 2 and reader.example_count() == 19
        for change in (
            lambda: reader.teach([entry("new")], FINGERPRINT),
            lambda: reader.forget([2]),
            lambda: reader.relabel([2], [("b",)]),
            lambda: reader.rename_label("a", "b"),
            lambda: reader.merge_labels(["a"], "b"),
        ):
            with pytest.raises(LedgerReadOnly, match="nothing was written"):
                change()
        with pytest.raises(LedgerReadOnly), reader._store.read(lambda c: c.exec_driver_sql("DELETE FROM versions")):
            pass
    assert ledger.revision() == 2


AS_NOBODY = """
import os, sys, tempfile
from pathlib import Path
import numpy as np
import pytest
from likewise.datastore.ledger import Ledger, NewExample
from likewise.errors import LedgerReadOnly, ModelError

def entry(text):
    return NewExample(text, ("a",), None, np.ones(384, dtype=np.float32))

with tempfile.TemporaryDirectory() as folder:  # import all there is to import, while we may read it
    with Ledger.create(Path(folder, "warm.db"), task="single") as warm:
        warm.teach([entry("warm")], "fp")
        warm.examples(), warm.damage("fp")
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
path = Path(sys.argv[1])
tempfile.tempdir = sys.argv[2]

def readable(ledger, texts):
    assert ledger.read_only
    assert [e.text for e in ledger.examples()] == texts
    live = [d.text_id for d in ledger.changes(0)[1] if d.labels is not None]
    assert ledger.vectors(live, "fp").shape == (len(texts), 384)
    assert ledger.damage("fp") == []
    with pytest.raises(LedgerReadOnly, match=str(path)):
        ledger.teach([entry("new")], "fp")

def meanwhile():  # let the other process write
    print("ready", flush=True)
    sys.stdin.readline()
"""


def as_nobody(program: str, path: Path, scratch: Path) -> subprocess.Popen[str]:
    """Start a program with the rights of a user who is not root; its temporary files go to `scratch`."""
    return subprocess.Popen(
        [sys.executable, "-c", AS_NOBODY + program, path, scratch],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def assert_succeeds(process: subprocess.Popen[str]) -> None:
    with process:
        process.communicate()
    assert process.returncode == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are private. Beside it one that every user can write."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        for name, mode in (("model", 0o755), ("scratch", 0o777)):
            Path(made, name).mkdir()
            Path(made, name).chmod(mode)
        yield Path(made)
        Path(made, "model").chmod(0o755)


def filled(path: Path) -> Path:
    with Ledger.create(path, task="single") as ledger:
        ledger.teach([entry("one"), entry("two")], FINGERPRINT)
    return path


def make_unwritable(model: Path) -> None:
    for part in model.iterdir():
        part.chmod(0o444)
    model.chmod(0o555)


READ = """
with Ledger.open(path) as ledger:
    readable(ledger, sys.argv[3:] or ["one", "two"])
    ledger.copy_to(Path(sys.argv[2], "copy.db"))
with Ledger.open(Path(sys.argv[2], "copy.db")) as copy:
    assert not copy.read_only and copy.teach([entry("new")], "fp").added == 1
with pytest.raises(LedgerReadOnly, match="cannot make the datastore there"):
    Ledger.create(path.parent / "other.db", task="single")
assert os.listdir(sys.argv[2]) == ["copy.db"]
"""


def test_an_unwritable_directory_is_read_as_it_is(folder: Path) -> None:
    path = filled(folder / "model" / "datastore.db")
    make_unwritable(path.parent)
    assert_succeeds(as_nobody(READ, path, folder / "scratch"))
    assert [p.name for p in path.parent.iterdir()] == ["datastore.db"]


def test_an_unwritable_file_in_a_writable_directory(folder: Path) -> None:
    path = filled(folder / "model" / "datastore.db")
    path.chmod(0o444)
    path.parent.chmod(0o777)
    program = 'with Ledger.open(path) as ledger:\n    readable(ledger, ["one", "two"])\n'
    assert_succeeds(as_nobody(program, path, folder / "scratch"))


def test_an_unreadable_file_is_said(folder: Path) -> None:
    path = filled(folder / "model" / "datastore.db")
    path.chmod(0o200)
    program = 'with pytest.raises(ModelError, match="no permission to read"):\n    Ledger.open(path)\n'
    if os.geteuid() == 0:
        assert_succeeds(as_nobody(program, path, folder / "scratch"))
    else:
        with pytest.raises(ModelError, match="no permission to read"):
            Ledger.open(path)


def test_an_unwritable_directory_with_a_wal_is_read_from_a_copy(folder: Path, tmp_path: Path) -> None:
    source, path = filled(tmp_path / "source.db"), folder / "model" / "datastore.db"
    with Ledger.open(source) as writer:
        writer.teach([entry("three")], FINGERPRINT)
        # As a killed writer leaves it: the last change is in the WAL alone.
        shutil.copyfile(source, path)
        shutil.copyfile(f"{source}-wal", f"{path}-wal")
    make_unwritable(path.parent)
    program = READ.replace('sys.argv[3:] or ["one", "two"]', '["one", "two", "three"]')
    assert_succeeds(as_nobody(program, path, folder / "scratch"))
    assert sorted(p.name for p in path.parent.iterdir()) == ["datastore.db", "datastore.db-wal"]


def test_a_writer_that_closes_while_its_wal_is_copied_is_no_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(folder / "model" / "datastore.db")
    writer = Ledger.open(path)
    writer.teach([entry("three")], FINGERPRINT)
    copyfile = shutil.copyfile

    def closing(source: str | Path, target: str | Path) -> object:
        if str(source).endswith("-wal"):
            writer.close()  # the last one: the WAL goes
        return copyfile(source, target)

    monkeypatch.setattr("likewise.datastore.ledger_sqlite._may", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr(shutil, "copyfile", closing)
    with Ledger.open(path) as reader:
        assert reader.read_only and reader.revision() == 2
        assert [example.text for example in reader.examples()] == ["one", "two", "three"]


FOLLOW = """
with Ledger.open(path) as ledger:
    readable(ledger, ["one", "two"])
    for revision, texts in ((2, ["two"]), (3, ["two", "three"]), (4, ["two", "three", "four"]), (4, None)):
        meanwhile()
        assert ledger.revision() == revision, (ledger.revision(), revision)
        assert ledger.changes(1)[0] == revision
        readable(ledger, texts or ["two", "three", "four"])
assert os.listdir(sys.argv[2]) == []
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the owner writes where the reader may not: needs root")
def test_an_unwritable_directory_is_followed_while_its_owner_writes(folder: Path) -> None:
    path = filled(folder / "model" / "datastore.db")
    make_unwritable(path.parent)
    with as_nobody(FOLLOW, path, folder / "scratch") as reader:

        def turn(work: Callable[[], object]) -> None:
            assert reader.stdout is not None and reader.stdin is not None
            assert reader.stdout.readline() == "ready\n"
            work()
            reader.stdin.write("\n")
            reader.stdin.flush()

        def forget() -> None:
            with Ledger.open(path) as writer:  # closed again: no WAL is left
                writer.forget([1])

        turn(forget)
        with Ledger.open(path) as writer:  # stays open: its changes are in a WAL
            turn(lambda: writer.teach([entry("three")], FINGERPRINT))
            turn(lambda: writer.teach([entry("four")], FINGERPRINT))
        turn(lambda: None)
        reader.communicate()
    assert reader.returncode == 0
