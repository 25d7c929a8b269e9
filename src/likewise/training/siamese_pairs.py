"""The pairs that a Siamese network compares: copies of texts, each with one of the text's labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from likewise.errors import DataError
from likewise.training.sampling import SeededBatchSampler, label_column
from likewise.types import SiamesePairs

LabelSets = Sequence[tuple[str, ...]]


def expanded(texts: Sequence[str], label_sets: LabelSets) -> tuple[list[str], list[tuple[str, ...]]]:
    """Each text once for each of its labels, with that label (common-space transfer, section 4.3, Model-3.2).

    A text without labels has no copy; with one label a text everything stays as it is.
    """
    copies = [(text, (label,)) for text, row in zip(texts, label_sets, strict=True) for label in row]
    return [text for text, _ in copies], [row for _, row in copies]


class SiamesePairSampler(SeededBatchSampler):
    """Batches of pairs: each copy once a pass, with a partner drawn uniformly from all others (`pairs` "random").

    With "distinct" the partner is drawn from the copies of other texts: the paper's other strategy, which avoids pairs
    that differ in the label alone. Rows of the same text are its copies, labels are (n,), one each. Rows 2i and 2i + 1
    of a batch are a pair; batches hold `batch_size` pairs, the last one perhaps fewer (dropped with `drop_last`).

    Raises DataError where there are no two texts.
    """

    def __init__(self, dataset: Any, *arguments: Any, pairs: SiamesePairs = "random", **named: Any) -> None:
        """As its base takes them, and how partners are drawn."""
        label = label_column(dataset, named.get("valid_label_columns"))
        column = next(name for name in dataset.column_names if name != label)
        self.text = np.unique(list(dataset[column]), return_inverse=True)[1].reshape(-1)
        self.pairs = pairs
        super().__init__(dataset, *arguments, **named)

    def prepare(self) -> int:
        """Where the copies of each text are; how many batches a pass has."""
        if len(self.text) < 2 or (self.pairs == "distinct" and not self.text.any()):
            raise DataError(f"found {len(set(self.text.tolist()))} labelled text to pair; give at least two")
        self.order = np.argsort(self.text, kind="stable")  # all copies of the first text, then of the next
        self.copies = np.bincount(self.text)
        self.first = np.cumsum(self.copies) - self.copies
        rows = len(self.text)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def a_pass(self, rng: np.random.Generator) -> Iterator[list[int]]:
        """The batches of one pass, as lists of row numbers."""
        rows = rng.permutation(len(self.text))
        pairs = np.stack([rows, self._partners(rows, rng)], axis=1)
        for start in range(0, self.batches_a_pass * self.batch_size, self.batch_size):
            yield pairs[start : start + self.batch_size].ravel().tolist()

    def _partners(self, rows: Any, rng: np.random.Generator) -> Any:
        """For each row one of the others: those left when a span of the rows by text is jumped over."""
        if self.pairs == "random":
            drawn = rng.integers(0, len(self.text) - 1, len(rows))
            return drawn + (drawn >= rows)
        own, first = self.copies[self.text[rows]], self.first[self.text[rows]]
        drawn = rng.integers(0, len(self.text) - own)
        return self.order[drawn + np.where(drawn >= first, own, 0)]
