"""Every error that Likewise raises on purpose.

    LikewiseError                  whatever we foresaw; the command line ends with status 2
    ├── UsageError (ValueError)    what was asked cannot be done as asked
    │   ├── DataError              a file, a row, a text or a column is not what it should be
    │   ├── LabelError             a label is malformed, or not what the task wants
    │   │   ├── LabelUnknown       no example has it
    │   │   └── LabelTaken         it is there already
    │   ├── ExampleError           no such example, or it was forgotten
    │   │   └── ExampleChanged     it was changed after the revision that the caller has seen
    │   ├── RevisionError          there is no such revision
    │   ├── SettingError           unknown or ill-typed setting, recipe or option
    │   └── EncoderError           an encoder cannot be found, read or trusted
    ├── ModelError                 a model directory cannot be used
    │   ├── ModelNotFound          nothing there
    │   ├── ModelForeign           something else is there
    │   ├── ModelNewer             written by a newer Likewise
    │   └── ModelDamaged           a file is missing, cut short or altered
    ├── LedgerError                a change could not be recorded; nothing was written
    │   ├── LedgerAway             the server that keeps the ledger cannot be reached
    │   ├── LedgerBusy             another process holds the write lock
    │   ├── LedgerReadOnly         the ledger may not be written
    │   └── LedgerFull             the disk is full
    └── MissingExtra (ImportError) an optional dependency is not installed

A message says what was found, what was expected and what to do next, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LikewiseError(Exception):
    """Base of every error that Likewise raises on purpose."""


class UsageError(LikewiseError, ValueError):
    """What was asked cannot be done as asked; nothing was changed."""


class DataError(UsageError):
    """A file, row, text or column is not what it should be."""


class LabelError(UsageError):
    """A label is malformed, unknown, or already there."""


class LabelUnknown(LabelError):
    """No example has this label."""


class LabelTaken(LabelError):
    """A label of this name is there already."""


class ExampleError(UsageError):
    """No example has this id, or it was forgotten."""


class ExampleChanged(ExampleError):
    """An example was changed after the revision that the caller has seen."""


class RevisionError(UsageError):
    """There is no such revision."""


class SettingError(UsageError):
    """A setting, recipe or option is unknown or has the wrong type."""


class EncoderError(UsageError):
    """An encoder cannot be found, read or trusted."""


class ModelError(LikewiseError):
    """A model directory cannot be used."""


class ModelNotFound(ModelError):
    """No model directory there."""


class ModelForeign(ModelError):
    """The directory holds something that is not a Likewise model."""


class ModelNewer(ModelError):
    """The model directory was written by a newer Likewise."""


class ModelDamaged(ModelError):
    """A file of the model directory is missing, cut short or altered."""


class LedgerError(LikewiseError):
    """A change could not be recorded; nothing was written."""


class LedgerAway(LedgerError):
    """The server that keeps the ledger cannot be reached; it may be there again soon."""


class LedgerUnsure(LedgerAway):
    """The server was lost in the moment of a commit: the change may be there or not."""


class LedgerMoved(LedgerError):
    """The datastore is not where it was opened: it was moved, replaced or removed. Opening the model again helps."""


class LedgerBusy(LedgerError):
    """Another process held the write lock for longer than we wait."""


class LedgerReadOnly(LedgerError):
    """The ledger may not be written by this user, or was opened read-only."""


class LedgerFull(LedgerError):
    """The disk is full."""


class MissingExtra(LikewiseError, ImportError):
    """An optional dependency is needed and not installed."""


def suggestion(found: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close to the one found, otherwise an empty string."""
    close = difflib.get_close_matches(found, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
