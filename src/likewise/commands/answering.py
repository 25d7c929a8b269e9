"""Commands that ask a model: classify, evaluate, check."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

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
    refuse_without,
    say,
    settings,
    settings_options,
    tell_rejected,
)
from likewise.errors import suggestion

if TYPE_CHECKING:
    from likewise.model import Model

_READING = ("threads", "token_budget", "runtime", "max_text")


@click.command(cls=Command, short_help="Classify texts and cite examples.")
@model_argument
@click.argument("texts", metavar="[TEXT...]", nargs=-1)
@click.option(
    "--input", "file", type=FILE_NAME, metavar="FILE", help="Texts: JSON Lines, CSV or Parquet; - is standard input."
)
@click.option(
    "--output",
    type=FILE_NAME,
    metavar="FILE",
    help="Where the rows of --input go with their answers: .jsonl (all of it), .csv or .parquet (label and score); "
    "- is standard output.",
)
@click.option(
    "--as-of",
    "when",
    metavar="REVISION",
    help="Answer from the examples as they stood at a revision, or at a time (UTC unless it says otherwise).",
)
@column_options(labels=False)
@settings_options("neighbours", *_READING)
@json_option
def classify(
    model: str,
    texts: tuple[str, ...],
    file: str | None,
    output: str | None,
    when: str | None,
    text_column: str,
    separator: str,
    rejects: str | None,
    as_json: bool,
) -> None:
    """Classify texts, and show for each both voices and the examples that the answer rests on.

    With --input, rows stream through and keep their other columns. A row that cannot be read stays, with the reason
    in the column `error`, unless --skip-invalid puts it elsewhere. Without --output: one line a text.
    """
    from likewise.validation import check_text

    if bool(texts) == (file is not None):
        raise click.UsageError("give either TEXT (in quotes), or --input FILE")
    if file is None:
        refuse_without("--input", "output", "text_column", "separator", "rejects")
    limit = settings().max_text
    for number, text in enumerate(texts, start=1):
        check_text(text, f"TEXT {number}", limit)
    with open_model(model, encodes=True, written=(output, rejects)) as present, _at(present, when) as opened:
        if file is not None:
            from likewise.commands.streaming import classify_file

            columns = columns_from(text_column, None, None, separator)
            done = classify_file(
                opened, file, columns, limit, output=output, rejects=rejects, as_json=as_json
            )  # fmt: skip
            if rejects:
                tell_rejected(done.unread, rejects)
            elif done.unread:
                say(f"{counted(done.unread, 'row')} could not be read; the first: {done.first}")
            if output not in (None, "-"):
                summary = {"output": output, "classified": done.answered, "unread": done.unread}
                if as_json:
                    print_json(summary)
                else:
                    click.echo(f"Classified {counted(done.answered, 'text')} into {output}.")
        else:
            predictions = opened.classify(list(texts))
            if as_json:
                print_json(*(prediction.to_dict() for prediction in predictions))
            else:
                from likewise.rendering import prediction_panel, stdout

                console = stdout()
                for prediction in predictions:
                    console.print(prediction_panel(prediction))
        if opened.truncated:
            say(
                f"warning: {counted(opened.truncated, 'text')} longer than the encoder reads; "
                "the end played no part in the answer"
            )


def _at(model: Model, when: str | None) -> AbstractContextManager[Model]:
    return nullcontext(model) if when is None else model.as_of(when)


@click.command(cls=Command, short_help="Measure the model on labelled texts.")
@model_argument
@click.argument("data", type=FILE_NAME)
@column_options()
@settings_options(*_READING)
@json_option
def evaluate(
    model: str,
    data: str,
    text_column: str,
    label_column: str | None,
    separator: str,
    rejects: str | None,
    as_json: bool,
) -> None:
    """Measure head, neighbours and blend side by side on labelled texts that the model was not taught."""
    from likewise.data import called, read_examples

    columns = columns_from(text_column, label_column, None, separator)
    with open_model(model, encodes=True, written=(rejects,)) as opened:
        examples = read_examples(data, columns, task=opened.task, rejects=rejects, limit=settings().max_text)
        tell_rejected(examples.rejected, rejects)
        known = opened.labels
        for label in sorted({label for row in examples.labels for label in row} - known.keys()):
            hint = suggestion(label, known)
            say(f"warning: {called(data)} has the label {label!r}, which the model does not know{hint}")
        shown = progress()
        shown.stage("Classifying")
        try:
            evaluation = opened.evaluate(examples.texts, examples.labels, shown.update)
        finally:
            shown.done()
    if as_json:
        print_json(evaluation.to_dict())
        return
    from likewise.rendering import stdout

    evaluation.render(stdout())


@click.command(cls=Command, short_help="Look for damage.")
@model_argument
@json_option
def check(model: str, as_json: bool) -> int:
    """Compare files, ledger and index of a model with each other; status 2 and what was found if it is damaged."""
    from likewise.checking import check as find_damage

    findings = find_damage(model)
    if as_json:
        print_json({"sound": not findings, "findings": findings})
    else:
        for finding in findings or [f"{model} is sound."]:
            click.echo(finding)
    if not findings:
        return 0
    say(f"{model}: {counted(len(findings), 'finding')}; do as it says, or restore the model from a backup")
    return 2
