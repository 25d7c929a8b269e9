"""Texts -> embeddings, without torch: tokenizers, and a runtime that runs the graph (`sessions.py`).

An encoder folder holds model.onnx, its weights (model.onnx.data), tokenizer.json and encoder.json;
`likewise.training.graph` writes it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from tokenizers import Tokenizer

from likewise.encoding.sessions import Floats, Ints, open_graph
from likewise.errors import DataError, EncoderError
from likewise.machine import cores
from likewise.progress import Progress
from likewise.types import Precision, Runtime

FORMAT = 1
"""Version of the encoder folder's layout."""

WEIGHTS = "model.onnx.data"
"""The graph's weights, which a runtime maps into memory; small ones, and those of folders made earlier, stand in
model.onnx itself."""

INPUTS = ("input_ids", "attention_mask")
"""The graph's inputs: int64, shape (batch, sequence)."""

OUTPUT = "embedding"
"""The graph's output: float32, shape (batch, dimension)."""

LOGITS = "logits"
"""Its second output where the network is a classifier of its own: float32, shape (batch, labels)."""

_TOKEN_BUDGETS: dict[Precision, int] = {
    "fp32": 512,
    "bf16": 1024,
    "int8": 1024,
}  # what is fastest, on texts of any length
_WINDOW = 4096  # texts tokenised and sorted at a time: bounds memory, lets progress move; longer ones gain nothing


def fingerprint(folder: Path, max_tokens: int, precision: Precision = "fp32") -> str:
    """Which embeddings a folder makes: 16 hex digits of SHA-256 over graph, weights, tokenizer, length, precision."""
    digest = hashlib.sha256()
    for name in ("model.onnx", WEIGHTS, "tokenizer.json"):
        if name == WEIGHTS and not (folder / name).exists():
            continue
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    digest.update(str(max_tokens).encode())
    if precision != "fp32":
        digest.update(precision.encode())
    return digest.hexdigest()[:16]


class Encoder:
    """An opened encoder folder. Any number of threads may use one at the same time.

    `threads` is how many cores one batch may use (0: all that this process may run on). A batch holds texts of
    similar length, and its rows times its longest text never exceed `token_budget` padded tokens, unless one text
    alone does (None: what is fastest in its precision). `runtime` "auto" is ONNX Runtime, or OpenVINO where the
    folder's precision is bfloat16 and both OpenVINO and the processor have it; elsewhere such a folder is calculated in
    float32. EncoderError when the folder cannot be used, MissingExtra when OpenVINO is asked for and not installed.
    """

    def __init__(
        self, folder: Path, *, threads: int = 0, token_budget: int | None = None, runtime: Runtime = "auto"
    ) -> None:
        folder = Path(folder)
        self._description = _read_description(folder)
        self._tokenizer = _open_tokenizer(folder, self._description.max_tokens)
        outputs = (OUTPUT, LOGITS) if self.labels else (OUTPUT,)
        meant = self._description.precision
        self._run, self.precision = open_graph(folder / "model.onnx", outputs, threads or cores(), runtime, meant)
        """What it calculates in, here."""
        if self.precision != meant:
            Progress().warn(
                f"{folder}: made to calculate in {meant}, which takes OpenVINO and a processor that has it; here it "
                f"calculates in {self.precision}: slower, and probabilities differ by up to about 0.01"
            )
        self._token_budget = token_budget or _TOKEN_BUDGETS[self.precision]
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

        A text's embedding depends on its batch by rounding only (about 1e-6, 4e-3 in bfloat16). `progress` is
        called with the count of texts done and of all texts after each batch. DataError for a single string, or a
        text that is no string or has no UTF-8 form.
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


# The precision


def set_precision(folder: Path, precision: Precision) -> None:
    """Say in an encoder folder which precision its embeddings are made in; its fingerprint follows."""
    path = folder / "encoder.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("precision", "fp32") == precision:
        return  # and the weights are not read again for their fingerprint
    found |= {"precision": precision, "fingerprint": fingerprint(folder, int(found["max_tokens"]), precision)}
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


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
    precision: Precision


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
            precision=_precision(found.get("precision", "fp32")),
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


def _precision(found: object) -> Precision:
    if found not in get_args(Precision):
        raise ValueError(f"precision {found!r}")
    return cast(Precision, found)


def _open_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing narrower
        raise EncoderError(f"cannot read {folder / 'tokenizer.json'} ({error}); export the encoder again") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
