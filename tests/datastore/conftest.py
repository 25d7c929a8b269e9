"""A ledger of twenty texts in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore.entries import FINGERPRINT, entry
from likewise.datastore.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "datastore.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.create(path, task="single", lock_timeout=0.2) as made:
        made.teach([entry(f"text {i}") for i in range(20)], FINGERPRINT)
        yield made
