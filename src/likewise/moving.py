"""Moving a model's datastore: from its directory to a server, to another server, or back."""

from __future__ import annotations

from dataclasses import replace

from likewise.answering import Answering
from likewise.bundle import Layout, read_manifest, require_unmoved, write_manifest
from likewise.datastore.ledger import Ledger, is_url, require_room
from likewise.errors import LedgerBusy, ModelForeign, UsageError

FILE = "sqlite"
"""What stands for the file in the model directory, in the place of a URL."""


def move(layout: Layout, ledger: Ledger, answering: Answering, place: str, by: str, note: str | None) -> int:
    """Move the datastore with its history; the revision that says so.

    Processes that have the model open from this directory follow. UsageError for a place that cannot be, ModelForeign
    where a datastore is already, LedgerAway where the server cannot be reached.
    """
    answering.renew()
    if place == FILE:
        if not is_url(ledger.name):
            raise UsageError("the datastore is in the model directory already")
    elif is_url(place):
        require_room(place)
    else:
        raise UsageError(f"datastore: found {place!r}, expected postgresql://user@host/database, or {FILE!r}")
    target, named = (layout.datastore, None) if place == FILE else (place, place)

    def switch() -> None:
        now = read_manifest(layout.root)  # a refit elsewhere may have written it
        require_unmoved(now, answering.manifest)
        write_manifest(layout, replace(now, datastore=named))

    def make_room() -> None:
        if place == FILE:
            _make_room(layout)

    with answering.lock:
        left_file = not is_url(ledger.name)
        revision = ledger.move_to(target, switch, make_room=make_room, by=by, note=note)
        answering.renew()
    if left_file:
        _scrub_left(layout, revision, answering.settings.lock_timeout)
    return revision


def _scrub_left(layout: Layout, revision: int, lock_timeout: float) -> None:
    """Rewrite the file that a move has left. LedgerBusy, saying that the move itself is done, while others read it."""
    try:
        with Ledger.open(layout.datastore, lock_timeout=lock_timeout) as left:
            left.scrub()
    except LedgerBusy as error:
        raise LedgerBusy(
            f"the datastore was moved at revision {revision}, but another process reads {layout.datastore}, whose free "
            "pages still hold the texts; delete the file when that has ended"
        ) from error


def require_free(place: str) -> None:
    """Raise, before any work, where a datastore could not be moved to: UsageError, ModelForeign or LedgerAway."""
    if not is_url(place):
        raise UsageError(f"datastore: found {place!r}, expected postgresql://user@host/database")
    require_room(place)


def _make_room(layout: Layout) -> None:
    """Remove the empty file that an earlier move left."""
    if not layout.datastore.exists():
        return
    with Ledger.open(layout.datastore, read_only=True) as left:
        if left.moved() is None:
            raise ModelForeign(f"{layout.datastore}: a datastore with examples is there; move it away first")
    for suffix in ("", "-wal", "-shm"):
        layout.datastore.with_name(layout.datastore.name + suffix).unlink(missing_ok=True)
