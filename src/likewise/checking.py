"""Whether a model directory is what it should be: checksums, ledger and index held against each other."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from likewise.bundle import Layout, damaged_files, datastore_of, fingerprints, generations, read_decision, read_manifest
from likewise.datastore.ledger import Ledger
from likewise.errors import LikewiseError, ModelDamaged, ModelError
from likewise.state import State, generation_of

CLOSE = 1e-6
"""Relative difference between statistics that followed the ledger and ones made afresh that rounding explains."""


def check(path: str | os.PathLike[str]) -> list[str]:
    """What is wrong with a model directory, a sentence each; empty when it is sound.

    Every immutable file is held against its checksum, the ledger against its own rules and against the generation
    that made its embeddings, the snapshot against the ledger. A snapshot that is missing, behind or of another
    generation is normal. Raises ModelNotFound, ModelForeign or ModelNewer where there is no model to be checked.
    """
    root = Path(path)
    layout = Layout(root)
    try:
        manifest = read_manifest(root)
    except ModelDamaged as error:
        return [str(error)]
    kept = {*generations(layout), manifest.generation}
    found = [sentence for number in sorted(kept) for sentence in damaged_files(layout, number)]
    fingerprint = str(manifest.fit.get("fingerprint", ""))
    try:
        with contextlib.closing(Ledger.open(datastore_of(layout, manifest))) as ledger:
            if ledger.task != manifest.task:
                found.append(f"{layout.datastore}: its task is {ledger.task}, the manifest says {manifest.task}")
            ledger_findings = ledger.damage(fingerprint, fingerprints(layout).values())
            found.extend(ledger_findings)
            if not ledger_findings:
                decision = read_decision(layout, manifest.generation)
                fresh = State(decision, manifest.task, fingerprint, manifest.generation)
                snapshot = State(decision, manifest.task, fingerprint, manifest.generation)
                found.extend(_snapshot(layout.snapshot, snapshot, fresh, ledger))
    except ModelError as error:
        found.append(str(error))
    except LikewiseError as error:
        found.append(f"{layout.datastore}: {error}")
    return found


def _snapshot(path: Path, snapshot: State, fresh: State, ledger: Ledger) -> list[str]:
    if not path.exists() or generation_of(path) not in (None, snapshot.generation):
        return []
    if not snapshot.read(path):
        return [f"{path}: unreadable; delete it, it will be made again"]
    latest = ledger.revision()
    if snapshot.revision > latest:
        return [
            f"{path}: the index is at revision {snapshot.revision}, ahead of its ledger at {latest}: "
            "changes of the ledger were lost; restore datastore.db from a backup, or delete the snapshot"
        ]
    snapshot.follow(ledger, latest)  # both as far as that: others may go on meanwhile
    fresh.follow(ledger, latest)
    if _same(snapshot, fresh) or ledger.erased(latest):  # one may hold what the other found erased
        return []
    return [f"{path}: its index is not what the ledger gives; delete it"]


def _same(snapshot: State, fresh: State) -> bool:
    if snapshot.labels != fresh.labels or len(snapshot) != len(fresh):
        return False
    mine, theirs = snapshot.arrays(), fresh.arrays()
    return (
        all(
            mine[name].shape == theirs[name].shape
            and np.allclose(
                mine[name], theirs[name], rtol=CLOSE, atol=CLOSE * max(1.0, float(np.abs(theirs[name]).max(initial=0)))
            )
            for name in theirs
            if name != "codes"
        )
        and snapshot.label_sets() == fresh.label_sets()
    )
