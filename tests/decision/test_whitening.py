from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.decision.whitening import fit_whitening, no_whitening


def embeddings(rows: int, dimension: int, seed: int = 0) -> np.ndarray:
    """Correlated dimensions of different spread, far from the origin."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(rows, dimension)) @ rng.normal(size=(dimension, dimension))
    return (mixed * np.geomspace(1, 0.1, dimension) + rng.normal(size=dimension)).astype(np.float32)


def covariance(rows: np.ndarray) -> np.ndarray:
    return np.cov(rows.astype(np.float64), rowvar=False, bias=True).reshape(rows.shape[1], rows.shape[1])


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 90), st.integers(1, 7), st.integers(0, 10**6))
def test_keys_have_mean_zero_and_covariance_identity(rows: int, dimension: int, seed: int) -> None:
    given_rows = embeddings(rows, dimension, seed)
    whitening = fit_whitening(given_rows)
    keys = whitening.keys(given_rows)
    assert keys.dtype == np.float32
    assert keys.shape == (rows, whitening.dimension)
    assert whitening.dimension <= min(dimension, rows - 1)
    np.testing.assert_allclose(keys.mean(axis=0), 0, atol=5e-3)
    np.testing.assert_allclose(covariance(keys), np.eye(whitening.dimension), atol=2e-2)


def test_it_is_algorithm_1() -> None:
    rows = embeddings(200, 6)
    mean = rows.astype(np.float64).mean(axis=0)
    c = sum(np.outer(row - mean, row - mean) for row in rows.astype(np.float64)) / len(rows)
    u, variances, _ = np.linalg.svd(c)
    naive = u @ np.diag(variances**-0.5)
    for n in (1, 3, 6):
        found = fit_whitening(rows).first(n)
        # A singular vector's sign is free.
        signs = np.sign((found.matrix * naive[:, :n]).sum(axis=0))
        np.testing.assert_allclose(found.matrix * signs, naive[:, :n], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.keys(rows) * signs, (rows - mean) @ naive[:, :n], rtol=1e-3, atol=1e-3)


def test_directions_without_variance_are_left_out() -> None:
    rows = embeddings(100, 4)
    doubled = np.hstack([rows, rows[:, :2], np.full((100, 1), 3, dtype=np.float32)])
    whitening = fit_whitening(doubled)
    assert whitening.dimension == 4
    np.testing.assert_allclose(covariance(whitening.keys(doubled)), np.eye(4), atol=1e-2)
    # Noise in such a direction is not blown up.
    shaken = doubled.copy()
    shaken[:, -1] += 1e-3
    assert np.abs(whitening.keys(shaken) - whitening.keys(doubled)).max() < 0.1


def test_fewer_rows_than_dimensions() -> None:
    rows = embeddings(5, 50)
    whitening = fit_whitening(rows)
    assert whitening.dimension == 4
    keys = whitening.keys(rows)
    np.testing.assert_allclose(covariance(keys), np.eye(4), atol=1e-3)
    assert np.isfinite(whitening.keys(embeddings(7, 50, seed=1))).all()


@pytest.mark.parametrize("rows", [1, 6])
def test_equal_rows_are_not_whitened(rows: int) -> None:
    given_rows = np.repeat(embeddings(1, 8), rows, axis=0)
    whitening = fit_whitening(given_rows)
    assert whitening.matrix is None
    np.testing.assert_array_equal(whitening.keys(given_rows), given_rows)
    np.testing.assert_array_equal(whitening.first(3).keys(given_rows), given_rows)


def test_first_dimensions_are_the_first_of_all() -> None:
    rows = embeddings(60, 6)
    whitening = fit_whitening(rows)
    np.testing.assert_allclose(whitening.first(2).keys(rows), whitening.keys(rows)[:, :2], rtol=1e-4, atol=1e-5)
    assert whitening.first(2).dimension == 2
    assert whitening.first(99).dimension == 6
    # Those that explain most come first: in them rows spread most before they are scaled.
    spread = np.linalg.norm(whitening.matrix, axis=0)
    assert (np.diff(spread) >= 0).all()


def test_no_number_of_dimensions_means_no_whitening() -> None:
    rows = embeddings(60, 6)
    for untouched in (fit_whitening(rows).first(None), no_whitening(6)):
        assert untouched.dimension == 6
        np.testing.assert_array_equal(untouched.keys(rows), rows)


def test_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="found none"):
        fit_whitening(np.empty((0, 4), dtype=np.float32))
