"""The supervised contrastive loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from likewise.errors import SettingError
from likewise.training.losses.objective import Objective, mean_where, others, same_class
from likewise.types import Projection

PROJECTED = 64
"""Dimensions of a projection, as in the retrofitting paper."""


class SupervisedContrastive(Objective):
    """Khosla et al. 2020, equation 2 (L_out), on normalised embeddings, averaged over the texts with a positive.

    For each such text, minus the mean over its positives p of log(exp(z.z_p / T) / sum over all others a of
    exp(z.z_a / T)). Without any positive in the batch the loss is 0.

    With a `projection` z is that of the embedding, normalised in its turn: a linear map to 64 dimensions, or one hidden
    layer of the embedding's width with ReLU before it ("mlp"). It is trained with the encoder and then left aside.
    """

    def __init__(self, model: nn.Module, temperature: float = 0.1, projection: Projection = "none") -> None:
        super().__init__(model)
        self.temperature, self.kind = temperature, projection
        self.projection = _projection(model, projection)

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar. Embeddings (n, d), labels (n,) int64 or (n, L) multi-hot."""
        unit = normalize(self.projection(embeddings), dim=1)
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
        return {"temperature": self.temperature, "projection": self.kind}


def _projection(model: nn.Module, kind: Projection) -> nn.Module:
    """From embeddings (n, d) to what is compared; SettingError where the model does not say how wide those are."""
    if kind == "none":
        return nn.Identity()
    width = getattr(model, "get_embedding_dimension", lambda: None)()
    if width is None:
        raise SettingError(f"projection {kind!r}: the encoder does not say how many dimensions its embeddings have")
    last = nn.Linear(width, PROJECTED)
    made = last if kind == "linear" else nn.Sequential(nn.Linear(width, width), nn.ReLU(), last)
    return made.to(getattr(model, "device", None))
