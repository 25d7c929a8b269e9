"""Texts -> embeddings, without torch: tokenizers and ONNX Runtime, or OpenVINO where that extra is installed.

An encoder folder holds model.onnx, tokenizer.json and encoder.json; `likewise.training.graph` writes it.
Both runtimes report their use to their makers unless told not to; here they are told before they are loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from likewise.errors import DataError, EncoderError, MissingExtra, SettingError
from likewise.machine import cores

FORMAT = 1
"""Version of the encoder folder's layout."""

INPUTS = ("input_ids", "attention_mask")
"""The graph's inputs: int64, shape (batch, sequence)."""

OUTPUT = "embedding"
"""The graph's output: float32, shape (batch, dimension)."""

LOGITS = "logits"
"""Its second output where the network is a classifier of its own: float32, shape (batch, labels)."""

Runtime = Literal["auto", "onnxruntime", "openvino"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

_WINDOW = 4096  # texts tokenised and sorted at a time: bounds memory, lets progress move; longer ones gain nothing


def fingerprint(folder: Path, max_tokens: int) -> str:
    """Which embeddings a folder makes: 16 hex digits of SHA-256 over graph, tokenizer and greatest length."""
    digest = hashlib.sha256()
    for name in ("model.onnx", "tokenizer.json"):
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    digest.update(str(max_tokens).encode())
    return digest.hexdigest()[:16]


class Encoder:
    """An opened encoder folder. Any number of threads may use one at the same time.

    `threads` is how many cores one batch may use (0: all that this process may run on). A batch holds texts of
    similar length, and its rows times its longest text never exceed `token_budget` padded tokens, unless one text
    alone does. `runtime` "auto" is ONNX Runtime. EncoderError when the folder cannot be used, MissingExtra when
    OpenVINO is asked for and not installed.
    """

    def __init__(self, folder: Path, *, threads: int = 0, token_budget: int = 512, runtime: Runtime = "auto") -> None:
        folder = Path(folder)
        self._description = _read_description(folder)
        self._tokenizer = _open_tokenizer(folder, self._description.max_tokens)
        outputs = (OUTPUT, LOGITS) if self.labels else (OUTPUT,)
        self._run = _open_graph(folder / "model.onnx", outputs, threads or cores(), runtime)
        self._token_budget = token_budget
        self._truncated = 0
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        """Width of an embedding."""
        return self._description.dimension

    @property
    def max_tokens(self) -> int:
        """Tokens after which a text is cut, special ones included."""
        return self._description.max_tokens

    @property
    def fingerprint(self) -> str:
        """Which embeddings this encoder makes; equal fingerprints, equal embeddings."""
        return self._description.fingerprint

    @property
    def labels(self) -> int:
        """How many labels the network itself has logits for; 0 where it has none."""
        return self._description.labels

    @property
    def truncated(self) -> int:
        """How many texts have been cut since the encoder was opened."""
        return self._truncated

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Floats:
        """Embeddings of texts, float32 of shape (n, dimension), in the texts' order.

        A text's embedding depends on its batch by rounding only (about 1e-6). `progress` is called with the count
        of texts done and of all texts after each batch. DataError for a single string, or a text that is no
        string or has no UTF-8 form.
        """
        return self.encode_with_logits(texts, progress)[0]

    def encode_with_logits(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> tuple[Floats, Floats | None]:
        """The same, and from the same pass the network's own logits, float32 (n, labels); None where it has none."""
        if isinstance(texts, str):
            raise DataError("encode got one string; expected a sequence of strings: put it into a list")
        outputs = [np.empty((len(texts), width), dtype=np.float32) for width in (self.dimension, self.labels)]
        done = 0
        for start in range(0, len(texts), _WINDOW):
            rows = self._tokenise(texts[start : start + _WINDOW], start)
            for batch in self._batches(rows):
                places = [start + i for i in batch]
                for out, found in zip(outputs, self._run(self._padded([rows[i] for i in batch])), strict=False):
                    out[places] = found
                done += len(batch)
                if progress is not None:
                    progress(done, len(texts))
        embeddings, logits = outputs
        return embeddings, logits if self.labels else None

    def measured(self, texts: Sequence[str], from_end: bool = False) -> list[tuple[int, str]]:
        """How many tokens each text has, special ones included, and the text itself.

        With `from_end`, one that is too long comes back without its beginning, so that its end is what is read.
        """
        found = []
        for text in texts:
            encoding = self._whole.encode(text)
            over = len(encoding.ids) - self.max_tokens
            if from_end and over > 0:
                own = [
                    at
                    for at, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
                    if not special
                ]
                text = text[own[min(over, len(own) - 1)][0] :]
            found.append((len(encoding.ids), text))
        return found

    @cached_property
    def _whole(self) -> Tokenizer:
        """The tokenizer, cutting nothing off."""
        whole = Tokenizer.from_str(self._tokenizer.to_str())
        whole.no_truncation()
        return whole

    def _tokenise(self, texts: Sequence[str], start: int) -> list[list[int]]:
        # One text at a time: tokenizers' own pool of threads would warn after a fork and ignore `threads`, and a
        # text takes it some 50 microseconds where the graph takes milliseconds.
        rows: list[list[int]] = []
        truncated = 0
        for i, text in enumerate(texts):
            try:
                encoding = self._tokenizer.encode(text)
            except (TypeError, UnicodeError) as error:
                raise DataError(
                    f"text {start + i} cannot be encoded ({type(text).__name__}: {error}); expected a string "
                    f"without lone surrogates"
                ) from error
            rows.append(encoding.ids)
            truncated += bool(encoding.overflowing)
        with self._lock:
            self._truncated += truncated
        return rows

    def _batches(self, rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Positions of the rows of each batch, shortest rows first."""
        batch: list[int] = []
        for i in sorted(range(len(rows)), key=lambda i: len(rows[i])):
            if batch and (len(batch) + 1) * len(rows[i]) > self._token_budget:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Ints]:
        # On the right, whatever the tokenizer's habit: then a token's position does not depend on the batch.
        description = self._description
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        width = max(1, int(lengths.max()))  # a tokenizer without special tokens yields none for some texts
        attended = np.arange(width) < lengths[:, None]
        ids = np.full((len(rows), width), description.pad_id, dtype=np.int64)
        ids[attended] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        made = {"input_ids": ids, "attention_mask": attended.astype(np.int64)}
        return {name: made[name] for name in description.inputs}


# Opening one while something else is done


_ahead: dict[tuple[Path, tuple[tuple[str, Any], ...]], Future[Encoder]] = {}


def open_ahead(folder: Path, **how: Any) -> None:
    """Begin to open an encoder, in a thread; `opened` with the same arguments takes it, or raises what went wrong.

    A process that is to answer one text spends half its time on imports and half on the graph: they go side by side.
    """
    pool = ThreadPoolExecutor(1, "likewise encoder")
    _ahead[folder, tuple(sorted(how.items()))] = pool.submit(Encoder, folder, **how)
    pool.shutdown(wait=False)


def opened(folder: Path, **how: Any) -> Encoder:
    """An encoder of one's own: that which `open_ahead` began with these arguments, or else one opened now."""
    begun = _ahead.pop((folder, tuple(sorted(how.items()))), None)
    return Encoder(folder, **how) if begun is None else begun.result()


# The folder


@dataclass(frozen=True)
class _Description:
    """encoder.json."""

    dimension: int
    max_tokens: int
    inputs: tuple[str, ...]
    pad_id: int
    fingerprint: str
    labels: int


def _read_description(folder: Path) -> _Description:
    expected = "expected an ONNX encoder folder that Likewise exported"
    for name in ("encoder.json", "tokenizer.json", "model.onnx"):
        if not (folder / name).is_file():
            raise EncoderError(f"no {name} in {folder}; {expected}")
    try:
        found = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        version = int(found["format"])
        description = _Description(
            dimension=int(found["dimension"]),
            max_tokens=int(found["max_tokens"]),
            inputs=tuple(map(str, found["inputs"])),
            pad_id=int(found["pad_id"]),
            fingerprint=str(found["fingerprint"]),
            labels=int(found.get("labels", 0)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"cannot read {folder / 'encoder.json'} ({type(error).__name__}: {error}); {expected}"
        ) from error
    if version > FORMAT:
        raise EncoderError(
            f"{folder} has encoder format {version}, this Likewise reads up to {FORMAT}; upgrade Likewise"
        )
    if not set(description.inputs) <= set(INPUTS):
        raise EncoderError(f"the graph in {folder} wants inputs {description.inputs}; this Likewise feeds {INPUTS}")
    return description


def _open_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing narrower
        raise EncoderError(f"cannot read {folder / 'tokenizer.json'} ({error}); export the encoder again") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


# The runtimes


class _Run(Protocol):
    """Runs the graph on one batch; to be called from any thread."""

    def __call__(self, feed: Mapping[str, Ints]) -> list[Floats]: ...


def _open_graph(path: Path, outputs: Sequence[str], threads: int, runtime: Runtime) -> _Run:
    if runtime in ("auto", "onnxruntime"):
        return _open_onnxruntime(path, outputs, threads)
    if runtime == "openvino":
        return _open_openvino(path, outputs, threads)
    raise SettingError(f"unknown runtime {runtime!r}; expected auto, onnxruntime or openvino")


def _open_onnxruntime(path: Path, outputs: Sequence[str], threads: int) -> _Run:
    # From 1.29 on it reports its use from Linux and macOS too, names a device and keeps a database in the user's
    # cache, and only heeds what stands in the environment when it is first loaded (its Privacy.md).
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no narrower base
        raise EncoderError(f"ONNX Runtime cannot read {path} ({_line(error)}); export the encoder again") from error

    def run(feed: Mapping[str, Ints]) -> list[Floats]:
        found: list[Floats] = session.run(outputs, feed)
        return found

    return run


def _open_openvino(path: Path, outputs: Sequence[str], threads: int) -> _Run:
    openvino = _import_openvino()
    try:
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(str(path)),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",  # its default is bfloat16 where the processor has it
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
