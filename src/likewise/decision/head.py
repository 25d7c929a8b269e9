"""The head: closed-form linear classifiers that follow every change of the examples exactly.

Both heads are made from the same sufficient statistics (`Statistics`), so teaching, forgetting or relabelling
an example changes them as if they had been computed from all current examples afresh. Their hyper-parameters are
chosen at fit (`tuning`) and stay fixed until the next one.

One label a text: a regularised linear discriminant. Class means mu_c, shared within-class covariance
S_w = (scatter - sum_c n_c mu_c mu_c^T) / N, shrunk towards a multiple of the identity,
S = (1 - a) S_w + a tr(S_w) / d I (Friedman 1989), and
    logit_c = (mu_c^T S^-1 x - mu_c^T S^-1 mu_c / 2 + b log(n_c / N)) / T,
with shrinkage a, weight of the class frequencies b, and temperature T; computed about the mean of all embeddings,
which changes every logit of a text alike, and so no probability, but keeps digits where embeddings lie close together.

Several labels a text: ridge regression of each label's indicator on the embedding has the solution
w_l = (n_l / N) S^-1 (mu_l - mu), with the total covariance in S. The factor n_l / N would tie a score's scale to how
frequent its label is, so it is divided out, and a logistic map turns the score into a probability:
    logit_l = slope_l (mu_l - mu)^T S^-1 (x - mu) + intercept_l + log(n_l / (N - n_l)).
On that scale labels are alike, which is what lets a label taught later use the map pooled over all labels.
Ridge regression was taken because it is the several-label form that needs nothing but these statistics: a
logistic regression would have to see every example again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from likewise.decision.statistics import Statistics
from likewise.decision.whitening import Whitening
from likewise.machine import one_thread
from likewise.types import Task

Matrix = NDArray[np.float64]

# Variance below this share of the mean square is taken for rounding: with one example a class there is none within.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class HeadSettings:
    """The hyper-parameters of a head, fixed between fits.

    `dimensions`: the head sees the first so many whitened dimensions; None: the embedding itself.
    `shrinkage` in (0, 1]. One label a text: `prior` and `temperature`. Several: `maps`, label to (slope,
    intercept), and `pooled_map` for labels that are not among them.
    """

    dimensions: int | None = None
    shrinkage: float = 0.1
    prior: float = 1.0
    temperature: float = 1.0
    maps: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    pooled_map: tuple[float, float] = (1.0, 0.0)


class Head(Protocol):
    """What gives labels probabilities, of itself."""

    @property
    def labels(self) -> list[str]: ...

    def probabilities(self, embeddings: NDArray[np.float32]) -> Matrix:
        """Shape (rows, labels)."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """`logits = embeddings @ weights + bias` for the labels in `labels`; weights (d, labels), bias (labels,)."""

    labels: list[str]
    weights: Matrix
    bias: Matrix
    task: Task

    def probabilities(self, embeddings: NDArray[np.float32]) -> Matrix:
        """Shape (rows, labels): softmax with one label a text, sigmoid with several."""
        logits = embeddings @ self.weights + self.bias
        return softmax(logits) if self.task == "single" else sigmoid(logits)

    def only(self, labels: Collection[str]) -> LinearHead:
        """The same for none but these labels."""
        kept = [i for i, label in enumerate(self.labels) if label in labels]
        return replace(self, labels=[self.labels[i] for i in kept], weights=self.weights[:, kept], bias=self.bias[kept])


def softmax(logits: Matrix) -> Matrix:
    """Rows of logits as probabilities that sum to 1."""
    with np.errstate(under="ignore"):
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def sigmoid(logits: Matrix) -> Matrix:
    """Each logit as a probability of its own."""
    with np.errstate(under="ignore"):
        exp = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, exp) / (1.0 + exp)


def make_head(statistics: Statistics, whitening: Whitening, settings: HeadSettings, task: Task) -> LinearHead:
    """The head of these examples under these hyper-parameters; see the module's formulas."""
    with one_thread():
        space = _Space(statistics, whitening, settings.dimensions)
        if task == "single":
            weights, bias = _discriminant(space, settings)
        else:
            weights, bias = _ridge(space, settings.shrinkage)
            maps = np.array([settings.maps.get(label, settings.pooled_map) for label in space.labels]).reshape(-1, 2)
            weights, bias = weights * maps[:, 0], bias * maps[:, 0] + maps[:, 1] + log_odds(statistics)
        return LinearHead(space.labels, *space.to_embedding(weights, bias), task)


def log_odds(statistics: Statistics) -> Matrix:
    """log(n_l / (N - n_l)) of each label, kept finite where every example or none bears it."""
    count = max(statistics.count, 1)
    least = 0.5 / (count + 1)
    share = np.clip(statistics.label_counts() / count, least, 1 - least)
    return np.asarray(np.log(share / (1 - share)))


class _Space:
    """The statistics seen where the head works: in the embedding, or in whitened dimensions (a linear map of it)."""

    def __init__(self, statistics: Statistics, whitening: Whitening, dimensions: int | None) -> None:
        reduced = whitening.first(dimensions) if dimensions is not None else None
        self.origin = np.zeros(statistics.dimension) if reduced is None else reduced.mean.astype(np.float64)
        self.map = None if reduced is None or reduced.matrix is None else reduced.matrix.astype(np.float64)
        self.labels = statistics.labels
        self.counts = statistics.label_counts()
        self.count = max(statistics.count, 1)
        self.mean = self._into(statistics.total / self.count)
        self.means = self._into(statistics.label_totals() / self.counts[:, None])
        raw_mean = statistics.total / self.count
        covariance = statistics.scatter / self.count
        covariance -= np.outer(raw_mean, raw_mean)
        self.covariance = covariance if self.map is None else self.map.T @ covariance @ self.map
        self.dimension = len(self.mean)
        self.square = (float(np.trace(self.covariance)) + float(self.mean @ self.mean)) / self.dimension

    def _into(self, rows: Matrix) -> Matrix:
        moved = rows - self.origin
        return moved if self.map is None else moved @ self.map

    def within_covariance(self) -> Matrix:
        """The covariance about each label's own mean, for texts with exactly one label."""
        centred = (self.means - self.mean) * np.sqrt(self.counts / self.count)[:, None]
        return self.covariance - centred.T @ centred

    def shrunk(self, covariance: Matrix, shrinkage: float) -> Matrix:
        """The covariance, moved towards a multiple of the identity; positive definite for any examples."""
        variance = float(np.trace(covariance)) / self.dimension
        scale = max(variance, NEGLIGIBLE * self.square, np.finfo(np.float64).tiny ** 0.5)
        moved: Matrix = (1 - shrinkage) * covariance
        moved[np.diag_indices(self.dimension)] += shrinkage * scale
        return moved

    def to_embedding(self, weights: Matrix, bias: Matrix) -> tuple[Matrix, Matrix]:
        """Weights and bias of this space as ones that take the embedding."""
        if self.map is not None:
            weights = self.map @ weights
        return weights, bias - self.origin @ weights


def _solved(covariance: Matrix, right: Matrix) -> Matrix:
    return np.asarray(np.linalg.solve(covariance, right), dtype=np.float64)


def _discriminant(space: _Space, settings: HeadSettings) -> tuple[Matrix, Matrix]:
    apart = space.means - space.mean
    weights = _solved(space.shrunk(space.within_covariance(), settings.shrinkage), apart.T)
    bias: Matrix = -(space.mean @ weights) - 0.5 * np.einsum("cd,dc->c", apart, weights)
    bias = bias + settings.prior * np.log(space.counts / space.count)
    return weights / settings.temperature, bias / settings.temperature


def _ridge(space: _Space, shrinkage: float) -> tuple[Matrix, Matrix]:
    """Weights and bias of each label's score (mu_l - mu)^T S^-1 (x - mu), before its logistic map."""
    weights = _solved(space.shrunk(space.covariance, shrinkage), (space.means - space.mean).T)
    return weights, -(space.mean @ weights)
