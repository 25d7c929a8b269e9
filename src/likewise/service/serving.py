"""What the routes of one process work with: the model, the threads that ask and change it, and what is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from likewise.errors import ModelError
from likewise.model import Model
from likewise.service.batching import Batcher
from likewise.service.limits import check_size
from likewise.service.metrics import Metrics
from likewise.service.threads import Threads
from likewise.settings import Settings
from likewise.types import Prediction

READERS = 4
"""Threads that look things up: searches, the past. Answers have a thread of their own, changes and probes others."""
WAITING = 64
"""How many of these may wait, and how many changes."""
ANONYMOUS = "anonymous"
"""Who changes without a token: not the user that the service runs as, who is the same whoever asks."""
WARMTH = "a"
"""What the encoder is made ready with; whatever the longest text that is accepted."""


class Serving:
    """A model that is served. Made in the event loop's process; `start` and `stop` it there."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.model = Model.open(path, **settings.of("answer"))
        self.reading = Threads("reading", READERS, waiting=WAITING, timeout=settings.http_timeout)
        self.probing = Threads("probing", 1, waiting=WAITING, timeout=settings.http_timeout)
        self.changing = Threads("changing", 1, waiting=WAITING, timeout=settings.http_timeout, finish=True)
        self.batcher = Batcher(
            self._answer,
            wait=settings.http_batch_wait / 1000,
            texts=settings.http_batch_texts,
            queue=settings.http_queue,
            timeout=settings.http_timeout,
            observe=lambda texts: self.metrics.batch(texts, self.batcher.queued),
        )
        self.warm = False
        """Whether the encoder is loaded."""

    async def start(self) -> None:
        """Load the encoder, and begin to answer."""
        await asyncio.to_thread(self._warm_up)
        self.batcher.start()

    async def stop(self) -> None:
        """Let what is under way be done, then close the model."""
        await self.batcher.stop()
        await self.changing.stop()
        await self.reading.stop()
        await self.probing.stop()
        await asyncio.to_thread(self.model.close)

    async def classify(self, texts: Sequence[str], neighbours: int | None, as_of: int | str | None) -> bytes:
        """The predictions as JSON."""
        checked = check_size(texts, self.settings)
        cite = self.settings.neighbours if neighbours is None else neighbours
        if not checked:
            return b"[]"
        if as_of is not None:
            when = as_of
            return await self.reading.run(lambda: self._answer_as_of(checked, cite, when))
        return await self.batcher.classify(checked, cite, lambda found: _json(found, cite))

    def _warm_up(self) -> None:
        try:
            self.model.classify(WARMTH, neighbours=0)
        except ModelError:  # there is no example to answer from; requests will say so
            self.model.revision  # noqa: B018 (but there is a ledger)
        self.warm = True

    def _answer(self, texts: list[str], cite: int) -> list[Prediction]:
        predictions = self.model.classify(texts, cite)
        self.metrics.stale(sum(prediction.stale for prediction in predictions))
        return predictions

    def _answer_as_of(self, texts: list[str], cite: int, when: int | str) -> bytes:
        with self.model.as_of(when) as past:
            return _json(past.classify(texts, cite), cite)


def _json(predictions: Sequence[Prediction], cite: int) -> bytes:
    rows = [prediction.to_dict() for prediction in predictions]
    for row in rows:
        row["neighbours"] = row["neighbours"][:cite]  # others of the batch may have asked for more
    return json.dumps(rows, ensure_ascii=False).encode()


async def _serving(request: Request) -> Serving:
    found: Serving = request.app.state.serving
    return found


async def _by(request: Request) -> str:
    found: str | None = request.scope["likewise.by"]
    return found or ANONYMOUS


Here = Annotated[Serving, Depends(_serving)]
"""The serving of the process that a request reached."""
By = Annotated[str, Depends(_by)]
"""Who a request is by: the name of its token, or nobody's."""
