"""Measures of decisions against the truth. Both are boolean arrays of shape (texts, labels).

Every measure but Jaccard follows from a few counts (`Counts`), which the search for settings takes by shorter ways;
the formulas are here alone. A measure of nothing to find and nothing found is 1 for a text (Jaccard) and 0 for a
label (F1), as scikit-learn has it with its usual settings for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from likewise.settings import Measure

Decisions = NDArray[np.bool_]
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Counts:
    """How often decisions and truth agree. Leading axes, if any, stand for several sets of decisions at once.

    Per label, shape (..., labels): texts decided so and truly so (`both`), decided so, and truly so. Per set of
    decisions, shape (...): `exact`, the texts whose decided labels are exactly the true ones. `texts`: how many
    there are.
    """

    both: Values
    decided: Values
    true: Values
    exact: Values
    texts: int

    def precision(self) -> Values:
        """both / decided of each label; 0 where nothing was decided so."""
        return _ratio(self.both, self.decided)

    def recall(self) -> Values:
        """both / true of each label; 0 where nothing is truly so."""
        return _ratio(self.both, self.true)

    def f1(self) -> Values:
        """2 both / (decided + true) of each label; 0 where both are 0."""
        return _ratio(2 * self.both, self.decided + self.true)

    def accuracy(self) -> Values:
        """The share of texts whose decided labels are exactly the true ones."""
        return np.asarray(self.exact / max(self.texts, 1))

    def macro_f1(self) -> Values:
        """The mean of the labels' F1."""
        return np.asarray(self.f1().sum(axis=-1) / max(self.both.shape[-1], 1))

    def micro_f1(self) -> Values:
        """F1 of all decisions pooled."""
        return _ratio(2 * self.both.sum(axis=-1), self.decided.sum(axis=-1) + self.true.sum(axis=-1))

    def hamming_loss(self, labels: int | None = None) -> Values:
        """The share of label decisions that are wrong; lower is better.

        `labels`: on how many labels each text was decided, where these are more than are counted here.
        """
        wrong = (self.decided + self.true - 2 * self.both).sum(axis=-1)
        return np.asarray(wrong / max(self.texts * (labels or self.both.shape[-1]), 1))


def _ratio(part: Values, whole: Values) -> Values:
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0))


def count(truth: Decisions, decided: Decisions) -> Counts:
    """Counts of one set of decisions."""
    return Counts(
        (truth & decided).sum(axis=0).astype(np.float64),
        decided.sum(axis=0).astype(np.float64),
        truth.sum(axis=0).astype(np.float64),
        np.asarray((truth == decided).all(axis=1).sum(), dtype=np.float64),
        len(truth),
    )


def count_columns(truth: NDArray[np.intp], decided: NDArray[np.intp], labels: int) -> Counts:
    """The same with one label a text, given as column numbers of shape (texts,).

    A true column of `labels` or more is a label that has no column, and so is never decided.
    """
    right = truth == decided
    return Counts(
        np.bincount(truth[right], minlength=labels).astype(np.float64),
        np.bincount(decided, minlength=labels).astype(np.float64),
        np.bincount(truth, minlength=labels)[:labels].astype(np.float64),
        np.asarray(right.sum(), dtype=np.float64),
        len(truth),
    )


def accuracy(truth: Decisions, decided: Decisions) -> float:
    """The share of texts whose decided labels are exactly the true ones."""
    return float(count(truth, decided).accuracy())


def macro_f1(truth: Decisions, decided: Decisions) -> float:
    """The mean of the labels' F1."""
    return float(count(truth, decided).macro_f1())


def micro_f1(truth: Decisions, decided: Decisions) -> float:
    """F1 of all decisions pooled."""
    return float(count(truth, decided).micro_f1())


def hamming_loss(truth: Decisions, decided: Decisions) -> float:
    """The share of label decisions that are wrong; lower is better."""
    return float(count(truth, decided).hamming_loss())


def jaccard(truth: Decisions, decided: Decisions) -> float:
    """The mean over texts of labels shared / labels in either (1 where a text has none and gets none)."""
    union = (truth | decided).sum(axis=1)
    shared = (truth & decided).sum(axis=1)
    return float(np.divide(shared, union, out=np.ones(len(union)), where=union > 0).mean())


def confusion(truth: Decisions, decided: Decisions) -> NDArray[np.int64]:
    """With one label a text: counts of shape (labels, labels), rows the truth, columns the decision."""
    n = truth.shape[1]
    cells = truth.argmax(axis=1) * n + decided.argmax(axis=1)
    return np.bincount(cells, minlength=n * n).reshape(n, n)


OBJECTIVES: dict[Measure, Callable[[Counts], Values]] = {
    "macro_f1": Counts.macro_f1,
    "accuracy": Counts.accuracy,
    "micro_f1": Counts.micro_f1,
    "hamming_loss": lambda counts: -counts.hamming_loss(),
}
"""What tuning can optimise; each as a function of which more is better, one value a set of decisions."""


def turned(measure: Measure, value: float) -> float:
    """A measure's value as one of which more is better, and such a one as the measure's value."""
    return -value if measure == "hamming_loss" else value
