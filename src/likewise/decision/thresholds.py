"""Several labels a text: from probabilities to decisions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from likewise.decision.measures import OBJECTIVES, Counts, Decisions, count
from likewise.settings import Measure

Matrix = NDArray[np.float64]

CANDIDATES = np.linspace(0.05, 0.95, 19)
FEWEST = 10  # held-out texts that must bear a label before it gets a threshold or a map of its own


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
