"""Requests that arrive together are encoded together, and each gets its own answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from likewise.service.batching import Batcher
from likewise.service.errors import Refusal
from likewise.types import Prediction


def prediction(text: str) -> Prediction:
    return Prediction(text, "single", ("a",), (("a", 1.0),), (("a", 1.0),), (("a", 1.0),), (), 0.5, 1)


class Answerer:
    """Answers with the texts themselves; keeps every batch, and waits for `go`."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[str], int]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, texts: list[str], cite: int) -> list[Prediction]:
        self.go.wait(10)
        self.batches.append((texts, cite))
        if "bad" in texts:
            raise ValueError("bad")
        return [prediction(text) for text in texts]


def texts_of(found: Sequence[Prediction]) -> list[str]:
    return [one.text for one in found]


def made(answer: Answerer, **more: Any) -> Batcher:
    chosen = {"wait": 0.05, "texts": 4, "queue": 8, "timeout": 5.0, "observe": lambda texts: None, **more}
    return Batcher(answer, **chosen)


def test_who_asks_alone_waits_for_nobody() -> None:
    sizes: list[int] = []

    async def asked() -> list[list[str]]:
        batcher = made(Answerer(), wait=60.0, observe=sizes.append)
        batcher.start()
        found = [await batcher.classify([text], 1, texts_of) for text in "abc"]
        await batcher.stop()
        return found

    assert asyncio.run(asked()) == [["a"], ["b"], ["c"]]
    assert sizes == [1, 1, 1]


def test_a_batch_waits_for_as_many_as_asked_last() -> None:
    answer, sizes = Answerer(), []
    answer.go.clear()

    async def asked() -> list[list[str]]:
        batcher = made(answer, wait=60.0, observe=sizes.append)
        batcher.start()
        first = asyncio.create_task(batcher.classify(["a"], 1, texts_of))
        await asyncio.sleep(0.05)  # it is being answered
        second = asyncio.create_task(batcher.classify(["b"], 1, texts_of))
        await asyncio.sleep(0)
        answer.go.set()
        await first
        found = await asyncio.gather(second, batcher.classify(["c", "d"], 3, texts_of))
        await batcher.stop()
        return found

    assert asyncio.run(asked()) == [["b"], ["c", "d"]]
    assert answer.batches == [(["a"], 1), (["b", "c", "d"], 3)]
    assert sizes == [1, 3]


def test_a_batch_does_not_wait_longer_than_it_may() -> None:
    answer = Answerer()
    answer.go.clear()

    async def asked() -> list[list[str]]:
        batcher = made(answer, wait=0.05)
        batcher.start()
        both = [asyncio.create_task(batcher.classify([text], 1, texts_of)) for text in "ab"]
        await asyncio.sleep(0.05)
        answer.go.set()
        found = await asyncio.gather(*both)
        found.append(await batcher.classify(["c"], 1, texts_of))  # of two that were there one has left
        await batcher.stop()
        return found

    assert asyncio.run(asked()) == [["a"], ["b"], ["c"]]


def test_a_full_batch_does_not_wait_and_a_request_stays_whole() -> None:
    answer = Answerer()

    async def asked() -> list[list[str]]:
        batcher = made(answer, wait=60.0, queue=100)
        batcher.start()
        requests = [["a", "b"], ["c", "d"], ["e", "f", "g"], ["h"], [*"ijklmn"]]
        found = await asyncio.gather(*(batcher.classify(texts, 0, texts_of) for texts in requests))
        await batcher.stop()
        return found

    assert asyncio.run(asked()) == [["a", "b"], ["c", "d"], ["e", "f", "g"], ["h"], [*"ijklmn"]]
    assert [texts for texts, _ in answer.batches] == [[*"abcd"], [*"efgh"], [*"ijklmn"]]


def test_a_queue_that_is_full_refuses_and_one_that_was_given_up_is_not_answered() -> None:
    answer = Answerer()
    answer.go.clear()

    async def asked() -> None:
        batcher = made(answer, wait=0.0, texts=1, queue=3, timeout=0.3)
        batcher.start()
        first = asyncio.create_task(batcher.classify(["first"], 0, texts_of))
        await asyncio.sleep(0.05)
        assert batcher.queued == 0  # it is being answered
        given_up = [asyncio.create_task(batcher.classify([name], 0, texts_of)) for name in "abc"]
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal) as caught:
            await batcher.classify(["d"], 0, texts_of)
        assert caught.value.kind == "overloaded"
        for task in (first, *given_up):
            with pytest.raises(Refusal) as caught:
                await task
            assert caught.value.kind == "timed_out"
        answer.go.set()
        assert await batcher.classify(["later"], 0, texts_of) == ["later"]
        await batcher.stop()

    asyncio.run(asked())
    assert [texts for texts, _ in answer.batches] == [["first"], ["later"]]


def test_what_fails_fails_for_those_who_asked_and_the_next_is_answered() -> None:
    async def asked() -> None:
        batcher = made(Answerer(), wait=0.0, texts=1)
        batcher.start()
        with pytest.raises(ValueError, match="bad"):
            await batcher.classify(["bad"], 0, texts_of)
        assert await batcher.classify(["good"], 0, texts_of) == ["good"]
        await batcher.stop()

    asyncio.run(asked())


def test_many_at_once_each_get_their_own(path: Any, serve: Any) -> None:
    with serve(path, http_batch_wait=50.0, http_batch_texts=16) as client:
        texts = [f"my parcel is late {i}" for i in range(32)]

        def ask(number: int) -> Any:
            body = {"texts": [texts[number], texts[-1 - number]], "neighbours": number % 4}
            return client.post("/v1/classify", json=body).json()

        with ThreadPoolExecutor(16) as pool:
            for number, answers in enumerate(pool.map(ask, range(32))):
                assert [answer["text"] for answer in answers] == [texts[number], texts[-1 - number]]
                assert [len(answer["neighbours"]) for answer in answers] == [number % 4] * 2
        page = client.get("/metrics").text
        counts = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        assert float(counts["likewise_batch_texts_sum"]) == 64
        assert float(counts["likewise_batch_texts_count"]) < 32
        assert float(counts["likewise_queue_texts"]) == 0
