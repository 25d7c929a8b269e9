"""The rules of teaching, one by one, as a user meets them through the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from likewise.datastore.ledger import Ledger, NewExample
from likewise.errors import DataError, ExampleError, LabelError
from likewise.types import OnConflict


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path / "datastore.db", task="multi") as made:
        yield made


QUOTES = '"' * 600  # longer when escaped than what the database itself compares


def entry(text: str, *labels: str, ref: str | None = None) -> NewExample:
    return NewExample(text, labels, ref, np.full(3, len(text), dtype=np.float32))


def held(ledger: Ledger) -> dict[int, tuple[str, tuple[str, ...], str | None]]:
    return {e.id: (e.text, e.labels, e.ref) for e in ledger.examples()}


def test_a_new_text_becomes_an_example(ledger: Ledger) -> None:
    change = ledger.teach([entry("hello", "b", "a", "b"), entry("bye")], "fp", source="mail.csv", by="Ann", note="n")
    assert (change.revision, change.ids, change.added) == (1, (1, 2), 2)
    first, second = ledger.examples()
    assert (first.text, first.labels, first.ref, first.source, first.revision) == (
        "hello",
        ("a", "b"),
        None,
        "mail.csv",
        1,
    )
    assert second.labels == ()
    (revision,) = ledger.revisions()
    assert (revision.action, revision.by, revision.note, revision.examples) == ("taught", "Ann", "n", 2)
    assert revision.at.endswith("+00:00") and len(revision.at) == 32


def test_nothing_new_makes_no_revision(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a")], "fp")
    again = ledger.teach([entry("hello", "a")], "fp")
    assert (again.revision, again.ids, again.known, again.added) == (1, (1,), 1, 0)
    assert ledger.teach([], "fp").revision == 1
    assert len(ledger.revisions()) == 1


def test_other_labels_for_a_known_text_disagree(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a")], "fp")
    change = ledger.teach([entry("hello", "b")], "fp")
    assert (change.ids, change.added) == ((2,), 1)
    assert held(ledger) == {1: ("hello", ("a",), None), 2: ("hello", ("b",), None)}
    _, (one, other) = ledger.changes(0)
    assert one.text_id == other.text_id  # one text, one embedding


def test_keep_leaves_what_is_there(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a"), entry("bye", "a", ref="r")], "fp")
    change = ledger.teach(
        [entry("hello", "b"), entry("hello", "a"), entry("other", "b", ref="r"), entry("new", "b")],
        "fp",
        on_conflict="keep",
    )
    assert (change.ids, change.kept, change.known, change.added, change.updated) == ((1, 1, 2, 3), 2, 1, 1, 0)
    assert held(ledger)[1] == ("hello", ("a",), None) and held(ledger)[2] == ("bye", ("a",), "r")


def test_replace_settles_a_disagreement(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a"), entry("hello", "b"), entry("hello", "c", ref="r")], "fp")
    change = ledger.teach([entry("hello", "d")], "fp", on_conflict="replace")
    assert (change.ids, change.updated) == ((1,), 1)
    # The repeat is forgotten; the example with a reference of its own stays and agrees.
    assert held(ledger) == {1: ("hello", ("d",), None), 3: ("hello", ("d",), "r")}
    assert ledger.revisions()[0].examples == 3
    assert ledger.teach([entry("hello", "d")], "fp", on_conflict="replace").known == 1


def test_both_adds_in_any_case(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a")], "fp")
    assert ledger.teach([entry("hello", "a"), entry("hello", "a")], "fp", on_conflict="both").ids == (2, 3)
    assert ledger.example_count() == 3


def test_a_reference_seen_before_updates_its_example(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a", ref="r")], "fp")
    change = ledger.teach([entry("hello there", "b", ref="r")], "fp", source="second.csv")
    assert (change.ids, change.updated, change.added) == ((1,), 1, 0)
    (example,) = ledger.examples()
    assert (example.text, example.labels, example.source, example.revision) == ("hello there", ("b",), "second.csv", 2)
    assert ledger.teach([entry("hello there", "b", ref="r")], "fp").known == 1
    assert [e.text for e in ledger.examples(at=1)] == ["hello"]


def test_a_conflict_is_one_of_labels(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a", ref="r"), entry("bye", "a"), entry("bye", "b")], "fp")
    assert ledger.teach([entry("hello there", "a", ref="r")], "fp").conflicts == {}  # another text under the same ref
    assert ledger.teach([entry("bye", "b")], "fp").conflicts == {}  # one of two that disagree says the same
    assert ledger.teach([entry("hello", "b", ref="r"), entry("bye", "c")], "fp").conflicts == {"updated": 1, "added": 1}
    assert ledger.teach([entry("hi", "a", ref="r")], "fp", on_conflict="keep").conflicts == {"kept": 1}


def test_a_reference_is_free_again_after_forgetting(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a", ref="r")], "fp")
    ledger.forget([1])
    assert ledger.teach([entry("hello", "a", ref="r")], "fp").ids == (2,)
    assert held(ledger) == {2: ("hello", ("a",), "r")}


def test_repeats_within_a_call_are_taught_one_after_the_other(ledger: Ledger) -> None:
    change = ledger.teach(
        [
            entry("hello", "a"),
            entry("hello", "a"),
            entry("hello", "b"),
            entry("x", "a", ref="r"),
            entry("y", "b", ref="r"),
        ],
        "fp",
    )
    assert change.ids == (1, 1, 2, 3, 3)
    assert (change.added, change.known, change.updated) == (3, 1, 1)
    assert held(ledger)[3] == ("y", ("b",), "r")


def test_ids_are_never_reused(ledger: Ledger) -> None:
    ledger.teach([entry("one", "a"), entry("two", "a")], "fp")
    ledger.forget([1, 2])
    assert ledger.teach([entry("one", "a")], "fp").ids == (3,)
    path = ledger.name
    ledger.forget([3])
    ledger.close()
    with Ledger.open(path) as again:
        assert again.teach([entry("one", "a")], "fp").ids == (4,)


def test_ids_are_not_reused_when_the_rows_are_gone(ledger: Ledger) -> None:
    # Nothing deletes rows yet; erasing examples for good will.
    ledger.teach([entry("one", "a"), entry("two", "a")], "fp")
    with closing(sqlite3.connect(ledger.name)) as raw:
        raw.execute("DELETE FROM versions WHERE example_id = 2")
        raw.execute("DELETE FROM examples WHERE id = 2")
        raw.commit()
    assert ledger.teach([entry("three", "a")], "fp").ids == (3,)


def test_a_text_gets_an_embedding_for_each_generation(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a")], "fp")
    other = NewExample("hello", ("b",), None, np.array([1, 2], dtype=np.float32))
    ledger.teach([other], "newer")
    assert ledger.vectors([1, 1], "fp").tolist() == [[5, 5, 5], [5, 5, 5]]
    assert ledger.vectors([1], "newer").tolist() == [[1, 2]]


def test_relabel_to_the_same_changes_nothing(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a"), entry("bye", "b")], "fp")
    assert ledger.relabel([1], [("a",)]).revision == 1
    change = ledger.relabel([2, 1], [("c", "d"), ("a",)], by="Ann")
    assert (change.revision, change.ids, change.updated, change.known) == (2, (2, 1), 1, 1)
    assert held(ledger)[2] == ("bye", ("c", "d"), None)


def test_unknown_and_forgotten_ids_are_refused_whole(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a"), entry("bye", "b")], "fp")
    ledger.forget([1])
    for number, what in ((1, "example 1 was forgotten already"), (9, "no example 9"), (2**70, f"no example {2**70}")):
        with pytest.raises(ExampleError, match=what):
            ledger.forget([2, number])
        with pytest.raises(ExampleError, match=what):
            ledger.relabel([2, number], [("x",), ("y",)])
    assert held(ledger) == {2: ("bye", ("b",), None)} and ledger.revision() == 2


def test_rename_and_merge(ledger: Ledger) -> None:
    ledger.teach([entry("one", "delivery"), entry("two", "refund", "delivery"), entry("three", "bill")], "fp")
    with pytest.raises(LabelError, match="did you mean 'delivery'"):
        ledger.rename_label("delivary", "shipping")
    with pytest.raises(LabelError, match="merge-labels"):
        ledger.rename_label("delivery", "refund")
    assert ledger.rename_label("delivery", "shipping").ids == (1, 2)
    with pytest.raises(LabelError, match="no example has the label 'delivery'"):
        ledger.merge_labels(["bill", "delivery"], "x")
    assert ledger.merge_labels(["refund", "shipping"], "shipping").ids == (2,)
    assert ledger.merge_labels(["shipping", "bill"], "anything").ids == (1, 2, 3)
    assert ledger.labels() == {"anything": 3}
    assert [r.action for r in ledger.revisions(2)] == ["merged", "merged"]


def test_one_label_a_text_is_held_where_the_task_says_so(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "single.db", task="single") as ledger:
        for labels in ((), ("a", "b")):
            with pytest.raises(LabelError, match=r"texts\[1\] has"):
                ledger.teach([entry("good", "a"), entry("hello", *labels)], "fp")
        ledger.teach([entry("hello", "a")], "fp")
        with pytest.raises(LabelError, match="example 1 has 2 labels"):
            ledger.relabel([1], [("a", "b")])
        assert ledger.revision() == 1


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (NewExample("\ud800", ("a",), None, np.zeros(3, dtype=np.float32)), DataError),
        (NewExample("x", ("a",), None, np.zeros(2, dtype=np.float32)), ValueError),
        (NewExample("x", ("a",), None, np.array([0, np.nan, 0], dtype=np.float32)), ValueError),
    ],
)
def test_a_bad_entry_in_the_middle_writes_nothing(ledger: Ledger, bad: NewExample, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"texts\[1\]"):
        ledger.teach([entry("one", "a"), bad, entry("two", "a")], "fp")
    assert (ledger.revision(), ledger.examples(), ledger.changes(0)) == (0, [], (0, []))


def test_examples_are_found_by_every_condition(ledger: Ledger) -> None:
    ledger.teach(
        [
            entry("Größe falsch", "a b", ref="r1"),
            entry("50% off_", 'q"', QUOTES),
            entry("grösser", "a"),
            entry("z", QUOTES + "x"),
        ],
        "fp",
    )
    ledger.forget([4])

    def ids(**conditions: object) -> list[int]:
        return [e.id for e in ledger.examples(**conditions)]  # type: ignore[arg-type]

    assert ids() == [1, 2, 3]
    assert ids(label="a") == [3] and ids(label='q"') == [2] and ids(label="A") == [] and ids(label="q") == []
    assert ids(label=QUOTES) == [2] and ids(label="x" * 60_000) == []
    assert ids(ref="r1") == [1] and ids(ref="R1") == []
    assert ids(contains="GRÖSSE") == [1, 3] and ids(contains="%") == [2] and ids(contains="Falsch") == [1]
    assert ids(ids=[3, 1, 3, 4, 99, -1, 2**80]) == [1, 3]
    assert ids(after_id=1, limit=1) == [2] and ids(limit=0) == []
    assert ids(at=1) == [1, 2, 3, 4] and ids(at=0) == []


def test_texts_of_forgotten_examples_can_still_be_cited(ledger: Ledger) -> None:
    ledger.teach([entry("one", "a", ref="r"), entry("two", "a")], "fp")
    ledger.forget([2])
    ledger.teach([entry("uno", "a", ref="r")], "fp")
    assert ledger.texts_of([1, 2, 3]) == {1: "uno", 2: "two"}
    assert ledger.texts_of([1, 2], at=1) == {1: "one", 2: "two"}


def test_thousands_in_one_change(ledger: Ledger) -> None:
    # More than fit in one statement, ids and vectors in the order given, repeats among them.
    new = [
        entry(f"text {i % 3000}", "even" if i % 2 == 0 else "odd", ref=f"r{i}" if i % 7 == 0 else None)
        for i in range(3500)
    ]
    change = ledger.teach(new, "fp")
    assert len(change.ids) == 3500 and change.added == 3000 and change.ids[:3000] == tuple(range(1, 3001))
    # Repeats are known; every seventh brings a reference, which its example takes on unless it has one.
    adopting = [i for i in range(3000, 3500) if i % 7 == 0 and (i - 3000) % 7 != 0]
    assert (change.known, change.updated) == (500 - len(adopting), len(adopting))
    _, deltas = ledger.changes(0)
    stored = ledger.vectors([d.text_id for d in reversed(deltas)], "fp")
    assert stored[:, 0].tolist() == [len(ledger_text.text) for ledger_text in reversed(ledger.examples())]
    assert ledger.forget(range(1, 2001)).updated == 2000
    assert ledger.example_count() == 1000


@pytest.mark.parametrize(("on_conflict", "before"), [(None, "a"), ("replace", "a"), ("replace", "b")])
def test_a_correction_by_reference_finds_the_example_that_took_it_on(
    ledger: Ledger, on_conflict: OnConflict | None, before: str
) -> None:
    ledger.teach([entry("hello", before)], "fp")
    change = ledger.teach([entry("hello", "a", ref="r")], "fp", on_conflict=on_conflict)
    assert (change.ids, change.updated) == ((1,), 1)
    assert held(ledger) == {1: ("hello", ("a",), "r")}
    change = ledger.teach([entry("hello again", "b", ref="r")], "fp", on_conflict=on_conflict)
    assert (change.ids, change.added, change.updated) == ((1,), 0, 1)
    assert held(ledger) == {1: ("hello again", ("b",), "r")}


@pytest.mark.parametrize("on_conflict", [None, "replace", "both"])
def test_another_reference_for_the_same_text_is_another_example(ledger: Ledger, on_conflict: OnConflict | None) -> None:
    ledger.teach([entry("hello", "a", ref="q")], "fp")
    change = ledger.teach([entry("hello", "a", ref="r")], "fp", on_conflict=on_conflict)
    assert (change.ids, change.added, change.known) == ((2,), 1, 0)
    assert ledger.teach([entry("hello", "a", ref="r"), entry("hello", "a")], "fp").known == 2
    ledger.teach([entry("hello", "b", ref="r")], "fp", on_conflict=on_conflict)
    assert held(ledger) == {1: ("hello", ("a",), "q"), 2: ("hello", ("b",), "r")}


def test_replace_gives_the_reference_to_the_first_example_that_has_none(ledger: Ledger) -> None:
    ledger.teach([entry("hello", "a", ref="q"), entry("hello", "b"), entry("hello", "c")], "fp")
    change = ledger.teach([entry("hello", "d", ref="r")], "fp", on_conflict="replace")
    assert (change.ids, change.updated) == ((2,), 1)
    assert held(ledger) == {1: ("hello", ("d",), "q"), 2: ("hello", ("d",), "r")}
