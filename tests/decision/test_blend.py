from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from likewise.decision.blend import blend, shares
from likewise.types import Task

NEIGHBOURS = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
HEAD = np.array([[0.1, 0.9, 0.0], [0.5, 0.5, 0.0], [0.9, 0.1, 0.0]])
ALL = np.ones(3, dtype=bool)
NOT_LAST = np.array([True, True, False])


def mixed(neighbours: np.ndarray, head: np.ndarray, lambda_: float, task: Task, *known: Any, **more: Any) -> np.ndarray:
    return blend(neighbours, head, shares(neighbours, head, lambda_, task, *known, **more))


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("lambda_", [0.0, 0.3, 1.0])
def test_formula(task: Task, lambda_: float) -> None:
    expected = lambda_ * NEIGHBOURS + (1 - lambda_) * HEAD
    np.testing.assert_allclose(blend(NEIGHBOURS, HEAD, lambda_), expected)
    np.testing.assert_allclose(mixed(NEIGHBOURS, HEAD, lambda_, task), expected)
    np.testing.assert_allclose(mixed(NEIGHBOURS, HEAD, lambda_, task, ALL, ALL), expected)


def test_single_neighbours_decide_where_they_point_to_a_label_unknown_to_the_head() -> None:
    found = mixed(NEIGHBOURS, HEAD, 0.25, "single", known_to_head=NOT_LAST)
    np.testing.assert_allclose(found[[1, 2]], NEIGHBOURS[[1, 2]])
    np.testing.assert_allclose(found[0], 0.25 * NEIGHBOURS[0] + 0.75 * HEAD[0])


def test_single_head_decides_where_it_points_to_a_label_unknown_to_the_neighbours() -> None:
    found = mixed(HEAD, NEIGHBOURS, 0.25, "single", known_to_neighbours=NOT_LAST)
    np.testing.assert_allclose(found[[1, 2]], NEIGHBOURS[[1, 2]])
    np.testing.assert_allclose(found[0], 0.25 * HEAD[0] + 0.75 * NEIGHBOURS[0])


def test_multi_each_unknown_label_is_left_to_the_voice_that_knows_it() -> None:
    not_first = np.array([False, True, True])
    found = mixed(NEIGHBOURS, HEAD, 0.25, "multi", known_to_head=NOT_LAST, known_to_neighbours=not_first)
    np.testing.assert_allclose(found[:, 2], NEIGHBOURS[:, 2])
    np.testing.assert_allclose(found[:, 0], HEAD[:, 0])
    np.testing.assert_allclose(found[:, 1], 0.25 * NEIGHBOURS[:, 1] + 0.75 * HEAD[:, 1])


def test_what_was_given_stays_as_it_is() -> None:
    before = NEIGHBOURS.copy(), HEAD.copy()
    mixed(NEIGHBOURS, HEAD, 0.5, "multi", NOT_LAST, NOT_LAST)
    np.testing.assert_array_equal(NEIGHBOURS, before[0])
    np.testing.assert_array_equal(HEAD, before[1])
