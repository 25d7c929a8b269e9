"""Clients of the service: `Client`, and `AsyncClient` with the same methods.

They need httpx alone (`pip install 'likewise[client]'`). A request that could not be sent, or that the service was too
busy for, is sent again a few times. No change is made twice by that: what is taught is known when it comes again,
unless it is to be added in any case; this, as a change of another kind, is reported and not sent again where it
may have been made already.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from likewise import client_calls as calls
from likewise.client_calls import Call, Labels
from likewise.errors import LikewiseError, MissingExtra, UsageError
from likewise.types import Change, Erasure, Example, ExampleVersion, OnConflict, Prediction, Revision

try:
    import httpx
except ImportError as missing:
    raise MissingExtra(
        "the client needs httpx, which is not installed; run: pip install 'likewise[client]'"
    ) from missing

T = TypeVar("T")

ATTEMPTS = 5
"""How often a request is sent at most."""
PAUSE = 0.25
"""Seconds before the second attempt; each further one waits twice as long."""
LONGEST = 10.0
"""Seconds between two attempts at most; up to that, never less than the service asks for (`Retry-After`)."""
PAGE = 500
"""Items that are asked for at once where there may be many."""

_UNTOUCHED = ("overloaded", "timed_out")  # kinds of refusal that say that nothing was done


class ServiceError(LikewiseError):
    """The service refused: its `status`, and `kind`, the envelope's type ("not_found", "conflict", ...)."""

    def __init__(self, status: int, kind: str, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.status, self.kind, self.message, self.hint = status, kind, message, hint


class ServiceAway(LikewiseError):
    """The service could not be reached, or was gone before it had answered."""


class _Attempts:
    """One call's attempts: whether there is another after a failure, and when."""

    def __init__(self, call: Call[Any], attempts: int) -> None:
        self._call, self._left, self._pause = call, attempts - 1, PAUSE

    def after_loss(self, error: httpx.RequestError) -> float:
        """Seconds until the next attempt. ServiceAway when there is none; UsageError for what can never be sent."""
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            raise UsageError(
                f"{self._call.method} {self._call.path}: this cannot be sent over HTTP ({type(error).__name__}); "
                "nothing was sent, check what was given"
            ) from None
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        if not unsent and not self._call.again:
            raise ServiceAway(
                f"the service was gone before it answered {self._call.method} {self._call.path} ({_line(error)}); "
                "whether the change was made is open: look it up in the history"
            ) from error
        if self._left <= 0:
            raise ServiceAway(
                f"the service cannot be reached ({_line(error)}); check that it runs, and its address"
            ) from error
        return self._next(0.0)

    def after_refusal(self, refusal: ServiceError, wait: float) -> float:
        """The same after an answer that is a refusal, which is raised when there is no further attempt."""
        passing = refusal.status in (429, 503) and (self._call.again or refusal.kind in _UNTOUCHED)
        if not passing or self._left <= 0:
            raise refusal
        return self._next(wait)

    def _next(self, least: float) -> float:
        self._left -= 1
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST)
        return max(least, pause * random.Random().uniform(0.5, 1.0))  # not all clients at once


def _request(http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
    """UsageError for what cannot be written down, such as a lone surrogate."""
    try:
        return http.build_request(
            call.method,
            call.path,
            params=call.query,
            headers=call.headers,
            json=call.body,  # None: no body
        )
    except (ValueError, TypeError, httpx.InvalidURL) as error:
        raise UsageError(
            f"{call.method} {call.path}: what was given cannot be sent ({_line(error)}); nothing was sent, correct it"
        ) from error


def _read(call: Call[T], answer: httpx.Response) -> T:
    """What was asked for. ServiceError where the answer is none of Likewise's."""
    try:
        return call.read(answer.json())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _foreign(answer) from error


def _foreign(answer: httpx.Response) -> ServiceError:
    said = f"found the answer {answer.status_code} of no Likewise service"
    return ServiceError(answer.status_code, "unknown", said, "check the address")


def _refusal(answer: httpx.Response) -> ServiceError | None:
    """What the service refused with; None where it did not."""
    if answer.is_success:
        return None
    try:
        error = answer.json()["error"]
        return ServiceError(answer.status_code, error["type"], error["message"], error["hint"])
    except (ValueError, KeyError, TypeError):  # something between us and the service answered
        return _foreign(answer)


def _retry_after(answer: httpx.Response) -> float:
    told = answer.headers.get("Retry-After", "")
    return min(float(told), LONGEST) if told.isdecimal() else 0.0


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _address(url: str) -> str:
    """UsageError for what is no address."""
    with contextlib.suppress(httpx.InvalidURL, TypeError):
        found = httpx.URL(url)
        named = found.host and (":" in found.host or "%" not in found.host)  # a space, say, becomes %20
        if found.scheme in ("http", "https") and named and (found.port or 0) < 2**16:
            return url
    raise UsageError(f"url: found {url!r}, expected an address such as http://127.0.0.1:8000")


def _headers(token: object) -> Mapping[str, str]:
    """UsageError for what is no token; it never shows it."""
    if token is None:
        return {}
    sent = token.strip() if isinstance(token, str) else ""
    if not sent or not sent.isascii() or not sent.isprintable() or " " in sent:
        raise UsageError("token: found none, or characters that no token has; expected what `likewise token add` shows")
    return {"Authorization": f"Bearer {sent}"}


class Client:
    """A client of the service at `url`, such as http://127.0.0.1:8000; `token` where it asks for one.

    `timeout`: seconds that an answer may take; `attempts`: how often a request is sent at most. Close it, or use it in
    a `with` statement; threads may share one. Every method raises ServiceError for what the service refuses,
    ServiceAway where it cannot be reached, and UsageError for what cannot be asked, a malformed `url` or `token` too.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0, attempts: int = ATTEMPTS) -> None:
        self._http = httpx.Client(base_url=_address(url), headers=_headers(token), timeout=timeout)
        self._attempts = attempts

    def _send(self, call: Call[T]) -> T:
        request, attempts = _request(self._http, call), _Attempts(call, self._attempts)
        while True:
            try:
                answer = self._http.send(request)
            except httpx.RequestError as error:
                wait = attempts.after_loss(error)
            else:
                refusal = _refusal(answer)
                if refusal is None:
                    return _read(call, answer)
                wait = attempts.after_refusal(refusal, _retry_after(answer))
            time.sleep(wait)

    def classify(
        self, texts: Sequence[str], neighbours: int | None = None, as_of: int | str | None = None
    ) -> list[Prediction]:
        """Predictions in the order of the texts, each citing at most so many examples. `vote` is empty."""
        return self._send(calls.classify(texts, neighbours, as_of))

    def teach(
        self,
        texts: Sequence[str],
        labels: Sequence[Labels],
        refs: Sequence[str | None] | None = None,
        on_conflict: OnConflict | None = None,
        note: str | None = None,
    ) -> Change:
        """Teach labelled texts, as one change.

        With references for all texts, or for none and not `on_conflict="both"`, it is sent again where the answer was
        lost, and the counts are then those of the last time: known, where the first had added.
        """
        return self._send(calls.teach(texts, labels, refs, on_conflict, note))

    def relabel(self, example: int, labels: Labels, seen: int | None = None, note: str | None = None) -> Change:
        """Give an example other labels; a conflict if it was changed after revision `seen`, where that is given."""
        return self._send(calls.relabel(example, labels, seen, note))

    def forget(self, example: int, seen: int | None = None) -> Change:
        """Forget an example; a conflict if it was changed after revision `seen`, where that is given."""
        return self._send(calls.forget(example, seen))

    def erase(self, example: int) -> Erasure:
        """Take an example out of the past and of every file."""
        return self._send(calls.erase(example))

    def examples(
        self,
        words: str | None = None,
        label: str | None = None,
        ref: str | None = None,
        ids: Sequence[int] | None = None,
    ) -> Iterator[Example]:
        """The examples that meet all conditions, by id, asked for page by page."""
        for portion in calls.portions(ids, PAGE):
            cursor: str | None = None
            while True:
                page = self._send(calls.examples(words, label, ref, portion, PAGE, cursor))
                yield from page.items
                if (cursor := page.next) is None:
                    break

    def history(self) -> Iterator[Revision]:
        """Every change, newest first, asked for page by page."""
        cursor: str | None = None
        while True:
            page = self._send(calls.history(PAGE, cursor))
            yield from page.items
            if (cursor := page.next) is None:
                return

    def history_of(self, example: int) -> list[ExampleVersion]:
        """What each change made of one example, newest first."""
        return self._send(calls.history_of(example))

    def labels(self) -> dict[str, int]:
        """The labels, sorted, with the number of examples that bear each."""
        return self._send(calls.labels())

    def rename_label(self, old: str, new: str, note: str | None = None) -> Change:
        """Give a label another name, one that is not in use."""
        return self._send(calls.rename_label(old, new, note))

    def merge_labels(self, labels: Labels, into: str, note: str | None = None) -> Change:
        """Make one label of several."""
        return self._send(calls.merge_labels(labels, into, note))

    def revert(self, revision: int | str, note: str | None = None) -> Change:
        """Make every example what it was at a revision or a time."""
        return self._send(calls.revert(revision, note))

    def model(self) -> dict[str, Any]:
        """Recipe, encoder, generation, revision and what the fit measured."""
        return self._send(calls.model())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """`Client` for asyncio: the same methods, to be awaited; `examples` and `history` are for `async for`."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0, attempts: int = ATTEMPTS) -> None:
        self._http = httpx.AsyncClient(base_url=_address(url), headers=_headers(token), timeout=timeout)
        self._attempts = attempts

    async def _send(self, call: Call[T]) -> T:
        request, attempts = _request(self._http, call), _Attempts(call, self._attempts)
        while True:
            try:
                answer = await self._http.send(request)
            except httpx.RequestError as error:
                wait = attempts.after_loss(error)
            else:
                refusal = _refusal(answer)
                if refusal is None:
                    return _read(call, answer)
                wait = attempts.after_refusal(refusal, _retry_after(answer))
            await asyncio.sleep(wait)

    async def classify(
        self, texts: Sequence[str], neighbours: int | None = None, as_of: int | str | None = None
    ) -> list[Prediction]:
        """As `Client.classify`."""
        return await self._send(calls.classify(texts, neighbours, as_of))

    async def teach(
        self,
        texts: Sequence[str],
        labels: Sequence[Labels],
        refs: Sequence[str | None] | None = None,
        on_conflict: OnConflict | None = None,
        note: str | None = None,
    ) -> Change:
        """As `Client.teach`."""
        return await self._send(calls.teach(texts, labels, refs, on_conflict, note))

    async def relabel(self, example: int, labels: Labels, seen: int | None = None, note: str | None = None) -> Change:
        """As `Client.relabel`."""
        return await self._send(calls.relabel(example, labels, seen, note))

    async def forget(self, example: int, seen: int | None = None) -> Change:
        """As `Client.forget`."""
        return await self._send(calls.forget(example, seen))

    async def erase(self, example: int) -> Erasure:
        """As `Client.erase`."""
        return await self._send(calls.erase(example))

    async def examples(
        self,
        words: str | None = None,
        label: str | None = None,
        ref: str | None = None,
        ids: Sequence[int] | None = None,
    ) -> AsyncIterator[Example]:
        """As `Client.examples`."""
        for portion in calls.portions(ids, PAGE):
            cursor: str | None = None
            while True:
                page = await self._send(calls.examples(words, label, ref, portion, PAGE, cursor))
                for example in page.items:
                    yield example
                if (cursor := page.next) is None:
                    break

    async def history(self) -> AsyncIterator[Revision]:
        """As `Client.history`."""
        cursor: str | None = None
        while True:
            page = await self._send(calls.history(PAGE, cursor))
            for change in page.items:
                yield change
            if (cursor := page.next) is None:
                return

    async def history_of(self, example: int) -> list[ExampleVersion]:
        """As `Client.history_of`."""
        return await self._send(calls.history_of(example))

    async def labels(self) -> dict[str, int]:
        """As `Client.labels`."""
        return await self._send(calls.labels())

    async def rename_label(self, old: str, new: str, note: str | None = None) -> Change:
        """As `Client.rename_label`."""
        return await self._send(calls.rename_label(old, new, note))

    async def merge_labels(self, labels: Labels, into: str, note: str | None = None) -> Change:
        """As `Client.merge_labels`."""
        return await self._send(calls.merge_labels(labels, into, note))

    async def revert(self, revision: int | str, note: str | None = None) -> Change:
        """As `Client.revert`."""
        return await self._send(calls.revert(revision, note))

    async def model(self) -> dict[str, Any]:
        """As `Client.model`."""
        return await self._send(calls.model())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
