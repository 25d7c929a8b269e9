"""Commands that change what a model knows: teach, forget, relabel, rename-label, merge-labels.

Each is one transaction, and in force for every process at its next answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast, get_args

import click

from likewise.commands.options import (
    FILE_NAME,
    Command,
    column_options,
    columns_from,
    counted,
    json_option,
    model_argument,
    open_model,
    print_json,
    progress,
    ranges,
    record_options,
    refuse_without,
    say,
    settings,
    settings_options,
    tell_rejected,
)
from likewise.errors import DataError, suggestion
from likewise.progress import Progress
from likewise.types import Change, Example, OnConflict

if TYPE_CHECKING:
    from likewise.data import Columns
    from likewise.model import Model

labels_option = click.option("--label", "labels", multiple=True, metavar="L", help="A label; repeat it for several.")


@click.command(cls=Command, short_help="Add labelled texts.")
@model_argument
@click.argument("text", required=False)
@labels_option
@click.option("--no-label", is_flag=True, help="TEXT has no label (where several are allowed).")
@click.option("--ref", metavar="REF", help="Your own reference for TEXT; one that is there updates its example.")
@click.option(
    "--input",
    "file",
    type=FILE_NAME,
    metavar="FILE",
    help="Labelled texts: JSON Lines, CSV or Parquet; - is standard input.",
)
@click.option(
    "--on-conflict",
    type=click.Choice(get_args(OnConflict)),
    help="A text that is there: keep its labels, replace them, or have both. [default: both if the labels differ]",
)
@column_options(ref=True)
@record_options
@settings_options("lock_timeout", "threads", "token_budget", "runtime", "max_text")
@json_option
def teach(
    model: str,
    text: str | None,
    labels: tuple[str, ...],
    no_label: bool,
    ref: str | None,
    file: str | None,
    on_conflict: str | None,
    text_column: str,
    label_column: str | None,
    ref_column: str | None,
    separator: str,
    rejects: str | None,
    by: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Add labelled texts: TEXT with its --label, or a file of them. A label that is new is learnt at once."""
    from likewise.data import read_examples
    from likewise.validation import check_labels, check_text

    if (text is None) == (file is None):
        raise click.UsageError("give either TEXT with --label, or --input FILE")
    if file is not None and (labels or no_label or ref is not None):
        raise click.UsageError("--label, --no-label and --ref belong to TEXT; with --input the file holds them")
    if no_label and labels:
        raise click.UsageError("give either --label or --no-label")
    if file is None:
        refuse_without("--input", "text_column", "label_column", "ref_column", "separator", "rejects")
    limit = settings().max_text
    if ref is not None:
        check_text(ref, "--ref", limit)
    if text is not None:
        check_text(text, "TEXT", limit)
    with open_model(model, encodes=True, written=(rejects,)) as opened:
        if text is not None:
            if not labels and not no_label:
                raise click.UsageError("found no label for TEXT; give --label L, or --no-label if it has none")
            texts, label_sets, refs = [text], [check_labels(labels, opened.task, "--label")], [ref]
            source = "command line"
        else:
            columns = columns_from(text_column, label_column, ref_column, separator)
            data = read_examples(cast(str, file), columns, task=opened.task, rejects=rejects, limit=limit)
            tell_rejected(data.rejected, rejects)
            texts, label_sets, refs, source = data.texts, data.labels, data.refs, data.source
        known = opened.labels
        shown = Progress() if file is None else progress()
        shown.stage("Encoding")
        try:
            change = opened.teach(
                texts,
                label_sets,
                refs=refs,
                by=by,
                note=note,
                on_conflict=cast("OnConflict | None", on_conflict),
                source=source,
                progress=shown.update,
            )
        finally:
            shown.done()
        for label in sorted({label for row in label_sets for label in row} & (opened.labels.keys() - known.keys())):
            say(f"{label!r} is a new label{suggestion(label, known)}")
    counts = {name: getattr(change, name) for name in ("added", "updated", "known", "kept")}
    if as_json:
        conflicts = dict(change.conflicts)
        print_json({"ids": list(change.ids), "revision": change.revision, **counts, "conflicts": conflicts})
        return
    words = {"added": "added", "updated": "updated", "known": "already known", "kept": "left as it was"}
    done = ", ".join(f"{count:,} {words[name]}" for name, count in counts.items() if count)
    click.echo(f"Taught {counted(len(texts), 'text')}: {done}.")
    if change.conflicts:
        words = {"added": "added beside it", "updated": "put in its place", "kept": "left out"}
        done = ", ".join(f"{count:,} {words[name]}" for name, count in sorted(change.conflicts.items()))
        total = sum(change.conflicts.values())
        click.echo(f"{counted(total, 'text')} {'contradicts' if total == 1 else 'contradict'} what was there: {done}.")
    click.echo(f"{'Id' if len(set(change.ids)) == 1 else 'Ids'}: {ranges(change.ids)}. Revision: {change.revision}.")


@click.command(cls=Command, short_help="Take examples out.")
@model_argument
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=int)
@record_options
@settings_options("lock_timeout")
@json_option
def forget(model: str, ids: tuple[int, ...], by: str | None, note: str | None, as_json: bool) -> None:
    """Forget examples: they no longer vote, are no longer cited and no longer shape the head."""
    with open_model(model) as opened:
        before = opened.examples(ids=ids)
        change = opened.forget(ids, by=by, note=note)
    tell(change, f"Forgot {counted(len(before), 'example')}", before, None, as_json)


@click.command(cls=Command, short_help="Correct the labels of examples.")
@model_argument
@click.argument("number", metavar="[ID]", required=False, type=int)
@labels_option
@click.option("--no-label", is_flag=True, help="The example has no label (where several are allowed).")
@click.option(
    "--input",
    "file",
    type=FILE_NAME,
    metavar="FILE",
    help="A file with a column id (or one of refs) and the right labels.",
)
@click.option("--id-column", metavar="C", help="The column with the ids. [default: id]")
@column_options(ref=True, rejects=False, text=False)
@record_options
@settings_options("lock_timeout")
@json_option
def relabel(
    model: str,
    number: int | None,
    labels: tuple[str, ...],
    no_label: bool,
    file: str | None,
    id_column: str | None,
    label_column: str | None,
    ref_column: str | None,
    separator: str,
    by: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Give an example the right labels, or every example that a file names its own."""
    from likewise.validation import check_labels

    if (number is None) == (file is None):
        raise click.UsageError("give either ID with --label, or --input FILE")
    if file is not None and (labels or no_label):
        raise click.UsageError("--label and --no-label belong to ID; with --input the file holds the labels")
    if file is None:
        refuse_without("--input", "id_column", "label_column", "ref_column", "separator")
    if number is not None and bool(labels) == no_label:
        raise click.UsageError("give the right labels: --label L (repeat it for several), or --no-label")
    if id_column is not None and ref_column is not None:
        raise click.UsageError("give either --id-column or --ref-column")
    with open_model(model) as opened:
        if number is not None:
            ids, label_sets = [number], [check_labels(labels, opened.task, "--label")]
        else:
            named_by: Literal["id", "ref"] = "ref" if ref_column else "id"
            columns = columns_from(None, label_column, ref_column or id_column or "id", separator)
            ids, label_sets = _corrections(opened, cast(str, file), columns, named_by)
        before = opened.examples(ids=ids)
        change = opened.relabel(ids, label_sets, by=by, note=note)
        after = opened.examples(ids=ids)
    if change.updated:
        tell(change, f"Relabelled {counted(change.updated, 'example')}", before, after, as_json)
        return
    tell(change, _unchanged("these labels were there already", note), (), None, as_json)


def _corrections(
    model: Model, file: str, columns: Columns, named_by: Literal["id", "ref"]
) -> tuple[list[int], list[tuple[str, ...]]]:
    """The ids and right labels that a file holds; `columns.ref` is the column that names the examples.

    DataError or LabelError, naming the line, for a row that cannot be used, and where the file has none.
    """
    from likewise.data import Reject, called, place, read_rows, unit
    from likewise.validation import check_labels

    column = columns.ref
    by_ref = {e.ref: e.id for e in model.examples() if e.ref is not None} if named_by == "ref" else {}
    found: dict[int, tuple[str, ...]] = {}
    lines: dict[int, int] = {}
    for row in read_rows(file, columns, need_labels=True, limit=settings().max_text):
        where = f"{place(file)} {row.number}"
        if isinstance(row, Reject):
            raise DataError(f"{where}: {row.reason}")
        name = row.ref or ""
        if named_by == "ref":
            if name not in by_ref:
                raise DataError(
                    f"{where}: column {column!r}: no example has the ref {name!r}{suggestion(name, by_ref)}"
                )
            number = by_ref[name]
        elif name.isdecimal():
            number = int(name)
        else:
            raise DataError(f"{where}: column {column!r}: found {name!r}, expected an example's id (a whole number)")
        labels = check_labels(row.labels, model.task, where)
        if found.setdefault(number, labels) != labels:
            raise DataError(f"{where}: found {name!r} with other labels than in {unit(file)} {lines[number]}; keep one")
        lines.setdefault(number, row.number)
    if not found:
        raise DataError(f"{called(file)}: found no rows, expected ids with their right labels")
    return list(found), list(found.values())


@click.command("rename-label", cls=Command, short_help="Give a label another name.")
@model_argument
@click.argument("old")
@click.argument("new")
@record_options
@settings_options("lock_timeout")
@json_option
def rename_label(model: str, old: str, new: str, by: str | None, note: str | None, as_json: bool) -> None:
    """Give a label another name, one that is not in use (merge-labels joins two)."""
    with open_model(model) as opened:
        change = opened.rename_label(old, new, by=by, note=note)
    tell(change, f"Renamed {old!r} to {new!r} on {counted(len(change.ids), 'example')}", (), None, as_json)


@click.command("merge-labels", cls=Command, short_help="Make one label of several.")
@model_argument
@click.argument("olds", metavar="OLD...", nargs=-1, required=True)
@click.option("--into", required=True, metavar="NEW", help="The label that takes their place, new or there already.")
@record_options
@settings_options("lock_timeout")
@json_option
def merge_labels(model: str, olds: tuple[str, ...], into: str, by: str | None, note: str | None, as_json: bool) -> None:
    """Make one label of several."""
    with open_model(model) as opened:
        change = opened.merge_labels(olds, into, by=by, note=note)
    merged = ", ".join(repr(old) for old in dict.fromkeys(olds))
    done = f"Merged {merged} into {into!r} on {counted(len(change.ids), 'example')}"
    tell(change, done if change.updated else _unchanged(f"{merged} is its name already", note), (), None, as_json)


def _unchanged(why: str, note: str | None) -> str:
    unsaid = "" if note is None else " (and the note recorded nowhere)"
    return f"Nothing to change: {why}; no revision was made{unsaid}"


def tell(change: Change, done: str, before: Sequence[Example], after: Sequence[Example] | None, as_json: bool) -> None:
    """The change as JSON, or in words with the examples it touched (`after`: as they are now)."""
    if as_json:
        print_json({"ids": list(change.ids), "revision": change.revision, "updated": change.updated})
        return
    from likewise.rendering import examples_table, stdout

    click.echo(f"{done}. Revision: {change.revision}.")
    if before:
        stdout().print(examples_table(before, after))
