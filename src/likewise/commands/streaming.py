"""Classifying a file: its rows stream through in blocks, keep their columns, and survive what cannot be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likewise.commands.options import one_line, progress, say
from likewise.data import Columns, Reject, Row, RowWriter, called, keep_apart, none_usable, place, read_rows, unit
from likewise.errors import DataError
from likewise.types import Prediction, Task

if TYPE_CHECKING:
    from likewise.model import Model

BLOCK = 512
"""Rows classified at once."""

Answered = tuple[Row, Prediction]


class Stream:
    """The rows of a file on their way through a model.

    `answered` and `unread` count them; `first` says where and why the first of the unread ones could not be read.
    """

    def __init__(self, model: Model, file: str, columns: Columns, limit: int) -> None:
        self.answered = 0
        self.unread = 0
        self.first = ""
        self._file = file
        self._unit = unit(file)
        self._model = model
        self._rows = read_rows(file, columns, need_labels=False, limit=limit)

    def blocks(self) -> Iterator[list[Answered | Reject]]:
        """The rows in their order, each with its prediction. DataError at the end where there was none to answer."""
        # At a keyboard every line wants its answer at once.
        size = 1 if self._file == "-" and sys.stdin.isatty() else BLOCK
        while block := list(islice(self._rows, size)):
            rows = [row for row in block if isinstance(row, Row)]
            answered = iter(zip(rows, self._model.classify([row.text for row in rows]), strict=True))
            yield [next(answered) if isinstance(row, Row) else row for row in block]
            self.answered += len(rows)
            self.unread += len(block) - len(rows)
            if not self.first and len(rows) < len(block):
                reject = next(row for row in block if isinstance(row, Reject))
                self.first = f"{self._unit} {reject.number}: {reject.reason}"
        if not self.answered:
            raise DataError(f"{called(self._file)}: {none_usable('texts', self.unread, self.first)}")


class Merger:
    """Puts a row's own columns and its answer side by side.

    Where the rows have a column of an answer's name the answer's is called `predicted_...`, as often as it takes; the
    first block settles which, because every row of a file must name its columns alike.
    """

    def __init__(self, file: str, task: Task, *, full: bool) -> None:
        self._file = file
        self._decision = ("label", "score") if task == "single" else ("labels",)
        self._full = full
        self._taken: set[str] | None = None
        self._theirs: set[str] = set()
        self._ours: set[str] = set()

    def merge(self, block: Sequence[Answered | Reject]) -> Iterator[dict[str, Any]]:
        """The rows to be written. DataError for a row that brings a column of an answer's name too late."""
        rows = [item if isinstance(item, Reject) else item[0] for item in block]
        if self._taken is None:
            self._taken = {name for row in rows for name in row.fields}
        for row, item in zip(rows, block, strict=True):
            answer = self._error(item) if isinstance(item, Reject) else self._answer(item[1])
            named = {self._named(key, self._taken): value for key, value in answer.items()}
            self._theirs.update(row.fields)
            self._ours.update(named)
            late = self._theirs & self._ours
            if late:
                raise DataError(
                    f"{place(self._file)} {row.number}: found a column {min(late)!r} of the rows and one of the "
                    "answers, which the first rows did not foretell; rename it, or give the first row one too"
                )
            yield {**row.fields, **named}

    @staticmethod
    def _named(key: str, taken: set[str]) -> str:
        while key in taken:
            key = f"predicted_{key}"
        return key

    def _answer(self, prediction: Prediction) -> dict[str, Any]:
        whole = prediction.to_dict()
        del whole["text"]  # the row has it, under its own name
        return whole if self._full else {key: whole[key] for key in self._decision}

    def _error(self, reject: Reject) -> dict[str, Any]:
        return {**dict.fromkeys(self._decision), "error": f"{unit(self._file)} {reject.number}: {reject.reason}"}


def classify_file(
    model: Model,
    file: str,
    columns: Columns,
    limit: int,
    *,
    output: str | None,
    rejects: str | None,
    as_json: bool,
) -> Stream:
    """Classify a file's rows into `output`; without one as JSON Lines, or a line a text, on standard output.

    Rows that cannot be read go to `rejects`, or else stay with the reason beside them.
    """
    keep_apart(output, file)
    keep_apart(rejects, file)
    target = "-" if output is None and as_json else output
    if target is not None and rejects is not None and os.path.realpath(target) == os.path.realpath(rejects):
        raise DataError(f"{rejects}: found the place where the answers go, expected another one for the other rows")
    brief = target is not None and Path(target).suffix.lower() in (".csv", ".tsv", ".parquet")
    stream = Stream(model, file, columns, limit)
    merger = Merger(file, model.task, full=not brief)
    lines = Lines(file, model.labels)
    shown = progress()
    try:
        with ExitStack() as stack:
            put_away = None if rejects is None else stack.enter_context(RowWriter(rejects, kind="jsonl"))
            writer = None if target is None else stack.enter_context(RowWriter(target, separator=columns.separator))
            if writer is not None and target != "-":
                shown.stage("Classifying")
            for block in stream.blocks():
                kept = block
                if put_away is not None:
                    kept = [item for item in block if not isinstance(item, Reject)]
                    for item in block:
                        if isinstance(item, Reject):
                            put_away.write(item.to_dict())
                if writer is None:
                    lines.print(kept)
                else:
                    for row in merger.merge(kept):
                        writer.write(row)
                shown.update(0, 0, f"{stream.answered + len(kept):,} rows")
    finally:
        shown.done()
    return stream


class Lines:
    """Prints answers for people, one line a text."""

    def __init__(self, file: str, labels: dict[str, int]) -> None:
        self._place = place(file)
        self._width = min(24, max(map(len, labels), default=0))

    def print(self, block: Sequence[Answered | Reject]) -> None:
        """Labels, score and text of each; rows that cannot be read are told on standard error."""
        for item in block:
            if isinstance(item, Reject):
                say(f"{self._place} {item.number}: {item.reason}")
                continue
            prediction = item[1]
            decided = ", ".join(prediction.labels) or "(no label)"
            click.echo(f"{one_line(decided):<{self._width}}  {prediction.score:.2f}  {one_line(prediction.text)[:200]}")
        sys.stdout.flush()
