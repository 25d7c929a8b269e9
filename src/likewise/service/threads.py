"""Threads for what would hold up the event loop, with a bound on what may wait for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from likewise.service.errors import Refusal

T = TypeVar("T")


class Threads:
    """So many threads, for which at most `waiting` calls wait, `timeout` seconds each.

    With `finish`, a call that has begun is waited for however long it takes, because a change that is under way will be
    made, and whoever asked for it has to know.
    """

    def __init__(self, name: str, threads: int, *, waiting: int, timeout: float, finish: bool = False) -> None:
        self._executor = ThreadPoolExecutor(threads, f"likewise {name}")
        self._most, self._timeout, self._finish = threads + waiting, timeout, finish
        self._lock = threading.Lock()
        self._held = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns. Refusal when too many wait, or when it takes too long."""
        with self._lock:
            if self._held >= self._most:
                raise Refusal("overloaded", f"{self._held:,} requests of this kind are under way", "try again soon")
            self._held += 1
        future = self._executor.submit(work)
        future.add_done_callback(self._done)
        result = asyncio.wrap_future(future)
        result.add_done_callback(lambda done: done.cancelled() or done.exception())  # told, if only to nobody
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(result)
        except TimeoutError:
            if not future.done() and (future.cancel() or not self._finish):
                raise Refusal(
                    "timed_out", f"it was not done within {self._timeout:g} seconds; nothing was changed", "try again"
                ) from None
            return await result
        except asyncio.CancelledError:
            future.cancel()
            raise

    def _done(self, future: Future[T]) -> None:
        with self._lock:
            self._held -= 1

    async def stop(self) -> None:
        """End once what is under way is done."""
        await asyncio.to_thread(self._executor.shutdown)
