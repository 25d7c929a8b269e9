"""Networks that start from nothing: their words, their arithmetic by loops, and how they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from likewise.encoding.runtime import Encoder
from likewise.training.export import export_onnx
from likewise.training.loading import load
from likewise.training.modules.cnn import CNN
from likewise.training.modules.words import word_tokenizer
from likewise.training.scratch import build, read_network

TEXTS = ["Where is my parcel?", "where is the bill", "The parcel, the parcel!", "lonely"]
WIDE = "".join(chr(ord(letter) + 0xFEE0) for letter in "parcel")  # in full width
ODD = ["parcel", "where is my parcel? " * 30, "unheard words only", "?!", f"PARCEL {WIDE}", "the\tbill\nis"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cnn") / "network"
    build("cnn", TEXTS, 0, path)
    return path


def test_words_that_are_there_twice_are_known_whatever_their_case() -> None:
    made = word_tokenizer(TEXTS)
    assert list(made.get_vocab()) and made.get_vocab()["[PAD]"] == 0 and made.get_vocab()["[UNK]"] == 1
    assert set(made.get_vocab()) == {"[PAD]", "[UNK]", "where", "is", "parcel", "the"}
    assert made("WHERE is lonely")["input_ids"] == [made.get_vocab()["where"], made.get_vocab()["is"], 1]
    assert made(WIDE)["input_ids"] == [made.get_vocab()["parcel"]]  # compatibility forms are one word


def naive(network: CNN, ids: list[int]) -> list[float]:
    """The feature maps of one text, by loops: windows from each word on, zeros after the last one."""
    zero = [0.0] * network.dimension
    rows = [network.words.weight[i].tolist() for i in ids]
    out = []
    for window, convolution in zip(network.windows, network.convolutions, strict=True):
        kernel, bias = convolution.weight.tolist(), convolution.bias.tolist()
        for feature in range(network.maps):
            best = 0.0
            for start in range(len(rows)):
                span = [rows[start + i] if start + i < len(rows) else zero for i in range(window)]
                value = bias[feature] + sum(
                    kernel[feature][c][i] * span[i][c] for i in range(window) for c in range(network.dimension)
                )
                best = max(best, value)
            out.append(best)
    return out


def test_the_feature_maps_are_those_of_the_loop_and_padding_makes_no_difference() -> None:
    torch.manual_seed(0)
    network = CNN(word_tokenizer(TEXTS), dimension=4, maps=3, windows=(2, 3)).eval()
    with torch.no_grad():
        together = network(network.preprocess(ODD))["sentence_embedding"]
        for row, text in enumerate(ODD):
            made = network.preprocess([text])
            alone = network(made)["sentence_embedding"][0]
            assert torch.allclose(alone, together[row], atol=1e-6), text
            assert alone.tolist() == pytest.approx(naive(network, made["input_ids"][0].tolist()), abs=1e-5)
        nothing = network(network.preprocess(["", " "]))["sentence_embedding"]
    assert nothing.shape == (2, 6) and not nothing.any()


@pytest.mark.parametrize("normalise", [True, False])
def test_the_graph_answers_as_torch_does(folder: Path, tmp_path: Path, normalise: bool) -> None:
    model = load(folder)
    export_onnx(model, tmp_path, normalise=normalise, max_tokens=16)
    encoder = Encoder(tmp_path, threads=1)
    assert (encoder.dimension, encoder.max_tokens) == (300, 16)
    model.max_seq_length = 16
    expected = model.encode(ODD, normalize_embeddings=normalise)
    assert np.allclose(encoder.encode(ODD), expected, atol=1e-5)
    assert model.max_seq_length == 16  # the export leaves the model as it is


def test_a_folder_is_read_as_it_was_written_and_the_seed_decides(folder: Path, tmp_path: Path) -> None:
    model = load(folder, pooling="cls")  # such a network pools in its own way
    model.save(str(tmp_path / "again"), create_model_card=False)
    assert (load(tmp_path / "again").encode(ODD) == model.encode(ODD)).all()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    for name, seed in (("same", 0), ("other", 1)):
        build("cnn", TEXTS, seed, tmp_path / name)
    assert (torch.random.get_rng_state() == before).all()  # drawn from a state of its own
    assert (load(tmp_path / "same").encode(ODD) == model.encode(ODD)).all()
    assert (load(tmp_path / "other").encode(ODD) != model.encode(ODD)).any()


def test_other_folders_are_none_of_its_business(tiny_encoder: Path, tmp_path: Path) -> None:
    assert read_network(tiny_encoder) is None
    assert read_network(tmp_path) is None
    assert isinstance(load(tiny_encoder), SentenceTransformer)
