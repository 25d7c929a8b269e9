"""Several labels a text: from scores to probabilities (logistic maps), from these to decisions (thresholds)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from likewise.decision.head import sigmoid
from likewise.decision.measures import OBJECTIVES, Counts, Decisions, count
from likewise.settings import Measure

Matrix = NDArray[np.float64]

CANDIDATES = np.linspace(0.05, 0.95, 19)
FEWEST = 10  # held-out texts that must bear a label before it gets a threshold or a map of its own
NEWTON_STEPS = 50
LEAST_STEP = 1e-8
PULL = 1.0  # how strongly a label's map is pulled towards the pooled one, in pseudo-observations


class Sweep:
    """Decisions under every candidate threshold at once, against one truth of shape (texts, labels)."""

    def __init__(self, truth: Decisions) -> None:
        self._truth = truth
        labels = truth.shape[1]
        # Each cell's place in a table (wrong or true, label, candidates reached), but for the last axis.
        self._cells = (truth * labels + np.arange(labels)) * (len(CANDIDATES) + 1)

    def counts(self, probabilities: Matrix) -> Counts:
        """Counts of the decisions `probabilities >= candidate`; their leading axis is that of `CANDIDATES`."""
        steps = len(CANDIDATES)
        reached = np.zeros(probabilities.shape, dtype=np.uint8)  # how many candidates each probability reaches
        for candidate in CANDIDATES:
            reached += probabilities >= candidate
        size = 2 * probabilities.shape[1] * (steps + 1)
        table = np.bincount((self._cells + reached).ravel(), minlength=size).reshape(2, -1, steps + 1)
        # Decided under candidate i is what reaches more than i of them.
        over = table[:, :, :0:-1].cumsum(axis=2)[:, :, ::-1].astype(np.float64)
        return Counts(
            over[1].T,
            over.sum(axis=0).T,
            np.broadcast_to(table[1].sum(axis=1).astype(np.float64), (steps, probabilities.shape[1])),
            self._exact(reached),
            len(probabilities),
        )

    def _exact(self, reached: NDArray[np.uint8]) -> Matrix:
        """Texts decided rightly in all labels, under each candidate: those between its wrong and its true labels."""
        steps = len(CANDIDATES)
        first = np.where(self._truth, 0, reached).max(axis=1, initial=0)
        end = np.where(self._truth, reached, steps).min(axis=1, initial=steps)
        ever = first < end
        change = np.bincount(first[ever], minlength=steps + 1) - np.bincount(end[ever], minlength=steps + 1)
        return change.cumsum()[:steps].astype(np.float64)


def common_threshold(truth: Decisions, probabilities: Matrix, measure: Measure) -> float:
    """The one threshold for all labels that serves the measure best; of equals, the one nearest to a half."""
    scores = OBJECTIVES[measure](Sweep(truth).counts(probabilities))
    return float(min(CANDIDATES[scores == scores.max()], key=lambda t: abs(t - 0.5)))


def label_thresholds(truth: Decisions, probabilities: Matrix, measure: Measure) -> tuple[float, list[float]]:
    """The common threshold, and one a label, shape (labels,), each moved from it only where the measure gains."""
    objective = OBJECTIVES[measure]
    common = common_threshold(truth, probabilities, measure)
    chosen = np.full(truth.shape[1], common)
    best = objective(count(truth, probabilities >= chosen))
    for label in range(truth.shape[1]):
        if truth[:, label].sum() < FEWEST:
            continue  # too few to tell a good threshold from luck
        for candidate in CANDIDATES:
            trial = chosen.copy()
            trial[label] = candidate
            gained = objective(count(truth, probabilities >= trial))
            if gained > best:
                best, chosen = gained, trial
    return common, [float(t) for t in chosen]


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
