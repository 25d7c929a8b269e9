"""`likewise serve`: how it starts, what it logs, how it stops, and what several processes share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from likewise.datastore.ledger import Ledger
from likewise.model import Model
from likewise.service.tokens import Tokens
from service.processes import Served, served

ASK = {"texts": ["my parcel is late"]}


def eventually(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def test_a_stop_finishes_what_is_under_way_and_logs_a_line_a_request(path: Path) -> None:
    secret = Tokens(path).add("ann", "write")
    headers = {"Authorization": f"Bearer {secret}"}
    slow = {"texts": ["my parcel is late " * 1000] * 256}
    with served(path, "--max-body", "10000000") as service:
        assert "serving" in service.first and service.url in service.first
        service.ready()
        found: list[httpx.Response] = []

        def ask() -> None:
            found.append(httpx.post(f"{service.url}/v1/classify", json=slow, headers=headers, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        taught = httpx.post(f"{service.url}/v1/examples", headers=headers, timeout=60,
                            json={"examples": [{"text": "a secret bird", "labels": "health"}]})  # fmt: skip
        looked = httpx.get(f"{service.url}/v1/examples?words=hidden", headers=headers, timeout=60)
        assert (taught.status_code, looked.status_code) == (200, 200)
        time.sleep(0.2)
        assert not found  # it is being answered
        assert service.stop() == 0
        asking.join()
        assert found[0].status_code == 200
    lines = [json.loads(line) for line in service.lines]
    assert [(line["method"], line["route"], line["status"], line["by"]) for line in lines] == [
        ("GET", "/ready", 200, None),
        ("POST", "/v1/examples", 200, "ann"),
        ("GET", "/v1/examples", 200, "ann"),
        ("POST", "/v1/classify", 200, "ann"),
    ]
    assert {line["id"] for line in lines} >= {found[0].headers["X-Request-Id"], taught.headers["X-Request-Id"]}
    whole = "".join(service.lines)
    for hidden in (secret, "parcel", "secret", "hidden", "Bearer"):
        assert hidden not in whole
    with Model.open(path) as model:
        assert model.history(1)[0].by == "ann"


@contextlib.contextmanager
def waiting(path: Path, service: Served) -> Iterator[list[httpx.Response]]:
    """A change that waits for the ledger's lock, which is held meanwhile; its answer, once there is one."""
    answers: list[httpx.Response] = []
    body = {"examples": [{"text": "a sick bird", "labels": "health"}]}
    thread = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{service.url}/v1/examples", json=body, timeout=60))
    )
    with Ledger.open(path / "datastore.db") as ledger, ledger._write():
        thread.start()
        time.sleep(1)
        yield answers
    thread.join()


def test_a_stop_that_may_wait_no_longer_says_so(path: Path) -> None:
    with served(path, "--grace", "0") as service:
        service.ready()
        with waiting(path, service) as answers:
            service.process.send_signal(signal.SIGTERM)
            eventually(lambda: answers)
        assert service.ended() == 0
    (answer,) = answers
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert "Traceback" not in "".join(service.lines)
    assert '"status": 503' in "".join(service.lines)


def test_workers_that_stop_take_no_more_and_finish_what_is_under_way(path: Path) -> None:
    with served(path, "--workers", "2") as service:
        service.ready()
        port = httpx.URL(service.url).port
        assert port

        def refused() -> bool:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return False
            return True

        with waiting(path, service) as answers:
            service.process.send_signal(signal.SIGTERM)
            eventually(refused, 5)
            assert answers == []
        assert answers[0].status_code == 200
        assert service.ended() == 0


def test_texts_are_logged_when_asked_and_nothing_when_asked(path: Path) -> None:
    with served(path, LIKEWISE_HTTP_LOG="texts") as service:
        httpx.post(f"{service.url}/v1/classify", json=ASK, timeout=60)
        service.stop()
    assert json.loads(json.loads(service.lines[0])["body"]) == ASK
    with served(path, "--log", "none") as service:
        service.ready()
        assert service.stop() == 0
    assert service.lines == []


def test_what_cannot_be_served_is_one_line(path: Path, tmp_path: Path) -> None:
    def refused(*arguments: str, at: Path = path, fragment: str) -> None:
        service = Served(at, *arguments)
        assert service.ended() == 2
        assert service.lines == []
        assert fragment in service.first, service.first

    refused("--host", "0.0.0.0", fragment="likewise token add")
    refused("--host", "203.0.113.1", "--no-auth", fragment="cannot listen on 203.0.113.1")
    refused(at=tmp_path / "nothing", fragment="nothing")
    Tokens(path).add("ann", "read")
    (path / "tokens.json").chmod(0o666)
    refused(fragment="chmod 600")
    (path / "tokens.json").chmod(0o600)
    Tokens(path).remove("ann")
    refused(fragment="remove")
    (path / "tokens.json").unlink()
    refused("--port", "70000", fragment="0 to 65,535")
    refused("--allow-origins", "tool", fragment="expected an origin")


def test_others_are_served_with_tokens_or_when_told_so(path: Path) -> None:
    with served(path, "--host", "0.0.0.0", "--no-auth") as service:
        service.ready()
        assert httpx.post(f"{service.url}/v1/classify", json=ASK, timeout=60).status_code == 200
    Tokens(path).add("ann", "read")
    with served(path, "--host", "0.0.0.0") as service:
        service.ready()
        assert httpx.post(f"{service.url}/v1/classify", json=ASK, timeout=60).status_code == 401


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="finds the workers in Linux' /proc")
def test_the_last_token_that_is_taken_back_opens_no_worker(path: Path) -> None:
    """Not one that never saw it, nor one that takes another's place."""

    def asked(url: str, times: int = 20) -> set[int]:  # a connection each, so that both are asked
        return {httpx.get(f"{url}/v1/labels", timeout=60).status_code for _ in range(times)}

    with served(path, "--workers", "2") as service:
        service.ready()
        assert asked(service.url) == {200}
        Tokens(path).add("ann", "read")
        Tokens(path).remove("ann")
        assert asked(service.url) == {401}
    Tokens(path).add("ann", "read")
    with served(path, "--workers", "2") as service:
        service.ready()
        (path / "tokens.json").unlink()  # what the service was started with it remembers without
        before = service.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(service.workers() - before) == 2)
        assert asked(service.url) == {401}


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="finds the workers in Linux' /proc")
def test_a_worker_that_cannot_start_ends_the_service_and_says_why(path: Path) -> None:
    with served(path, "--workers", "2", "--log", "none") as service:
        service.ready()
        eventually(lambda: len(service.workers()) == 2)
        for worker in service.workers():  # one that is starting still would stumble as well, in its own words
            os.kill(worker, signal.SIGSTOP)
            service.ready()  # says the other one
            os.kill(worker, signal.SIGCONT)
        (path / "likewise.json").write_text("{")
        os.kill(min(service.workers()), signal.SIGKILL)
        assert service.ended() == 2
    first, *_, last = service.lines
    assert "likewise.json" in first and "Traceback" not in "".join(service.lines), service.lines
    assert last == "likewise: the service could not start; what happened stands above\n"


def test_workers_all_see_a_correction_at_the_next_request_and_count_together(path: Path) -> None:
    with served(path, "--workers", "2") as service:
        service.ready()

        def answered() -> set[str]:  # a connection each, so that both are asked
            found = [httpx.post(f"{service.url}/v1/classify", json=ASK, timeout=60).json()[0] for _ in range(12)]
            return {answer["neighbours"][0]["labels"][0] for answer in found}

        taught = {"examples": [{"text": ASK["texts"][0], "labels": "first", "ref": "r"}]}
        number = httpx.post(f"{service.url}/v1/examples", json=taught, timeout=60).json()["ids"][0]
        for label in ("second", "third"):
            answer = httpx.patch(f"{service.url}/v1/examples/{number}", json={"labels": label}, timeout=60)
            assert answer.status_code == 200
            assert answered() == {label}
        page = httpx.get(f"{service.url}/metrics", timeout=60).text
        counts = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        assert float(counts['likewise_requests_total{method="POST",route="/v1/classify",status="200"}']) == 24
        assert float(counts["likewise_revision"]) == 4
        assert float(counts["likewise_examples"]) == 41
        assert service.stop() == 0


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_workers_end_with_their_parent(path: Path) -> None:
    with served(path, "--workers", "2") as service:
        service.ready()
        os.kill(service.process.pid, signal.SIGKILL)

        def gone() -> bool:
            try:
                httpx.get(f"{service.url}/health", timeout=5)
            except httpx.TransportError:
                return True
            return False

        eventually(gone)
