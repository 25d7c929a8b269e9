"""A SentenceTransformer -> the folder that answers: one ONNX graph from token ids to embeddings.

    model.onnx       input_ids, attention_mask (batch, sequence) int64 -> embedding (batch, dimension) float32
    tokenizer.json   the tokenizer, without truncation or padding: those are encoder.json's
    encoder.json     what `likewise.encoding.runtime.Encoder` has to know

Pooling and normalisation are inside the graph. It is traced (TorchScript exporter) with plain attention: against
torch's newer exporter and fused attention that took a twentieth of the time for the same result, and ONNX Runtime
fuses the outcome better (all-MiniLM-L6-v2, one thread: 15% faster). A trace would silently bake in a decision that
a model takes from the shape of its input, so every export is compared with torch on other shapes before it is used.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
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

from likewise.encoding.runtime import FORMAT, INPUTS, OUTPUT, Encoder, fingerprint
from likewise.errors import EncoderError
from likewise.training.loading import quiet, strip_normalisation, token_limit

_OPSET = 17
_LARGEST = 2**31 - 2**20  # bytes: a protobuf holds 2 GiB, and the graph needs a little beside the weights
_CLOSING = (Dense, LayerNorm, Dropout, Normalize)
_PROBES = ("a", "one text that is a little longer than the others", "two words", "is it 1, 2 or 3 ?! " * 20)
_TOLERANCE = 1e-3


def export_onnx(model: SentenceTransformer, folder: Path, *, normalise: bool, max_tokens: int) -> None:
    """Write the ONNX encoder folder of a model; the model itself stays as it is.

    `normalise` alone decides whether embeddings have unit length: a closing Normalize module of the model counts
    for nothing. Texts are cut at `max_tokens` tokens, special ones included, or at the model's own limit if that
    is lower. EncoderError for a module, a pooling or a size that cannot be exported, and when the graph's
    embeddings differ from torch's.
    """
    with quiet():
        plain = _plain_copy(model)
        limit = min(max_tokens, token_limit(plain))
        plain.max_seq_length = limit
        network = _Network(plain, normalise).eval()
        tokenizer = _tokenizer_json(plain)
        folder.mkdir(parents=True, exist_ok=True)
        _trace(network, folder / "model.onnx")
        (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        description = _describe(network, limit, fingerprint(folder, limit))
        (folder / "encoder.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        _compare(network, plain, folder)


class _Network(nn.Module):
    """Token ids to embeddings, as one module with plain arguments."""

    def __init__(self, model: SentenceTransformer, normalise: bool) -> None:
        super().__init__()
        self.reader, self.pooling, *closing = _checked(model)
        self.transformer = cast(nn.Module, self.reader.model)
        self.closing = nn.ModuleList(closing)
        self.normalise = normalise

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        output = self.transformer(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        features = {"token_embeddings": output.last_hidden_state, "attention_mask": attention_mask}
        features = self.pooling(features)
        for module in self.closing:
            features = module(features)
        return self.normalised(features["sentence_embedding"])

    def normalised(self, embedding: Tensor) -> Tensor:
        """Embeddings of unit length where the graph normalises, as they are otherwise."""
        return nn.functional.normalize(embedding, p=2.0, dim=-1) if self.normalise else embedding

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
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    if size > _LARGEST:
        raise EncoderError(
            f"the encoder's weights take {size / 2**30:.1f} GiB in float32; at most 2 GiB can be exported: "
            f"choose a smaller encoder"
        )
    # The modules alone: after a fit the model's card holds on to the trainer and its data.
    plain = SentenceTransformer(modules=[copy.deepcopy(module) for module in model], device="cpu")
    plain.float().eval()
    strip_normalisation(plain)
    plain.tokenizer.padding_side = "right"
    cast(Transformer, plain[0]).model.set_attn_implementation("eager")
    return plain


def _checked(model: SentenceTransformer) -> tuple[Transformer, Pooling, *tuple[nn.Module, ...]]:
    """The model's modules, where they are of a kind that the graph can hold."""
    supported = "expected a transformer, mean or cls pooling and at most dense layers behind it"
    modules: list[nn.Module | None] = [*model, None, None]
    reader, pooling, *closing = modules
    if not isinstance(reader, Transformer) or not isinstance(pooling, Pooling):
        found = ", ".join(type(module).__name__ for module in (reader, pooling) if module is not None) or "nothing"
        raise EncoderError(f"cannot export an encoder that begins with {found}; {supported}")
    layers = [module for module in closing if module is not None]
    for module in layers:
        if not isinstance(module, _CLOSING):
            raise EncoderError(f"cannot export the encoder's module {type(module).__name__}; {supported}")
    if pooling.pooling_mode not in ("mean", "cls"):
        raise EncoderError(f"cannot export pooling {pooling.pooling_mode!r}; {supported}")
    return reader, pooling, *layers


def _tokenizer_json(model: SentenceTransformer) -> str:
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(backend, "to_str"):
        raise EncoderError(
            f"the encoder's tokenizer {type(model.tokenizer).__name__} has no tokenizer.json form; "
            f"expected a fast tokenizer: convert it with transformers first"
        )
    # The copy's tokenizer is its own, so that switching these off changes nothing for the caller.
    backend.no_truncation()
    backend.no_padding()
    return cast(str, backend.to_str(pretty=True))


def _trace(network: _Network, path: Path) -> None:
    ids, mask = _example()
    shape = {0: "batch", 1: "sequence"}
    torch.onnx.export(
        network,
        (ids, mask),
        path,
        dynamo=False,
        opset_version=_OPSET,
        input_names=list(INPUTS),
        output_names=[OUTPUT],
        dynamic_axes={**dict.fromkeys(INPUTS, shape), OUTPUT: {0: "batch"}},
    )


def _example() -> tuple[Tensor, Tensor]:
    """Two rows, one of them padded, so that the trace takes the way that masks."""
    ids = torch.tensor([[3, 4, 3, 4, 3, 4, 3], [4, 3, 4, 3, 3, 3, 3]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]])
    return ids, mask


def _describe(network: _Network, max_tokens: int, digest: str) -> dict[str, Any]:
    pad = cast(Any, network.reader.tokenizer).pad_token_id
    return {
        "format": FORMAT,
        "dimension": network.dimension,
        "max_tokens": max_tokens,
        "pooling": network.pooling.pooling_mode,
        "normalise": network.normalise,
        "inputs": list(INPUTS),
        "pad_id": 0 if pad is None else int(pad),
        "fingerprint": digest,
    }


def _compare(network: _Network, model: SentenceTransformer, folder: Path) -> None:
    """Refuse a folder that does not compute what torch does, on texts of other shapes than the trace has seen."""
    found = Encoder(folder, threads=1, token_budget=64).encode(_PROBES)
    with torch.no_grad():
        expected = model(model.preprocess(list(_PROBES)))["sentence_embedding"]
        expected = network.normalised(expected).numpy()
    worst = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not worst < _TOLERANCE:  # also where it is not a number
        raise EncoderError(
            f"the exported encoder differs from torch's by {worst:.1e} of the largest value; expected less than "
            f"{_TOLERANCE:.0e}: this architecture ({type(network.transformer).__name__}) cannot be exported, "
            f"choose another encoder"
        )
