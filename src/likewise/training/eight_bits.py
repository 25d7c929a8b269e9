"""A graph in float32 -> the same with its linear layers in whole numbers of eight bits, for ONNX Runtime.

A layer's weights W (in, out) are written once and for all as whole numbers with a scale for each output, and the rows x
of its input (one for each token) as whole numbers with a scale of their own whenever a text is read:
    w_j = max_i |W_ij| / 63,  V_ij = round(W_ij / w_j);    s = max_i |x_i|,  u_i = round(127 x_i / s);
    x W = s w / 127 * (u V), a sum of products of whole numbers, which is exact
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
    """Rewrites the linear layers of a graph, one node at a time."""

    graph: Any
    count: int = 0
    """Layers so far."""
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
        read = node.input[0]
        if read not in self._rows:
            self._rows[read] = f"int8_rows_{len(self._rows)}"
            yield from self._as_rows(read, self._rows[read])
        yield from self._product(f"int8_layer_{self.count}", self._rows[read], numpy_helper.to_array(fixed), node)
        self.count += 1

    def _as_rows(self, read: str, name: str) -> Iterator[NodeProto]:
        """The rows of an input as whole numbers, name_whole, and their scales, name_scale."""
        node = helper.make_node
        yield node("Abs", [read], [f"{name}_size"])
        yield node("ReduceMax", [f"{name}_size"], [f"{name}_largest"], axes=[-1], keepdims=1)
        yield node("Add", [f"{name}_largest", self._constant("int8_least", np.float32(_LEAST))], [f"{name}_scale"])
        yield node("Div", [read, f"{name}_scale"], [f"{name}_share"])
        yield node("QuantizeLinear", [f"{name}_share", self._step(), self._zero()], [f"{name}_whole"])

    def _product(self, name: str, rows: str, weights: NDArray[np.float32], of: NodeProto) -> Iterator[NodeProto]:
        """The product of rows and weights, under the name that it had."""
        whole, scale = quantised(weights)
        given = [
            f"{rows}_whole", self._constant(f"{name}_weights", whole), self._step(),
            self._constant(f"{name}_scale", scale), self._zero(),
        ]  # fmt: skip
        yield helper.make_node("MatMulIntegerToFloat", given, [f"{name}_product"], domain=_DOMAIN)
        yield helper.make_node("Mul", [f"{name}_product", f"{rows}_scale"], list(of.output), name=of.name)

    def _step(self) -> str:
        return self._constant("int8_step", np.float32(1 / _INPUT_STEPS))

    def _zero(self) -> str:
        return self._constant("int8_zero", np.uint8(_ZERO))

    def _constant(self, name: str, value: Any) -> str:
        """A constant of this name, made where it is not there yet; the name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(value), name)
        return name
