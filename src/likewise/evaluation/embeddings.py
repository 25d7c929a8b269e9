"""How embeddings stand to labels: whether they fall into the classes, whether the nearest are of the same class.

And how far they have moved. What the retrofitting paper measures an encoder by (its Section 5.2); the measures
themselves are scikit-learn's and pytorch-metric-learning's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.errors import DataError, MissingExtra

Embeddings = NDArray[np.floating[Any]]

CHUNK = 256  # texts whose distances to all others are held at a time


def clustering(embeddings: Embeddings, labels: Sequence[str], seed: int = 0) -> dict[str, float]:
    """How well k-means, with as many clusters as there are labels, finds the classes again; embeddings (n, d).

    `ami`, `ari` and `fms` are the adjusted mutual information, the adjusted Rand index (both about 0 by chance, 1 where
    clusters are the classes) and the Fowlkes-Mallows score (0 to 1, over 0 by chance) of scikit-learn. k-means begins
    ten times, from `seed`. DataError where rows and labels do not fit together or there are fewer than two labels.
    """
    truth = _codes(embeddings, labels)
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, fowlkes_mallows_score
    except ImportError as error:
        raise _missing("scikit-learn") from error
    found = KMeans(len(set(labels)), n_init=10, random_state=seed).fit_predict(np.asarray(embeddings, dtype=np.float32))
    return {
        "ami": float(adjusted_mutual_info_score(truth, found)),
        "ari": float(adjusted_rand_score(truth, found)),
        "fms": float(fowlkes_mallows_score(truth, found)),
    }


def retrieval(embeddings: Embeddings, labels: Sequence[str]) -> dict[str, float]:
    """How well each text finds others of its class by cosine; embeddings (n, d).

    `mrr`: the mean of 1 / rank of the first other of its class; `p_at_1`: how often that is the nearest; `map_at_r`:
    with R others of its class, the mean over its R nearest of the precision down to those that are of its class, 0 for
    the others (Musgrave and others 2020). All by pytorch-metric-learning, means over texts; a text that is alone with
    its label is left out. DataError as `clustering`.
    """
    truth = _codes(embeddings, labels)
    try:
        from pytorch_metric_learning.distances import CosineSimilarity
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
        from pytorch_metric_learning.utils.inference import CustomKNN
    except ImportError as error:
        raise _missing("pytorch-metric-learning") from error
    names = {
        "mean_reciprocal_rank": "mrr", "precision_at_1": "p_at_1", "mean_average_precision_at_r": "map_at_r",
    }  # fmt: skip
    nearest = CustomKNN(CosineSimilarity(), batch_size=CHUNK)
    found = AccuracyCalculator(include=tuple(names), knn_func=nearest).get_accuracy(
        np.asarray(embeddings, dtype=np.float32), truth
    )
    return {ours: float(found[theirs]) for theirs, ours in names.items()}


def delta_emb(before: Embeddings, after: Embeddings) -> float:
    """The mean Euclidean distance between each text's embeddings, both (n, d). ValueError for different shapes."""
    if before.shape != after.shape:
        raise ValueError(f"found embeddings of shapes {before.shape} and {after.shape}, expected the same texts' twice")
    moved = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return float(np.linalg.norm(moved, axis=1).mean())


def _codes(embeddings: Embeddings, labels: Sequence[str]) -> NDArray[np.int64]:
    """A number a label."""
    if len(embeddings) != len(labels):
        raise DataError(f"found {len(embeddings)} embeddings and {len(labels)} labels, expected one label each")
    names = sorted(set(labels))
    if len(names) < 2:
        raise DataError(f"found {len(names)} label, expected two or more; there is nothing to tell apart")
    column = {label: i for i, label in enumerate(names)}
    return np.array([column[label] for label in labels], dtype=np.int64)


def _missing(what: str) -> MissingExtra:
    return MissingExtra(
        f"measuring embeddings needs {what}, which is not installed; run: pip install 'likewise[train]'"
    )
