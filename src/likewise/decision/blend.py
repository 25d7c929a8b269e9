"""The one mixing formula: p = lambda * p_neighbours + (1 - lambda) * p_head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from likewise.types import Task


def blend(
    neighbours: NDArray[np.float64], head: NDArray[np.float64], share: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Both voices' probabilities, each (texts, labels), as one (KNN-EC, equation 13; multi-label kNN, equation 3).

    `share` is lambda, or what `shares` makes of it where a voice does not know every label.
    """
    return share * neighbours + (1.0 - share) * head


def shares(
    neighbours: NDArray[np.float64],
    head: NDArray[np.float64],
    lambda_: float,
    task: Task,
    known_to_head: NDArray[np.bool_] | None = None,
    known_to_neighbours: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """The neighbours' share of each probability, (texts, labels): lambda, but where a label is unknown to a voice.

    It is decided by the other. With one label a text, wherever a voice's best label is unknown to the other voice, the
    text is left to the voice that knows it; with several labels a text, each such label is. What a voice knows has
    shape (labels,), or (texts, labels) where that is not the same for all texts.
    """
    share = np.full_like(head, lambda_)
    for known, left_to, knowing in ((known_to_head, 1.0, neighbours), (known_to_neighbours, 0.0, head)):
        if known is None or known.all():
            continue
        table = np.broadcast_to(known, head.shape)
        if task == "multi":
            share[~table] = left_to
        else:
            share[~np.take_along_axis(table, knowing.argmax(axis=1)[:, None], axis=1)[:, 0]] = left_to
    return share
