"""What becomes of labels after a fit, and of what the fit chose for each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from likewise.decision.renaming import Labels, carried, present_names


def test_values_go_with_a_label_and_not_with_its_name() -> None:
    then: dict[int, Labels] = {1: ("a", "b"), 2: ("a",), 3: ("b",), 4: ()}
    now: dict[int, Labels] = {1: ("z", "b"), 2: ("z",), 3: ("b",), 4: (), 9: ("a",)}  # and the name is used anew
    names = present_names("ab", then, now)
    assert names == {"a": "z", "b": "b"}
    assert carried({"a": 1, "b": 2}, names) == {"z": 1, "b": 2}


def test_of_labels_that_became_one_the_value_is_that_of_the_one_called_so_or_none() -> None:
    then: dict[int, Labels] = {1: ("a",), 2: ("b",), 3: ("c",)}
    into_b = present_names("abc", then, {1: ("b",), 2: ("b",), 3: ("c",)})
    assert carried({"a": 1, "b": 2, "c": 3}, into_b) == {"b": 2, "c": 3}
    into_new = present_names("abc", then, {1: ("n",), 2: ("n",), 3: ("c",)})
    assert carried({"a": 1, "b": 2, "c": 3}, into_new) == {"c": 3}
    assert carried({"a": 1, "c": 3}, into_new) == {"n": 1, "c": 3}  # the other had none


def test_examples_that_went_different_ways_leave_no_name() -> None:
    then: dict[int, Labels] = {1: ("a",), 2: ("a",)}
    assert present_names("a", then, {1: ("x",), 2: ("y",)}) == {}
    assert present_names("a", then, {}) == {"a": "a"}  # all forgotten: nothing says that it is called otherwise


@given(st.permutations(list("abcdef")), st.lists(st.sets(st.sampled_from("abcd")), min_size=1, max_size=12))
def test_any_renaming_is_followed_also_to_names_that_other_labels_had(new: list[str], rows: list[set[str]]) -> None:
    """As far as examples can tell labels apart: two that always stand together are one to them."""
    fate = dict(zip("abcdef", new, strict=True))
    then = {i: tuple(sorted(row)) for i, row in enumerate(rows)}
    now = {i: tuple(sorted(fate[label] for label in row)) for i, row in enumerate(rows)}
    bearers = {label: frozenset(i for i, row in enumerate(rows) if label in row) for label in "abcd"}
    told = [label for label, its in bearers.items() if its and [*bearers.values()].count(its) == 1]
    names = present_names("abcd", then, now)
    assert {label: names[label] for label in told} == {label: fate[label] for label in told}


def test_a_few_corrections_change_no_name_however_labels_stand_together() -> None:
    then: dict[int, Labels] = {i: ("delivery", "urgent") if i < 10 else ("delivery",) for i in range(100)}
    now: dict[int, Labels] = {**then, 0: ("delivery",), 50: ("praise",)}
    assert present_names(["delivery", "urgent"], then, now) == {"delivery": "delivery", "urgent": "urgent"}
    merged = {i: tuple(sorted({"hurry" if label == "urgent" else label for label in its})) for i, its in now.items()}
    assert present_names(["delivery", "urgent"], then, {**merged, 60: ("delivery", "hurry")})["urgent"] == "hurry"
