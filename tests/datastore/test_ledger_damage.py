"""What is not a ledger, and a ledger that was altered: an error that says so, or a finding that names it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from datastore.entries import FINGERPRINT
from likewise.datastore.ledger import Ledger
from likewise.errors import (
    ModelDamaged,
    ModelForeign,
    ModelNewer,
)


def test_what_is_not_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match="no datastore there"):
        Ledger.open(tmp_path / "missing.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.db").touch()
    with pytest.raises(ModelDamaged, match="empty or cut short"):
        Ledger.open(tmp_path / "empty.db")
    (tmp_path / "text.db").write_text("not a database at all " * 100)
    with pytest.raises(ModelDamaged, match="not a database"):
        Ledger.open(tmp_path / "text.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as raw:
        raw.execute("CREATE TABLE somebodys (data)")
    with pytest.raises(ModelForeign, match="no datastore of Likewise"):
        Ledger.open(tmp_path / "other.db")


def test_create_does_not_touch_what_is_there(tmp_path: Path, ledger: Ledger, path: Path) -> None:
    with pytest.raises(ModelForeign, match="exists already"):
        Ledger.create(path, task="single")
    with pytest.raises(ModelForeign, match="exists already"):
        ledger.copy_to(path)
    assert ledger.example_count() == 20


def test_a_newer_schema_is_refused(ledger: Ledger, path: Path) -> None:
    ledger.close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
        raw.commit()
    with pytest.raises(ModelNewer, match="schema 99, this version reads up to"):
        Ledger.open(path)


def test_a_truncated_file_is_found(ledger: Ledger, path: Path) -> None:
    ledger.close()
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 4096, 4096, 100):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelDamaged, match="datastore"), Ledger.open(path) as opened:
            damage = opened.damage(FINGERPRINT)
            assert damage
            raise ModelDamaged(f"datastore: {damage[0]}")


def test_flipped_bytes_give_an_error_or_are_named_by_damage(ledger: Ledger, path: Path) -> None:
    ledger.close()
    whole = path.read_bytes()
    place = whole.index(b"text 7")
    path.write_bytes(whole[:place] + b"T" + whole[place + 1 :])
    with Ledger.open(path) as opened:
        assert any("is not the one that was written" in found for found in opened.damage())
    broken = bytearray(whole)
    broken[4096 : 3 * 4096] = b"\xa5" * (2 * 4096)
    path.write_bytes(broken)
    try:
        with Ledger.open(path) as opened:
            assert opened.damage()
    except ModelDamaged as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE revisions SET revision = 5 WHERE revision = 2", "revisions 2 to 4 are missing"),
        ("DELETE FROM revisions WHERE revision = 1", "example 1 has a version of revision 1, which is not in"),
        ("DELETE FROM versions WHERE example_id = 4", "example 4, made at revision 1, has no version"),
        ("UPDATE embeddings SET vector = x'00' WHERE text_id = 3", "embedding of text 3, generation fp, has 1 bytes"),
        ("UPDATE embeddings SET fingerprint = 'old' WHERE text_id = 3", "text 3 has an embedding of generation old"),
        ("DELETE FROM embeddings WHERE text_id = 3", "example 3 (text 3) has no embedding of generation fp"),
        (
            "UPDATE versions SET labels = '[1' WHERE example_id = 6",
            "example 6 has labels at revision 1 that are no JSON",
        ),
        ('UPDATE versions SET labels = \'["a","b"]\' WHERE example_id = 6', "example 6 has 2 labels at revision 1"),
        ("UPDATE versions SET ref = 'r' WHERE example_id IN (6, 7)", "the reference 'r' belongs to 2 examples"),
        ("DELETE FROM texts WHERE id = 2", "a row of versions points to a row of texts that is not there"),
    ],
)
def test_damage_names_it(ledger: Ledger, path: Path, statement: str, found: str) -> None:
    ledger.forget([20])
    assert ledger.damage(FINGERPRINT) == []
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(statement)
        raw.commit()
    assert any(found in sentence for sentence in ledger.damage(FINGERPRINT))


def test_damage_counts_what_it_does_not_name(ledger: Ledger) -> None:
    found = ledger.damage("another")
    assert found[0] == "text 1 has an embedding of generation fp; expected another"
    assert found.count("... and 10 more of this kind") == 2 and len(found) == 22


def test_a_missing_or_misshapen_embedding_is_named(ledger: Ledger, path: Path) -> None:
    with pytest.raises(ModelDamaged, match="text 5 has no embedding of generation other"):
        ledger.vectors([5], "other")
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE embeddings SET vector = x'0000' WHERE text_id = 3")
        raw.commit()
    with pytest.raises(ModelDamaged, match="embedding of text 3, generation fp, has 2 bytes, expected 1536"):
        ledger.vectors([1, 2, 3], FINGERPRINT)
