"""Model: saving, copying, and what is left behind by a model that nobody saved."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import likewise.answering
import likewise.saving
from likewise.bundle import Layout, read_manifest, write_manifest
from likewise.checking import check
from likewise.datastore.ledger import Ledger
from likewise.errors import LedgerBusy, LedgerError, LedgerMoved, ModelError
from likewise.fitting import fit
from likewise.model import Model
from likewise.settings import Settings
from likewise.state import State

TOPICS = {"delivery": "parcel delivery ship street door arrived", "invoice": "invoice money bill charge price bank"}
TEXTS = ["my parcel", "the bank card is lost", "why"]


def messages(topic: str, rows: int, seed: int) -> list[str]:
    """Texts of four words of a topic, no two the same."""
    rng, words = np.random.default_rng(seed), TOPICS[topic].split()
    found: dict[str, None] = {}
    while len(found) < rows:
        found[" ".join(rng.choice(words, 4))] = None
    return list(found)


@pytest.fixture(scope="module")
def unsaved(tiny_encoder: Path) -> Iterator[Model]:
    """Fitted and taught, and not saved. Not to be changed."""
    rows = [(text, topic) for seed, topic in enumerate(TOPICS) for text in messages(topic, 20, seed)]
    texts, labels = zip(*rows, strict=True)
    with fit(texts, labels, recipe="frozen", encoder=str(tiny_encoder)) as model:
        model.teach("my mother is sick", "health")
        yield model


@pytest.fixture(scope="module")
def fitted(unsaved: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it looks like when it is saved. Not to be changed."""
    path = tmp_path_factory.mktemp("fitted") / "model"
    unsaved.copy_to(path)
    return path


@pytest.fixture(scope="module")
def reopened(fitted: Path) -> Iterator[Model]:
    with Model.open(fitted) as model:
        yield model


@pytest.fixture
def temporary(fitted: Path, tmp_path: Path) -> Iterator[Model]:
    """A model that was not saved yet, in tmp_path/likewise-new."""
    root = shutil.copytree(fitted, tmp_path / "likewise-new")
    with Model(Path(root), Settings(), temporary=True) as model:
        yield model


def shape(root: Path) -> set[str]:
    """The names in a model directory but for SQLite's own beside an open ledger."""
    return {str(p.relative_to(root)) for p in root.rglob("*") if not p.name.endswith(("-wal", "-shm"))}


# What is saved is what was there


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.lists(st.sampled_from(["parcel", "bank", "sick", "door", "why"]), min_size=1).map(" ".join),
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40).filter(str.strip),
        ),
        max_size=4,
    )
)
def test_a_saved_model_answers_identically(unsaved: Model, reopened: Model, texts: list[str]) -> None:
    assert reopened.classify(texts, neighbours=100) == unsaved.classify(texts, neighbours=100)


def test_a_model_directory_is_complete_and_sound(fitted: Path) -> None:
    assert check(fitted) == []
    parts = {"README.md", "likewise.json", "datastore.db", "snapshot/state.safetensors"}
    assert parts | {"generations/0001/encoder/onnx/model.onnx"} <= shape(fitted)
    assert all(f"| {label} |" in (fitted / "README.md").read_text() for label in ("delivery", "invoice", "health"))


def test_opening_takes_over_the_snapshot(fitted: Path) -> None:
    """No example is taken in again; the state comes from the file."""
    with Model.open(fitted) as model:
        assert (model._answering._state.revision, len(model._answering._state), model._answering._state.unsaved) == (
            2,
            41,
            0,
        )


# Binding and copying


def test_the_first_save_binds_and_the_second_copies(temporary: Model, tmp_path: Path) -> None:
    p, q = tmp_path / "deep" / "P", tmp_path / "Q"
    before = temporary.classify(TEXTS)
    paths = [temporary.path]
    assert temporary.save(p) is temporary
    paths.append(temporary.path)
    assert not (tmp_path / "likewise-new").exists()
    assert temporary.classify(TEXTS) == before

    temporary.teach("zebra", "animal", by="ann")
    temporary.save(q)
    paths.append(temporary.path)
    assert paths == [None, p, p]  # it stays where it was
    temporary.teach("dog", "animal")
    with Model.open(q) as copy:
        assert copy.labels["animal"] == 1
        assert [r.by for r in copy._ledger.revisions(limit=1)] == ["ann"]  # with its history
        assert (copy.revision, temporary.revision) == (3, 4)
        copy.forget([1, 2])
        assert len(temporary.examples([1, 2])) == 2
        assert copy.revision == temporary.revision  # by number, not by content
    assert check(p) == check(q) == []
    assert shape(p) == shape(q)


def test_what_is_changed_during_the_first_save_is_kept(
    temporary: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = threading.Thread(target=temporary.forget, args=(1,))
    copy_to = Ledger.copy_to

    def copied(ledger: Ledger, path: Path) -> None:
        copy_to(ledger, path)
        other.start()
        other.join(0.5)  # what does not wait for the save is done by then

    monkeypatch.setattr(Ledger, "copy_to", copied)
    temporary.save(tmp_path / "P")
    other.join()
    assert (temporary.revision, temporary.examples([1])) == (3, [])
    assert check(tmp_path / "P") == []


def test_past_models_go_along_with_the_first_save(temporary: Model, tmp_path: Path) -> None:
    with temporary.as_of(1) as past, past.as_of(1) as further, temporary.as_of(1) as closed:
        expected = past.classify(TEXTS)
        closed.close()
        temporary.save(tmp_path / "P")
        temporary.teach("zebra", "animal")
        assert past.classify(TEXTS) == further.classify(TEXTS) == expected
        assert (past.size, further.size, past.path) == (40, 40, tmp_path / "P")
        with pytest.raises(LedgerError, match="closed"):
            _ = closed.size


def test_saving_where_it_lies_is_no_copy(fitted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    with Model.open(path) as model:
        assert model.save(path) is model
        assert model.save(tmp_path / "nothing" / ".." / "model") is model
        assert model.path == path
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_may_go_to_another_directory(
    temporary: Model, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(fitted, tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Model.open("model") as opened:
        temporary.save("P")
        monkeypatch.chdir("elsewhere")
        for model in (opened, temporary):
            assert model.classify(TEXTS)[0].revision == 2
            with model.as_of(1) as past:
                assert past.size == 40
            model.erase(1)
    assert check(tmp_path / "P") == check(tmp_path / "model") == []


def test_saving_replaces_nothing(temporary: Model, fitted: Path, tmp_path: Path) -> None:
    folder, file, other = tmp_path / "folder", tmp_path / "file", tmp_path / "other"
    folder.mkdir()
    (folder / "precious").write_text("mine")
    file.write_text("mine")
    shutil.copytree(fitted, other)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for target in (folder, file, other):
        with pytest.raises(ModelError, match=f"{target}: there is something already"):
            temporary.save(target)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in after if not path.name.endswith(("-wal", "-shm"))} <= set(before)
    assert all(after[path] == content for path, content in before.items() if path.is_relative_to(folder))
    assert temporary.path is None
    assert temporary.classify("my parcel").revision == 2


def test_no_model_is_saved_in_a_model(temporary: Model, fitted: Path, tmp_path: Path) -> None:
    outer = Path(shutil.copytree(fitted, tmp_path / "outer"))
    (tmp_path / "link").symlink_to(outer / "generations")
    for place in (outer / "x", tmp_path / "link" / "x"):
        for write in (temporary.save, temporary.copy_to):
            with pytest.raises(ModelError, match=r"lies in a model, .*outer; choose another path"):
                write(place)
    assert check(outer) == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_directory_that_went_from_under_an_open_model_takes_no_change(
    fitted: Path, tmp_path: Path, replaced: bool
) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    with Model.open(path) as model:
        model.relabel(1, "health")
        shutil.rmtree(path)
        if replaced:
            shutil.copytree(fitted, path)  # as from a backup
        for use in (lambda: model.relabel(2, "health"), lambda: model.classify("why"), lambda: model.labels):
            with pytest.raises(LedgerMoved, match="open the model again"):
                use()
    assert path.exists() == replaced
    if replaced:
        assert check(path) == []
        with Model.open(path) as again:
            assert again.revision == 2


def test_a_snapshot_that_cannot_be_read_is_taken_away(fitted: Path, tmp_path: Path) -> None:
    layout = Layout(Path(shutil.copytree(fitted, tmp_path / "model")))
    layout.snapshot.write_text("garbage")
    assert [line for line in check(layout.root) if "it will be made again" in line]
    with Model.open(layout.root) as model, Model.open(fitted) as other:
        assert model.classify(TEXTS) == other.classify(TEXTS)
    assert check(layout.root) == []


def test_saving_where_no_model_can_be(temporary: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    inside = temporary._layout.generation(1) / "deep" / "copy"
    before = sorted(tmp_path.rglob("*"))
    for target in ("", ".", "..", "/", "../file/x", "../file/x/y", "../loop", "x" * 250, "new/" + "x" * 300, inside):
        with pytest.raises(ModelError, match="choose another path"):
            temporary.save(target)
    with pytest.raises(ModelError, match="choose another path"):
        temporary.copy_to(inside)
    assert sorted(tmp_path.rglob("*")) == before
    assert temporary.path is None


@pytest.mark.parametrize("there", [True, False])
def test_saving_onto_a_link(temporary: Model, tmp_path: Path, there: bool) -> None:
    place, link = tmp_path / "place", tmp_path / "link"
    link.symlink_to(place)
    if there:
        place.mkdir()
    assert temporary.save(link).path == place
    assert link.is_symlink()
    assert check(link) == []


def test_a_copy_of_what_may_not_be_written_may_be(fitted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    folders = [path, *(folder for folder in path.rglob("*") if folder.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    with Model.open(path) as model:
        model.save(tmp_path / "P")
    for folder in folders:
        folder.chmod(0o755)
    assert all(folder.stat().st_mode & 0o700 == 0o700 for folder in (tmp_path / "P").rglob("*") if folder.is_dir())


@pytest.mark.filterwarnings("ignore:.*one example only")
@pytest.mark.parametrize("later", [True, False])
def test_a_copy_is_of_one_moment(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: bool) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    copy_to = Ledger.copy_to
    with Model.open(path) as model, Model.open(path) as elsewhere:
        model.classify(TEXTS)

        def copied(ledger: Ledger, target: Path) -> None:
            steps = [lambda: copy_to(ledger, target), lambda: elsewhere.teach("zebra", "animal")]
            for step in steps if later else reversed(steps):
                step()

        def refitted(ledger: Ledger, target: Path) -> None:
            copied(ledger, target)
            if elsewhere.info.generation == 1:
                elsewhere.refit(max_tokens=32)

        for number, step in enumerate((copied, refitted)):
            with monkeypatch.context() as patched:
                patched.setattr(Ledger, "copy_to", step)
                model.copy_to(tmp_path / f"{number}")
            assert check(tmp_path / f"{number}") == []
            with Model.open(tmp_path / f"{number}") as copy:
                assert copy.revision == len(copy.history())
                assert copy.classify("my parcel").revision == copy.revision

        def again(ledger: Ledger, target: Path) -> None:
            copy_to(ledger, target)
            now = read_manifest(path)
            write_manifest(Layout(path), replace(now, generation=3 - now.generation))

        monkeypatch.setattr(Ledger, "copy_to", again)
        with pytest.raises(LedgerBusy, match="faster than it can be copied"):
            model.save(tmp_path / "never")
        assert not (tmp_path / "never").exists()


@pytest.mark.filterwarnings("ignore:.*one example only")
def test_a_copy_while_generations_are_pruned_elsewhere(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    with Model.open(path) as model, Model.open(path) as elsewhere:
        elsewhere.refit(max_tokens=32)
        copy_tree = likewise.saving.copy_tree

        def pruned_first(*given: object) -> None:
            elsewhere.prune()
            copy_tree(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(likewise.saving, "copy_tree", pruned_first)
        model.copy_to(tmp_path / "copy")
        assert check(tmp_path / "copy") == []
        with Model.open(tmp_path / "copy") as copy:
            assert [p.labels for p in copy.classify(TEXTS)] == [p.labels for p in model.classify(TEXTS)]


def test_saving_into_an_empty_directory(temporary: Model, tmp_path: Path) -> None:
    (tmp_path / "P").mkdir()
    assert temporary.save(tmp_path / "P").path == tmp_path / "P"
    assert read_manifest(tmp_path / "P") == temporary.info


def test_a_save_that_fails_leaves_nothing(temporary: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(likewise.saving, "write_manifest", full)
        with pytest.raises(OSError, match="No space left"):
            temporary.save(tmp_path / "P")
    assert sorted(tmp_path.iterdir()) == before
    assert temporary.classify("my parcel").revision == 2
    temporary.save(tmp_path / "P")
    assert check(tmp_path / "P") == []


# The snapshot of an opened model


def test_a_snapshot_is_written_when_catching_up_has_become_work(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likewise.answering, "FEW_CHANGES", 3)
    path = Path(shutil.copytree(fitted, tmp_path / "model"))

    def snapshot_of(model: Model) -> int:
        found = State(model._answering.decision, model.task, model._answering._state.fingerprint, 1)
        assert found.read(Layout(path).snapshot)
        return found.revision

    for taught, expected in ((2, 2), (6, 4)):
        with Model.open(path) as model:
            model.teach([f"zebra {i} of {taught}" for i in range(taught)], ["animal"] * taught)
            model.classify("zebra")
        assert snapshot_of(model) == expected
    assert check(path) == []


def test_a_snapshot_that_cannot_be_written_keeps_nothing_open(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likewise.answering, "FEW_CHANGES", 3)
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    (path / "snapshot" / f".state.safetensors.{os.getpid()}").mkdir()  # takes the place of what is written first
    model = Model.open(path)
    model.teach([f"zebra {i}" for i in range(6)], ["animal"] * 6)
    model.classify("zebra")
    model.close()
    with pytest.raises(LedgerError, match="closed"):
        _ = model.revision
    with Model.open(path) as again, pytest.raises(LedgerError, match="not yet from every file"):
        again.erase(1)
    assert check(path) == ["the erasure of revision 4 was interrupted: erase the same examples again to complete it"]


def test_a_snapshot_ahead_of_its_ledger_is_never_believed(fitted: Path, tmp_path: Path) -> None:
    """A ledger restored from a backup is the truth, also when it has as many revisions again as were lost."""
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    backup = Path(shutil.copy(path / "datastore.db", tmp_path))
    with Model.open(path) as model:
        model.teach(["zebra", "dog"], ["animal"] * 2)
        model.forget(1)
        model.classify("zebra")
        model._answering._state.write(Layout(path).snapshot)
    shutil.copy(backup, path / "datastore.db")
    with Model.open(path) as model:
        assert model.classify("zebra").revision == 2
        assert "animal" not in dict(model.classify("zebra").scores)
        for i in range(3):
            model.teach(f"cheap flower {i}", "garden")
    with Model.open(path) as model:
        found = model.classify("zebra", neighbours=100)
        assert dict(found.scores).keys() == {"delivery", "invoice", "health", "garden"}
        assert len(model._answering._state) == 44
    assert check(path) == []


# Nobody saved it


def test_closing_a_model_that_was_not_saved_removes_it(temporary: Model, tmp_path: Path) -> None:
    temporary.classify("my parcel")
    temporary.close()
    assert list(tmp_path.iterdir()) == []
    temporary.close()  # twice is fine


def test_collecting_a_model_that_was_not_saved_removes_it(fitted: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(fitted, tmp_path / "likewise-new"))
    model: Model | None = Model(root, Settings(), temporary=True)
    assert model is not None and model.classify("my parcel").revision == 2
    model = None
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_collecting_or_closing_a_saved_model_keeps_it(fitted: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(fitted, tmp_path / "likewise-new"))
    Model(root, Settings(), temporary=True).save(tmp_path / "P")
    gc.collect()
    assert list(tmp_path.iterdir()) == [tmp_path / "P"]
    with Model.open(tmp_path / "P") as model:
        assert model.classify("my parcel").revision == 2
    assert (tmp_path / "P" / "likewise.json").exists()


def test_the_fork_of_a_process_leaves_its_models(temporary: Model) -> None:
    for end in (temporary.close, gc.collect, temporary._discard):
        child = os.fork()
        if child == 0:
            try:
                end()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert temporary.size == 41
        assert temporary._layout.manifest.exists()


def test_a_process_that_ends_removes_its_unsaved_models(fitted: Path, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from likewise.model import Model
from likewise.settings import Settings
kept = Model(Path(sys.argv[1]), Settings(), temporary=True)
kept.save(sys.argv[3])
lost = Model(Path(sys.argv[2]), Settings(), temporary=True)
lost.teach("zebra", "animal")
print(lost.classify("zebra").label)
raise SystemExit("it went wrong")
"""
    roots = [shutil.copytree(fitted, tmp_path / name) for name in ("likewise-a", "likewise-b")]
    process = subprocess.run(
        [sys.executable, "-c", program, *roots, tmp_path / "P"], capture_output=True, text=True, check=False
    )
    assert (process.stdout, process.stderr) == ("animal\n", "it went wrong\n")
    assert list(tmp_path.iterdir()) == [tmp_path / "P"]
    assert check(tmp_path / "P") == []
