"""What the clients ask of the service, and how its answers are read; free of any network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from likewise.errors import DataError
from likewise.types import Change, Erasure, Example, ExampleVersion, Neighbour, OnConflict, Prediction, Revision, Scores
from likewise.validation import (
    check_ids,
    check_label_sets,
    check_labels,
    check_moment,
    check_number,
    check_refs,
    check_string,
    check_texts,
)

Labels = str | Sequence[str]
T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read.

    `again`: it may be sent once more though it may have been carried out already, because that changes nothing more.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    again: bool = True


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some of what was asked for; `next` is where the rest begins, None for the last."""

    items: list[T]
    next: str | None


def classify(texts: Sequence[str], neighbours: int | None, as_of: int | str | None) -> Call[list[Prediction]]:
    asked = _texts(texts)

    def read(rows: Any) -> list[Prediction]:
        return [_prediction(row) for row, _ in zip(rows, asked, strict=True)]

    body = _given(
        texts=asked,
        neighbours=check_number(neighbours, "neighbours"),
        as_of=None if as_of is None else _moment(as_of),
    )
    return Call("POST", "/v1/classify", read, body)


def teach(
    texts: Sequence[str],
    labels: Sequence[Labels],
    refs: Sequence[str | None] | None,
    on_conflict: OnConflict | None,
    note: str | None,
) -> Call[Change]:
    """To be sent again where that teaches nothing twice: with references for all texts, or known texts without any."""
    listed = _texts(texts)
    label_sets, given = check_label_sets(labels, len(listed), None), check_refs(refs, len(listed))
    rows = [_given(text=text, labels=its, ref=ref) for text, its, ref in zip(listed, label_sets, given, strict=True)]
    # The service knows an example by its reference, and a text without one by its labels, unless "both" adds it in any
    # case. Where only some have one, a reference may move from one text to another, which a repeat would not know.
    again = None not in given or (on_conflict != "both" and not any(given))
    body = _given(examples=rows, on_conflict=on_conflict, note=check_string(note, "note"))
    return Call("POST", "/v1/examples", _change, body, again=again)


def relabel(example: int, labels: Labels, seen: int | None, note: str | None) -> Call[Change]:
    body = _given(labels=check_labels(labels, None, "labels"), note=check_string(note, "note"))
    return Call("PATCH", _path(example), _change, body, headers=_match(seen), again=False)


def forget(example: int, seen: int | None) -> Call[Change]:
    return Call("DELETE", _path(example), _change, headers=_match(seen), again=False)


def erase(example: int) -> Call[Erasure]:
    return Call("DELETE", _path(example), _erasure, query={"erase": "true"}, again=False)


def portions(ids: Sequence[int] | None, most: int) -> list[list[int] | None]:
    """The ids by which examples are asked for, in their order, so many at once; None: whichever they are."""
    if ids is None:
        return [None]
    listed = sorted(set(check_ids(ids)))
    return [listed[at : at + most] for at in range(0, len(listed), most)]


def examples(
    words: str | None, label: str | None, ref: str | None, ids: list[int] | None, limit: int, cursor: str | None
) -> Call[Page[Example]]:
    query = _given(
        words=check_string(words, "words"), label=check_string(label, "label"), ref=check_string(ref, "ref"),
        id=ids, limit=limit, cursor=cursor,
    )  # fmt: skip
    return Call(
        "GET", "/v1/examples", lambda row: Page([_example(one) for one in row["examples"]], row["next"]), query=query
    )


def history_of(example: int) -> Call[list[ExampleVersion]]:
    return Call("GET", _path(example), lambda row: [_version(one) for one in row["history"]])


def history(limit: int, cursor: str | None) -> Call[Page[Revision]]:
    query = _given(limit=limit, cursor=cursor)
    return Call(
        "GET", "/v1/history", lambda row: Page([Revision(**one) for one in row["history"]], row["next"]), query=query
    )


def labels() -> Call[dict[str, int]]:
    return Call("GET", "/v1/labels", lambda row: {one["label"]: one["examples"] for one in row["labels"]})


def rename_label(old: str, new: str, note: str | None) -> Call[Change]:
    body = _given(old=_label(old, "old"), new=_label(new, "new"), note=check_string(note, "note"))
    return Call("POST", "/v1/labels/rename", _change, body, again=False)


def merge_labels(olds: Labels, into: str, note: str | None) -> Call[Change]:
    body = _given(labels=check_labels(olds, None, "labels"), into=_label(into, "into"), note=check_string(note, "note"))
    return Call("POST", "/v1/labels/merge", _change, body, again=False)


def revert(revision: int | str, note: str | None) -> Call[Change]:
    body = _given(revision=_moment(revision), note=check_string(note, "note"))
    return Call("POST", "/v1/revert", _change, body, again=False)


def model() -> Call[dict[str, Any]]:
    return Call("GET", "/v1/model", lambda row: {**row})


# What is sent


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _texts(texts: Sequence[str]) -> list[str]:
    """DataError for what are no texts, and for one string; how long one may be is for the service to say."""
    if isinstance(texts, str):
        raise DataError("texts: found a string, expected a list of strings; put it into one")
    return check_texts(texts, sys.maxsize)


def _label(label: str, where: str) -> str:
    (checked,) = check_labels(label, "single", where)
    return checked


def _moment(when: int | str) -> int | str:
    """A revision, or a time as it is written in full."""
    checked = check_moment(when)
    return checked if isinstance(checked, int) else checked.isoformat()


def _path(example: int) -> str:
    """ExampleError for what is no number: it could name another path."""
    (number,) = check_ids([example])
    return f"/v1/examples/{number}"


def _match(seen: int | None) -> dict[str, str]:
    number = check_number(seen, "seen")
    return {} if number is None else {"If-Match": f'"{number}"'}


# What comes back


def _prediction(row: Mapping[str, Any]) -> Prediction:
    single = "label" in row
    return Prediction(
        text=row["text"],
        task="single" if single else "multi",
        labels=(row["label"],) if single else tuple(row["labels"]),
        scores=_scores(row["scores"]),
        head=_scores(row["head"]),
        vote=(),  # the service does not send it
        neighbours=tuple(
            Neighbour(one["id"], one["text"], tuple(one["labels"]), one["distance"], one["weight"])
            for one in row["neighbours"]
        ),
        lambda_=row["lambda"],
        revision=row["revision"],
        stale=row.get("stale", False),
    )


def _scores(rows: Sequence[Mapping[str, Any]]) -> Scores:
    return tuple((row["label"], row["score"]) for row in rows)


def _change(row: Mapping[str, Any]) -> Change:
    counts = {name: row[name] for name in ("added", "updated", "known", "kept") if name in row}
    return Change(row["revision"], tuple(row["ids"]), **counts)


def _erasure(row: Mapping[str, Any]) -> Erasure:
    return Erasure(row["revision"], tuple(row["ids"]), tuple(row["shared"]))


def _example(row: Mapping[str, Any]) -> Example:
    return Example(row["id"], row["text"], tuple(row["labels"]), row["ref"], row["source"], row["revision"])


def _version(row: Mapping[str, Any]) -> ExampleVersion:
    change = Revision(row["revision"], row["at"], row["action"], row["by"], row["note"], row["examples"])
    labels = None if row["labels"] is None else tuple(row["labels"])
    return ExampleVersion(change, row["text"], labels, row["ref"], row["source"])
