from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.decision.splitting import folds, hold_out

LABEL_SETS = st.lists(st.sampled_from("abcd"), max_size=3, unique=True).map(lambda labels: tuple(sorted(labels)))
ROWS = st.lists(st.tuples(st.sampled_from([f"text {i}" for i in range(15)]), LABEL_SETS), max_size=60)


def check_partition(parts: list[np.ndarray], texts: list[str]) -> None:
    assert sorted(int(row) for part in parts for row in part) == list(range(len(texts)))
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    seen = [{texts[row] for row in part} for part in parts]
    assert sum(map(len, seen)) == len(set(texts)), "equal texts must share a side"


@settings(deadline=None, max_examples=60)
@given(ROWS, st.integers(2, 5), st.integers(0, 100))
def test_folds_are_a_partition(rows: list, n: int, seed: int) -> None:
    texts, label_sets = [text for text, _ in rows], [labels for _, labels in rows]
    parts = folds(texts, label_sets, n, seed)
    assert len(parts) == n
    check_partition(parts, texts)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.sampled_from([0.1, 0.3, 0.5]), st.integers(0, 100))
def test_hold_out_is_a_partition(rows: list, share: float, seed: int) -> None:
    texts, label_sets = [text for text, _ in rows], [labels for _, labels in rows]
    check_partition(list(hold_out(texts, label_sets, share, seed)), texts)


COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1)


@settings(deadline=None, max_examples=60)
@given(COUNTS, st.integers(2, 6), st.floats(0.05, 0.5), st.integers(0, 100))
def test_stratified_within_one_row_a_label(counts: dict[str, int], n: int, share: float, seed: int) -> None:
    label_sets = [(label,) for label, number in counts.items() for _ in range(number)]
    texts = [f"text {i}" for i in range(len(label_sets))]
    for part in folds(texts, label_sets, n, seed):
        found = Counter(label_sets[row][0] for row in part)
        assert all(abs(found[label] - number / n) < 1 for label, number in counts.items())
    _, held = hold_out(texts, label_sets, share, seed)
    found = Counter(label_sets[row][0] for row in held)
    assert all(abs(found[label] - number * share) <= 1 for label, number in counts.items())


def test_several_labels_are_spread_too() -> None:
    rng = np.random.default_rng(0)
    label_sets = [
        tuple(f"l{j}" for j in np.flatnonzero(row)) for row in rng.random((600, 5)) < [0.5, 0.3, 0.1, 0.05, 0.02]
    ]
    texts = [f"text {i}" for i in range(600)]
    total = Counter(label for labels in label_sets for label in labels)
    for part in folds(texts, label_sets, 4, seed=1):
        found = Counter(label for row in part for label in label_sets[row])
        assert 130 <= len(part) <= 170
        assert abs(found["l4"] - total["l4"] / 4) <= 1.5
        for label, number in total.items():
            assert abs(found[label] - number / 4) <= max(2, 0.1 * number)


def test_seed_decides() -> None:
    texts = [f"text {i}" for i in range(40)]
    label_sets = [("ab"[i % 2],) for i in range(40)]
    first, again, other = (hold_out(texts, label_sets, 0.2, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other
    state = np.random.get_state()[1].tolist()
    folds(texts, label_sets, 3, seed=1)
    assert np.random.get_state()[1].tolist() == state


def test_fewer_texts_than_folds_leaves_some_empty() -> None:
    parts = folds(["x", "y"], [("a",), ("b",)], 4, seed=0)
    assert sorted(map(len, parts)) == [0, 0, 1, 1]


def test_one_fold_is_no_split() -> None:
    with pytest.raises(ValueError, match="at least two"):
        folds(["x"], [("a",)], 1, seed=0)
