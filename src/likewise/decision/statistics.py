"""Sufficient statistics of labelled embeddings: all that a closed-form head needs to know of its examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class Statistics:
    """Counts, sums and the scatter matrix of embeddings of dimension d, in float64.

    Adding and then removing an example leaves what was there before (to rounding), so a head made from these
    equals one made from all current examples afresh. A label whose last example is removed is gone.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.count = 0
        self.total: Matrix = np.zeros(dimension)
        self.scatter: Matrix = np.zeros((dimension, dimension))
        self._label_counts: dict[str, int] = {}
        self._label_totals: dict[str, Matrix] = {}

    @classmethod
    def of(cls, embeddings: NDArray[np.float32], label_sets: Sequence[Iterable[str]]) -> Statistics:
        """Statistics of embeddings of shape (rows, d) and each row's labels."""
        statistics = cls(embeddings.shape[1])
        statistics.add(embeddings, label_sets)
        return statistics

    def add(self, embeddings: NDArray[np.float32], label_sets: Sequence[Iterable[str]]) -> None:
        """Take in rows of shape (rows, d) with each row's labels."""
        self._change(embeddings, label_sets, 1)

    def remove(self, embeddings: NDArray[np.float32], label_sets: Sequence[Iterable[str]]) -> None:
        """Take out rows that were added before, with the labels they were added with.

        ValueError, with nothing changed, if a label has fewer examples than are taken out.
        """
        self._change(embeddings, label_sets, -1)

    def _change(self, embeddings: NDArray[np.float32], label_sets: Sequence[Iterable[str]], sign: int) -> None:
        if len(embeddings) == 0:
            return
        rows = embeddings.astype(np.float64)
        by_label: dict[str, list[int]] = {}
        for row, labels in enumerate(label_sets):
            for label in labels:
                by_label.setdefault(label, []).append(row)
        counts = {label: self._label_counts.get(label, 0) + sign * len(members) for label, members in by_label.items()}
        for label, count in counts.items():
            if count < 0:
                raise ValueError(f"label {label!r} would have {count} examples: removed more than was added")
        self.count += sign * len(rows)
        self.total += sign * rows.sum(axis=0)
        self.scatter += sign * (rows.T @ rows)
        for label, members in by_label.items():
            count = counts[label]
            if count == 0:
                self._label_counts.pop(label, None)
                self._label_totals.pop(label, None)
                continue
            total = self._label_totals.setdefault(label, np.zeros(self.dimension))
            total += sign * rows[members].sum(axis=0)
            self._label_counts[label] = count

    @property
    def labels(self) -> list[str]:
        """The labels that have examples, sorted."""
        return sorted(self._label_counts)

    def label_counts(self) -> Matrix:
        """Examples of each label, shape (labels,), in the order of `labels`."""
        return np.array([self._label_counts[label] for label in self.labels], dtype=np.float64)

    def label_totals(self) -> Matrix:
        """Summed embeddings of each label, shape (labels, d), in the order of `labels`."""
        return np.array([self._label_totals[label] for label in self.labels]).reshape(-1, self.dimension)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Everything as arrays, for the snapshot; `labels` tells the names of the rows."""
        return {
            "count": np.array([self.count], dtype=np.float64),
            "total": self.total,
            "scatter": self.scatter,
            "label_counts": self.label_counts(),
            "label_totals": self.label_totals(),
        }

    @classmethod
    def from_arrays(cls, labels: Sequence[str], arrays: dict[str, NDArray[np.float64]]) -> Statistics:
        """What `arrays` wrote, read back."""
        statistics = cls(len(arrays["total"]))
        statistics.count = int(arrays["count"][0])
        statistics.total = arrays["total"].copy()
        statistics.scatter = arrays["scatter"].copy()
        statistics._label_counts = {label: int(n) for label, n in zip(labels, arrays["label_counts"], strict=True)}
        statistics._label_totals = {
            label: row.copy() for label, row in zip(labels, arrays["label_totals"], strict=True)
        }
        return statistics
