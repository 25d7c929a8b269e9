"""Bounds on what a request may hold, kept before anything is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from likewise.service.errors import Refusal
from likewise.settings import Settings
from likewise.validation import check_texts

BODIES = ("POST", "PATCH")


def check_json(headers: Headers) -> None:
    """Refusal unless the body is JSON: a form of another site's page cannot send that."""
    found = headers.get("content-type", "")
    if found.partition(";")[0].strip().lower() != "application/json":
        raise Refusal("unsupported_media_type", f"found the content type {found[:100]!r}, expected application/json",
                      "send JSON, with the header Content-Type: application/json")  # fmt: skip


async def read_body(receive: Receive, headers: Headers, most: int, timeout: float) -> bytes:
    """The body, whole. Refusal when it is longer than `most` bytes, or does not come in time."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(int(declared), most)
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(timeout):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal("bad_request", "the connection was closed before the body had come", "try again")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise _too_large(size, most)
                more = message.get("more_body", False)
    except TimeoutError:
        raise Refusal("timed_out", f"the body did not come within {timeout:g} seconds", "try again") from None
    return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """Receives the body that was read, then whatever else comes."""
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def check_size(texts: Sequence[str], settings: Settings) -> list[str]:
    """The texts of a request, checked. Refusal for too many or too long a one; DataError for what is no text."""
    most, longest = settings.http_max_texts, settings.max_text
    if len(texts) > most:
        raise Refusal("too_large", f"found {len(texts):,} texts, at most {most:,} are expected", "send fewer at once")
    for place, text in enumerate(texts):
        if len(text) > longest:
            found = f"texts[{place}]: found {len(text):,} characters, at most {longest:,} are expected"
            raise Refusal("too_large", found, "split it")
    return check_texts(texts, longest)


def _too_large(found: int, most: int) -> Refusal:
    # What is not read would be taken for the next request.
    return Refusal("too_large", f"found a body of {found:,} bytes or more, at most {most:,} are expected",
                   "send less at once", {"Connection": "close"})  # fmt: skip
