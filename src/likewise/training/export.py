"""A SentenceTransformer -> the folder that answers: pooling and normalisation become part of the graph."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)
from torch import Tensor, nn

from likewise.errors import EncoderError
from likewise.training.graph import Form, check_size, write_graph
from likewise.training.loading import POOLING_MODES, quiet, strip_normalisation, token_limit
from likewise.training.modules.two_encoders import TwoEncoders
from likewise.training.modules.words import WordNetwork

_CLOSING = (Dense, LayerNorm, Dropout, Normalize)
_POOLINGS: dict[Any, str] = {mode: name for name, mode in POOLING_MODES.items()}


def export_onnx(
    model: SentenceTransformer, folder: Path, *, normalise: bool, max_tokens: int, logits: bool = False
) -> None:
    """Write the ONNX encoder folder of a model; the model itself stays as it is.

    `normalise` alone decides whether embeddings have unit length: a closing Normalize module of the model counts
    for nothing. Texts are cut at `max_tokens` tokens, special ones included, or at the model's own limit if that
    is lower. With `logits` those of a network that is a classifier of its own are the graph's second output.
    EncoderError for a module, a pooling or a size that cannot be exported, and when what the graph yields differs
    from torch's.
    """
    if isinstance(model[0], WordNetwork):
        _export_words(model[0], folder, normalise, min(max_tokens, model[0].max_seq_length), logits)
        return
    if isinstance(model[0], TwoEncoders):
        _export_two(model, folder, normalise, max_tokens)
        return
    with quiet():
        plain = _plain_copy(model)
        limit = min(max_tokens, token_limit(plain))
        plain.max_seq_length = limit
        network = _Network(plain, normalise).eval()

        def expected(texts: list[str]) -> NDArray[np.float32]:
            with torch.no_grad():
                embedding = network.normalised(plain(plain.preprocess(texts))["sentence_embedding"])
            return cast(NDArray[np.float32], embedding.numpy())

        write_graph(
            network,
            plain.tokenizer,
            folder,
            Form(network.dimension, limit, _POOLINGS[network.pooling.pooling_mode], normalise),
            architecture=type(network.transformer).__name__,
            expected=expected,
        )


def _export_words(network: WordNetwork, folder: Path, normalise: bool, limit: int, logits: bool) -> None:
    """The same for a network over words, which is one module."""
    with quiet():
        check_size(network)
        plain = _Words(network, normalise, limit, logits).eval()
        form = Form(network.get_embedding_dimension(), limit, "max", normalise, network.labels if logits else 0)
        write_graph(
            plain,
            plain.network.tokenizer,
            folder,
            form,
            architecture=type(network).__name__,
            expected=lambda texts: plain.read(texts)[0],
            expected_logits=(lambda texts: plain.read(texts)[1]) if logits else None,
        )


def _export_two(model: SentenceTransformer, folder: Path, normalise: bool, max_tokens: int) -> None:
    """The same for two encoders and the layers behind them."""
    with quiet():
        check_size(model)
        limit = min(max_tokens, token_limit(model))
        network = _plain_network(model, normalise, limit).eval()
        plain = SentenceTransformer(modules=[copy.deepcopy(module) for module in model], device="cpu").float().eval()
        plain.max_seq_length = limit

        def expected(texts: list[str]) -> NDArray[np.float32]:
            with quiet():
                found = plain.encode(texts, normalize_embeddings=normalise, show_progress_bar=False)
            return np.asarray(found, dtype=np.float32)

        form = Form(cast(int, model.get_embedding_dimension()), limit, "two encoders", normalise)
        write_graph(network, plain.tokenizer, folder, form, architecture="two encoders", expected=expected)


def _plain_network(model: SentenceTransformer, normalise: bool, limit: int) -> nn.Module:
    """A model with plain arguments, of whatever kind; a copy, on the CPU in float32."""
    if isinstance(model[0], WordNetwork):
        return _Words(model[0], normalise, limit, logits=False)
    if not isinstance(model[0], TwoEncoders):
        return _Network(_plain_copy(model), normalise)
    encoders = [_plain_network(one, False, limit) for one in model[0].models]
    closing = [copy.deepcopy(module).cpu().float() for module in list(model)[1:] if not isinstance(module, Normalize)]
    for module in closing:
        if not isinstance(module, _CLOSING):
            raise EncoderError(f"cannot export {type(module).__name__} behind two encoders; expected dense layers")
    return _Two(encoders, closing, normalise)


class _Plain(nn.Module):
    """A network with plain arguments, token ids and attention mask, as a graph takes them."""

    def __init__(self, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise

    def normalised(self, embedding: Tensor) -> Tensor:
        """Embeddings of unit length where the graph normalises, as they are otherwise."""
        return nn.functional.normalize(embedding, p=2.0, dim=-1) if self.normalise else embedding


class _Two(_Plain):
    """Token ids to what layers make of two encoders' embeddings, with plain arguments."""

    def __init__(self, encoders: list[nn.Module], closing: list[nn.Module], normalise: bool) -> None:
        super().__init__(normalise)
        self.encoders, self.closing = nn.ModuleList(encoders), nn.ModuleList(closing)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found = torch.cat([encoder(input_ids, attention_mask) for encoder in self.encoders], dim=1)
        features = {"sentence_embedding": found}
        for module in self.closing:
            features = module(features)
        return self.normalised(features["sentence_embedding"])


class _Words(_Plain):
    """A network over words with plain arguments; a copy, on the CPU in float32."""

    def __init__(self, network: WordNetwork, normalise: bool, limit: int, logits: bool) -> None:
        super().__init__(normalise)
        self.network = copy.deepcopy(network).cpu().float()
        self.network.max_seq_length = limit
        self.logits = logits

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Embeddings, and logits beside them where asked for."""
        found = self.network({"input_ids": input_ids, "attention_mask": attention_mask})
        embedding = self.normalised(found["sentence_embedding"])
        return (embedding, found["logits"]) if self.logits else embedding

    def read(self, texts: list[str]) -> list[NDArray[np.float32]]:
        """What torch makes of texts."""
        with torch.no_grad():
            found = self(**self.network.preprocess(texts))
            return [part.numpy() for part in (found if self.logits else (found,))]


class _Network(_Plain):
    """Token ids to embeddings, as one module with plain arguments."""

    def __init__(self, model: SentenceTransformer, normalise: bool) -> None:
        super().__init__(normalise)
        self.reader, self.pooling, *closing = _checked(model)
        self.transformer = cast(nn.Module, self.reader.model)
        self.closing = nn.ModuleList(closing)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        output = self.transformer(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        features = {"token_embeddings": output.last_hidden_state, "attention_mask": attention_mask}
        features = self.pooling(features)
        for module in self.closing:
            features = module(features)
        return self.normalised(features["sentence_embedding"])

    @property
    def dimension(self) -> int:
        """Width of the embedding."""
        for module in reversed(list(self.closing)):
            if isinstance(module, Dense):
                return module.out_features
        return self.pooling.pooling_output_dimension


def _plain_copy(model: SentenceTransformer) -> SentenceTransformer:
    """On the CPU, in float32, with attention as matrix products and without closing Normalize modules."""
    _checked(model)
    check_size(model)
    # The modules alone: after a fit the model's card holds on to the trainer and its data.
    plain = SentenceTransformer(modules=[copy.deepcopy(module) for module in model], device="cpu")
    plain.float().eval()
    strip_normalisation(plain)
    plain.tokenizer.padding_side = "right"
    cast(Transformer, plain[0]).model.set_attn_implementation("eager")
    return plain


def _checked(model: SentenceTransformer) -> tuple[Transformer, Pooling, *tuple[nn.Module, ...]]:
    """The model's modules, where they are of a kind that the graph can hold."""
    supported = "expected a transformer, mean, cls or last pooling and at most dense layers behind it"
    modules: list[nn.Module | None] = [*model, None, None]
    reader, pooling, *closing = modules
    if not isinstance(reader, Transformer) or not isinstance(pooling, Pooling):
        found = ", ".join(type(module).__name__ for module in (reader, pooling) if module is not None) or "nothing"
        raise EncoderError(f"cannot export an encoder that begins with {found}; {supported}")
    layers = [module for module in closing if module is not None]
    for module in layers:
        if not isinstance(module, _CLOSING):
            raise EncoderError(f"cannot export the encoder's module {type(module).__name__}; {supported}")
    if pooling.pooling_mode not in _POOLINGS:
        raise EncoderError(f"cannot export pooling {pooling.pooling_mode!r}; {supported}")
    return reader, pooling, *layers
