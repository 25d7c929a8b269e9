"""A graph in float32 -> the same with its linear layers in whole numbers of eight bits, for ONNX Runtime.

A layer's weights W (in, out) are written once and for all as whole numbers with a scale for each output, and the rows x
of its input (one for each token) as whole numbers with a scale of their own whenever a text is read:
    w_j = max_i |W_ij| / 63,  V_ij = round(W_ij / w_j);    s = max_i |x_i| / 127,  u_i = round(x_i / s);
    x W = s w * (u V), a sum of products of whole numbers, which is exact
(vector-wise quantisation: Dettmers et al. 2022, LLM.int8(), section 3.1; tokens by themselves: Yao et al. 2022,
ZeroQuant, section 4.1). A scale for all tokens of a batch would be a little faster, but then a text's embedding would
depend on what other texts are in its batch. Weights have 63 steps and not 127, because processors without VNNI add
pairs of products in sixteen bits, which larger ones would overflow: so all of them calculate the same sums.

Only products with fixed weights become whole numbers. Attention, normalisation and word embeddings stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from likewise.errors import EncoderError
from likewise.training.graph import save_graph

STEPS = 63
"""Steps of a weight on either side of 0."""

_INPUT_STEPS = 127.0
_ZERO = 128
"""Inputs are stored from 1 to 255, this standing for 0: processors multiply unsigned numbers by signed ones."""
_LEAST = 1e-30
"""Added to a row's maximum: rows of zeros are divided by it."""
_DOMAIN = "com.microsoft"


def rewrite(folder: Path) -> None:
    """Write the graph of an ONNX encoder folder anew. EncoderError where it has no linear layer."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    layers = _Layers(model.graph)
    nodes = [new for node in model.graph.node for new in layers.rewritten(node)]
    if not layers.count:
        raise EncoderError("precision: this encoder has no linear layers that could calculate in 'int8'; choose 'fp32'")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [one for one in (*model.graph.initializer, *layers.constants.values()) if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    save_graph(model, path)


def quantised(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights (in, out) as whole numbers of the same shape, and each output's scale (out,)."""
    scale = np.abs(weights).max(axis=0) / np.float32(STEPS)
    scale[scale == 0] = 1
    return np.rint(weights / scale).astype(np.int8), scale


@dataclass
class _Layers:
    """Rewrites the linear layers of a graph, one node at a time; `count` of them so far."""

    graph: Any
    count: int = 0
    constants: dict[str, TensorProto] = field(default_factory=dict)
    """What the new nodes need, by name."""

    def __post_init__(self) -> None:
        self._weights = {one.name: one for one in self.graph.initializer}
        self._rows: dict[str, str] = {}  # by input: the prefix of its rows' names, for layers that have it in common

    def rewritten(self, node: NodeProto) -> Iterator[NodeProto]:
        """The node itself, or what stands for it."""
        fixed = self._weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if fixed is None or len(fixed.dims) != 2:
            yield node
            return
        self.count += 1
        read = node.input[0]
        if read not in self._rows:
            self._rows[read] = f"int8_rows_{self.count}"
            yield from self._as_rows(read, self._rows[read], fixed.dims[0])
        yield from self._product(f"int8_layer_{self.count}", self._rows[read], numpy_helper.to_array(fixed), node)

    def _as_rows(self, read: str, name: str, width: int) -> Iterator[NodeProto]:
        """The rows of an input as whole numbers, name_whole, and their scales, name_scale and name_column."""
        node = helper.make_node
        yield node("Reshape", [read, self._constant("shape", [-1, width])], [f"{name}_flat"])
        yield node("Abs", [f"{name}_flat"], [f"{name}_size"])
        yield node("ReduceMax", [f"{name}_size"], [f"{name}_largest"], axes=[1], keepdims=0)
        least = self._constant("least", _LEAST, np.float32)
        yield node("Add", [f"{name}_largest", least], [f"{name}_over_0"])
        steps = self._constant("steps", _INPUT_STEPS, np.float32)
        yield node("Div", [f"{name}_over_0", steps], [f"{name}_scale"])
        yield node("Unsqueeze", [f"{name}_scale", self._constant("axis", [1])], [f"{name}_column"])
        yield node("Shape", [f"{name}_scale"], [f"{name}_count"])
        yield node("Expand", [self._constant("zero", _ZERO, np.uint8), f"{name}_count"], [f"{name}_zeros"])
        given = [f"{name}_flat", f"{name}_scale", f"{name}_zeros"]
        yield node("QuantizeLinear", given, [f"{name}_whole"], axis=0)
        yield node("Shape", [read], [f"{name}_outer"], start=0, end=-1)

    def _product(self, name: str, rows: str, weights: NDArray[np.float32], of: NodeProto) -> Iterator[NodeProto]:
        """The product of rows and weights, in the shape and under the name that it had."""
        node = helper.make_node
        whole, scale = quantised(weights)
        given = [
            f"{rows}_whole", self._own(f"{name}_weights", whole), self._constant("one", 1.0, np.float32),
            self._own(f"{name}_scale", scale), self._constant("zero", _ZERO, np.uint8),
        ]  # fmt: skip
        yield node("MatMulIntegerToFloat", given, [f"{name}_product"], domain=_DOMAIN)
        yield node("Mul", [f"{name}_product", f"{rows}_column"], [f"{name}_scaled"])
        yield node("Concat", [f"{rows}_outer", self._constant("width", [weights.shape[1]])], [f"{name}_shape"], axis=0)
        yield node("Reshape", [f"{name}_scaled", f"{name}_shape"], list(of.output), name=of.name)

    def _constant(self, name: str, value: Any, dtype: type[np.generic] = np.int64) -> str:
        """The name of a constant that layers have in common where it is the same."""
        array = np.array(value, dtype=dtype)
        return self._own("_".join(["int8", name, *map(str, array.ravel().tolist())]), array)

    def _own(self, name: str, array: NDArray[Any]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
        return name
