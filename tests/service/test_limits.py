"""Bounds: bodies, texts, time, what may wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from likewise.service.errors import Refusal
from likewise.service.limits import again, read_body
from likewise.service.threads import Threads

JSON = {"Content-Type": "application/json"}


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["type"]


def test_what_is_too_large_is_refused_whole(path: Path, serve: Any) -> None:
    with serve(path, http_max_body=2000, http_max_texts=3, max_text=20) as client:
        assert client.post("/v1/classify", json={"texts": ["a"] * 3}).status_code == 200
        assert told(client.post("/v1/classify", json={"texts": ["a"] * 4})) == (413, "too_large")
        assert told(client.post("/v1/classify", json={"texts": ["a" * 21]})) == (413, "too_large")
        examples = [{"text": f"bird {i}", "labels": "health"} for i in range(4)]
        assert told(client.post("/v1/examples", json={"examples": examples})) == (413, "too_large")
        assert told(client.post("/v1/classify", content=b" " * 2001, headers=JSON)) == (413, "too_large")
        chunks = (b" " * 1000 for _ in range(100))  # without a declared length
        assert told(client.post("/v1/classify", content=chunks, headers=JSON)) == (413, "too_large")
        answer = client.post("/predict", json={"inputs": [["a"]] * 4})
        assert (answer.status_code, answer.json()) == (
            413,
            {"error": "batch size 4 > maximum allowed batch size 3", "error_type": "Validation"},
        )
        assert client.get("/ready").json()["revision"] == 1


def test_a_body_that_does_not_come_is_given_up(path: Path, serve: Any) -> None:
    with serve(path, http_timeout=0.3) as client:
        with socket.create_connection(("127.0.0.1", client.base_url.port)) as slow:
            slow.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 100\r\n\r\n{")  # fmt: skip
            slow.settimeout(20)
            assert b"503" in slow.recv(1000)
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET /health HT"])
@pytest.mark.parametrize("used", [0, 2])
def test_a_request_whose_head_does_not_come_is_given_up(path: Path, serve: Any, sent: bytes, used: int) -> None:
    """One that asks in time is kept, also idle after an answer."""
    with serve(path, http_timeout=0.3) as client:
        with socket.create_connection(("127.0.0.1", client.base_url.port), 20) as slow:
            for _ in range(used):
                slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    answer += (part := slow.recv(1000))
                    assert part
                time.sleep(0.4)
            if sent or not used:
                slow.sendall(sent)
                assert slow.recv(1000) == b""  # it was closed
        assert client.get("/health").status_code == 200


def test_a_body_is_read_up_to_its_bound() -> None:
    async def received(*parts: bytes, most: int, declared: str | None = None) -> bytes:
        messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        messages.append({"type": "http.request"})

        async def receive() -> Any:
            return messages.pop(0)

        headers = Headers({} if declared is None else {"content-length": declared})
        body = await read_body(receive, headers, most, 5)
        assert (await again(body, receive)())["body"] == body
        return body

    assert asyncio.run(received(b"ab", b"", b"c", most=3)) == b"abc"
    for parts, declared in (((b"ab", b"cd"), None), ((), "4"), ((b"abcd",), "nonsense")):
        with pytest.raises(Refusal) as caught:
            asyncio.run(received(*parts, most=3, declared=declared))
        assert caught.value.status == 413


def test_what_waits_is_bounded_and_can_be_tried_again(path: Path, serve: Any) -> None:
    """Two texts may wait; of many that ask at once some are answered, the others are told to come again."""
    with serve(path, http_queue=2, http_batch_wait=200.0, http_batch_texts=2) as client:

        def ask(number: int) -> httpx.Response:
            return client.post("/v1/classify", json={"texts": [f"parcel {number}"]})

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(ask, range(24)))
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused and len(refused) < 24
        for answer in refused:
            assert answer.headers["Retry-After"] == "1"
            assert answer.json()["error"]["type"] == "overloaded"
        assert {answer.status_code for answer in answers} == {200, 503}
        crowd = client.post("/predict", json={"inputs": [["a"], ["b"], ["c"]]})
        assert len(crowd.json()) == 3  # more than may wait, but nobody waits


def test_probes_are_answered_however_much_is_under_way(path: Path, serve: Any) -> None:
    """Here bodies that do not come are under way, as many as may be."""
    with serve(path, http_queue=3) as client, contextlib.ExitStack() as stack:
        for _ in range(3):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", client.base_url.port)))
            slow.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 100\r\n\r\n{")  # fmt: skip
        deadline = time.monotonic() + 30
        while (answer := client.get("/v1/labels")).status_code == 200:
            assert time.monotonic() < deadline
        assert told(answer) == (503, "overloaded")
        for probe in ("/health", "/ready", "/metrics"):
            assert client.get(probe).status_code == 200


def test_threads_give_up_what_has_not_begun_and_finish_what_has() -> None:
    async def tried() -> None:
        threads = Threads("test", 1, waiting=1, timeout=0.2, finish=True)
        go, did = threading.Event(), []

        def work(name: str) -> str:
            go.wait(10)
            did.append(name)
            return name

        first = asyncio.create_task(threads.run(lambda: work("first")))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(threads.run(lambda: work("second")))
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal) as caught:
            await threads.run(lambda: work("third"))
        assert caught.value.kind == "overloaded"
        with pytest.raises(Refusal) as caught:
            await second
        assert caught.value.kind == "timed_out"
        assert not first.done()
        go.set()
        assert await first == "first"
        assert await threads.run(lambda: work("fourth")) == "fourth"
        await threads.stop()
        assert did == ["first", "fourth"]

    asyncio.run(tried())


def test_the_event_loop_is_not_held_up(path: Path, serve: Any) -> None:
    """While the datastore is locked by another, a change waits, and answers and probes go on."""
    from likewise.datastore.ledger import Ledger

    with serve(path, http_timeout=20, lock_timeout=20.0) as client:
        done: list[int] = []

        def teach() -> None:
            answer = client.post("/v1/examples", json={"examples": [{"text": "a sick bird", "labels": "health"}]})
            done.append(answer.status_code)

        with Ledger.open(path / "datastore.db") as ledger, ledger._write():
            thread = threading.Thread(target=teach)
            thread.start()
            time.sleep(0.3)
            for _ in range(5):
                assert client.get("/health").status_code == 200
                assert client.post("/v1/classify", json={"texts": ["a"]}).json()[0]["revision"] == 1
            assert done == []
        thread.join()
        assert done == [200]
        assert client.post("/v1/classify", json={"texts": ["a"]}).json()[0]["revision"] == 2


def test_a_datastore_that_is_locked_too_long_says_so_and_where_only_in_the_log(
    path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from likewise.datastore.ledger import Ledger

    logger = logging.getLogger("likewise.service")
    monkeypatch.setattr(logger, "propagate", True)
    logger.setLevel(logging.INFO)
    locked = serve(path, lock_timeout=0.1, http_log="requests")
    with locked as client, Ledger.open(path / "datastore.db") as ledger, ledger._write():
        for answer in (
            client.patch("/v1/examples/1", json={"labels": "x"}),
            client.delete("/v1/examples/1", params={"erase": True}),
            client.delete("/v1/examples/1", params={"erase": True}, headers={"If-Match": "1"}),
        ):
            assert told(answer) == (503, "unavailable")
            assert answer.json()["error"]["message"].endswith("nothing was changed")
            assert str(path) not in answer.text and "datastore.db" not in answer.text
    assert "LedgerBusy: " in caplog.text and "datastore.db" in caplog.text
