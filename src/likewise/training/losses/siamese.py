"""The loss of the Siamese network that the common-space transfer compares representations by."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import mse_loss

from likewise.training.losses.objective import distances
from likewise.training.losses.pairs import PairObjective


class SiameseDistance(PairObjective):
    """Common-space transfer, Algorithm 1, line 6: the mean over pairs of (|a - b| - y)^2, y being 0 for the same label.

    Another label's y is 1, as line 6 writes; the text only says that the norm is made large. The norm is the L2 norm
    of the embeddings as the model gives them, not normalised. The paper's pairs are copies of texts with one label each
    (`expanded`, `SiamesePairSampler`). Columns, shapes and errors are those of `PairObjective`.
    """

    def from_pairs(self, a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        """The loss of the pairs (a[i], b[i]), a scalar. Embeddings (n, d); `same` boolean (n,)."""
        distance = distances(a, b)
        return mse_loss(distance, (~same).to(distance.dtype))

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with: nothing to choose."""
        return {}
