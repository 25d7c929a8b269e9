"""What people see: answers, changes, fits and progress, drawn with rich. Nothing here decides anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table
from rich.text import Text

from likewise.progress import Progress
from likewise.recipes import Recipe
from likewise.types import ChangedAnswer, Difference, Example, ExampleVersion, Prediction, Refit, Revision, Scores

WIDEST = 100
"""Columns: longer lines are no pleasure to read."""
PIPED = 90
"""Columns where there is no terminal to ask."""
LONGEST = 600
"""Characters of a text that are shown in full."""
SHORTEST = 0.1
"""Seconds: a stage that took less leaves no line."""
ROWS = 20
"""Examples that a change lists."""
CAUSES = 3
"""Causes that a changed answer lists."""


def stdout() -> Console:
    """A console on standard output, in a width that reads well."""
    return _console(sys.stdout)


def _console(stream: Any) -> Console:
    console = Console(file=stream, highlight=False)
    told = os.environ.get("COLUMNS", "").isdecimal()
    console.width = min(console.width, WIDEST) if console.is_terminal or told else PIPED
    return console


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
    table = Table(
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
    table = Table(
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
    return Table(
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


# Fits


def render_fit(console: Console, summary: Mapping[str, Any]) -> None:
    """What a fit measured, kept and saved, and what to do with it."""
    several = "none to several labels a text" if summary["task"] == "multi" else "one label a text"
    console.print(
        f"Fitted recipe {summary['recipe']} to {summary['examples']:,} examples with {len(summary['labels'])} labels "
        f"({several}) in {summary['seconds']:.0f} s."
    )
    console.print(fit_table(summary))
    console.print(Text.assemble("Kept: ", (f"the {summary['kept']} encoder", "bold"), "."), soft_wrap=True)
    console.print(Text.assemble("Saved: ", (str(summary["model"]), "bold"), "."), soft_wrap=True)
    name = plain(str(summary["model"]))
    commands = (
        f'likewise classify {name} "a text"',
        f"likewise evaluate {name} FILE",
        f'likewise teach {name} "a text" --label L',
    )
    console.print(Text("Next:"))
    for command in commands:
        console.print(Text(f"  {command}"), soft_wrap=True)


def render_refit(console: Console, refit: Refit) -> None:
    """What a refit measured and kept, and what its scores are worth."""
    console.print(
        f"Refitted to {refit.examples:,} examples in {refit.seconds:.0f} s: generation {refit.generation} answers from "
        f"revision {refit.revision} on, with the {refit.kept} encoder."
    )
    table = Table(
        Column(f"{refit.measure.replace('_', '-')}, {refit.judged_on}", no_wrap=True),
        Column("before", justify="right"),
        Column("after", justify="right"),
        box=SIMPLE_HEAD,
        header_style="dim",
    )
    for voice in refit.after:
        table.add_row(Text(voice, style="cyan"), f"{refit.before[voice]:.3f}", f"{refit.after[voice]:.3f}")
    console.print(table)
    if refit.seen:
        console.print(
            f"The score before flatters: that generation was trained on {refit.seen:,} of these {refit.held:,} rows."
        )
    console.print("The generation before is kept; remove it with --prune.")


def fit_table(summary: Mapping[str, Any]) -> Table:
    """The voices' scores for each candidate encoder, the kept one marked."""
    kinds: Mapping[str, Mapping[str, float]] = summary["scores"]
    measure = str(summary["measure"]).replace("_", "-")
    table = Table(
        Column(f"{measure}, {summary['judged_on']}", no_wrap=True),
        *(Column(f"{kind} encoder", justify="right") for kind in kinds),
        box=SIMPLE_HEAD,
        header_style="dim",
    )
    for voice in ("head", "neighbours", "blend"):
        cells = [
            Text(f"{scores[voice]:.3f}", style="bold green" if kind == summary["kept"] and voice == "blend" else "")
            for kind, scores in kinds.items()
        ]
        table.add_row(Text(voice, style="cyan"), *cells)
    return table


def recipes_table(recipes: Iterable[Recipe]) -> Table:
    """The recipes, a row each."""
    table = Table(
        Column("recipe", style="bold cyan", no_wrap=True),
        "what is trained",
        "when to use it",
        "after",
        box=SIMPLE_HEAD,
        header_style="dim",
    )
    for recipe in recipes:
        table.add_row(recipe.name, recipe.objective, recipe.use, recipe.source)
    return table


# Progress


class _TimeLeft(ProgressColumn):
    """The time left, as soon as anybody can tell."""

    def render(self, task: Task) -> Text:
        """`1 min 20 s left`, or nothing."""
        left = round(task.time_remaining or 0)
        minutes = f"{left // 60} min " if left >= 60 else ""
        return Text(f"{minutes}{left % 60} s left" if left else "", style="dim")


class RichProgress(Progress):
    """Draws stages and bars on standard error where that is a terminal; warnings are one line everywhere."""

    def __init__(self) -> None:
        self._console = _console(sys.stderr)
        self._bars: Bars | None = None
        self._task: Any = None
        self._title = ""

    def stage(self, title: str) -> None:
        """Begin a stage; the one before leaves a line with the time it took."""
        self._finish_stage()
        if not self._console.is_terminal:
            return
        if self._bars is None:
            self._bars = Bars(
                SpinnerColumn(finished_text=" "),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[steps]}"),
                TextColumn("{task.fields[note]}", style="cyan"),
                TimeElapsedColumn(),
                _TimeLeft(),
                console=self._console,
                transient=True,
            )
            self._bars.start()
        self._title = title
        self._task = self._bars.add_task(title, total=None, steps="", note="")

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move the bar; a total of 0 means that nobody knows it."""
        if self._bars is not None and self._task is not None:
            steps = f"{done:,}/{total:,}" if total else ""
            self._bars.update(self._task, completed=done, total=total or None, steps=steps, note=note)

    def tell(self, message: str) -> None:
        """A line of information, on a terminal only."""
        if self._console.is_terminal:
            self._console.print(Text(plain(message)))

    def warn(self, message: str) -> None:
        """A warning, as one line under our name."""
        self._console.print(Text(f"likewise: warning: {plain(message)}", style="yellow"), soft_wrap=True)

    def done(self) -> None:
        """Clear the bars away."""
        self._finish_stage()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _finish_stage(self) -> None:
        if self._bars is None or self._task is None:
            return
        task = next(each for each in self._bars.tasks if each.id == self._task)
        seconds = task.elapsed or 0.0
        self._bars.remove_task(self._task)
        self._task = None
        if seconds >= SHORTEST:
            self._console.print(Text(f"{self._title}: {seconds:.1f} s", style="dim"))


def _joined(labels: Sequence[str]) -> str:
    return ", ".join(plain(label) for label in labels) or "(none)"


def _shortened(text: str, longest: int = LONGEST) -> str:
    line = plain(text[: 2 * longest + 1000])
    return line if len(line) <= longest else f"{line[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"
