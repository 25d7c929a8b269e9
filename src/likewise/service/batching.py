"""Requests that arrive together are encoded together.

One thread answers one batch at a time; while it works the next one gathers. A request's texts stay in one batch, so
that all its answers are of one revision. Whoever asks alone waits for nobody: a batch waits for as many requests as
there were at the end of the last one, those that it answered and those that came meanwhile, and not for long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from likewise.service.errors import Refusal
from likewise.types import Prediction

T = TypeVar("T")

Answer = Callable[[list[str], int], Sequence[Prediction]]
"""Predictions of texts, each citing at most so many examples."""


@dataclass(eq=False)
class _Waiting:
    texts: list[str]
    cite: int
    finish: Callable[[list[Prediction]], Any]
    since: float
    future: asyncio.Future[Any]


class Batcher:
    """Gathers requests into batches for `answer`, which a thread of its own calls.

    `wait`: seconds that a request waits at most for others; `texts`: with so many a batch waits for no others; `queue`:
    how many texts may wait, more only of one request; `timeout`: seconds until a request is given up. `observe` is told
    each batch's size.
    """

    def __init__(
        self, answer: Answer, *, wait: float, texts: int, queue: int, timeout: float, observe: Callable[[int], None]
    ) -> None:
        self._answer = answer
        self._wait, self._texts, self._queue, self._timeout = wait, texts, queue, timeout
        self._observe = observe
        self._waiting: deque[_Waiting] = deque()
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "likewise encoding")
        self._task: asyncio.Task[None] | None = None
        self._expected = 1
        self.queued = 0
        """Texts that wait for their batch."""

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End once the batch under way is answered."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._thread.shutdown)

    async def classify(self, texts: list[str], cite: int, finish: Callable[[list[Prediction]], T]) -> T:
        """What `finish` makes of the texts' predictions, in the batch's thread.

        Refusal when the queue is full, or the answer takes longer than the time limit; and whatever `answer` raises.
        """
        if self.queued and self.queued + len(texts) > self._queue:  # by itself one may be longer than the queue
            raise Refusal("overloaded", f"{self.queued:,} texts are waiting already", "try again soon, or send fewer")
        loop = asyncio.get_running_loop()
        one = _Waiting(texts, cite, finish, loop.time(), loop.create_future())
        self._waiting.append(one)
        self.queued += len(texts)
        self._arrival.set()
        try:
            async with asyncio.timeout(self._timeout):
                return cast(T, await one.future)
        except TimeoutError:
            raise Refusal(
                "timed_out", f"there was no answer within {self._timeout:g} seconds", "send fewer texts, or try again"
            ) from None
        finally:
            if one in self._waiting:  # given up
                self._waiting.remove(one)
                self.queued -= len(texts)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._gathered()
            self._observe(sum(len(one.texts) for one in batch))
            try:
                results = await loop.run_in_executor(self._thread, self._answered, batch)
            except Exception as error:  # handed on to those who asked
                for one in batch:
                    if not one.future.done():
                        one.future.set_exception(error)
                continue
            finally:
                self._expected = len(batch) + len(self._waiting)
            for one, result in zip(batch, results, strict=True):
                if not one.future.done():
                    one.future.set_result(result)

    async def _gathered(self) -> list[_Waiting]:
        """The next batch: it is full, as many ask as were expected, or the first of them has waited its time."""
        loop = asyncio.get_running_loop()
        while self.queued < self._texts and not (self._waiting and len(self._waiting) >= self._expected):
            left = self._waiting[0].since + self._wait - loop.time() if self._waiting else None
            if left is not None and left <= 0:
                break
            self._arrival.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._arrival.wait()
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].texts) <= self._texts):
            one = self._waiting.popleft()
            self.queued -= len(one.texts)
            batch.append(one)
            size += len(one.texts)
        return batch

    def _answered(self, batch: Sequence[_Waiting]) -> list[Any]:
        texts = [text for one in batch for text in one.texts]
        predictions = list(self._answer(texts, max(one.cite for one in batch)))
        results, at = [], 0
        for one in batch:
            results.append(one.finish(predictions[at : at + len(one.texts)]))
            at += len(one.texts)
        return results
