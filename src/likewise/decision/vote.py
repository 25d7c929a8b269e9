"""The vote of the nearest examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def vote_weights(distances: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Each neighbour's share of the vote, shape (texts, k), rows summing to 1.

    exp(-distance / T), normalised over the k neighbours (KNN-EC, equation 12; multi-label kNN, equation 1).
    T = infinity gives every neighbour the same share: a majority vote.
    """
    if distances.shape[1] == 0:
        return distances.copy()
    nearest = distances.min(axis=1, keepdims=True)  # subtracted so that the largest exponent is 0
    with np.errstate(under="ignore"):
        shares = np.exp(-(distances - nearest) / temperature)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def vote(
    weights: NDArray[np.float64], codes: NDArray[np.int32], membership: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The neighbours' probabilities, shape (texts, labels): the summed weights of those that bear each label.

    `codes` (texts, k) numbers each neighbour's label set, `membership` (label sets, labels) says with 1 and 0
    which labels a set holds.
    """
    texts, k = codes.shape
    labels = membership.shape[1]
    sets, columns = np.nonzero(membership)
    sizes = np.bincount(sets, minlength=len(membership))
    # One entry for each label of each neighbour: label sets are many, and nearly all of their table is 0.
    counts = sizes[codes.ravel()]
    ends = np.cumsum(counts)
    within = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
    column = columns[np.repeat((np.cumsum(sizes) - sizes)[codes.ravel()], counts) + within]
    row = np.repeat(np.repeat(np.arange(texts), k), counts)
    shares = np.bincount(row * labels + column, np.repeat(weights.ravel(), counts), minlength=texts * labels)
    return shares.astype(np.float64).reshape(texts, labels)
