"""Embeddings kept as float16: half the space, the same rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from likewise.checking import check
from likewise.datastore.ledger import Ledger, NewExample
from likewise.errors import SettingError
from likewise.model import Model
from rows import exact_and

ASKED = ["my parcel is late", "the bank card is lost", "why"]


def test_the_ledger_gives_back_what_it_says_it_stores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 7)).astype(np.float32)
    sizes = {}
    for storage in ("float32", "float16"):
        path = tmp_path / storage
        with Ledger.create(path, task="single", storage=storage) as ledger:
            ledger.teach([NewExample(f"t{i}", ("a",), None, v) for i, v in enumerate(vectors)], "fp")
            found = ledger.vectors(range(1, 21), "fp")
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, ledger.as_stored(vectors))
            np.testing.assert_allclose(found, vectors, rtol=0 if storage == "float32" else 1e-3)
            assert ledger.damage("fp") == []
            sizes[storage] = sum(len(row[0]) for row in _stored(ledger))
            with pytest.raises(ValueError, match="finite"):
                ledger.teach([NewExample("huge", ("a",), None, np.full(7, np.inf, np.float32))], "fp")
        with Ledger.open(path) as again:
            assert again.storage == storage
    assert sizes["float16"] * 2 == sizes["float32"]


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "d.db", task="single", storage="float16") as ledger:
        with pytest.raises(ValueError, match="finite"):
            ledger.teach([NewExample("huge", ("a",), None, np.full(7, 1e6, np.float32))], "fp")
        assert ledger.revision() == 0


def test_a_model_of_float16_answers_learns_and_erases(tiny_encoder: Path, tmp_path: Path) -> None:
    with exact_and(tiny_encoder, storage="float16") as (exact, half):
        half.save(tmp_path / "half")
        for a, b in zip(exact.classify(ASKED), half.classify(ASKED), strict=True):
            assert dict(a.scores) == pytest.approx(dict(b.scores), abs=0.02)
        (number,) = half.teach("a sick bird", "health").ids
        (nearest, *_) = half.classify("a sick bird").neighbours
        assert (nearest.id, nearest.distance) == (number, 0.0)
        (vector,) = half._answering.encoder.encode(["a sick bird"])
        stored = vector.astype("<f2").tobytes()
        ledger = tmp_path / "half" / "datastore.db"
        half.classify("why")
        wal = ledger.with_name("datastore.db-wal")
        assert stored in ledger.read_bytes() + wal.read_bytes()
        half.erase(number)
        assert stored not in ledger.read_bytes() + (wal.read_bytes() if wal.exists() else b"")
        with pytest.raises(SettingError, match="keeps float16"):
            half.refit(storage="float32")
        half.refit()
        assert check(tmp_path / "half") == []
    with Model.open(tmp_path / "half") as again:
        assert again.info.settings["storage"] == "float16"


def _stored(ledger: Ledger) -> list[tuple[bytes]]:
    return ledger._store.read(
        lambda connection: [tuple(row) for row in connection.exec_driver_sql("SELECT vector FROM embeddings")]
    )
