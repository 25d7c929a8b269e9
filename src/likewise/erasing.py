"""Erasing examples: out of the ledger, and out of every other file of the model directory.

The ledger's one exception to keeping everything, for privacy law. In this order, so that a kill at any moment leaves
something that erasing the same examples again completes:

1. one transaction takes texts, labels, refs and embeddings out of the tables, and writes that an erasure is under way
2. the database file is rewritten without its free pages, its WAL emptied
3. labels that no example has or ever had any more leave the tuned values of every generation, and the model card
4. the snapshot is made afresh
5. the ledger says that the erasure is complete

What it cannot reach is for the caller to say: `BEYOND`.
"""

from __future__ import annotations

from collections.abc import Sequence

from likewise.answering import Answering
from likewise.bundle import Layout, generations, keep_labels
from likewise.card import write_card
from likewise.datastore.ledger import Ledger
from likewise.errors import LedgerBusy, LedgerError, LikewiseError
from likewise.types import Erasure

BEYOND = (
    "the encoder's trained weights (`likewise refit MODEL` makes others, `likewise refit MODEL --prune` removes these)",
    "backups, copies and exports of the model",
    "a database server's own log and its backups, where the datastore is on a server",
    "what other processes hold in memory until their next answer",
)
"""What an erasure does not reach."""


def erase(
    layout: Layout, ledger: Ledger, answering: Answering, ids: Sequence[int], by: str, note: str | None
) -> Erasure:
    """Erase examples from a model directory. ExampleError, LedgerBusy, LedgerReadOnly, LedgerFull.

    An error after the first step says that the erasure is to be completed by the same call.
    """
    answering.renew()
    erasure = ledger.erase(ids, by=by, note=note)
    try:
        layout.snapshot.unlink(missing_ok=True)
        ledger.scrub()
        known = ledger.labels_ever()
        for number in generations(layout):
            keep_labels(layout, number, known)
        with answering.lock:
            answering.reread_decision()
            answering.write_snapshot(layout)
            if layout.card.exists():
                write_card(layout, answering.manifest, answering.decision, ledger.labels())
        ledger.complete(erasure.revision)
    except (LikewiseError, OSError) as error:
        kind = LedgerBusy if isinstance(error, LedgerBusy) else LedgerError
        raise kind(
            f"the examples were erased at revision {erasure.revision}, but not yet from every file ({error}); "
            "erase the same examples again to complete it"
        ) from error
    return erasure
