"""Class-driven embedding alignment on sampled pairs, as the paper trains it."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from likewise.training.losses.pairs import PairObjective


class CosinePairs(PairObjective):
    """CEA, equation 2: the mean over pairs of (cos - y)^2, y being 1 for a pair of one class and 0 for another.

    With the pairs of the paper's Algorithm 1 (`draw_pairs`, `PairBatchSampler`) it is the reference objective, whose
    expectation `ClassDrivenAlignment` takes over a batch. Columns, shapes and errors are those of `PairObjective`.
    """

    def from_pairs(self, a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        """The loss of the pairs (a[i], b[i]), a scalar. Embeddings (n, d), not normalised; `same` boolean (n,)."""
        cosine = cosine_similarity(a, b, dim=1)
        return mse_loss(cosine, same.to(cosine.dtype))

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with: nothing to choose."""
        return {}
