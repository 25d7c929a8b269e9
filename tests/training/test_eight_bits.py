"""Linear layers in whole numbers: against the same sums by NumPy; an encoder made of them, against the exact one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from likewise.encoding.runtime import Encoder, fingerprint, set_precision
from likewise.encoding.sessions import open_graph
from likewise.errors import EncoderError
from likewise.training.eight_bits import STEPS, quantised, rewrite

WIDTH, OUT = 6, 5
TEXTS = ["my parcel is late", "a", "the screen is broken", "where is my money " * 40, "日本 zebra", "thank you"]
floats = st.floats(-1e4, 1e4, width=32)


def layers(folder: Path, weights: list[NDArray[np.float32]], outer: int) -> Path:
    """A graph of linear layers, all of which read the same input with so many outer axes."""
    shape = [f"axis {i}" for i in range(outer)]
    names = [f"out {i}" for i in range(len(weights))]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", f"w {i}"], [name]) for i, name in enumerate(names)],
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*shape, WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [*shape, OUT]) for name in names],
        [numpy_helper.from_array(table, f"w {i}") for i, table in enumerate(weights)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    return folder / "model.onnx"


def by_hand(x: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """The module's formula, a row at a time."""
    found = np.empty((*x.shape[:-1], weights.shape[1]))
    largest = np.abs(weights).max(axis=0).astype(np.float64)
    w = np.where(largest > 0, largest / 63, 1)
    v = np.rint(weights / w.astype(np.float32))
    for at in np.ndindex(*x.shape[:-1]):
        s = np.abs(x[at]).max() + np.float32(1e-30)
        found[at] = float(s) / 127 * w * (np.rint(x[at] / s * 127).astype(np.int64) @ v.astype(np.int64))
    return found


@pytest.mark.parametrize("outer", [1, 2])
def test_a_layer_calculates_what_the_formula_says(tmp_path: Path, outer: int) -> None:
    rng = np.random.default_rng(outer)
    weights = [rng.normal(size=(WIDTH, OUT)).astype(np.float32) for _ in range(2)]
    weights[0][:, 2] = 0.0
    path = layers(tmp_path, weights, outer)
    rewrite(tmp_path)
    run, precision = open_graph(path, ["out 0", "out 1"], 1, "auto", "int8")
    assert precision == "int8"

    @settings(max_examples=60)
    @given(arrays.arrays(np.float32, (3,) * outer + (WIDTH,), elements=floats))
    def check(x: NDArray[np.float32]) -> None:
        feed: Any = {"x": x}
        steps = np.abs(x) / (np.abs(x).max(axis=-1, keepdims=True) + 1e-30) * 127
        between = (np.abs(steps % 1 - 0.5) < 1e-3).any(axis=-1, keepdims=True)  # may be rounded up or down
        for out, table in zip(run(feed), weights, strict=True):
            step = np.abs(x).max(axis=-1, keepdims=True) / 127 * np.abs(table).max(axis=0)
            expected = by_hand(x, table)
            assert (np.abs(out - expected) <= 1e-5 * np.abs(expected).max() + between * WIDTH * step).all()

    check()


def test_the_greatest_weights_and_inputs_overflow_nothing(tmp_path: Path) -> None:
    path = layers(tmp_path, [np.ones((WIDTH, OUT), dtype=np.float32)], 1)
    rewrite(tmp_path)
    run, _ = open_graph(path, ["out 0"], 1, "auto", "int8")
    rows = np.array([[3.0] * WIDTH, [-3.0] * WIDTH, [0.0] * WIDTH], dtype=np.float32)
    feed: Any = {"x": rows}
    np.testing.assert_allclose(run(feed)[0], rows.sum(axis=1, keepdims=True).repeat(OUT, axis=1), rtol=1e-6)


def test_weights_keep_their_order_and_their_greatest() -> None:
    weights = np.array([[0.7, 0.0], [-2.0, 0.0], [0.5, 0.0]], dtype=np.float32)
    whole, scale = quantised(weights)
    assert whole[:, 0].tolist() == [22, -STEPS, 16]
    assert whole[:, 1].tolist() == [0, 0, 0]
    np.testing.assert_allclose(whole * scale, weights, atol=scale[0] / 2)


@pytest.fixture(scope="module")
def folders(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tiny encoder's folder, and the same in whole numbers."""
    folder = Path(shutil.copytree(tiny_onnx, tmp_path_factory.mktemp("int8") / "onnx"))
    rewrite(folder)
    set_precision(folder, "int8")
    return tiny_onnx, folder


def test_an_encoder_of_whole_numbers_is_near_to_the_exact_one(folders: tuple[Path, Path]) -> None:
    exact, quick = (Encoder(folder, threads=1) for folder in folders)
    assert (quick.precision, exact.precision) == ("int8", "fp32")
    assert quick.fingerprint == fingerprint(folders[1], quick.max_tokens, "int8") != exact.fingerprint
    a, b = exact.encode(TEXTS), quick.encode(TEXTS)
    cosines = (a * b).sum(axis=1)
    assert (cosines > 0.97).all() and (cosines < 1 - 1e-6).any()
    np.testing.assert_array_equal(b, quick.encode(TEXTS))  # the same every time
    assert (folders[1] / "model.onnx.data").stat().st_size < (folders[0] / "model.onnx.data").stat().st_size
    assert (folders[1] / "model.onnx.data").stat().st_mode == (folders[1] / "model.onnx").stat().st_mode


def test_a_text_has_the_same_embedding_in_a_batch_and_alone(folders: tuple[Path, Path]) -> None:
    encoder = Encoder(folders[1], threads=1)
    texts = [f"{text} {word}" for text in TEXTS for word in ("today", "again", "not")]
    together = encoder.encode(texts)
    np.testing.assert_allclose(np.concatenate([encoder.encode([text]) for text in texts]), together, atol=1e-5)


def test_layers_that_read_the_same_have_their_rows_made_once(folders: tuple[Path, Path]) -> None:
    kinds = [node.op_type for node in onnx.load(folders[1] / "model.onnx").graph.node]
    # Two layers of BERT: query, key and value read the same.
    assert (kinds.count("MatMulIntegerToFloat"), kinds.count("QuantizeLinear")) == (12, 8)


def test_a_graph_without_linear_layers_is_refused_and_stays(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["y"])], "none",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    before = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(EncoderError, match=r"no linear layers.*choose 'fp32'"):
        rewrite(tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == before
