"""A head that was trained with the encoder, and so knows the labels of its fit and no others.

Teaching and forgetting do not change it. What a user does to labels does: where the examples of its fit bear another
label by now, the class that it learnt from them goes by that label, too. A label that it does not know is left to the
neighbours (`blend`).

It is linear in the embedding, or in the logits of a network that is a classifier of its own: then its weights take
these as they are, the identity at first, fewer columns once labels are gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from likewise.decision.head import LinearHead

Labels = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """The head, and the revision of the ledger whose labels it bears."""

    linear: LinearHead
    revision: int

    def only(self, classes: Collection[str]) -> TrainedHead:
        """The same without any class but these."""
        kept = [i for i, label in enumerate(self.linear.labels) if label in classes]
        return replace(
            self,
            linear=replace(
                self.linear,
                labels=[self.linear.labels[i] for i in kept],
                weights=self.linear.weights[:, kept],
                bias=self.linear.bias[kept],
            ),
        )


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


def align(
    trained: TrainedHead, labels: list[str], then: Mapping[int, Labels], now: Mapping[int, Labels]
) -> AlignedHead:
    """The head over `labels`. `then` are the labels of examples by id as the head knows them, `now` as they stand.

    A class keeps its label while an example of it does; else it goes by the label that most of its examples have got
    instead, if more than half have; and where no example of it is left, by its own if there is still one of that name.
    """
    witnesses: dict[str, list[tuple[Labels, Labels]]] = {label: [] for label in trained.linear.labels}
    for number, had in then.items():
        if number in now:
            for label in had:
                if label in witnesses:
                    witnesses[label].append((had, now[number]))
    column = {label: i for i, label in enumerate(labels)}
    columns = {label: column.get(_name(label, seen) or "") for label, seen in witnesses.items()}
    known = trained.only([label for label, place in columns.items() if place is not None]).linear
    return AlignedHead(labels, known, np.array([columns[label] for label in known.labels], dtype=np.intp))


def _name(label: str, witnesses: Sequence[tuple[Labels, Labels]]) -> str | None:
    """What a class is called by now; None where its examples have gone different ways."""
    if not witnesses or any(label in now for _, now in witnesses):
        return label
    gained = Counter(name for had, now in witnesses for name in now if name not in had)
    name, count = max(gained.items(), key=lambda item: (item[1], item[0]), default=(None, 0))
    return name if 2 * count > len(witnesses) else None
