"""The sizes of the tiny random networks that tests make, in the words of each kind of configuration."""

from __future__ import annotations

from typing import Any

BERT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "initializer_range": 0.2,
    "pad_token_id": 1,
}
DISTILBERT: dict[str, Any] = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 64,
    "max_position_embeddings": 66,
    "initializer_range": 0.2,
    "pad_token_id": 1,
}
