"""Model: what was erased is nowhere, not now and not in the past, and an interrupted erasure can be completed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise import bundle
from likewise.checking import check
from likewise.datastore.ledger import Ledger
from likewise.errors import ExampleError, LedgerBusy, LedgerError, LedgerReadOnly
from likewise.fitting import fit
from likewise.model import Model
from likewise.progress import LikewiseWarning
from rows import ROWS

LONG = "parcel " + " ".join(f"secret{i}" for i in range(4000))  # several pages of the database
LABEL = "a-label-of-one"
REF = "customer-4711"


@pytest.fixture(scope="module")
def fitted(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with several labels a text; one label stands on one example, and is in the tuned values."""
    texts, labels = zip(*((text, [label]) for text, label in ROWS), (LONG, ["delivery", LABEL]), strict=True)
    path = tmp_path_factory.mktemp("erasing") / "model"
    with pytest.warns(LikewiseWarning):
        fitted = fit(texts, labels, refs=[None] * len(ROWS) + [REF], recipe="frozen", encoder=str(tiny_encoder))
    fitted.save(path).close()
    return path


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Iterator[Model]:
    with Model.open(shutil.copytree(fitted, tmp_path / "model")) as opened:
        yield opened


def secret_id(model: Model) -> int:
    (example,) = model.examples(ref=REF)
    return example.id


def traces(root: Path, vector: np.ndarray) -> set[str]:
    """What of the secret example is in which file: text, label, ref, and the embedding in each encoding it may have."""
    sought = {
        "text": b"secret2718 secret2719", "label": LABEL.encode(), "ref": REF.encode(),
        **{f"{kind}": vector.astype(kind).tobytes()[:64] for kind in ("<f4", "<f2", "<f8")},
    }  # fmt: skip
    files = [path for path in root.rglob("*") if path.is_file()]
    return {f"{name} in {path.name}" for path in files for name, part in sought.items() if part in path.read_bytes()}


def test_what_was_erased_is_in_no_file(model: Model) -> None:
    assert model.path is not None
    (vector,) = model._answering.encoder.encode([LONG])
    number = secret_id(model)
    model.relabel(number, [LABEL, "invoice"])
    model.teach("parcel ship late again", ["delivery"])
    before = traces(model.path, vector)
    assert {"text in datastore.db", "label in decision.safetensors", "label in README.md", "ref in datastore.db",
            "<f4 in datastore.db", "label in state.safetensors"} <= before  # fmt: skip
    erasure = model.erase(number, by="ada", note="asked for by letter")
    assert (erasure.ids, erasure.shared) == ((number,), ())
    assert traces(model.path, vector) == set()
    model.close()
    assert traces(model.path, vector) == set()
    assert check(model.path) == []


def test_the_history_keeps_that_and_nothing_else(model: Model) -> None:
    number = secret_id(model)
    model.erase(number, by="ada", note="asked for by letter")
    (last, *_) = model.history()
    assert (last.action, last.by, last.note, last.examples) == ("erased", "ada", "asked for by letter", 1)
    told = model.history_of(number)
    assert [(v.change.action, v.text, v.labels, v.ref, v.source) for v in told] == [
        ("erased", None, None, None, None), ("taught", None, None, None, None),
    ]  # fmt: skip
    assert LABEL not in model.labels
    with pytest.raises(ExampleError, match=f"example {number} was erased"):
        model.forget(number)
    with pytest.raises(ExampleError, match="erased already"):
        model.erase(number)
    with pytest.raises(ExampleError, match="no example 999"):
        model.erase([1, 999])
    assert model.revision == last.revision
    assert len(model.examples(ids=[1])) == 1


def test_the_past_is_what_it_was_minus_what_was_erased(model: Model) -> None:
    number = secret_id(model)
    model.forget([1, 2])
    model.erase([number, 1])  # a forgotten example may be erased too
    with model.as_of(1) as past:
        assert [example.id for example in past.examples()] == [i for i in range(2, 42) if i != number]
        assert LABEL not in dict(past.classify("parcel ship late").scores)
    change = model.revert(1)
    assert change.ids == (2,)
    assert {example.id for example in model.examples()} == set(range(1, 42)) - {1, number}
    assert model.diff(1, change.revision) == []


def test_models_that_are_open_elsewhere_follow(model: Model) -> None:
    assert model.path is not None
    number = secret_id(model)
    with Model.open(model.path) as other, model.as_of(1) as past, Model.open(model.path) as later:
        asked = [LONG[:300], "bank money lost"]
        for one in (other, past):
            assert number in [n.id for prediction in one.classify(asked, 50) for n in prediction.neighbours]
        model.erase(number)
        for one in (other, past, later):
            answers = one.classify(asked, 50)
            assert number not in [n.id for prediction in answers for n in prediction.neighbours]
        assert [dict(p.scores) for p in other.classify(asked)] == [
            pytest.approx(dict(p.scores)) for p in model.classify(asked)
        ]


def test_a_text_that_another_example_has_stays_and_is_named(model: Model) -> None:
    first, twin = model.teach(["parcel ship never", "parcel ship never"], [["delivery"], ["invoice"]]).ids
    assert model.erase(first).shared == (twin,)
    assert [example.id for example in model.examples(contains="never")] == [twin]
    assert model.classify("parcel ship never").neighbours[0].id == twin
    assert model.erase(twin).shared == ()
    assert check(model.path or "") == []


def test_an_interrupted_erasure_is_found_and_completed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model.path is not None
    (vector,) = model._answering.encoder.encode([LONG])
    number = secret_id(model)
    reader = sqlite3.connect(model.path / "datastore.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM texts").fetchone()  # keeps the WAL from being emptied
    impatient = Model.open(model.path, lock_timeout=0.2)
    with impatient, pytest.raises(LedgerBusy, match="erase the same examples again"):
        impatient.erase(number)
    reader.close()
    assert number not in [example.id for example in model.examples()]
    assert any("erasure of revision 2 was interrupted" in sentence for sentence in check(model.path))
    assert model.erase(number).ids == ()
    assert traces(model.path, vector) == set()
    assert check(model.path) == []
    monkeypatch.setattr(Ledger, "scrub", lambda ledger: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.erase(1)
    monkeypatch.undo()
    assert model.erase([1, 2]).ids == (2,)
    assert check(model.path) == []


@pytest.mark.parametrize("step", ["write_arrays", "digest", "write_json", "sync"])
def test_an_erasure_that_stops_at_the_tuned_values_is_completed(
    model: Model, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    assert model.path is not None
    number, work, seen = secret_id(model), getattr(bundle, step), []

    def full(*given: Any) -> Any:
        seen.append(given)
        work(*given)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, step, full)
    with pytest.raises(LedgerError, match="erase the same examples again"):
        model.erase(number)
    monkeypatch.undo()
    assert seen
    assert model.erase(number).ids == ()
    assert check(model.path) == []
    assert not [path for path in model.path.rglob("*") if path.is_file() and LABEL.encode() in path.read_bytes()]


def test_a_past_model_cannot_erase(model: Model) -> None:
    with model.as_of(1) as past, pytest.raises(LedgerReadOnly):
        past.erase(1)
