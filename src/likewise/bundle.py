"""The model directory: layout, generations, checksums.

likewise.json             what the directory is; written last, atomically
generations/0001/         immutable; checksums.json names every other file of it with its SHA-256
  encoder/                a sentence-transformers folder, for further training
  encoder/onnx/           what answers
  decision.safetensors    whitening; tuned values in its header
datastore.db              the ledger
snapshot/state.safetensors   derived: index and head statistics with their revision; may be deleted
README.md                 the model card
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_args

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from likewise.decision.head import HeadSettings, LinearHead
from likewise.decision.tuning import Tuned
from likewise.decision.whitening import Whitening
from likewise.errors import LedgerError, ModelDamaged, ModelForeign, ModelNewer, ModelNotFound
from likewise.files import MANIFEST, copy_tree, digest, sync, sync_all, write_arrays, write_json
from likewise.types import Task

FORMAT = 1


@dataclass(frozen=True)
class Layout:
    """Where everything lies in a model directory."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def datastore(self) -> Path:
        return self.root / "datastore.db"

    @property
    def snapshot(self) -> Path:
        return self.root / "snapshot" / "state.safetensors"

    @property
    def card(self) -> Path:
        return self.root / "README.md"

    def generation(self, number: int) -> Path:
        return self.root / "generations" / f"{number:04d}"

    def encoder(self, number: int) -> Path:
        return self.generation(number) / "encoder"

    def onnx(self, number: int) -> Path:
        return self.encoder(number) / "onnx"

    def decision(self, number: int) -> Path:
        return self.generation(number) / "decision.safetensors"

    def checksums(self, number: int) -> Path:
        return self.generation(number) / "checksums.json"


@dataclass(frozen=True)
class Manifest:
    """What likewise.json holds."""

    generation: int
    task: Task
    recipe: str
    encoder: str
    settings: Mapping[str, Any]
    fit: Mapping[str, Any]
    format: int = FORMAT
    datastore: str | None = None
    """The URL of a ledger that is on a server, without a password; None: the file in the directory."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What a generation decides with: the whitening with all its dimensions, the tuned values, and the head where one
    was trained with the encoder."""

    whitening: Whitening
    tuned: Tuned
    head: LinearHead | None = None

    @property
    def labels(self) -> set[str]:
        """The labels that it knows by name, as they were at its revision."""
        return {*self.tuned.thresholds, *self.tuned.head.maps, *(self.head.labels if self.head else ())}


def write_manifest(layout: Layout, manifest: Manifest) -> None:
    """Write likewise.json: from here on the directory is a model of this generation."""
    write_json(layout.manifest, asdict(manifest))


def datastore_of(layout: Layout, manifest: Manifest) -> str | Path:
    """Where the ledger is."""
    return manifest.datastore or layout.datastore


def require_unmoved(now: Manifest, known: Manifest) -> None:
    """LedgerError where the datastore was moved since the manifest was `known`: nobody would follow a change to it."""
    if now.datastore != known.datastore:
        place = now.datastore or "the model directory"
        raise LedgerError(f"the datastore was moved to {place} meanwhile, nothing was changed; try again")


def read_manifest(root: Path) -> Manifest:
    """The manifest of a model directory.

    ModelNotFound, ModelForeign (no likewise.json), ModelNewer (a later format), ModelDamaged (cannot be read).
    """
    if not root.exists():
        raise ModelNotFound(f"{root}: no such model directory; make one with: likewise fit {root} DATA")
    path = Layout(root).manifest
    if not root.is_dir() or not path.is_file():
        raise ModelForeign(f"{root}: not a Likewise model (no likewise.json in it); expected a directory made by fit")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise ModelForeign(f"{path}: not a Likewise manifest; expected a JSON object with a format number")
        if content["format"] > FORMAT:
            raise ModelNewer(
                f"{root}: written in format {content['format']}, this Likewise reads up to {FORMAT}; upgrade likewise"
            )
        manifest = Manifest(**content)
        _require_types(manifest)
        return manifest
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise ModelDamaged(f"{path}: cannot be read ({error}); restore it from a backup") from error


def _require_types(manifest: Manifest) -> None:
    """TypeError where something in a manifest is not what its type says."""
    wanted: dict[str, tuple[type, ...]] = {
        "generation": (int,), "task": (str,), "recipe": (str,), "encoder": (str,), "settings": (dict,), "fit": (dict,),
        "format": (int,), "datastore": (str, NoneType),
    }  # fmt: skip
    for name, kinds in wanted.items():
        if type(value := getattr(manifest, name)) not in kinds:
            raise TypeError(f"{name}: found {value!r}, expected {' or '.join(kind.__name__ for kind in kinds)}")
    if manifest.task not in get_args(Task):
        raise TypeError(f"task: found {manifest.task!r}, expected {' or '.join(get_args(Task))}")
    if not isinstance(manifest.fit.get("fingerprint"), str):
        raise TypeError("fit: found no fingerprint of the encoder")


def write_generation(
    layout: Layout, number: int, *, encoder: Path, decision: Decision, info: Mapping[str, Any]
) -> None:
    """Write an immutable generation: complete under a name of its own first, then renamed.

    `encoder` is a sentence-transformers folder with its export in `onnx/`; it is copied.
    """
    final = layout.generation(number)
    making = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    copy_tree(encoder, making / "encoder", shutil.copyfile)
    _write_decision(making / "decision.safetensors", decision)
    write_json(making / "info.json", info)
    _write_checksums(making)
    sync_all(making)
    making.rename(final)
    sync(final.parent)


def generations(layout: Layout) -> list[int]:
    """The numbers of the generations that are there."""
    return sorted(int(path.name) for path in layout.generation(0).parent.glob("[0-9]*") if path.name.isdecimal())


def fingerprints(layout: Layout) -> dict[int, str]:
    """The fingerprint of each generation's encoder, as far as it can be read."""
    found = {}
    for number in generations(layout):
        with contextlib.suppress(OSError, ValueError, KeyError):
            info = json.loads((layout.generation(number) / "info.json").read_text(encoding="utf-8"))
            found[number] = str(info["fingerprint"])
    return found


def drop_generations(layout: Layout, before: int) -> list[int]:
    """Remove the generations before one, and what interrupted refits left of them; the numbers of those removed.

    Later ones stay: a refit may be about to answer from them.
    """
    gone = [number for number in generations(layout) if number < before]
    unfinished = [path for path in layout.generation(before).parent.glob(".[0-9]*") if _number_of(path) <= before]
    for folder in map(layout.generation, gone):  # whole or not at all under its name, for whoever copies it now
        unfinished.append(folder.rename(folder.with_name(f".{folder.name}.{os.getpid()}")))
    for folder in unfinished:
        shutil.rmtree(folder)
    return gone


def _number_of(unfinished: Path) -> int:
    return int(unfinished.name.split(".")[1])


def keep_labels(layout: Layout, number: int, known: Collection[str]) -> None:
    """Take all labels but the known ones out of a generation's tuned values: the one change that it ever undergoes.

    A kill at any moment leaves something that the same call completes.
    """
    path = layout.decision(number)
    for left in path.parent.glob(".decision.*"):
        left.unlink(missing_ok=True)
    decision = read_decision(layout, number)
    tuned, head, trained = decision.tuned, decision.tuned.head, decision.head
    if decision.labels <= set(known):
        return
    head = replace(head, maps={label: its for label, its in head.maps.items() if label in known})
    thresholds = {label: its for label, its in tuned.thresholds.items() if label in known}
    tuned = replace(tuned, head=head, thresholds=thresholds)
    beside = path.with_name(f".decision.{os.getpid()}")
    try:
        _write_decision(beside, replace(decision, tuned=tuned, head=trained.only(known) if trained else None))
        sync(beside)
        # First the checksum: as long as the old file has not given way, the labels say what is still to be done.
        write_json(layout.checksums(number), {**_read_checksums(layout, number), path.name: digest(beside)})
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync(path.parent)


def _write_checksums(folder: Path) -> None:
    path = folder / "checksums.json"
    files = sorted(one for one in folder.rglob("*") if one.is_file() and one != path)
    write_json(path, {str(one.relative_to(folder)): digest(one) for one in files})


def _read_checksums(layout: Layout, number: int) -> dict[str, str]:
    """The SHA-256 of every file of a generation as it was written, by name; ModelDamaged."""
    path = layout.checksums(number)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelDamaged(f"{path}: cannot be read ({error}); restore it from a backup") from error


def _write_decision(path: Path, decision: Decision) -> None:
    arrays: dict[str, NDArray[Any]] = {"mean": decision.whitening.mean}
    if decision.whitening.matrix is not None:
        arrays["matrix"] = decision.whitening.matrix
    header = asdict(decision.tuned)
    if math.isinf(decision.tuned.temperature):
        header["temperature"] = None  # JSON has no infinity
    metadata = {"decision": json.dumps(header)}
    if trained := decision.head:
        arrays.update({"head.weights": trained.weights, "head.bias": trained.bias})
        metadata["head"] = json.dumps({"labels": trained.labels, "task": trained.task})
    write_arrays(path, arrays, metadata)


def read_decision(layout: Layout, number: int) -> Decision:
    """The whitening and tuned values of a generation; ModelDamaged when they cannot be read."""
    path = layout.decision(number)
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads(file.metadata()["decision"])
            trained = json.loads(file.metadata().get("head", "null"))
            arrays = {name: cast("NDArray[Any]", file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        head = header.pop("head")
        header.setdefault("revision", (trained or {}).get("revision", 1))  # models of before had it with the head
        head["maps"] = {label: (float(a), float(b)) for label, (a, b) in head["maps"].items()}
        head["pooled_map"] = tuple(head["pooled_map"])
        if header["temperature"] is None:
            header["temperature"] = math.inf
        return Decision(
            Whitening(arrays["mean"], arrays.get("matrix")),
            Tuned(head=HeadSettings(**head), **header),
            _trained_head(trained, arrays) if trained else None,
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelDamaged(f"{path}: cannot be read ({error}); restore it from a backup") from error


def _trained_head(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> LinearHead:
    return LinearHead(header["labels"], arrays["head.weights"], arrays["head.bias"], header["task"])


def damaged_files(layout: Layout, number: int) -> list[str]:
    """What is wrong with the files of a generation, a sentence each; empty when every byte is as it was written."""
    folder = layout.generation(number)
    try:
        expected = _read_checksums(layout, number)
    except ModelDamaged as error:
        return [str(error)]
    found = []
    for name, checksum in expected.items():
        if not (folder / name).is_file():
            found.append(f"{folder / name}: missing")
        elif digest(folder / name) != checksum:
            found.append(f"{folder / name}: altered (its SHA-256 is not the one in checksums.json)")
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    found.extend(
        f"{folder / name}: not part of the generation" for name in sorted(present - {*expected, "checksums.json"})
    )
    return found
