"""Batches in which texts meet others of their class, and texts of about their own length.

What is shuffled, sorted by length and cut into batches is not single texts but bunches: mostly pairs of one class
and of similar length. So every text meets a positive, however rare its class, and bucketing by length needs no
repair afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers.base.data_collator import DEFAULT_LABEL_COLUMNS
from sentence_transformers.base.sampler import DefaultBatchSampler

from likewise.errors import DataError

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

Rows = NDArray[np.int64]

POOL = 16  # batches' worth of texts sorted by length together: larger pads less, smaller mixes more
SPAN = 64  # at most so many texts of a class are sorted by length together when pairs are made


def label_column(dataset: Dataset, valid: Sequence[str] | None = None) -> str:
    """The dataset's label column: the first of the valid names that it has. Raises DataError where it has none."""
    columns = dataset.column_names
    label = next((name for name in valid or DEFAULT_LABEL_COLUMNS if name in columns), None)
    if label is None:
        raise DataError(f"found no label column among {columns}; batches by class need one, such as 'label'")
    return label


def rows_by_label(labels: NDArray[Any]) -> list[Rows]:
    """The rows that bear each label, rarest label first. `labels` is (n,), or (n, L) multi-hot."""
    if labels.ndim == 1:
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    else:
        members = [np.flatnonzero(column) for column in (labels > 0).T]
    return sorted((rows for rows in members if len(rows)), key=len)


def draw_bunches(members: Sequence[Rows], lengths: NDArray[Any], rng: np.random.Generator) -> list[list[int]]:
    """Divide all rows into bunches, each row sharing a label with another of its bunch wherever there is one.

    Bunches are pairs and a few of three; a row that shares its labels with nobody is a bunch of its own. With
    several labels a text the rare ones choose first, and a row left over joins a bunch that has its label. How
    many bunches there are depends on the labels alone, not on the generator.
    """
    bunches: list[list[int]] = []
    home: dict[int, list[int]] = {}
    for rows in members:
        free = np.array([row for row in rows.tolist() if row not in home], dtype=np.int64)
        if len(free) == 1 and len(rows) > 1:
            mates = [home[mate] for mate in rng.permutation(rows).tolist() if mate in home]
            drawn = [min(mates, key=len)]
            drawn[0].append(int(free[0]))
        elif len(free) > 1:
            drawn = _pairs(free, lengths, rng)
            bunches += drawn
        else:
            continue
        home.update((row, bunch) for bunch in drawn for row in bunch)
    return bunches + [[row] for row in range(len(lengths)) if row not in home]


def _pairs(rows: Rows, lengths: NDArray[Any], rng: np.random.Generator) -> list[list[int]]:
    """Random pairs of similar length, the last one a bunch of three when the number of rows is odd."""
    # Sorting a small class whole would pair the same two texts in every epoch.
    span = min(SPAN, max(2, len(rows) // 8 * 2))
    shuffled = rng.permutation(rows)
    ordered = shuffled[np.lexsort((lengths[shuffled], np.arange(len(rows)) // span))].tolist()
    even = len(ordered) // 2 * 2
    pairs = [ordered[at : at + 2] for at in range(0, even, 2)]
    pairs[-1] += ordered[even:]
    return pairs


def cut_batches(
    bunches: Sequence[list[int]], lengths: NDArray[Any], batch_size: int, rng: np.random.Generator
) -> list[list[int]]:
    """Put whole bunches into ceil(rows / batch_size) batches of even size, similar lengths together, in random order.

    Each cut falls on the end of a bunch nearest to where even sizes would have it, so with pairs and threes no
    batch is longer than `batch_size` by more than two.
    """
    shuffled = [bunches[at] for at in rng.permutation(len(bunches))]
    sizes = np.array([len(bunch) for bunch in shuffled])
    longest = np.array([max(lengths[row] for row in bunch) for bunch in shuffled])
    pool = (np.cumsum(sizes) - sizes) // (POOL * batch_size)
    # Every other pool runs from long to short, so that a batch across two pools is of one length too.
    ordered = np.lexsort((np.where(pool % 2 == 0, longest, -longest), pool))
    ends = np.cumsum(sizes[ordered])
    count = batch_count(int(ends[-1]), len(bunches), batch_size)
    cuts = [0]
    for batch in range(1, count):
        goal = ends[-1] * batch / count
        nearest = int(np.searchsorted(ends, goal))
        nearest += int(ends[nearest] - goal <= goal - (ends[nearest - 1] if nearest else 0))
        cuts.append(min(max(nearest, cuts[-1] + 1), len(bunches) - (count - batch)))
    cuts.append(len(bunches))
    batches = [[row for at in ordered[start:end] for row in shuffled[at]] for start, end in pairwise(cuts)]
    return [batches[at] for at in rng.permutation(count)]


def batch_count(rows: int, bunches: int, batch_size: int) -> int:
    """How many batches that makes: never more than there are bunches, as none is torn apart."""
    return min(-(-rows // batch_size), bunches)


class SeededBatchSampler(DefaultBatchSampler):
    """What our samplers share: labels, lengths, and batches that follow from seed and epoch alone.

    For `batch_sampler` of sentence-transformers' training arguments, as it is or with `functools.partial`: `lengths`
    are the texts' in tokens (left out: characters of the first text column), and an epoch passes over the rows
    `passes` times. The same seed and epoch (`set_epoch`) give the same batches, whatever the global random state.

    Raises DataError without a label column, or without one length a row.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool = False,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,  # ours is derived from seed and epoch instead
        seed: int = 0,
        *,
        lengths: Sequence[int] | NDArray[Any] | None = None,
        passes: int = 1,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        label = label_column(dataset, valid_label_columns)
        if lengths is None:
            text = next((name for name in dataset.column_names if name != label), label)
            lengths = [len(str(value)) for value in dataset[text]]
        if len(lengths) != len(dataset):
            raise DataError(f"found {len(lengths)} lengths for {len(dataset)} rows; give one length a row")
        self.lengths = np.asarray(lengths)
        self.labels = np.asarray(dataset[label])
        self.passes = passes
        self.batches_a_pass = self.prepare()

    def prepare(self) -> int:
        """Do what needs doing once; how many batches a pass has."""
        raise NotImplementedError

    def a_pass(self, rng: np.random.Generator) -> Iterable[list[int]]:
        """The batches of one pass, as lists of row numbers."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[list[int]]:
        """The epoch's batches, as lists of row numbers."""
        for number in range(self.epoch * self.passes, (self.epoch + 1) * self.passes):
            yield from self.a_pass(np.random.default_rng([self.seed, number]))

    def __len__(self) -> int:
        """Batches an epoch."""
        return self.batches_a_pass * self.passes


class ClassAwareBatchSampler(SeededBatchSampler):
    """Every row once a pass, in batches where each meets a positive and texts of about its length.

    Batches hold `batch_size` texts, give or take two. They are of even size, so there is no short last one to drop.
    """

    def prepare(self) -> int:
        """Sort the rows by label; how many batches a pass has."""
        self.members = rows_by_label(self.labels)
        bunches = len(draw_bunches(self.members, self.lengths, np.random.default_rng(0)))
        return batch_count(len(self.lengths), bunches, self.batch_size)

    def a_pass(self, rng: np.random.Generator) -> list[list[int]]:
        """The batches of one pass, as lists of row numbers."""
        return cut_batches(draw_bunches(self.members, self.lengths, rng), self.lengths, self.batch_size, rng)
