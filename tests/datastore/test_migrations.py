"""A ledger of an older schema: brought up to date in whole steps, or read as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection

from likewise.datastore import migrations
from likewise.datastore.ledger import Ledger, NewExample
from likewise.datastore.schema import SCHEMA_VERSION


@pytest.fixture(params=["file", "server"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger as the first schema had it."""
    place = str(tmp_path / "datastore.db") if request.param == "file" else request.getfixturevalue("server").place()
    with Ledger.create(place, task="single") as ledger:
        ledger.teach([NewExample("one", ("a",), None, np.ones(3, np.float32))], "fp")
        with ledger._store.write() as connection:
            connection.exec_driver_sql("DELETE FROM meta WHERE key = 'storage'")
            connection.exec_driver_sql("UPDATE meta SET value = '1' WHERE key = 'schema'")
    return place


def facts(ledger: Ledger) -> dict[str, str]:
    return dict(ledger._store.read(lambda c: [tuple(row) for row in c.exec_driver_sql("SELECT key, value FROM meta")]))


def test_it_is_brought_up_to_date(old: str) -> None:
    for _ in range(2):
        with Ledger.open(old) as ledger:
            assert facts(ledger) == {"schema": str(SCHEMA_VERSION), "task": "single", "storage": "float32"}
            assert [example.text for example in ledger.examples()] == ["one"]
            assert ledger.damage("fp") == []


def test_for_reading_it_stays_as_it_is(old: str) -> None:
    with Ledger.open(old, read_only=True) as ledger:
        assert facts(ledger) == {"schema": "1", "task": "single"}
        np.testing.assert_array_equal(ledger.vectors([1], "fp"), np.ones((1, 3)))


def test_a_step_that_fails_leaves_nothing_of_itself(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(connection: Connection) -> None:
        migrations._name_the_storage(connection)
        raise KeyboardInterrupt

    monkeypatch.setattr(migrations, "STEPS", {1: fails})
    with pytest.raises(KeyboardInterrupt):
        Ledger.open(old)
    monkeypatch.undo()
    with Ledger.open(old, read_only=True) as ledger:
        assert facts(ledger) == {"schema": "1", "task": "single"}


def test_there_is_a_step_from_every_schema() -> None:
    assert sorted(migrations.STEPS) == list(range(1, SCHEMA_VERSION))
