"""What every epoch's batches must be, for any labels and lengths."""

from __future__ import annotations

import random
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from numpy.typing import NDArray

from likewise.errors import DataError
from likewise.training.sampling import ClassAwareBatchSampler
from naive import one_label, several_labels, shares


def sampler(labels: Any, lengths: Any, batch_size: int, **more: Any) -> ClassAwareBatchSampler:
    data = Dataset.from_dict({"text": ["x"] * len(labels), "label": labels})
    return ClassAwareBatchSampler(data, batch_size, lengths=lengths, **more)


def without_company(labels: NDArray[Any], batches: list[list[int]]) -> list[int]:
    """The rows that meet no positive in their batch although there is one somewhere."""
    return [
        i
        for batch in batches
        for i in batch
        if not any(shares(labels, i, j) for j in batch if j != i)
        and any(shares(labels, i, j) for j in range(len(labels)) if j != i)
    ]


@settings(deadline=None, max_examples=60)
@given(st.one_of(one_label(), several_labels()), st.integers(2, 40), st.integers(0, 3))
def test_each_row_once_and_never_without_company(
    rows: tuple[NDArray[Any], NDArray[Any]], batch_size: int, epoch: int
) -> None:
    labels, lengths = rows
    batches = sampler(labels, lengths, batch_size)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert sorted(row for batch in drawn for row in batch) == list(range(len(labels)))
    assert without_company(labels, drawn) == []
    assert len(drawn) == len(batches)
    assert all(drawn)


@settings(deadline=None, max_examples=40)
@given(one_label(), st.integers(4, 40))
def test_batches_are_of_the_size_asked_for(rows: tuple[NDArray[Any], NDArray[Any]], batch_size: int) -> None:
    labels, lengths = rows
    sizes = [len(batch) for batch in sampler(labels, lengths, batch_size)]
    assert max(sizes) <= batch_size + 2
    if len(set(labels.tolist())) * 3 < len(labels):  # otherwise singles that must stay single crowd the cuts
        assert len(sizes) <= -(-len(labels) // batch_size)


def test_a_batch_is_of_about_one_length() -> None:
    """Padding stays near what sorting single texts by length costs, with 6 classes as with 50, some of them rare."""
    rng = np.random.default_rng(0)
    n, batch_size = 4096, 64
    lengths = np.clip(rng.lognormal(2.5, 0.6, n).astype(int), 3, 128)
    shuffled = rng.permutation(n)
    pools = [part[np.argsort(lengths[part])] for part in np.array_split(shuffled, n // (16 * batch_size))]
    by_length_alone = padded([batch for pool in pools for batch in np.array_split(pool, 16)], lengths)
    for classes in (6, 50):
        labels = rng.choice(classes, size=n, p=rng.dirichlet(np.full(classes, 0.7)))
        drawn = list(sampler(labels, lengths, batch_size))
        assert padded(drawn, lengths) < 1.08 * by_length_alone
        assert without_company(labels, drawn) == []
    assert 1.5 * by_length_alone < padded(np.array_split(shuffled, n // batch_size), lengths)


def padded(batches: Any, lengths: NDArray[Any]) -> int:
    """Tokens that the encoder sees, padding included."""
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches)


def test_the_same_seed_and_epoch_give_the_same_batches() -> None:
    rng = np.random.default_rng(1)
    labels, lengths = rng.integers(0, 5, 300), rng.integers(3, 60, 300)
    first = sampler(labels, lengths, 16, seed=3)
    epoch_0 = list(first)
    first.set_epoch(1)
    epoch_1 = list(first)

    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    again = sampler(labels, lengths, 16, seed=3)
    again.set_epoch(1)
    assert list(again) == epoch_1
    again.set_epoch(0)
    assert list(again) == epoch_0
    assert epoch_0 != epoch_1
    assert list(sampler(labels, lengths, 16, seed=4)) != epoch_0
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_pairs_of_a_small_class_change_from_epoch_to_epoch() -> None:
    batches = sampler(np.zeros(8, dtype=int), np.arange(8), 2)
    mates = set()
    for epoch in range(20):
        batches.set_epoch(epoch)
        mates |= {frozenset(batch) for batch in batches}
    assert len(mates) > 15  # of 28 pairs


def test_several_passes_make_one_epoch() -> None:
    rng = np.random.default_rng(2)
    labels, lengths = rng.integers(0, 3, 48), rng.integers(3, 60, 48)
    batches = sampler(labels, lengths, 64, passes=5)
    drawn = list(batches)
    assert len(drawn) == len(batches) == 5
    assert all(sorted(batch) == list(range(48)) for batch in drawn)
    assert len({tuple(batch) for batch in drawn}) == 5


def test_columns_are_found_and_faults_named() -> None:
    data = Dataset.from_dict({"text": ["a", "a longer text", "b", "b longer still"], "label": [0, 1, 0, 1]})
    batches = ClassAwareBatchSampler(data, 2)
    assert {frozenset(batch) for batch in batches} == {frozenset({0, 2}), frozenset({1, 3})}
    with pytest.raises(DataError, match="found no label column"):
        ClassAwareBatchSampler(data.remove_columns("label"), 2)
    with pytest.raises(DataError, match="found 3 lengths for 4 rows"):
        ClassAwareBatchSampler(data, 2, lengths=[1, 2, 3])
