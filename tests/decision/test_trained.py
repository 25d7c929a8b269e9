"""Heads that were trained with the encoder: they follow what becomes of labels, and know no others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.decision.blend import blend, shares
from likewise.decision.head import LinearHead
from likewise.decision.renaming import Labels, present_names
from likewise.decision.trained import AlignedHead, align
from likewise.types import Task

LABELS = ["a", "b", "c"]


def trained(task: Task = "single", labels: list[str] = LABELS) -> LinearHead:
    rng = np.random.default_rng(0)
    return LinearHead(labels, rng.normal(size=(4, len(labels))), rng.normal(size=len(labels)), task)


def aligned_by(head: LinearHead, labels: list[str], then: dict[int, Labels], now: dict[int, Labels]) -> AlignedHead:
    return align(head, labels, present_names(head.labels, then, now))


@pytest.fixture
def embeddings() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)


def test_with_its_own_labels_it_says_what_it_learnt(embeddings: np.ndarray) -> None:
    head = trained()
    aligned = aligned_by(head, LABELS, {}, {})
    assert aligned.labels == LABELS and aligned.known.all()
    assert np.array_equal(aligned.probabilities(embeddings), head.probabilities(embeddings))


def test_a_label_taught_later_is_unknown_to_it_and_left_to_the_neighbours(embeddings: np.ndarray) -> None:
    aligned = aligned_by(trained(), [*LABELS, "d"], {}, {})
    assert aligned.known.tolist() == [True, True, True, False]
    says = aligned.probabilities(embeddings)
    assert (says[:, 3] == 0).all() and np.allclose(says.sum(axis=1), 1)
    votes = np.tile([0.1, 0.1, 0.1, 0.7], (len(embeddings), 1))
    share = shares(votes, says, 0.0, "single", known_to_head=aligned.known)
    assert np.array_equal(blend(votes, says, share), votes)


def test_a_label_without_examples_leaves_the_rest_to_share_its_probability(embeddings: np.ndarray) -> None:
    head = trained()
    aligned = aligned_by(head, ["a", "c"], {}, {})
    all_of_them = head.probabilities(embeddings)[:, [0, 2]]
    assert np.allclose(aligned.probabilities(embeddings), all_of_them / all_of_them.sum(axis=1, keepdims=True))


def test_a_renamed_label_keeps_what_was_learnt_even_where_its_old_name_is_used_anew(embeddings: np.ndarray) -> None:
    then: dict[int, Labels] = {1: ("a",), 2: ("a",), 3: ("b",), 4: ("c",)}
    now: dict[int, Labels] = {1: ("z",), 2: ("z",), 3: ("b",), 4: ("c",), 9: ("a",)}
    head = trained()
    aligned = aligned_by(head, ["a", "b", "c", "z"], then, now)
    assert np.array_equal(aligned.probabilities(embeddings)[:, [3, 1, 2]], head.probabilities(embeddings))
    assert not aligned.known[0]


@pytest.mark.parametrize("task", ["single", "multi"])
def test_of_merged_labels_the_probabilities_are_joined(task: Task, embeddings: np.ndarray) -> None:
    then: dict[int, Labels] = {1: ("a",), 2: ("b",), 3: ("c",)}
    now: dict[int, Labels] = {1: ("b",), 2: ("b",), 3: ("c",)}
    head = trained(task)
    a, b, c = head.probabilities(embeddings).T
    expected = np.column_stack([a + b if task == "single" else np.maximum(a, b), c])
    assert np.allclose(aligned_by(head, ["b", "c"], then, now).probabilities(embeddings), expected)


def test_a_class_whose_examples_went_different_ways_is_forgotten_and_one_corrected_example_changes_nothing() -> None:
    then: dict[int, Labels] = {1: ("a",), 2: ("a",), 3: ("b",), 4: ("b",), 5: ("c",)}
    split = aligned_by(trained(), ["b", "c", "x", "y"], then, {1: ("x",), 2: ("y",), 3: ("b",), 4: ("b",), 5: ("c",)})
    assert split.linear.labels == ["b", "c"]
    corrected = aligned_by(trained(), LABELS, then, {1: ("a",), 2: ("c",), 3: ("b",), 4: ("b",), 5: ("c",)})
    assert corrected.linear.labels == LABELS


def test_it_may_know_no_label_at_all(embeddings: np.ndarray) -> None:
    aligned = aligned_by(trained(), ["d", "e"], {}, {})
    assert not aligned.known.any() and not aligned.probabilities(embeddings).any()


@given(st.lists(st.sampled_from(["same", "rename", "gone"]), min_size=3, max_size=3), st.randoms())
def test_renaming_and_forgetting_whole_classes_is_followed(fates: list[str], random: object) -> None:
    then: dict[int, Labels] = {i: (LABELS[i % 3],) for i in range(9)}
    new = {
        label: {"same": label, "rename": label + "'", "gone": ""}[fate]
        for label, fate in zip(LABELS, fates, strict=True)
    }
    now: dict[int, Labels] = {i: (new[label],) for i, (label,) in then.items() if new[label]}
    labels = sorted({label for (label,) in now.values()})
    aligned = aligned_by(trained(), labels, then, now)
    assert [new[label] for label in aligned.linear.labels] == [labels[column] for column in aligned.columns]
    assert aligned.known.all() and set(aligned.linear.labels) == {label for label in LABELS if new[label]}
