"""A tiny random XLNet: relative positions, padding on the left, the summary token last."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

_WORDS = "a and answers arrived back broken dog is it me money my nobody of parcel phone screen thank the was where you"


@pytest.fixture(scope="session")
def tiny_xlnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain transformers folder: random XLNet, 32 wide, 2 layers, no greatest length; its tokenizer pads left."""
    import torch
    from transformers import XLNetConfig, XLNetModel, XLNetTokenizer

    from likewise.training.loading import quiet

    special = ("<unk>", "<pad>", "<sep>", "<cls>", "<mask>", "<s>", "</s>", "<eop>", "<eod>")
    pieces = [(piece, 0.0) for piece in special]
    pieces += [("▁", -5.0), *((c, -8.0) for c in string.printable if not c.isspace())]
    pieces += [(f"▁{word}", -2.0) for word in _WORDS.split()]
    folder = tmp_path_factory.mktemp("xlnet") / "encoder"
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(20240607)
        config = XLNetConfig(
            vocab_size=len(pieces),
            d_model=32,
            n_layer=2,
            n_head=2,
            d_inner=64,
            initializer_range=0.2,
            pad_token_id=1,
        )
        XLNetModel(config).save_pretrained(folder)
        XLNetTokenizer(vocab=pieces, unk_id=0).save_pretrained(folder)
    return folder
