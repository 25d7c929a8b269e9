"""Commands that make a model or an encoder, and those that show how: fit, wrap, train-encoder, recipes, demo."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from likewise.commands.options import (
    FILE_NAME,
    Command,
    column_options,
    columns_from,
    given_settings,
    going_on,
    json_option,
    model_argument,
    print_json,
    progress,
    read_labelled,
    settings,
    settings_options,
    source_option,
    tell_rejected,
)
from likewise.errors import DataError, LabelError
from likewise.settings import settings_of
from likewise.types import Task

if TYPE_CHECKING:
    from likewise.data import Dataset
    from likewise.model import Model

# Of the answering side's settings, those that a fit reads too.
_ANSWERING = ("threads", "token_budget", "runtime", "max_text")
# Of a fit's settings, those that concern no encoder.
_TUNING = ("measure", "storage")


@click.command(cls=Command, short_help="Learn from labelled texts.")
@model_argument
@click.argument("data", type=FILE_NAME)
@click.option("--recipe", default="likewise", metavar="R", help="What is trained, and how. [default: likewise]")
@click.option(
    "--encoder",
    default="all-MiniLM-L6-v2",
    metavar="E",
    help="A sentence-transformers model, by folder or name; cnn, ldgn: networks over words that start from nothing. "
    "[default: all-MiniLM-L6-v2]",
)
@click.option(
    "--task",
    default="auto",
    metavar="[auto|single|multi]",
    help="One label a text, or none to several; auto: single when every row has exactly one. [default: auto]",
)
@click.option(
    "--datastore",
    metavar="URL",
    help="Keep the examples on a server: postgresql://user@host/database?schema=name. [default: in MODEL]",
)
@click.option(
    "--dev",
    type=FILE_NAME,
    metavar="DATA",
    help="Rows that choose the settings. [default: a part of DATA is held out]",
)
@source_option
@column_options(ref=True)
@settings_options(*settings_of("fit"), *_ANSWERING)
@json_option
def fit(
    model: str,
    data: str,
    recipe: str,
    encoder: str,
    task: str,
    datastore: str | None,
    dev: str | None,
    source: str | None,
    text_column: str,
    label_column: str | None,
    ref_column: str | None,
    separator: str,
    rejects: str | None,
    as_json: bool,
) -> None:
    """Learn from labelled texts: DATA (JSON Lines, CSV or Parquet) becomes MODEL, a new directory.

    DATA is a file, `-` (standard input), or hf://datasets/OWNER/NAME/FILE. A fit that was interrupted goes on where it
    stopped when the same command is given again.
    """
    from likewise.data import keep_apart, read_examples
    from likewise.files import refuse_taken
    from likewise.moving import require_free
    from likewise.planning import check_source, check_training
    from likewise.recipes import recipe_named
    from likewise.validation import decide_task

    chosen, target = settings(), Path(os.path.abspath(model))
    check_source(recipe_named(recipe), source is not None)
    check_training(recipe_named(recipe), given_settings())
    keep_apart(rejects, data, dev, source)
    refuse_taken(target)
    if datastore is not None:
        require_free(datastore)
    columns = columns_from(text_column, label_column, ref_column, separator)
    examples = read_examples(
        data, columns, task="single" if task == "single" else None, rejects=rejects, limit=chosen.max_text
    )
    tell_rejected(examples.rejected, rejects)
    decided = decide_task(examples.labels, cast("Literal['auto'] | Task", task), examples.where)
    held = read_labelled(dev, columns, decided, chosen)
    with going_on(target) as work:
        fitted = _fit(
            (data, dev, source),
            examples,
            task=decided,
            recipe=recipe,
            encoder=encoder,
            dev=held,
            source_task=read_labelled(source, columns, None, chosen),
            settings=chosen,
            work=work,
            progress=progress(),
        )
    with fitted:
        fitted.save(target)
        if datastore is not None:
            fitted.move(datastore)
        _tell(_summary(fitted, model, examples), as_json)


@click.command(cls=Command, short_help="Give a trained classifier neighbours to cite.")
@model_argument
@click.option(
    "--classifier",
    required=True,
    type=FILE_NAME,
    metavar="FOLDER",
    help="A transformers sequence-classification folder: BERT, RoBERTa, XLNet and others.",
)
@click.option(
    "--data", required=True, type=FILE_NAME, metavar="DATA", help="The labelled texts that its answers shall cite."
)
@click.option(
    "--dev",
    type=FILE_NAME,
    metavar="DATA",
    help="Rows that choose the settings, best such as the classifier has not seen. [default: a part of DATA]",
)
@column_options(ref=True)
@settings_options("seed", "max_tokens", "measure", "holdout", "precision", "storage", *_ANSWERING)
@json_option
def wrap(
    model: str,
    classifier: str,
    data: str,
    dev: str | None,
    text_column: str,
    label_column: str | None,
    ref_column: str | None,
    separator: str,
    rejects: str | None,
    as_json: bool,
) -> None:
    """Make MODEL, a new directory, of a classifier that was trained elsewhere and of labelled texts.

    Nothing is trained: its last layer answers as before, the texts nearest to what goes into that layer are cited and
    blended in (KNN-EC), and can be taught, corrected and forgotten as with any other model.
    """
    from likewise.data import keep_apart, read_examples
    from likewise.files import refuse_taken

    chosen, target = settings(), Path(os.path.abspath(model))
    keep_apart(rejects, data, dev)
    refuse_taken(target)
    columns = columns_from(text_column, label_column, ref_column, separator)
    examples = read_examples(data, columns, rejects=rejects, limit=chosen.max_text)
    tell_rejected(examples.rejected, rejects)
    held = read_labelled(dev, columns, None, chosen)
    with _naming(data, dev):
        from likewise.fitting import wrap as wrap_classifier

        wrapped = wrap_classifier(
            classifier, examples.texts, examples.labels, refs=examples.refs, dev=held, settings=chosen,
            source=examples.source, progress=progress(),
        )  # fmt: skip
    with wrapped:
        wrapped.save(target)
        _tell(_summary(wrapped, model, examples), as_json)


@click.command("train-encoder", cls=Command, short_help="Train an encoder for other data to start from.")
@click.argument("out", type=FILE_NAME)
@click.argument("data", type=FILE_NAME)
@click.option("--recipe", default="retrofit", metavar="R", help="What is trained, and how. [default: retrofit]")
@click.option(
    "--encoder",
    default="all-MiniLM-L6-v2",
    metavar="E",
    help="A sentence-transformers model to begin with, by folder or name; cnn, ldgn: networks over words that start "
    "from nothing. [default: all-MiniLM-L6-v2]",
)
@click.option(
    "--dev",
    type=FILE_NAME,
    metavar="DATA",
    help="Rows that choose the epoch. [default: a part of DATA is held out]",
)
@source_option
@column_options()
@settings_options(*(setting for setting in settings_of("fit") if setting.name not in _TUNING), "max_text")
@json_option
def train_encoder(
    out: str,
    data: str,
    recipe: str,
    encoder: str,
    dev: str | None,
    source: str | None,
    text_column: str,
    label_column: str | None,
    separator: str,
    rejects: str | None,
    as_json: bool,
) -> None:
    """Train an encoder on labelled texts: DATA becomes OUT, an ordinary sentence-transformers folder.

    It keeps no examples. Other data can start from it: likewise fit MODEL DATA --encoder OUT.
    """
    from likewise.data import keep_apart, read_examples
    from likewise.files import refuse_taken
    from likewise.planning import check_source
    from likewise.recipes import recipe_named

    chosen, target = settings(), Path(os.path.abspath(out))
    check_source(recipe_named(recipe), source is not None)
    keep_apart(rejects, data, dev, source)
    refuse_taken(target)
    columns = columns_from(text_column, label_column, None, separator)
    examples = read_examples(data, columns, rejects=rejects, limit=chosen.max_text)
    tell_rejected(examples.rejected, rejects)
    held = read_labelled(dev, columns, None, chosen)
    from likewise.train_encoder import train_encoder as train

    with _naming(data, dev, source), going_on(target) as work:
        summary = train(
            target, examples.texts, examples.labels, recipe=recipe, encoder=encoder, dev=held,
            source_task=read_labelled(source, columns, None, chosen), settings=chosen, work=work, progress=progress(),
        )  # fmt: skip
    if as_json:
        print_json(asdict(summary))
        return
    from likewise.rendering import stdout
    from likewise.rendering_fits import render_encoder

    render_encoder(stdout(), summary)


def _fit(files: tuple[str, str | None, str | None], examples: Dataset, **arguments: Any) -> Model:
    from likewise.fitting import fit as fit_model

    with _naming(*files):
        return fit_model(examples.texts, examples.labels, refs=examples.refs, source=examples.source, **arguments)


@contextlib.contextmanager
def _naming(data: str, dev: str | None = None, source: str | None = None) -> Iterator[None]:
    """Complaints about texts or labels name the file: that of the examples, or the one that they speak of."""
    from likewise.data import called

    try:
        yield
    except (DataError, LabelError) as error:
        kind, _, _ = str(error).partition(" ")
        file = {"dev": dev, "source": source}.get(kind) or data
        raise type(error)(f"{called(file)}: {error}") from error


def _tell(summary: dict[str, Any], as_json: bool) -> None:
    """What was made, as a table or as JSON."""
    if as_json:
        print_json(summary)
        return
    from likewise.rendering import stdout
    from likewise.rendering_fits import render_fit

    render_fit(stdout(), summary)


def _summary(fitted: Model, path: str, examples: Dataset) -> dict[str, Any]:
    info = fitted.info
    return {
        "model": path,
        "task": info.task,
        "recipe": info.recipe,
        "encoder": info.encoder,
        "examples": info.fit["examples"],
        "rejected": examples.rejected,
        "labels": dict(sorted(fitted.labels.items())),
        "measure": info.fit["measure"],
        "judged_on": info.fit["judged_on"],
        "scores": info.fit["scores"],
        "kept": info.fit["kept"],
        "precision": info.fit["precision"],
        "seconds": info.fit["seconds"],
        "revision": fitted.revision,
    }


@click.command(cls=Command, short_help="Show the recipes.")
@json_option
def recipes(as_json: bool) -> None:
    """Show the recipes: what each trains, when to use it, and where it comes from."""
    from likewise.recipes import RECIPES

    if as_json:
        print_json(
            *(
                {"recipe": each.name, "objective": each.objective, "use": each.use, "source": each.source}
                for each in RECIPES.values()
            )
        )
        return
    from likewise.rendering import stdout
    from likewise.rendering_fits import recipes_table

    console = stdout()
    console.print(recipes_table(RECIPES.values(), console.width))


@click.command(cls=Command, short_help="Show the whole story on sample data.")
@click.option("--quick", is_flag=True, help="Do not train the encoder (recipe frozen): seconds, and lower scores.")
@click.option(
    "--save",
    type=FILE_NAME,
    metavar="MODEL",
    help="Keep the model in this new directory. [default: it is thrown away]",
)
@settings_options("seed")
def demo(quick: bool, save: str | None) -> None:
    """Show the whole story on the sample data: fit, ask, teach, correct, forget. Takes up to three minutes."""
    from likewise.demo import tell_the_story
    from likewise.files import refuse_taken
    from likewise.rendering import stdout

    chosen = settings()
    target = None if save is None else Path(os.path.abspath(save))
    if target is not None:
        refuse_taken(target)
    tell_the_story(stdout(), progress(), recipe="frozen" if quick else "likewise", settings=chosen, save=target)
