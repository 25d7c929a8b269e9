"""Files -> texts, labels and refs.

The suffix decides the format: JSON Lines (.jsonl, .ndjson, .json), CSV (.csv, .tsv), Parquet (.parquet). "-" is
standard input: JSON Lines where a line begins with "{", otherwise the line is the text. `hf://datasets/OWNER/NAME/FILE`
is a file of a data set on the Hugging Face hub, from the cache where it is there.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from likewise.errors import DataError, MissingExtra, UsageError, suggestion
from likewise.formats import Record, Required, csv_records, json_records, no_column, parquet_records
from likewise.types import Task
from likewise.validation import LONGEST_REF, check_labels, check_text
from likewise.writing import KINDS, STANDARD_OUTPUT, Kind, RowWriter, write_rows

__all__ = [
    "Columns", "Dataset", "Reject", "Row", "RowWriter", "called", "keep_apart", "none_usable", "place",
    "read_examples", "read_rows", "read_texts", "unit", "write_rows",
]  # fmt: skip

STANDARD_INPUT = "-"

_HUB = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<file>.+)")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what.

    `text=None` means that the rows are not about texts (`Row.text` is empty then). `labels=None` means `labels` where
    it is present, else `label`. `ref=None` means that there is no ref. `separator` parts several labels in one cell of
    a CSV file; empty means that a cell is one label.
    """

    text: str | None = "text"
    labels: str | None = None
    ref: str | None = None
    separator: str = "|"

    @property
    def label_names(self) -> tuple[str, ...]:
        """Where labels are looked for, in this order."""
        return ("labels", "label") if self.labels is None else (self.labels,)


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it is needed, and all its columns as they were read.

    `number` is the line on which it starts (Parquet: the row), from 1. `labels` is None where they were not asked for.
    """

    number: int
    text: str
    labels: tuple[str, ...] | None
    ref: str | None
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be used: where, why, and its columns as far as they could be read."""

    number: int
    reason: str
    fields: Mapping[str, object]

    def to_dict(self) -> dict[str, object]:
        """The line of a rejects file."""
        return {"line": self.number, "reason": self.reason, "fields": dict(self.fields)}


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled rows: `texts`, `labels` and `refs` side by side, how many were `rejected`, and the file's name.

    `numbers` are their lines (Parquet: rows) and `place` what `where` puts before them.
    """

    texts: list[str]
    labels: list[tuple[str, ...]]
    refs: list[str | None]
    rejected: int
    source: str
    numbers: list[int] = field(repr=False)
    place: str = field(repr=False)

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, i: int) -> str:
        """Where row i stands, for messages: `reviews.csv, line 17`."""
        return f"{self.place} {self.numbers[i]}"


@dataclass(frozen=True, slots=True)
class _Source:
    """An input: what to call it, its format, and the file (None: standard input)."""

    name: str
    short: str
    kind: Kind
    file: Path | None


_COLUMNS = Columns()


def called(path: str | Path) -> str:
    """What messages call an input."""
    # A Path has lost a slash of hf://.
    return "standard input" if str(path) == STANDARD_INPUT else re.sub("^hf:/+", "hf://", str(path))


def place(path: str | Path) -> str:
    """What messages put before a row's number: `reviews.csv, line`."""
    return f"{called(path)}, {unit(path)}"


def unit(path: str | Path) -> str:
    """What messages call a record of an input."""
    return "row" if KINDS.get(Path(path).suffix.lower()) == "parquet" else "line"


def none_usable(expected: str, rejected: int, first: str) -> str:
    """The sentence about an input without a row that can be used; `first` is the first one's place and reason."""
    if not rejected:
        return f"found no rows, expected {expected}"
    return f"found no row that can be used among {rejected:,}; the first: {first}"


def keep_apart(written: str | Path | None, *read: str | Path | None) -> None:
    """DataError where a file that is to be written is one of those that are read, or lies in a directory of them."""
    if written is None or str(written) == STANDARD_OUTPUT:
        return
    target = os.path.realpath(written)
    for path in (os.path.realpath(path) for path in read if path is not None and str(path) != STANDARD_INPUT):
        if target == path:
            raise DataError(f"{written}: found the file that is read, expected another one to write to")
        if target.startswith(os.path.join(path, "")):
            raise DataError(f"{written}: found a place in the directory that is read, expected one outside of it")


def read_rows(
    path: str | Path, columns: Columns = _COLUMNS, *, need_labels: bool, limit: int
) -> Iterator[Row | Reject]:
    """The rows of a file, one after the other and without reading ahead; a row that cannot be used as a `Reject`.

    `limit` is the longest text (characters). Labels are looked at only where they are needed. DataError at once for a
    file that is not there or of unknown format, and while reading for an empty file or one without a needed column.
    """
    source = _find(path)
    return _rows(source, columns, need_labels, limit)


def read_examples(
    path: str | Path,
    columns: Columns = _COLUMNS,
    *,
    task: Task | None = None,
    rejects: str | Path | None = None,
    limit: int,
) -> Dataset:
    """The labelled rows of a file as a whole. Under the task "single" a row has exactly one label.

    The first row that cannot be used is a DataError, unless there is a file for `rejects`: then such rows are written
    there (JSON Lines: line, reason, fields; an empty file where there are none) and the others count. DataError also
    for a file without a row that can be used; then nothing is written.
    """
    return _dataset(path, columns, "labelled texts", task, rejects, limit)


def read_texts(
    path: str | Path, columns: Columns = _COLUMNS, *, rejects: str | Path | None = None, limit: int
) -> Dataset:
    """The rows of a file as a whole, whose labels are not looked at; the rest is as in `read_examples`."""
    return _dataset(path, columns, "texts", None, rejects, limit)


def _dataset(
    path: str | Path,
    columns: Columns,
    expected: Literal["texts", "labelled texts"],
    task: Task | None,
    rejects: str | Path | None,
    limit: int,
) -> Dataset:
    source, what = _find(path), unit(path)
    keep_apart(rejects, source.file)
    data = Dataset([], [], [], 0, source.short, [], place(path))
    rejected, first = 0, ""
    with contextlib.ExitStack() as stack:
        writer = None if rejects is None else stack.enter_context(RowWriter(rejects, kind="jsonl"))
        for row in _rows(source, columns, expected == "labelled texts", limit, task):
            if isinstance(row, Row):
                data.texts.append(row.text)
                data.labels.append(row.labels or ())
                data.refs.append(row.ref)
                data.numbers.append(row.number)
                continue
            if writer is None:
                raise DataError(f"{data.place} {row.number}: {row.reason}")
            first = first or f"{what} {row.number}: {row.reason}"
            rejected += 1
            writer.write(row.to_dict())
        if not data.texts:
            raise DataError(f"{source.name}: {none_usable(expected, rejected, first)}")
    return Dataset(data.texts, data.labels, data.refs, rejected, data.source, data.numbers, data.place)


def _rows(
    source: _Source, columns: Columns, need_labels: bool, limit: int, task: Task | None = None
) -> Iterator[Row | Reject]:
    required: list[tuple[str, ...]] = [] if columns.text is None else [(columns.text,)]
    if need_labels:
        required.append(columns.label_names)
    if columns.ref is not None:
        required.append((columns.ref,))
    records = _records(source, columns.text, required)
    for record in records if columns.ref is None else _having(columns.ref, records, source.name):
        if record.problem:
            yield Reject(record.number, record.problem, record.fields)
            continue
        try:
            yield _row(record, columns, source.kind, need_labels, limit, task)
        except UsageError as error:
            yield Reject(record.number, str(error), record.fields)


def _having(column: str, records: Iterator[Record], name: str) -> Iterator[Record]:
    """The records, of which any may lack the column; DataError behind the last one where all of them did."""
    others: dict[str, None] = {}
    met = False
    for record in records:
        met = met or column in record.fields
        if not met:
            others.update(dict.fromkeys(record.fields))
        yield record
    if others and not met:
        raise DataError(f"{name}: {no_column((column,), list(others))}")


def _row(record: Record, columns: Columns, kind: Kind, need_labels: bool, limit: int, task: Task | None) -> Row:
    """The record as a row; a UsageError whose message says what is wrong with which column."""
    fields = record.fields
    text = ""
    if columns.text is not None:
        if columns.text not in fields:
            raise DataError(no_column((columns.text,), list(fields)))
        text = check_text(fields[columns.text], f"column {columns.text!r}", limit)
    labels = _labels(fields, columns, kind, task) if need_labels else None
    ref = None if columns.ref is None else _ref(fields.get(columns.ref), columns.ref, kind)
    return Row(record.number, text, labels, ref, fields)


def _labels(fields: Mapping[str, object], columns: Columns, kind: Kind, task: Task | None) -> tuple[str, ...]:
    present = [name for name in columns.label_names if name in fields]
    if not present:
        raise DataError(no_column(columns.label_names, list(fields)))
    # Some files have both columns and fill now one, now the other.
    name = next((name for name in present if not _empty(fields[name], kind)), present[0])
    value, where = fields[name], f"column {name!r}"
    if value is None:
        how = "complete the row" if kind in ("csv", "tsv") else "fill it in, or write [] for a text without labels"
        raise DataError(f"{where}: found no value, expected a label or several; {how}")
    if kind in ("csv", "tsv") and isinstance(value, str):
        parts = value.split(columns.separator) if columns.separator else [value]
        value = [part.strip() for part in parts if part.strip()]
    return check_labels(value, task, where)


def _empty(value: object, kind: Kind) -> bool:
    """Whether a cell holds nothing; in CSV that is an empty string."""
    return value is None or (kind in ("csv", "tsv") and isinstance(value, str) and not value.strip())


def _ref(value: object, name: str, kind: Kind) -> str | None:
    """A reference: a string, or a whole number, which databases like; an empty or missing one is None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a table with a missing value often holds whole numbers as floats
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if kind in ("csv", "tsv") and isinstance(value, str):
        value = value.strip()
    if value is None or value == "" or value != value:
        return None
    if not isinstance(value, str):
        raise DataError(f"column {name!r}: found a {type(value).__name__}, expected a string or a whole number")
    if len(value) > LONGEST_REF:
        raise DataError(
            f"column {name!r}: found {len(value):,} characters, expected a reference of at most {LONGEST_REF:,}"
        )
    return check_text(value, f"column {name!r}", LONGEST_REF)


def _records(source: _Source, text: str | None, required: Required) -> Iterator[Record]:
    if source.file is None:
        yield from json_records(sys.stdin.buffer, source.name, plain=text)
        return
    if source.kind == "parquet":
        yield from parquet_records(source.file, source.name, required)
        return
    try:
        stream = source.file.open("rb")
    except OSError as error:
        raise _unreadable(source.name, error) from error
    with stream:
        try:
            if source.kind == "jsonl":
                yield from json_records(stream, source.name)
            else:
                # Spreadsheets write ";" instead of "," where the comma is the decimal point.
                delimiters = "\t" if source.kind == "tsv" else ",;\t"
                yield from csv_records(stream, source.name, delimiters, required)
        except OSError as error:
            raise DataError(f"{source.name}: cannot be read to its end ({error.strerror}); check the disk") from error


def _find(path: str | Path) -> _Source:
    """What `path` names; DataError where there is no such file, or none of a format that we read."""
    name = called(path)
    if str(path) == STANDARD_INPUT:
        return _Source(name, name, "jsonl", None)
    file, kind = Path(name), KINDS.get(Path(name).suffix.lower())
    try:
        if file.is_dir():
            raise DataError(f"{name}: found a folder, expected a file; name one inside it")
        if kind is None:
            raise DataError(f"{name}: found the suffix {file.suffix!r}, expected one of {', '.join(KINDS)}")
        if name.startswith("hf://"):
            return _Source(name, name, kind, _download(name))
        if not file.exists():
            beside = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
            raise DataError(f"{name}: found no such file{suggestion(file.name, beside) or '; check the path'}")
    except OSError as error:
        raise _unreadable(name, error) from error
    return _Source(name, file.name, kind, file)


def _unreadable(name: str, error: OSError) -> DataError:
    return DataError(f"{name}: cannot be opened ({error.strerror}); check the path and the rights")


def _download(name: str) -> Path:
    """The hub's file, from the cache or the network. Its own errors, which are many, become DataError."""
    match = _HUB.fullmatch(name)
    if match is None:
        raise DataError(f"{name}: expected hf://datasets/OWNER/NAME/FILE, with NAME@REVISION for a revision")
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise MissingExtra(
            "hf:// paths need huggingface_hub, which is not installed; install it with: pip install 'likewise[train]'"
        ) from error
    where: dict[str, Any] = {
        "repo_id": match["repo"], "filename": match["file"], "revision": match["revision"], "repo_type": "dataset"
    }  # fmt: skip
    try:
        return Path(huggingface_hub.hf_hub_download(**where))
    except (OSError, ValueError, EntryNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{name}: could not be fetched ({type(error).__name__}: {reason}); "
            "check the name, the network, or whether it needs a login"
        ) from error
