"""What a text and a label must be, and what decides the task; one place, whoever asks.

`where` names the place in messages: "reviews.csv, line 17", "texts[3]".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from numbers import Integral
from typing import Any, Literal, cast

from likewise.errors import DataError, ExampleError, LabelError, SettingError, UsageError, suggestion
from likewise.types import Task

LONGEST_LABEL = 1000
"""Characters. A longer label is a text in the wrong column."""

LONGEST_REF = 1000
"""Characters. A longer reference is a text in the wrong place."""

GREATEST = 2**63 - 1
"""The greatest number that a datastore can hold."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_TASKS = ("auto", "single", "multi")


def check_text(text: object, where: str, limit: int) -> str:
    """`text` as a plain string of at most `limit` characters.

    DataError for what is not a string, is empty or only whitespace, is longer than `limit`, or holds a NUL or a lone
    surrogate (neither can be stored and read back everywhere).
    """
    if not isinstance(text, str):
        raise DataError(f"{where}: found {_shown(text)}, expected a text (a string); remove it or fill it in")
    if len(text) > limit:
        raise DataError(
            f"{where}: the text has {len(text):,} characters, at most {limit:,} are expected; "
            "split it, or raise the setting max_text"
        )
    if not text.strip():
        found = "an empty text" if not text else "a text of nothing but whitespace"
        raise DataError(f"{where}: found {found}, expected words; remove it or fill it in")
    if problem := _unstorable(text):
        raise DataError(f"{where}: the text holds {problem}, expected Unicode text; remove it")
    return str(text)


def check_texts(texts: object, limit: int) -> list[str]:
    """Each of several texts, as `check_text` has it. DataError also for what is no list of them."""
    given = _in_order(texts)
    if given is None:
        raise DataError(f"texts: found a {type(texts).__name__}, expected a string or a list of strings")
    return [check_text(text, f"texts[{i}]", limit) for i, text in enumerate(given)]


def check_labels(labels: object, task: Task | None, where: str) -> tuple[str, ...]:
    """The labels of one text, sorted and without repeats; a single string means one label.

    `task="single"` requires exactly one; "multi" and None allow any number. LabelError for anything but strings, and
    for a label that is empty, only whitespace, over `LONGEST_LABEL` characters, or holds a NUL or lone surrogate.
    """
    given = None if isinstance(labels, bytes | bytearray | Mapping) else _items(labels)
    if given is None:
        raise LabelError(f"{where}: found {_shown(labels)}, expected a label (a string) or a list of labels")
    checked = tuple(sorted({_check_label(label, where) for label in given}))
    if task == "single" and len(checked) != 1:
        raise LabelError(f"{where}: found {_counted(checked)}, expected exactly one, as every text has here")
    return checked


def check_label_sets(labels: object, expected: int, task: Task | None) -> list[tuple[str, ...]]:
    """The labels of each of `expected` texts, as `check_labels` has them.

    LabelError also for another number of them, and for a set, which says nothing of whose they are.
    """
    if isinstance(labels, str):
        raise LabelError(f"labels: found the string {labels!r}, expected a list with one entry for each text")
    rows = _in_order(labels)
    if rows is None:
        raise LabelError(f"labels: found a {type(labels).__name__}, expected a list with one entry for each text")
    if len(rows) != expected:
        raise LabelError(f"labels: found {len(rows)}, expected one entry for each of {expected} texts")
    return [check_labels(row, task, f"labels[{i}]") for i, row in enumerate(rows)]


def check_list(values: object, name: str) -> list[Any]:
    """What is in a list or another collection in order. DataError for a string, a set, or what is no collection."""
    given = None if isinstance(values, str) else _in_order(values)
    if given is None:
        raise DataError(f"{name}: found {_shown(values)}, expected a list")
    return given


def check_pair(pair: object, name: str) -> tuple[Any, Any]:
    """Texts and their labels, whatever these two are. DataError for anything but a pair."""
    given = None if isinstance(pair, str) else _in_order(pair)
    if given is None or len(given) != 2:
        found = _shown(pair) if given is None else f"a {type(pair).__name__} of {len(given)}"
        raise DataError(f"{name}: found {found}, expected a pair: texts, and a list of their labels")
    return given[0], given[1]


def check_ids(ids: object, paired: bool = False) -> list[int]:
    """The id of an example, or of each of several, as a list. ExampleError for anything but whole numbers.

    `paired`: something belongs to each of them, so that a set is no list of them.
    """
    given = _in_order(ids) if paired else _items(ids)
    checked: list[int] = []
    for one in [ids] if given is None else given:  # "12" is no list of 1 and 2, and 1.5 is not example 1
        if isinstance(one, bool) or not isinstance(one, Integral):
            raise ExampleError(f"ids: found {_shown(one)}, expected the number of an example, or a list of them")
        checked.append(int(one))
    return checked


def check_repeats(ids: Sequence[int], label_sets: Sequence[tuple[str, ...]]) -> None:
    """LabelError for an example that stands in the list twice, with different labels."""
    wanted: dict[int, tuple[str, ...]] = {}
    for number, labels in zip(ids, label_sets, strict=True):
        if wanted.setdefault(number, labels) != labels:
            raise LabelError(f"ids: found example {number} twice, with different labels; keep one")


def check_moment(when: object) -> int | datetime:
    """A revision's number, or a time: ISO 8601, in UTC where it has no offset. UsageError for anything else.

    A time in words without a fraction of a second includes the whole of that second.
    """
    if isinstance(when, datetime):
        with suppress(OverflowError):  # in the first or last hours of the calendar
            return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    if not isinstance(when, bool) and isinstance(when, Integral):
        return int(when)
    if isinstance(when, str):
        with suppress(ValueError):  # also for more digits than a number is made of
            if when.strip().isdecimal():
                return int(when)
            moment = datetime.fromisoformat(when.strip())
            # A history is shown to the second: a time without a fraction means the end of that second.
            return check_moment(moment if "." in when or "," in when else moment.replace(microsecond=999_999))
    raise UsageError(
        f"found {_shown(when)}, expected the number of a revision, or a time such as 2026-05-01T12:00 (UTC)"
    )


def check_refs(refs: object, expected: int) -> list[str | None]:
    """The user's own references, one (or None) for each of `expected` texts; None for all of them: none is given.

    DataError for one string in place of a list, for another number of them, and for a reference that is no string,
    is empty or only whitespace, has over `LONGEST_REF` characters, or holds a NUL or lone surrogate.
    """
    if refs is None:
        return [None] * expected
    given = None if isinstance(refs, str) else _in_order(refs)
    if given is None:
        raise DataError(f"refs: found {_shown(refs)}, expected a list with one for each of {expected} texts")
    if len(given) != expected:
        raise DataError(f"refs: found {len(given)}, expected one for each of {expected} texts")
    return [None if ref is None else _check_ref(ref, f"refs[{i}]") for i, ref in enumerate(given)]


def check_number(number: object, name: str) -> int | None:
    """A whole number, 0 or more, that the datastore can hold; None stays None. UsageError for anything else."""
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, Integral) or not 0 <= int(number) <= GREATEST:
        raise UsageError(f"{name}: found {_shown(number)}, expected a whole number from 0 to {GREATEST:,}")
    return int(number)


def check_string(string: object, name: str) -> str | None:
    """What is recorded or searched for as it is; None stays None.

    DataError for anything but a string, and for one that holds a NUL or lone surrogate.
    """
    if string is None:
        return None
    if not isinstance(string, str):
        raise DataError(f"{name}: found {_shown(string)}, expected a string, or None")
    if problem := _unstorable(string):
        raise DataError(f"{name}: found {problem}, expected Unicode text; remove it")
    return str(string)


def check_parts(parts: object) -> list[str]:
    """The parts that a text is searched for: a string, several, or None for none. DataError for anything else."""
    given = [] if parts is None else _items(parts)
    if given is None or not all(isinstance(part, str) for part in given):
        raise DataError(f"contains: found {_shown(parts)}, expected a part of the text (a string), or a list of them")
    return [str(part) for part in given]


def decide_task(
    label_rows: Sequence[tuple[str, ...]],
    task: Literal["auto"] | Task,
    where: Callable[[int], str] | None = None,
) -> Task:
    """The task: "auto" is single where every row has exactly one label, multi otherwise.

    `where` names row i in messages ("labels[i]" without it). LabelError when "single" is asked for and a row has none
    or several labels, or when there is no row to decide by; SettingError for an unknown task.
    """
    if task not in _TASKS:
        hint = suggestion(str(task), _TASKS)
        raise SettingError(f"task: found {task!r}, expected one of {', '.join(_TASKS)}{hint}")
    if task == "multi":
        return "multi"
    if not label_rows:
        raise LabelError("labels: found no rows, expected at least one labelled text")
    odd = next((i for i, labels in enumerate(label_rows) if len(labels) != 1), None)
    if odd is None:
        return "single"
    if task == "auto":
        return "multi"
    place = where(odd) if where else f"labels[{odd}]"
    raise LabelError(
        f"{place}: found {_counted(label_rows[odd])}, expected exactly one under the task single; "
        "correct it, or choose the task multi"
    )


def normalised(text: str) -> str:
    """The form under which two texts are equal: NFKC, casefold, runs of whitespace as one space, none at the ends.

    Case and compatibility forms are folded in the order of Unicode's definition D146 (compatibility caseless match),
    without which a few sequences would fold differently when folded twice.
    """
    if not text.isascii():
        folded = unicodedata.normalize("NFD", text).casefold()
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", folded).casefold())
    else:
        text = text.lower()
    return " ".join(text.split())


def _check_label(label: object, where: str) -> str:
    if not isinstance(label, str):
        found = "a missing value among the labels" if label is None else f"the label {_shown(label)}"
        raise LabelError(f"{where}: found {found}, expected a string; write it in quotes")
    if not label.strip():
        raise LabelError(f"{where}: found an empty label, expected a name; remove it, or give the text no labels")
    if len(label) > LONGEST_LABEL:
        raise LabelError(
            f"{where}: found a label of {len(label):,} characters, at most {LONGEST_LABEL:,} are expected; "
            "is it a text in the wrong column?"
        )
    if problem := _unstorable(label):
        raise LabelError(f"{where}: a label holds {problem}, expected Unicode text; remove it")
    return str(label)


def _check_ref(ref: object, where: str) -> str:
    if not isinstance(ref, str):
        raise DataError(f"{where}: found {_shown(ref)}, expected a reference (a string), or None for none")
    if not ref.strip() or len(ref) > LONGEST_REF:
        found = f"{len(ref):,} characters" if ref.strip() else "an empty reference"
        raise DataError(f"{where}: found {found}, expected a reference of 1 to {LONGEST_REF:,} characters, or None")
    if problem := _unstorable(ref):
        raise DataError(f"{where}: the reference holds {problem}, expected Unicode text; remove it")
    return str(ref)


def _items(value: object) -> list[object] | None:
    """What is in a collection, a string by itself; None for what is no collection."""
    if isinstance(value, str):
        return [value]
    with suppress(TypeError):  # numpy's arrays without a dimension only look like collections
        return list(cast("Iterable[object]", value))
    return None


def _in_order(value: object) -> list[object] | None:
    """The same, but None also for a set, a mapping or a table: nothing says which item belongs to what."""
    return None if isinstance(value, set | frozenset | Mapping) or hasattr(value, "columns") else _items(value)


def _unstorable(text: str) -> str:
    """What in `text` cannot be stored, with its place; empty where nothing."""
    if (at := text.find("\x00")) >= 0:
        return f"a NUL (character {at + 1})"
    if not text.isascii() and (match := _SURROGATE.search(text)):
        return f"a lone surrogate (U+{ord(match[0]):04X}, character {match.start() + 1})"
    return ""


def _shown(value: object) -> str:
    """A short look at a value of the wrong type."""
    if value is None or (isinstance(value, float) and value != value):
        return "a missing value"
    shown = " ".join(ascii(value).split())  # tables and arrays come in several lines
    return f"{shown if len(shown) <= 40 else shown[:37] + '...'} ({type(value).__name__})"


def _counted(labels: Sequence[str]) -> str:
    if not labels:
        return "no label"
    shown = ", ".join(repr(label) for label in labels[:3])
    return f"{len(labels)} labels ({shown}{', ...' if len(labels) > 3 else ''})"
