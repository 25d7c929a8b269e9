"""Batches by class: what is promised of each class's share, for any labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from datasets import Dataset
from hypothesis import assume, given, settings
from numpy.typing import NDArray

from likewise.errors import SettingError
from likewise.training.balanced_sampling import PerClassBatchSampler, StratifiedBatchSampler
from naive import one_label, several_labels

Rows = tuple[NDArray[Any], NDArray[Any]]


def data(labels: NDArray[Any]) -> Dataset:
    return Dataset.from_dict({"text": ["x"] * len(labels), "label": labels})


@settings(deadline=None, max_examples=60)
@given(one_label(), st.integers(2, 5), st.integers(4, 40))
def test_as_many_of_each_class_drawn(rows: Rows, per_class: int, batch_size: int) -> None:
    assume(batch_size >= 2 * per_class)
    labels = rows[0]
    there = Counter(labels.tolist())
    classes = min(len(there), batch_size // per_class)
    made = PerClassBatchSampler(data(labels), batch_size, per_class=per_class)
    drawn = list(made)
    assert len(drawn) == len(made) >= 1
    for batch in drawn:
        assert len(set(batch)) == len(batch) <= batch_size
        counts = Counter(labels[batch].tolist())
        assert len(counts) == classes
        for label, count in counts.items():
            assert count == min(batch_size // classes, there[label])


@settings(deadline=None, max_examples=30)
@given(several_labels(), st.integers(4, 20))
def test_with_several_labels_no_text_is_twice_in_a_batch(rows: Rows, batch_size: int) -> None:
    labels = rows[0]
    assume(labels.any())
    for batch in PerClassBatchSampler(data(labels), batch_size, per_class=2):
        assert len(set(batch)) == len(batch) <= batch_size
        assert labels[batch].any(axis=1).all()


def test_a_class_deals_all_of_its_texts_before_it_begins_anew() -> None:
    labels = np.repeat([0, 1], [40, 5])
    drawn = [row for batch in PerClassBatchSampler(data(labels), 8, per_class=4) for row in batch]
    seen = Counter(drawn)
    assert len(drawn) == 6 * 8
    assert max(seen[row] for row in range(40)) == 1  # 24 of the 40
    assert all(seen[row] in (4, 5) for row in range(40, 45))  # 24 of 5


def test_no_room_for_two_classes_is_refused() -> None:
    for per_class, batch_size in ((1, 8), (5, 9)):
        with pytest.raises(SettingError, match="per_class"):
            PerClassBatchSampler(data(np.array([0, 1])), batch_size, per_class=per_class)


@settings(deadline=None, max_examples=60)
@given(st.one_of(one_label(), several_labels()), st.integers(2, 40), st.integers(0, 3))
def test_stratified_each_row_once_and_each_class_by_its_share(rows: Rows, batch_size: int, epoch: int) -> None:
    labels = rows[0]
    made = StratifiedBatchSampler(data(labels), batch_size)
    made.set_epoch(epoch)
    drawn = list(made)
    assert len(drawn) == len(made)
    assert sorted(row for batch in drawn for row in batch) == list(range(len(labels)))
    assert max(map(len, drawn)) - min(map(len, drawn)) <= 1
    assert max(map(len, drawn)) <= batch_size


@settings(deadline=None, max_examples=60)
@given(one_label(), st.integers(4, 40))
def test_a_stratified_batch_misses_a_class_share_by_no_more_than_the_classes_there_are(
    rows: Rows, batch_size: int
) -> None:
    labels = rows[0]
    there = Counter(labels.tolist())
    for batch in StratifiedBatchSampler(data(labels), batch_size):
        counts = Counter(labels[batch].tolist())
        for label, count in there.items():
            expected = len(batch) * count / len(labels)
            # Laid out evenly, a cut is off by one for each class at most, and so shifts the others.
            assert abs(counts[label] - expected) <= 1 + len(there) * count / len(labels) + 1e-9


@pytest.mark.parametrize("kind", [PerClassBatchSampler, StratifiedBatchSampler])
def test_seed_and_epoch_decide(kind: Any) -> None:
    labels = np.arange(60) % 4

    def drawn(seed: int, epoch: int) -> list[list[int]]:
        made = kind(data(labels), 8, seed=seed)
        made.set_epoch(epoch)
        np.random.seed(epoch + seed)  # the global state is none of its business
        return list(made)

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(2, 2)
    assert drawn(1, 2) != drawn(1, 3)
    twice = kind(data(labels), 8, passes=2)
    assert len(list(twice)) == len(twice) == 2 * len(kind(data(labels), 8))
