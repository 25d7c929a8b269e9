"""check: what it finds in a model directory that was damaged, and that it finds nothing in one that was not."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from likewise.bundle import Decision, Layout, Manifest, write_generation, write_manifest
from likewise.checking import check
from likewise.datastore.ledger import Ledger, NewExample
from likewise.decision.head import HeadSettings
from likewise.decision.tuning import Tuned
from likewise.decision.whitening import fit_whitening
from likewise.encoding.runtime import Encoder
from likewise.errors import ModelForeign, ModelNewer, ModelNotFound
from likewise.model import Model
from likewise.state import State
from postgres import Server

ROWS = [("my parcel is late", "delivery"), ("where is the parcel", "delivery"), ("a letter was sent", "delivery"),
        ("pay the bill", "invoice"), ("a wrong invoice", "invoice"), ("money for the bank", "invoice")]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a snapshot at revision 1. Not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    parts = Layout(folder / "parts")
    parts.generation(1).parent.mkdir(parents=True)
    shutil.copytree(tiny_onnx, folder / "encoder" / "onnx")
    (folder / "encoder" / "config.json").write_text("{}")
    encoder = Encoder(tiny_onnx)
    texts, labels = zip(*ROWS, strict=True)
    vectors = encoder.encode(texts)
    with Ledger.create(parts.datastore, task="single") as ledger:
        new = [NewExample(text, (x,), None, v) for text, x, v in zip(texts, labels, vectors, strict=True)]
        ledger.teach(new, encoder.fingerprint)
    tuned = Tuned(4, 3, 0.5, 0.5, HeadSettings())
    decision = Decision(fit_whitening(vectors), tuned)
    write_generation(parts, 1, encoder=folder / "encoder", decision=decision, info={})
    facts = {"fingerprint": encoder.fingerprint, "examples": 6, "kept": "frozen", "judged_on": "nothing"}
    write_manifest(parts, Manifest(1, "single", "frozen", "tiny", {}, facts))
    with Model.open(parts.root) as model:
        model.save(folder / "model")
    return folder / "model"


@pytest.fixture
def layout(sound: Path, tmp_path: Path) -> Layout:
    return Layout(Path(shutil.copytree(sound, tmp_path / "model")))


def changed(layout: Layout, snapshot: bool = False) -> None:
    """Four revisions more; written into the snapshot where that is asked for."""
    with Model.open(layout.root) as model:
        model.teach(["zebra", "a white horse"], ["animal", "animal"], refs=["z", None])
        model.relabel(1, "invoice")
        model.forget([2])
        model.rename_label("delivery", "post")
        model.classify("zebra")
        if snapshot:
            model._answering._state.write(layout.snapshot)


def altered(layout: Layout, statement: str) -> None:
    """The ledger, written to behind Likewise's back."""
    with closing(sqlite3.connect(layout.datastore)) as connection:
        connection.execute(statement)
        connection.commit()


# Sound


def test_a_sound_model_has_no_findings(layout: Layout) -> None:
    assert layout.snapshot.exists()
    assert check(layout.root) == []
    assert check(str(layout.root)) == []


def test_a_snapshot_that_is_behind_missing_or_up_to_date_is_sound(layout: Layout) -> None:
    changed(layout)
    assert check(layout.root) == []  # behind
    changed_again = Layout(layout.root)
    with Model.open(layout.root) as model:
        model.classify("zebra")
        model._answering._state.write(changed_again.snapshot)
    assert check(layout.root) == []
    shutil.rmtree(layout.snapshot.parent)
    assert check(layout.root) == []


def test_a_snapshot_of_an_earlier_generation_is_sound(layout: Layout) -> None:
    with safe_open(layout.snapshot, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["state"])
    save_file(arrays, layout.snapshot, metadata={"state": json.dumps(header | {"generation": 0, "fingerprint": "0"})})
    assert check(layout.root) == []


@pytest.mark.parametrize("change", ["relabel", "erase"])
def test_a_model_that_is_changed_meanwhile_is_sound(
    layout: Layout, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = State.follow
    with Ledger.open(layout.datastore) as other:
        changes = [lambda: other.relabel([1], [("invoice",)])] if change == "relabel" else [lambda: other.erase([1])]

        def changed_meanwhile(state: State, *given: Any) -> None:
            follow(state, *given)
            if changes:
                changes.pop()()

        monkeypatch.setattr(State, "follow", changed_meanwhile)
        assert check(layout.root) == []
        assert other.revision() == 2


def test_checking_changes_nothing(layout: Layout) -> None:
    before = {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    check(layout.root)
    assert {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()} == before


# Files


def flips(layout: Layout) -> Iterator[tuple[Path, int]]:
    """Each immutable file, and a place in it: the beginning, the middle, the end in turn."""
    for i, name in enumerate(json.loads(layout.checksums(1).read_text())):
        path = layout.generation(1) / name
        size = path.stat().st_size
        yield path, (0, size // 2, size - 1)[i % 3]


def test_a_flipped_byte_in_any_immutable_file_is_named(layout: Layout) -> None:
    names = []
    for path, place in flips(layout):
        content = path.read_bytes()
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        found = check(layout.root)
        assert f"{path}: altered (its SHA-256 is not the one in checksums.json)" in found, path
        assert not any("altered" in sentence for sentence in found if str(path) not in sentence)
        path.write_bytes(content)
        names.append(path.name)
    assert {"model.onnx", "tokenizer.json", "encoder.json", "config.json", "decision.safetensors"} <= set(names)
    assert check(layout.root) == []


def test_a_damaged_list_of_checksums_is_named(layout: Layout) -> None:
    content = layout.checksums(1).read_bytes()
    for place in range(0, len(content), 97):
        layout.checksums(1).write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        assert check(layout.root) != [], place


def test_files_that_are_missing_or_do_not_belong_are_named(layout: Layout) -> None:
    folder = layout.generation(1)
    layout.decision(1).unlink()
    (folder / "encoder" / "added.bin").write_bytes(b"")
    found = check(layout.root)
    assert f"{layout.decision(1)}: missing" in found
    assert f"{folder}/encoder/added.bin: not part of the generation" in found


def test_a_missing_generation_is_named(layout: Layout) -> None:
    shutil.rmtree(layout.generation(1))
    assert any(str(layout.checksums(1)) in sentence for sentence in check(layout.root))


def test_a_damaged_manifest_is_a_finding_and_no_model_an_error(layout: Layout, tmp_path: Path) -> None:
    content = layout.manifest.read_text()
    layout.manifest.write_text(content[:40])
    (sentence,) = check(layout.root)
    assert sentence.startswith(f"{layout.manifest}: cannot be read")
    layout.manifest.write_text(content.replace('"format": 1', '"format": 99'))
    with pytest.raises(ModelNewer):
        check(layout.root)
    layout.manifest.unlink()
    with pytest.raises(ModelForeign):
        check(layout.root)
    with pytest.raises(ModelNotFound):
        check(tmp_path / "nowhere")


# Ledger


def test_a_missing_cut_or_foreign_ledger_is_named(layout: Layout) -> None:
    content = layout.datastore.read_bytes()
    for damage in (content[:5000], b"not a database at all" * 400, b""):
        layout.datastore.write_bytes(damage)
        assert any(str(layout.datastore) in sentence or "datastore.db" in sentence for sentence in check(layout.root))
    layout.datastore.unlink()
    assert any(str(layout.datastore) in sentence for sentence in check(layout.root))


def test_an_embedding_of_another_generation_is_named(layout: Layout) -> None:
    altered(layout, "UPDATE embeddings SET fingerprint = 'feedfeedfeedfeed' WHERE text_id = 3")
    found = check(layout.root)
    assert any("text 3 has an embedding of generation feedfeedfeedfeed" in sentence for sentence in found)
    assert any("example 3 (text 3) has no embedding of generation" in sentence for sentence in found)


def test_a_ledger_that_was_moved_away_is_named(layout: Layout, server: Server) -> None:
    before, place = layout.manifest.read_bytes(), server.place()
    with Model.open(layout.root) as model:
        model.move(place)
    assert check(layout.root) == []
    layout.manifest.write_bytes(before)
    assert check(layout.root) == [f'the examples were moved to {place}: make it the "datastore" in likewise.json']


def test_a_ledger_of_another_task_is_named(layout: Layout) -> None:
    altered(layout, "UPDATE meta SET value = 'multi' WHERE key = 'task'")
    assert f"{layout.datastore}: its task is multi, the manifest says single" in check(layout.root)


def test_an_altered_text_is_named(layout: Layout) -> None:
    altered(layout, "UPDATE texts SET text = 'forged' WHERE id = 2")
    assert any("text 2 is not the one that was written" in sentence for sentence in check(layout.root))


# Snapshot against ledger


def test_a_snapshot_ahead_of_its_ledger_is_named_and_not_believed(layout: Layout, sound: Path) -> None:
    changed(layout, snapshot=True)
    assert check(layout.root) == []
    shutil.copy(sound / "datastore.db", layout.datastore)
    (sentence,) = check(layout.root)
    assert sentence.startswith(f"{layout.snapshot}: the index is at revision 5, ahead of its ledger at 1")
    with Model.open(layout.root) as model:
        found = model.classify("zebra", neighbours=10)
        assert found.revision == 1
        assert {label for label, _ in found.scores} == {"delivery", "invoice"}
        assert {n.text for n in found.neighbours} <= {text for text, _ in ROWS}


def test_an_embedding_that_the_ledger_lost_is_named(layout: Layout) -> None:
    altered(layout, "DELETE FROM embeddings WHERE text_id = 5")
    assert any("example 5 (text 5) has no embedding" in sentence for sentence in check(layout.root))


@pytest.mark.parametrize("part", ["keys", "codes", "ids", "scatter", "label_totals", "text_ids"])
def test_a_snapshot_that_says_something_else_is_named(layout: Layout, part: str) -> None:
    with safe_open(layout.snapshot, framework="np") as file:
        arrays = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    array = arrays[part].reshape(-1)
    array[-1] = 1 - array[-1] if part == "codes" else array[-1] + (0.01 if array.dtype.kind == "f" else 1)
    save_file(arrays, layout.snapshot, metadata=metadata)
    (sentence,) = check(layout.root)
    assert str(layout.snapshot) in sentence and "delete it" in sentence
    layout.snapshot.unlink()
    assert check(layout.root) == []


def test_an_unreadable_snapshot_is_named_and_the_model_opens(layout: Layout) -> None:
    layout.snapshot.write_bytes(layout.snapshot.read_bytes()[:100])
    (sentence,) = check(layout.root)
    assert sentence == f"{layout.snapshot}: unreadable; delete it, it will be made again"
    with Model.open(layout.root) as model:
        assert model.classify("my parcel").revision == 1


def test_every_finding_is_one_line(layout: Layout) -> None:
    altered(layout, "UPDATE texts SET text = 'a' || char(10) || 'b'")
    altered(layout, "UPDATE versions SET labels = '[\"b\",' || char(10) || '\"a\"]'")
    (layout.generation(1) / "info.json").unlink()
    found = check(layout.root)
    assert len(found) > 2
    assert all("\n" not in sentence for sentence in found)
    assert np.unique(found).size == len(found)
