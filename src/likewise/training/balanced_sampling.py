"""Batches by class, as contrastive learning has them: as many texts of each class drawn, or classes by their share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from likewise.errors import SettingError
from likewise.training.sampling import Rows, SeededBatchSampler, rows_by_label


class PerClassBatchSampler(SeededBatchSampler):
    """Batches of `per_class` texts of each of `batch_size / per_class` classes, which are drawn for each batch.

    Where there are fewer classes than that, more texts of each are taken; a class with fewer texts gives those that it
    has, and a text without labels is not seen. A class deals its texts out in random order and begins anew when all
    were seen, so rare classes are seen more often than others. A pass has as many batches as there are rows for.

    Raises SettingError where a batch has no room for two classes.
    """

    def __init__(self, *arguments: Any, per_class: int = 4, **named: Any) -> None:
        """As its base takes them; `per_class` texts of a class, 2 or more."""
        self.per_class = per_class
        super().__init__(*arguments, **named)

    def prepare(self) -> int:
        """Sort the rows by class; how many batches a pass has."""
        if self.per_class < 2 or 2 * self.per_class > self.batch_size:
            raise SettingError(
                f"per_class is {self.per_class}, batch_size {self.batch_size}; expected 2 or more texts of a class "
                "and room for two classes in a batch"
            )
        self.classes = rows_by_label(self.labels)
        self.members = [set(rows.tolist()) for rows in self.classes]
        self.drawn = min(len(self.classes), self.batch_size // self.per_class)
        return max(1, round(len(self.labels) / self.batch_size))

    def a_pass(self, rng: np.random.Generator) -> Iterator[list[int]]:
        """The batches of one pass, as lists of row numbers."""
        each = self.batch_size // self.drawn
        decks: list[list[int]] = [[] for _ in self.classes]
        for _ in range(self.batches_a_pass):
            batch: list[int] = []
            for number in rng.choice(len(self.classes), self.drawn, replace=False):
                there = self.members[number] & set(batch)  # with several labels a text
                wanted = min(each, len(self.classes[number]) - len(there))
                while wanted:
                    if not decks[number]:
                        decks[number] = rng.permutation(self.classes[number]).tolist()
                    row = decks[number].pop()
                    if row not in there:
                        batch.append(row)
                        there.add(row)
                        wanted -= 1
            yield batch


class StratifiedBatchSampler(SeededBatchSampler):
    """Every row once a pass, in batches of even size that hold each class by its share in the data.

    With several labels a text it is the rarest of them that counts, and texts without labels are a class of their own.
    """

    def prepare(self) -> int:
        """Divide the rows by class; how many batches a pass has."""
        free = np.ones(len(self.labels), dtype=bool)
        self.classes: list[Rows] = []
        for rows in rows_by_label(self.labels):
            self.classes.append(rows[free[rows]])
            free[rows] = False
        self.classes.append(np.flatnonzero(free))
        return -(-len(self.labels) // self.batch_size)

    def a_pass(self, rng: np.random.Generator) -> Iterator[list[int]]:
        """The batches of one pass, as lists of row numbers."""
        # Each class is laid out evenly over the pass, which is then cut.
        places = np.concatenate([(np.arange(len(rows)) + rng.random()) / max(len(rows), 1) for rows in self.classes])
        rows = np.concatenate([rng.permutation(rows) for rows in self.classes])
        batches = np.array_split(rows[np.argsort(places, kind="stable")], self.batches_a_pass)
        for number in rng.permutation(len(batches)):
            yield batches[number].tolist()
