"""Folders of every kind become a model that reads text; incomplete or foreign ones are refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from likewise.errors import EncoderError
from likewise.training.loading import load, quiet, summary_pooling, token_limit


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
    with_last = saved(load(folder, pooling="last"), tmp_path / "last")
    assert pooling_of(load(with_last)) == "lasttoken"
    assert pooling_of(load(with_last, pooling="mean")) == "mean"


def test_a_plain_transformers_folder_pools_by_the_mean(folder: Path) -> None:
    plain = make_plain(folder)
    assert pooling_of(load(plain)) == "mean"
    assert pooling_of(load(plain, pooling="cls")) == "cls"
    assert pooling_of(load(plain, pooling="last")) == "lasttoken"


def test_the_summary_token_is_where_the_tokenizer_puts_it(folder: Path, tiny_xlnet: Path) -> None:
    assert summary_pooling(make_plain(folder)) == "cls"
    assert summary_pooling(tiny_xlnet) == "last"


def test_a_tokenizer_without_a_summary_token_is_named(folder: Path) -> None:
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]").save_pretrained(folder)
    with pytest.raises(EncoderError, match=r"no classification token first or last; choose pooling 'mean', or 'last'"):
        summary_pooling(folder)


def test_a_folder_without_a_tokenizer_has_no_summary_token(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(EncoderError, match=r"no tokenizer in .*tokenizer\.json"):
        summary_pooling(folder)
    with pytest.raises(EncoderError, match="no tokenizer folder at"):
        summary_pooling(tmp_path / "nothing")


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


def test_relative_positions_set_no_limit_of_their_own(tiny_xlnet: Path, tmp_path: Path) -> None:
    model = load(tiny_xlnet)
    assert token_limit(model) > 1_000_000  # whoever calls has to set one
    with quiet():
        assert model.preprocess(["the dog " * 500])["input_ids"].shape == (1, 1002)
    limited = Path(shutil.copytree(tiny_xlnet, tmp_path / "limited"))
    tokenizer = json.loads((limited / "tokenizer_config.json").read_text())
    (limited / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "model_max_length": 20}))
    model = load(limited)
    assert token_limit(model) == model.max_seq_length == 20
    model.max_seq_length = -1  # what XLNet's config names
    with pytest.raises(EncoderError, match="names no greatest length"):
        token_limit(model)


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


def test_weights_that_would_run_code_are_refused(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "marker"),)

    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**weights, "evil": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"cannot read the encoder in .*Weights only load failed"):
        load(folder)
    assert not (tmp_path / "marker").exists()


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
