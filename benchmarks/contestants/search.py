"""Nearest-neighbour search alone: Likewise's index, and FAISS's, over the same synthetic keys."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants.answering import timed

K = 40
QUERIES = 256
CENTRES = 50
NOISE = 0.6  # of a key, against its centre of length 1


def synthetic(count: int, dimension: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keys (count, dimension) around some centres, length 1, and queries of the same kind."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CENTRES, dimension)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def drawn(rows: int) -> NDArray[np.float32]:
        noise = rng.standard_normal(size=(rows, dimension), dtype=np.float32) * np.float32(NOISE / dimension**0.5)
        keys = centres[rng.integers(CENTRES, size=rows)] + noise
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        return keys

    keys = np.concatenate([drawn(min(100_000, count - start)) for start in range(0, count, 100_000)])
    return keys, drawn(QUERIES)


def resident() -> float:
    """MiB that the process has in memory now; 0 where the system does not tell."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if pages.exists() else 0.0


class _Searching:
    """Builds one kind of index at a time; a process is asked for one size and kind, so that its memory is its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self, **_: Any) -> dict[str, Any]:
        """Nothing."""
        return {}

    def build(self, kind: str, count: int, dimension: int) -> dict[str, Any]:
        """Seconds, and MiB beyond the keys as they were given."""
        keys, self.queries = synthetic(count, dimension)
        before = resident()
        seconds, self.index = timed(lambda: self.made(kind, keys))
        return {"seconds": seconds, "mib": max(0.0, resident() - before)}

    def one_by_one(self) -> dict[str, Any]:
        """Seconds a query."""
        seconds, _ = timed(lambda: [self.found(self.queries[i : i + 1]) for i in range(32)])
        return {"seconds": seconds / 32}

    def batch(self) -> dict[str, Any]:
        """Seconds a query in a batch of 256, and whom it found."""
        seconds, ids = timed(lambda: self.found(self.queries))
        return {"seconds": seconds / QUERIES, "ids": ids.tolist()}

    def made(self, kind: str, keys: NDArray[np.float32]) -> Any:
        """The index over the keys."""
        raise AssertionError(kind)

    def found(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Ids of the K nearest of each."""
        raise AssertionError(self.name)


class LikewiseIndex(_Searching):
    """Exact: ids, codes and distances in float64, ties in order."""

    def made(self, kind: str, keys: NDArray[np.float32]) -> Any:
        """The index over the keys."""
        from likewise.datastore.index import Index
        from likewise.encoding.sessions import multiply_bytes

        index = Index(keys.shape[1], multiply_bytes)
        index.add(np.arange(len(keys)), keys, np.zeros(len(keys), dtype=np.int32))
        return index

    def found(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Ids of the K nearest of each."""
        ids: NDArray[np.int64] = self.index.search(queries, K).ids
        return ids


class MatrixProduct(_Searching):
    """A plain matrix product and the K best of each row, in float32, no distances: the least for exact search."""

    def made(self, kind: str, keys: NDArray[np.float32]) -> Any:
        """The keys, and half their squared norms."""
        return keys, np.einsum("ij,ij->i", keys, keys) / 2

    def found(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Ids of the K nearest of each."""
        keys, halves = self.index
        rows = []
        for start in range(0, len(queries), max(1, 8_000_000 // len(keys))):
            scores = halves - queries[start : start + max(1, 8_000_000 // len(keys))] @ keys.T
            near = np.argpartition(scores, K - 1, axis=1)[:, :K]
            order = np.take_along_axis(scores, near, axis=1).argsort(axis=1)
            rows.append(np.take_along_axis(near, order, axis=1))
        return np.concatenate(rows)


class Faiss(_Searching):
    """Flat (exact), HNSW with 32 links, and flat with half floats or bytes."""

    def made(self, kind: str, keys: NDArray[np.float32]) -> Any:
        """The index over the keys."""
        faiss = importlib.import_module("faiss")
        index = faiss.index_factory(keys.shape[1], kind)
        if "HNSW" in kind:
            index.hnsw.efSearch = 128
        index.train(keys)
        index.add(keys)
        return index

    def found(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Ids of the K nearest of each."""
        ids: NDArray[np.int64] = self.index.search(queries, K)[1]
        return ids
