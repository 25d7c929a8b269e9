"""What all objectives share: one forward pass a text, the notion of two texts of the same class, and a distance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from likewise.errors import DataError
from likewise.training.parts import in_one, in_parts


class Objective(nn.Module):
    """A loss on embeddings and labels, usable wherever sentence-transformers takes a loss.

    `model` maps a batch's features to a dictionary with "sentence_embedding", shape (n, d), as a
    SentenceTransformer does. Labels are (n,) int64 with one label a text, (n, L) multi-hot with several.
    """

    parted = False
    """Whether a batch is encoded in parts of texts of about the same length, for a CPU and batches of mixed lengths."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of a batch with one text column, a scalar. Raises DataError for another number of columns."""
        columns = list(sentence_features)
        if len(columns) != 1:
            raise DataError(f"found {len(columns)} text columns; {type(self).__name__} takes exactly one")
        made = (in_parts if self.parted else in_one)(self.model, columns[0])
        own = {"logits": made["logits"]} if "logits" in made else {}
        return self.from_batch({**columns[0], **own}, made["sentence_embedding"], labels)

    def from_batch(self, features: dict[str, Tensor], embeddings: Tensor, labels: Tensor) -> Tensor:
        """The same from a batch whose embeddings (n, d) are there already, for objectives that read the texts again.

        Among the features are the "logits" (n, L) of a model that is a classifier of its own.
        """
        return self.from_embeddings(embeddings, labels)

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The same from embeddings (n, d), so that a sum of objectives encodes each text once."""
        raise NotImplementedError

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with, as sentence-transformers' model card lists it."""
        raise NotImplementedError


def same_class(labels: Tensor) -> Tensor:
    """Which texts share at least one label: boolean (n, n). A text without labels shares none, not with itself."""
    if labels.ndim == 1:
        return labels[:, None] == labels[None, :]
    has = (labels > 0).float()
    return has @ has.T > 0


def same_class_in_pairs(a: Tensor, b: Tensor) -> Tensor:
    """The same of row i of one and row i of the other, whose labels are `a` and `b`: boolean (n,)."""
    return a == b if a.ndim == 1 else ((a > 0) & (b > 0)).any(dim=1)


def others(labels: Tensor) -> Tensor:
    """Boolean (n, n), false on the diagonal: a text is neither its own positive nor its own negative."""
    n = len(labels)
    return ~labels.new_ones(n).bool().diag()


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of each row's values (n, n) where the mask holds, 0 where it holds nowhere: (n,)."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """The Euclidean distance between each row of a (n, d) and the same row of b: (n,). At 0 its gradient is 0."""
    # Not the root of a dot product: that is inexact near 0, and at 0 its gradient is infinite.
    norms: Tensor = torch.linalg.vector_norm(a - b, dim=1)
    return norms
