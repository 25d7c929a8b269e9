"""What people see of fits: what they brought, the recipes, and progress, drawn with rich."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table
from rich.text import Text

from likewise.progress import Progress
from likewise.recipes import Recipe
from likewise.rendering import console_on, plain
from likewise.types import Refit

if TYPE_CHECKING:
    from likewise.train_encoder import EncoderSummary

NARROW = 80
"""Columns under which a table of prose is none to read."""
SHORTEST = 0.1
"""Seconds: a stage that took less leaves no line."""


def render_fit(console: Console, summary: Mapping[str, Any]) -> None:
    """What a fit measured, kept and saved, and what to do with it."""
    several = "none to several labels a text" if summary["task"] == "multi" else "one label a text"
    console.print(
        f"Fitted recipe {summary['recipe']} to {summary['examples']:,} examples with {len(summary['labels'])} labels "
        f"({several}) in {summary['seconds']:.0f} s."
    )
    console.print(fit_table(summary))
    lower = "" if summary["precision"] == "fp32" else f", calculating in {summary['precision']}"
    console.print(Text.assemble("Kept: ", (f"the {summary['kept']} encoder", "bold"), f"{lower}."), soft_wrap=True)
    console.print(Text.assemble("Saved: ", (str(summary["model"]), "bold"), "."), soft_wrap=True)
    name = plain(shlex.quote(str(summary["model"])))
    commands = (
        f'likewise classify {name} "a text"',
        f"likewise evaluate {name} FILE",
        f'likewise teach {name} "a text" --label L',
    )
    console.print(Text("Next:"))
    for command in commands:
        console.print(Text(f"  {command}"), soft_wrap=True)


def render_encoder(console: Console, summary: EncoderSummary) -> None:
    """What training an encoder brought, and what to do with it."""
    console.print(
        f"Trained {summary.base} by recipe {summary.recipe} on {summary.examples:,} texts with {len(summary.labels)} "
        f"labels in {summary.seconds:.0f} s"
        + (f"; judged on {summary.judged_on}." if summary.judged_on else "; too few to hold some out and judge it.")
    )
    table = Table(
        Column("stage", justify="right"),
        Column("epoch", justify="right"),
        Column("loss", justify="right"),
        Column("score", justify="right"),
        box=SIMPLE_HEAD,
        header_style="dim",
    )
    for epoch in summary.epochs:
        score = "" if epoch["dev_score"] is None else f"{epoch['dev_score']:.3f}"
        kept = epoch["epoch"] == summary.kept[epoch["stage"] - 1]
        row = (str(epoch["stage"]), str(epoch["epoch"]), f"{epoch['loss']:.3f}", score)
        table.add_row(*row, style="bold green" if kept else "")
    console.print(table)
    console.print(Text.assemble("Saved: ", (summary.encoder, "bold"), "."), soft_wrap=True)
    console.print(Text("Next:"))
    console.print(Text(f"  likewise fit MODEL DATA --encoder {plain(shlex.quote(summary.encoder))}"), soft_wrap=True)


def render_refit(console: Console, refit: Refit) -> None:
    """What a refit measured and kept, and what its scores are worth."""
    console.print(
        f"Refitted to {refit.examples:,} examples in {refit.seconds:.0f} s: generation {refit.generation} answers from "
        f"revision {refit.revision} on, with the {refit.kept} encoder."
    )
    table = Table(
        Column(f"{refit.measure.replace('_', '-')}, {refit.judged_on}", overflow="fold"),
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
        Column(f"{measure}, {summary['judged_on']}", overflow="fold"),
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


def recipes_table(recipes: Iterable[Recipe], width: int) -> RenderableType:
    """The recipes, a row each; where the columns would be too narrow for words, a paragraph each."""
    headings = ("what is trained", "when to use it", "after")
    rows = [(recipe.name, (recipe.objective, recipe.use, recipe.source)) for recipe in recipes]
    if width < NARROW:
        parts: list[RenderableType] = []
        for name, told in rows:
            lines = (
                Text.assemble((f"{heading}: ", "dim"), words) for heading, words in zip(headings, told, strict=True)
            )
            parts += [Text(name, style="bold cyan"), *(Padding(line, (0, 0, 0, 2)) for line in lines)]
        return Group(*parts)
    table = Table(Column("recipe", style="bold cyan", no_wrap=True), *headings, box=SIMPLE_HEAD, header_style="dim")
    for name, told in rows:
        table.add_row(name, *told)
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
        self._console = console_on(sys.stderr)
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
