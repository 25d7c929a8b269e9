"""A head that was trained with the encoder, and so knows the labels of its fit and no others.

Teaching and forgetting do not change it. What a user does to labels does: where the examples of its fit bear another
label by now, the class that it learnt from them goes by that label, too. A label that it does not know is left to the
neighbours (`blend`).

It is linear in the embedding, or in the logits of a network that is a classifier of its own: then its weights take
these as they are, the identity at first, fewer columns once labels are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from likewise.decision.head import LinearHead


@dataclass(frozen=True, eq=False)
class AlignedHead:
    """A trained head over the labels that there are now; `columns` (classes,) is where each of its classes stands."""

    labels: list[str]
    linear: LinearHead
    columns: NDArray[np.intp]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which labels it knows, shape (labels,)."""
        known = np.zeros(len(self.labels), dtype=bool)
        known[self.columns] = True
        return known

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Shape (rows, labels), 0 for a label that it does not know. Classes that were merged are added up (with
        several labels a text the likelier one counts)."""
        table = np.zeros((len(embeddings), len(self.labels)))
        if len(self.columns):
            gather = np.add if self.linear.task == "single" else np.maximum
            gather.at(table.T, self.columns, self.linear.probabilities(embeddings).T)
        return table


def align(head: LinearHead, labels: list[str], names: Mapping[str, str]) -> AlignedHead:
    """A trained head over `labels`; `names` are those that its classes have now, which may be none (`renaming`)."""
    column = {label: i for i, label in enumerate(labels)}
    columns = {label: column[name] for label, name in names.items() if name in column}
    known = head.only(columns)
    return AlignedHead(labels, known, np.array([columns[label] for label in known.labels], dtype=np.intp))
