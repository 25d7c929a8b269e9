"""A service whose datastore is on a server: what it says while that is away."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from likewise.model import Model
from postgres import Server


@pytest.fixture
def on_server(path: Path, server: Server) -> Path:
    with Model.open(path) as model:
        model.move(server.place())
    return path


def test_answers_go_on_and_say_so_and_changes_wait_for_better_times(
    on_server: Path, server: Server, serve: Any
) -> None:
    ask = {"texts": ["my parcel is late", "pay the bill"]}
    with serve(on_server) as client:
        assert "stale" not in client.post("/v1/classify", json=ask).json()[0]
        server.stop()
        try:
            answers = client.post("/v1/classify", json=ask).json()
            assert [answer["stale"] for answer in answers] == [True, True]
            assert client.post("/predict", json={"inputs": "my parcel"}).status_code == 200
            for answer in (
                client.post("/v1/examples", json={"examples": [{"text": "a sick bird", "labels": "health"}]}),
                client.get("/v1/examples"),
                client.get("/ready"),
            ):
                away(answer, server)
            assert client.get("/health").status_code == 200
            page = client.get("/metrics").text
            assert "likewise_stale_answers_total 3.0" in page and "likewise_revision" not in page
        finally:
            server.start()
        deadline = time.monotonic() + 30
        while client.get("/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        taught = client.post("/v1/examples", json={"examples": [{"text": "a sick bird", "labels": "health"}]})
        assert taught.json()["added"] == 1
        assert client.post("/v1/classify", json={"texts": ["a sick bird"]}).json()[0]["label"] == "health"
        counts = dict(
            line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#")
        )
        assert (float(counts["likewise_stale_answers_total"]), float(counts["likewise_examples"])) == (3, 41)


def away(answer: httpx.Response, server: Server) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["type"] == "unavailable"
    assert answer.headers["Retry-After"] == "1"
    assert str(server.port) not in answer.text


def test_what_a_database_cannot_hold_is_refused_before_it_is_asked(on_server: Path, serve: Any) -> None:
    with serve(on_server) as client:
        for path in ("/v1/examples?ref=%00", "/v1/examples?label=%00", "/v1/examples?words=a%00"):
            assert client.get(path).status_code in (200, 422), path
        taught = {"examples": [{"text": "a", "labels": "x"}], "note": "\x00"}
        assert client.post("/v1/examples", json=taught).status_code == 422
        assert client.get("/v1/examples", params={"id": 2**53 - 1}).json()["examples"] == []
        assert client.get("/v1/history", params={"cursor": "9" * 15}).status_code == 200
        assert client.get("/v1/examples", params={"cursor": "9" * 15}).json()["examples"] == []
