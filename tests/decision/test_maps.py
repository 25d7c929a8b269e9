"""Logistic maps: the likeliest, by label or pooled, whatever the scores."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from likewise.decision.maps import PULL, fit_maps
from likewise.decision.thresholds import FEWEST
from rows import problem


def test_maps_are_logistic_regressions() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((20_000, 2)) < [0.4, 0.2]
    scores = 0.8 * truth + rng.normal(size=truth.shape) * [1.0, 0.5]
    maps, pooled, mapped = fit_maps(truth, scores, np.zeros(truth.shape))
    for label in range(2):
        expected = LogisticRegression(C=1e6).fit(scores[:, [label]], truth[:, label])
        np.testing.assert_allclose(maps[label], [expected.coef_[0, 0], expected.intercept_[0]], rtol=0.01)
        np.testing.assert_allclose(mapped[:, label], expected.decision_function(scores[:, [label]]), atol=0.05)
    everything = LogisticRegression(C=1e6).fit(scores.reshape(-1, 1), truth.ravel())
    np.testing.assert_allclose(pooled, [everything.coef_[0, 0], everything.intercept_[0]], rtol=0.01)


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 4), st.floats(0.02, 0.5), st.floats(-6, 0), st.integers(0, 10**6))
def test_the_pooled_map_is_the_likeliest_however_large_the_scores(
    size: float, share: float, odds: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((400, 1)) < share
    scores = np.where(truth, rng.normal(1, 1, truth.shape), rng.normal(-0.1, 0.5, truth.shape)) * 10**size
    at = np.array(fit_maps(truth, scores, np.full(truth.shape, odds))[1])
    # Concave, so the likelihood is greatest where its gradient vanishes; its digits are those of the sums in it.
    x = np.column_stack([scores.ravel(), np.ones(400)])
    p = 1 / (1 + np.exp(-np.clip(x @ at + odds, -700, 700)))
    gradient = x.T @ (truth.ravel() - p) - PULL * (at - [1.0, 0.0])
    np.testing.assert_allclose(gradient / np.abs(x).sum(axis=0), 0.0, atol=1e-6)


def test_offsets_are_added_as_they_are() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random((5000, 1)) < 0.3
    scores = truth + rng.normal(size=truth.shape)
    plain, _, mapped = fit_maps(truth, scores, np.zeros(truth.shape))
    shifted, _, same = fit_maps(truth, scores, np.full(truth.shape, -2.0))
    np.testing.assert_allclose(shifted[0], plain[0] + [0, 2.0], atol=0.05)
    np.testing.assert_allclose(same, mapped, atol=0.05)


def test_rare_labels_get_the_pooled_map() -> None:
    truth, probabilities = problem()
    truth[:, 2] = False
    truth[: FEWEST - 1, 2] = True
    maps, pooled, _ = fit_maps(truth, np.log(probabilities), np.zeros(truth.shape))
    assert tuple(maps[2]) == pooled
    assert tuple(maps[0]) != pooled


def test_separable_and_constant_scores_stay_finite() -> None:
    truth = np.repeat([[True], [False]], 20, axis=0)
    for scores in (np.where(truth, 50.0, -50.0), np.zeros(truth.shape)):
        maps, pooled, mapped = fit_maps(truth, scores, np.zeros(truth.shape))
        assert np.isfinite([*maps.ravel(), *pooled, *mapped.ravel()]).all()


def test_scores_of_heads_without_the_label_are_left_out() -> None:
    truth, probabilities = problem()
    scores, offsets = np.log(probabilities), np.zeros(truth.shape)
    known = np.ones(len(truth), dtype=bool)
    known[:100] = False
    partly = np.where(known[:, None], scores, -np.inf)
    maps, pooled, mapped = fit_maps(truth, partly, offsets)
    expected = fit_maps(truth[known], scores[known], offsets[known])
    np.testing.assert_allclose(maps, expected[0])
    np.testing.assert_allclose(pooled, expected[1])
    np.testing.assert_allclose(mapped[known], expected[2])
    assert (mapped[~known] == -np.inf).all()
