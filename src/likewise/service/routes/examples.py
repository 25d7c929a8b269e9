"""/v1/examples: what the model was taught, and how that is changed."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Response

from likewise.errors import LedgerError
from likewise.service import documents
from likewise.service.documents import answers
from likewise.service.errors import Refusal, json_response
from likewise.service.limits import check_size
from likewise.service.rows import changed_row, example_row, version_row
from likewise.service.schemas import (
    Changed,
    ExampleId,
    ExampleLife,
    Examples,
    Forgotten,
    Label,
    Ref,
    Relabel,
    Taught,
    Teach,
)
from likewise.service.serving import By, Here, Serving
from likewise.types import Change, ExampleVersion
from likewise.validation import check_label_sets, check_labels, check_refs

SOURCE = "http"

router = APIRouter(prefix="/v1/examples", tags=["examples"])

Id = Annotated[ExampleId, Path(description="The example's id.", openapi_examples={"first": {"value": 1}})]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description='The revision that you have seen, such as "12": 409 for an example that was changed after it.',
        pattern=r'^(\*|"[0-9]{1,15}"|[0-9]{1,15})$',
    ),
]


@router.post("", responses=answers(Taught, documents.TAUGHT, 409))
async def teach(asked: Annotated[Teach, Body(openapi_examples=documents.TEACH)], serving: Here, by: By) -> Response:
    """Teach one labelled text or many, as one change. A label that is new is learnt at once.

    An example whose `ref` is there already is updated, so that a request with refs may be sent again.
    """
    texts = check_size([example.text for example in asked.examples], serving.settings)
    labels = [_listed(example.labels, serving) for example in asked.examples]
    refs = [example.ref for example in asked.examples]
    check_label_sets(labels, len(texts), serving.model.task)
    check_refs(refs, len(texts))

    def change() -> Change:
        return serving.model.teach(
            texts, labels, refs=refs, by=by, note=asked.note, on_conflict=asked.on_conflict, source=SOURCE
        )

    done = await serving.changing.run(change)
    counts = {"added": done.added, "updated": done.updated, "known": done.known, "kept": done.kept}
    return json_response({"ids": list(done.ids), "revision": done.revision, **counts})


@router.get("", responses=answers(Examples, documents.EXAMPLES))
async def search(
    serving: Here,
    words: Annotated[
        str | None,
        Query(max_length=1000, description="Words that all have to be in the text, in upper or lower case."),
    ] = None,
    label: Annotated[Label | None, Query(description="A label that the example bears.")] = None,
    ref: Annotated[Ref | None, Query(description="The example's reference.")] = None,
    id: Annotated[list[ExampleId] | None, Query(max_length=1000, description="An id; repeat it for several.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many a page holds at most.")] = 100,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,15}$", description="`next` of the page before.")] = None,
) -> Response:
    """The examples as they stand, in the order of their ids, as far as all the conditions given hold."""
    check_refs([ref], 1)
    if label is not None:
        check_labels(label, None, "label")

    def look() -> list[dict[str, Any]]:
        found = serving.model.examples(
            ids=id, label=label, ref=ref, contains=words.split() if words else None,
            after_id=int(cursor or 0), limit=limit + 1,
        )  # fmt: skip
        return [example_row(example) for example in found]

    rows = await serving.reading.run(look)
    more = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return json_response({"examples": rows[:limit], "next": more})


@router.get("/{id}", responses=answers(ExampleLife, documents.EXAMPLE, 404))
async def look_up(id: Id, serving: Here) -> Response:
    """One example as it stands, and what each change made of it, newest first; also of a forgotten one."""
    versions = await serving.reading.run(lambda: serving.model.history_of(id))
    now = versions[0]
    row = {
        "id": id, "text": now.text, "labels": None if now.labels is None else list(now.labels), "ref": now.ref,
        "source": now.source, "revision": now.change.revision, "history": [version_row(each) for each in versions],
    }  # fmt: skip
    return json_response(row, headers=_etag(now.change.revision))


@router.patch("/{id}", responses=answers(Changed, documents.CHANGED, 404, 409))
async def relabel(
    id: Id,
    asked: Annotated[Relabel, Body(openapi_examples=documents.RELABEL)],
    serving: Here,
    by: By,
    if_match: IfMatch = None,
) -> Response:
    """Give an example other labels."""
    seen = _seen(if_match)
    labels = check_labels(_listed(asked.labels, serving), serving.model.task, "labels")
    done = await serving.changing.run(lambda: serving.model.relabel(id, labels, by=by, note=asked.note, seen=seen))
    return json_response(changed_row(done), headers=_etag(done.revision))


@router.delete("/{id}", responses=answers(Forgotten, documents.FORGOTTEN, 404, 409))
async def forget(
    id: Id,
    serving: Here,
    by: By,
    erase: Annotated[
        bool, Query(description="Erase it: out of the past and of every file, for good, also a forgotten one.")
    ] = False,
    if_match: IfMatch = None,
) -> Response:
    """Forget an example: it no longer votes, is cited, or shapes the head. It stays in the history, unless erased."""
    seen = _seen(if_match)
    if erase:
        return json_response(await serving.changing.run(lambda: _erased(serving, id, by, seen)))
    done = await serving.changing.run(lambda: serving.model.forget(id, by=by, seen=seen))
    return json_response({"ids": list(done.ids), "revision": done.revision})


def _erased(serving: Serving, id: int, by: str, seen: int | None) -> dict[str, Any]:
    model = serving.model
    begun = seen is not None and bool(model.examples([id]))
    if begun:
        model.forget(id, by=by, seen=seen)  # only as it was seen; then nobody changes it any more
    elif seen is not None:
        _check_forgotten(model.history_of(id), id, seen)
    try:
        done = model.erase(id, by=by)
    except LedgerError as error:
        if not begun and model.history_of(id)[0].text is not None:
            raise  # nothing was changed
        raise Refusal(
            "unavailable", "the erasure may not have left every file", "send the same request again to complete it"
        ) from error
    return {"ids": list(done.ids), "revision": done.revision, "shared": list(done.shared)}


def _check_forgotten(life: list[ExampleVersion], id: int, seen: int) -> None:
    """Refusal if what a forgotten example said was changed after `seen`; that it was forgotten is no such change."""
    last = next((version.change.revision for version in life if version.labels is not None), 0)  # 0: it was erased
    if last > seen:
        raise Refusal(
            "conflict", f"example {id} was changed at revision {last}, after revision {seen}, and then forgotten",
            "nothing was changed, look at it again",
        )  # fmt: skip


def _listed(labels: str | list[str], serving: Serving) -> list[str]:
    """The labels as a list. Refusal for several where a text has one, also for one that is repeated."""
    listed = [labels] if isinstance(labels, str) else labels
    if serving.model.task == "single" and len(listed) != 1:
        raise Refusal("invalid", f"labels: found {len(listed)}, expected exactly one, as every text has here", "")
    return listed


def _etag(revision: int) -> dict[str, str]:
    return {"ETag": f'"{revision}"'}


def _seen(if_match: str | None) -> int | None:
    """The revision that an If-Match header names; None for none, and for any."""
    if if_match is None or if_match == "*":
        return None
    return int(re.sub('"', "", if_match))
