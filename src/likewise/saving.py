"""Saving a model: an independent copy of its directory, with the datastore and its history, whole or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from likewise.answering import Answering
from likewise.bundle import Layout, Manifest, fingerprints, generations, read_decision, read_manifest, write_manifest
from likewise.card import write_card
from likewise.datastore.ledger import Ledger
from likewise.errors import LedgerBusy
from likewise.files import copy_tree, made_whole

ATTEMPTS = 5
"""How often a copy of the ledger begins anew when the model is refitted or moved under it."""


def save(layout: Layout, ledger: Ledger, answering: Answering, target: Path, *, link: bool) -> None:
    """Write the copy beside its place, flush it to the disk, then give it its name. ModelError when one is there."""
    with made_whole(target) as making:
        copy(layout, ledger, answering, making, link=link)


def copy(layout: Layout, ledger: Ledger, answering: Answering, target: Path, *, link: bool) -> None:
    """Write an independent copy into a directory that does not exist yet, whatever others do to the model meanwhile.

    `link`: share the generations' files with the original, for one whose own names are removed right after.
    """
    other = Layout(target)
    other.root.mkdir()
    other.generation(0).parent.mkdir()
    manifest = _copy_ledger(layout, ledger, answering, other.datastore)
    wanted = generations(layout)
    for number in wanted:
        _copy_generation(layout, other, number, link)
    if generations(other) != wanted:
        _drop_orphans(layout, other, manifest)
    with Ledger.open(other.datastore, read_only=True) as copied:
        with answering.lock:
            state = answering.current()
            if (state.revision, state.generation) == (copied.revision(), manifest.generation):
                state.write(other.snapshot)  # otherwise it is made when the copy is opened
        write_card(other, manifest, read_decision(other, manifest.generation), copied.labels())
    write_manifest(other, replace(manifest, datastore=None))


def _copy_generation(layout: Layout, other: Layout, number: int, link: bool) -> None:
    """Copy one generation, or nothing of it where it is pruned meanwhile."""
    try:
        copy_tree(layout.generation(number), other.generation(number), os.link if link else shutil.copyfile)
    except OSError:
        if layout.generation(number).exists():
            raise
        shutil.rmtree(other.generation(number), ignore_errors=True)


def _drop_orphans(layout: Layout, other: Layout, manifest: Manifest) -> None:
    """Take embeddings out of a copied ledger whose generation was not there any more. LedgerBusy: the one in use."""
    if manifest.generation not in generations(other):
        raise LedgerBusy(f"{layout.root}: it is refitted and pruned faster than it can be copied; try again later")
    with Ledger.open(other.datastore) as copied:
        copied.drop_embeddings(lambda: set(fingerprints(other).values()))


def _copy_ledger(layout: Layout, ledger: Ledger, answering: Answering, target: Path) -> Manifest:
    """Copy the ledger while no other process refits or moves it; the manifest of that moment. LedgerBusy."""
    for _ in range(ATTEMPTS):
        with answering.lock:
            answering.renew()
            manifest = answering.manifest
        ledger.copy_to(target)
        if read_manifest(layout.root) == manifest:
            return manifest
        target.unlink()
    raise LedgerBusy(f"{layout.root}: it is refitted or moved faster than it can be copied; try again later")
