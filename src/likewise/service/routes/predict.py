"""POST /predict, as Text Embeddings Inference answers it, so that its clients work unchanged.

Two things are our own: a pair of texts is read as one, and what is refused before the route is reached (no JSON, no
token) is told in JSON as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from likewise.errors import DataError
from likewise.service import documents
from likewise.service.errors import PREDICT, Refusal, json_response
from likewise.service.schemas import Predict
from likewise.service.serving import Here
from likewise.types import Prediction, Task

TINY = 1e-12
"""Where a probability is 0 or 1, its raw score is that of one so far from it."""

router = APIRouter(tags=["answers"])


@router.post(PREDICT, responses=documents.inference())
async def predict(asked: Annotated[Predict, Body(openapi_examples=documents.PREDICT)], serving: Here) -> Response:
    """Every label with its score, highest first, as Text Embeddings Inference answers; a list of them for a batch."""
    since = time.perf_counter()
    batch = not isinstance(asked.inputs, str) and not (asked.inputs and isinstance(asked.inputs[0], str))
    sequences: list[Any] = list(asked.inputs) if batch else [asked.inputs]
    texts = [one if isinstance(one, str) else " ".join(one) for one in sequences]
    most = serving.settings.http_max_texts
    if not texts:
        raise Refusal("bad_request", "Batch is empty", inference="Empty")
    if len(texts) > most:
        raise Refusal("too_large", f"batch size {len(texts)} > maximum allowed batch size {most}")
    if not all(any(one) for one in sequences):  # no character, or of a pair nothing but empty parts
        raise Refusal("too_large", "Input validation error: `inputs` cannot be empty")
    from_end = asked.truncation_direction.lower() == "left"
    try:
        measured = await serving.reading.run(lambda: serving.model.measured(texts, from_end))
    except DataError as error:
        raise Refusal("invalid", f"Tokenization error: {error}", inference="Tokenizer") from error
    longest = serving.model.max_tokens
    over = next((count for count, _ in measured if count > longest), None)
    if over is not None and not asked.truncate:
        said = f"Input validation error: `inputs` must have less than {longest} tokens. Given: {over}"
        raise Refusal("too_large", said)

    def rows(predictions: Sequence[Prediction]) -> list[list[dict[str, Any]]]:
        return [_row(prediction, asked.raw_scores) for prediction in predictions]

    found = await serving.batcher.classify([text for _, text in measured], 0, rows)
    milliseconds = str(round((time.perf_counter() - since) * 1000))
    headers = {
        "x-compute-type": "cpu",
        "x-compute-time": milliseconds,
        "x-compute-characters": str(sum(map(len, texts))),
        "x-compute-tokens": str(sum(count for count, _ in measured)),
        "x-total-time": milliseconds,
    }
    return json_response(found if batch else found[0], headers=headers)


def _row(prediction: Prediction, raw: bool) -> list[dict[str, Any]]:
    task = prediction.task
    return [{"score": _raw(score, task) if raw else score, "label": label} for label, score in prediction.scores]


def _raw(score: float, task: Task) -> float:
    """What softmax over the labels, or with several labels a text the sigmoid, makes the score of."""
    inside = min(max(score, TINY), 1 - TINY)
    return math.log(inside) if task == "single" else math.log(inside / (1 - inside))
