"""Commands about what a model knew and when: history, diff, revert, erase, refit, move, export."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likewise.commands.changing import tell
from likewise.commands.options import (
    FILE_NAME,
    Command,
    column_options,
    columns_from,
    counted,
    given_for,
    going_on,
    json_option,
    model_argument,
    open_model,
    print_json,
    progress,
    ranges,
    read_labelled,
    record_options,
    refuse_without,
    settings,
    settings_options,
    source_option,
    tell_rejected,
)
from likewise.errors import DataError
from likewise.settings import settings_of
from likewise.types import ChangedAnswer, Difference, Example, ExampleVersion, Revision

if TYPE_CHECKING:
    from likewise.model import Model

EXPORTED = (".jsonl", ".ndjson", ".json", ".parquet")


@click.command(cls=Command, short_help="Show every change.")
@model_argument
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The last N changes only.")
@click.option("--example", type=int, metavar="ID", help="The life of one example.")
@json_option
def history(model: str, limit: int | None, example: int | None, as_json: bool) -> None:
    """Show every change, newest first: when (UTC), who, what, how many examples, and why."""
    with open_model(model) as opened:
        changes = opened.history(limit) if example is None else []
        versions = [] if example is None else opened.history_of(example)[:limit]
    if as_json:
        print_json(*map(asdict, changes), *map(_version, versions))
        return
    from likewise.rendering import history_table, life_table, stdout

    stdout().print(history_table(changes) if example is None else life_table(versions))


def _version(version: ExampleVersion) -> dict[str, Any]:
    """An example's version as it stands in JSON: the change, without its count, and what it made of the example."""
    change = {key: value for key, value in asdict(version.change).items() if key != "examples"}
    labels = None if version.labels is None else list(version.labels)
    return {**change, "text": version.text, "labels": labels, "ref": version.ref, "source": version.source}


@click.command(cls=Command, short_help="Train anew on the examples as they stand.")
@model_argument
@click.option("--recipe", metavar="R", help="What is trained, and how. [default: as before]")
@click.option("--encoder", metavar="E", help="A sentence-transformers model, by folder or name. [default: as before]")
@source_option
@click.option("--prune", is_flag=True, help="Train nothing: remove the generations that answer no more.")
@record_options
@settings_options(*settings_of("fit"), "lock_timeout", "threads", "token_budget", "runtime")
@json_option
def refit(
    model: str,
    recipe: str | None,
    encoder: str | None,
    source: str | None,
    prune: bool,
    by: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Train a new generation on the examples as they stand now; their ids, refs and history stay.

    Recipe, encoder and settings are those of the fit before unless others are given. The present generation answers
    until the new one is complete, and is kept until --prune. Scores of both on the same held-out rows are shown. A
    refit that was interrupted goes on where it stopped when the same command is given again.
    """
    fit = given_for("fit")
    if prune:
        refuse_without("a refit, and --prune trains nothing", "recipe", "encoder", "source", "by", "note", *fit)
    with open_model(model) as opened:
        if prune:
            gone = opened.prune()
            if as_json:
                print_json({"pruned": gone, "generation": opened.info.generation})
            else:
                what = f"generation {', '.join(map(str, gone))}" if gone else "nothing: there is only one generation"
                click.echo(f"Removed {what}.")
            return
        another = read_labelled(source, columns_from("text", None, None, "|"), None, settings())
        with going_on(Path(os.path.abspath(model))) as work:
            done = opened.refit(recipe, encoder, by, note, work, progress(), another, **fit)
    if as_json:
        print_json(asdict(done))
        return
    from likewise.rendering import stdout
    from likewise.rendering_fits import render_refit

    render_refit(stdout(), done)


@click.command(cls=Command, short_help="Move the examples to a server, or back.")
@model_argument
@click.option(
    "--datastore",
    required=True,
    metavar="URL",
    help="Where to: postgresql://user@host/database?schema=name, or sqlite (the file in MODEL).",
)
@record_options
@settings_options("lock_timeout")
@json_option
def move(model: str, datastore: str, by: str | None, note: str | None, as_json: bool) -> None:
    """Move the datastore, with its history, to a PostgreSQL server that many machines share, or back into MODEL.

    The password comes from PGPASSWORD or ~/.pgpass. Copies of MODEL on other machines share the datastore from then on.
    Moved back, MODEL has a datastore of its own again, and the server's stays for the others.
    """
    with open_model(model) as opened:
        revision = opened.move(datastore, by=by, note=note)
        count = opened.history(limit=1)[0].examples
    if as_json:
        print_json({"datastore": datastore, "examples": count, "revision": revision})
    else:
        click.echo(f"Moved {counted(count, 'example')} to {datastore}. Revision: {revision}.")


@click.command(cls=Command, short_help="Undo what came after a revision.")
@model_argument
@click.argument("revision")
@record_options
@settings_options("lock_timeout")
@json_option
def revert(model: str, revision: str, by: str | None, note: str | None, as_json: bool) -> None:
    """Make every example what it was at REVISION (or at a time), as a new change.

    Nothing disappears from the history, and the revert can itself be reverted.
    """
    with open_model(model) as opened:
        with opened.as_of(revision) as then:  # REVISION may be a time
            number = then.revision
        change = opened.revert(number, by=by, note=note)
        erased = not change.ids and any(one.action == "erased" and one.revision > number for one in opened.history())
    done = f"Reverted to revision {number}: {counted(len(change.ids), 'example')} changed"
    if not change.ids:
        done = f"Nothing has changed since revision {number}" + (" but what was erased, for good" if erased else "")
    tell(change, done, (), None, as_json)
    if change.ids and not as_json:
        click.echo(f"{'Id' if len(change.ids) == 1 else 'Ids'}: {ranges(change.ids)}.")


@click.command(cls=Command, short_help="Take examples out for good.")
@model_argument
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=int)
@click.option("--yes", is_flag=True, help="Do not ask on a terminal whether it is meant.")
@record_options
@settings_options("lock_timeout")
@json_option
def erase(model: str, ids: tuple[int, ...], yes: bool, by: str | None, note: str | None, as_json: bool) -> None:
    """Take examples out for good: text, labels, ref and embedding leave every file of MODEL, the past included.

    The history keeps that they were erased, when and by whom. This cannot be undone; `forget` can.
    """
    from likewise.erasing import BEYOND

    with open_model(model) as opened:
        if not yes and sys.stdin.isatty():
            click.confirm(f"Erase {counted(len(set(ids)), 'example')} for good?", abort=True, err=True)
        erasure = opened.erase(ids, by=by, note=note)
    if as_json:
        print_json({**asdict(erasure), "not_reached": BEYOND})
        return
    click.echo(f"Erased {counted(len(erasure.ids), 'example')}. Revision: {erasure.revision}.")
    if erasure.shared:
        many = len(erasure.shared) > 1
        click.echo(
            f"The same text is also {'examples' if many else 'example'} {ranges(erasure.shared)}, "
            f"which {'keep' if many else 'keeps'} it; erase {'them' if many else 'it'} too if it must go."
        )
    click.echo("Not reached:")
    for one in BEYOND:
        click.echo(f"- {one}")


@click.command(cls=Command, short_help="Show what changed between two revisions.")
@model_argument
@click.argument("first", metavar="R1")
@click.argument("second", metavar="R2")
@click.option(
    "--input",
    "file",
    type=FILE_NAME,
    metavar="FILE",
    help="Texts: show those whose answer differs, and what made it differ.",
)
@column_options(labels=False, separator=False)
@settings_options("neighbours", "threads", "token_budget", "runtime", "max_text")
@json_option
def diff(
    model: str,
    first: str,
    second: str,
    file: str | None,
    text_column: str,
    rejects: str | None,
    as_json: bool,
) -> None:
    """Show the examples that are not at revision R2 (or a time) what they were at R1.

    With --input: the texts that are answered differently at R2, and for each the changed examples that led to it. An
    effect is what undoing that one example alone does to the answer.
    """
    from likewise.data import read_texts

    if file is None:
        refuse_without("--input", "text_column", "rejects")
    with open_model(model, written=(rejects,)) as opened:
        found = opened.diff(first, second)
        if file is None:
            if as_json:
                print_json(*map(_difference, found))
            else:
                from likewise.rendering import difference_table, stdout

                stdout().print(difference_table(found))
            return
        columns = columns_from(text_column, None, None)
        texts = read_texts(file, columns, rejects=rejects, limit=settings().max_text)
        tell_rejected(texts.rejected, rejects)
        shown = progress()
        shown.stage("Undoing changes one by one")
        try:
            answers = opened.diff_answers(texts.texts, first, second, shown.update)
        finally:
            shown.done()
    if as_json:
        print_json(*map(_answer, answers))
        return
    from likewise.rendering import changed_answers, stdout

    known = {difference.id: example for difference in found if (example := difference.after or difference.before)}
    stdout().print(changed_answers(answers, known, len(texts)))


def _answer(answer: ChangedAnswer) -> dict[str, Any]:
    """A changed answer as it stands in JSON."""
    before, after = answer.before.to_dict(), answer.after.to_dict()
    text = before.pop("text")
    del after["text"]
    return {"text": text, "before": before, "after": after, "causes": [asdict(cause) for cause in answer.causes]}


def _difference(difference: Difference) -> dict[str, Any]:
    def side(example: Example | None) -> dict[str, Any] | None:
        if example is None:
            return None
        return {"text": example.text, "labels": list(example.labels), "ref": example.ref, "source": example.source}

    return {"id": difference.id, "before": side(difference.before), "after": side(difference.after)}


@click.command(cls=Command, short_help="Write all examples to a file.")
@model_argument
@click.argument("file", type=FILE_NAME)
@json_option
def export(model: str, file: str, as_json: bool) -> None:
    """Write all examples with their ids, refs, labels and where they came from to FILE: JSON Lines or Parquet.

    `likewise teach MODEL --input FILE --ref-column ref` takes it back; an example without a ref that has the text and
    the labels of another becomes one with it. - is standard output.
    """
    from likewise.writing import write_rows

    if file != "-" and Path(file).suffix.lower() not in EXPORTED:
        raise DataError(f"{file}: found the suffix {Path(file).suffix!r}, expected one of {', '.join(EXPORTED)}")
    with open_model(model, written=(file,)) as opened:
        count = write_rows(file, _exported(opened))
    if as_json and file != "-":
        print_json({"output": file, "examples": count})
    elif file != "-":
        click.echo(f"Exported {counted(count, 'example')} to {file}.")


def _exported(model: Model) -> Iterator[dict[str, Any]]:
    """Every example as a row, with the change that gave it its present text and labels."""
    examples = model.examples()
    made: dict[int, Revision] = {change.revision: change for change in model.history()}
    for example in examples:
        change = made[example.revision]
        yield {
            "id": example.id,
            "ref": example.ref,
            "text": example.text,
            "labels": list(example.labels),
            "source": example.source,
            "revision": example.revision,
            "at": change.at,
            "by": change.by,
            "note": change.note,
        }
