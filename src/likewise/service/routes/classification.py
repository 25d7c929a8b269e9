"""POST /v1/classify."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from likewise.service.documents import CLASSIFY, PREDICTIONS, answers
from likewise.service.schemas import Classify, Prediction
from likewise.service.serving import Here

router = APIRouter(tags=["answers"])


@router.post("/v1/classify", responses=answers(list[Prediction], PREDICTIONS, 404, 409))
async def classify(asked: Annotated[Classify, Body(openapi_examples=CLASSIFY)], serving: Here) -> Response:
    """Classify texts: for each both voices, their blend, and the examples that the answer rests on."""
    content = await serving.classify(asked.texts, asked.neighbours, asked.as_of)
    return Response(content, media_type="application/json")
