"""KNN-EC on the paper's families of encoders: each is fine-tuned and read from the token that sums up in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

from likewise.bundle import Layout
from likewise.fitting import fit
from likewise.model import Model
from likewise.settings import Settings
from likewise.training.loading import load, quiet
from rows import ROWS
from tiny import BERT

TEXTS, LABELS = (list(part) for part in zip(*ROWS, strict=True))
FAMILIES = {"bert": "cls", "roberta": "cls", "xlnet": "last"}


@pytest.fixture(scope="module")
def family(tiny_encoder: Path, tiny_xlnet: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A plain transformers folder of a family, random and tiny."""

    def made(name: str) -> Path:
        if name == "xlnet":
            return tiny_xlnet
        folder = tmp_path_factory.mktemp(name) / "encoder"
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
            sizes: dict[str, Any] = {"vocab_size": len(tokenizer), **BERT}
            network = BertModel(BertConfig(**sizes)) if name == "bert" else RobertaModel(RobertaConfig(**sizes))
            network.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folder

    return made


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_fine_tuned_read_from_its_own_token_and_answers(
    family: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    folder = family(name)
    settings = Settings(epochs=2, learning_rate=2e-3, batch_size=8)
    dev = (TEXTS[::3], LABELS[::3])
    with fit(TEXTS, LABELS, recipe="knn-ec", encoder=str(folder), dev=dev, settings=settings) as fitted:
        fitted.save(tmp_path / "model")
    layout = Layout(tmp_path / "model")
    described = json.loads((layout.onnx(1) / "encoder.json").read_text())
    assert described["pooling"] == FAMILIES[name]
    with Model.open(tmp_path / "model") as model:
        found, _ = model._answering.embed(TEXTS)
        by_torch = load(layout.encoder(1)).encode(TEXTS, show_progress_bar=False)
        assert np.abs(found - by_torch).max() < 1e-3 * np.abs(by_torch).max()
        prediction = model.classify("the parcel is late")
        assert prediction.neighbours and {label for label, _ in prediction.head} == {"delivery", "invoice"}
        before = load(folder, pooling="summary").encode(TEXTS, show_progress_bar=False)
        assert np.abs(found - before).max() > 1e-2 * np.abs(before).max()  # it was trained
