"""Files as they are: JSON Lines, plain lines, CSV and Parquet, read record by record.

What a record means (text, labels, ref) is `likewise.data`'s matter. Nothing here reads a whole file before it yields
its first record. A record that cannot be read is yielded with a `problem`, and reading goes on behind it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from likewise.errors import DataError, MissingExtra, suggestion

LONGEST_RECORD = 64 * 2**20
"""Bytes (CSV: characters). What is longer is no record but a file of another kind, or a quote that nobody closed."""

PARQUET_MISSING = "Parquet files need pyarrow, which is not installed; install it with: pip install 'likewise[parquet]'"

Required = Sequence[tuple[str, ...]]
"""The columns that a file must have; of the alternatives in one tuple, one will do."""

_ROWS_A_BATCH = 1024
_UNDECODED = re.compile("[\udc80-\udcff]")
_NOT_UTF8 = "expected UTF-8; save the file in that encoding"


@dataclass(frozen=True, slots=True)
class Record:
    """One record: where it starts (line, in Parquet row, from 1), its columns, and why they could not be read."""

    number: int
    fields: dict[str, object]
    problem: str = ""


def no_column(names: Sequence[str], found: Sequence[str]) -> str:
    """The sentence about a missing column: which, what is there, and what may have been meant."""
    wanted = " or ".join(repr(name) for name in names)
    there = ", ".join(repr(name) for name in found[:20]) + (", ..." if len(found) > 20 else "") or "none"
    hint = next(filter(None, (suggestion(name, found) for name in names)), "")
    return f"found no column {wanted}; the columns are {there}{hint or '; name the right one'}"


def json_records(stream: BinaryIO, name: str, plain: str | None = None) -> Iterator[Record]:
    """The records of JSON Lines; blank lines are skipped. DataError for an empty file.

    With `plain`, a line that does not begin with "{" is a record of that one column.
    """
    empty = True
    for number, line in _lines(stream, name):
        if not line.strip():
            continue
        empty = False
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            where = f"0x{line[error.start]:02x}, byte {error.start + 1} of the line"
            yield Record(number, {}, f"found invalid UTF-8 ({where}), {_NOT_UTF8}")
            continue
        if plain is not None and not text.lstrip().startswith("{"):
            yield Record(number, {plain: text.rstrip("\r\n")})
        else:
            yield _json_record(number, text)
    if empty:
        wanted = "an empty file, expected one" if plain is None else "nothing, expected a text or a"
        raise DataError(f"{name}: found {wanted} JSON object a line")


def csv_records(stream: BinaryIO, name: str, delimiters: str, required: Required) -> Iterator[Record]:
    """The records of a CSV file with a header line; a cell that a short row lacks is None.

    The delimiter is the first of `delimiters` under which the header has the required columns. DataError for an empty
    file or a header without them. Raises the csv module's (process-wide) field limit where it is below a record's.

    A quoted cell has to end at a delimiter or a line's end. Where it does not (an inner quote was not doubled, or the
    quote was never closed) only the line on which the record starts is lost: reading goes on with the next one.
    """
    if csv.field_size_limit() < LONGEST_RECORD:
        csv.field_size_limit(LONGEST_RECORD)
    # A text wrapper that is still attached when it is dropped would close the caller's stream.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        lines = _CsvLines(text)
        header, delimiter = _csv_header(lines, name, delimiters, required)
        yield from _csv_rows(lines, header, delimiter)
    finally:
        text.detach()


def _csv_rows(lines: _CsvLines, header: list[str], delimiter: str) -> Iterator[Record]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin()
        problem = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            first = lines.give_back_all_but_first()
            cells = first.rstrip("\r\n").split(delimiter)
            # Tab-separated files are often written without any quoting: then the quote belongs to the text.
            if delimiter != "\t" or len(cells) != len(header):
                cells = []
                problem = "found a quoted cell that does not end where its quote does; double the quotes inside a cell"
        if not cells and not problem:
            continue
        fields: dict[str, object] = {key: cells[i] if i < len(cells) else None for i, key in enumerate(header)}
        if (bad := lines.undecoded()) is not None:
            problem = f"found invalid UTF-8 (byte 0x{bad:02x}), {_NOT_UTF8}"
        elif any(cells[len(header) :]):
            problem = (
                f"found {len(cells)} cells, expected {len(header)} as in the header; "
                "put a cell that holds the delimiter in quotes"
            )
        yield Record(lines.start, fields if cells else {}, problem)


def parquet_records(path: Path, name: str, required: Required) -> Iterator[Record]:
    """The rows of a Parquet file, read in batches. DataError where it is none or lacks a column; MissingExtra."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra(PARQUET_MISSING) from error
    try:
        with pq.ParquetFile(path) as file:
            check_columns(list(file.schema_arrow.names), required, name)
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_A_BATCH):
                for fields, problem in _batch_rows(_without_nanoseconds(batch)):
                    number += 1
                    yield Record(number, fields, problem)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: cannot be read as Parquet ({reason}); write the file anew") from error


def check_columns(found: Sequence[str], required: Required, name: str) -> None:
    """DataError unless `found` has one of each group of required columns, and has it once."""
    for names in required:
        present = [candidate for candidate in names if candidate in found]
        if not present:
            raise DataError(f"{name}: {no_column(names, found)}")
        if found.count(present[0]) > 1:
            raise DataError(f"{name}: found {found.count(present[0])} columns {present[0]!r}, expected one; rename one")


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers from 1, the first one without its byte-order mark."""
    number = 0
    while line := stream.readline(LONGEST_RECORD):
        number += 1
        if len(line) == LONGEST_RECORD and not line.endswith(b"\n"):
            longest = f"{LONGEST_RECORD // 2**20} MiB"
            raise DataError(f"{name}, line {number}: found over {longest} without a line break, expected JSON Lines")
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{name}: found UTF-16, {_NOT_UTF8}")
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield number, line


def _json_record(number: int, text: str) -> Record:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg}, character {error.pos + 1}"
        return Record(number, {}, f"found a line that is not JSON ({reason}), expected a JSON object{_array(text)}")
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        return Record(number, {}, f"found JSON that cannot be read ({reason}), expected an object with a text")
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", type(None): "null", bool: "a truth value"}.get(type(value), "a number")
        return Record(number, {}, f"found {kind}, expected a JSON object{_array(text)}")
    return Record(number, value)


def _array(text: str) -> str:
    """The hint for whoever has one JSON array instead of lines."""
    return "; write one object a line, without brackets around them" if text.lstrip().startswith("[") else ""


class _CsvLines:
    """The physical lines of a CSV file, for csv.reader, which can be given back from the present record on.

    Bytes that are no UTF-8 become lone surrogates (PEP 383), so that they spoil one record and not the file.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._given_back: deque[str] = deque()
        self._record: list[str] = []
        self._size = 0
        self.start = 1
        """The line on which the present record starts."""

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else self._text.readline(LONGEST_RECORD)
        if not line:
            raise StopIteration
        self._record.append(line)
        self._size += len(line)
        if self._size >= LONGEST_RECORD:
            raise csv.Error("record too long")
        return line

    def begin(self) -> None:
        """A new record starts here."""
        self.start += len(self._record)
        self._record, self._size = [], 0

    def give_back_all_but_first(self) -> str:
        """End the present record behind its first line, which is returned."""
        self._given_back.extendleft(reversed(self._record[1:]))
        self._record = self._record[:1]
        return self._record[0]

    def give_back(self) -> None:
        """Take the present record back as a whole."""
        self._given_back.extendleft(reversed(self._record))
        self._record, self._size = [], 0

    def undecoded(self) -> int | None:
        """The present record's first byte that is no UTF-8."""
        for line in self._record:
            if not line.isascii() and (match := _UNDECODED.search(line)):
                return ord(match[0]) - 0xDC00
        return None

    def are_utf16(self) -> bool:
        """Whether the present record begins with UTF-16's byte-order mark."""
        return self._record[0].startswith(("\udcff\udcfe", "\udcfe\udcff"))


def _csv_header(lines: _CsvLines, name: str, delimiters: str, required: Required) -> tuple[list[str], str]:
    """The column names, without spaces around them, repeats numbered; and the delimiter."""
    headers: dict[str, list[str]] = {}
    for delimiter in delimiters:
        cells: list[str] = []
        try:
            while not cells:
                lines.begin()
                cells = next(csv.reader(lines, delimiter=delimiter, strict=True))
        except StopIteration:
            raise DataError(f"{name}: found an empty file, expected a header line and rows") from None
        except csv.Error:
            cells = []
        if (bad := lines.undecoded()) is not None:
            found = "UTF-16" if lines.are_utf16() else f"invalid UTF-8 (byte 0x{bad:02x})"
            raise DataError(f"{name}, line {lines.start}: found {found}, {_NOT_UTF8}")
        headers[delimiter] = [cell.strip() for cell in cells]
        if all(any(column in headers[delimiter] for column in names) for names in required):
            break
        lines.give_back()
    else:
        delimiter = max(headers, key=lambda candidate: len(headers[candidate]))
        if not headers[delimiter]:
            raise DataError(f"{name}, line {lines.start}: found a quote that does not end, expected a header line")
    check_columns(headers[delimiter], required, name)
    return _numbered(headers[delimiter]), delimiter


def _numbered(names: Sequence[str]) -> list[str]:
    """The columns' names, each once: one that was there before gets a number that makes it no other's."""
    columns: list[str] = []
    for name in names:
        column, repeat = name, 2
        while column in columns or (column != name and column in names):
            column, repeat = f"{name}_{repeat}", repeat + 1
        columns.append(column)
    return columns


def _without_nanoseconds(batch: Any) -> Any:
    """The batch with times cut to microseconds, which Python's own datetime can hold (pyarrow would need pandas)."""
    import pyarrow as pa

    for i, column in enumerate(batch.schema):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            cut = batch.column(i).cast(pa.timestamp("us", column.type.tz), safe=False)
            batch = batch.set_column(i, column.name, cut)
    return batch


def _batch_rows(batch: Any) -> Iterator[tuple[dict[str, object], str]]:
    """The rows of a record batch, repeated columns numbered; where a value cannot be read, only its row is lost."""
    batch = batch.rename_columns(_numbered(batch.schema.names))
    try:
        rows = batch.to_pylist()
    except ValueError:
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0], ""
            except UnicodeDecodeError as error:
                yield {}, f"found invalid UTF-8 (byte 0x{error.object[error.start]:02x}), {_NOT_UTF8}"
            except ValueError as error:
                yield {}, f"found a value that cannot be read ({' '.join(str(error).split())})"
    else:
        for row in rows:
            yield row, ""
