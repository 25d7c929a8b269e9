"""Vector space preservation: what keeps an encoder near to what it was."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from likewise.errors import DataError
from likewise.training.losses.objective import Objective
from likewise.training.parts import in_one, in_parts


class Preservation(Objective):
    """The mean squared difference between the model's embeddings and those of a copy, made and frozen here and now.

    The retrofitting paper (Section 4, L_vsp; it gives no equation): the mean over texts and dimensions of
    (Enc(x) - Enc_fixed(x))^2. Labels count for nothing. The copy encodes without dropout, each text once, and is no
    part of the objective's weights. `mixed`: it multiplies in bfloat16, for a model that is trained so, too; otherwise
    what is compared would differ by rounding already.
    """

    def __init__(self, model: nn.Module, mixed: bool = False) -> None:
        super().__init__(model)
        self.mixed = mixed
        # In a list, so that neither optimiser nor checkpoints take it for something that learns.
        # Of a SentenceTransformer the modules alone: its card holds on to the trainer that trained it before.
        copied = nn.Sequential(*map(copy.deepcopy, model)) if isinstance(model, nn.Sequential) else copy.deepcopy(model)
        self._frozen = [copied.eval().requires_grad_(False)]
        self._known: dict[bytes, Tensor] = {}

    def from_batch(self, features: dict[str, Tensor], embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar; `features` are the texts as the model takes them."""
        before = self._before(features, embeddings.device)
        return mse_loss(embeddings, before.to(embeddings.dtype))

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """DataError: embeddings alone do not tell what they were before."""
        raise DataError("preservation compares with the embeddings before; give it the texts, not embeddings")

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with."""
        return {"mixed": self.mixed}

    def _before(self, features: dict[str, Any], device: torch.device) -> Tensor:
        """What the copy makes of the texts, (n, d)."""
        if not {"input_ids", "attention_mask"} <= features.keys():
            return self._copy_of(features, device)
        ids, mask = (features[name].cpu().numpy() for name in ("input_ids", "attention_mask"))
        keys = [row[there].tobytes() for row, there in zip(ids, mask > 0, strict=True)]
        new = [number for number, key in enumerate(keys) if key not in self._known]
        if new:
            some = {name: value[new] if isinstance(value, Tensor) else value for name, value in features.items()}
            self._known.update(zip((keys[number] for number in new), self._copy_of(some, device), strict=True))
        return torch.stack([self._known[key] for key in keys]).to(device)

    def _copy_of(self, features: dict[str, Any], device: torch.device) -> Tensor:
        frozen = self._frozen[0].to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.mixed):
            found = (in_parts if device.type == "cpu" else in_one)(frozen, features)
        made: Tensor = found["sentence_embedding"]
        return made
