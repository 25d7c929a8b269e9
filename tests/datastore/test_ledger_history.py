"""Any sequence of changes: the ledger holds what a plain dictionary holds, now and at every earlier revision."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from itertools import compress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from likewise.datastore.ledger import Ledger, NewExample
from likewise.errors import ExampleError, LabelError, UsageError
from likewise.types import Change, OnConflict, Task

TEXTS = ["where is my parcel", "Where is my parcel", "the app crashes", "ça marche 🎉", 'line\nbreak\t"quoted"']
LABELS = ["app", "delivery", 'a "quoted" label', "größe"]
REFS = ["r1", "r2", "r3"]
FINGERPRINT = "0123456789abcdef"

Held = tuple[str, tuple[str, ...], str | None]  # text, labels, ref


def vector_of(text: str) -> np.ndarray:
    return np.array([len(text), sum(map(ord, text)) % 97, 0.5], dtype=np.float32)


class Oracle:
    """The rules of teaching in their plainest form: one entry at a time, looking at all examples."""

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}
        self.next_id = 1

    def teach(
        self, text: str, labels: tuple[str, ...], ref: str | None, on_conflict: OnConflict | None
    ) -> tuple[int, str]:
        entry = (text, tuple(sorted(set(labels))), ref)
        for number, held in self.held.items():
            if ref is not None and held[2] == ref:
                if held == entry:
                    return number, "known"
                if on_conflict == "keep":
                    return number, "kept"
                self.held[number] = entry
                return number, "updated"
        twins = [number for number in sorted(self.held) if self.held[number][0] == text]
        same = [number for number in twins if self.held[number][1] == entry[1]]
        if twins and on_conflict == "replace":
            before = copy.deepcopy(self.held)
            nameless = [number for number in twins if self.held[number][2] is None]
            met = nameless[0] if ref is not None and nameless else twins[0]
            for number in twins:
                if number == met:
                    self.held[number] = (text, entry[1], self.held[number][2] or ref)
                elif number in nameless:
                    del self.held[number]
                else:
                    self.held[number] = (text, entry[1], self.held[number][2])
            if ref is not None and self.held[met][2] != ref:
                return self.added(entry)
            return met, "known" if self.held == before else "updated"
        if same and on_conflict != "both":
            nameless = [number for number in same if self.held[number][2] is None]
            if ref is None or on_conflict == "keep":
                return same[0], "known"
            if not nameless:
                return self.added(entry)
            self.held[nameless[0]] = entry
            return nameless[0], "updated"
        if twins and on_conflict == "keep":
            return twins[0], "kept"
        return self.added(entry)

    def contradicts(self, text: str, labels: tuple[str, ...], ref: str | None) -> bool:
        """Whether other labels are there: under this reference, or else on every example of this text."""
        named = [held for held in self.held.values() if ref is not None and held[2] == ref]
        met = named or [held for held in self.held.values() if held[0] == text]
        return bool(met) and all(held[1] != tuple(sorted(set(labels))) for held in met)

    def added(self, entry: Held) -> tuple[int, str]:
        number, self.next_id = self.next_id, self.next_id + 1
        self.held[number] = entry
        return number, "added"


entries = st.lists(
    st.tuples(
        st.sampled_from(TEXTS),
        st.lists(st.sampled_from(LABELS), max_size=3).map(tuple),
        st.none() | st.sampled_from(REFS),
    ),
    max_size=5,
)


class AnySequenceOfChanges(RuleBasedStateMachine):
    task: Task = "multi"

    @initialize()
    def create(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = self.place()
        self.ledger = Ledger.create(self.path, task=self.task)
        self.other = Ledger.open(self.path)  # another reader, which sees every change at once
        self.oracle = Oracle()
        self.past: list[dict[int, Held]] = [{}]

    def place(self) -> str | Path:
        return Path(self.folder.name, "datastore.db")

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.ledger.close()
            self.other.close()
            self.folder.cleanup()

    def changed(self, change: Change, before: dict[int, Held]) -> None:
        """A change makes a revision exactly where it changes something."""
        if self.oracle.held != before:
            self.past.append(copy.deepcopy(self.oracle.held))
        assert change.revision == len(self.past) - 1

    def allowed(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        return labels if self.task == "multi" else (labels or ("app",))[:1]

    @rule(new=entries, on_conflict=st.sampled_from([None, "keep", "replace", "both"]))
    def teach(self, new: list[Held], on_conflict: OnConflict | None) -> None:
        before = copy.deepcopy(self.oracle.held)
        new = [(text, self.allowed(labels), ref) for text, labels, ref in new]
        against = []
        expected = []
        for entry in new:
            against.append(self.oracle.contradicts(*entry))
            expected.append(self.oracle.teach(*entry, on_conflict))
        given = [NewExample(text, labels, ref, vector_of(text)) for text, labels, ref in new]
        change = self.ledger.teach(given, FINGERPRINT, on_conflict=on_conflict)
        assert change.ids == tuple(number for number, _ in expected)
        outcomes = [outcome for _, outcome in expected]
        for outcome in ("added", "updated", "known", "kept"):
            assert getattr(change, outcome) == outcomes.count(outcome)
        assert change.conflicts == Counter(compress(outcomes, against))
        self.changed(change, before)

    @precondition(lambda self: self.oracle.held)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        before = copy.deepcopy(self.oracle.held)
        ids = data.draw(st.lists(st.sampled_from(sorted(self.oracle.held)), min_size=1, unique=True))
        for number in ids:
            del self.oracle.held[number]
        change = self.ledger.forget(ids)
        assert (change.ids, change.updated) == (tuple(ids), len(ids))
        self.changed(change, before)

    @precondition(lambda self: self.oracle.held)
    @rule(data=st.data())
    def relabel(self, data: st.DataObject) -> None:
        before = copy.deepcopy(self.oracle.held)
        ids = data.draw(st.lists(st.sampled_from(sorted(self.oracle.held)), min_size=1, max_size=4))
        one = st.lists(st.sampled_from(LABELS), max_size=2).map(tuple)
        labels = [self.allowed(data.draw(one)) for _ in ids]
        for number, its in zip(ids, labels, strict=True):
            text, _, ref = self.oracle.held[number]
            self.oracle.held[number] = (text, tuple(sorted(set(its))), ref)
        self.changed(self.ledger.relabel(ids, labels), before)

    @rule(old=st.sampled_from(LABELS), new=st.sampled_from([*LABELS, "new"]))
    def rename_label(self, old: str, new: str) -> None:
        before = copy.deepcopy(self.oracle.held)
        known = {label for _, labels, _ in before.values() for label in labels}
        if old not in known or new in known:
            with pytest.raises(LabelError):
                self.ledger.rename_label(old, new)
        else:
            self.exchange({old}, new)
            self.changed(self.ledger.rename_label(old, new), before)

    @rule(olds=st.lists(st.sampled_from(LABELS), max_size=3), into=st.sampled_from([*LABELS, "new"]))
    def merge_labels(self, olds: list[str], into: str) -> None:
        before = copy.deepcopy(self.oracle.held)
        known = {label for _, labels, _ in before.values() for label in labels}
        if not known.issuperset(olds):
            with pytest.raises(LabelError):
                self.ledger.merge_labels(olds, into)
        else:
            self.exchange(set(olds), into)
            self.changed(self.ledger.merge_labels(olds, into), before)

    def exchange(self, olds: set[str], new: str) -> None:
        for number, (text, labels, ref) in self.oracle.held.items():
            after = {new if label in olds else label for label in labels}
            self.oracle.held[number] = (text, tuple(sorted(after)), ref)

    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        before = copy.deepcopy(self.oracle.held)
        target = data.draw(st.integers(0, len(self.past) - 1))
        self.oracle.held = copy.deepcopy(self.past[target])
        change = self.ledger.revert(target, note="why")
        touched = {
            number for number in before | self.past[target] if before.get(number) != self.past[target].get(number)
        }
        assert (set(change.ids), change.updated) == (touched, len(touched))
        self.changed(change, before)
        if touched:
            (made,) = self.ledger.revisions(limit=1)
            assert (made.action, made.note, made.examples) == ("reverted", f"to revision {target}: why", len(touched))

    @rule(revision=st.sampled_from([-1, 1000]))
    def reverting_to_what_never_was(self, revision: int) -> None:
        with pytest.raises(UsageError, match=f"revision {revision}"):
            self.ledger.revert(revision)

    @rule(number=st.integers(1, 40))
    def forgetting_what_is_not_there(self, number: int) -> None:
        if number not in self.oracle.held:
            with pytest.raises(ExampleError, match=f"example {number}"):
                self.ledger.forget([*self.oracle.held, number])

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.path)

    @invariant()
    def now(self) -> None:
        held = self.oracle.held
        assert self.other.revision() == len(self.past) - 1
        assert {e.id: (e.text, e.labels, e.ref) for e in self.other.examples()} == held
        assert self.other.example_count() == len(held)
        counts: dict[str, int] = {}
        for _, labels, _ in held.values():
            for label in labels:
                counts[label] = counts.get(label, 0) + 1
        assert self.other.labels() == counts
        _, deltas = self.other.changes(0)
        texts = {d.text_id: held[d.example_id][0] for d in deltas if d.labels is not None}
        stored = self.other.vectors(list(texts), FINGERPRINT)
        np.testing.assert_array_equal(stored, np.array([vector_of(t) for t in texts.values()]).reshape(stored.shape))

    @invariant()
    def every_earlier_revision(self) -> None:
        for at, then in enumerate(self.past):
            assert {e.id: (e.text, e.labels, e.ref) for e in self.ledger.examples(at=at)} == then
            assert self.ledger.labels(at) == dict(Counter(label for _, labels, _ in then.values() for label in labels))
            assert self.ledger.texts_of(then, at=at) == {number: held[0] for number, held in then.items()}

    @invariant()
    def replay_from_any_revision(self) -> None:
        last = len(self.past) - 1
        for after in range(last + 1):
            for upto in {0, after // 2, after, (after + last) // 2, last}:  # back and forth
                reached, deltas = self.ledger.changes(after, upto)
                assert reached == upto
                state = {number: held[1] for number, held in self.past[after].items()}
                for delta in deltas:
                    if delta.labels is None:
                        state.pop(delta.example_id, None)
                    else:
                        state[delta.example_id] = delta.labels
                assert state == {number: held[1] for number, held in self.past[upto].items()}

    @invariant()
    def lives(self) -> None:
        """Each example's versions are what it was, wherever it changed."""
        for number in range(1, self.oracle.next_id):
            expected = [(at, then.get(number)) for at, then in enumerate(self.past)]
            changed = [(at, held) for (at, held), (_, was) in zip(expected[1:], expected, strict=False) if held != was]
            found = [
                (v.change.revision, None if v.labels is None else (v.text, v.labels, v.ref))
                for v in self.ledger.life(number)
            ]
            assert found == [(at, held) for at, held in reversed(changed)]

    @invariant()
    def sound(self) -> None:
        assert self.ledger.damage(FINGERPRINT) == []
        assert [r.revision for r in self.ledger.revisions()] == list(range(len(self.past) - 1, 0, -1))


class AnySequenceWithOneLabel(AnySequenceOfChanges):
    task = "single"


for machine in (AnySequenceOfChanges, AnySequenceWithOneLabel):
    machine.TestCase.settings = settings(deadline=None, max_examples=15, stateful_step_count=8)
TestAnySequenceOfChanges = AnySequenceOfChanges.TestCase
TestAnySequenceWithOneLabel = AnySequenceWithOneLabel.TestCase


def test_a_time_means_the_last_revision_before_it(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "datastore.db", task="single") as ledger:
        start = datetime.now(UTC)
        for text in TEXTS[:3]:
            ledger.teach([NewExample(text, ("app",), None, vector_of(text))], FINGERPRINT)
        times = [datetime.fromisoformat(change.at) for change in reversed(ledger.revisions())]
        assert ledger.revision_at(start) == 0
        assert [ledger.revision_at(when) for when in times] == [1, 2, 3]
        assert [ledger.revision_at(when - timedelta(microseconds=1)) for when in times] == [0, 1, 2]
        elsewhere = timezone(timedelta(hours=5, minutes=30))
        assert [ledger.revision_at(when.astimezone(elsewhere)) for when in times] == [1, 2, 3]
        assert [ledger.revision_at(when.replace(tzinfo=None)) for when in times] == [1, 2, 3]


def test_an_example_that_never_was_has_no_life(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "datastore.db", task="single") as ledger:
        for number in (0, 1, -5, 2**70):
            with pytest.raises(ExampleError, match=f"example {number}"):
                ledger.life(number)
