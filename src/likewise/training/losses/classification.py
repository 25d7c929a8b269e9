"""A classifier that is trained together with the encoder: a linear one on embeddings, or the network's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, dropout, normalize

from likewise.errors import DataError
from likewise.training.losses.objective import Objective
from likewise.types import Task

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Classification(Objective):
    """Cross-entropy of softmax(W e + b), or with several labels a text the binary one of sigmoid(W e + b).

    `dropout` hides that share of the embedding's values while the model trains; `label_smoothing` s moves the
    target to (1 - s) y + s / K with K labels (s / 2 with several labels). `detached` trains the classifier
    beside the encoder without teaching it. The layer is kept as `classifier`. `unit`: it sees embeddings of length 1.
    With `own` there is no layer: the model is a classifier itself, whose "logits" (n, L) stand in the place of W e + b,
    with no dropout but its own.

    Where several tasks are learnt at once, `columns` (start and end) says which of the multi-hot labels (n, all labels)
    are this one's; texts that belong to another task have NaN there, and do not count. A batch without a text of this
    task has a loss of 0.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        n_labels: int,
        task: Task,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        detached: bool = False,
        columns: tuple[int, int] | None = None,
        unit: bool = False,
        own: bool = False,
    ) -> None:
        super().__init__(model)
        dimension = model.get_embedding_dimension()
        if dimension is None:
            raise DataError("the encoder does not say how many dimensions its embeddings have; give it a pooling layer")
        self.n_labels, self.task = n_labels, task
        self.dropout, self.label_smoothing, self.detached = dropout, label_smoothing, detached
        self.columns, self.unit = columns, unit
        self.classifier = None if own else nn.Linear(dimension, n_labels, device=model.device)

    def from_batch(self, features: dict[str, Tensor], embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar, by the layer or by the logits among the features."""
        if self.classifier is None:
            return self.from_logits(features["logits"], labels)
        return self.from_embeddings(embeddings, labels)

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The same by the layer, from embeddings (n, d); labels as `from_logits` takes them.

        Raises DataError where there is no layer.
        """
        if self.detached:
            embeddings = embeddings.detach()
        # The model's mode, not this module's: trainers switch the model, and no one else, to evaluation.
        seen = dropout(self._seen(embeddings), self.dropout, training=self.model.training)
        return self.from_logits(self._layer(seen), labels)

    def from_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The same from logits (n, L); labels (n,) int64, or (n, L) multi-hot if `task` is multi.

        Raises DataError where the labels have the other task's shape.
        """
        if self.columns is not None:
            labels = labels[:, slice(*self.columns)]
            own = ~labels.isnan().any(dim=1)
            if not own.any():
                return logits.sum() * 0
            logits, labels = logits[own], labels[own]
            labels = labels.argmax(dim=1) if self.task == "single" else labels
        if labels.ndim != (1 if self.task == "single" else 2):
            expected = "(n,)" if self.task == "single" else "(n, L)"
            raise DataError(f"found labels of shape {tuple(labels.shape)}; a {self.task}-label task takes {expected}")
        if self.task == "single":
            return cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        target = labels.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return binary_cross_entropy_with_logits(logits, target)

    def logits(self, embeddings: Tensor) -> Tensor:
        """What the classifier says of embeddings (n, d): (n, L)."""
        return self._layer(self._seen(embeddings))

    def _seen(self, embeddings: Tensor) -> Tensor:
        return normalize(embeddings, dim=1) if self.unit else embeddings

    def _layer(self, seen: Tensor) -> Tensor:
        if self.classifier is None:
            raise DataError("the model classifies by logits of its own, which embeddings do not tell; give the batch")
        # In float32 also where the encoder works in less: a closed-form classifier's large weights cancel.
        with torch.autocast(seen.device.type, enabled=False):
            logits: Tensor = self.classifier(seen.to(self.classifier.weight.dtype))
        return logits

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with."""
        return {
            "n_labels": self.n_labels,
            "task": self.task,
            "dropout": self.dropout,
            "label_smoothing": self.label_smoothing,
            "detached": self.detached,
            "columns": self.columns,
            "unit": self.unit,
            "own": self.classifier is None,
        }
