"""Write docs/commands.md and docs/settings.md from the command line and the settings table themselves.

    python scripts/make_reference.py            # writes the pages
    python scripts/make_reference.py --check    # writes nothing; status 1 and one line when a page is out of date

What a command or a setting says of itself stands in the code; what no single command can say stands here.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from likewise.cli import INTERRUPTED, OURS, READER_GONE, USER, cli
from likewise.commands.options import DEBUG_VARIABLE
from likewise.comparing import MOST
from likewise.evaluation.report import Evaluation
from likewise.setting import Scope, Setting
from likewise.settings import settings_of
from likewise.types import Neighbour, Prediction

DOCS = Path(__file__).resolve().parent.parent / "docs"

Named = tuple[str, click.Command]
"""A command and what one types to reach it: `likewise fit`."""

MADE = "<!-- Made by scripts/make_reference.py; change that, or the code it reads, and not this page. -->"

COMMANDS = """
# Commands

{made}

{table}

MODEL, a directory, always comes first. Options may stand anywhere behind the command's name; a text that begins with
a dash goes behind `--`. Options that are [settings](settings.md) can also be given as environment variables.

## Files and columns

A file's suffix says what it is, in reading and in writing: `.jsonl`, `.ndjson` and `.json` hold a JSON object a line,
`.csv` (comma, semicolon or tab between cells) and `.tsv` have a header line, `.parquet` needs
`pip install 'likewise[parquet]'`. Text is UTF-8. DATA, and the FILE of `--input`, may also be

- `-`, standard input: JSON Lines; for `classify` and `diff`, a line that does not begin with `{{` is a text by itself,
- `hf://datasets/OWNER/NAME/FILE`: a file of a data set on the Hugging Face hub, from its cache where it is there.

The columns, and the options that give them other names:

| column | holds | option |
| --- | --- | --- |
| `text` | the text | `--text-column` |
| `labels`, else `label` | one label or several: in JSON and Parquet a string or a list of strings, in CSV a cell, \
split at each bar | `--label-column`, `--label-separator` |
| none by default | your own reference for the text; teaching it again updates its example | `--ref-column` |

Other columns are ignored, but `classify --input` keeps them beside the answers (times of a Parquet file as text). Where
the input has a column of an answer's name, the answer's is called `predicted_` and that name, with as many `predicted_`
as it takes.

A row that cannot be used ends the command, and the message names its line; nothing has been changed then. With
`--skip-invalid REJECTS` such rows go to that file, `{{"line": ..., "reason": ..., "fields": {{...}}}}` a line, and the
others count; those of `--dev` and `--source` have to be sound. `classify --input` goes on either way. A file that is
written appears when it is complete, or not at all, and is never one that is read, nor in the model's directory.

A time (`--as-of`, `diff`, `revert`) is ISO 8601, in UTC unless it says otherwise; without a fraction of a second it
means the end of that second.

## JSON

With `--json` there is JSON on standard output and nothing else; warnings and errors go to standard error.

`classify` prints a line for each text (here broken for reading); with `--input`, it stands beside the row's own
columns, and goes into a `.jsonl` file in the same form:

```json
{classify}
```

`scores` is the blend, `head` one of the two voices, each with every label, highest first; `neighbours` are the cited
examples, nearest first, with their shares of the vote. `lambda` is the neighbours' weight in the blend, and `revision`
the ledger's revision that the answer rests on. Where several labels a text are allowed, `labels` (those that reach
their thresholds, possibly none) stands in the place of `label` and `score`. `"stale": true` is there only when the
ledger could not be reached and an older revision answered. With `--output FILE` standard output holds a summary
instead: `{{"output": ..., "classified": ..., "unread": ...}}`.

`evaluate` prints one object; `head` and `neighbours` have the same keys as `blend`:

```json
{evaluate}
```

The rows of `confusion` are the truth, its columns the blend's decision. With several labels a text it holds, for each
label, `true_positive`, `false_positive`, `false_negative` and `true_negative`.

`teach` prints the examples' ids in the order of the texts, the ledger's revision after the change, and how many
examples are new, were changed, were there with the same labels already, or were left as they were
(`--on-conflict keep`); `conflicts` counts, by the same words, the texts for which other labels were there: on the
example of their reference, or else on every example of that text:

```json
{{"ids": [581], "revision": 13, "added": 1, "updated": 0, "known": 0, "kept": 0, "conflicts": {{}}}}
```

`forget`, `relabel`, `rename-label`, `merge-labels` and `revert` print `ids` and `revision` of the same meaning, and
`updated`. `erase` prints `ids`, `revision`, `shared` (other examples that have, or had, one of the texts) and
`not_reached` (where the texts may still be). `move` prints `datastore`, `examples` and `revision`. `refit` prints one
object that sums it up, with the new `generation` and the scores `before` and `after`; with `--prune`, `pruned` (the
generations that are gone) and `generation`. `history` prints a line for each
change: `revision`, `at` (UTC), `action`, `by`, `note`, `examples` (how many it touched); with `--example`, what the
change made of the example (`text`, `labels`, null where it was forgotten, `ref`, `source`) in the place of `examples`.
`diff` prints a line for each example, `{{"id": ..., "before": ..., "after": ...}}`, null where it was not there; with
`--input`, a line for each text whose answer differs: `text`, the two answers as `classify` prints them under `before`
and `after`, and `causes`, each with the `id` of a changed example, its `effect` (how far undoing it alone leads back:
what the labels that were lost gain in probability, and those that were won lose) and `alone` (whether undoing it alone
brings the earlier decision back). Where more than {most} examples have changed, {most} are tried, those that vote on
the texts first. `export -` prints a line for each example. `fit` prints one object that sums the
fit up, `recipes` a line for each, and `check` `{{"sound": ..., "findings": [...]}}`.

## Exit status

| status | means |
| --- | --- |
| 0 | done |
| {ours} | our mistake; please report it with what `--debug` shows |
| {user} | your mistake; one line on standard error says what was found, what was expected and what to do next |
| {interrupted} | interrupted |
| {reader_gone} | whoever read standard output has closed it |

## Options of every command

{common}

Without a command there is also

{alone}
""".strip()

SETTINGS_PAGE = """
# Settings

{made}

A setting's value is the one that was given, else the environment variable's, else the default. An empty variable
counts as not set. A value of the wrong type or outside its range is an error and never replaced; so is an unknown
setting, and a variable whose name is a near miss of a setting's.

Each [command](commands.md) has the flags of the settings that it reads. From Python, settings go by their names:
`Model.open` takes those of answering, `Classifier` those of fitting and `neighbours`.

```python
from likewise import Classifier, Settings

Classifier(seed=1, holdout=0.2)
print(Settings.resolve(neighbours=3))
```

## Fitting

{fit}

## Answering

{answer}

## The service

`likewise serve` reads these, and those of answering.

{serve}

`{debug}=1` is no setting: it does for every command what `--debug` does for one.
""".strip()


def pages() -> dict[str, str]:
    """Every generated page's text by its name."""
    return {"commands.md": commands_page(), "settings.md": settings_page()}


# Commands


def commands_page() -> str:
    """The introduction, and a section for each command in the order in which `likewise --help` lists them."""
    commands = list(_commands(cli, "likewise"))
    shared = _shared_options(commands)
    head = COMMANDS.format(
        made=MADE,
        table=_table(("command", "what it does"), [_summary(title, command) for title, command in commands]),
        classify=_shape(_prediction().to_dict()),
        evaluate=_shape(_evaluation()),
        most=MOST,
        user=USER,
        ours=OURS,
        interrupted=INTERRUPTED,
        reader_gone=READER_GONE,
        common=_list(shared),
        alone=_list([option for option in _options("likewise", cli) if option not in shared]),
    )
    sections = [_section(title, command, shared) for title, command in commands]
    return "\n\n".join([head, *sections]) + "\n"


def _commands(group: click.Group, title: str) -> Iterator[Named]:
    """The commands of a group and of the groups in it, hidden ones left out."""
    context = click.Context(group, info_name=title)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        yield f"{title} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{title} {name}")


def _summary(title: str, command: click.Command) -> tuple[str, str]:
    anchor = title.replace(" ", "-")
    return f"[`{title}`](#{anchor})", command.get_short_help_str(limit=200)


def _section(title: str, command: click.Command, shared: Sequence[str]) -> str:
    context = click.Context(command, info_name=title)
    usage = " ".join([title, *command.collect_usage_pieces(context)])
    own = [option for option in _options(title, command) if option not in shared]
    parts = [f"## {title}", f"```text\n{usage}\n```", *_prose(command.help), _list(own), *_prose(command.epilog)]
    return "\n\n".join(part for part in parts if part)


def _options(title: str, command: click.Command) -> list[str]:
    """An option an entry, as click tells it: its names, and its help with its default."""
    context = click.Context(command, info_name=title, help_option_names=list(cli.context_settings["help_option_names"]))
    records = filter(None, (option.get_help_record(context) for option in command.get_params(context)))
    # Arguments have a record of their name alone; the usage line has shown it.
    return [f"`{names}`: {' '.join(words.split())}" for names, words in records if words]


def _shared_options(commands: Sequence[Named]) -> list[str]:
    """What every command takes with the same meaning."""
    first, *others = [_options(title, command) for title, command in commands]
    return [option for option in first if all(option in other for other in others)]


def _prose(words: str | None) -> Iterator[str]:
    r"""The paragraphs of a help text, each on a line; what \b keeps from being wrapped becomes a block."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(words or "")):
        if paragraph.startswith("\b\n"):
            yield f"```text\n{paragraph[2:]}\n```"
        else:
            yield " ".join(paragraph.split())


def _list(entries: Sequence[str]) -> str:
    return "\n".join(f"- {entry}" for entry in entries)


# The JSON, from the very records that the commands print


def _prediction() -> Prediction:
    neighbours = (
        Neighbour(17, "the parcel never came", ("delivery",), 0.41, 0.64),
        Neighbour(203, "I want my money back", ("refund",), 0.52, 0.36),
    )
    return Prediction(
        text="where is my parcel?",
        task="single",
        labels=("delivery",),
        scores=(("delivery", 0.77), ("refund", 0.23)),
        head=(("delivery", 0.9), ("refund", 0.1)),
        vote=(("delivery", 0.64), ("refund", 0.36)),
        neighbours=neighbours,
        lambda_=0.5,
        revision=12,
    )


def _evaluation() -> dict[str, Any]:
    truth = [("delivery",), ("delivery",), ("refund",), ("refund",)]
    decided = [("delivery",), ("refund",), ("refund",), ("refund",)]
    evaluation = Evaluation.of(truth, dict.fromkeys(("blend", "head", "neighbours"), decided), "single", 12)
    whole: dict[str, Any] = _rounded(evaluation.to_dict())
    whole["head"] = whole["neighbours"] = ...
    return whole


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def _shape(value: Any, indent: str = "") -> str:
    """JSON in which only what is too long for a line is broken; an ellipsis stands for what is left out."""
    if value is ...:
        return "{...}"
    if ... not in (value.values() if isinstance(value, dict) else ()):
        line = json.dumps(value, ensure_ascii=False)
        if len(indent) + len(line) <= 110 or not isinstance(value, dict | list):
            return line
    inner = indent + "  "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {_shape(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner + item for item in items) + "\n" + indent + "}"
    return "[\n" + ",\n".join(inner + _shape(item, inner) for item in value) + "\n" + indent + "]"


# Settings


def settings_page() -> str:
    """The settings, a table for each scope."""
    return (
        SETTINGS_PAGE.format(
            made=MADE, fit=_rows("fit"), answer=_rows("answer"), serve=_rows("serve"), debug=DEBUG_VARIABLE
        )
        + "\n"
    )


def _rows(scope: Scope) -> str:
    headings = ("setting", "flag", "environment variable", "default", "allowed", "what it says")
    return _table(headings, [_row(setting) for setting in settings_of(scope)])


def _row(setting: Setting) -> tuple[str, ...]:
    default = "unset" if setting.default is None else f"`{setting.default}`"
    words = f"{setting.help[:1].upper()}{setting.help[1:]}."
    return f"`{setting.name}`", f"`{setting.flag}`", f"`{setting.variable}`", default, setting.expected, words


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str], docs: Path = DOCS) -> int:
    """Write the pages into `docs`, or with --check compare them; the exit status."""
    if list(arguments) not in ([], ["--check"]):
        print(f"found {' '.join(arguments)}, expected nothing or --check")
        return 2
    made = pages()
    if not arguments:
        for name, page in made.items():
            (docs / name).write_text(page, encoding="utf-8")
        return 0
    old = [name for name, page in made.items() if not _is(docs / name, page)]
    if old:
        named = ", ".join(f"docs/{name}" for name in old)
        print(f"{named}: out of date; run: python scripts/make_reference.py")
    return 1 if old else 0


def _is(path: Path, page: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == page


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
