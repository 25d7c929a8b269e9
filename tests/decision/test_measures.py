from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn import metrics

from likewise.decision import measures
from likewise.decision.measures import OBJECTIVES, count, count_columns

TABLES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def one_hot(columns: np.ndarray, labels: int) -> np.ndarray:
    return np.eye(labels, dtype=bool)[columns]


@settings(deadline=None, max_examples=80)
@given(TABLES)
def test_against_scikit_learn(tables: tuple[np.ndarray, np.ndarray]) -> None:
    truth, decided = tables
    # Two more columns of nothing keep scikit-learn from taking a single column for a binary task.
    wide = [np.pad(table, ((0, 0), (0, 2))) for table in tables]
    assert measures.accuracy(truth, decided) == pytest.approx(metrics.accuracy_score(*wide))
    labels = truth.shape[1]
    by_label = metrics.precision_recall_fscore_support(*wide, zero_division=0)
    counts = count(truth, decided)
    for found, expected in zip(
        (counts.precision(), counts.recall(), counts.f1(), counts.true), by_label, strict=True
    ):  # fmt: skip
        np.testing.assert_allclose(found, expected[:labels])
    assert measures.macro_f1(truth, decided) == pytest.approx(by_label[2][:labels].mean())
    assert measures.micro_f1(truth, decided) == pytest.approx(metrics.f1_score(*wide, average="micro", zero_division=0))
    assert measures.hamming_loss(truth, decided) == pytest.approx(np.mean(truth != decided))
    assert measures.hamming_loss(*wide) == pytest.approx(metrics.hamming_loss(*wide))
    expected_jaccard = metrics.jaccard_score(*wide, average="samples", zero_division=1)
    assert measures.jaccard(truth, decided) == pytest.approx(expected_jaccard)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.integers(1, 30), st.integers(0, 10**6))
def test_one_label_a_text(labels: int, texts: int, seed: int) -> None:
    truth, decided = np.random.default_rng(seed).integers(labels, size=(2, texts))
    tables = one_hot(truth, labels), one_hot(decided, labels)
    every = list(range(labels))
    assert measures.accuracy(*tables) == pytest.approx(metrics.accuracy_score(truth, decided))
    assert measures.macro_f1(*tables) == pytest.approx(
        metrics.f1_score(truth, decided, average="macro", labels=every, zero_division=0)
    )
    np.testing.assert_array_equal(measures.confusion(*tables), metrics.confusion_matrix(truth, decided, labels=every))
    # Counting columns is a shorter way to the same counts.
    long, short = count(*tables), count_columns(truth, decided, labels)
    for name in ("both", "decided", "true", "exact", "texts"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name), err_msg=name)


def test_a_true_label_without_a_column_is_missed() -> None:
    counts = count_columns(np.array([0, 2, 1, 2]), np.array([0, 0, 1, 1]), labels=2)
    np.testing.assert_array_equal(counts.both, [1, 1])
    np.testing.assert_array_equal(counts.decided, [2, 2])
    np.testing.assert_array_equal(counts.true, [1, 1])
    assert counts.accuracy() == 0.5


def test_nothing_to_find_and_nothing_found() -> None:
    nothing = np.zeros((3, 2), dtype=bool)
    assert measures.jaccard(nothing, nothing) == 1
    assert measures.accuracy(nothing, nothing) == 1
    assert measures.macro_f1(nothing, nothing) == 0
    assert measures.micro_f1(nothing, nothing) == 0
    assert measures.hamming_loss(nothing, nothing) == 0


def test_no_labels_at_all() -> None:
    nothing = np.zeros((3, 0), dtype=bool)
    for measure in (measures.macro_f1, measures.micro_f1, measures.hamming_loss):
        assert measure(nothing, nothing) == 0
    assert measures.jaccard(nothing, nothing) == measures.accuracy(nothing, nothing) == 1


@pytest.mark.parametrize("measure", OBJECTIVES)
def test_more_of_an_objective_is_better(measure: str) -> None:
    truth = np.random.default_rng(0).random((20, 3)) < 0.5
    worse = truth.copy()
    worse[:5] = ~worse[:5]
    assert OBJECTIVES[measure](count(truth, truth)) > OBJECTIVES[measure](count(truth, worse))
