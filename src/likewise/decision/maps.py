"""Several labels a text: from a head's scores to probabilities, by a logistic map a label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from likewise.decision.head import sigmoid
from likewise.decision.measures import Decisions
from likewise.decision.thresholds import FEWEST

Matrix = NDArray[np.float64]

NEWTON_STEPS = 50
LEAST_STEP = 1e-8
PULL = 1.0  # how strongly a label's map is pulled towards the pooled one, in pseudo-observations


def fit_maps(truth: Decisions, scores: Matrix, offsets: Matrix) -> tuple[Matrix, tuple[float, float], Matrix]:
    """Logistic maps (slope, intercept) of each label, shape (labels, 2), the pooled one, and the mapped logits.

    `scores` (texts, labels) are the head's before its map, `offsets` (texts, labels) what is added to the logit
    as it is (the label's log-odds where the scores come from). Platt 1999, by Newton's method. A score of minus
    infinity, where a head had no example of the label, tells the maps nothing and stays what it is.
    """
    pooled = _logistic(truth.ravel(), scores.ravel(), offsets.ravel(), np.array([1.0, 0.0]))
    maps = np.tile(pooled, (truth.shape[1], 1))
    for label in range(truth.shape[1]):
        if truth[:, label].sum() >= FEWEST:
            maps[label] = _logistic(truth[:, label], scores[:, label], offsets[:, label], pooled)
    known = np.isfinite(scores)
    mapped = np.where(known, scores, 0.0) * maps[:, 0] + maps[:, 1] + offsets
    return maps, (float(pooled[0]), float(pooled[1])), np.where(known, mapped, -np.inf)


def _logistic(truth: NDArray[np.bool_], scores: Matrix, offsets: Matrix, start: Matrix) -> Matrix:
    """Slope and intercept by penalised maximum likelihood, pulled towards `start`.

    Each step of Newton's method is halved until the likelihood does not fall: scores of rare labels are large, and far
    from the maximum the curvature says little about how far to go.
    """
    usable = np.isfinite(scores)
    x = np.column_stack([scores[usable], np.ones(usable.sum())])
    y, fixed = truth[usable].astype(np.float64), offsets[usable]

    def likelihood(at: Matrix) -> float:
        logits = x @ at + fixed
        return float((y * logits - np.logaddexp(0.0, logits)).sum() - PULL / 2 * ((at - start) ** 2).sum())

    at, reached = start, likelihood(start)
    for _ in range(NEWTON_STEPS):
        p = sigmoid(x @ at + fixed)
        gradient = x.T @ (y - p) - PULL * (at - start)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + PULL * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while (found := likelihood(at + step)) < reached and np.abs(step).max() >= LEAST_STEP:
            step = step / 2
        if found < reached:
            break  # no step is small enough to be told from rounding
        at, reached = at + step, found
        if np.abs(step).max() < LEAST_STEP:
            break
    return at
