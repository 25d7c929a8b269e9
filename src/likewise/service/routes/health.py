"""/health, /ready, /metrics: for what runs the service."""

from __future__ import annotations

from fastapi import APIRouter, Response

from likewise.service import documents
from likewise.service.documents import answers
from likewise.service.errors import Refusal, json_response
from likewise.service.metrics import CONTENT_TYPE
from likewise.service.schemas import Alive, Ready
from likewise.service.serving import Here

router = APIRouter(tags=["operation"])


@router.get("/health", responses=answers(Alive, documents.ALIVE))
async def health() -> Response:
    """Whether the process is alive. Needs no token."""
    return json_response({"status": "alive"})


@router.get("/ready", responses=answers(Ready, documents.READY))
async def ready(serving: Here) -> Response:
    """Whether the model is loaded and its ledger can be reached; 503 while not. Needs no token."""
    if not serving.warm:
        raise Refusal("unavailable", "the encoder is being loaded", "try again soon")
    revision = await serving.probing.run(lambda: serving.model.revision)
    return json_response({"status": "ready", "revision": revision})


@router.get("/metrics", response_class=Response, responses=documents.metrics())
async def metrics(serving: Here) -> Response:
    """Requests, latencies, batches, the queue, revision, examples and stale answers, for Prometheus."""
    model = serving.model
    page = await serving.probing.run(lambda: serving.metrics.page(lambda: model.revision, lambda: model.size))
    return Response(page, media_type=CONTENT_TYPE)
