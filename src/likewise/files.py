"""Files and folders that are there whole or not at all, also after a kill or a power loss."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from likewise.errors import ModelError

MANIFEST = "likewise.json"
"""The file that makes a directory a model."""


def edition(found: os.stat_result) -> tuple[int, int, int]:
    """What tells a file from the one that stands under its name once that is written anew."""
    return found.st_ino, found.st_mtime_ns, found.st_size


def write_json(path: Path, content: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, also after a power loss."""
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_atomically(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write beside `path`, flush to the disk, then take the name. `mode`: who may use the file, from the start."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)  # what a killed process left there may be for others to read
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    """Write a safetensors file; OSError, and nothing left behind, where it cannot be written."""
    try:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata=metadata)
    except SafetensorError as error:  # which says no more of what the disk said than its words
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise OSError(f"{path}: cannot be written ({error})") from error


def sync(path: Path) -> None:
    """Make a file's contents, or the names in a folder, survive a power loss."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """The same for a folder with everything below it."""
    for path in (folder, *folder.rglob("*")):
        sync(path)


@contextlib.contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """A folder beside `target` to be filled; it is flushed to the disk and gets that name, or goes again on an error.

    Links are followed. ModelError where something is there already, but for an empty directory.
    """
    refuse_taken(target)
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    making = _making(target)
    shutil.rmtree(making, ignore_errors=True)
    try:
        yield making
        sync_all(making)
        os.replace(making, target)  # an empty directory gives way; the name changes in one step
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    sync(target.parent)


def _making(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.saving")


def copy_tree(source: Path, target: Path, place: Callable[[str, str], object]) -> None:
    """Put every file of a folder into a new one with `place`, or by copying it where that is refused.

    The new folders may be written, whatever the old ones may.
    """

    def copy(a: str, b: str) -> None:
        try:
            place(a, b)
        except OSError:  # another disk has no links to this one
            shutil.copyfile(a, b)

    shutil.copytree(source, target, copy_function=copy)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IRWXU)


def temporary_root() -> Path:
    """A new empty directory for a model that is not saved yet."""
    return Path(tempfile.mkdtemp(prefix="likewise-"))


def refuse_inside(target: Path) -> None:
    """ModelError where a path, links followed, lies in a model's directory."""
    for folder in Path(os.path.realpath(target)).parents:
        if (folder / MANIFEST).is_file():
            raise ModelError(f"{target}: lies in a model, {folder}; choose another path")


def refuse_taken(target: Path) -> None:
    """ModelError unless a model can be written to `target`: to nothing, or an empty directory, and in no model."""
    place = Path(os.path.realpath(target))
    refuse_inside(target)
    try:
        if place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
            raise ModelError(f"{target}: there is something already; choose another path, or remove it first")
        if place.exists() and place.samefile(os.curdir):
            raise ModelError(f"{target}: is the working directory, which cannot give way; choose another path")
        above = next(folder for folder in place.parents if folder.exists())
        with contextlib.suppress(FileNotFoundError):
            _making(above / place.name).lstat()  # whether there can be such a name
    except OSError as error:
        raise ModelError(f"{target}: cannot be made ({error.strerror}); choose another path") from error
    try:
        with tempfile.TemporaryDirectory(prefix=".likewise-", dir=above):  # rights do not tell of a place such as /proc
            pass
    except OSError as error:
        reason = f"because {above} may not be written ({error.strerror})"
        raise ModelError(f"{target}: cannot be made, {reason}; choose another path") from error


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
