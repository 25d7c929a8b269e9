"""Folders of every kind become a model that reads text; incomplete or foreign ones are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding
from tokenizers import Tokenizer

from likewise.errors import EncoderError
from likewise.training.loading import load, quiet, token_limit


@pytest.fixture()
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder that a test may change."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))


def pooling_of(model: SentenceTransformer) -> Any:
    return next(module.pooling_mode for module in model if isinstance(module, Pooling))


def saved(model: SentenceTransformer, folder: Path) -> Path:
    with quiet():
        model.save(str(folder), create_model_card=False)
    return folder


def make_plain(folder: Path) -> Path:
    """What is left when sentence-transformers' files are gone: a transformers folder."""
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "1_Pooling")
    return folder


def test_auto_keeps_the_folders_pooling_and_a_choice_replaces_it(folder: Path, tmp_path: Path) -> None:
    assert pooling_of(load(folder)) == "mean"
    assert pooling_of(load(folder, pooling="cls")) == "cls"
    with_cls = saved(load(folder, pooling="cls"), tmp_path / "cls")
    assert pooling_of(load(with_cls)) == "cls"
    assert pooling_of(load(with_cls, pooling="mean")) == "mean"
    assert len(load(with_cls, pooling="mean")) == 2


def test_a_plain_transformers_folder_pools_by_the_mean(folder: Path) -> None:
    plain = make_plain(folder)
    assert pooling_of(load(plain)) == "mean"
    assert pooling_of(load(plain, pooling="cls")) == "cls"


def test_closing_normalisation_is_taken_off(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.append(Normalize())
    loaded = load(saved(model, tmp_path / "normalised"))
    assert [type(module).__name__ for module in loaded] == ["Transformer", "Pooling"]
    assert len(load(saved(loaded, tmp_path / "again"))) == 2


def test_a_dense_layer_stays_and_its_pooling_cannot_be_narrowed(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.append(Dense(32, 8))
    assert load(saved(model, tmp_path / "dense"), pooling="cls").get_embedding_dimension() == 8
    model[1] = Pooling(32, ("mean", "cls"))
    model[2] = Dense(64, 8)
    wide = saved(model, tmp_path / "wide")
    with pytest.raises(EncoderError, match="leave the pooling to the encoder"):
        load(wide, pooling="mean")


def test_ready_to_use(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "padding_side": "left"}))
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    settings |= {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    weights = load_file(folder / "model.safetensors")
    save_file({k: v.half() for k, v in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(folder)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.tokenizer.padding_side == "right"
    assert model.default_prompt_name is None


def test_the_limit_is_the_least_of_tokenizer_and_positions(folder: Path) -> None:
    assert token_limit(load(folder)) == 64
    for found, expected in ((10**30, 64), (20, 20)):
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "model_max_length": found}))
        model = load(folder)
        assert token_limit(model) == model.max_seq_length == expected
    model.max_seq_length = 9
    assert token_limit(model) == 9


def test_lacking_weights_are_not_drawn_at_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    lacking = [name for name in weights if "layer.1.output.dense.weight" in name]
    assert len(lacking) == 1
    save_file({k: v for k, v in weights.items() if k not in lacking}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"lacks weights.*layer\.1\.output\.dense\.weight"):
        load(folder)


def test_an_unused_pooler_may_be_lacking_and_is_the_same_each_time(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    torch.manual_seed(5)
    first = load(folder).state_dict()
    untouched = torch.random.initial_seed()
    torch.manual_seed(6)
    second = load(folder).state_dict()
    assert untouched == 5
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_callers_generator_is_left_alone(folder: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    load(folder)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("spoil", ["missing", "empty", "config", "weights", "cut"])
def test_what_is_no_encoder_is_refused(folder: Path, spoil: str) -> None:
    weights = folder / "model.safetensors"
    if spoil == "missing":
        shutil.rmtree(folder)
    elif spoil == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif spoil == "config":
        (folder / "config.json").write_text("{not json")
    elif spoil == "weights":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EncoderError, match=str(folder)) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_an_encoder_without_token_embeddings_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    with torch.random.fork_rng(devices=[]):
        model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    with pytest.raises(EncoderError, match="begins with StaticEmbedding"):
        load(saved(model, tmp_path / "static"))


def test_quiet_loading(folder: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    weights = load_file(folder / "model.safetensors")  # without a pooler transformers would print a report
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    load(folder)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
