"""Saving a model: an independent copy of its directory, with the datastore and its history, whole or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from likewise.answering import Answering
from likewise.bundle import Layout, copy_tree, generations, made_whole, write_manifest
from likewise.card import write_card
from likewise.datastore.ledger import Ledger


def save(layout: Layout, ledger: Ledger, answering: Answering, target: Path, *, link: bool) -> None:
    """Write the copy beside its place, flush it to the disk, then give it its name. ModelError when one is there.

    Hold the answering's lock, so that the snapshot is of the datastore's revision.
    """
    with made_whole(target) as making:
        copy(layout, ledger, answering, making, link=link)


def copy(layout: Layout, ledger: Ledger, answering: Answering, target: Path, *, link: bool) -> None:
    """Write an independent copy into a directory that does not exist yet.

    `link`: share the generations' files with the original, for one whose own names are removed right after.
    """
    other = Layout(target)
    other.root.mkdir()
    other.generation(0).parent.mkdir()
    for number in generations(layout):
        copy_tree(layout.generation(number), other.generation(number), os.link if link else shutil.copyfile)
    ledger.copy_to(other.datastore)
    answering.write_snapshot(other)
    write_card(other, answering.manifest, answering.decision, ledger.labels())
    write_manifest(other, replace(answering.manifest, datastore=None))
