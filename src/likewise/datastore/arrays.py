"""What the index and its coarse copy have in common: rows of float32 numbers, a row for each example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.float32]
Distances = npt.NDArray[np.float64]

_Number = TypeVar("_Number", np.uint8, np.int32, np.int64, np.float32, np.float64)

UNIT32 = 2.0**-24
"""Unit round-off of float32."""


def grown(array: npt.NDArray[_Number], capacity: int, size: int) -> npt.NDArray[_Number]:
    """An array with room for `capacity` rows, and the first `size` of this one in it."""
    larger = np.empty((capacity, *array.shape[1:]), dtype=array.dtype)
    larger[:size] = array[:size]
    return larger


def squared_norms(matrix: Keys) -> Distances:
    """Squared Euclidean norms of the rows, in float64 and without a float64 copy of the whole matrix."""
    squares: Distances = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64, casting="safe")
    return squares


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover range(count)."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
