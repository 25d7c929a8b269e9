"""An encoder that learns nothing encodes each text once: what stands in its place while layers on it are trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.input_module import InputModule
from torch import Tensor

from likewise.training.scoring import encoded


def remembered(model: SentenceTransformer, texts: Sequence[str], layers: int = 0) -> SentenceTransformer:
    """A stand-in for the model that knows the embeddings of these texts and of no others, made when first asked.

    The model's last `layers` modules are kept as they are, to be trained; the others are what is stood in for.
    """
    modules = list(model)
    still = SentenceTransformer(modules=modules[:-layers], device=str(model.device)) if layers else model
    return SentenceTransformer(
        modules=[_Remembered(still, texts), *modules[len(modules) - layers :]], device=str(model.device)
    )


class _Remembered(InputModule):
    def __init__(self, model: SentenceTransformer, texts: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._texts = list(dict.fromkeys(texts))
        self._rows = {text: row for row, text in enumerate(self._texts)}
        self._model = [model]  # in a list: none of its weights are this module's

    @cached_property
    def _table(self) -> Tensor:
        model, device = self._model[0], self._model[0].device
        if torch.cuda.is_available():  # the encoder itself is not what the trainer takes there
            model.to("cuda")
        try:
            return encoded(model, self._texts)
        finally:
            model.to(device)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Tensor]:
        """The numbers of the texts, under the name by which trainers know a column of texts."""
        return {"input_ids": torch.tensor([self._rows[text] for text in inputs])}

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        """Their embeddings, as "sentence_embedding"."""
        rows = features["input_ids"]
        return {**features, "sentence_embedding": self._table.to(rows.device)[rows]}

    def get_embedding_dimension(self) -> int | None:
        """Width of the embedding."""
        return self._model[0].get_embedding_dimension()

    def save(self, *_: Any, **__: Any) -> None:
        """Refused: it stands for a model that is there."""
        raise NotImplementedError("a stand-in for training is not saved; save the model that it stands for")
