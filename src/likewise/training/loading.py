"""A folder of weights -> a SentenceTransformer that is ready to be trained or exported."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from torch import nn
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from likewise.errors import EncoderError
from likewise.training.determinism import drawing
from likewise.training.modules.two_encoders import TwoEncoders
from likewise.training.modules.words import WordNetwork
from likewise.training.scratch import read_network
from likewise.types import Pooling as PoolingChoice

_TALKATIVE = ("transformers", "sentence_transformers", "huggingface_hub", "torch.onnx")
_MISSING = re.compile(r"^(?P<weight>[\w.{}, ]+?)\s*\|\s*(?:MISSING|MISMATCH)\b", re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FOLDER = "a sentence-transformers or transformers folder"

POOLING_MODES: dict[str, Literal["mean", "cls", "lasttoken"]] = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
"""The poolings that can be chosen, and sentence-transformers' names for them."""


def load(folder: Path, *, pooling: PoolingChoice = "auto") -> SentenceTransformer:
    """Load a sentence-transformers folder, or a plain transformers folder, on the CPU in float32, without network.

    `pooling` "auto" keeps the folder's own way, which is the mean where it has none; "mean", "cls" and "last" (the last
    attended token's state, for families whose summary token stands last) replace it. A closing Normalize module is
    taken off, since normalisation is the recipe's matter, and no prompt is put before a text by default. The longest
    text the model takes never exceeds its position embeddings.
    EncoderError when the folder cannot be read, lacks weights, or does not turn text into token embeddings.
    """
    with reading(folder, "encoder", _FOLDER) as said:
        model = (
            read_network(folder)
            or _read_two_encoders(folder)
            or SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
        )
    _check_complete(folder, said)
    _check_reads_text(folder, model)
    strip_normalisation(model)
    if not isinstance(model[0], WordNetwork | TwoEncoders):  # they have their own way
        _set_pooling(folder, model, pooling)
    model.tokenizer.padding_side = "right"  # padding on the left would shift absolute positions, batch by batch
    model.default_prompt_name = None
    model.float()
    model.max_seq_length = token_limit(model)
    return model.eval()


@contextmanager
def reading(folder: Path, what: str, expected: str) -> Iterator[list[str]]:
    """Read weights or a tokenizer from a folder inside this block; yields what the libraries log, as it comes.

    Weights that a folder may lack (an unused pooler) are drawn at random: always the same ones, and without touching
    the caller's generator. EncoderError when there is no such folder or the block fails; the line says that a `what`
    was looked for and an `expected` folder would be one.
    """
    if not folder.is_dir():
        raise EncoderError(f"no {what} folder at {folder}; expected {expected}")
    try:
        with quiet() as said, drawing(0):
            yield said
    except Exception as error:  # what the libraries and pickle raise has nothing narrower in common
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(
            f"cannot read the {what} in {folder} ({type(error).__name__}: {reason}); "
            f"expected {expected} of this version's kind"
        ) from error


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a plain transformers folder, without network.

    EncoderError when there is none: transformers itself would make an empty one, to which every word is unknown.
    """
    with reading(folder, "tokenizer", "a transformers folder"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    names = {"tokenizer.json", *type(tokenizer).vocab_files_names.values()}
    if not any((folder / name).is_file() for name in names):
        raise EncoderError(f"no tokenizer in {folder}; expected one of {', '.join(sorted(names))}: save it there too")
    return tokenizer


def summary_pooling(folder: Path) -> Literal["cls", "last"]:
    """Which token of a plain transformers folder sums a text up: the first ("cls", as BERT's) or the last (XLNet's).

    It is where the folder's tokenizer puts its classification token. EncoderError when it puts none at either end.
    """
    tokenizer = read_tokenizer(folder)
    ids = tokenizer("a")["input_ids"]
    ends = [ids[0], ids[-1]] if ids else []
    if tokenizer.cls_token_id is None or tokenizer.cls_token_id not in ends:
        raise EncoderError(
            f"the tokenizer in {folder} puts no classification token first or last; choose pooling 'mean', or 'last' "
            f"for a model that reads from left to right"
        )
    return "cls" if ids[0] == tokenizer.cls_token_id else "last"


def strip_normalisation(model: SentenceTransformer) -> None:
    """Take closing Normalize modules off the model, in place."""
    while len(model) > 0 and isinstance(model[-1], Normalize):
        del model[-1]


def token_limit(model: SentenceTransformer) -> int:
    """The longest text, in tokens with the special ones, that the model takes.

    The least of its own setting and its position embeddings. A model with relative positions (XLNet, T5) has none of
    these; where its tokenizer sets no limit either, the limit is transformers' own sign for that, some 10^30, and the
    caller's is what counts. EncoderError when nothing is set at all.
    """
    limits = [limit for limit in (model.max_seq_length, position_limit(model)) if limit is not None and limit > 0]
    if not limits:
        raise EncoderError(
            "the encoder names no greatest length; set `max_seq_length` in its sentence_bert_config.json"
        )
    return min(limits)


def position_limit(network: nn.Module) -> int | None:
    """How many tokens the position embeddings of a network reach; None where it has none.

    Models whose padding has a position (RoBERTa, MPNet) number their tokens from behind it, so that many rows of the
    table are never reached.
    """
    limits = []
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - skipped)
    return min(limits, default=None)


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep the libraries' bars, advice and warnings off the screen; yields what they log, as it comes.

    Works on the process's loggers and warning filters, which are as before afterwards.
    """
    said: list[str] = []
    collector = _Collector(said)
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [(logger, list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for logger in loggers:
        logger.handlers, logger.propagate = [collector], False
        logger.setLevel(logging.WARNING)  # a user's stricter level would hide what load has to read
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield said
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


class _Collector(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


def _read_two_encoders(folder: Path) -> SentenceTransformer | None:
    """Two encoders and the layers behind them, from a folder that a `TwoEncoders` begins; None for any other folder."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return None
    first, *behind = json.loads(listed.read_text(encoding="utf-8"))
    if first["type"] != f"{TwoEncoders.__module__}.{TwoEncoders.__qualname__}":
        return None
    encoders = [list(load(folder / name)) for name in TwoEncoders.FOLDERS]
    kinds = [layer["type"].rpartition(".")[2] for layer in behind]
    layers = [
        Dense.load(str(folder), subfolder=layer["path"], local_files_only=True)
        for layer, kind in zip(behind, kinds, strict=True)
        if kind != "Normalize"  # taken off anyway
    ]
    return SentenceTransformer(modules=[TwoEncoders(*encoders), *layers], device="cpu")


def _check_complete(folder: Path, said: list[str]) -> None:
    """transformers draws weights that a folder lacks at random and only logs it; we refuse, but for a pooler."""
    report = _COLOUR.sub("", "\n".join(said))
    lacking = [match["weight"].strip() for match in _MISSING.finditer(report)]
    lacking = [weight for weight in lacking if "pooler" not in weight.split(".")]
    if lacking:
        raise EncoderError(
            f"the encoder in {folder} lacks weights or has them in another shape "
            f"({', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}); copy it again, whole"
        )


def _check_reads_text(folder: Path, model: SentenceTransformer) -> None:
    first = model[0] if len(model) else None
    reads = isinstance(first, WordNetwork | TwoEncoders) or (
        isinstance(first, Transformer) and first.module_output_name == "token_embeddings"
    )
    if not reads or model.tokenizer is None:
        found = "nothing" if first is None else type(first).__name__
        raise EncoderError(
            f"the encoder in {folder} begins with {found}, which yields no token embeddings; "
            f"expected a transformer that reads text"
        )


def _set_pooling(folder: Path, model: SentenceTransformer, pooling: PoolingChoice) -> None:
    found = [module for module in model if isinstance(module, Pooling)]
    if pooling == "summary":
        pooling = "auto" if (folder / "modules.json").is_file() else summary_pooling(folder)
    if pooling == "auto":
        if found:
            return
        pooling = "mean"
    width = cast(Transformer, model[0]).get_embedding_dimension()
    replacement = Pooling(width, POOLING_MODES[pooling])
    if not found:
        model.insert(1, replacement)
    elif found[0].pooling_output_dimension != width and len(model) > 2:
        raise EncoderError(
            f"the encoder in {folder} pools by {found[0].pooling_mode} into layers of its own, so pooling {pooling!r} "
            f"cannot replace it; leave the pooling to the encoder"
        )
    else:
        for i, module in enumerate(model):
            if isinstance(module, Pooling):
                model[i] = replacement
