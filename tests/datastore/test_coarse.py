"""The coarse copy's scores against distances in float64, and how far they reach."""

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


def check(coarse: Coarse, keys: np.ndarray, queries: np.ndarray) -> None:
    """Of every key's score `reach` says at least what any key that is as near scores."""
    score, reach = coarse.scores(queries, len(keys))
    half = len(keys) // 2
    found = np.concatenate([score(slice(0, half)), score(slice(half, len(keys)))], axis=1).astype(np.float64)
    apart = queries[:, None].astype(np.float64) - keys.astype(np.float64)
    order = np.argsort((apart**2).sum(axis=2), axis=1, kind="stable")
    nearer = np.maximum.accumulate(np.take_along_axis(found, order, axis=1), axis=1)  # the most that one scores
    for place in range(len(keys)):
        own = np.take_along_axis(found, order[:, place : place + 1], axis=1)[:, 0]
        assert (nearer[:, place] <= reach(own)).all()


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
def test_nothing_nearer_scores_beyond_the_reach(
    seed: int, n: int, d: int, scale: float, off: float, constant: bool, later: float
) -> None:
    rng = np.random.default_rng(seed)
    keys = (scale * (rng.normal(size=(n, d)) + off)).astype(np.float32)
    if constant:
        keys[:, 0] = keys[0, 0]
    queries = np.concatenate([(scale * (rng.normal(size=(3, d)) + off)).astype(np.float32), keys[:1], keys[:1] * 0])
    coarse = Coarse(keys, n + 5, by_numpy)
    check(coarse, keys, queries)
    more = (later * keys[:5]).astype(np.float32)
    coarse.put(n, more)
    check(coarse, np.concatenate([keys, more]), queries)


@pytest.mark.parametrize("off", [0.0, 3.0])
def test_the_reach_is_of_use(off: float) -> None:
    keys = np.random.default_rng(0).normal(size=(2000, 384)).astype(np.float32) + np.float32(off)
    score, reach = Coarse(keys, len(keys), by_numpy).scores(keys[:5] + np.float32(0.5), len(keys))
    scores = score(slice(0, len(keys))).astype(np.float64)
    tenth = np.sort(scores, axis=1)[:, 9]
    assert ((scores <= reach(tenth)[:, None]).sum(axis=1) < 60).all()


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
