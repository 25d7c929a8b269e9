"""A convolutional network over words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu
from transformers import PreTrainedTokenizerFast

from likewise.training.modules.words import WordNetwork


class CNN(WordNetwork):
    """Kim 2014 (CNN-rand): windows of 3, 4 and 5 words, 100 feature maps each, the largest value of each over the text.

    Words are 300 values that start at random; the embedding is the 300 feature maps, after ReLU. A window counts where
    its first word is one of the text, so that padding makes no difference. Kim's dropout of the penultimate layer is
    the classifier's (`Schedule.dropout`).
    """

    config_keys = ("dimension", "maps", "windows")  # type: ignore[assignment]

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        dimension: int = 300,
        maps: int = 100,
        windows: Sequence[int] = (3, 4, 5),
    ) -> None:
        super().__init__(tokenizer)
        self.dimension, self.maps, self.windows = dimension, maps, list(windows)
        self.words = nn.Embedding(len(tokenizer), dimension, padding_idx=tokenizer.pad_token_id)
        nn.init.uniform_(self.words.weight, -0.25, 0.25)
        self.convolutions = nn.ModuleList(nn.Conv1d(dimension, maps, window) for window in self.windows)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Adds "sentence_embedding" (texts, maps times windows) to token ids and attention mask."""
        present = features["attention_mask"].unsqueeze(1).to(self.words.weight.dtype)
        words = self.words(features["input_ids"]).transpose(1, 2) * present
        found: list[Tensor] = []
        for window, convolution in zip(self.windows, self.convolutions, strict=True):
            values = relu(convolution(pad(words, (0, window - 1))))
            found.append((values * present).amax(dim=2))
        return {**features, "sentence_embedding": torch.cat(found, dim=1)}

    def get_embedding_dimension(self) -> int:
        """Width of the embedding."""
        return self.maps * len(self.windows)
