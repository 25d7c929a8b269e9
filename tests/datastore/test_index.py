"""The index against a brute-force search in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from likewise.datastore.index import Hits, Index
from likewise.encoding.sessions import multiply_bytes

HOW = ["float32", "coarse", "coarse or float32"]
"""What proposes candidates: the float32 product, the coarse copy, or the latter where it tells enough."""


@contextmanager
def proposing(how: str) -> Iterator[None]:
    """Have few and small keys searched as many and long ones are."""
    with pytest.MonkeyPatch.context() as patch:
        if how != "float32":
            patch.setattr("likewise.datastore.index._MUCH", 1)
            patch.setattr("likewise.datastore.index._LONG", 1)
            patch.setattr("likewise.datastore.index._PATIENCE", 1)
        if how == "coarse":
            patch.setattr("likewise.datastore.index._CANDIDATES", 1)
        yield


def empty(dimension: int) -> Index:
    return Index(dimension, multiply_bytes)


def nearest(
    ids: np.ndarray, keys: np.ndarray, codes: np.ndarray, query: np.ndarray, k: int
) -> list[tuple[float, int, int]]:
    """The oracle: every distance from its definition, sorted by (distance, id)."""
    found = []
    for example_id, key, code in zip(ids, keys, codes, strict=True):
        difference = query.astype(np.float64) - key.astype(np.float64)
        found.append((float(np.sqrt((difference**2).sum())), int(example_id), int(code)))
    return sorted(found)[:k]


def rows(hits: Hits) -> list[list[tuple[float, int, int]]]:
    return [
        list(zip(distances.tolist(), ids.tolist(), codes.tolist(), strict=True))
        for distances, ids, codes in zip(hits.distances, hits.ids, hits.codes, strict=True)
    ]


def assert_exact(
    index: Index, ids: np.ndarray, keys: np.ndarray, codes: np.ndarray, queries: np.ndarray, k: int
) -> None:
    found = rows(index.search(queries, k))
    assert len(found) == len(queries)
    for row, query in zip(found, queries, strict=True):
        assert row == nearest(ids, keys, codes, query, k)


def made(seed: int, n: int, m: int, kind: str) -> np.ndarray:
    """Keys of several characters: a coarse grid (many ties), repeats, a tight cluster far from the origin, ..."""
    rng = np.random.default_rng(seed)
    if kind == "grid":
        return rng.integers(-1, 2, (n, m)).astype(np.float32)
    if kind == "repeats":
        return rng.normal(size=(max(1, n // 4), m)).astype(np.float32)[rng.integers(0, max(1, n // 4), n)]
    if kind == "far cluster":
        return (1000 + 1e-3 * rng.normal(size=(n, m))).astype(np.float32)
    if kind == "tiny":
        return (1e-30 * rng.normal(size=(n, m))).astype(np.float32)
    if kind == "huge":
        return (1e30 * rng.normal(size=(n, m))).astype(np.float32)
    if kind == "one outlier":
        keys = rng.normal(size=(n, m)).astype(np.float32)
        keys[0] *= np.float32(1e6)
        return keys
    return rng.normal(size=(n, m)).astype(np.float32)


KINDS = ["normal", "grid", "repeats", "far cluster", "tiny", "huge", "one outlier"]


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    m=st.sampled_from([1, 2, 7, 16, 33]),
    k=st.integers(1, 80),
    kind=st.sampled_from(KINDS),
    how=st.sampled_from(HOW),
)
def test_search_is_exact_in_every_order_and_batch(seed: int, n: int, m: int, k: int, kind: str, how: str) -> None:
    with proposing(how):
        check_every_order_and_batch(seed, n, m, k, kind)


def check_every_order_and_batch(seed: int, n: int, m: int, k: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    keys, codes = made(seed, n, m, kind), rng.integers(0, 5, n)
    ids = rng.choice(10**12, size=n, replace=False)
    queries = np.concatenate([made(seed + 1, 4, m, kind), keys[:3]])
    index = empty(m)
    index.add(ids, keys, codes)
    assert_exact(index, ids, keys, codes, queries, k)
    assert_exact(index, ids, keys, codes, queries, k)  # by now with a coarse copy

    shuffled, order = empty(m), rng.permutation(n)
    for place in order:
        shuffled.add(ids[place : place + 1], keys[place : place + 1], codes[place : place + 1])
    whole = rows(index.search(queries, k))
    assert rows(shuffled.search(queries, k)) == whole
    assert [rows(shuffled.search(queries[i : i + 1], k))[0] for i in range(len(queries))] == whole
    assert rows(index.search(queries[::-1], k)) == whole[::-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 15])
@pytest.mark.parametrize("how", HOW)
def test_search_is_exact_where_the_least_of_groups_choose_the_candidates(kind: str, k: int, how: str) -> None:
    n = 701  # groups of several keys, and a few keys left over
    keys = made(5, n, 8, kind)
    keys[300:340] = keys[300]  # duplicates side by side
    ids, codes = np.random.default_rng(6).permutation(n), np.arange(n) % 5
    index = empty(8)
    index.add(ids, keys, codes)
    with proposing(how):
        for _ in range(3):
            assert_exact(index, ids, keys, codes, np.concatenate([made(7, 3, 8, kind), keys[299:302], keys[-1:]]), k)


class InterleavedChanges(RuleBasedStateMachine):
    """Adds, removals and recodings in any order leave what the oracle holds."""

    dimension = 3

    def __init__(self) -> None:
        super().__init__()
        self.index = empty(self.dimension)
        self.held: dict[int, tuple[np.ndarray, int]] = {}
        self.next_id = 1

    @rule(
        count=st.integers(0, 20), seed=st.integers(0, 999), descending=st.booleans(), scale=st.sampled_from([1, 1, 50])
    )
    def add(self, count: int, seed: int, descending: bool, scale: int) -> None:
        keys = made(seed, count, self.dimension, "grid") * np.float32(scale)
        ids = list(range(self.next_id, self.next_id + count))[:: -1 if descending else 1]
        self.index.add(ids, keys, [seed % 7] * count)
        self.held.update({i: (key, seed % 7) for i, key in zip(ids, keys, strict=True)})
        self.next_id += count

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        gone = data.draw(st.lists(st.sampled_from(sorted(self.held)), unique=True))
        self.index.remove(gone)
        for example_id in gone:
            del self.held[example_id]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), code=st.integers(0, 9))
    def recode(self, data: st.DataObject, code: int) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.held)), unique=True))
        self.index.recode(ids, [code] * len(ids))
        for example_id in ids:
            self.held[example_id] = (self.held[example_id][0], code)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def refused_changes_change_nothing(self, data: st.DataObject) -> None:
        there = data.draw(st.sampled_from(sorted(self.held)))
        key = np.full((2, self.dimension), 9, dtype=np.float32)
        with pytest.raises(ValueError, match=f"example {there} is in the index already"):
            self.index.add([self.next_id, there], key, [0, 0])
        with pytest.raises(ValueError, match=f"example {self.next_id} is not in the index"):
            self.index.remove([there, self.next_id])
        with pytest.raises(ValueError, match=f"example {self.next_id} is not in the index"):
            self.index.recode([there, self.next_id], [99, 99])

    @invariant()
    def as_the_oracle(self) -> None:
        ids = np.array(sorted(self.held), dtype=np.int64)
        keys = np.array([self.held[i][0] for i in ids], dtype=np.float32).reshape(-1, self.dimension)
        codes = np.array([self.held[i][1] for i in ids], dtype=np.int32)
        exported = self.index.export()
        assert len(self.index) == len(ids)
        expected_arrays: tuple[np.ndarray, ...] = (ids, keys, codes)
        for found, expected in zip(exported, expected_arrays, strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        assert all(int(i) in self.index for i in ids) and self.next_id not in self.index
        for how in HOW:
            with proposing(how):
                assert_exact(self.index, ids, keys, codes, made(5, 3, self.dimension, "grid"), 4)


InterleavedChanges.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=15)
TestInterleavedChanges = InterleavedChanges.TestCase


KINDS = ("normal", "grid", "repeats", "far cluster", "tiny", "huge", "one outlier")


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 10**6),
    st.sampled_from(KINDS),
    st.integers(1, 300),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(HOW),
)
def test_search_in_blocks_and_tiles_is_exact(seed: int, kind: str, n: int, k: int, in_order: bool, how: str) -> None:
    keys = made(seed, n, 5, kind)
    if in_order:  # each tile holds nearer keys than the one before
        keys = keys[np.argsort(-np.linalg.norm(keys.astype(np.float64), axis=1))]
    queries = np.concatenate([made(seed + 1, 4, 5, kind), keys[:3], np.zeros((1, 5), dtype=np.float32)])
    index = empty(5)
    index.add(np.arange(n), keys, np.zeros(n, dtype=int))
    with proposing(how), pytest.MonkeyPatch.context() as patch:
        patch.setattr("likewise.datastore.index._QUERIES", 3)
        patch.setattr("likewise.datastore.index._SCORES", 12)  # numbers in a tile, unless k asks for more
        patch.setattr("likewise.datastore.index._GROUPS", 1)
        patch.setattr("likewise.datastore.index._DIFFERENCES", 12)
        assert_exact(index, np.arange(n), keys, np.zeros(n, dtype=int), queries, k)


def test_the_coarse_copy_is_made_for_many_searches_of_few_queries_only() -> None:
    keys = made(0, 40_000, 128, "normal")
    index = empty(128)
    index.add(np.arange(len(keys)), keys, np.zeros(len(keys), dtype=int))
    for _ in range(3):
        index.search(keys[:200], 5)
        index.search(keys[:1], 5)
    assert index._coarse is None
    for _ in range(9):
        assert index.search(keys[7:9], 5).ids[:, 0].tolist() == [7, 8]
    assert index._coarse is not None
    index.add([10**6], [keys[0] * 1000], [0])  # so far outside that the copy would tell little
    assert index._coarse is None
    assert index.search(keys[:1] * 1000, 5).ids[0, 0] == 10**6


def test_shapes_and_types_of_hits() -> None:
    index = Index(2)
    nothing = index.search(np.zeros((3, 2)), 5)
    assert nothing.ids.shape == nothing.distances.shape == nothing.codes.shape == (3, 0)
    index.add([7, 3], [[0, 0], [3, 4]], [1, 2])
    hits = index.search([[0, 0]], 5)
    assert hits.ids.tolist() == [[7, 3]] and hits.distances.tolist() == [[0, 5]] and hits.codes.tolist() == [[1, 2]]
    assert [str(part.dtype) for part in (hits.ids, hits.distances, hits.codes)] == ["int64", "float64", "int32"]
    assert index.search(np.zeros((0, 2)), 1).ids.shape == (0, 1)


def test_an_id_may_come_back_after_it_was_removed() -> None:
    index = Index(1)
    index.add([1, 2], [[0], [1]], [0, 0])
    index.remove([1])
    index.add([1], [[5]], [3])
    hits = index.search([[5]], 1)
    assert hits.ids.tolist() == [[1]] and hits.codes.tolist() == [[3]]


@pytest.mark.parametrize(
    ("ids", "keys", "codes", "message"),
    [
        ([1], [[1, 2, 3]], [0], "expected \\(n, 2\\)"),
        ([1], [[1, np.nan]], [0], "not finite"),
        ([1], [[1, 1e39]], [0], "not finite"),
        ([1, 2], [[1, 2]], [0], "expected as many"),
        ([1, 1], [[1, 2], [1, 2]], [0, 0], "example 1 is given twice"),
        ([1.5], [[1, 2]], [0], "whole numbers"),
        ([1], [[1, 2]], [2**40], "beyond the range"),
    ],
)
def test_add_refuses(ids: list[float], keys: list[list[float]], codes: list[int], message: str) -> None:
    index = Index(2)
    with pytest.raises(ValueError, match=message):
        index.add(ids, keys, codes)
    assert len(index) == 0


def test_search_refuses_what_it_cannot_answer() -> None:
    index = Index(2)
    with pytest.raises(ValueError, match="k is 0"):
        index.search([[0, 0]], 0)
    with pytest.raises(ValueError, match="not finite"):
        index.search([[0, np.inf]], 1)
    with pytest.raises(ValueError, match="dimension is 0"):
        Index(0)
