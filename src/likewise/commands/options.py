"""What the commands have in common: options, how a model is opened, and how something is said."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from likewise.errors import suggestion
from likewise.setting import Scope, Setting
from likewise.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from likewise.data import Columns
    from likewise.model import Model
    from likewise.progress import Progress
    from likewise.types import Task

F = TypeVar("F", bound=Callable[..., Any])

DEBUG_VARIABLE = "LIKEWISE_DEBUG"
_GIVEN = "likewise.given"


class Command(click.Command):
    """A command that also takes --debug, wherever it stands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_set_debug,
                help=f"Show where an error came from (also: {DEBUG_VARIABLE}=1).",
            )
        )


class ReaderGone(Exception):
    """Whoever read our output has closed it. Not an OSError: click would end the process itself."""


class Interrupted(Exception):
    """Whoever runs the command has interrupted it. Not a KeyboardInterrupt: click would print an empty line."""


class Group(click.Group):
    """The group of all commands, in the order in which one meets them; suggests the one that was meant."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; a closed standard output is ReaderGone, an interrupt Interrupted."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted") from error
        return result

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with our own words for an unknown command."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.commands:
            hint = suggestion(name, self.commands) or f"; commands are {', '.join(self.commands)}"
            raise click.UsageError(f"no such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


def _set_debug(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        os.environ[DEBUG_VARIABLE] = "1"


# Options


class FileName(click.types.StringParamType):
    """The name of a file or directory. The empty one, which a script's unset variable leaves, is a mistake."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it was given."""
        if not value:
            self.fail("found an empty name, expected that of a file or directory", param, ctx)
        return super().convert(value, param, ctx)


FILE_NAME = FileName()


def settings_options(*settings: Setting | str) -> Callable[[F], F]:
    """The flags of these settings, made from the settings table; `settings()` holds what was given."""

    def add(command: F) -> F:
        for item in reversed(settings):
            command = _setting_option(SETTINGS[item] if isinstance(item, str) else item)(command)
        return command

    return add


def _setting_option(setting: Setting) -> Callable[[F], F]:
    def keep(context: click.Context, option: click.Parameter, value: str | None) -> None:
        if value is not None:
            given_settings()[setting.name] = setting.parse(value, setting.flag)

    metavar = f"[{'|'.join(setting.choices)}]" if setting.choices else "N" if setting.type is int else "X"
    unit = f" ({setting.unit})" if setting.unit else ""
    default = "" if setting.default is None else f" [default: {setting.default}]"
    return click.option(
        setting.flag,
        expose_value=False,
        callback=keep,
        metavar=metavar,
        help=f"{setting.help[:1].upper()}{setting.help[1:]}{unit}.{default}",
    )


def given_settings() -> dict[str, Any]:
    """The settings that flags of the present command give."""
    found: dict[str, Any] = click.get_current_context().meta.setdefault(_GIVEN, {})
    return found


def given_for(scope: Scope) -> dict[str, Any]:
    """Those of one scope."""
    return {name: value for name, value in given_settings().items() if SETTINGS[name].scope == scope}


def settings() -> Settings:
    """The settings in force for the present command: flags, else the environment, else defaults."""
    return Settings.resolve(**given_settings())


def column_options(
    *, text: bool = True, labels: bool = True, separator: bool = True, ref: bool = False, rejects: bool = True
) -> Callable[[F], F]:
    """The options that say what a file's columns hold, for `columns_from`; and --skip-invalid."""

    def add(command: F) -> F:
        if rejects:
            command = click.option(
                "--skip-invalid",
                "rejects",
                type=FILE_NAME,
                metavar="REJECTS",
                help="Write rows that cannot be used to this file (JSON Lines, with the reason) and go on.",
            )(command)
        if separator:
            command = click.option(
                "--label-separator",
                "separator",
                default="|",
                metavar="S",
                help="Parts several labels in one cell of a CSV file. [default: |]",
            )(command)
        if ref:
            command = click.option(
                "--ref-column", metavar="C", help="The column with your own reference for each text. [default: none]"
            )(command)
        if labels:
            command = click.option(
                "--label-column", metavar="C", help="The column with the labels. [default: labels, else label]"
            )(command)
        if text:
            command = click.option(
                "--text-column", default="text", metavar="C", help="The column with the texts. [default: text]"
            )(command)
        return command

    return add


def refuse_without(owner: str, *names: str) -> None:
    """UsageError where options were given that mean something only beside another one, which was not."""
    context = click.get_current_context()
    given = [
        option.opts[0]
        for option in context.command.params
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{' and '.join(given)} belong{'s' if len(given) == 1 else ''} to {owner}")


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, and nothing else.")
model_argument = click.argument("model", type=FILE_NAME)


def record_options(command: F) -> F:
    """--by and --note: what the ledger records of a change besides the change."""
    command = click.option("--note", metavar="NOTE", help="Why; recorded with the change.")(command)
    return click.option("--by", metavar="NAME", help="Who makes the change. [default: the system user]")(command)


source_option = click.option(
    "--source",
    type=FILE_NAME,
    metavar="DATA",
    help="Labelled texts of another task, for a recipe that learns from one, too (transfer, multitask, "
    "common-space-3.1 to 3.3).",
)

# Files and models


def columns_from(text: str | None, labels: str | None, ref: str | None, separator: str = "|") -> Columns:
    """The columns as the options name them."""
    from likewise.data import Columns

    return Columns(text=text, labels=labels, ref=ref, separator=separator)


def read_labelled(
    data: str | None, columns: Columns, task: Task | None, chosen: Settings
) -> tuple[list[str], list[tuple[str, ...]]] | None:
    """Texts and labels beside those that are fitted to, where a file of them is given."""
    from likewise.data import read_examples

    if data is None:
        return None
    rows = read_examples(data, columns, task=task, limit=chosen.max_text)
    return rows.texts, rows.labels


def open_model(path: str, encodes: bool = False, written: Sequence[str | None] = ()) -> Model:
    """The model, with the settings that were given. Where texts will be encoded, its encoder opens beside the rest.

    DataError where one of the files that are to be `written` lies in its directory.
    """
    chosen = settings()  # the environment's mistakes before the directory's
    if any(written):
        from likewise.data import keep_apart

        for file in written:
            keep_apart(file, path)
    if encodes:
        from likewise.bundle import Layout, read_manifest
        from likewise.encoding.runtime import open_ahead

        layout = Layout(Path(path))
        open_ahead(layout.onnx(read_manifest(layout.root).generation), **chosen.encoding())
    from likewise.model import Model

    return Model.open(path, **given_for("answer"))


# What is said


def say(message: str) -> None:
    """One line on standard error, under our name."""
    click.echo(f"likewise: {one_line(message)}", err=True)


def one_line(message: str) -> str:
    """The message without line breaks and control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))


def print_json(*rows: dict[str, Any]) -> None:
    """Each row as a line of JSON on standard output, in UTF-8 whatever the terminal speaks."""
    from likewise.data import write_rows

    sys.stdout.flush()
    write_rows("-", rows)


def tell_rejected(count: int, rejects: str | None) -> None:
    """How many rows were left out, and where they are."""
    if count and rejects:
        say(f"{counted(count, 'row')} left out, with the reason in {rejects}")


def progress() -> Progress:
    """Bars on a terminal; elsewhere only warnings, one line each."""
    from likewise.rendering_fits import RichProgress

    return RichProgress()


def counted(count: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def ranges(ids: Iterable[int]) -> str:
    """Ids in short: `3, 5-9, 12`; beyond ten groups the rest is counted."""
    groups: list[list[int]] = []
    for number in sorted(set(ids)):
        if groups and number == groups[-1][1] + 1:
            groups[-1][1] = number
        else:
            groups.append([number, number])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in groups]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


@contextlib.contextmanager
def going_on(model: Path) -> Iterator[Path]:
    """Where a fit keeps its checkpoints until it is done: hidden, beside the model.

    Who interrupts training is told how it goes on.
    """
    work = model.with_name(f".{model.name}.fit")
    try:
        yield work
    except KeyboardInterrupt as error:
        if _has_checkpoint(work):
            raise Interrupted(f"interrupted; the same command goes on from its last checkpoint in {work}") from error
        raise
    finally:
        if not any(path.is_file() for path in work.rglob("*")):
            shutil.rmtree(work, ignore_errors=True)


def _has_checkpoint(work: Path) -> bool:
    if not work.exists():
        return False
    from likewise.training.checkpoints import COURSE, FINISHED

    return any(path.name in (COURSE, FINISHED) for path in work.rglob("*.json"))
