"""The command line: what a person or a script sees of Likewise, and how it ends.

Thin: the commands are in `likewise.commands`, and nothing heavy is imported before a command needs it. Exit status: 0
done, 2 the user's mistake (one line on standard error), 1 ours, 130 interrupted, 141 when whoever reads our output has
gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

import click

from likewise.commands.answering import check, classify, evaluate
from likewise.commands.changing import forget, merge_labels, relabel, rename_label, teach
from likewise.commands.making import demo, fit, recipes, train_encoder, wrap
from likewise.commands.options import DEBUG_VARIABLE, Group, Interrupted, ReaderGone, one_line, say
from likewise.commands.remembering import diff, erase, export, history, move, refit, revert
from likewise.commands.serving import serve, token
from likewise.errors import LikewiseError, suggestion
from likewise.progress import LikewiseWarning

USER, OURS, INTERRUPTED, READER_GONE = 2, 1, 130, 141

# What a disk or a directory refuses is for the user to put right, wherever it happens.
_REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}

_VERSION = "%(prog)s %(version)s"


@click.group(
    cls=Group,
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 2 your mistake (one line says which), 1 ours. --debug, or LIKEWISE_DEBUG=1, shows "
    "where an error came from. Every setting can also be given as an environment variable: LIKEWISE_SEED=1.",
)
@click.version_option(package_name="likewise", message=_VERSION)
@click.pass_context
def cli(context: click.Context) -> None:
    """Text classification by example: every answer cites the labelled texts it rests on.

    \b
    likewise demo                             the whole story on sample data
    likewise fit my-model train.csv           learn from labelled texts
    likewise classify my-model "some text"    ask
    likewise teach my-model "some text" --label refund

    MODEL, a directory, always comes first.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    demo, fit, wrap, train_encoder, classify, evaluate, teach, forget, relabel, rename_label, merge_labels,
    history, diff, revert, erase, refit, move, export, recipes, serve, token, check,
):  # fmt: skip
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (by default the process's own) and return its exit status."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a stand-in, and no traceback.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with warnings.catch_warnings():
        _quieten()
        return _run(arguments)


def _open_streams() -> None:
    """Open standard streams that were closed before us: as empty ones, lest the next file takes their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _run(arguments: Sequence[str] | None) -> int:
    """The command's status; whatever went wrong has been said."""
    try:
        status = cli.main(args=arguments, prog_name="likewise", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        return _told(_usage(error), USER)
    except (Interrupted, KeyboardInterrupt, click.Abort) as error:
        if sys.stderr.isatty():
            click.echo(err=True)  # behind the ^C that it shows
        return _told(str(error) if isinstance(error, Interrupted) else "interrupted", INTERRUPTED)
    except LikewiseError as error:
        return _told(str(error), USER)
    except ReaderGone:
        # What is still held back for the reader must not fail once more at exit.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return READER_GONE
    except OSError as error:
        if error.errno in _REFUSALS:
            name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            return _told(f"{name}{error.strerror}; check the rights and the space on the disk", USER)
        return _ours(error)
    except Exception as error:
        return _ours(error)


def _told(message: str, status: int) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
    say(message)
    return status


def _ours(error: Exception) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
    found = one_line(f"{type(error).__name__}: {error}")[:300]
    say(f"internal error ({found}); this is our mistake, not yours: please report it with what --debug shows")
    return OURS


def _usage(error: click.ClickException) -> str:
    """What was wrong with the command line, with a suggestion and where to read on."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        known = [name for parameter in context.command.params for name in parameter.opts] if context else []
        message = f"no such option {error.option_name}{suggestion(error.option_name, known)}"
    message = message[:1].lower() + message[1:]
    return f"{message}; see: {context.command_path} --help" if context else message


def _quieten() -> None:
    """Our own warnings as one line each; libraries' warnings to developers not at all, unless they are asked for."""
    if os.environ.get(DEBUG_VARIABLE) or sys.warnoptions:
        return
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", LikewiseWarning)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        with contextlib.suppress(OSError):
            say(f"warning: {message}")

    warnings.showwarning = show
