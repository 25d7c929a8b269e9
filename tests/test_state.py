"""State: what follows a ledger step by step is what one made afresh from it would be."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

import likewise.state
from likewise.bundle import Decision
from likewise.datastore.ledger import Ledger, NewExample
from likewise.decision.blend import blend
from likewise.decision.head import HeadSettings, LinearHead, make_head, softmax
from likewise.decision.statistics import Statistics
from likewise.decision.tuning import Tuned
from likewise.decision.whitening import fit_whitening
from likewise.state import State
from likewise.types import Task

WIDTH = 6
FINGERPRINT = "0123456789abcdef"
WORDS = [f"text {i}" for i in range(12)]
LABELS = ["a", "b", "c"]


def embedding(text: str) -> NDArray[np.float32]:
    """A vector of unit length that depends on the text alone."""
    vector = np.random.default_rng(zlib.crc32(text.encode())).normal(size=WIDTH)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


QUERIES = np.array([embedding(f"query {i}") for i in range(5)])
DECISION = Decision(
    fit_whitening(np.array([embedding(f"fitted {i}") for i in range(40)])),
    Tuned(4, 3, 0.5, 0.4, HeadSettings(maps={"a": (2.0, -0.5)}, pooled_map=(1.5, 0.25))),
)


def state_of(task: Task, ledger: Ledger | None = None) -> State:
    """An empty state, or one made from a ledger at once."""
    made = State(DECISION, task, FINGERPRINT, 1)
    if ledger is not None:
        made.follow(ledger)
    return made


def teach(ledger: Ledger, rows: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    ledger.teach([NewExample(t, labels, None, embedding(t)) for t, labels in rows], FINGERPRINT, on_conflict="both")


def assert_same(followed: State, fresh: State) -> None:
    """Equal but for rounding: examples, labels, keys, statistics and both voices."""
    assert (followed.revision, len(followed), followed.labels) == (fresh.revision, len(fresh), fresh.labels)
    assert followed.label_sets() == fresh.label_sets()
    mine, theirs = followed.arrays(), fresh.arrays()
    for name in ("ids", "text_ids", "count", "label_counts"):
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
    for name in ("keys", "total", "scatter", "label_totals"):
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)
    if len(fresh.labels) == 0:
        return
    one, other = followed.voices(QUERIES), fresh.voices(QUERIES)
    np.testing.assert_array_equal(one.hits.ids, other.hits.ids)
    np.testing.assert_allclose(one.vote, other.vote, atol=1e-6)  # distances of keys in float32
    np.testing.assert_allclose(one.head, other.head, atol=1e-9)
    sets = [[one.sets[code] for code in row] for row in one.hits.codes.tolist()]
    assert sets == [[other.sets[code] for code in row] for row in other.hits.codes.tolist()]


class Following(RuleBasedStateMachine):
    """Any sequence of changes, followed at any moment, through snapshots or without."""

    task: Task = "multi"

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.snapshot = Path(self.folder.name, "snapshot", "state.safetensors")
        self.ledger = Ledger.create(Path(self.folder.name, "datastore.db"), task=self.task)
        self.state = state_of(self.task)

    def labels(self, data: st.DataObject) -> tuple[str, ...]:
        least, most = (1, 1) if self.task == "single" else (0, 3)
        return tuple(data.draw(st.lists(st.sampled_from(LABELS), min_size=least, max_size=most, unique=True)))

    def live(self) -> list[int]:
        return [example.id for example in self.ledger.examples()]

    @rule(data=st.data(), texts=st.lists(st.sampled_from(WORDS), min_size=1, max_size=5))
    def teach(self, data: st.DataObject, texts: list[str]) -> None:
        teach(self.ledger, [(text, self.labels(data)) for text in texts])

    @rule(data=st.data(), text=st.sampled_from(WORDS), ref=st.sampled_from(["r", "s"]))
    def teach_under_a_reference(self, data: st.DataObject, text: str, ref: str) -> None:
        self.ledger.teach([NewExample(text, self.labels(data), ref, embedding(text))], FINGERPRINT)

    @precondition(lambda self: self.ledger.example_count())
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        self.ledger.forget(data.draw(st.lists(st.sampled_from(self.live()), min_size=1, unique=True)))

    @precondition(lambda self: self.ledger.example_count())
    @rule(data=st.data())
    def relabel(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(self.live()), min_size=1, max_size=4, unique=True))
        self.ledger.relabel(ids, [self.labels(data) for _ in ids])

    @precondition(lambda self: self.ledger.labels())
    @rule(data=st.data(), new=st.sampled_from([*LABELS, "d"]))
    def rename_or_merge(self, data: st.DataObject, new: str) -> None:
        old = data.draw(st.sampled_from(sorted(self.ledger.labels())))
        if new in self.ledger.labels():
            self.ledger.merge_labels([old], new)
        else:
            self.ledger.rename_label(old, new)

    @rule()
    def follow(self) -> None:
        self.state.follow(self.ledger)

    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        self.ledger.revert(data.draw(st.integers(0, self.ledger.revision())))

    @rule(data=st.data())
    def travel(self, data: st.DataObject) -> None:
        """To any revision, from wherever the state stands: the same as going there from the beginning."""
        target = data.draw(st.integers(0, self.ledger.revision()))
        self.state.follow(self.ledger, target)
        fresh = state_of(self.task)
        fresh.follow(self.ledger, target)
        assert_same(self.state, fresh)

    @rule()
    def through_a_snapshot(self) -> None:
        """Another process opens the model; it may have more to catch up with than the snapshot holds."""
        self.state.write(self.snapshot)
        assert self.state.unsaved == 0
        self.state = state_of(self.task)
        assert self.state.read(self.snapshot)

    @invariant()
    def a_copy_that_follows_is_what_is_made_afresh(self) -> None:
        self.state.follow(self.ledger)
        assert_same(self.state, state_of(self.task, self.ledger))

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()


class FollowingOneLabel(Following):
    task: Task = "single"


class FollowingLate(Following):
    """Followed only where a rule says so: many changes at once."""

    def a_copy_that_follows_is_what_is_made_afresh(self) -> None:
        """Not after every step."""

    def teardown(self) -> None:
        self.state.follow(self.ledger)
        assert_same(self.state, state_of(self.task, self.ledger))
        super().teardown()


BRIEFLY = settings(max_examples=15, stateful_step_count=10, deadline=None)
FollowingSeveralLabelsTest = Following.TestCase
FollowingSeveralLabelsTest.settings = BRIEFLY
FollowingOneLabelTest = FollowingOneLabel.TestCase
FollowingOneLabelTest.settings = BRIEFLY
FollowingLateTest = FollowingLate.TestCase
FollowingLateTest.settings = BRIEFLY


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger.create(tmp_path / "datastore.db", task="single")
    teach(made, [(word, (LABELS[i % 3],)) for i, word in enumerate(WORDS)])
    return made


# What it answers


def test_it_answers_what_its_parts_answer(ledger: Ledger) -> None:
    """Against the parts, put together by hand from the examples themselves."""
    found = state_of("single", ledger).voices(QUERIES)
    vectors = np.array([embedding(word) for word in WORDS])
    labels = [LABELS[i % 3] for i in range(len(WORDS))]
    statistics = Statistics.of(vectors, [(label,) for label in labels])
    head = make_head(statistics, DECISION.whitening, DECISION.tuned.head, "single").probabilities(QUERIES)
    keys, wanted = (DECISION.whitening.first(4).keys(rows).astype(np.float64) for rows in (vectors, QUERIES))
    distances = np.linalg.norm(wanted[:, None] - keys[None], axis=2)
    vote = np.zeros_like(head)
    for row, order in enumerate(np.argsort(distances, axis=1)[:, :3]):
        shares = np.exp(-distances[row, order] / 0.5)
        for i, share in zip(order, shares / shares.sum(), strict=True):
            vote[row, LABELS.index(labels[i])] += share
        assert found.hits.ids[row].tolist() == (order + 1).tolist()
    np.testing.assert_allclose(found.head, head, atol=1e-12)
    np.testing.assert_allclose(found.vote, vote, atol=1e-6)
    np.testing.assert_allclose(found.blend, blend(found.vote, found.head, 0.4), atol=1e-12)


def test_a_trained_head_takes_the_networks_own_logits_and_a_closed_form_one_does_not(ledger: Ledger) -> None:
    logits = np.random.default_rng(0).normal(size=(len(QUERIES), 4)).astype(np.float32)
    own = LinearHead([*LABELS, "gone"], np.eye(4), np.zeros(4), "single")
    state = State(replace(DECISION, head=own), "single", FINGERPRINT, 1)
    state.follow(ledger)
    found = state.voices(QUERIES, logits)
    np.testing.assert_allclose(found.head, softmax(logits[:, :3].astype(np.float64)), atol=1e-6)
    plain = state_of("single", ledger)
    np.testing.assert_array_equal(plain.voices(QUERIES, logits).head, plain.voices(QUERIES).head)
    np.testing.assert_array_equal(found.vote, plain.voices(QUERIES).vote)


def test_decisions(ledger: Ledger) -> None:
    table = np.array([[0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])
    single = replace(state_of("single", ledger).voices(QUERIES), labels=["a", "b", "c"])
    assert single.decide(table) == [("a",), ("c",)]
    tuned = replace(DECISION.tuned, thresholds={"a": 0.4, "b": 0.41}, threshold=0.2)
    several = replace(single, task="multi", tuned=tuned)
    assert several.decide(table) == [("a", "c"), ("c",)]
    assert several.decide(np.zeros((1, 3))) == [()]


def test_following_nothing_new_does_nothing(ledger: Ledger) -> None:
    state = state_of("single", ledger)
    head = state.head
    state.follow(ledger)
    assert state.head is head
    ledger.forget([1])
    state.follow(ledger)
    assert state.head is not head


def test_large_changes_are_taken_in_by_parts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = state_of("single", ledger)
    monkeypatch.setattr(likewise.state, "CHUNK", 5)
    assert_same(state_of("single", ledger), whole)


def test_a_text_that_was_taught_again_has_the_same_key_again(ledger: Ledger) -> None:
    """Bit by bit, whatever it was taught with; so exact duplicates tie, and the lower id comes first everywhere."""
    followed = state_of("single", ledger)
    ledger.relabel([2], [("c",)])
    followed.follow(ledger)
    for number in (1, 2, 3, 7):
        teach(ledger, [(word, ("b",)) for word in WORDS[:number]])
        followed.follow(ledger)
    fresh = state_of("single", ledger)
    np.testing.assert_array_equal(followed.arrays()["keys"], fresh.arrays()["keys"])
    hits = followed.voices(np.array([embedding(WORDS[0])])).hits
    assert hits.ids.tolist() == [[1, 13, 14]]
    assert np.ptp(hits.distances) == 0


# Snapshots


@pytest.fixture
def snapshot(ledger: Ledger, tmp_path: Path) -> Path:
    path = tmp_path / "snapshot" / "state.safetensors"
    state_of("single", ledger).write(path)
    return path


def test_a_snapshot_is_read_back_and_caught_up(ledger: Ledger, snapshot: Path) -> None:
    state = state_of("single")
    assert state.read(snapshot)
    assert_same(state, state_of("single", ledger))
    ledger.forget([2, 3])
    teach(ledger, [("new", ("d",))])
    ledger.rename_label("a", "z")
    state.follow(ledger)
    assert state.unsaved == 7  # two forgotten, one taught, four renamed
    assert_same(state, state_of("single", ledger))


def test_a_snapshot_holds_no_text(snapshot: Path) -> None:
    assert b"text" not in snapshot.read_bytes().replace(b"text_ids", b"")
    assert [path.name for path in snapshot.parent.iterdir()] == ["state.safetensors"]


def refused(ledger: Ledger, path: Path) -> bool:
    """Whether a state that is further than the snapshot refuses it, and stays as it was."""
    ledger.forget([1])
    state = state_of("single", ledger)
    read = state.read(path)
    assert_same(state, state_of("single", ledger))
    return not read


def test_a_snapshot_of_another_generation_or_encoder_is_refused(snapshot: Path) -> None:
    for fingerprint, generation in ((FINGERPRINT, 2), ("fedcba9876543210", 1)):
        state = State(DECISION, "single", fingerprint, generation)
        assert not state.read(snapshot)
        assert (len(state), state.revision) == (0, 0)
    assert state_of("single").read(snapshot)
    assert not state_of("single").read(snapshot.with_name("missing"))


def test_a_snapshot_of_another_format_is_refused(
    ledger: Ledger, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likewise.state, "SNAPSHOT_FORMAT", likewise.state.SNAPSHOT_FORMAT + 1)
    assert refused(ledger, snapshot)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_snapshot_cut_short_is_refused(ledger: Ledger, snapshot: Path, share: float) -> None:
    content = snapshot.read_bytes()
    snapshot.write_bytes(content[: int(share * len(content))])
    assert refused(ledger, snapshot)


def test_a_snapshot_that_is_something_else_is_refused(ledger: Ledger, snapshot: Path) -> None:
    snapshot.write_bytes(b"something else" * 100)
    assert refused(ledger, snapshot)


@pytest.mark.parametrize("part", ["ids", "keys", "text_ids", "scatter", "header"])
def test_a_snapshot_that_lacks_a_part_is_refused(ledger: Ledger, snapshot: Path, part: str) -> None:
    with safe_open(snapshot, framework="np") as file:
        names = [name for name in file.keys() if name != part]  # noqa: SIM118
        arrays = {name: file.get_tensor(name) for name in names}
        metadata = file.metadata()
    save_file(arrays, snapshot, metadata=None if part == "header" else metadata)
    assert refused(ledger, snapshot)
