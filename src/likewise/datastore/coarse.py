"""A coarse copy of the keys, one byte for each of their numbers, and scores from it with a bound on their error.

A search of few queries does little but read the keys. The copy is a quarter of their bytes, and products of whole
numbers are exact and fast. What it cannot tell apart is left to the index, which calculates exactly: a coarse copy
makes a search faster and never another one.

Number j of key k is kept as a code c in 0..255 that stands for k'_j = o_j + s_j c, with e the greatest distance from a
key to what it is kept as: |k - k'| <= e. So a distance |q - k'| is off by e at most. Of a query q the numbers
r_j = q_j s_j are taken in two digits of seven bits: r' = t (126 h + l), h and l whole and at most 63. (More would
overflow the sums of 16 bits in which processors without VNNI add up.) The score of a key is
    |k'|^2 - 2 r'.c = |q - k'|^2 - C + p,    C = |q|^2 - 2 q.o,    |p| <= 510 sum_j |r_j - r'_j| and some rounding.
Where some keys score at most x, their distances are at most sqrt(x + C + |p|) + e; whatever is as near as they are
scores at most
    (sqrt(x + C + |p|) + 2 e)^2 - C + |p|.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from likewise.datastore.arrays import UNIT32, Distances, Keys, blocks, grown, squared_norms

Codes = npt.NDArray[np.uint8]
Digits = npt.NDArray[np.int8]
Product = Callable[[Codes, Digits], npt.NDArray[np.int32]]
"""Codes (n, d) and digits (d, m) -> their product, transposed: (m, n), exactly."""

WIDEST = 1024
"""Dimensions for which the sums cannot overflow 32 bits: 255 d (126 * 63 + 63) < 2^31."""

_LEVELS = 255
_DIGIT = 63
_BASE = 2 * _DIGIT  # steps of the second digit in one of the first
_ROWS = 4096  # keys that are coded at a time
_SPOILT = 4.0  # keys that are coded so many times as badly as the first ones want new steps
_UNDERFLOW = 2.0**-110  # what float32 loses of the smallest numbers, times any whole number


class Coarse:
    """Codes of an index's rows. It is made from keys (n, d) and has room for `capacity` of them."""

    def __init__(self, keys: Keys, capacity: int, product: Product) -> None:
        low, high = keys.min(axis=0), keys.max(axis=0)
        self._product = product
        self._origin: Keys = low
        self._step: Keys = np.where(high > low, (high - low) / np.float32(_LEVELS), np.finfo(np.float32).tiny)
        self._codes: Codes = np.empty((capacity, keys.shape[1]), dtype=np.uint8)
        self._squares: Keys = np.empty(capacity, dtype=np.float32)  # |k'|^2
        # How long an o + s c may be on the way: what rounding is measured by.
        self._width = float(np.linalg.norm(low.astype(np.float64))) + _LEVELS * float(np.linalg.norm(self._step))
        self._error = 0.0  # e
        self.put(0, keys)
        self._usual = self._error

    @property
    def spoilt(self) -> bool:
        """Whether keys that came later lie so far outside that the copy should be made anew."""
        return self._error > _SPOILT * self._usual

    def reserve(self, capacity: int, size: int) -> None:
        """Make room for `capacity` rows, of which `size` are kept."""
        self._codes, self._squares = grown(self._codes, capacity, size), grown(self._squares, capacity, size)

    def put(self, start: int, keys: Keys) -> None:
        """Code keys as the rows from `start` on."""
        worst = 0.0
        with np.errstate(over="ignore"):
            for part in blocks(len(keys), _ROWS):
                left: Keys = keys[part] - self._origin
                codes: Keys = np.rint(left / self._step)
                np.clip(codes, 0, _LEVELS, out=codes)
                rows = slice(start + part.start, start + part.stop)
                self._codes[rows] = codes
                codes *= self._step
                left -= codes
                codes += self._origin
                self._squares[rows] = squared_norms(codes)
                worst = max(worst, float(np.einsum("ij,ij->i", left, left).max()) ** 0.5)
        # Each number was rounded four times, and the sum of their squares a time for each.
        worst += UNIT32 * (8 * (self._width + worst) + keys.shape[1] * worst) + _UNDERFLOW
        self._error = max(self._error, worst)

    def move(self, row: int, to: int) -> None:
        """Let one row take another's place."""
        self._codes[to], self._squares[to] = self._codes[row], self._squares[row]

    def scores(self, queries: Keys, size: int) -> tuple[Callable[[slice], Keys], Callable[[Distances], Distances]]:
        """For queries (q, d): what scores the rows of a slice, float32 (q, rows); and what tells from a score of each
        query, which some keys do not exceed, the score, (q,), that no nearer key exceeds. `size` rows are in use."""
        wanted = queries.astype(np.float64)
        scaled = wanted * self._step.astype(np.float64)
        tick = np.maximum(np.abs(scaled).max(axis=1), np.finfo(np.float64).tiny * _DIGIT)[:, None] / (_DIGIT * _BASE)
        first = np.rint(scaled / (tick * _BASE))
        second = np.rint(scaled / tick - first * _BASE)
        left = np.abs(scaled - tick * (first * _BASE + second)).sum(axis=1)
        digits = np.concatenate([first, second]).T.astype(np.int8)
        factor = (-2 * tick).astype(np.float32)
        squares = self._squares[:size]
        longest = float(squares.max(initial=0))
        most = _LEVELS * np.abs(scaled).sum(axis=1) + longest  # of any score
        # A number of k' is off by what o and s c are rounded by, however small it is itself.
        off = 2 * _LEVELS * left + 16 * UNIT32 * (most + self._width * longest**0.5) + _UNDERFLOW  # |p|
        constant = np.einsum("ij,ij->i", wanted, wanted - 2 * self._origin)  # C

        def score(rows: slice) -> Keys:
            found = self._product(self._codes[rows], digits)
            whole = found[: len(queries)]
            whole *= _BASE
            whole += found[len(queries) :]
            made: Keys = whole.astype(np.float32)
            made *= factor
            made += squares[rows]
            return made

        def reach(scores: Distances) -> Distances:
            distance: Distances = np.sqrt(np.maximum(scores + constant + off, 0)) + 2 * self._error
            limit: Distances = distance**2 - constant + off
            return limit

        return score, reach
