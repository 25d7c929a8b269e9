"""What ties a common space to the target task's representation: that can be told from it again."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from likewise.errors import DataError
from likewise.training.losses.objective import Objective, distances


class Reconstruction(Objective):
    """Common-space transfer, Algorithm 1, lines 8 to 12: the mean over texts of |S(D(c)) - S(P_E)|, an L2 norm.

    c is the model's embedding, the common-space vector; D a linear decoder, which is trained with it and then left
    aside; P_E the target encoder's representation, the last `width` values of what the model's first module (its two
    encoders) yields, which has to stand still. S is the Siamese network, a frozen copy: a module that maps
    "sentence_embedding" (n, `width`) as sentence-transformers' modules do. Labels count for nothing. Raises DataError
    for a model that does not say how wide its embeddings are.
    """

    def __init__(self, model: nn.Module, siamese: nn.Module, width: int) -> None:
        super().__init__(model)
        dimension = getattr(model, "get_embedding_dimension", lambda: None)()
        if dimension is None:
            raise DataError("the encoder does not say how many dimensions its embeddings have; give it a dense layer")
        self.width = width
        self.decoder = nn.Linear(dimension, width, device=getattr(model, "device", None))
        # In a list, so that neither optimiser nor checkpoints take it for something that learns.
        self._siamese = [copy.deepcopy(siamese).eval().requires_grad_(False)]

    def from_batch(self, features: dict[str, Tensor], embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar; `features` are the texts as the model takes them, embeddings (n, d)."""
        encoders: Any = self.model
        with torch.no_grad():
            original = encoders[0](dict(features))["sentence_embedding"][:, -self.width :]
            seen = self._seen(original)
        return distances(self._seen(self.decoder(embeddings)), seen).mean()

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """DataError: embeddings alone do not tell what they were made of."""
        raise DataError("reconstruction compares with what the embeddings were made of; give it the texts")

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with."""
        return {"width": self.width}

    def _seen(self, representation: Tensor) -> Tensor:
        """What the Siamese network makes of a representation (n, `width`)."""
        siamese = self._siamese[0].to(representation.device)
        seen: Tensor = siamese({"sentence_embedding": representation})["sentence_embedding"]
        return seen
