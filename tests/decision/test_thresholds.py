from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.decision.measures import OBJECTIVES, count
from likewise.decision.thresholds import CANDIDATES, FEWEST, Sweep, common_threshold, label_thresholds
from rows import problem


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 10**6))
def test_sweep_counts_as_one_threshold_after_the_other(texts: int, labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((texts, labels)) < 0.4
    probabilities = np.where(
        rng.random(truth.shape) < 0.5, rng.choice([0.0, *CANDIDATES, 1.0], truth.shape), rng.random(truth.shape)
    )
    found = Sweep(truth).counts(probabilities)
    for i, threshold in enumerate(CANDIDATES):
        expected = count(truth, probabilities >= threshold)
        for name in ("both", "decided", "true", "exact"):
            np.testing.assert_array_equal(getattr(found, name)[i], getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("measure", OBJECTIVES)
def test_common_threshold_is_the_best_of_all(measure: str) -> None:
    truth, probabilities = problem()
    scores = {t: float(OBJECTIVES[measure](count(truth, probabilities >= t))) for t in CANDIDATES}
    assert scores[common_threshold(truth, probabilities, measure)] == max(scores.values())


def test_of_equal_thresholds_the_one_nearest_to_a_half() -> None:
    truth = np.array([[True], [False]])
    assert common_threshold(truth, np.array([[0.9], [0.1]]), "macro_f1") == pytest.approx(0.5)
    assert common_threshold(truth, np.array([[0.9], [0.72]]), "macro_f1") == pytest.approx(0.75)


@pytest.mark.parametrize("measure", OBJECTIVES)
def test_thresholds_by_label_never_lose(measure: str) -> None:
    objective = OBJECTIVES[measure]
    for seed in range(3):
        truth, probabilities = problem(seed=seed)
        common, each = label_thresholds(truth, probabilities, measure)
        assert common == common_threshold(truth, probabilities, measure)
        before = objective(count(truth, probabilities >= common))
        after = objective(count(truth, probabilities >= np.array(each)))
        assert after >= before
        if measure == "macro_f1":  # labels are off by factors of their own, so something can be gained
            assert after > before


def test_rare_labels_keep_the_common_threshold() -> None:
    truth, probabilities = problem()
    rare = np.flatnonzero(truth[:, 0])[: FEWEST - 1]
    truth[:, 0] = False
    truth[rare, 0] = True
    common, each = label_thresholds(truth, probabilities, "macro_f1")
    assert each[0] == common
    assert any(threshold != common for threshold in each)
