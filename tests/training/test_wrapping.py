"""A wrapped classifier answers as the original does, whatever its family, its batch and the lengths of its texts."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from likewise.encoding.runtime import Encoder
from likewise.errors import EncoderError
from likewise.training.loading import load, quiet
from likewise.training.wrapping import WrappedClassifier
from tiny import BERT, DISTILBERT

LABELS = {0: "refund", 1: "delivery", 2: "praise", 3: "a dog"}
TEXTS = [
    "a",
    "where is my parcel?",
    "",
    "the screen of my phone was broken when it arrived, and nobody answers",
    "I want my money back! " * 30,  # longer than any tiny network takes
    "ünïcödé 日本 zebra",
    *(" ".join(["the dog and my phone"] * n) for n in range(1, 12)),
]

_NAMED: dict[str, Any] = {"id2label": LABELS, "label2id": {label: i for i, label in LABELS.items()}}
_BERT: dict[str, Any] = {**BERT, **_NAMED}
_DISTILBERT: dict[str, Any] = {**DISTILBERT, **_NAMED}
_XLNET: dict[str, Any] = {
    "d_model": 32,
    "n_layer": 2,
    "n_head": 2,
    "d_inner": 64,
    "initializer_range": 0.2,
    "pad_token_id": 1,
    **_NAMED,
}
_GPT2: dict[str, Any] = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 66,
    "initializer_range": 0.2,
    "pad_token_id": 1,
    **_NAMED,
}
# What each family makes of a text is read from the first token (some through a layer of their own), XLNet's from the
# last of a row padded on the left, GPT-2's from the last that is no padding, after the last linear layer.
FAMILIES: dict[str, Callable[..., Any]] = {
    "bert": lambda n, **more: BertForSequenceClassification(BertConfig(vocab_size=n, **_BERT, **more)),
    "roberta": lambda n, **more: RobertaForSequenceClassification(RobertaConfig(vocab_size=n, **_BERT, **more)),
    "electra": lambda n, **more: ElectraForSequenceClassification(
        ElectraConfig(vocab_size=n, embedding_size=16, **_BERT, **more)
    ),
    "distilbert": lambda n, **more: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=n, **_DISTILBERT, **more)
    ),
    "xlnet": lambda n, **more: XLNetForSequenceClassification(XLNetConfig(vocab_size=n, **_XLNET, **more)),
    "gpt2": lambda n, **more: GPT2ForSequenceClassification(GPT2Config(vocab_size=n, **_GPT2, **more)),
}


@pytest.fixture()
def make(tiny_encoder: Path, tiny_xlnet: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a random classifier of a family into a folder, with its tokenizer."""

    def made(family: str = "bert", **more: Any) -> Path:
        folder = tmp_path / family
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            tokenizer = AutoTokenizer.from_pretrained(tiny_xlnet if family == "xlnet" else tiny_encoder)
            if family == "gpt2":  # to which token types are words
                tokenizer = PreTrainedTokenizerFast(
                    tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]", model_max_length=10_000
                )
            elif family != "xlnet":
                tokenizer.model_max_length = 10_000  # the positions alone set the limit
            FAMILIES[family](len(tokenizer), **more).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folder

    return made


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: NDArray[Any] = e / e.sum(axis=1, keepdims=True)
    return found


def original(folder: Path, texts: list[str], max_tokens: int) -> NDArray[Any]:
    """What the classifier says to each text alone, without anything of ours."""
    with quiet(), torch.no_grad():
        network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        feeds = [tokenizer(t, truncation=True, max_length=max_tokens, return_tensors="pt") for t in texts]
        rows = [network(input_ids=f["input_ids"], attention_mask=f["attention_mask"]).logits for f in feeds]
    return np.concatenate([row.numpy() for row in rows])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_head_on_the_exported_representation_is_the_original(
    make: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    folder = make(family)
    wrapped = WrappedClassifier(folder, max_tokens=100)
    wrapped.write(tmp_path / "written")
    alone = Encoder(tmp_path / "written" / "onnx", threads=1, token_budget=1)
    together = Encoder(tmp_path / "written" / "onnx", threads=1, token_budget=100_000)
    # Two rows of RoBERTa's positions are never used; XLNet has no positions to run out of.
    assert alone.max_tokens == {"roberta": 64, "xlnet": 100}.get(family, 66)
    expected = original(folder, TEXTS, alone.max_tokens)
    assert np.ptp(softmax(expected), axis=0).max() > 0.05  # the texts are told apart
    for encoder in (alone, together):
        found = encoder.encode(TEXTS)
        assert found.shape == (len(TEXTS), wrapped.weights.shape[0])
        np.testing.assert_allclose(softmax(found @ wrapped.weights + wrapped.bias), softmax(expected), atol=1e-5)
        np.testing.assert_allclose(wrapped.embed(TEXTS), found, atol=1e-5)
    np.testing.assert_allclose(wrapped.logits(TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(wrapped.embed(TEXTS) @ wrapped.weights + wrapped.bias, expected, atol=1e-5)


def test_openvino_turns_rows_round_as_well(make: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    folder = make("xlnet")
    wrapped = WrappedClassifier(folder, max_tokens=100)
    wrapped.write(tmp_path / "written")
    encoder = Encoder(tmp_path / "written" / "onnx", threads=1, token_budget=100_000, runtime="openvino")
    found = softmax(encoder.encode(TEXTS) @ wrapped.weights + wrapped.bias)
    np.testing.assert_allclose(found, softmax(original(folder, TEXTS, 100)), atol=1e-5)


def test_what_it_says_of_itself(make: Callable[..., Path]) -> None:
    wrapped = WrappedClassifier(make(), max_tokens=100)
    assert wrapped.labels == ["refund", "delivery", "praise", "a dog"]
    assert wrapped.task == "single"
    assert (wrapped.weights.shape, wrapped.bias.shape) == ((32, 4), (4,))
    assert (wrapped.weights.dtype, wrapped.bias.dtype) == (np.float64, np.float64)
    assert wrapped.embed(TEXTS).dtype == wrapped.logits(TEXTS).dtype == np.float32
    assert (wrapped.embed([]).shape, wrapped.logits([]).shape) == ((0, 32), (0, 4))


@pytest.mark.parametrize(
    ("problem", "task"),
    [(None, "single"), ("single_label_classification", "single"), ("multi_label_classification", "multi")],
)
def test_the_task_is_the_configs(
    make: Callable[..., Path], problem: str | None, task: Literal["single", "multi"]
) -> None:
    assert WrappedClassifier(make(problem_type=problem), max_tokens=100).task == task


def test_a_head_without_bias(make: Callable[..., Path]) -> None:
    wrapped = WrappedClassifier(make("gpt2"), max_tokens=100)
    assert wrapped.bias.tolist() == [0.0] * 4


def test_a_lower_limit_cuts_as_the_original_does(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make("xlnet")
    wrapped = WrappedClassifier(folder, max_tokens=7)
    wrapped.write(tmp_path / "written")
    encoder = Encoder(tmp_path / "written" / "onnx", threads=1)
    assert encoder.max_tokens == 7
    found = softmax(encoder.encode(TEXTS) @ wrapped.weights + wrapped.bias)
    np.testing.assert_allclose(found, softmax(original(folder, TEXTS, 7)), atol=1e-5)


def test_the_written_folder_is_the_classifier_and_its_body_can_be_trained_further(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    wrapped = WrappedClassifier(make(), max_tokens=100)
    wrapped.write(tmp_path / "written")
    again = WrappedClassifier(tmp_path / "written", max_tokens=100)
    assert again.labels == wrapped.labels
    np.testing.assert_array_equal(again.weights, wrapped.weights)
    np.testing.assert_array_equal(again.logits(TEXTS), wrapped.logits(TEXTS))
    tokenizer = json.loads((tmp_path / "written" / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None and tokenizer["padding"] is None
    body = load(tmp_path / "written", pooling="cls")
    with quiet():
        embeddings = body.encode(TEXTS, show_progress_bar=False)
    assert embeddings.shape == (len(TEXTS), 32)
    weights = load_file(tmp_path / "written" / "model.safetensors")
    for name, tensor in body[0].model.state_dict().items():
        assert torch.equal(tensor, weights[f"bert.{name}"])


def test_the_encoder_is_described(make: Callable[..., Path], tmp_path: Path) -> None:
    wrapped = WrappedClassifier(make(), max_tokens=20)
    wrapped.write(tmp_path / "written")
    description = json.loads((tmp_path / "written" / "onnx" / "encoder.json").read_text())
    fingerprint = description.pop("fingerprint")
    assert description == {
        "format": 1,
        "dimension": 32,
        "max_tokens": 20,
        "pooling": "classifier",
        "normalise": False,
        "inputs": ["input_ids", "attention_mask"],
        "pad_id": 1,
    }
    again = WrappedClassifier(tmp_path / "written", max_tokens=20)
    again.write(tmp_path / "again")
    assert Encoder(tmp_path / "again" / "onnx").fingerprint == fingerprint


def test_half_precision_is_read_in_full(make: Callable[..., Path]) -> None:
    folder = make()
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    wrapped = WrappedClassifier(folder, max_tokens=100)
    np.testing.assert_allclose(wrapped.embed(TEXTS) @ wrapped.weights + wrapped.bias, wrapped.logits(TEXTS), atol=1e-5)


# What is refused


@pytest.mark.parametrize("more", [{"problem_type": "regression"}, {"id2label": {0: "score"}, "label2id": {"score": 0}}])
def test_a_regression_is_refused(make: Callable[..., Path], more: dict[str, Any]) -> None:
    folder = make()
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    if "id2label" in more:
        weights |= {name: weights[name][:1].clone() for name in ("classifier.weight", "classifier.bias")}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, **more}))
    with pytest.raises(EncoderError, match=r"is a regression.*expected a classifier"):
        WrappedClassifier(folder, max_tokens=100)


def test_labels_that_share_a_name_are_refused(make: Callable[..., Path]) -> None:
    folder = make()
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["3"] = "refund"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match=r"share a name \('refund'\).*id2label"):
        WrappedClassifier(folder, max_tokens=100)


def test_an_encoder_without_a_classifier_is_refused(tiny_encoder: Path) -> None:
    with pytest.raises(EncoderError, match=r"lacks weights \(classifier\.bias, classifier\.weight\)"):
        WrappedClassifier(tiny_encoder, max_tokens=100)


@pytest.mark.parametrize("spoil", ["missing", "empty", "weights", "cut", "config", "tokenizer"])
def test_what_is_no_classifier_is_refused(make: Callable[..., Path], spoil: str) -> None:
    folder = make()
    weights = folder / "model.safetensors"
    if spoil == "missing":
        shutil.rmtree(folder)
    elif spoil == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif spoil == "weights":
        weights.unlink()
    elif spoil == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif spoil == "config":
        (folder / "config.json").write_text("{not json")
    else:
        (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=str(folder)) as caught:
        WrappedClassifier(folder, max_tokens=100)
    assert "\n" not in str(caught.value)


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_weights_are_read_without_running_code(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert WrappedClassifier(folder, max_tokens=100).weights.shape == (32, 4)
    torch.save({**weights, "evil": _Evil(tmp_path / "marker")}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"cannot read the classifier.*Weights only load failed"):
        WrappedClassifier(folder, max_tokens=100)
    assert not (tmp_path / "marker").exists()


def test_code_in_the_folder_is_not_run(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make()
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Net"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'marker')!r})\n")
    with pytest.raises(EncoderError, match="cannot read the classifier"):
        WrappedClassifier(folder, max_tokens=100)
    assert not (tmp_path / "marker").exists()


def test_logits_that_are_no_linear_layers_output_are_refused(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = BertForSequenceClassification.forward

    @functools.wraps(plain)
    def capped(self: Any, *given: Any, **named: Any) -> Any:
        output = plain(self, *given, **named)
        output.logits = torch.tanh(output.logits)
        return output

    folder = make()
    monkeypatch.setattr(BertForSequenceClassification, "forward", capped)
    with pytest.raises(EncoderError, match=r"do not come out of a linear layer.*BERT's"):
        WrappedClassifier(folder, max_tokens=100)


def test_what_depends_on_the_padding_is_refused(make: Callable[..., Path]) -> None:
    """XLNet's summary by the mean counts the padding too: a text's answer is another in every batch."""
    with pytest.raises(EncoderError, match="depends on more than the text's own tokens"):
        WrappedClassifier(make("xlnet", summary_type="mean"), max_tokens=100)


def test_token_types_that_matter_are_refused(make: Callable[..., Path]) -> None:
    """The runtime feeds none; XLNet tells its summary token from the others by them, where its tokenizer yields any."""
    folder = make("xlnet")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert set(AutoTokenizer.from_pretrained(folder)("a")["token_type_ids"]) == {0, 2}
    with pytest.raises(EncoderError, match=r"on token types.*choose another"):
        WrappedClassifier(folder, max_tokens=100)


def test_what_cannot_be_run_on_several_texts_is_refused(make: Callable[..., Path]) -> None:
    folder = make("gpt2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    with pytest.raises(EncoderError, match=r"cannot be run \(ValueError: Cannot handle batch sizes > 1"):
        WrappedClassifier(folder, max_tokens=100)


def test_nothing_reaches_the_screen_and_the_callers_generator_is_left_alone(
    make: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    folder = make("xlnet")
    capfd.readouterr()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    wrapped = WrappedClassifier(folder, max_tokens=100)
    wrapped.write(tmp_path / "written")
    wrapped.embed(TEXTS), wrapped.logits(TEXTS)
    assert torch.equal(torch.rand(3), expected)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
