"""Exact nearest-neighbour search over keys that are added and removed in place.

Distances are Euclidean. A float32 matrix product, or for few queries among many keys one of whole numbers (`coarse`),
proposes candidates together with a bound on its own error; the distances handed out are then computed in float64 from
the differences, so that a row's result depends on the query and on the keys alone: not on the order in which keys came,
nor on the other queries of the batch, nor on what proposed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from likewise.datastore.arrays import UNIT32, Distances, Keys, blocks, grown, squared_norms
from likewise.datastore.coarse import WIDEST, Coarse, Product

Ids = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]

_Whole = TypeVar("_Whole", np.int32, np.int64)

_UNIT64 = 2.0**-53
_TINY32 = 2.0**-126  # smallest normal float32: what an underflowing product may lose
_LARGE32 = 2.0**120  # above it a float32 product may overflow, and every key is a candidate
_GROUPS = 16  # groups of scores for each neighbour that is sought
_QUERIES = 256  # queries in a block
_SCORES = 2_000_000  # numbers in a tile of float32 scores: eight megabytes, most of which stay in a cache
_FEW = 16  # queries that the coarse copy serves faster than a float32 product would
_MUCH = 4_000_000  # numbers in all keys from which on that pays,
_LONG = 64  # and in each of them
_PATIENCE = 8  # searches of few queries before the copy is made: a process that answers once would only lose by it
_ROUGHLY = 12  # times as many numbers are handled for a score from it as for one of the product
_CANDIDATES = 1 / 32  # of all keys: where the coarse copy leaves more of them, it has told nothing
_DIFFERENCES = 60_000  # numbers in a block of float64 differences: half a megabyte, which stays in the cache


@dataclass(frozen=True, slots=True)
class Hits:
    """The nearest keys of q queries, k' = min(k, keys in the index) a row, sorted by (distance, id).

    `ids` int64, `distances` float64 (Euclidean, in the unit of the keys) and `codes` int32 all have shape (q, k').
    """

    ids: Ids
    distances: Distances
    codes: Codes


class Index:
    """Exact search over float32 keys of one dimension, each with an example id and a code.

    A code is the number of the example's label set in a table that the caller keeps. Not thread-safe: the caller
    holds a lock around a change and the searches beside it.
    """

    def __init__(self, dimension: int, product: Product | None = None) -> None:
        """Make an empty index for keys with `dimension` numbers. ValueError if that is less than one.

        With `product`, which multiplies whole numbers, few queries among many keys are answered from a coarse copy
        first: the same hits, several times as fast, for a quarter more memory.
        """
        if dimension < 1:
            raise ValueError(f"dimension is {dimension}; expected at least 1")
        self.dimension = dimension
        self._product = product if dimension <= WIDEST else None
        self._coarse: Coarse | None = None
        self._asked = 0  # searches that it would have served
        self._size = 0
        self._ids: Ids = np.empty(0, dtype=np.int64)
        self._codes: Codes = np.empty(0, dtype=np.int32)
        self._keys: Keys = np.empty((0, dimension), dtype=np.float32)
        self._squares: Distances = np.empty(0, dtype=np.float64)  # squared norms of the keys
        self._rows: dict[int, int] = {}

    def __len__(self) -> int:
        return self._size

    def __contains__(self, example_id: object) -> bool:
        return example_id in self._rows

    def add(self, ids: npt.ArrayLike, keys: npt.ArrayLike, codes: npt.ArrayLike) -> None:
        """Add n keys of shape (n, dimension) with their example ids (n,) and codes (n,).

        ValueError, with nothing changed, for a wrong shape, a number that is not finite, an id that is repeated or
        already there.
        """
        new_ids = _column(ids, np.int64, "ids")
        new_codes = _column(codes, np.int32, "codes")
        new_keys = self._matrix(keys, "keys")
        if not len(new_ids) == len(new_codes) == len(new_keys):
            raise ValueError(f"{len(new_ids)} ids, {len(new_keys)} keys and {len(new_codes)} codes; expected as many")
        listed = _distinct(new_ids)
        known = [example_id for example_id in listed if example_id in self._rows]
        if known:
            raise ValueError(f"example {known[0]} is in the index already; remove it first")
        start, end = self._size, self._size + len(listed)
        self._reserve(end)
        self._ids[start:end] = new_ids
        self._codes[start:end] = new_codes
        self._keys[start:end] = new_keys
        self._squares[start:end] = squared_norms(new_keys)
        self._rows.update(zip(listed, range(start, end), strict=True))
        self._size = end
        if self._coarse is not None:
            self._coarse.put(start, new_keys)
            if self._coarse.spoilt:
                self._coarse = None

    def remove(self, ids: npt.ArrayLike) -> None:
        """Remove these examples; the last row moves into each gap.

        ValueError, with nothing changed, for an unknown id.
        """
        gone = _distinct(_column(ids, np.int64, "ids"))
        self._rows_of(gone)
        for example_id in gone:
            row, last = self._rows.pop(example_id), self._size - 1
            if row != last:
                self._ids[row] = self._ids[last]
                self._codes[row] = self._codes[last]
                self._keys[row] = self._keys[last]
                self._squares[row] = self._squares[last]
                if self._coarse is not None:
                    self._coarse.move(last, row)
                self._rows[int(self._ids[row])] = row
            self._size = last

    def recode(self, ids: npt.ArrayLike, codes: npt.ArrayLike) -> None:
        """Give these examples new codes. ValueError, with nothing changed, for an unknown id."""
        listed = _distinct(_column(ids, np.int64, "ids"))
        new_codes = _column(codes, np.int32, "codes")
        if len(listed) != len(new_codes):
            raise ValueError(f"{len(listed)} ids and {len(new_codes)} codes; expected as many")
        self._codes[self._rows_of(listed)] = new_codes

    def search(self, queries: npt.ArrayLike, k: int) -> Hits:
        """Find the k nearest keys of each of q queries, shape (q, dimension); all keys where k is larger.

        Equal distances are ordered by id. ValueError for a wrong shape, a number that is not finite, or k < 1.
        """
        if k < 1:
            raise ValueError(f"k is {k}; expected at least 1")
        wanted = self._matrix(queries, "queries")
        count = min(k, self._size)
        ids = np.empty((len(wanted), count), dtype=np.int64)
        distances = np.empty((len(wanted), count), dtype=np.float64)
        codes = np.empty((len(wanted), count), dtype=np.int32)
        if count:
            error = self._error(wanted, count)
            at_once = _SCORES // self._size if error is None else min(_QUERIES, _SCORES // count)
            for block in blocks(len(wanted), max(1, at_once)):
                rows, found = self._nearest(wanted[block], count, None if error is None else error[block])
                ids[block], distances[block], codes[block] = self._ids[rows], found, self._codes[rows]
        return Hits(ids, distances, codes)

    def export(self) -> tuple[Ids, Keys, Codes]:
        """Copy out (ids, keys, codes), sorted by id."""
        order = np.argsort(self._ids[: self._size])
        return self._ids[order], self._keys[order], self._codes[order]

    def _error(self, queries: Keys, count: int) -> Distances | None:
        """What float32 and float64 err by at most, for each query (`_proposed`).

        None where every key is a candidate: as many are sought, or float32 products could overflow.
        """
        largest = float(np.sqrt(self._squares[: self._size].max()))
        norms = np.sqrt(squared_norms(queries))
        if self._size == count or (norms.max(initial=0) + largest) ** 2 > _LARGE32:
            return None
        m = self.dimension
        growth = m * UNIT32 / (1 - m * UNIT32)
        error: Distances = 2 * (growth + 2 * UNIT32) * norms * largest + 3 * UNIT32 * largest**2
        error += 2 * (m + 8) * _UNIT64 * (norms + largest) ** 2 + 4 * m * _TINY32
        return error

    def _nearest(self, queries: Keys, count: int, error: Distances | None) -> tuple[npt.NDArray[np.intp], Distances]:
        """Rows and distances, both (q, count), of the nearest keys of a block of queries."""
        if error is None:
            of_query, rows = _pairs(np.ones((len(queries), self._size), dtype=bool))
        else:
            of_query, rows = self._proposed(queries, count, error)
        squared = np.empty(len(rows), dtype=np.float64)
        for part in blocks(len(rows), max(1, _DIFFERENCES // self.dimension)):
            difference = queries[of_query[part]].astype(np.float64)
            difference -= self._keys[rows[part]]
            squared[part] = np.square(difference, out=difference).sum(axis=1)
        distances = np.sqrt(squared)
        order = np.lexsort((self._ids[rows], distances, of_query))
        starts = np.searchsorted(of_query, np.arange(len(queries)))  # of_query is sorted
        best = order[starts[:, None] + np.arange(count)]
        return rows[best], distances[best]

    def _proposed(
        self, queries: Keys, count: int, error: Distances
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Candidates for a block of queries, from the coarse copy where that is faster and tells enough.

        A score is |k|^2 - 2 q.k, the squared distance less |q|^2. The float32 dot product of m terms, in any order of
        summation, errs by at most g |q| |k| with g = m u / (1 - m u) (Higham, Accuracy and Stability of Numerical
        Algorithms, 2002, eq. 3.5); rounding |k|^2 and the subtraction adds u (2 |k|^2 + 2 |q| |k|). The float64
        distances that decide at the end err as well, far less; `error` has the bounds of both.
        """
        squares = self._squares[: self._size]
        if (coarse := self._coarse_for(queries)) is not None:
            scores, reach = coarse.scores(queries, self._size)
            found = self._candidates(scores, lambda score: reach(score) + 2 * error, len(queries), count, _ROUGHLY)
            if len(found[0]) <= _CANDIDATES * self._size * len(queries):
                return found
        doubled: Keys = np.multiply(queries, -2, dtype=np.float32)  # a power of two: nothing is rounded

        def product(rows: slice) -> Keys:
            with np.errstate(all="ignore"):  # overflow was ruled out; a library may flag what lies beside the matrix
                made: Keys = doubled @ self._keys[rows].T
            made += squares[rows].astype(np.float32)
            return made

        return self._candidates(product, lambda score: score + 2 * error, len(queries), count, 1)

    def _coarse_for(self, queries: Keys) -> Coarse | None:
        """The coarse copy, where it serves such a search."""
        much = self.dimension >= _LONG and self._size * self.dimension >= _MUCH
        if self._product is None or len(queries) > _FEW or not much:
            return None
        self._asked += 1
        if self._coarse is None and self._asked > _PATIENCE:
            self._coarse = Coarse(self._keys[: self._size], len(self._ids), self._product)
        return self._coarse

    def _candidates(
        self,
        scored: Callable[[slice], Keys],
        reach: Callable[[Distances], Distances],
        queries: int,
        count: int,
        width: int,
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Pairs (query, row), queries ascending, that surely contain the `count` nearest keys of each query.

        `scored` gives scores of a slice of keys, float32 (q, rows), and `reach` tells up to which score the nearest may
        come where `count` keys score so much at most. With scores that err by E that is 2 E above: E for their own
        error and E for that of the threshold.

        The scores are made, of `width` numbers each, and looked through in tiles of keys. Each tile lowers the
        threshold, and is held against it as it stands then; the last one decides.
        """
        least: Keys = np.full((queries, count), np.inf, dtype=np.float32)
        limit: Keys = least[:, 0]
        found = []
        for tile in blocks(self._size, max(_SCORES // (queries * width), 4 * _GROUPS * count)):
            scores = scored(tile)
            least = _least(np.concatenate([least, _group_minima(scores, count)], axis=1), count)
            threshold = reach(least[:, count - 1].astype(np.float64))
            # Rounded up, so that comparing in float32 loses no candidate.
            limit = np.nextafter(threshold.astype(np.float32), np.float32(np.inf))
            of_query, columns = _pairs(scores <= limit[:, None])
            found.append((of_query, columns + tile.start, scores[of_query, columns]))
        if len(found) == 1:
            return found[0][:2]
        of_query, rows, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = np.flatnonzero(values <= limit[of_query])
        kept = kept[np.argsort(of_query[kept], kind="stable")]
        return of_query[kept], rows[kept]

    def _matrix(self, values: npt.ArrayLike, name: str) -> Keys:
        """The values as a contiguous float32 matrix of our dimension, all finite."""
        with np.errstate(over="ignore"):  # what is too large for float32 is refused below
            matrix = np.ascontiguousarray(values, dtype=np.float32)
        if matrix.ndim != 2 or matrix.shape[1] != self.dimension:
            raise ValueError(f"{name} have shape {matrix.shape}; expected (n, {self.dimension})")
        if not np.isfinite(matrix).all():
            raise ValueError(f"{name} hold a number that is not finite")
        return matrix

    def _rows_of(self, ids: Sequence[int]) -> list[int]:
        """The rows of these ids. ValueError for one that is not there."""
        missing = [example_id for example_id in ids if example_id not in self._rows]
        if missing:
            raise ValueError(f"example {missing[0]} is not in the index")
        return [self._rows[example_id] for example_id in ids]

    def _reserve(self, size: int) -> None:
        """Make room for `size` rows and some more, by half as much again each time: adding one by one stays cheap.

        Also after the first rows, which are all that a snapshot held: room that nobody has written to takes no memory.
        """
        if size <= len(self._ids):
            return
        capacity = max(size + size // 8, len(self._ids) * 3 // 2, 16)
        self._ids = grown(self._ids, capacity, self._size)
        self._codes = grown(self._codes, capacity, self._size)
        self._keys = grown(self._keys, capacity, self._size)
        self._squares = grown(self._squares, capacity, self._size)
        if self._coarse is not None:
            self._coarse.reserve(capacity, self._size)


def _column(values: npt.ArrayLike, dtype: type[_Whole], name: str) -> npt.NDArray[_Whole]:
    """The values as a one-dimensional array of whole numbers. ValueError for anything else."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} have shape {array.shape} and type {array.dtype}; expected whole numbers, shape (n,)")
    column = array.astype(dtype)
    if (column != array).any():
        raise ValueError(f"{name} hold a number beyond the range of {column.dtype}")
    return column


def _distinct(ids: Ids) -> list[int]:
    """The ids as a list. ValueError when one is repeated."""
    listed: list[int] = ids.tolist()
    if len(set(listed)) < len(listed):
        repeated, _ = Counter(listed).most_common(1)[0]
        raise ValueError(f"example {repeated} is given twice")
    return listed


def _group_minima(scores: Keys, count: int) -> Keys:
    """For each row the least scores of groups, among them `count` numbers that come close to its `count` smallest.

    That costs one pass over the row where selecting among all scores takes many. Two of the nearest seldom fall into
    one group of so many. Where the scores are too few for groups it is all of them.
    """
    size = scores.shape[1] // (_GROUPS * count)
    if size < 2:
        return scores
    grouped = scores[:, : scores.shape[1] // size * size].reshape(len(scores), size, -1)
    return np.concatenate([grouped.min(axis=1), scores[:, grouped.shape[1] * grouped.shape[2] :]], axis=1)


def _least(numbers: Keys, count: int) -> Keys:
    """The `count` smallest of each row, the largest of them last."""
    return np.partition(numbers, count - 1, axis=1)[:, :count]


def _pairs(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row and column of every true entry, rows ascending."""
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])  # far faster than nonzero in two dimensions
    return rows, columns
