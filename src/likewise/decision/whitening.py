"""Whitening: the linear map of KNN-EC that turns an embedding into a key."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

# Directions whose variance is below this share of the largest are noise of float32 arithmetic, not of texts.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True, eq=False)
class Whitening:
    """`key = (embedding - mean) @ matrix`; with `matrix` None the key is the embedding itself.

    `mean` has shape (d,), `matrix` (d, n), its columns ordered by the variance they explain, largest first.
    """

    mean: FloatArray
    matrix: FloatArray | None

    @property
    def dimension(self) -> int:
        """Length of a key."""
        return len(self.mean) if self.matrix is None else self.matrix.shape[1]

    def keys(self, embeddings: FloatArray) -> FloatArray:
        """Keys of shape (rows, n) of embeddings of shape (rows, d) (KNN-EC, equation 11)."""
        if self.matrix is None:
            return np.ascontiguousarray(embeddings, dtype=np.float32)
        # A product for each row: one over all rows rounds differently with their number, and the key of a text that was
        # taught twice would no longer be the same key twice.
        centred = (embeddings - self.mean)[:, None, :]
        return np.ascontiguousarray(np.matmul(centred, self.matrix)[:, 0], dtype=np.float32)

    def first(self, n: int | None) -> Whitening:
        """The same whitening reduced to its first n dimensions (fewer if fewer carry variance); None: no whitening."""
        if n is None or self.matrix is None:
            return Whitening(self.mean, None)
        return Whitening(self.mean, np.ascontiguousarray(self.matrix[:, :n]))


def no_whitening(dimension: int) -> Whitening:
    """The map that leaves embeddings of this dimension as they are."""
    return Whitening(np.zeros(dimension, dtype=np.float32), None)


def fit_whitening(embeddings: FloatArray) -> Whitening:
    """All dimensions of KNN-EC's Algorithm 1 (Whitening-n) for embeddings of shape (rows, d); take n with `first`.

    Mean and covariance (equation 5, divided by the number of rows), its singular value decomposition
    (equation 7), and W = U Lambda^-1/2 (equation 8). Directions without variance are left out: dividing by their
    root would only magnify rounding errors, and with fewer rows than dimensions there are such directions always.
    """
    if len(embeddings) == 0:
        raise ValueError("whitening needs at least one embedding, found none")
    rows = embeddings.astype(np.float64)
    mean = rows.mean(axis=0)
    centred = rows - mean
    covariance = centred.T @ centred / len(rows)
    u, variances, _ = np.linalg.svd(covariance, hermitian=True)
    keep = variances > max(float(variances[0]) * NEGLIGIBLE, np.finfo(np.float64).tiny)
    if not keep.any():  # every text is the same: nothing to tell apart
        return no_whitening(embeddings.shape[1])
    matrix = u[:, keep] / np.sqrt(variances[keep])
    return Whitening(mean.astype(np.float32), np.ascontiguousarray(matrix, dtype=np.float32))
