"""An encoder for quick runs: poor, and trained in a moment."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.data import Part
from likewise.encoding.names import DEFAULT


def starting(given: argparse.Namespace, folder: Path, *parts: Part | None) -> str:
    """The encoder that was asked for; for a quick run that names none, a shallow one for these texts, in `folder`."""
    encoder: str = given.encoder
    if not given.quick or encoder != DEFAULT:
        return encoder
    return shallow([text for part in parts if part for text in part.texts], folder)


def shallow(texts: list[str], folder: Path) -> str:
    """The default encoder's first layer, for the words of these texts, as an encoder: poor, and trained in a moment."""
    import torch
    from transformers import BertTokenizer

    from likewise.encoding.names import resolve
    from likewise.training.loading import load, quiet

    model = load(resolve(DEFAULT))
    network: Any = model[0].auto_model
    tokenizer: Any = model.tokenizer
    used = {number for text in texts for number in tokenizer(text)["input_ids"]}
    ids = sorted(used | set(tokenizer.all_special_ids))
    words = network.get_input_embeddings().weight.detach()[ids].clone()
    padding = ids.index(tokenizer.pad_token_id)
    network.set_input_embeddings(torch.nn.Embedding.from_pretrained(words, freeze=False, padding_idx=padding))
    network.encoder.layer = network.encoder.layer[:1]
    network.config.update({"num_hidden_layers": 1, "vocab_size": len(ids), "pad_token_id": padding})
    with quiet():
        network.save_pretrained(folder)
        vocabulary = {word: i for i, word in enumerate(tokenizer.convert_ids_to_tokens(ids))}
        BertTokenizer(vocab=vocabulary, model_max_length=tokenizer.model_max_length).save_pretrained(folder)
    return str(folder)
