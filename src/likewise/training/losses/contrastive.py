"""The supervised contrastive loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from likewise.training.losses.objective import Objective, mean_where, others, same_class


class SupervisedContrastive(Objective):
    """Khosla et al. 2020, equation 2 (L_out), on normalised embeddings, averaged over the texts with a positive.

    For each such text, minus the mean over its positives p of log(exp(z.z_p / T) / sum over all others a of
    exp(z.z_a / T)). Without any positive in the batch the loss is 0.
    """

    def __init__(self, model: nn.Module, temperature: float = 0.1) -> None:
        super().__init__(model)
        self.temperature = temperature

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar. Embeddings (n, d), labels (n,) int64 or (n, L) multi-hot."""
        unit = normalize(embeddings, dim=1)
        other = others(labels)
        # -inf would turn a text that is alone in its batch into NaN, also backwards.
        similarity = (unit @ unit.T / self.temperature).masked_fill(~other, torch.finfo(unit.dtype).min)
        share = similarity - similarity.logsumexp(dim=1, keepdim=True)
        positive = same_class(labels) & other
        has_positive = positive.any(dim=1)
        each = -mean_where(share.masked_fill(~other, 0.0), positive)
        return (each * has_positive).sum() / has_positive.sum().clamp(min=1)

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with."""
        return {"temperature": self.temperature}
