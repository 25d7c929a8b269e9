"""/v1/history and /v1/revert: every change, and the way back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from likewise.service import documents
from likewise.service.documents import answers
from likewise.service.errors import json_response
from likewise.service.rows import changed_row
from likewise.service.schemas import Changed, History, Revert
from likewise.service.serving import By, Here

router = APIRouter(prefix="/v1", tags=["history"])


@router.get("/history", responses=answers(History, documents.HISTORY))
async def history(
    serving: Here,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many a page holds at most.")] = 100,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,15}$", description="`next` of the page before.")] = None,
) -> Response:
    """Every change, newest first: when (UTC), who, what, to how many examples, and why."""
    before = None if cursor is None else int(cursor)
    found = await serving.reading.run(lambda: serving.model.history(limit + 1, before))
    more = str(found[limit - 1].revision) if len(found) > limit else None
    return json_response({"history": [asdict(change) for change in found[:limit]], "next": more})


@router.post("/revert", responses=answers(Changed, documents.REVERTED, 404, 409))
async def revert(asked: Annotated[Revert, Body(openapi_examples=documents.REVERT)], serving: Here, by: By) -> Response:
    """Make every example what it was at a revision or a time, as a new change that can itself be reverted."""
    done = await serving.changing.run(lambda: serving.model.revert(asked.revision, by=by, note=asked.note))
    return json_response(changed_row(done))
