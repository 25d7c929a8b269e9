"""What a request that fails is told: one envelope, and the status that each of our errors has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from starlette.responses import Response

from likewise.errors import (
    ExampleChanged,
    ExampleError,
    LabelTaken,
    LabelUnknown,
    LedgerAway,
    LedgerBusy,
    LedgerError,
    LedgerFull,
    LedgerMoved,
    LedgerReadOnly,
    LedgerUnsure,
    LikewiseError,
    ModelDamaged,
    ModelError,
    RevisionError,
    UsageError,
)

Kind = Literal[
    "bad_request", "unauthorized", "forbidden", "not_found", "method_not_allowed", "conflict", "too_large",
    "unsupported_media_type", "invalid", "internal", "overloaded", "timed_out", "unavailable",
]  # fmt: skip
"""The `type` in an envelope."""

STATUS: Mapping[Kind, int] = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid": 422,
    "internal": 500,
    "overloaded": 503,
    "timed_out": 503,
    "unavailable": 503,
}

PREDICT = "/predict"
"""The route that fails as Text Embeddings Inference does, because its clients know nothing else."""

# What Text Embeddings Inference calls it, and the status that goes with it where that is another one.
_INFERENCE: Mapping[Kind, tuple[str, int | None]] = {
    "bad_request": ("Validation", None),
    "unauthorized": ("Validation", None),
    "forbidden": ("Validation", None),
    "method_not_allowed": ("Validation", None),
    "conflict": ("Backend", 424),
    "too_large": ("Validation", None),
    "unsupported_media_type": ("Validation", None),
    "invalid": ("Validation", None),
    "internal": ("Backend", 424),
    "overloaded": ("Overloaded", 429),
    "timed_out": ("Overloaded", 429),
    "unavailable": ("Unhealthy", None),
}

RETRY_AFTER = 1
"""Seconds that a client is asked to wait where trying again may help."""

_RETRIED: frozenset[Kind] = frozenset(("overloaded", "timed_out", "unavailable"))


@dataclass
class Refusal(Exception):
    """A request that cannot be answered as asked: what was found, and what to do next."""

    kind: Kind
    message: str
    hint: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    inference: str = ""
    """What Text Embeddings Inference calls it, where its kind does not tell."""

    @property
    def status(self) -> int:
        return STATUS[self.kind]

    def response(self, path: str) -> Response:
        """The answer, in the shape that clients of `path` expect."""
        headers = dict(self.headers)
        if self.kind in _RETRIED:
            headers["Retry-After"] = str(RETRY_AFTER)
        if path == PREDICT and self.kind in _INFERENCE:
            name, status = _INFERENCE[self.kind]
            said = f"{self.message}; {self.hint}" if self.hint else self.message
            content = {"error": said, "error_type": self.inference or name}
            return json_response(content, status or self.status, headers)
        envelope = {"error": {"type": self.kind, "message": self.message, "hint": self.hint}}
        return json_response(envelope, self.status, headers)


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII, so that a lone surrogate in what was asked can be told of."""
    return Response(json.dumps(content), status, headers, media_type="application/json")


def refusal_of(error: LikewiseError) -> Refusal:
    """The refusal that tells of one of our errors; of the server's own troubles only their kind, never a path."""
    message, _, hint = str(error).rpartition("; ")
    if not message:
        message, hint = hint, ""
    match error:
        case ExampleChanged():
            return Refusal("conflict", message, hint)
        case LabelTaken():  # whose hint names the command
            return Refusal("conflict", message, "to join the two use POST /v1/labels/merge")
        case LabelUnknown() | ExampleError() | RevisionError():
            return Refusal("not_found", message, hint)
        case UsageError():
            return Refusal("invalid", message, hint)
        case LedgerUnsure():
            return Refusal("unavailable", "the server that keeps the examples was lost while the change was committed; "
                           "it may be there or not", "look at /v1/history before you try again")  # fmt: skip
        case LedgerMoved():
            return Refusal("unavailable", "the model's datastore was moved, replaced or removed; nothing was changed",
                           "ask whoever runs the service to start it anew")  # fmt: skip
        case LedgerAway():
            return Refusal("unavailable", "the server that keeps the examples cannot be reached", "try again soon")
        case LedgerBusy():
            return Refusal("unavailable", "another process is writing; nothing was changed", "try again soon")
        case LedgerReadOnly():
            return Refusal("forbidden", "this service may not change its model", "ask whoever runs it")
        case LedgerFull():
            return Refusal("unavailable", "the disk is full; nothing was changed", "ask whoever runs the service")
        case ModelDamaged() | LedgerError():
            return Refusal("unavailable", "the datastore cannot be used", "ask whoever runs it to run `likewise check`")
        case ModelError():
            return Refusal("conflict", message, hint)
    return Refusal("internal", "the service made a mistake", "please report it with the response's X-Request-Id")
