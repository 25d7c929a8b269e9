"""A network from token ids to embeddings -> the folder that answers, whatever the network was made from.

    model.onnx       input_ids, attention_mask (batch, sequence) int64 -> embedding (batch, dimension) float32,
                     and where the network is a classifier of its own: logits (batch, labels) float32
    model.onnx.data  its weights, so that a runtime maps them instead of copying them: 80 MiB less memory at the peak
                     for all-MiniLM-L6-v2, and the processes of a service share them
    tokenizer.json   the tokenizer, without truncation or padding: those are encoder.json's
    encoder.json     what `likewise.encoding.runtime.Encoder` has to know

The network is traced (TorchScript exporter) with plain attention: against torch's newer exporter and fused attention
that took a twentieth of the time for the same result, and ONNX Runtime fuses the outcome better (all-MiniLM-L6-v2, one
thread: 15% faster). A trace would silently bake in a decision that a model takes from the shape of its input, so every
export is compared with torch on other shapes before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from likewise.encoding.runtime import FORMAT, INPUTS, LOGITS, OUTPUT, WEIGHTS, Encoder, fingerprint
from likewise.errors import EncoderError

PROBES = ("a", "one text that is a little longer than the others", "two words", "is it 1, 2 or 3 ?! " * 20)
"""Texts of different lengths, on which two ways to the same numbers are compared."""

TOLERANCE = 1e-3
"""Numbers that differ by less than this share of the largest one are taken for the same, rounded differently."""

_OPSET = 17
_SMALL = 1024  # bytes of a tensor that stays in the graph
_LARGEST = 2**31 - 2**20  # bytes: a protobuf holds 2 GiB, and the graph needs a little beside the weights


@dataclass(frozen=True)
class Form:
    """What encoder.json tells of a graph: the embedding's width, the greatest length in tokens, how it pools, and for
    how many labels it has logits as a second output (0: for none)."""

    dimension: int
    max_tokens: int
    pooling: str
    normalise: bool
    labels: int = 0


def write_graph(
    network: nn.Module,
    tokenizer: Any,
    folder: Path,
    form: Form,
    *,
    architecture: str,
    expected: Callable[[list[str]], NDArray[np.float32]],
    expected_logits: Callable[[list[str]], NDArray[np.float32]] | None = None,
) -> None:
    """Write the ONNX encoder folder of a network, called with input_ids and attention_mask, padded on the right.

    The network is in float32, in evaluation mode and on the CPU. `tokenizer` is transformers' own; its truncation and
    padding are switched off. `expected` yields torch's embeddings of texts, float32 (n, dimension); where the form has
    labels the network yields embeddings and logits, and `expected_logits` torch's logits, float32 (n, labels).
    EncoderError, naming the `architecture`, when it cannot be traced or when what the graph yields differs from those.
    """
    content = _tokenizer_json(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    _trace(network, folder / "model.onnx", [OUTPUT, LOGITS] if form.labels else [OUTPUT], architecture)
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    description = _describe(form, tokenizer, fingerprint(folder, form.max_tokens))
    (folder / "encoder.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    with _exporting(architecture):
        found = Encoder(folder, threads=1, token_budget=64).encode_with_logits(PROBES)
    for one, by_torch in zip(found, (expected, expected_logits), strict=True):
        if one is None or by_torch is None:
            continue
        worst = difference(one, by_torch(list(PROBES)))
        if not worst < TOLERANCE:  # also where it is not a number
            raise EncoderError(
                f"the exported encoder differs from torch's by {worst:.1e} of the largest value; expected less than "
                f"{TOLERANCE:.0e}: this architecture ({architecture}) cannot be exported, choose another encoder"
            )


def check_size(network: nn.Module) -> None:
    """EncoderError when the network's weights do not fit into one graph."""
    size = sum(parameter.numel() * 4 for parameter in network.parameters())
    if size > _LARGEST:
        raise EncoderError(
            f"the encoder's weights take {size / 2**30:.1f} GiB in float32; at most 2 GiB can be exported: "
            f"choose a smaller encoder"
        )


def difference(found: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]]) -> float:
    """The greatest difference of two arrays of the same shape, as a share of the greatest expected value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def pad_id(tokenizer: Any) -> int:
    """The token that fills rows up; any will do where the tokenizer names none, since it is not attended to."""
    found = tokenizer.pad_token_id
    return 0 if found is None else int(found)


def _tokenizer_json(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(backend, "to_str"):
        raise EncoderError(
            f"the encoder's tokenizer {type(tokenizer).__name__} has no tokenizer.json form; "
            f"expected a fast tokenizer: convert it with transformers first"
        )
    backend.no_truncation()
    backend.no_padding()
    return cast(str, backend.to_str(pretty=True))


def _trace(network: nn.Module, path: Path, outputs: list[str], architecture: str) -> None:
    ids, mask = _example()
    shape = {0: "batch", 1: "sequence"}
    with _exporting(architecture):
        torch.onnx.export(
            network,
            (ids, mask),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(INPUTS),
            output_names=outputs,
            dynamic_axes={**dict.fromkeys(INPUTS, shape), **{name: {0: "batch"} for name in outputs}},
        )
        save_graph(onnx.load(path), path)


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph, and its weights beside it."""
    weights = path.with_name(WEIGHTS)
    weights.unlink(missing_ok=True)  # it would be added to
    onnx.save_model(model, path, save_as_external_data=True, location=WEIGHTS, size_threshold=_SMALL)
    if weights.exists():
        weights.chmod(path.stat().st_mode)  # it is made for its owner alone


@contextmanager
def _exporting(architecture: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the network's own code, the exporter and the runtime share nothing narrower
        raise EncoderError(
            f"this architecture ({architecture}) cannot be exported ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}); choose another encoder"
        ) from error


def _example() -> tuple[Tensor, Tensor]:
    """Two rows, one of them padded, so that the trace takes the way that masks."""
    ids = torch.tensor([[3, 4, 3, 4, 3, 4, 3], [4, 3, 4, 3, 3, 3, 3]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]])
    return ids, mask


def _describe(form: Form, tokenizer: Any, digest: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "dimension": form.dimension,
        "max_tokens": form.max_tokens,
        "pooling": form.pooling,
        "normalise": form.normalise,
        "inputs": list(INPUTS),
        "pad_id": pad_id(tokenizer),
        "fingerprint": digest,
        **({"labels": form.labels} if form.labels else {}),
    }
