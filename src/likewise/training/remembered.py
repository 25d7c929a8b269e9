"""An encoder that learns nothing encodes each text once: what stands in its place while layers on it are trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.input_module import InputModule
from torch import Tensor, nn

from likewise.training.checkpoints import digest
from likewise.training.modules.two_encoders import TwoEncoders
from likewise.training.scoring import encoded, on_gpu


class Memory:
    """Embeddings by encoders that stand still, kept from one stage to the next."""

    def __init__(self) -> None:
        self._tables: dict[str, Tensor] = {}

    def embeddings(self, model: SentenceTransformer, texts: Sequence[str]) -> Tensor:
        """Embeddings (texts, d), float32 and on the CPU; made where the same weights did not make the same before."""
        if isinstance(model[0], TwoEncoders):
            found = torch.cat([self.embeddings(one, texts) for one in model[0].models], dim=1)
            layers = nn.Sequential(*list(model)[1:]).eval()
            with torch.no_grad():
                return cast(Tensor, layers({"sentence_embedding": found.to(model.device)})["sentence_embedding"]).cpu()
        weights = (tensor.detach().cpu().numpy().tobytes() for tensor in model.parameters())
        key = digest(chain(weights, (text.encode(errors="surrogatepass") for text in texts)))
        if key not in self._tables:
            with on_gpu(model):  # it is not what the trainer takes there
                self._tables[key] = encoded(model, texts).cpu()
        return self._tables[key]


def remembered(
    model: SentenceTransformer, texts: Sequence[str], layers: int = 0, memory: Memory | None = None
) -> SentenceTransformer:
    """A stand-in for the model that knows the embeddings of these texts and of no others, made when first asked.

    The model's last `layers` modules are kept as they are, to be trained; the others are what is stood in for.
    """
    modules, device = list(model), str(model.device)
    still = SentenceTransformer(modules=modules[:-layers], device=device) if layers else model
    stand_in = _Remembered(still, texts, memory or Memory())
    return SentenceTransformer(modules=[stand_in, *modules[len(modules) - layers :]], device=device)


class _Remembered(InputModule):
    def __init__(self, model: SentenceTransformer, texts: Sequence[str], memory: Memory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._texts = list(dict.fromkeys(texts))
        self._rows = {text: row for row, text in enumerate(self._texts)}
        self._model, self._memory = [model], memory  # in a list: none of its weights are this module's

    @cached_property
    def _table(self) -> Tensor:
        return self._memory.embeddings(self._model[0], self._texts)

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Tensor]:
        """The numbers of the texts, under the name by which trainers know a column of texts."""
        return {"input_ids": torch.tensor([self._rows[text] for text in inputs])}

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        """Their embeddings, as "sentence_embedding"."""
        rows = features["input_ids"]
        if self._table.device != rows.device:
            self._table = self._table.to(rows.device)
        return {**features, "sentence_embedding": self._table[rows]}

    def get_embedding_dimension(self) -> int | None:
        """Width of the embedding."""
        return self._model[0].get_embedding_dimension()

    def save(self, *_: Any, **__: Any) -> None:
        """Refused: it stands for a model that is there."""
        raise NotImplementedError("a stand-in for training is not saved; save the model that it stands for")
