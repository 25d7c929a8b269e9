"""An evaluation: head, neighbours and blend under the same measures, as JSON and for a terminal.

The formulas are those of `likewise.decision.measures`. Here they are taken of label sets by name, and shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from likewise.decision.measures import Counts, Decisions, confusion, count, jaccard
from likewise.errors import DataError
from likewise.types import Task

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

LabelSets = Sequence[tuple[str, ...]]

VOICES = ("blend", "head", "neighbours")
MEASURES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "hamming_loss": "hamming loss",
    "jaccard": "Jaccard",
}
"""Name in JSON, and as shown."""

SHOWN_CONFUSIONS = 20
LEAST = 10
"""Columns that a label needs to say anything."""
GAP = 3
"""Columns between two of a table."""


@dataclass(frozen=True, eq=False)
class VoiceScores:
    """One voice under all measures. `jaccard` is the mean over texts; `counts` are by label, of `labels` in all."""

    counts: Counts
    jaccard: float
    labels: int

    def overall(self) -> dict[str, float]:
        """The measures over all labels; hamming loss is the only one of which less is better."""
        return {
            "accuracy": float(self.counts.accuracy()),
            "macro_f1": float(self.counts.macro_f1()),
            "micro_f1": float(self.counts.micro_f1()),
            "hamming_loss": float(self.counts.hamming_loss(self.labels)),
            "jaccard": self.jaccard,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the three voices of a model made of `n` labelled texts, at a revision.

    `labels`: all that a text bears or a voice decided, sorted; macro-F1 is the mean over them. Hamming loss is the
    share of wrong decisions among those on every label that the model knows or a text bears. `confusion` is the
    blend's: with one label a text counts of shape (labels, labels), rows the truth; with several, None (the counts
    by label say it). `truth` and each voice's `decided` are boolean tables of shape (n, labels).
    """

    n: int
    task: Task
    revision: int
    labels: list[str]
    voices: Mapping[str, VoiceScores]
    confusion: NDArray[np.int64] | None
    truth: Decisions
    decided: Mapping[str, Decisions]

    @classmethod
    def of(
        cls,
        truth: LabelSets,
        decided: Mapping[str, LabelSets],
        task: Task,
        revision: int,
        known: Collection[str] = (),
    ) -> Evaluation:
        """Compare each text's true labels with what the voices "blend", "head" and "neighbours" decided.

        `known`: the labels that could have been decided.

        DataError without texts; ValueError if a voice is missing or decided another number of texts.
        """
        if not truth:
            raise DataError("evaluate: found no labelled text, expected at least one; give a file with rows")
        for voice in VOICES:
            if voice not in decided or len(decided[voice]) != len(truth):
                raise ValueError(f"voice {voice!r} must have decided {len(truth)} texts")
        everything = [truth, *(decided[voice] for voice in VOICES)]
        labels = sorted({label for rows in everything for row in rows for label in row})
        true = _table(truth, labels)
        tables = {voice: _table(decided[voice], labels) for voice in VOICES}
        every = len({*labels, *known})
        voices = {
            voice: VoiceScores(count(true, table), jaccard(true, table), every) for voice, table in tables.items()
        }
        matrix = confusion(true, tables["blend"]) if task == "single" else None
        return cls(len(truth), task, revision, labels, voices, matrix, true, tables)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as `likewise evaluate --json` prints it."""
        out: dict[str, Any] = {"n": self.n, "revision": self.revision}
        for voice, scores in self.voices.items():
            out[voice] = {**scores.overall(), "per_label": self._per_label(scores.counts)}
        if self.confusion is not None:
            out["confusion"] = {"labels": list(self.labels), "counts": self.confusion.tolist()}
        else:
            names = ("true_positive", "false_positive", "false_negative", "true_negative")
            out["confusion"] = {
                label: dict(zip(names, cells, strict=True))
                for label, cells in zip(self.labels, self._cells(), strict=True)
            }
        return out

    def _per_label(self, counts: Counts) -> dict[str, dict[str, float | int]]:
        columns = zip(self.labels, counts.precision(), counts.recall(), counts.f1(), counts.true, strict=True)
        return {
            label: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
            for label, p, r, f, n in columns
        }

    def _cells(self) -> list[list[int]]:
        """Of each label, the blend's true positives, false positives, false negatives and true negatives."""
        c = self.voices["blend"].counts
        cells = [c.both, c.decided - c.both, c.true - c.both, c.texts - c.decided - c.true + c.both]
        table: list[list[int]] = np.stack(cells, axis=1).astype(np.int64).tolist()
        return table

    def render(self, console: Console) -> None:
        """Print it on a rich console. Needs rich."""
        texts = "1 text" if self.n == 1 else f"{self.n:,} texts"
        _say(console, f"{texts}, {len(self.labels)} labels, revision {self.revision}")
        _show(console, "The three voices", self._voices_table(console.width))
        if not self.labels:
            return
        _show(console, "By label: the blend, and the F1 of head and neighbours", self._labels_table(console.width))
        if self.confusion is None:
            _show(console, "Confusion of the blend, by label", self._cells_table(console.width))
            return
        matrix = _matrix_table(self.labels, self.confusion)
        if console.measure(matrix, options=console.options.update(width=10_000)).maximum <= console.width:
            _show(console, "Confusion of the blend: rows the truth, columns the decision", matrix)
            return
        pairs = _pairs(self.labels, self.confusion)
        if pairs:
            wrong = sum(pair[0] for pair in pairs)
            title = f"Confusion of the blend: the most frequent of {wrong:,} wrong decisions"
            rows = [((truth, decided), [f"{n:,}"]) for n, truth, decided in pairs[:SHOWN_CONFUSIONS]]
            _show(console, title, _figures(("truth", "decided as"), ("texts",), rows, console.width))
        if len(pairs) > SHOWN_CONFUSIONS:
            rarer = len(pairs) - SHOWN_CONFUSIONS
            _say(console, f"... and {rarer:,} rarer confusions; --json has the whole matrix", style="dim")

    def _voices_table(self, width: int) -> RenderableType:
        scores = [self.voices[voice].overall() for voice in VOICES]
        rows = [((shown,), [f"{each[name]:.3f}" for each in scores]) for name, shown in MEASURES.items()]
        return _figures(("measure",), VOICES, rows, width, bold="blend", cut=False)

    def _labels_table(self, width: int) -> RenderableType:
        headings = ("precision", "recall", "F1", "support", "F1\nhead", "F1\nneighbours")
        blend, head, neighbours = (self.voices[voice].counts for voice in VOICES)
        columns = [blend.precision(), blend.recall(), blend.f1(), blend.true, head.f1(), neighbours.f1()]
        rows = [
            ((label,), [f"{p:.3f}", f"{r:.3f}", f"{f:.3f}", f"{int(n):,}", f"{of_head:.3f}", f"{of_neighbours:.3f}"])
            for label, p, r, f, n, of_head, of_neighbours in zip(self.labels, *columns, strict=True)
        ]
        return _figures(("label",), headings, rows, width, bold="F1")

    def _cells_table(self, width: int) -> RenderableType:
        headings = ("found", "false alarm", "missed", "rightly not")
        rows = [
            ((label,), [f"{cell:,}" for cell in cells]) for label, cells in zip(self.labels, self._cells(), strict=True)
        ]
        return _figures(("label",), headings, rows, width)


def _table(label_sets: LabelSets, labels: list[str]) -> Decisions:
    """Boolean (texts, labels)."""
    column = {label: i for i, label in enumerate(labels)}
    out = np.zeros((len(label_sets), len(labels)), dtype=bool)
    for row, members in enumerate(label_sets):
        for label in members:
            out[row, column[label]] = True
    return out


def _pairs(labels: list[str], matrix: NDArray[np.int64]) -> list[tuple[int, str, str]]:
    """(texts, true label, decided label) of every confusion there is, most frequent first."""
    wrong = [(int(matrix[i, j]), labels[i], labels[j]) for i, j in np.argwhere(matrix > 0) if i != j]
    return sorted(wrong, key=lambda pair: (-pair[0], pair[1], pair[2]))


# On a terminal


def _say(console: Console, line: str, style: str = "bold") -> None:
    console.print(line, style=style, markup=False, highlight=False)


def _show(console: Console, title: str, table: RenderableType) -> None:
    console.print()
    _say(console, title)
    console.print(table)


def _new_table() -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def _figures(
    names: Sequence[str],
    headings: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Sequence[str]]],
    width: int,
    bold: str | None = None,
    cut: bool = True,
) -> RenderableType:
    """Rows of labels and figures: long labels are cut (or wrapped), figures never; where narrow, a block a row."""
    from rich.cells import cell_len

    columns = zip(headings, *(figures for _, figures in rows), strict=True)
    taken = sum(max(map(cell_len, "\n".join(column).split("\n"))) + GAP for column in columns)
    room = (width - taken + GAP) // len(names) - GAP
    if room < LEAST:
        return _blocks(headings, rows)
    table = _new_table()
    for name in names:
        table.add_column(name, max_width=room, no_wrap=cut, overflow="ellipsis")
    for heading in headings:
        table.add_column(heading, justify="right", style="bold" if heading == bold else "", no_wrap=True)
    for labels, figures in rows:
        table.add_row(*map(_shown, labels), *figures)
    return table


def _blocks(headings: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[str]]]) -> RenderableType:
    """The same with every row's labels on a line, and its figures, each with its heading, below."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = []
    for labels, figures in rows:
        title = Text(" -> ").join(map(_shown, labels))
        title.no_wrap, title.overflow = True, "ellipsis"
        told = [f"{heading} {figure}".replace("\n", " ") for heading, figure in zip(headings, figures, strict=True)]
        parts += [title, Padding(Columns(told, padding=(0, 2)), (0, 0, 0, 2))]
    return Group(*parts)


def _shown(label: str) -> Text:
    """A label as it is, but for what would disturb a terminal; never read as markup."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in label))


def _matrix_table(labels: list[str], matrix: NDArray[np.int64]) -> Table:
    """All counts; columns go by number, as names would not fit."""
    from rich.text import Text

    table = _new_table()
    table.padding = (0, 1, 0, 0)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("truth", max_width=20, no_wrap=True, overflow="ellipsis")
    for number in range(1, len(labels) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    for i, label in enumerate(labels):
        cells = [
            Text(str(n), style="bold green" if i == j else "red") if n else Text(".", style="dim")
            for j, n in enumerate(matrix[i].tolist())
        ]
        table.add_row(str(i + 1), _shown(label), *cells)
    return table
