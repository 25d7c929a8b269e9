"""Model: a datastore on a server, shared by many processes, and what happens when the server is away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from likewise import moving, refitting
from likewise.answering import Answering
from likewise.bundle import Layout, read_manifest
from likewise.checking import check
from likewise.datastore import ledger_postgres
from likewise.datastore.ledger import Ledger, is_url
from likewise.errors import LedgerAway, LedgerBusy, LedgerError, LedgerMoved, ModelForeign, UsageError
from likewise.fitting import fit
from likewise.model import Model
from likewise.types import Prediction
from postgres import Server
from rows import alike

ASKED = ["my parcel is late", "the bank card is lost", "a sick bird", "why"]
ROUNDING = 1e-9


@pytest.fixture
def place(server: Server) -> str:
    return server.place()


@pytest.fixture
def local(fitted: Path, tmp_path: Path) -> Iterator[Model]:
    with Model.open(shutil.copytree(fitted, tmp_path / "model")) as opened:
        yield opened


@pytest.fixture
def model(local: Model, place: str) -> Model:
    local.move(place)
    return local


def bare(prediction: dict[str, Any]) -> dict[str, Any]:
    """Without `stale`."""
    return {key: value for key, value in prediction.items() if key != "stale"}


def told(found: list[Prediction]) -> list[dict[str, Any]]:
    return [bare(prediction.to_dict()) for prediction in found]


def eventually(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def test_a_model_moves_there_and_back(local: Model, place: str, fitted: Path) -> None:
    assert local.path is not None
    local.teach("a sick bird", "health")
    expected, examples = local.classify(ASKED), local.examples()
    with Model.open(local.path) as elsewhere:
        assert elsewhere.classify(ASKED) == expected
        assert local.move(place, by="ada", note="share it") == 3
        for one in (local, elsewhere):
            assert [dict(p.scores) for p in one.classify(ASKED)] == [dict(p.scores) for p in expected]
            assert one.examples() == examples
        (number,) = elsewhere.teach("a blue tree", "health").ids
        assert number == 42
        assert local.classify("a blue tree").neighbours[0].id == 42
    assert json.loads(Layout(local.path).manifest.read_text())["datastore"] == place
    assert Layout(local.path).datastore.stat().st_size < 100_000
    assert check(local.path) == []
    with pytest.raises(UsageError, match="expected postgresql://"):
        local.move("mysql://x")
    with pytest.raises(ModelForeign, match="already"):
        local.move(place)
    assert local.move("sqlite") == 5
    assert local.classify("a blue tree").neighbours[0].id == 42
    assert [change.action for change in local.history(3)] == ["moved", "taught", "moved"]
    assert check(local.path) == []
    with pytest.raises(UsageError, match="in the model directory already"):
        local.move("sqlite")


def test_changes_of_every_kind_and_the_past(model: Model) -> None:
    assert model.path is not None
    with Model.open(model.path) as other:
        (number,) = model.teach("a sick bird", "health").ids
        at = model.revision
        model.relabel(1, "health")
        model.forget(2)
        model.rename_label("health", "animals")
        model.merge_labels(["animals"], "invoice")
        assert alike(told(other.classify(ASKED)), told(model.classify(ASKED)), ROUNDING)
        with other.as_of(at) as past:
            assert past.classify("a sick bird").label == "health"
            assert past.classify("a sick bird").revision == at
        model.revert(at)
        model.erase(number)
        model.refit()
        assert alike(told(other.classify(ASKED)), told(model.classify(ASKED)), ROUNDING)
        assert number not in [n.id for n in other.classify("a sick bird", 50).neighbours]
    assert check(model.path) == []


def test_while_the_server_is_away_the_last_revision_answers(model: Model, server: Server, tmp_path: Path) -> None:
    assert model.path is not None
    expected = model.classify(ASKED)
    assert not any(prediction.stale for prediction in expected)
    server.stop()
    try:
        answers = model.classify(ASKED)
        assert all(prediction.stale for prediction in answers)
        assert answers[0].to_dict()["stale"] is True
        assert alike(told(answers), told(expected), ROUNDING)
        with pytest.raises(LedgerAway, match="nothing was written"):
            model.teach("a sick bird", "health")
        with pytest.raises(LedgerAway):
            Model.open(model.path)
    finally:
        server.start()
    model.teach("a sick bird", "health")
    eventually(lambda: not model.classify("why").stale)
    assert model.classify("a sick bird").label == "health"


def test_a_server_that_hangs_is_as_good_as_away(model: Model, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_postgres, "PATIENCE", 1.0)
    assert model.path is not None
    expected = model.classify(ASKED)
    with server.frozen():
        answers = model.classify(ASKED)
        assert all(prediction.stale for prediction in answers)
        assert alike(told(answers), told(expected), ROUNDING)
        for attempt in (lambda: model.teach("a sick bird", "health"), lambda: Model.open(model.path or "")):
            with pytest.raises(LedgerAway):
                attempt()
    eventually(lambda: not model.classify("why").stale)
    assert "health" not in model.labels
    model.teach("a sick bird", "health")
    assert model.classify("a sick bird").label == "health"


def test_a_model_hears_of_changes_before_it_is_asked(model: Model, server: Server) -> None:
    assert model.path is not None
    with Model.open(model.path) as other:
        other.classify("why")
        (number,) = model.teach("a sick bird", "health").ids
        eventually(lambda: number in other._answering._state.label_sets())
        server.stop()
        server.start()
        (second,) = model.teach("a blue tree", "health").ids
        eventually(lambda: second in other._answering._state.label_sets())


@pytest.mark.parametrize("by", ["this model", "another"])
def test_a_refit_goes_along_with_a_move(local: Model, place: str, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    assert local.path is not None
    best = refitting.best
    with Model.open(local.path) as another:
        mover = local if by == "this model" else another

        def moved(found: Any) -> Any:
            mover.move(place)
            mover.teach("a sick bird", "health")
            return best(found)

        monkeypatch.setattr(refitting, "best", moved)
        local.refit(max_tokens=32)
        manifest = read_manifest(local.path)
        assert (manifest.datastore, manifest.generation) == (place, 2)
        for one in (local, another):
            assert one.classify("a sick bird").neighbours[0].id == 41
    assert check(local.path) == []


def test_a_refit_that_meets_a_move_at_its_end_fails_and_loses_nothing(
    model: Model, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.path is not None
    refit, further = Ledger.refit, server.place()
    with Model.open(model.path) as another:

        def moved(ledger: Ledger, switch: Any, **given: Any) -> int:
            another.move(further)
            return refit(ledger, switch, **given)

        monkeypatch.setattr(Ledger, "refit", moved)
        with pytest.raises(LedgerError, match="was moved to postgresql"):
            model.refit(max_tokens=32)
        manifest = read_manifest(model.path)
        assert (manifest.datastore, manifest.generation) == (further, 1)
        model.teach("a sick bird", "health")
        assert another.classify("a sick bird").neighbours[0].id == 41


def test_a_move_keeps_what_a_refit_wrote(local: Model, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.path is not None
    require_room = moving.require_room
    with Model.open(local.path) as another:

        def refitted(url: str) -> None:
            require_room(url)
            another.refit(max_tokens=32)

        monkeypatch.setattr(moving, "require_room", refitted)
        local.move(place)
        manifest = read_manifest(local.path)
        assert (manifest.datastore, manifest.generation) == (place, 2)
        assert alike(told(another.classify(ASKED)), told(local.classify(ASKED)), ROUNDING)
    assert check(local.path) == []


def test_a_password_gets_nowhere(local: Model, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.path is not None
    with pytest.raises(UsageError) as caught:
        local.move(place.replace("likewise@", "likewise:hush-hush@"))
    assert "hush" not in str(caught.value)
    monkeypatch.setenv("PGPASSWORD", "hush-hush")
    local.move(place)
    local.teach("a sick bird", "health")
    assert not [path for path in local.path.rglob("*") if path.is_file() and b"hush-hush" in path.read_bytes()]


def test_a_copy_of_a_shared_model_is_its_own(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "copy")
    with Model.open(tmp_path / "copy") as copy:
        copy.teach("a sick bird", "health")
        assert copy.revision == model.revision + 1
        assert "health" not in model.labels
    assert check(tmp_path / "copy") == []


def test_what_could_not_be_moved_stays(local: Model, server: Server) -> None:
    expected = local.classify(ASKED)
    with pytest.raises(LedgerAway):
        local.move(f"postgresql://likewise@127.0.0.1:{server.port}/nowhere")
    assert local.classify(ASKED) == expected
    local.teach("a sick bird", "health")
    assert check(local.path or "") == []


FOLLOWER = """
import json, sys
from likewise.fitting import fit
from likewise.model import Model
with Model.open(sys.argv[1]) as model:
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "teach":
            for i in range(order["count"]):
                model.teach(f"{order['text']} {i}", order["label"])
        print(json.dumps([[p.to_dict(), len(model.labels)] for p in model.classify(order["ask"])]), flush=True)
"""


class Process:
    """A follower in a process of its own."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", FOLLOWER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=dict(os.environ),
        )  # fmt: skip

    def order(self, **what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"ask": ASKED, **what}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


def test_followers_converge_after_every_burst_and_a_paused_one_catches_up(model: Model) -> None:
    assert model.path is not None
    followers = [Process(model.path) for _ in range(3)]
    try:
        for round_ in range(3):
            paused = followers[round_]
            paused.order(do="ask")
            paused.answer()
            paused.process.send_signal(signal.SIGSTOP)
            others = [one for one in followers if one is not paused]
            for number, one in enumerate(others):  # both at once
                one.order(do="teach", count=5, text=f"bird {round_} {number}", label=f"label {round_}")
            for one in others:
                one.answer()
            paused.process.send_signal(signal.SIGCONT)
            for one in followers:
                one.order(do="ask")
            first, *rest = [[[bare(said), count] for said, count in one.answer()] for one in followers]
            assert all(alike(answer, first, ROUNDING) for answer in rest)
            assert first[0][0]["revision"] == model.revision == 2 + 10 * (round_ + 1)
            assert alike(told(model.classify(ASKED)), [prediction for prediction, _ in first], ROUNDING)
    finally:
        for one in followers:
            one.process.kill()
            one.process.communicate()


def test_a_change_is_made_where_the_datastore_went(local: Model, place: str) -> None:
    assert local.path is not None
    with Model.open(local.path) as behind:
        left = behind._ledger._store
        local.move(place)
        behind._ledger._store = left  # as if the move came between its look and its change
        assert behind._ledger.forget([1]).revision == 3
        assert 1 not in [example.id for example in local.examples()]
        assert behind.classify("why").revision == 3


@pytest.mark.parametrize("there", [True, False])
def test_whoever_only_looks_things_up_follows_a_move(local: Model, place: str, there: bool) -> None:
    assert local.path is not None
    if not there:
        local.move(place)
    with Model.open(local.path) as other, other.as_of(1) as past:
        before = past.labels, past.examples()
        local.move(place if there else "sqlite")
        local.teach("a sick bird", "health")
        assert (other.revision, other.labels, other.size) == (local.revision, local.labels, local.size)
        assert other.examples() == local.examples()
        assert [change.action for change in other.history(2)] == ["taught", "moved"]
        assert other.history_of(1) == local.history_of(1)
        assert (past.labels, past.examples()) == before
        assert other.relabel(1, "health").updated == 1
        assert local.examples([1])[0].labels == ("health",)


def test_a_change_that_waits_while_the_datastore_leaves_the_server_is_made_where_it_goes(model: Model) -> None:
    assert model.path is not None
    with Model.open(model.path) as writer, ThreadPoolExecutor(2) as both:
        with model._ledger._store.write():  # holds the lock: the others queue, the move first
            moved = both.submit(model.move, "sqlite")
            eventually(lambda: waiting(model) == 1)
            changed = both.submit(writer.relabel, 1, "health")
            eventually(lambda: waiting(model) == 2)
        assert (moved.result(), changed.result().revision) == (3, 4)
    with Model.open(model.path) as again:
        assert again.examples([1])[0].labels == ("health",)
        assert [change.action for change in again.history(2)] == ["relabelled", "moved"]


def waiting(model: Model) -> int:
    """How many transactions wait for the lock of the model's datastore."""
    asked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return int(model._ledger._store.read(lambda connection: connection.exec_driver_sql(asked).scalar_one()))


def test_another_directory_that_shares_the_server_stays_with_it(model: Model, tmp_path: Path) -> None:
    assert model.path is not None
    with Model.open(shutil.copytree(model.path, tmp_path / "shares")) as shares:
        model.move("sqlite")
        (number,) = shares.teach("a sick bird", "health").ids
        assert [example.id for example in shares.examples(label="health")] == [number]
        assert model.examples(label="health") == []


def test_a_model_that_slept_through_two_moves_goes_on(local: Model, place: str) -> None:
    assert local.path is not None
    with Model.open(local.path) as slept, slept.as_of(1) as past:
        before = past.classify(ASKED)
        local.move(place)
        local.move("sqlite")  # into another file of the same name
        local.teach("a sick bird", "health")
        assert slept.labels == local.labels
        assert slept.relabel(1, "health").revision == local.revision
        assert told(slept.classify(ASKED)) == told(local.classify(ASKED))
        assert past.classify(ASKED) == before


def test_a_place_that_was_left_may_be_gone(server: Server, local: Model, place: str) -> None:
    assert local.path is not None
    local.move(place)
    with Model.open(local.path) as other, other.as_of(1) as past:
        expected = past.classify(ASKED)
        other.classify("why")
        local.move("sqlite")
        server.stop()
        try:
            assert other.relabel(1, "health").updated == 1
            assert not other.classify("why").stale
            assert past.classify(ASKED) == expected
        finally:
            server.start()


def test_of_two_that_move_at_once_one_is_told_so(model: Model) -> None:
    assert model.path is not None
    with Model.open(model.path) as other, ThreadPoolExecutor(2) as both:
        with model._ledger._store.write():
            first = both.submit(model.move, "sqlite")
            eventually(lambda: waiting(model) == 1)
            second = both.submit(other.move, "sqlite")
            eventually(lambda: waiting(model) == 2)
        assert first.result() == 3
        with pytest.raises(UsageError, match="already"):
            second.result()
        assert other.teach("a sick bird", "health").revision == 4
        assert check(model.path) == []


def test_a_look_that_a_move_overtakes_is_taken_where_the_datastore_went(
    local: Model, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local.path is not None
    expected = local.labels, local.examples(), told(local.classify(ASKED))
    settle = Answering._settle
    with Model.open(local.path) as other:

        def overtaken(answering: Answering) -> None:
            settle(answering)
            if answering is other._answering:
                monkeypatch.setattr(Answering, "_settle", settle)
                local.move("sqlite" if is_url(local._ledger.name) else place)

        for look, before in zip(
            (lambda: other.labels, other.examples, lambda: told(other.classify(ASKED))), expected, strict=True
        ):
            if is_url(local._ledger.name):
                local.move("sqlite")
                place = place + "x"
            other.classify("why")
            monkeypatch.setattr(Answering, "_settle", overtaken)
            found = look()
            if isinstance(found, list) and found and isinstance(found[0], dict):
                found, before = [one["scores"] for one in found], [one["scores"] for one in before]
            assert found == before


@pytest.mark.filterwarnings("ignore::likewise.progress.LikewiseWarning")
def test_no_other_model_is_taken_for_one_that_was_moved(local: Model, fitted: Path, place: str, tmp_path: Path) -> None:
    """A link to the directory that is switched while the model is open."""
    assert local.path is not None
    (tmp_path / "now").symlink_to(local.path)
    local.move(place)
    texts = ["a red house", "a blue house", "an old tree", "a tall tree"]
    with Model.open(tmp_path / "now") as opened:
        opened.classify("why")
        other = fit(texts, ["house", "house", "tree", "tree"], recipe="frozen", encoder=str(opened.info.encoder))
        other.save(tmp_path / "other").close()
        (tmp_path / "now").unlink()
        (tmp_path / "now").symlink_to(tmp_path / "other")
        for use in (lambda: opened.classify("why"), lambda: opened.labels, lambda: opened.relabel(1, "health")):
            with pytest.raises(LedgerMoved, match="another datastore than was opened"):
                use()
    with Model.open(tmp_path / "other") as untouched:
        assert untouched.revision == 1


def test_a_move_whose_file_is_being_read_says_what_is_left(local: Model, place: str) -> None:
    assert local.path is not None
    file = Layout(local.path).datastore
    with Model.open(local.path, lock_timeout=0.2) as mover, contextlib.closing(sqlite3.connect(file)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM texts").fetchall()
        with pytest.raises(LedgerBusy, match=r"was moved at revision 2, but another process reads .*; delete the file"):
            mover.move(place)
        assert mover.classify("why").revision == local.revision == 2
        assert mover.teach("a sick bird", "health").revision == 3
