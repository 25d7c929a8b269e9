"""The contrastive loss on pairs, the first of the objectives that CEA was compared with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from likewise.errors import SettingError
from likewise.training.losses.objective import distances
from likewise.training.losses.pairs import PairObjective

RIGHT_ANGLE = math.sqrt(2)
"""The distance between two unit vectors at a right angle."""


class ContrastivePairs(PairObjective):
    """Hadsell, Chopra and LeCun 2006, equation 4: the mean over pairs of (1 - Y) D^2 / 2 + Y max(0, margin - D)^2 / 2.

    D is the Euclidean distance between the normalised embeddings, 0 to 2. The paper's Y is 0 for a similar pair and 1
    for a dissimilar one, so Y is not `same`, and the opposite of the labels beside two text columns.

    Beyond the margin a pair of different classes is left alone. The usual margin is a right angle's distance, sqrt(2):
    what CEA asks of such a pair, and the widest that all of many classes can keep from each other at once (K unit
    vectors are at most sqrt(2 K / (K - 1)) apart, which falls to sqrt(2)). Columns, shapes and errors are those of
    `PairObjective`; a margin that is not over 0 is a SettingError.
    """

    def __init__(self, model: nn.Module, margin: float = RIGHT_ANGLE) -> None:
        super().__init__(model)
        if not margin > 0:
            raise SettingError(f"margin is {margin}; expected a distance over 0, at most 2 between unit vectors")
        self.margin = margin

    def from_pairs(self, a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        """The loss of the pairs (a[i], b[i]), a scalar. Embeddings (n, d), not normalised; `same` boolean (n,)."""
        distance = distances(normalize(a, dim=1), normalize(b, dim=1))
        return torch.where(same, distance**2, relu(self.margin - distance) ** 2).mean() / 2

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with."""
        return {"margin": self.margin}
