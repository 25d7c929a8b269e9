"""Two encoders side by side: what they yield, how they are kept, and that the graph answers as torch does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, WordWeights

from likewise.encoding.runtime import Encoder
from likewise.errors import EncoderError
from likewise.training.export import export_onnx
from likewise.training.loading import load, quiet
from likewise.training.modules.two_encoders import TwoEncoders
from likewise.training.scratch import build

TEXTS = ["a", "where is my parcel?", "the screen of my phone was broken " * 20, "thank you", ""]


def two(one: Path, other: Path) -> SentenceTransformer:
    """Both, the second one changed, and a layer behind them."""
    first, second = load(one), load(other)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        for parameter in second.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        width = first.get_embedding_dimension() or 0
        layer = Dense(2 * width, 7)
    return SentenceTransformer(modules=[TwoEncoders(list(first), list(second)), layer], device="cpu").eval()


@pytest.fixture(scope="module", params=["transformer", "words"])
def model(request: pytest.FixtureRequest, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "transformer":
        made = two(tiny_encoder, tiny_encoder)
    else:
        folder = tmp_path_factory.mktemp("words") / "cnn"
        build("cnn", TEXTS * 2, 0, folder)
        made = two(folder, folder)
    path = tmp_path_factory.mktemp("two") / "model"
    with quiet():
        made.save(str(path), create_model_card=False)
    assert np.array_equal(load(path).encode(TEXTS), made.encode(TEXTS))
    return path


def test_the_embedding_is_one_after_the_other_and_then_the_layer(tiny_encoder: Path) -> None:
    made = two(tiny_encoder, tiny_encoder)
    source, target = made[0].models
    with torch.no_grad():
        both = made[0](made.preprocess(TEXTS))["sentence_embedding"]
        assert torch.allclose(both[:, :32], torch.tensor(source.encode(TEXTS)), atol=1e-5)
        assert torch.allclose(both[:, 32:], torch.tensor(target.encode(TEXTS)), atol=1e-5)
        expected = torch.tanh(both @ made[1].linear.weight.T + made[1].linear.bias)
    assert torch.allclose(expected, torch.tensor(made.encode(TEXTS)), atol=1e-5)
    assert made[0].get_embedding_dimension() == 64 and made.get_embedding_dimension() == 7


def test_padding_makes_no_difference(model: Path) -> None:
    network = load(model)
    with torch.no_grad():
        together = network(network.preprocess(TEXTS))["sentence_embedding"]
        for row, text in enumerate(TEXTS):
            alone = network(network.preprocess([text]))["sentence_embedding"][0]
            assert torch.allclose(alone, together[row], atol=1e-5), text


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_graph_answers_as_torch_does(model: Path, tmp_path: Path, normalise: bool, runtime: str) -> None:
    pytest.importorskip(runtime)
    network = load(model)
    export_onnx(network, tmp_path, normalise=normalise, max_tokens=16)
    encoder = Encoder(tmp_path, threads=1, runtime=runtime)  # type: ignore[arg-type]
    assert (encoder.dimension, encoder.max_tokens) == (7, 16)
    before = network.max_seq_length
    network.max_seq_length = 16
    expected = network.encode(TEXTS, normalize_embeddings=normalise)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    assert before is not None and before > 16  # the export left the model as it was


def test_its_folder_is_safetensors_and_names_no_code(model: Path) -> None:
    kinds = {path.suffix for path in model.rglob("*") if path.is_file()}
    assert ".safetensors" in kinds and kinds <= {".safetensors", ".json", ".txt"}
    assert (load(model / "source").encode(TEXTS) != load(model / "target").encode(TEXTS)).any()


def test_it_is_an_encoder_that_others_can_begin_with(model: Path, tmp_path: Path) -> None:
    whole = two(model, model)
    with quiet():
        SentenceTransformer(modules=[*whole, Normalize()], device="cpu").save(str(tmp_path / "whole"))
    again = load(tmp_path / "whole", pooling="cls")  # it pools in its own way
    assert np.allclose(again.encode(TEXTS), whole.encode(TEXTS), atol=1e-6)
    export_onnx(again, tmp_path / "onnx", normalise=False, max_tokens=64)
    np.testing.assert_allclose(Encoder(tmp_path / "onnx").encode(TEXTS[:2]), whole.encode(TEXTS[:2]), atol=1e-5)


def test_what_cannot_stand_behind_it(tiny_encoder: Path, tmp_path: Path) -> None:
    made = two(tiny_encoder, tiny_encoder)
    odd = SentenceTransformer(modules=[made[0], WordWeights([], {})], device="cpu")
    with pytest.raises(EncoderError, match="cannot export WordWeights behind two encoders"):
        export_onnx(odd, tmp_path, normalise=False, max_tokens=64)
