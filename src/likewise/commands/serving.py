"""Commands of the service: serve, and token add, list, remove."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from likewise.commands.options import (
    Command,
    Group,
    json_option,
    model_argument,
    open_model,
    print_json,
    say,
    settings,
    settings_options,
)
from likewise.errors import MissingExtra
from likewise.settings import settings_of


@click.command(cls=Command, short_help="Answer over HTTP.")
@model_argument
@click.option("--no-auth", is_flag=True, help="Ask nobody for a token, on whatever address.")
@settings_options(*settings_of("serve"), "neighbours", "threads", "token_budget", "runtime", "lock_timeout", "max_text")
def serve(model: str, no_auth: bool) -> None:
    """Serve MODEL over HTTP until stopped (Ctrl-C, SIGTERM); requests under way are finished then.

    Where MODEL has tokens (likewise token add), every request but those of probes needs one. Without tokens only this
    machine is served, unless --no-auth is given. The routes are described under /docs.
    """
    from likewise.service.cores import shared

    chosen = shared(settings())
    try:
        from likewise.service.server import serve as run
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "likewise":
            raise
        raise MissingExtra(
            f"the service needs {error.name}, which is not installed; run: pip install 'likewise[serve]'"
        ) from error
    run(
        Path(model), chosen, auth=False if no_auth else None,
        ready=lambda address: say(f"serving {model} on {address} (docs: {address}/docs)"),
    )  # fmt: skip


@click.group(cls=Group, invoke_without_command=True, no_args_is_help=False, short_help="Who may use the service.")
@click.pass_context
def token(context: click.Context) -> None:
    """Name who may use the service: each token has a name, which the history records with what is changed by it."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@token.command("add", short_help="Make a token.")
@model_argument
@click.argument("name")
@click.option("--read", is_flag=True, help="It may ask.")
@click.option("--write", is_flag=True, help="It may ask and change.")
@json_option
def add(model: str, name: str, read: bool, write: bool, as_json: bool) -> None:
    """Make a token and print it: it is shown this once, and kept as a hash only."""
    from likewise.service.tokens import Tokens, scope_of

    scope = scope_of(read, write)
    secret = Tokens(_directory(model)).add(name, scope)
    if as_json:
        print_json({"name": name, "scope": scope, "token": secret})
        return
    click.echo(secret)
    say(f"that is the token of {name!r}, to {scope}; it will not be shown again. Use: Authorization: Bearer TOKEN")


@token.command("list", short_help="Show which tokens there are.")
@model_argument
@json_option
def list_(model: str, as_json: bool) -> None:
    """Show the tokens' names, what they allow and when they were made."""
    from likewise.service.tokens import Tokens

    tokens = Tokens(_directory(model)).listed()
    rows = [{key: value for key, value in asdict(one).items() if key != "digest"} for one in tokens]
    if as_json:
        print_json(*rows)
        return
    for row in rows:
        click.echo(f"{row['name']}  {row['scope']}  {row['made']}")
    if not rows:
        click.echo("There are no tokens.")


@token.command("remove", short_help="Take a token back.")
@model_argument
@click.argument("name")
@json_option
def remove(model: str, name: str, as_json: bool) -> None:
    """Take a token back; the service refuses it from its next request on."""
    from likewise.service.tokens import Tokens

    Tokens(_directory(model)).remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        click.echo(f"Removed the token of {name!r}.")


def _directory(model: str) -> Path:
    """The model directory, after a look that it is one."""
    with open_model(model):
        return Path(os.path.abspath(model))
