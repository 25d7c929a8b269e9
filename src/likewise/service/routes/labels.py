"""/v1/labels: which there are, and their names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from likewise.service import documents
from likewise.service.documents import answers
from likewise.service.errors import json_response
from likewise.service.rows import changed_row
from likewise.service.schemas import Changed, LabelCounts, Merge, Rename
from likewise.service.serving import By, Here

router = APIRouter(prefix="/v1/labels", tags=["labels"])


@router.get("", responses=answers(LabelCounts, documents.LABELS))
async def labels(serving: Here) -> Response:
    """The labels, sorted, with the number of examples that bear each."""
    counts = await serving.reading.run(lambda: serving.model.labels)
    return json_response({"labels": [{"label": label, "examples": count} for label, count in counts.items()]})


@router.post("/rename", responses=answers(Changed, documents.CHANGED, 404, 409))
async def rename(asked: Annotated[Rename, Body(openapi_examples=documents.RENAME)], serving: Here, by: By) -> Response:
    """Give a label another name, one that is not in use: 409 if it is (merging joins two)."""
    done = await serving.changing.run(lambda: serving.model.rename_label(asked.old, asked.new, by=by, note=asked.note))
    return json_response(changed_row(done))


@router.post("/merge", responses=answers(Changed, documents.CHANGED, 404, 409))
async def merge(asked: Annotated[Merge, Body(openapi_examples=documents.MERGE)], serving: Here, by: By) -> Response:
    """Make one label of several."""
    done = await serving.changing.run(
        lambda: serving.model.merge_labels(asked.labels, asked.into, by=by, note=asked.note)
    )
    return json_response(changed_row(done))
