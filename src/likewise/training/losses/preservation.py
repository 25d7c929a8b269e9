"""Vector space preservation: what keeps an encoder near to what it was."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from likewise.errors import DataError
from likewise.training.losses.objective import Objective


class Preservation(Objective):
    """The mean squared difference between the model's embeddings and those of a frozen copy, made here and now.

    The retrofitting paper (Section 4, L_vsp; it gives no equation): the mean over texts and dimensions of
    (Enc(x) - Enc_fixed(x))^2. Labels count for nothing. The copy encodes without dropout, and is no part of the
    objective's weights. `mixed`: it multiplies in bfloat16, for a model that is trained so, too; otherwise
    what is compared would differ by rounding already.
    """

    def __init__(self, model: nn.Module, mixed: bool = False) -> None:
        super().__init__(model)
        self.mixed = mixed
        # In a list, so that neither optimiser nor checkpoints take it for something that learns.
        # Of a SentenceTransformer the modules alone: its card holds on to the trainer that trained it before.
        copied = nn.Sequential(*map(copy.deepcopy, model)) if isinstance(model, nn.Sequential) else copy.deepcopy(model)
        self._frozen = [copied.eval().requires_grad_(False)]

    def from_batch(self, features: dict[str, Tensor], embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar; `features` are the texts as the model takes them."""
        frozen = self._frozen[0].to(embeddings.device)
        with torch.no_grad(), torch.autocast(embeddings.device.type, torch.bfloat16, enabled=self.mixed):
            before: Tensor = frozen(dict(features))["sentence_embedding"]
        return mse_loss(embeddings, before.to(embeddings.dtype))

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """DataError: embeddings alone do not tell what they were before."""
        raise DataError("preservation compares with the embeddings before; give it the texts, not embeddings")

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with."""
        return {"mixed": self.mixed}
