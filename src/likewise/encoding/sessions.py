"""A graph in a file -> a function from token ids to its outputs, by ONNX Runtime or OpenVINO.

Both report their use to their makers unless told not to; here they are told before they are loaded.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from likewise.errors import EncoderError, MissingExtra, SettingError
from likewise.types import Precision, PrecisionChoice, Runtime

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Run(Protocol):
    """Runs the graph on one batch; to be called from any thread."""

    def __call__(self, feed: Mapping[str, Ints]) -> list[Floats]: ...


def open_graph(
    path: Path, outputs: Sequence[str], threads: int, runtime: Runtime, precision: Precision
) -> tuple[Run, Precision]:
    """What runs the graph, and the precision that it calculates in.

    That is the one asked for, but float32 in place of bfloat16 where processor or runtime lacks that. "auto" is ONNX
    Runtime, and OpenVINO where only that has the precision. SettingError, EncoderError or MissingExtra.
    """
    if runtime not in get_args(Runtime):
        raise SettingError(f"unknown runtime {runtime!r}; expected auto, onnxruntime or openvino")
    if precision == "int8":
        check_precision(precision, runtime)
        return _open_onnxruntime(path, outputs, threads), precision
    lower = precision == "bf16" and has_bfloat16(runtime)
    if runtime == "openvino" or lower:
        used: Precision = "bf16" if lower else "fp32"
        return _open_openvino(path, outputs, threads, used), used
    return _open_onnxruntime(path, outputs, threads), "fp32"


def check_precision(precision: PrecisionChoice, runtime: Runtime) -> None:
    """SettingError where a new model cannot have it, here and by this runtime."""
    if precision == "int8" and runtime == "openvino":
        raise SettingError("precision: found 'int8', which takes ONNX Runtime; choose runtime 'auto' or 'onnxruntime'")
    if precision == "bf16" and not has_bfloat16(runtime):
        raise SettingError(
            "precision: found 'bf16', which takes OpenVINO (pip install 'likewise[openvino]', and runtime 'auto' or "
            "'openvino') and a processor that multiplies bfloat16 (AVX512-BF16 or AMX); choose 'fp32', or 'auto'"
        )


def has_bfloat16(runtime: Runtime) -> bool:
    """Whether this runtime calculates in bfloat16 here."""
    return runtime != "onnxruntime" and multiplies_bfloat16()


def multiplies_bfloat16() -> bool:
    """Whether OpenVINO is installed and says that this processor multiplies bfloat16."""
    if find_spec("openvino") is None:
        return False
    try:
        return "BF16" in _import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except RuntimeError:
        return False


def _import_onnxruntime() -> Any:
    # From 1.29 on it reports its use from Linux and macOS too, names a device and keeps a database in the user's
    # cache, and only heeds what stands in the environment when it is first loaded (its Privacy.md).
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _open_onnxruntime(path: Path, outputs: Sequence[str], threads: int) -> Run:
    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # Its threads wait by spinning; that they stop with the batch leaves the cores to the linear algebra that follows.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no narrower base
        raise EncoderError(f"ONNX Runtime cannot read {path} ({_line(error)}); export the encoder again") from error

    def run(feed: Mapping[str, Ints]) -> list[Floats]:
        found: list[Floats] = session.run(outputs, feed)
        return found

    return run


def multiply_bytes(codes: NDArray[np.uint8], digits: NDArray[np.int8]) -> NDArray[np.int32]:
    """The product of codes (n, d) and digits (d, m), transposed: (m, n). To be called from any thread.

    It takes one thread: for few digits, reading the codes is all the work. Exact where two products of a code and a
    digit fit into 16 bits and the sums into 32.
    """
    found: NDArray[np.int32] = _byte_product().run(None, {"codes": codes, "digits": digits})[0]
    return found


@cache
def _byte_product() -> Any:
    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(_BYTE_PRODUCT, options, providers=["CPUExecutionProvider"])


# MatMulInteger of codes and digits, then Transpose; written by hand, since the package onnx is not there to answer.
_BYTE_PRODUCT = bytes.fromhex(
    "080812003abf010a270a05636f6465730a06646967697473120770726f64756374220d4d61744d756c496e7465676572"
    "0a2f0a0770726f64756374120a7472616e73706f73656422095472616e73706f73652a0d0a047065726d40014000a001"
    "07120c627974652070726f647563745a190a05636f64657312100a0e0802120a0a0312016e0a031201645a1a0a066469"
    "6769747312100a0e0803120a0a031201640a0312016d621e0a0a7472616e73706f73656412100a0e0806120a0a031201"
    "6d0a0312016e42040a001011"
)


_HINTS = {"fp32": "f32", "bf16": "bf16"}


def _open_openvino(path: Path, outputs: Sequence[str], threads: int, precision: Precision) -> Run:
    openvino = _import_openvino()
    try:
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(str(path)),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],  # its default is the lowest that the processor has
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,
            },
        )
    except RuntimeError as error:
        raise EncoderError(f"OpenVINO cannot read {path} ({_line(error)}); try runtime 'onnxruntime'") from error
    idle: queue.SimpleQueue[Any] = queue.SimpleQueue()  # a request serves one batch at a time

    def run(feed: Mapping[str, Ints]) -> list[Floats]:
        try:
            request = idle.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        try:
            found = request.infer(dict(feed))
            return [np.array(found[name], dtype=np.float32) for name in outputs]  # copied: its memory is used again
        finally:
            idle.put(request)

    return run


_importing = threading.Lock()


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports the import itself.

    Where its package openvino_telemetry cannot be imported it falls back to a stand-in of its own that does nothing.
    """
    with _importing:
        hidden = [name for name in sys.modules if name.partition(".")[0] == "openvino_telemetry"]
        kept = {name: sys.modules.pop(name) for name in hidden}
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # what import takes for "not there"
        try:
            import openvino
        except ImportError as error:
            raise MissingExtra(
                "runtime 'openvino' needs the package openvino, which is not installed; "
                "run: pip install 'likewise[openvino]', or choose runtime 'onnxruntime'"
            ) from error
        finally:
            del sys.modules["openvino_telemetry"]
            sys.modules.update(kept)
    return openvino


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
