from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.decision.vote import vote, vote_weights

SETS = [("a",), ("b",), ("a", "c"), ()]
LABELS = ["a", "b", "c", "d"]
MEMBERSHIP = np.array([[label in labels for label in LABELS] for labels in SETS], dtype=np.float64)


def neighbours(texts: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.sort(rng.random((texts, k)) * 3, axis=1), rng.integers(len(SETS), size=(texts, k)).astype(np.int32)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 6), st.integers(1, 9), st.sampled_from([0.01, 0.3, 5.0, np.inf]), st.integers(0, 10**6))
def test_it_is_the_naive_loop(texts: int, k: int, temperature: float, seed: int) -> None:
    distances, codes = neighbours(texts, k, seed)
    expected = np.zeros((texts, len(LABELS)))
    for text in range(texts):
        shares = [np.exp(-d / temperature) for d in distances[text]]
        for share, code in zip(shares, codes[text], strict=True):
            for label in SETS[code]:
                expected[text, LABELS.index(label)] += share / sum(shares)
    found = vote(vote_weights(distances, temperature), codes, MEMBERSHIP)
    assert found.shape == (texts, len(LABELS))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_infinite_temperature_is_the_majority_vote() -> None:
    distances, codes = neighbours(5, 8)
    weights = vote_weights(distances, np.inf)
    np.testing.assert_array_equal(weights, np.full((5, 8), 1 / 8))
    counted = np.array([[sum(label in SETS[c] for c in row) for label in LABELS] for row in codes])
    np.testing.assert_allclose(vote(weights, codes, MEMBERSHIP), counted / 8)


def test_weights_sum_to_one_and_nearer_ones_weigh_more() -> None:
    weights = vote_weights(neighbours(20, 7)[0], 0.4)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (np.diff(weights, axis=1) <= 0).all()


def test_distances_that_underflow() -> None:
    """exp(-1e6) is 0 in floating point; the shares must not become 0 / 0."""
    weights = vote_weights(np.array([[1e6, 1e6, 2e6], [0.0, 1e6, 1e6]]), 1e-3)
    np.testing.assert_array_equal(weights, [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])


def test_no_neighbours_no_vote() -> None:
    weights = vote_weights(np.empty((3, 0)), 1.0)
    assert weights.shape == (3, 0)
    np.testing.assert_array_equal(vote(weights, np.empty((3, 0), dtype=np.int32), MEMBERSHIP), np.zeros((3, 4)))


def test_a_text_is_answered_alike_alone_and_among_others() -> None:
    distances, codes = neighbours(30, 5)
    together = vote(vote_weights(distances, 0.7), codes, MEMBERSHIP)
    for text in range(30):
        alone = vote(vote_weights(distances[[text]], 0.7), codes[[text]], MEMBERSHIP)
        np.testing.assert_array_equal(alone, together[[text]])
