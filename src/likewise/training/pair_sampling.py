"""Pairs of texts as CEA's Algorithm 1 draws them, and batches of such pairs.

With one label a text a partner is drawn at once. With several a text can be a partner for more than one reason, or
have one label too many: then a first choice is kept or drawn again so that all candidates are equally likely.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.errors import DataError
from likewise.training.sampling import Rows, SeededBatchSampler

TRIES = 100  # of a negative partner, before all texts are looked through for one


def draw_pairs(labels: NDArray[Any], rng: np.random.Generator) -> Rows:
    """CEA's Algorithm 1: for each text a pair with another of its class, then one with a text of other classes.

    `labels` is (n,), or (n, L) multi-hot: then a pair of one class shares a label, and a text without labels is of no
    class. The pairs are row numbers, (m, 2), the text before its partner, which is drawn uniformly from all texts but
    itself that will do. (As printed, the algorithm could draw the text itself; the paper's words rule that out.)
    Where there is none to draw, there is no pair: m is 2n or less, and depends on the labels alone.
    """
    bearers = _Bearers(labels)
    partners = np.stack([bearers.positives(rng), bearers.negatives(rng)], axis=1)
    rows, which = np.nonzero(partners >= 0)
    return np.stack([rows, partners[rows, which]], axis=1)


class _Bearers:
    """Who bears which label, as entries of a row and a label, in the order of the rows.

    A text without labels is given one that nobody shares: so it has no positives, and all others for negatives.
    """

    def __init__(self, labels: NDArray[Any]) -> None:
        self.has = labels > 0 if labels.ndim == 2 else None
        if self.has is None:
            row, label = np.arange(len(labels)), np.unique(labels, return_inverse=True)[1]
        else:
            bare = np.flatnonzero(~self.has.any(axis=1))
            row, label = np.nonzero(self.has)
            row = np.concatenate([row, bare])
            label = np.concatenate([label, self.has.shape[1] + np.arange(len(bare))])
            order = np.argsort(row, kind="stable")
            row, label = row[order], label[order]
        self.label = label
        self.bounds = np.searchsorted(row, np.arange(len(labels) + 1))  # where the entries of each row begin and end
        self.size = np.bincount(label)
        self.first = np.cumsum(self.size) - self.size
        by_label = np.argsort(label, kind="stable")
        self.rows = row[by_label]  # the bearers of the first label, then of the next; within a label ascending
        self.place = np.empty_like(row)  # of each entry among its label's bearers
        self.place[by_label] = np.arange(len(row)) - self.first[label[by_label]]

    def positives(self, rng: np.random.Generator) -> Rows:
        """For each row another that shares a label with it, uniformly; -1 where there is none. (n,)."""
        others = self.size[self.label] - 1
        ends = np.cumsum(others)
        bounds = np.concatenate([[0], ends])[self.bounds]
        partners = np.full(len(bounds) - 1, -1, dtype=np.int64)
        open_rows = np.flatnonzero(np.diff(bounds))
        while len(open_rows):
            # One of the other bearers of all the row's labels, in which a text stands once for each label shared.
            number = rng.integers(bounds[open_rows], bounds[open_rows + 1])
            entry = np.searchsorted(ends, number, side="right")
            place = number - (ends[entry] - others[entry])
            place += place >= self.place[entry]
            drawn = self.rows[self.first[self.label[entry]] + place]
            kept = rng.random(len(drawn)) * self._shared(open_rows, drawn) < 1
            partners[open_rows[kept]] = drawn[kept]
            open_rows = open_rows[~kept]
        return partners

    def negatives(self, rng: np.random.Generator) -> Rows:
        """For each row one that shares no label with it, uniformly; -1 where there is none. (n,)."""
        n = len(self.bounds) - 1
        row = np.repeat(np.arange(n), np.diff(self.bounds))
        by_size = np.lexsort((self.size[self.label], row))
        label = self.label[by_size][self.bounds[1:] - 1]  # each row's most frequent
        # How many rows without the label come before each bearer: the k-th of them comes after those with k or less.
        line = np.repeat(np.arange(len(self.size)), self.size)
        before = self.rows - (np.arange(len(line)) - self.first[line]) + line * (n + 1)
        partners = np.full(n, -1, dtype=np.int64)
        open_rows = np.flatnonzero(self.size[label] < n)
        for _ in range(TRIES):
            of = label[open_rows]
            number = rng.integers(0, n - self.size[of])
            drawn = number + np.searchsorted(before, number + of * (n + 1), side="right") - self.first[of]
            kept = self._shared(open_rows, drawn) == 0
            partners[open_rows[kept]] = drawn[kept]
            open_rows = open_rows[~kept]
            if not len(open_rows):
                break
        self._search_negatives(open_rows, partners, rng)
        return partners

    def _search_negatives(self, rows: Rows, partners: Rows, rng: np.random.Generator) -> None:
        """The same, in place, for rows with few negatives or none, by looking through all texts."""
        if self.has is None or not len(rows):
            return
        sets = np.unique(np.packbits(self.has[rows], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
        for one in range(sets.max() + 1):
            alike = rows[sets == one]
            candidates = np.flatnonzero(~self.has[:, self.has[alike[0]]].any(axis=1))
            if len(candidates):
                partners[alike] = rng.choice(candidates, len(alike))

    def _shared(self, rows: Rows, others: Rows) -> NDArray[np.int64]:
        """How many labels each row shares with its other one: (m,)."""
        if self.has is None:
            return np.asarray(self.label[rows] == self.label[others], dtype=np.int64)
        return np.asarray((self.has[rows] & self.has[others]).sum(axis=1))


class PairBatchSampler(SeededBatchSampler):
    """CEA's Algorithm 1 as batches: each text's positive and negative pair once a pass, drawn anew and shuffled.

    With one text column and a `PairObjective`: rows 2i and 2i + 1 of a batch are a pair. Batches hold `batch_size`
    pairs, twice as many rows, the last one perhaps fewer (dropped with `drop_last`). Lengths make no difference: the
    algorithm pairs texts of any length.

    Raises DataError where no two texts can be paired.
    """

    def prepare(self) -> int:
        """Count the pairs; how many batches a pass has."""
        pairs = len(draw_pairs(self.labels, np.random.default_rng(0)))
        if not pairs:
            raise DataError(f"found {len(self.labels)} labelled texts to pair; give at least two")
        self.pairs_a_pass = pairs - pairs % self.batch_size if self.drop_last else pairs
        return -(-self.pairs_a_pass // self.batch_size)

    def a_pass(self, rng: np.random.Generator) -> Iterator[list[int]]:
        """The batches of one pass, as lists of row numbers."""
        pairs = rng.permutation(draw_pairs(self.labels, rng))[: self.pairs_a_pass]
        for start in range(0, len(pairs), self.batch_size):
            yield pairs[start : start + self.batch_size].ravel().tolist()
