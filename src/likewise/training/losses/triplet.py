"""The batch-hard triplet loss, the second of the objectives that CEA was compared with."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize, relu, softplus

from likewise.errors import SettingError
from likewise.training.losses.objective import Objective, distances, others, same_class


class TripletRanking(Objective):
    """Hermans, Beyer and Leibe 2017, equation 5: for each text max(0, margin + max_p D - min_n D).

    The first distance is to the farthest text of its class in the batch, the second to the nearest of another class.
    With `margin=None` the hinge is the paper's soft margin, log(1 + exp(max_p D - min_n D)), which goes on pulling.
    D is the Euclidean distance between the normalised embeddings, 0 to 2. The usual margin is a tenth of that: what
    nearest neighbours need is the order of the distances, not their size.

    The paper sums over texts; this is the mean over those that have a positive and a negative in the batch, so that
    learning rates do not depend on the batch size. The others contribute nothing; with no such text the loss is 0.
    Batches need some texts of each class: `ClassAwareBatchSampler` or sentence-transformers' GROUP_BY_LABEL.
    Raises SettingError for a negative margin.
    """

    def __init__(self, model: nn.Module, margin: float | None = 0.2) -> None:
        super().__init__(model)
        if margin is not None and not margin >= 0:
            raise SettingError(f"margin is {margin}; expected a distance of 0 or more, or None for the soft margin")
        self.margin = margin

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar. Embeddings (n, d), labels (n,) int64 or (n, L) multi-hot."""
        unit = normalize(embeddings, dim=1)
        same = same_class(labels)
        positive, negative = same & others(labels), ~same & others(labels)
        # Of unit vectors the farthest has the lowest cosine. Only the two chosen distances are worked out, exactly.
        cosine = (unit @ unit.T).detach()
        farthest = cosine.masked_fill(~positive, float("inf")).argmin(dim=1)
        nearest = cosine.masked_fill(~negative, float("-inf")).argmax(dim=1)
        gap = distances(unit, unit[farthest]) - distances(unit, unit[nearest])
        each = softplus(gap) if self.margin is None else relu(self.margin + gap)
        counts = positive.any(dim=1) & negative.any(dim=1)
        return (each * counts).sum() / counts.sum().clamp(min=1)

    def get_config_dict(self) -> dict[str, Any]:
        """What the objective was made with."""
        return {"margin": self.margin}
