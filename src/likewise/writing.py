"""Rows -> files: JSON Lines, CSV or Parquet, whole or not at all.

Rows are written one by one and never held together in memory. A file appears under its name only when it is complete:
until then it grows beside it under a name of its own. CSV and Parquet need to know every column first, so their rows
wait on the disk as JSON Lines until the last one has come.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

from likewise.errors import DataError, MissingExtra
from likewise.formats import PARQUET_MISSING

Kind = Literal["jsonl", "csv", "tsv", "parquet"]
"""A file's format."""

KINDS: Mapping[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
"""The format by suffix, in reading and in writing."""

STANDARD_OUTPUT = "-"

_ROWS_A_BATCH = 1024
_EXACT = 2**53  # the greatest whole number up to which a float holds them all
_SURROGATE = re.compile("[\ud800-\udfff]")


def write_rows(path: str | Path, rows: Iterable[Mapping[str, object]], *, separator: str = "|") -> int:
    """Write rows to a file in the format of its suffix, or to standard output ("-") as JSON Lines; how many.

    Errors as in `RowWriter`.
    """
    with RowWriter(path, separator=separator) as writer:
        for row in rows:
            writer.write(row)
    return writer.count


class RowWriter:
    """Writes rows to a file that appears when the `with` block ends well, and not at all otherwise.

    Columns are all those of any row, in order of appearance; a row without one has null there (CSV: an empty cell).
    In CSV a list of strings is joined by `separator` and what else is no plain value is JSON. In Parquet a column holds
    truth values, whole numbers, numbers, strings or lists of strings if all its values are such (of numbers that are
    not all whole, a float has to hold each exactly); otherwise strings, with JSON for what is none. Dates are ISO
    strings; NaN and infinities are null; lone surrogates, which no UTF-8 file can hold, are escaped in JSON and
    replaced elsewhere. Standard output ("-") takes JSON Lines, each row at once.

    DataError for an unknown suffix, for a place that cannot be written, for a column's name that is no string, and for
    a string in a joined list that holds the separator; MissingExtra where Parquet needs pyarrow.
    """

    def __init__(self, path: str | Path, *, kind: Kind | None = None, separator: str = "|") -> None:
        self.count = 0
        """How many rows have been written."""
        self._path: Path | None = None
        self._kind: Kind = "jsonl"
        self._separator = separator
        self._columns: dict[str, set[str]] = {}
        if str(path) == STANDARD_OUTPUT:
            return
        self._path = Path(path)
        found = kind or KINDS.get(self._path.suffix.lower())
        if found is None:
            raise DataError(f"{path}: found the suffix {self._path.suffix!r}, expected one of {', '.join(KINDS)}")
        try:
            # Behind a symbolic link it is the file that is replaced, and not the link.
            self._target = self._path.resolve()
            in_the_way = self._target.exists() and not self._target.is_file()
        except OSError as error:
            raise self._unwritable(error) from error
        if in_the_way:
            raise DataError(f"{path}: found something that is no file, expected a file's name to write to")
        if found == "parquet":
            _pyarrow()
        self._kind = found

    def __enter__(self) -> RowWriter:
        if self._path is None:
            self._out: BinaryIO = sys.stdout.buffer
            return self
        self._spool = self._target.with_name(f".{self._target.name[:40]}.{secrets.token_hex(4)}.tmp")
        try:
            self._out = self._spool.open("xb")
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def write(self, row: Mapping[str, object]) -> None:
        """Add a row."""
        keys: Iterable[object] = row
        for key in keys:
            if not isinstance(key, str):
                raise DataError(f"{self._name}: found a column {key!r}, expected a name (a string); give it one")
        if self._kind in ("csv", "tsv"):
            self._check_separator(row)
        line = _json(row)
        try:
            self._out.write(line.encode("utf-8") + b"\n")
            if self._path is None:
                self._out.flush()
        except BrokenPipeError:
            raise  # whoever reads our standard output has seen enough; not the user's mistake
        except OSError as error:
            raise self._unwritable(error) from error
        if self._kind != "jsonl":
            for key, value in row.items():
                self._columns.setdefault(key, set()).add(_type(value))
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._path is None:
            return
        converted = self._spool.with_suffix(".out")
        try:
            with self._out:
                if kind is not None:
                    return
                self._out.flush()
                if self._kind == "jsonl":
                    os.fsync(self._out.fileno())
            finished = self._spool
            if self._kind != "jsonl":
                self._convert(converted)
                finished = converted
            if self._target.exists():
                shutil.copymode(self._target, finished)
            os.replace(finished, self._target)
        except OSError as problem:
            raise self._unwritable(problem) from problem
        finally:
            self._spool.unlink(missing_ok=True)
            converted.unlink(missing_ok=True)

    def _convert(self, to: Path) -> None:
        """The spooled rows in the format that was asked for."""
        with self._spool.open("rb") as spool, to.open("xb") as out:
            rows = (json.loads(line) for line in spool)
            if self._kind == "parquet":
                self._write_parquet(rows, out)
            else:
                self._write_csv(rows, out)
            out.flush()
            os.fsync(out.fileno())

    def _write_csv(self, rows: Iterator[dict[str, object]], out: BinaryIO) -> None:
        text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
        # The csv module's own line end (RFC 4180) is also what makes it quote a lone "\r".
        writer = csv.writer(text, delimiter="\t" if self._kind == "tsv" else ",", lineterminator="\r\n")
        writer.writerow([_clean(key) for key in self._columns])
        for row in rows:
            writer.writerow([self._cell(row.get(key)) for key in self._columns])
        text.detach()

    def _write_parquet(self, rows: Iterator[dict[str, object]], out: BinaryIO) -> None:
        pa, pq = _pyarrow()
        kinds = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "list": pa.list_(pa.string())}
        chosen = {key: _column_type(types) for key, types in self._columns.items()}
        schema = pa.schema([(_clean(key), kinds.get(kind, pa.string())) for key, kind in chosen.items()])
        with pq.ParquetWriter(out, schema) as writer:
            while batch := list(islice(rows, _ROWS_A_BATCH)):
                columns = [[_fit(row.get(key), kind) for row in batch] for key, kind in chosen.items()]
                writer.write_batch(
                    pa.record_batch([pa.array(c, type=t.type) for c, t in zip(columns, schema, strict=True)], schema)
                )

    def _cell(self, value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return _clean(value)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return _clean(self._separator.join(value))
        return _clean(_json(value))

    def _check_separator(self, row: Mapping[str, object]) -> None:
        for key, value in row.items():
            if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                continue
            if len(value) > 1 if not self._separator else any(self._separator in item for item in value):
                raise DataError(
                    f"{self._path}: found {list(value)!r} in column {key!r}, expected values that can be joined by "
                    f"{self._separator!r}; choose another separator, or write JSON Lines"
                )

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(f"{self._name}: cannot be written ({error.strerror}); choose another place")

    @property
    def _name(self) -> str:
        return str(self._path or "standard output")


def _json(value: object) -> str:
    """One line of JSON without NaN; lone surrogates escaped, because UTF-8 cannot hold them."""
    try:
        line = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        value = _finite(value)
        line = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    return json.dumps(value, default=_plain) if not line.isascii() and _SURROGATE.search(line) else line


def _plain(value: object) -> object:
    """What json cannot write: numpy's values as Python's, a mapping as a dict, and dates and the rest as strings."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _finite(value: object) -> object:
    """The value with None for NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _type(value: object) -> str:
    """What a value is to a Parquet column; empty for None, which fits everywhere."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) <= _EXACT else "long" if -(2**63) <= value < 2**63 else "json"
    if isinstance(value, list | tuple):
        return "list" if all(isinstance(item, str) for item in value) else "json"
    return "float" if isinstance(value, float) else "str" if isinstance(value, str) else "json"


def _column_type(types: set[str]) -> str:
    """The narrowest type of a column whose values have these types."""
    types = types - {""}
    if types == {"int", "float"}:
        return "float"
    if "long" in types and types <= {"int", "long"}:
        return "int"
    return next(iter(types)) if len(types) == 1 else "str"


def _fit(value: object, kind: str) -> object:
    """A value for a column of this type."""
    if value is None or kind in ("bool", "int", "float"):
        return value
    if kind == "list" and isinstance(value, list):
        return [_clean(item) for item in value]
    return _clean(value if isinstance(value, str) else _json(value))


def _clean(text: str) -> str:
    return text if text.isascii() else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(PARQUET_MISSING) from error
    return pyarrow, pyarrow.parquet
