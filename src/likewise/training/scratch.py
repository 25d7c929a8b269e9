"""Encoders that start from nothing: networks over the words of the training texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sentence_transformers import SentenceTransformer

from likewise.training.determinism import drawing
from likewise.training.modules.cnn import CNN
from likewise.training.modules.ldgn import LDGN
from likewise.training.modules.words import WordNetwork, word_tokenizer

NETWORKS: dict[str, type[WordNetwork]] = {"cnn": CNN, "ldgn": LDGN}
"""By the name that stands in an encoder's place."""


def build(name: str, texts: Sequence[str], seed: int, folder: Path) -> None:
    """Write a network for these texts' words, its weights drawn from `seed`, as a sentence-transformers folder."""
    with drawing(seed):
        network = NETWORKS[name](word_tokenizer(texts))
    SentenceTransformer(modules=[network], device="cpu").save(str(folder), create_model_card=False)


def read_network(folder: Path) -> SentenceTransformer | None:
    """The network in a folder that `build` wrote, or that it was trained to be; None for any other folder.

    sentence-transformers itself would import whatever class a folder names, and so asks to be trusted.
    """
    listed = folder / "modules.json"
    if not listed.is_file():
        return None
    types = [module["type"] for module in json.loads(listed.read_text(encoding="utf-8"))]
    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in NETWORKS.values()}
    if not types or types[0] not in kinds:
        return None
    return SentenceTransformer(modules=[kinds[types[0]].read(folder)], device="cpu")
