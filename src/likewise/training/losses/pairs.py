"""What losses on pairs of texts share: where the pairs are in a batch, and which are of one class."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from likewise.errors import DataError
from likewise.training.losses.objective import Objective, same_class_in_pairs


class PairObjective(Objective):
    """A loss on pairs of texts of one class and of different classes. A subclass says which, in `from_pairs`.

    Two text columns are the pairs, with labels (n,) that are 1 (same class) or 0, as sentence-transformers' own pair
    losses take them. In one text column rows 2i and 2i + 1 are a pair, and the labels are the texts' classes, as
    every `Objective` takes them: so a pair loss can be part of a `Joint`. `PairBatchSampler` makes such batches.
    """

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of a batch with one text column or two, a scalar.

        Raises DataError for another number of columns, for one column with an odd number of texts, and for two
        columns with labels other than one 0 or 1 a pair.
        """
        columns = list(sentence_features)
        if len(columns) == 1:
            return super().forward(columns, labels)
        name = type(self).__name__
        if len(columns) != 2:
            raise DataError(
                f"found {len(columns)} text columns; {name} takes two, the pairs, "
                "or one in which rows 2i and 2i + 1 are a pair"
            )
        a, b = (self.model(column)["sentence_embedding"] for column in columns)
        if labels.shape != a.shape[:1]:
            raise DataError(
                f"found labels of shape {tuple(labels.shape)} for {len(a)} pairs; {name} takes one a pair, 1 or 0"
            )
        same = labels == 1
        # Classes instead of 1 and 0 would train without complaint, and towards nonsense.
        if not bool((same | (labels == 0)).all()):
            odd = labels[~same & (labels != 0)][0].item()
            raise DataError(
                f"found the label {odd} beside two text columns; {name} takes 1 (same class) or 0 there, "
                "and classes beside one text column"
            )
        return self.from_pairs(a, b, same)

    def from_embeddings(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch in which rows 2i and 2i + 1 are a pair, a scalar.

        Embeddings (n, d), n even; labels (n,) int64 or (n, L) multi-hot. Raises DataError for an odd n.
        """
        if len(embeddings) % 2:
            raise DataError(
                f"found {len(embeddings)} texts; {type(self).__name__} takes an even number, as rows 2i and 2i + 1 "
                "are a pair; make the batches with PairBatchSampler"
            )
        same = same_class_in_pairs(labels[0::2], labels[1::2])
        return self.from_pairs(embeddings[0::2], embeddings[1::2], same)

    def from_pairs(self, a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        """The loss of the pairs (a[i], b[i]), a scalar. Embeddings (n, d), not normalised; `same` boolean (n,)."""
        raise NotImplementedError
