"""Splits of labelled texts: stratified, seeded, with equal texts on one side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def folds(texts: Sequence[str], label_sets: Sequence[tuple[str, ...]], n: int, seed: int) -> list[Rows]:
    """Row numbers of n folds that together hold every row once. `texts` come normalised: equal ones share a fold.

    Groups of equal texts are dealt out rarest label first, each to the fold that lacks most of that label
    (iterative stratification, Sechidis et al. 2011), so that rare labels are spread evenly, with several labels
    a text too. ValueError for fewer than two folds.
    """
    return _deal(texts, label_sets, np.full(n, 1.0 / n), seed)


def hold_out(texts: Sequence[str], label_sets: Sequence[tuple[str, ...]], share: float, seed: int) -> tuple[Rows, Rows]:
    """Row numbers of (kept, held out), the latter about `share` of the rows of every label."""
    kept, held = _deal(texts, label_sets, np.array([1.0 - share, share]), seed)
    return kept, held


def _deal(
    texts: Sequence[str], label_sets: Sequence[tuple[str, ...]], shares: NDArray[np.float64], seed: int
) -> list[Rows]:
    if len(shares) < 2:
        raise ValueError(f"a split needs at least two parts, found {len(shares)}")
    order = np.random.default_rng(seed).permutation(len(texts))
    groups: dict[Hashable, list[int]] = {}
    for row in order:
        groups.setdefault(texts[row], []).append(int(row))
    frequency: dict[str, int] = {}
    for labels in label_sets:
        for label in labels:
            frequency[label] = frequency.get(label, 0) + 1

    def rarest(group: list[int]) -> tuple[int, str]:
        labels = {label for row in group for label in label_sets[row]}
        return min(((frequency[label], label) for label in labels), default=(len(texts) + 1, ""))

    wanted = {label: shares * count for label, count in frequency.items()}
    room = shares * len(texts)
    parts: list[list[int]] = [[] for _ in shares]
    # `sorted` is stable: among equally rare labels the shuffled order stands.
    for group in sorted(groups.values(), key=rarest):
        _, label = rarest(group)
        need = wanted.get(label, room)
        part = int(np.lexsort((-room, -need))[0])
        parts[part].extend(group)
        room[part] -= len(group)
        for row in group:
            for each in label_sets[row]:
                wanted[each][part] -= 1
    return [np.array(sorted(part), dtype=np.int64) for part in parts]
