"""What people see: answers, changes and the past, drawn with rich. Nothing here decides anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from likewise.types import ChangedAnswer, Difference, Example, ExampleVersion, Prediction, Revision, Scores

WIDEST = 100
"""Columns: longer lines are no pleasure to read."""
PIPED = 90
"""Columns where there is no terminal to ask."""
LONGEST = 600
"""Characters of a text that are shown in full."""
ROWS = 20
"""Examples that a change lists."""
CAUSES = 3
"""Causes that a changed answer lists."""
LEAST = 16
"""Columns that a table's last cells need to say anything."""


def stdout() -> Console:
    """A console on standard output, in a width that reads well."""
    return console_on(sys.stdout)


class _Console(Console):
    """rich's console; a reader that has gone is an error as it is anywhere else, and not the process's exit."""

    def on_broken_pipe(self) -> None:
        """rich would end with status 1."""
        raise BrokenPipeError


def console_on(stream: Any) -> Console:
    console = _Console(file=stream, highlight=False)
    told = os.environ.get("COLUMNS", "").isdecimal()
    console.width = min(console.width, WIDEST) if console.is_terminal or told else PIPED
    return console


class _Rows(Table):
    """A table whose last column takes the room that is left; where that is too little, its cells go below the rest."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or a line or two for each row."""
        if sum(map(_width, self.columns[:-1])) + LEAST <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        yield Text("  ".join(str(column.header) for column in self.columns), style="dim")
        for *cells, below in zip(*(column.cells for column in self.columns), strict=True):
            yield Text("  ").join(Text.assemble(cell) for cell in cells)
            if str(below):
                yield Padding(Text.assemble(below), (0, 0, 0, 2))
        if self.caption:
            yield Text(str(self.caption), style="dim")


def _width(column: Column) -> int:
    """What a column of one-line cells takes, with the space beside it."""
    widest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    return min(widest, column.max_width or widest) + 3


def plain(text: str) -> str:
    """The text on one line and harmless to a terminal: control and direction characters become a stand-in."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


# Answers


def prediction_panel(prediction: Prediction) -> RenderableType:
    """A prediction: the text, the decision, what each voice says, and the examples it rests on."""
    parts: list[RenderableType] = [
        Text(_shortened(prediction.text), style="italic"),
        Padding(voices_table(prediction), (1, 0, 0, 0)),
    ]
    if prediction.neighbours:
        parts.append(Padding(neighbours_table(prediction), (1, 0, 0, 0)))
    return Panel(
        Group(*parts),
        title=decision(prediction),
        title_align="left",
        subtitle=Text(f"revision {prediction.revision}", style="dim"),
        subtitle_align="right",
        box=ROUNDED,
        border_style="dim",
        padding=(0, 1),
    )


def decision(prediction: Prediction) -> Text:
    """The decided labels with their probability: `refund 0.93`."""
    if not prediction.labels:
        return Text("no label", style="bold yellow")
    scores = dict(prediction.scores)
    out = Text()
    for i, label in enumerate(prediction.labels):
        out.append(", " if i else "")
        out.append(plain(label), style="bold green")
        out.append(f" {scores[label]:.2f}")
    return out


def voices_table(prediction: Prediction) -> Table:
    """The best three labels of the blend and of both voices."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    weight = prediction.lambda_
    rows: tuple[tuple[str, Scores, str], ...] = (
        ("blend", prediction.scores, ""),
        ("head", prediction.head, f"x {1 - weight:.2f}"),
        ("neighbours", prediction.vote, f"x {weight:.2f}"),
    )
    for voice, scores, share in rows:
        best = Text(", ").join(
            Text.assemble((plain(label), "bold" if i == 0 else ""), f" {score:.2f}")
            for i, (label, score) in enumerate(scores[:3])
        )
        table.add_row(Text(voice, style="cyan"), best, Text(share, style="dim"))
    return table


def neighbours_table(prediction: Prediction) -> Table:
    """The cited examples; their weights are shares of the vote."""
    table = _Rows(
        Column("id", justify="right", style="cyan", no_wrap=True),
        Column("weight", justify="right", no_wrap=True),
        Column("distance", justify="right", no_wrap=True),
        Column("labels", max_width=24, overflow="ellipsis", no_wrap=True),
        Column("text", overflow="ellipsis", no_wrap=True, ratio=1),
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        expand=True,
        header_style="dim",
    )
    for each in prediction.neighbours:
        agrees = set(each.labels) & set(prediction.labels) or each.labels == prediction.labels
        table.add_row(
            str(each.id),
            f"{each.weight:.2f}",
            f"{each.distance:.2f}",
            Text(_joined(each.labels), style="green" if agrees else ""),
            Text(_shortened(each.text, 200)),
        )
    return table


# Changes


def examples_table(before: Sequence[Example], after: Sequence[Example] | None = None) -> Table:
    """The examples that a change touched, at most `ROWS`; with `after`, their labels then and now."""
    names = ("labels",) if after is None else ("labels before", "labels now")
    table = _Rows(
        Column("id", justify="right", style="cyan", no_wrap=True),
        *(Column(name, max_width=24, overflow="ellipsis", no_wrap=True) for name in names),
        Column("text", overflow="ellipsis", no_wrap=True, ratio=1),
        box=SIMPLE_HEAD,
        header_style="dim",
        expand=True,
    )
    now = {example.id: example.labels for example in after or ()}
    for example in islice(before, ROWS):
        labels = [example.labels] if after is None else [example.labels, now.get(example.id, ())]
        cells = (Text(_joined(each)) for each in labels)
        table.add_row(str(example.id), *cells, Text(_shortened(example.text, 200)))
    if len(before) > ROWS:
        table.caption = f"and {len(before) - ROWS:,} more"
    return table


# The past


def history_table(changes: Sequence[Revision]) -> Table:
    """Changes, in the order given."""
    table = _past_table("revision", "when (UTC)", "what", "examples", "by")
    table.columns[3].justify = "right"
    for change in changes:
        cells = (_moment(change.at), change.action, f"{change.examples:,}", plain(change.by or ""))
        table.add_row(str(change.revision), *map(Text, cells), Text(plain(change.note or "")))
    return table


def life_table(versions: Sequence[ExampleVersion]) -> Table:
    """What each change made of one example; its text wherever it changed."""
    table = _past_table("revision", "when (UTC)", "what", "by", "labels", last="text and note")
    for version, earlier in zip(versions, [*versions[1:], None], strict=True):
        change = version.change
        gone = "erased" if version.text is None else "forgotten"
        labels = Text(gone, style="dim") if version.labels is None else Text(_joined(version.labels))
        text = "" if earlier and earlier.text == version.text else _shortened(version.text or "", 200)
        note = f"({plain(change.note)})" if change.note else ""
        cells = (Text(_moment(change.at)), Text(change.action), Text(plain(change.by or "")), labels)
        table.add_row(str(change.revision), *cells, Text(" ".join(filter(None, (text, note)))))
    return table


def difference_table(differences: Sequence[Difference]) -> RenderableType:
    """The examples that differ, at most `ROWS`, with their labels then and now."""
    if not differences:
        return Text("No example differs.")
    table = _past_table("id", "labels before", "labels after", last="text")
    table.caption = f"and {len(differences) - ROWS:,} more" if len(differences) > ROWS else None
    for difference in differences[:ROWS]:
        before, after = difference.before, difference.after
        labels = (Text("-", style="dim") if side is None else Text(_joined(side.labels)) for side in (before, after))
        texts = [side.text for side in (before, after) if side]
        shown = " -> ".join(_shortened(text, 200) for text in dict.fromkeys(texts))
        table.add_row(str(difference.id), *labels, Text(shown))
    return table


def changed_answers(answers: Sequence[ChangedAnswer], causes: Mapping[int, Example], asked: int) -> RenderableType:
    """The answers that differ, at most `ROWS`, each with the changed examples that had the largest part in it."""
    parts: list[RenderableType] = [Text(f"{len(answers):,} of {asked:,} texts are answered differently.")]
    for answer in answers[:ROWS]:
        way = Text(" -> ", style="dim").join((decision(answer.before), decision(answer.after)))
        table = _past_table("id", "effect", "labels", last="undone alone, the earlier answer comes back: *")
        for cause in answer.causes[:CAUSES]:
            example = causes[cause.id]
            text = Text(f"{'*' if cause.alone else ' '} {_shortened(example.text, 200)}")
            table.add_row(str(cause.id), f"{cause.effect:.2f}", Text(_joined(example.labels)), text)
        more = len(answer.causes) - CAUSES
        table.caption = f"and {more:,} more" if more > 0 else None
        why = table if answer.causes else Text("No example alone made this difference.", style="dim")
        parts += [Padding(Text(_shortened(answer.after.text), style="italic"), (1, 0, 0, 0)), way, why]
    if len(answers) > ROWS:
        parts.append(Text(f"and {len(answers) - ROWS:,} more"))
    return Group(*parts)


def _past_table(first: str, *names: str, last: str = "note") -> Table:
    """A table of a number, some narrow columns, and one that takes the room that is left."""
    return _Rows(
        Column(first, justify="right", style="cyan", no_wrap=True),
        *(Column(name, max_width=24, overflow="ellipsis", no_wrap=True) for name in names),
        Column(last, overflow="fold", ratio=1),
        box=SIMPLE_HEAD,
        header_style="dim",
        expand=True,
    )


def _moment(at: str) -> str:
    """The ledger's time to the second."""
    return at[:19].replace("T", " ")


def _joined(labels: Sequence[str]) -> str:
    return ", ".join(plain(label) for label in labels) or "(none)"


def _shortened(text: str, longest: int = LONGEST) -> str:
    line = plain(text[: 2 * longest + 1000])
    return line if len(line) <= longest else f"{line[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"
