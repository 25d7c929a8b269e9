from __future__ import annotations

import numpy as np
import pytest

from likewise.decision.statistics import Statistics

ROWS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
SETS = [("a",), ("b",), ("a", "b"), (), ("c",), ("a",), ("b", "c")]


def same(one: Statistics, other: Statistics) -> None:
    assert one.labels == other.labels
    assert one.count == other.count
    for name, array in other.arrays().items():
        np.testing.assert_allclose(one.arrays()[name], array, rtol=1e-10, atol=1e-12, err_msg=name)


def test_of_equals_naive_sums() -> None:
    statistics = Statistics.of(ROWS, SETS)
    assert statistics.count == 7
    assert statistics.labels == ["a", "b", "c"]
    np.testing.assert_array_equal(statistics.label_counts(), [3, 3, 2])
    rows = ROWS.astype(np.float64)
    np.testing.assert_allclose(statistics.total, rows.sum(axis=0))
    np.testing.assert_allclose(statistics.scatter, sum(np.outer(row, row) for row in rows))
    np.testing.assert_allclose(statistics.label_totals()[2], rows[4] + rows[6])


def test_a_label_goes_with_its_last_example_and_comes_back() -> None:
    statistics = Statistics.of(ROWS, SETS)
    statistics.remove(ROWS[[4, 6]], [SETS[4], SETS[6]])
    assert statistics.labels == ["a", "b"]
    same(statistics, Statistics.of(ROWS[[0, 1, 2, 3, 5]], [SETS[i] for i in (0, 1, 2, 3, 5)]))
    statistics.add(ROWS[[6, 4]], [SETS[6], SETS[4]])
    same(statistics, Statistics.of(ROWS, SETS))


def test_all_removed_leaves_nothing() -> None:
    statistics = Statistics.of(ROWS, SETS)
    statistics.remove(ROWS, SETS)
    assert statistics.labels == []
    assert statistics.label_totals().shape == (0, 3)
    same(statistics, Statistics(3))


def test_no_rows_change_nothing() -> None:
    statistics = Statistics.of(ROWS, SETS)
    statistics.add(ROWS[:0], [])
    same(statistics, Statistics.of(ROWS, SETS))


def test_removing_what_was_never_added_changes_nothing() -> None:
    statistics = Statistics.of(ROWS, SETS)
    with pytest.raises(ValueError, match="'d'"):
        statistics.remove(ROWS[:2], [("a",), ("d",)])
    same(statistics, Statistics.of(ROWS, SETS))


def test_arrays_are_read_back_and_shared_with_nobody() -> None:
    statistics = Statistics.of(ROWS, SETS)
    copy = Statistics.from_arrays(statistics.labels, statistics.arrays())
    same(copy, statistics)
    copy.add(ROWS[:1], [("d",)])
    assert copy.labels == ["a", "b", "c", "d"]
    same(statistics, Statistics.of(ROWS, SETS))
