from __future__ import annotations

import csv
import datetime
import io
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from likewise import formats
from likewise.data import Columns, Reject, Row, RowWriter, keep_apart, read_examples, read_rows, read_texts, write_rows
from likewise.errors import DataError, MissingExtra

LIMIT = 1_000_000


def put(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def table(folder: Path, columns: dict[str, Any], name: str = "data.parquet", **how: Any) -> Path:
    path = folder / name
    pq.write_table(pa.table(columns), path, **how)
    return path


def rows_of(path: Path, columns: Columns | None = None, *, need_labels: bool = True) -> list[Row | Reject]:
    return list(read_rows(path, columns or Columns(), need_labels=need_labels, limit=LIMIT))


def outline(rows: list[Row | Reject]) -> list[tuple[int, str, tuple[str, ...] | str | None]]:
    """Line, text and labels of a row; line, "reject" and reason of a reject."""
    return [(r.number, r.text, r.labels) if isinstance(r, Row) else (r.number, "reject", r.reason) for r in rows]


# Files that end in an error: (name, content, what the message says after the path).
BAD_FILES: dict[str, tuple[str, bytes | str, str]] = {
    "empty jsonl": ("a.jsonl", b"", ": found an empty file, expected one JSON object a line"),
    "blank jsonl": ("a.jsonl", b"\n \r\n\n", ": found an empty file"),
    "empty csv": ("a.csv", b"", ": found an empty file, expected a header line and rows"),
    "blank csv": ("a.csv", b"\xef\xbb\xbf\r\n\r\n", ": found an empty file"),
    "header only": ("a.csv", b"text,label\r\n", ": found no rows, expected labelled texts"),
    "csv without text": (
        "a.csv",
        b"txt,label\na,b\n",
        ": found no column 'text'; the columns are 'txt', 'label'; did you mean 'txt'?",
    ),
    "csv without labels": (
        "a.csv",
        b"text,topic\na,b\n",
        ": found no column 'labels' or 'label'; the columns are 'text', 'topic'; name the right one",
    ),
    "csv with text twice": ("a.csv", b"text,label,text\na,b,c\n", ": found 2 columns 'text', expected one"),
    "jsonl without text": ("a.jsonl", b'{"label": "a"}\n', ", line 1: found no column 'text'; the columns are 'label'"),
    "jsonl without labels": ("a.jsonl", b'{"text": "a", "lable": "b"}\n', ", line 1: found no column 'labels' or"),
    "not json": (
        "a.jsonl",
        b'{"text": "a", "label": "b"}\n\n{"text": a}\n',
        ", line 3: found a line that is not JSON (Expecting value, character 10), expected a JSON object",
    ),
    "a json array": ("a.json", b'[\n{"text": "a", "label": "b"}\n]\n', ", line 1: found a line that is not JSON"),
    "an array on one line": ("a.json", b'[{"text": "a"}]', ", line 1: found a list, expected a JSON object; write one"),
    "a json string": ("a.jsonl", b'"text"\n', ", line 1: found a string, expected a JSON object"),
    "deep json": ("a.jsonl", b"[" * 200_000 + b"]" * 200_000, ", line 1: found JSON that cannot be read (nested"),
    "a huge number": ("a.jsonl", b'{"n": ' + b"1" * 5000 + b"}", ", line 1: found JSON that cannot be read (a number"),
    "number as label": ("a.jsonl", b'{"text": "a", "label": 3}', ", line 1: column 'label': found 3 (int), expected"),
    "number in labels": (
        "a.jsonl",
        b'{"text": "a", "labels": ["b", 3]}',
        ", line 1: column 'labels': found the label 3 (int), expected a string",
    ),
    "null label": ("a.jsonl", b'{"text": "a", "label": null}', ", line 1: column 'label': found no value, expected a"),
    "empty label": ("a.jsonl", b'{"text": "a", "label": " "}', ", line 1: column 'label': found an empty label"),
    "number as text": ("a.jsonl", b'{"text": 3, "label": "b"}', ", line 1: column 'text': found 3 (int), expected a"),
    "empty text": ("a.jsonl", b'{"text": "", "label": "b"}', ", line 1: column 'text': found an empty text"),
    "whitespace text": (
        "a.csv",
        "text,label\nok,b\n \t\u00a0 ,b\n",
        ", line 3: column 'text': found a text of nothing",
    ),
    "10 MB text": (
        "a.csv",
        b"text,label\n" + b"word " * 2_000_000 + b",b\n",
        ", line 2: column 'text': the text has 10,000,000 characters, at most 1,000,000 are expected",
    ),
    "10 MB text in jsonl": (
        "a.jsonl",
        b'{"text": "' + b"word " * 2_000_000 + b'", "label": "b"}',
        ", line 1: column 'text': the text has 10,000,000 characters",
    ),
    "latin-1 csv": ("a.csv", b"text,label\nok,b\ncaf\xe9,b\n", ", line 3: found invalid UTF-8 (byte 0xe9), expected"),
    "latin-1 header": ("a.csv", b"text,cat\xe9gorie\nok,b\n", ", line 1: found invalid UTF-8 (byte 0xe9), expected"),
    "latin-1 jsonl": (
        "a.jsonl",
        b'{"text": "caf\xe9", "label": "b"}',
        ", line 1: found invalid UTF-8 (0xe9, byte 14 of the line), expected",
    ),
    "utf-16 csv": ("a.csv", "text,label\na,b\n".encode("utf-16"), ", line 1: found UTF-16, expected UTF-8"),
    "utf-16 jsonl": ("a.jsonl", '{"text": "a"}\n'.encode("utf-16"), ": found UTF-16, expected UTF-8"),
    "nul in csv": ("a.csv", b"text,label\na\0b,c\n", ", line 2: column 'text': the text holds a NUL (character 2)"),
    "nul in jsonl": ("a.jsonl", rb'{"text": "a\u0000", "label": "b"}', ", line 1: column 'text': the text holds a NUL"),
    "nul in label": ("a.jsonl", rb'{"text": "a", "label": "\u0000"}', ", line 1: column 'label': a label holds a NUL"),
    "lone surrogate": ("a.jsonl", rb'{"text": "a\ud83d", "label": "b"}', ", line 1: column 'text': the text holds a l"),
    "surrogate label": ("a.jsonl", rb'{"text": "a", "labels": ["\udc00"]}', ", line 1: column 'labels': a label holds"),
    "too many cells": ("a.csv", b"text,label\na, b,c\n", ", line 2: found 3 cells, expected 2 as in the header"),
    "too few cells": ("a.csv", b"text,id,label\na,1\n", ", line 2: column 'label': found no value, expected a label"),
    "inner quotes": ("a.csv", b'text,label\n"a "b" c",d\n', ", line 2: found a quoted cell that does not end where"),
    "open quote": ("a.csv", b'text,label\nok,a\n"b,c\nd,e\n', ", line 3: found a quoted cell that does not end"),
    "open quote in header": ("a.csv", b'"text,label\nok,a\n', ", line 1: found a quote that does not end, expected"),
    "not parquet": ("a.parquet", b"PAR1 nothing of the sort", ": cannot be read as Parquet ("),
    "empty parquet": ("a.parquet", b"", ": cannot be read as Parquet ("),
    "another format": ("a.xlsx", b"", ": found the suffix '.xlsx', expected one of .jsonl, .ndjson, .json, .csv, .tsv"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_ends_in_one_clear_line(tmp_path: Path, case: str) -> None:
    name, content, says = BAD_FILES[case]
    path = put(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        read_examples(path, Columns(), limit=LIMIT)
    message = str(caught.value)
    assert message.startswith(f"{path}{says}")
    assert "\n" not in message and len(message) < len(str(path)) + 300
    message.encode("utf-8")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    put(tmp_path, "reviews.csv", "text,label\n")
    with pytest.raises(DataError, match=r"found no such file; did you mean 'reviews\.csv'\?"):
        read_rows(tmp_path / "review.csv", need_labels=True, limit=LIMIT)
    with pytest.raises(DataError, match="found no such file; check the path"):
        read_rows(tmp_path / "none" / "a.csv", need_labels=True, limit=LIMIT)
    for name in ("folder.csv", "folder"):
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match=f"{name}: found a folder"):
            read_rows(tmp_path / name, need_labels=True, limit=LIMIT)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that everybody may read, seen by a user who is not root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no users and rights here")
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        Path(folder).chmod(0o755 if root else 0o700)
        put(Path(folder), "secret.csv", "text,label\na,b\n").chmod(0)
        if root:
            os.seteuid(65534)
        else:
            Path(folder).chmod(0o500)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)
            Path(folder).chmod(0o700)


def test_without_the_right_to_read_or_write(as_nobody: Path) -> None:
    with pytest.raises(DataError, match=r"secret\.csv: cannot be opened \(Permission denied\)"):
        read_examples(as_nobody / "secret.csv", limit=LIMIT)
    with pytest.raises(DataError, match=r"out\.csv: cannot be written \(Permission denied\)"):
        write_rows(as_nobody / "out.csv", [{"a": 1}])


def test_paths_that_no_file_system_knows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        read_examples(tmp_path / ("x" * 300 + ".csv"), limit=LIMIT)
    with pytest.raises(DataError, match="cannot be written"):
        write_rows(tmp_path / ("x" * 300 + ".csv"), [])
    write_rows(tmp_path / ("\U0001f600" * 60 + ".jsonl"), [{"a": 1}])


# CSV as it is met: (content, columns, rows).
CSV = {
    "byte-order mark, CRLF": ("\ufefftext,label\r\na,b\r\n", Columns(), [(2, "a", ("b",))]),
    "bare CR": ("text,label\ra,b\rc,d\r", Columns(), [(2, "a", ("b",)), (3, "c", ("d",))]),
    "no newline at the end": ("text,label\na,b", Columns(), [(2, "a", ("b",))]),
    "quoted line breaks": (
        'text,label\r\n"a\r\nb\n""c""",d\r\ne,f\r\n',
        Columns(),
        [(2, 'a\r\nb\n"c"', ("d",)), (5, "e", ("f",))],
    ),
    "line separators of Unicode": (
        "text,label\na\u2028b\x85c\x0bd\x0ce,f\n",
        Columns(),
        [(2, "a\u2028b\x85c\x0bd\x0ce", ("f",))],
    ),
    "blank lines": ("\n\ntext,label\n\na,b\n\n\nc,d\n\n", Columns(), [(5, "a", ("b",)), (8, "c", ("d",))]),
    "extra columns": (",label,text,\n0,b,a,x\n", Columns(), [(2, "a", ("b",))]),
    "repeated extra columns": ("x,text,x,label\n1,a,2,b\n", Columns(), [(2, "a", ("b",))]),
    "empty cells behind the header": ("text,label\na,b,,\n", Columns(), [(2, "a", ("b",))]),
    "short row that has what is needed": ("text,label,note\na,b\n", Columns(), [(2, "a", ("b",))]),
    "spaces around names": ("id , text, label\n1,a,b\n", Columns(), [(2, "a", ("b",))]),
    "empty label cell": ("text,labels\na,\nb, \nc,|\n", Columns(), [(2, "a", ()), (3, "b", ()), (4, "c", ())]),
    "several labels": ("text,labels\na, y | x |y|\n", Columns(), [(2, "a", ("x", "y"))]),
    "another separator": ("text,labels\na,y|z;x\n", Columns(separator=";"), [(2, "a", ("x", "y|z"))]),
    "no separator": ("text,label\na,x|y\n", Columns(separator=""), [(2, "a", ("x|y",))]),
    "labels before label": ("text,label,labels\na,x,y\n", Columns(), [(2, "a", ("y",))]),
    "now one column filled, now the other": ("text,labels,label\na,x,\nb,,y\nc,,\n", Columns(), [(2, "a", ("x",)),
                                                                                   (3, "b", ("y",)), (4, "c", ())]),
    "columns by name": ("body,topic\na,b\n", Columns(text="body", labels="topic"), [(2, "a", ("b",))]),
    "words that others take for missing": ("text,label\nNA,null\nNone,nan\n", Columns(), [(2, "NA", ("null",)),
                                                                                      (3, "None", ("nan",))]),
    "semicolons": ("text;label\n1,5 litres;b\n", Columns(), [(2, "1,5 litres", ("b",))]),
    "tabs in a csv": ("text\tlabel\na, b\tc\n", Columns(), [(2, "a, b", ("c",))]),
    "quotes inside a cell": ('text,label\na 5" nail,b\n', Columns(), [(2, 'a 5" nail', ("b",))]),
    "a text keeps its spaces": ("text,label\n  a  ,b\n", Columns(), [(2, "  a  ", ("b",))]),
    "a text of 200,000 characters": ("text,label\n" + "x" * 200_000 + ",b\n", Columns(), [(2, "x" * 200_000, ("b",))]),
}  # fmt: skip


@pytest.mark.parametrize("case", CSV)
def test_csv_as_it_is_met(tmp_path: Path, case: str) -> None:
    content, columns, expected = CSV[case]
    assert outline(rows_of(put(tmp_path, "a.csv", content), columns)) == expected


def test_csv_goes_on_behind_a_bad_row(tmp_path: Path) -> None:
    lines = [
        b"text,label,id",  # 1
        b"a,x,1",
        b'"never closed,x,2',  # 3: swallows nothing but itself
        b"b,x,3",
        b'"c",y,4',
        b'"two\nlines",y,5',  # 6, 7
        b'"inner "quotes" undoubled",y,6',  # 8
        b"caf\xe9,x,7",
        b"d,x,8,9",  # 10
        b"e",
        b"f,x",  # 12
        b"g,x,10",
    ]
    rows = rows_of(put(tmp_path, "a.csv", b"\n".join(lines)), Columns(ref="id"))
    assert [r.number for r in rows if isinstance(r, Reject)] == [3, 8, 9, 10, 11]
    assert [(r.number, r.text, r.ref) for r in rows if isinstance(r, Row)] == [
        (2, "a", "1"),
        (4, "b", "3"),
        (5, "c", "4"),
        (6, "two\nlines", "5"),
        (12, "f", None),
        (13, "g", "10"),
    ]


def test_a_quote_that_never_ends_costs_one_row_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "LONGEST_RECORD", 1000)
    content = 'text,label\n"open,x\n' + "ok,x\n" * 5000
    rows = rows_of(put(tmp_path, "a.csv", content))
    assert outline(rows)[0][:2] == (2, "reject")
    assert [r.number for r in rows[1:]] == list(range(3, 5003))
    assert all(isinstance(r, Row) for r in rows[1:])


def test_a_file_of_another_kind_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "LONGEST_RECORD", 2**20)
    with pytest.raises(DataError, match=r"line 1: found over 1 MiB without a line break"):
        read_examples(put(tmp_path, "a.jsonl", b"x" * 2**20), limit=LIMIT)
    with pytest.raises(DataError, match="line 1: found a quote that does not end"):
        read_examples(put(tmp_path, "a.csv", b"x" * 2**20), limit=LIMIT)


def test_fields_are_all_columns_as_read(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "text,label,,x,x\na, b ,1,2,\nc,d\n")
    assert [dict(r.fields) for r in rows_of(path)] == [
        {"text": "a", "label": " b ", "": "1", "x": "2", "x_2": ""},
        {"text": "c", "label": "d", "": None, "x": None, "x_2": None},
    ]
    path = put(tmp_path, "a.jsonl", '{"text": "a", "label": "b", "n": {"m": [1, null]}}')
    assert [dict(r.fields) for r in rows_of(path)] == [{"text": "a", "label": "b", "n": {"m": [1, None]}}]


def test_tsv(tmp_path: Path) -> None:
    content = 'text\tlabels\n"quoted\ttab"\tx\n"It\'s fine" is no praise\tx|y\na, b\t\n'
    assert outline(rows_of(put(tmp_path, "a.tsv", content))) == [
        (2, "quoted\ttab", ("x",)),
        (3, '"It\'s fine" is no praise', ("x", "y")),
        (4, "a, b", ()),
    ]


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        '\ufeff{"text": "a", "labels": ["y", "x", "y"]}\r',
        "",
        '{"text": "b", "label": "x"}',
        '{"text": "c", "label": ["x"], "labels": null}',
        '{"text": "d", "labels": "x|y"}',
        '{"text": "e", "labels": []}',
        '{"text": "\\ud83d\\ude00 \\u2028", "label": "x", "score": NaN}',
    ]
    path = put(tmp_path, "a.NDJSON", "\n".join(lines))
    assert outline(rows_of(path)) == [
        (1, "a", ("x", "y")),
        (3, "b", ("x",)),
        (4, "c", ("x",)),
        (5, "d", ("x|y",)),
        (6, "e", ()),
        (7, "😀 \u2028", ("x",)),
    ]


def test_labels_are_not_looked_at_unless_needed(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '{"text": "a", "label": 3}\n{"text": "b"}\n')
    assert outline(rows_of(path, need_labels=False)) == [(1, "a", None), (2, "b", None)]
    path = put(tmp_path, "a.csv", "text\na\n")
    assert outline(rows_of(path, need_labels=False)) == [(2, "a", None)]


def test_refs(tmp_path: Path) -> None:
    content = "".join(json.dumps({"text": "a", "label": "b", "id": ref}) + "\n" for ref in ("r1", 17, 3.0, "", None))
    content += '{"text": "a", "label": "b"}\n{"text": "a", "label": "b", "id": [1]}\n{"text": "a", "label": "b", "id": '
    content += 'true}\n{"text": "a", "label": "b", "id": "' + "x" * 1001 + '"}\n'
    rows = rows_of(put(tmp_path, "a.jsonl", content), Columns(ref="id"))
    assert [r.ref if isinstance(r, Row) else r.reason for r in rows] == [
        "r1", "17", "3", None, None, None,
        "column 'id': found a list, expected a string or a whole number",
        "column 'id': found a bool, expected a string or a whole number",
        "column 'id': found 1,001 characters, expected a reference of at most 1,000",
    ]  # fmt: skip
    path = put(tmp_path, "a.csv", "id,text,label\n 7 ,a,b\n,a,b\n")
    assert [r.ref for r in rows_of(path, Columns(ref="id")) if isinstance(r, Row)] == ["7", None]
    with pytest.raises(DataError, match=r"found no column 'idx'; the columns are 'id', .* did you mean 'id'"):
        rows_of(path, Columns(ref="idx"))


def test_a_column_of_refs_that_no_line_has_is_named(tmp_path: Path) -> None:
    lines = '{"text": "a", "label": "b"}\n{"text": "c", "label": "b", "ref": "r1"}\n'
    path = put(tmp_path, "a.jsonl", lines)
    assert [r.ref for r in rows_of(path, Columns(ref="ref")) if isinstance(r, Row)] == [None, "r1"]
    with pytest.raises(DataError, match=r"a\.jsonl: found no column 'rfe'; .* 'label', 'ref'; did you mean 'ref'\?"):
        read_examples(path, Columns(ref="rfe"), rejects=tmp_path / "rejects.jsonl", limit=LIMIT)
    assert not (tmp_path / "rejects.jsonl").exists()
    nulls = put(tmp_path, "b.jsonl", '{"text": "a", "label": "b", "ref": null}\n')
    assert read_examples(nulls, Columns(ref="ref"), limit=LIMIT).refs == [None]


def test_parquet(tmp_path: Path) -> None:
    path = table(tmp_path, {"text": ["a", "b", None, "d", ""], "labels": [["y", "x"], [], ["x"], None, ["x"]]})
    assert outline(rows_of(path)) == [
        (1, "a", ("x", "y")),
        (2, "b", ()),
        (3, "reject", "column 'text': found a missing value, expected a text (a string); remove it or fill it in"),
        (4, "reject", "column 'labels': found no value, expected a label or several; fill it in, or write [] for a "
            "text without labels"),
        (5, "reject", "column 'text': found an empty text, expected words; remove it or fill it in"),
    ]  # fmt: skip
    path = table(tmp_path, {"text": pa.array(["a", "b"]).dictionary_encode(), "label": ["x|y", "z"], "id": [1, None]})
    rows = rows_of(path, Columns(ref="id"))
    assert outline(rows) == [(1, "a", ("x|y",)), (2, "b", ("z",))]
    assert [r.ref for r in rows if isinstance(r, Row)] == ["1", None]
    with pytest.raises(DataError, match=r"data\.parquet, row 1: column 'label': found 1 \(int\)"):
        read_examples(table(tmp_path, {"text": ["a"], "label": [1]}), limit=LIMIT)
    with pytest.raises(DataError, match=r"data\.parquet: found no column 'text'; the columns are 'txt'"):
        read_examples(table(tmp_path, {"txt": ["a"]}), limit=LIMIT)
    with pytest.raises(DataError, match=r"data\.parquet: found no rows"):
        read_examples(table(tmp_path, {"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), limit=9)


def test_parquet_numbers_repeated_columns(tmp_path: Path) -> None:
    names = ["text", "x", "x", "x_2", "x"]
    pq.write_table(pa.Table.from_arrays([pa.array([name]) for name in "abcde"], names), tmp_path / "a.parquet")
    (row,) = rows_of(tmp_path / "a.parquet", need_labels=False)
    assert row.fields == {"text": "a", "x": "b", "x_3": "c", "x_2": "d", "x_4": "e"}


def test_parquet_loses_only_the_row_that_cannot_be_read(tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"caf\xe9", b"fine"]).view(pa.string())
    times = pa.array([1, 2, 3], pa.timestamp("ns"))
    rows = rows_of(table(tmp_path, {"text": broken, "label": ["x", "x", "y"], "at": times}))
    assert [(r.number, type(r)) for r in rows] == [(1, Row), (2, Reject), (3, Row)]
    assert isinstance(rows[1], Reject) and rows[1].reason.startswith("found invalid UTF-8 (byte 0xe9)")
    assert rows[0].fields["at"] == datetime.datetime(1970, 1, 1)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path, {"text": ["a"], "label": ["b"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"pip install 'likewise\[parquet\]'"):
        read_examples(path, limit=LIMIT)
    with pytest.raises(MissingExtra, match=r"pip install 'likewise\[parquet\]'"):
        write_rows(tmp_path / "out.parquet", [{"a": 1}])
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    ("name", "lines"),
    [("a.jsonl", [b'{"text": "a"}\n', b'{"text": "b"}\n']), ("a.csv", [b'text\n"a"\n', b"b\n"])],
)
def test_rows_come_before_the_file_ends(tmp_path: Path, name: str, lines: list[bytes]) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    go_on = threading.Event()

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(lines[0])
            go_on.wait(30)
            pipe.write(lines[1])

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    rows = read_rows(path, need_labels=False, limit=LIMIT)
    first = next(rows)  # would wait for ever if the whole file were read first
    assert isinstance(first, Row) and first.text == "a"
    assert not go_on.is_set()
    go_on.set()
    assert [row.text for row in rows if isinstance(row, Row)] == ["b"]
    writer.join(30)


def test_parquet_is_read_in_batches(tmp_path: Path) -> None:
    path = table(tmp_path, {"text": [f"t{i}" * 50 for i in range(6000)]}, row_group_size=2000, compression="none")
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 5000] = b"\xff" * 5000
    path.write_bytes(content)
    rows = read_rows(path, need_labels=False, limit=LIMIT)
    assert isinstance(next(rows), Row)  # although the middle of the file is damaged
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        for _ in rows:
            pass


def test_rejects_go_to_their_file(tmp_path: Path) -> None:
    content = b'text,label\na,x\n,x\ncaf\xe9,x\n"open,x\nb,y\n'
    path, rejects = put(tmp_path, "a.csv", content), tmp_path / "rejects"
    data = read_examples(path, rejects=rejects, limit=LIMIT)
    assert (data.texts, data.labels, data.refs) == (["a", "b"], [("x",), ("y",)], [None, None])
    assert (data.rejected, data.source, len(data)) == (3, "a.csv", 2)
    assert data.where(1) == f"{path}, line 6"
    lines = [json.loads(line) for line in rejects.read_text("utf-8").splitlines()]
    assert [(line["line"], line["fields"]) for line in lines] == [
        (3, {"text": "", "label": "x"}),
        (4, {"text": "caf\udce9", "label": "x"}),
        (5, {}),
    ]
    assert lines[0]["reason"] == "column 'text': found an empty text, expected words; remove it or fill it in"


def test_rejects_of_a_clean_file_are_none(tmp_path: Path) -> None:
    rejects = put(tmp_path, "rejects.jsonl", "from an earlier run\n")
    assert read_examples(put(tmp_path, "a.csv", "text,label\na,b\n"), rejects=rejects, limit=LIMIT).rejected == 0
    assert rejects.read_bytes() == b""


def test_nothing_is_written_where_no_row_is_left(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '{"text": ""}\n{"text": 3}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: found no row that can be used among 2; the first: line 1: column"):
        read_examples(path, rejects=tmp_path / "rejects.jsonl", limit=LIMIT)
    with pytest.raises(DataError, match="found the file that is read"):
        read_examples(path, rejects=path, limit=LIMIT)
    with pytest.raises(DataError, match="found no column"):
        read_examples(put(tmp_path, "a.csv", "a,b\n1,2\n"), rejects=tmp_path / "rejects.jsonl", limit=LIMIT)
    with pytest.raises(DataError, match=r"a\.jsonl: found no row that can be used among 2; the first: line 1: column"):
        read_texts(path, rejects=tmp_path / "rejects.jsonl", limit=LIMIT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.jsonl"]


def test_texts_without_labels(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '{"text": "a", "label": 3}\n{"text": ""}\n{"text": "b"}\n')
    found = read_texts(path, rejects=tmp_path / "rejects.csv", limit=LIMIT)
    assert (found.texts, found.rejected) == (["a", "b"], 1)
    assert json.loads((tmp_path / "rejects.csv").read_text("utf-8"))["line"] == 2
    with pytest.raises(DataError, match=r"a\.csv: found no rows, expected texts"):
        read_texts(put(tmp_path, "a.csv", "text\n"), limit=LIMIT)


def test_what_is_read_is_not_written(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", "")
    (tmp_path / "link.jsonl").symlink_to(path)
    for written in (path, tmp_path / "link.jsonl", tmp_path / ".." / tmp_path.name / "a.jsonl"):
        with pytest.raises(DataError, match="found the file that is read"):
            keep_apart(written, None, "-", path)
    keep_apart(tmp_path / "b.jsonl", path)
    keep_apart(None, path)
    keep_apart("-", "-")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    content = '\ufeffHow are you?\r\n\n{"text": "json", "id": 3}\n{broken\n  indented \n'.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    rows = list(read_rows("-", need_labels=False, limit=LIMIT))
    assert outline(rows)[:2] == [(1, "How are you?", None), (3, "json", None)]
    assert isinstance(rows[2], Reject) and "not JSON" in rows[2].reason
    assert outline(rows)[3] == (5, "  indented ", None)
    assert rows[0].fields == {"text": "How are you?"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n")))
    with pytest.raises(DataError, match=r"^standard input, line 1: found no column 'labels' or 'label'"):
        read_examples("-", limit=LIMIT)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(DataError, match=r"^standard input: found nothing, expected a text or a JSON object a line"):
        read_examples("-", limit=LIMIT)


def test_hub_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "datasets--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit / "data").mkdir(parents=True)
    put(folder / "snapshots" / commit / "data", "train.csv", "text,label\na,b\n")
    name = "hf://datasets/owner/name/data/train.csv"
    for path in (name, Path(name), name.replace("name/", f"name@{commit}/")):
        data = read_examples(path, limit=LIMIT)
        assert (data.texts, data.labels) == (["a"], [("b",)])
    assert read_examples(name, limit=LIMIT).source == name
    with pytest.raises(DataError, match="could not be fetched"):
        read_examples("hf://datasets/owner/other/train.csv", limit=LIMIT)
    with pytest.raises(DataError, match="expected hf://datasets/OWNER/NAME/FILE"):
        read_examples("hf://owner/name.csv", limit=LIMIT)


ROWS: list[dict[str, object]] = [
    {"text": 'a "b",\r\n\rc;\td', "labels": ["x", "y"], "score": 0.25, "n": 1, "ok": True},
    {"text": "\ufeffé\u2028👋🏽", "labels": [], "score": None, "n": 2, "extra": {"a": [1]}},
    {"text": "NA", "labels": ["z"], "score": 3, "n": None, "ok": False},
]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    assert write_rows(path, ROWS) == 3
    rows = rows_of(path)
    assert [(r.text, r.labels) for r in rows if isinstance(r, Row)] == [
        (row["text"], tuple(row["labels"]))  # type: ignore[arg-type]
        for row in ROWS
    ]
    if suffix == "jsonl":
        assert [dict(r.fields) for r in rows] == ROWS
    elif suffix == "parquet":
        assert [r.fields["extra"] for r in rows] == [None, '{"a": [1]}', None]
        assert [r.fields["score"] for r in rows] == [0.25, None, 3.0]
        assert [r.fields["ok"] for r in rows] == [True, None, False]
        assert str(pq.read_schema(path).field("n").type) == "int64"
    else:
        assert [r.fields["extra"] for r in rows] == ["", '{"a": [1]}', ""]
        assert [r.fields["ok"] for r in rows] == ["true", "", "false"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_awkward_values_are_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    row = {
        "text": "caf\udce9",
        "score": np.float32(0.5),
        "vector": np.array([1.0, np.nan]),
        "nan": float("nan"),
        "at": datetime.date(2024, 2, 29),
        "big": 2**70,
    }
    write_rows(path, [row, {"text": "b", "big": 1}])
    raw = next(iter(formats_of(path)))
    lone = {"jsonl": "\udce9"}.get(suffix, "\N{REPLACEMENT CHARACTER}")
    assert raw["text"] == "caf" + lone
    assert raw["score"] == ("0.5" if suffix == "csv" else 0.5)
    assert raw["vector"] == ([1.0, None] if suffix == "jsonl" else "[1.0, null]")
    assert raw["nan"] == ("" if suffix == "csv" else None)
    assert raw["at"] == "2024-02-29"
    assert raw["big"] == (2**70 if suffix == "jsonl" else str(2**70))


@pytest.mark.parametrize(
    ("column", "read", "kind"),
    [
        ([2**53, 0.5], [2.0**53, 0.5], "double"),
        ([2**53 + 1, 0.5], [str(2**53 + 1), "0.5"], "string"),
        ([-(2**60) - 1, 0.5, None], [str(-(2**60) - 1), "0.5", None], "string"),
        ([2**60 + 1, 1], [2**60 + 1, 1], "int64"),
        ([-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1], "int64"),
        ([2**63, 1], [str(2**63), "1"], "string"),
        ([2**60, True], [str(2**60), "true"], "string"),
    ],
)
def test_no_number_is_rounded_in_a_column(tmp_path: Path, column: list[Any], read: list[Any], kind: str) -> None:
    write_rows(tmp_path / "out.parquet", [{"n": value} for value in column])
    found = pq.read_table(tmp_path / "out.parquet")
    assert (found.column("n").to_pylist(), str(found.schema.field("n").type)) == (read, kind)


def formats_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file as an independent reader sees them."""
    if path.suffix == ".parquet":
        yield from pq.read_table(path).to_pylist()
    elif path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
    else:
        yield from map(json.loads, path.read_text("utf-8").split("\n")[:-1])


AWKWARD = st.text(
    st.one_of(st.sampled_from('\r\n\t",;|\\\'\ufeff\u2028\u2029\x85\x0b\x0c\x1c\x1a{}[] a'), st.characters(
        codec="utf-8", exclude_characters="\0"
    ))
)  # fmt: skip


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(AWKWARD.filter(str.strip), min_size=1, max_size=5),
    labels=st.lists(st.sampled_from(["x", "y", "z z"]), unique=True),
    suffix=st.sampled_from(["jsonl", "csv", "tsv", "parquet"]),
)
@example(texts=["\ufeffa"], labels=[], suffix="csv")
@example(texts=['"', "a\r", "\r\na"], labels=["x"], suffix="tsv")
def test_any_text_comes_back(tmp_path: Path, texts: list[str], labels: list[str], suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    write_rows(path, ({"text": text, "labels": labels} for text in texts))
    data = read_examples(path, limit=LIMIT)
    assert data.texts == texts
    assert data.labels == [tuple(sorted(labels))] * len(texts)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(st.binary(max_size=60), AWKWARD.map(str.encode)),
    head=st.sampled_from([b"", b"text,label\n", b'"text"\tlabel\r\n', b"\xef\xbb\xbf", b'{"text": ', b"text;label\r"]),
    suffix=st.sampled_from(["jsonl", "csv", "tsv", "parquet"]),
)
def test_no_file_breaks_the_reader(tmp_path: Path, content: bytes, head: bytes, suffix: str) -> None:
    path = put(tmp_path, f"any.{suffix}", head + content)
    try:
        data = read_examples(path, rejects=tmp_path / "rejects.jsonl", limit=LIMIT)
    except DataError as error:
        assert str(error).startswith(str(path)) and len(str(error).splitlines()) == 1
        str(error).encode("utf-8")
    else:
        assert len(data.texts) == len(data.labels) == len(data.refs) > 0
        assert len((tmp_path / "rejects.jsonl").read_bytes().splitlines()) == data.rejected


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = put(tmp_path, "out.csv", "old\n")
    path.chmod(0o640)

    def rows() -> Iterator[dict[str, object]]:
        yield {"a": 1}
        assert path.read_text() == "old\n"
        raise KeyError("the model broke")

    with pytest.raises(KeyError):
        write_rows(path, rows())
    assert path.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
    write_rows(path, [{"a": 1}])
    assert path.read_bytes() == b"a\r\n1\r\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = put(tmp_path, "out.jsonl", ""), tmp_path / "link.jsonl"
    link.symlink_to(path)
    write_rows(link, [{"a": 1}])
    assert link.is_symlink() and path.read_text() == '{"a": 1}\n'


def test_a_file_may_be_rewritten_from_itself(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "text\na\nb\n")
    rows = read_rows(path, need_labels=False, limit=LIMIT)
    assert write_rows(path, ({**row.fields, "seen": "yes"} for row in rows)) == 2
    assert path.read_bytes() == b"text,seen\r\na,yes\r\nb,yes\r\n"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found the suffix '\.xlsx', expected one of \.jsonl"):
        write_rows(tmp_path / "a.xlsx", [])
    with pytest.raises(DataError, match="cannot be written"):
        write_rows(tmp_path / "none" / "a.jsonl", [])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="no file"):
        write_rows(tmp_path / "folder.csv", [])
    with pytest.raises(DataError, match=r"found \['a\|b'\] in column 'labels'.*choose another separator"):
        write_rows(tmp_path / "a.csv", [{"labels": ["a|b"]}])
    for suffix in ("csv", "jsonl", "parquet"):
        with pytest.raises(DataError, match=r"found a column 1, expected a name \(a string\)"):
            write_rows(tmp_path / f"a.{suffix}", [{"a": 2}, {1: 2}])  # type: ignore[dict-item]
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]
    assert write_rows(tmp_path / "a.csv", [{"labels": ["a|b", "c"]}], separator=";") == 1
    assert rows_of(tmp_path / "a.csv", Columns(text="labels"), need_labels=False)[0].fields == {"labels": "a|b;c"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **how: Any) -> Any:
        return open("/dev/full", "wb") if mode == "xb" else real(self, mode, *rest, **how)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match=r"out\.jsonl: cannot be written \(No space left on device\)"):
        write_rows(tmp_path / "out.jsonl", [{"a": "x" * 100_000}])
    assert list(tmp_path.iterdir()) == []


def test_standard_output_takes_rows_at_once(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with RowWriter("-") as writer:
        writer.write({"a": "é"})
        assert capfdbinary.readouterr().out == '{"a": "é"}\n'.encode()
        writer.write({"b": 1})
    assert capfdbinary.readouterr().out == b'{"b": 1}\n'
