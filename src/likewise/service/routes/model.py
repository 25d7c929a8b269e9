"""GET /v1/model: what is served."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from fastapi import APIRouter, Response

from likewise.service import documents
from likewise.service.documents import answers
from likewise.service.errors import json_response
from likewise.service.schemas import ModelInfo
from likewise.service.serving import Here

router = APIRouter(tags=["model"])


@router.get("/v1/model", responses=answers(ModelInfo, documents.MODEL))
async def model(serving: Here) -> Response:
    """Recipe, encoder, generation, revision, and the scores that its fit measured."""
    served = serving.model

    def look() -> dict[str, Any]:
        info = served.info
        return {
            "task": served.task,
            "recipe": info.recipe,
            "encoder": PurePath(info.encoder).name,  # of a folder its name, not where it lay
            "generation": info.generation,
            "revision": served.revision,
            "examples": served.size,
            "labels": len(served.labels),
            "fit": dict(info.fit),
        }

    return json_response(await serving.reading.run(look))
