"""Several objectives at once, from one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from likewise.errors import SettingError
from likewise.training.losses.objective import Objective


class Joint(Objective):
    """The weighted sum of named objectives over the same model: Joint(model, {"alignment": (0.5, loss), ...}).

    Raises SettingError when there is none.
    """

    def __init__(self, model: nn.Module, parts: Mapping[str, tuple[float, Objective]]) -> None:
        super().__init__(model)
        if not parts:
            raise SettingError("a joint objective was given no parts; give it at least one")
        self.weights = {name: weight for name, (weight, _) in parts.items()}
        self.parts = nn.ModuleDict({name: part for name, (_, part) in parts.items()})

    def from_batch(self, features: dict[str, Tensor], embeddings: Tensor, labels: Tensor) -> Tensor:
        """The weighted sum, a scalar. Embeddings (n, d), labels as every part takes them."""
        losses = [
            self.weights[name] * cast(Objective, part).from_batch(features, embeddings, labels)
            for name, part in self.parts.items()
        ]
        return torch.stack(losses).sum()

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The same for parts that read no text again."""
        return self.from_batch({}, embeddings, labels)

    def get_config_dict(self) -> dict[str, Any]:
        """Each part's weight and what it was made with."""
        return {
            name: {"weight": self.weights[name], **cast(Objective, part).get_config_dict()}
            for name, part in self.parts.items()
        }
