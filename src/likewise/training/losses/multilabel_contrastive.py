"""The multi-label contrastive loss: the more labels two texts share, the nearer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from likewise.errors import SettingError
from likewise.training.losses.objective import Objective, others


class MultiLabelContrastive(Objective):
    """Multi-label kNN, equations 2 and 3: the sum over pairs (i, j) of a batch of -beta_ij log softmax_j(-d_ij / T).

    d is the Euclidean distance of embeddings, the softmax runs over all other texts of the batch, and beta_ij is the
    number of labels that i and j share over its sum over all j: its rows add up to 1, or to 0 for a text that shares
    none with any (the paper has 0/0 there). With `counted` False any shared labels count as one (its ablation, footnote
    4). It is a sum over the batch, as the paper has it, so what it weighs against other objectives depends on the size
    of batches. The paper's T is 10.
    """

    def __init__(self, model: nn.Module, temperature: float = 10.0, counted: bool = True) -> None:
        """Raises SettingError for a temperature that is not over 0."""
        super().__init__(model)
        if not temperature > 0:
            raise SettingError(f"temperature is {temperature}; expected a number over 0")
        self.temperature, self.counted = temperature, counted

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar. Embeddings (n, d), labels (n,) int64 or (n, L) multi-hot."""
        # Half precision is too coarse for differences of distances.
        embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        other = others(labels)
        # Not by a product of matrices, which is inexact near 0, where the gradient would be infinite.
        distance = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
        nearness = (-distance / self.temperature).masked_fill(~other, torch.finfo(distance.dtype).min)
        share = nearness - nearness.logsumexp(dim=1, keepdim=True)
        common = _shared(labels).to(distance.dtype) * other
        if not self.counted:
            common = common.clamp(max=1)
        beta = common / common.sum(dim=1, keepdim=True).clamp(min=1)
        return -(beta * share.masked_fill(~other, 0.0)).sum()

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with."""
        return {"temperature": self.temperature, "counted": self.counted}


def _shared(labels: Tensor) -> Tensor:
    """How many labels each two texts share: (n, n)."""
    if labels.ndim == 1:
        return (labels[:, None] == labels[None, :]).float()
    has = (labels > 0).float()
    return has @ has.T
