"""What the OpenAPI document says by way of example: a request and an answer for every route.

Without nulls, which FastAPI leaves out of examples.

A test sends every request in it and holds the answer against the one shown here.
"""

from __future__ import annotations

from typing import Any

from likewise.service.errors import STATUS, Kind
from likewise.service.schemas import ErrorEnvelope, InferenceError, InferenceScore

Examples = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

_SAID: dict[int, tuple[Kind, str, str, str]] = {
    400: ("bad_request", "The request cannot be understood", "the body is no JSON", "send a JSON object"),
    401: ("unauthorized", "No token, or one that is not known", "found no token, expected: Authorization: Bearer TOKEN",
          "ask for one of whoever runs the service"),
    403: ("forbidden", "Another host or origin, or a token that is for reading",
          "the token 'ann' is for reading, and this is a change", "ask for one that may write"),
    404: ("not_found", "No such example, label or revision", "there is no example 4711; nothing was changed",
          "look up the ids and try again"),
    409: ("conflict", "Something else was changed in between, or is there already",
          "example 17 was changed at revision 14, after revision 12, the last one that was seen; nothing was changed",
          "look at it again"),
    413: ("too_large", "More than is accepted at once", "found 300 texts, at most 256 are expected",
          "send fewer at once"),
    415: ("unsupported_media_type", "Not JSON", "found the content type 'text/plain', expected application/json",
          "send JSON, with the header Content-Type: application/json"),
    422: ("invalid", "Something in it is not what it should be",
          "texts[0]: found an empty text, expected words", "remove it or fill it in"),
    503: ("overloaded", "Too much at once, or the datastore cannot be reached; the header Retry-After says when to try "
          "again", "1,024 texts are waiting already", "try again soon, or send fewer"),
}  # fmt: skip


def answers(schema: Any, example: Any, *failures: int) -> Responses:
    """What a route may answer: this, the failures named, and those that every route shares."""
    return {200: {"model": schema, "content": {"application/json": {"example": example}}}, **refusals(*failures)}


def refusals(*failures: int) -> Responses:
    """The failures named, and those that every route shares."""
    return {status: _refusal(status) for status in sorted({400, 401, 403, 413, 415, 422, 503, *failures})}


def metrics() -> Responses:
    """What /metrics answers."""
    page = "# HELP likewise_revision The ledger's revision\n# TYPE likewise_revision gauge\nlikewise_revision 12.0\n"
    content = {"text/plain": {"schema": {"type": "string"}, "example": page}}
    return {200: {"description": "Prometheus's text format", "content": content}, **refusals()}


def _refusal(status: int) -> dict[str, Any]:
    kind, description, message, hint = _SAID[status]
    assert STATUS[kind] == status
    example = {"error": {"type": kind, "message": message, "hint": hint}}
    return {"model": ErrorEnvelope, "description": description, "content": {"application/json": {"example": example}}}


CLASSIFY: Examples = {
    "texts": {"summary": "Two texts", "value": {"texts": ["where is my parcel?", "I want my money back"]}},
    "citing": {"summary": "Citing one example", "value": {"texts": ["where is my parcel?"], "neighbours": 1}},
    "past": {
        "summary": "As the model stood at revision 1",
        "value": {"texts": ["where is my parcel?"], "as_of": 1},
    },
}

PREDICTIONS = [
    {
        "text": "where is my parcel?",
        "label": "delivery",
        "score": 0.77,
        "scores": [{"label": "delivery", "score": 0.77}, {"label": "refund", "score": 0.23}],
        "head": [{"label": "delivery", "score": 0.9}, {"label": "refund", "score": 0.1}],
        "neighbours": [
            {"id": 17, "text": "the parcel never came", "labels": ["delivery"], "distance": 0.41, "weight": 0.64}
        ],
        "lambda": 0.5,
        "revision": 12,
    }
]

TEACH: Examples = {
    "one": {
        "summary": "One example, with your own reference",
        "value": {"examples": [{"text": "My gift card is refused", "labels": "gift cards", "ref": "ticket-4711"}]},
    },
    "several": {
        "summary": "Two, replacing the labels of texts that are there",
        "value": {
            "examples": [
                {"text": "The till says my gift card is not valid", "labels": ["gift cards"]},
                {"text": "Where can I buy a gift card?", "labels": ["gift cards"]},
            ],
            "on_conflict": "replace",
            "note": "a topic of its own",
        },
    },
}

TAUGHT = {"ids": [581], "revision": 13, "added": 1, "updated": 0, "known": 0, "kept": 0}

_EXAMPLE = {
    "id": 17, "text": "the parcel never came", "labels": ["delivery"], "ref": "t017", "source": "fit", "revision": 1,
}  # fmt: skip

EXAMPLES = {"examples": [_EXAMPLE], "next": "17"}

EXAMPLE = {
    **_EXAMPLE,
    "history": [
        {
            "revision": 1, "at": "2026-05-01T12:00:00.000000+00:00", "action": "taught", "by": "ann", "note": "fit",
            "examples": 580, "text": "the parcel never came", "labels": ["delivery"], "ref": "t017", "source": "fit",
        }
    ],
}  # fmt: skip

RELABEL: Examples = {
    "relabel": {"summary": "The right label", "value": {"labels": "delivery", "note": "seen by the team"}}
}

CHANGED = {"ids": [17], "revision": 14, "updated": 1}

FORGOTTEN = {"ids": [17], "revision": 15}

LABELS = {"labels": [{"label": "delivery", "examples": 65}, {"label": "refund", "examples": 61}]}

RENAME: Examples = {"rename": {"summary": "Another name", "value": {"old": "praise", "new": "thanks"}}}

MERGE: Examples = {
    "merge": {"summary": "One of two", "value": {"labels": ["refund", "payment"], "into": "money", "note": "one team"}}
}

HISTORY = {
    "history": [
        {
            "revision": 14, "at": "2026-05-02T09:30:00.000000+00:00", "action": "relabelled", "by": "ann",
            "note": "seen by the team", "examples": 1,
        }
    ],
    "next": "13",
}  # fmt: skip

REVERT: Examples = {"revision": {"summary": "Back to revision 1", "value": {"revision": 1, "note": "start over"}}}

REVERTED = {"ids": [17, 581], "revision": 16, "updated": 2}

MODEL = {
    "task": "single",
    "recipe": "frozen",
    "encoder": "all-MiniLM-L6-v2",
    "generation": 1,
    "revision": 12,
    "examples": 580,
    "labels": 9,
    "fit": {"kept": "frozen"},
}

ALIVE = {"status": "alive"}

READY = {"status": "ready", "revision": 12}

PREDICT: Examples = {
    "text": {"summary": "A text", "value": {"inputs": "where is my parcel?"}},
    "pair": {"summary": "A pair, read as one text", "value": {"inputs": ["where is my parcel?", "It is late."]}},
    "batch": {
        "summary": "A batch, with raw scores",
        "value": {"inputs": [["where is my parcel?"], ["I want my money back"]], "raw_scores": True, "truncate": True},
    },
}

_INFERENCE_SAID = {
    400: ("The batch is empty", "Batch is empty", "Empty"),
    401: ("No token, or one that is not known", "found no token", "Validation"),
    403: ("Another host or origin", "found a request from a page of 'https://elsewhere.example'", "Validation"),
    413: ("Too long, or too many", "batch size 300 > maximum allowed batch size 256", "Validation"),
    415: ("Not JSON", "found the content type 'text/plain', expected application/json", "Validation"),
    422: ("Not what is taken, or a text that cannot be read", "inputs: field required", "Validation"),
    424: ("There is nothing to answer from", "no labelled example is left in this model", "Backend"),
    429: ("Too much at once", "Model is overloaded", "Overloaded"),
    503: ("The datastore cannot be reached", "the datastore cannot be used", "Unhealthy"),
}


def inference() -> Responses:
    """What /predict answers."""
    scores = [{"score": 0.77, "label": "delivery"}, {"score": 0.23, "label": "refund"}]
    found: Responses = {
        200: {
            "model": list[InferenceScore] | list[list[InferenceScore]],
            "content": {"application/json": {"example": scores}},
        }
    }
    for status, (description, said, kind) in _INFERENCE_SAID.items():
        example = {"error": said, "error_type": kind}
        content = {"application/json": {"example": example}}
        found[status] = {"model": InferenceError, "description": description, "content": content}
    return found
