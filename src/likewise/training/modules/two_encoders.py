"""Two encoders side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.input_module import InputModule
from torch import Tensor, nn


class TwoEncoders(InputModule):
    """Both encoders' embeddings of a text, concatenated (common-space transfer, Algorithm 1, line 8: [P_S; P_E]).

    They read the same token ids, so both have to come from one base, of which the first one's tokenizer is used. Its
    folder holds a sentence-transformers folder for each, and no code.
    """

    FOLDERS = ("source", "target")

    def __init__(self, source: Sequence[nn.Module], target: Sequence[nn.Module]) -> None:
        """The modules of each encoder."""
        super().__init__()  # type: ignore[no-untyped-call]
        # The modules alone: a SentenceTransformer's card holds on to the trainer that trained it.
        self.encoders = nn.ModuleList([nn.Sequential(*source), nn.Sequential(*target)])
        self.tokenizer = self._readers[0].tokenizer

    @property
    def models(self) -> list[SentenceTransformer]:
        """Each encoder by itself, of the same modules."""
        device = str(next(self.parameters()).device)
        return [SentenceTransformer(modules=list(cast(nn.Sequential, one)), device=device) for one in self.encoders]

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **named: Any) -> dict[str, Tensor]:
        """Token ids and attention mask, as the first encoder has them."""
        return cast(dict[str, Tensor], self._readers[0].preprocess(inputs, prompt, **named))

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Adds "sentence_embedding" (texts, the sum of both widths)."""
        found = [encoder(dict(features))["sentence_embedding"] for encoder in self.encoders]
        return {**features, "sentence_embedding": torch.cat(found, dim=1)}

    def get_embedding_dimension(self) -> int:
        """Width of the embedding."""
        return sum(cast(int, model.get_embedding_dimension()) for model in self.models)

    @property
    def max_seq_length(self) -> int:
        """Tokens after which both cut a text."""
        return cast(int, self._readers[0].max_seq_length)

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        for reader in self._readers:
            reader.max_seq_length = value

    @property
    def _readers(self) -> list[Any]:
        return [cast(nn.Sequential, encoder)[0] for encoder in self.encoders]

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Write both encoders' folders."""
        for name, model in zip(self.FOLDERS, self.models, strict=True):
            model.save(str(Path(output_path, name)), create_model_card=False)
