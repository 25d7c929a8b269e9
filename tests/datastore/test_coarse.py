"""The coarse copy's scores against float64, and its bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from likewise.datastore.coarse import WIDEST, Coarse
from likewise.encoding.sessions import multiply_bytes


def by_numpy(codes: NDArray[np.uint8], digits: NDArray[np.int8]) -> NDArray[np.int32]:
    return (codes.astype(np.int64) @ digits.astype(np.int64)).T.astype(np.int32)


def squares(keys: np.ndarray) -> np.ndarray:
    return (keys.astype(np.float64) ** 2).sum(axis=1)


def worst(coarse: Coarse, keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """How far the scores lie from the formula, as shares of the bound; a constant of the query is free."""
    score, bound = coarse.scores(queries, squares(keys))
    found = np.concatenate([score(slice(0, len(keys) // 2)), score(slice(len(keys) // 2, len(keys)))], axis=1)
    expected = squares(keys) - 2 * queries.astype(np.float64) @ keys.T.astype(np.float64)
    difference = found - expected
    return (difference.max(axis=1) - difference.min(axis=1)) / (2 * bound)


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 80),
    d=st.sampled_from([1, 2, 7, 64, 384]),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e4, 1e12]),
    off=st.sampled_from([0.0, 5.0, -300.0]),
    constant=st.booleans(),
    later=st.sampled_from([1.0, 3.0, 100.0]),
)
def test_scores_lie_within_their_bound(
    seed: int, n: int, d: int, scale: float, off: float, constant: bool, later: float
) -> None:
    rng = np.random.default_rng(seed)
    keys = (scale * (rng.normal(size=(n, d)) + off)).astype(np.float32)
    if constant:
        keys[:, 0] = keys[0, 0]
    queries = np.concatenate([(scale * (rng.normal(size=(3, d)) + off)).astype(np.float32), keys[:1], keys[:1] * 0])
    coarse = Coarse(keys, n + 5, by_numpy)
    assert (worst(coarse, keys, queries) <= 1).all()
    more = (later * keys[:5]).astype(np.float32)
    coarse.put(n, more)
    assert (worst(coarse, np.concatenate([keys, more]), queries) <= 1).all()


def test_the_bound_is_of_use() -> None:
    # One per cent of the variance that scores have; else the copy would leave half of the keys to the index.
    keys = np.random.default_rng(0).normal(size=(2000, 384)).astype(np.float32)
    _, bound = Coarse(keys, len(keys), by_numpy).scores(keys[:5], squares(keys))
    assert (bound < 0.15 * (squares(keys) - 2 * keys[:5].astype(np.float64) @ keys.T).std(axis=1)).all()


@pytest.mark.parametrize("d", [1, 3, 128, WIDEST])
def test_the_runtime_multiplies_exactly_at_the_extremes(d: int) -> None:
    rng = np.random.default_rng(d)
    codes = rng.integers(0, 256, (300, d)).astype(np.uint8)
    codes[:3] = 255
    digits = rng.integers(-63, 64, (d, 6)).astype(np.int8)
    digits[:, 0], digits[:, 1] = 63, -63
    np.testing.assert_array_equal(multiply_bytes(codes, digits), by_numpy(codes, digits))
    assert multiply_bytes(codes, digits).dtype == np.int32
    assert 255 * d * (126 * 63 + 63) < 2**31
