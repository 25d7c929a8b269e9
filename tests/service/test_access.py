"""Who may ask, and who may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from likewise.errors import SettingError
from likewise.model import Model
from likewise.service.access import hosts, is_loopback, origins
from likewise.service.guard import HEADERS
from likewise.service.tokens import Tokens

ASK = {"texts": ["my parcel is late"]}
TEACH = {"examples": [{"text": "a sick bird", "labels": "health"}]}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["type"]


def test_tokens_let_ask_or_change_and_name_who_did(path: Path, serve: Any) -> None:
    tokens = Tokens(path)
    reads, writes = tokens.add("page", "read"), tokens.add("ann@example.org", "write")
    with serve(path, auth=True) as client:
        for wrong in ({}, bearer("likewise_wrong"), {"Authorization": f"Basic {reads}"}, {"Authorization": "Bearer"}):
            answer = client.post("/v1/classify", json=ASK, headers=wrong)
            assert told(answer) == (401, "unauthorized")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        for token in (reads, writes):
            assert client.post("/v1/classify", json=ASK, headers=bearer(token)).status_code == 200
            assert client.get("/v1/examples", headers=bearer(token)).status_code == 200
            assert client.post("/predict", json={"inputs": "a"}, headers=bearer(token)).status_code == 200
        for method, route, body in (
            ("POST", "/v1/examples", TEACH),
            ("PATCH", "/v1/examples/1", {"labels": "x"}),
            ("DELETE", "/v1/examples/1", None),
            ("POST", "/v1/revert", {"revision": 1}),
            ("POST", "/v1/labels/rename", {"old": "invoice", "new": "bill"}),
            ("POST", "/v1/labels/merge", {"labels": ["invoice"], "into": "bill"}),
        ):
            assert told(client.request(method, route, json=body, headers=bearer(reads))) == (403, "forbidden")
            assert client.request(method, route, json=body).status_code == 401
        assert client.post("/v1/examples", json=TEACH, headers=bearer(writes)).json()["revision"] == 2
        newest = client.get("/v1/history", headers=bearer(reads)).json()["history"][0]
        assert (newest["action"], newest["by"]) == ("taught", "ann@example.org")
        for route in ("/health", "/ready", "/docs", "/openapi.json"):
            assert client.get(route).status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.get("/v1/nothing").status_code == 401
        answer = client.post("/predict", json={"inputs": "a"})
        assert (answer.status_code, set(answer.json())) == (401, {"error", "error_type"})


def test_a_token_that_is_added_or_taken_back_counts_at_once(path: Path, serve: Any) -> None:
    tokens = Tokens(path)
    first = tokens.add("ann", "read")
    with serve(path, auth=True) as client:
        assert client.get("/v1/labels", headers=bearer(first)).status_code == 200
        second = tokens.add("bob", "read")
        assert client.get("/v1/labels", headers=bearer(second)).status_code == 200
        tokens.remove("ann")
        assert client.get("/v1/labels", headers=bearer(first)).status_code == 401
        assert client.get("/v1/labels", headers=bearer(second)).status_code == 200
        tokens.remove("bob")
        assert client.get("/v1/labels", headers=bearer(second)).status_code == 401


def test_the_first_token_closes_the_service_at_once(path: Path, serve: Any) -> None:
    with serve(path, auth=None) as client:
        assert client.get("/v1/labels").status_code == 200
        secret = Tokens(path).add("ann", "read")
        assert client.get("/v1/labels").status_code == 401
        assert client.get("/v1/labels", headers=bearer(secret)).status_code == 200


@pytest.mark.parametrize("before", [True, False])
def test_the_last_token_that_is_taken_back_opens_nothing(path: Path, serve: Any, before: bool) -> None:
    tokens = Tokens(path)
    if before:
        tokens.add("ann", "read")
    with serve(path, auth=None) as client:
        if not before:
            tokens.add("ann", "read")
            assert client.get("/v1/labels").status_code == 401
        tokens.remove("ann")
        assert client.post("/v1/examples", json=TEACH).status_code == 401
        (path / "tokens.json").unlink()
        assert client.post("/v1/examples", json=TEACH).status_code == 401


def test_a_file_of_tokens_that_cannot_be_read_opens_nothing(path: Path, serve: Any) -> None:
    secret = Tokens(path).add("ann", "write")
    with serve(path, auth=None) as client:
        (path / "tokens.json").write_text("{")
        answer = client.get("/v1/labels", headers=bearer(secret))
        assert told(answer) == (503, "unavailable")
        assert str(path) not in answer.text
        (path / "tokens.json").unlink()
        (path / "tokens.json").symlink_to("tokens.json")  # to itself: it cannot be looked at
        assert told(client.get("/v1/labels", headers=bearer(secret))) == (503, "unavailable")
        assert client.get("/health").status_code == 200


def test_without_tokens_nobody_is_named(client: httpx.Client, path: Path) -> None:
    """The user that the service runs as made the model, not this change."""
    client.post("/v1/examples", json=TEACH)
    client.delete("/v1/examples/41", params={"erase": "true"})
    with Model.open(path) as model:
        erased, taught, first = model.history()
        assert (erased.by, taught.by) == ("anonymous", "anonymous") and first.by != "anonymous"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[::g]"])
def test_a_host_of_another_name_is_refused(shared: httpx.Client, host: str) -> None:
    assert told(shared.get("/health", headers={"Host": host})) == (403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8000", "10.1.2.3"])
def test_names_of_this_machine_and_addresses_are_served(shared: httpx.Client, host: str) -> None:
    assert shared.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "file://", "http://[", ""])
def test_a_page_of_another_origin_is_refused(shared: httpx.Client, origin: str) -> None:
    assert told(shared.post("/v1/classify", json=ASK, headers={"Origin": origin})) == (403, "forbidden")
    assert told(shared.get("/v1/labels", headers={"Origin": origin})) == (403, "forbidden")


def test_its_own_page_is_served_and_no_other_may_read(shared: httpx.Client) -> None:
    answer = shared.post("/v1/classify", json=ASK, headers={"Origin": str(shared.base_url).rstrip("/")})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_names_and_origins_that_are_allowed(path: Path, serve: Any) -> None:
    allowed = {"http_allow_hosts": "likewise.internal, tool", "http_allow_origins": "https://Tool.example.org"}
    with serve(path, **allowed) as client:
        assert client.get("/health", headers={"Host": "likewise.internal:80"}).status_code == 200
        page = {"Origin": "https://tool.example.org"}
        asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}
        preflight = client.options("/v1/examples/1", headers={**page, **asked})
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://tool.example.org"
        assert {name: preflight.headers[name] for name in HEADERS} == HEADERS
        for elsewhere in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            assert told(client.options("/v1/examples/1", headers={**page, **asked, **elsewhere})) == (403, "forbidden")
        wrong = client.post("/v1/classify", content=b"x", headers=page)  # a page can read why it is refused
        assert told(wrong) == (415, "unsupported_media_type")
        assert wrong.headers["Access-Control-Allow-Origin"] == "https://tool.example.org"
        answer = client.post("/v1/classify", json=ASK, headers=page)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://tool.example.org"
        assert client.post("/v1/classify", json=ASK, headers={"Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_of_another_page_changes_nothing(shared: httpx.Client, kind: str) -> None:
    body = b'{"examples": [{"text": "a sick bird", "labels": "health"}]}'
    for route in ("/v1/examples", "/v1/classify"):
        answer = shared.post(route, content=body, headers={"Content-Type": kind})
        assert told(answer) == (415, "unsupported_media_type")


def test_every_answer_carries_the_security_headers(shared: httpx.Client) -> None:
    for answer in (
        shared.get("/health"),
        shared.get("/v1/nothing"),
        shared.post("/v1/classify", json=ASK),
        shared.post("/v1/classify", content=b"x"),
        shared.get("/health", headers={"Host": "evil.example"}),
    ):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert len(answer.headers["X-Request-Id"]) == 16
        assert "server" not in answer.headers
    page = shared.get("/docs")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "<script" not in page.text and "http-equiv" not in page.text


def test_hosts_and_origins_are_read() -> None:
    assert hosts("10.0.0.1", "A.example, b.example,") == {"localhost", "10.0.0.1", "a.example", "b.example"}
    assert origins(None) == frozenset()
    assert origins("HTTPS://Tool.example.org, http://[::1]:80") == {"https://tool.example.org", "http://[::1]:80"}
    for wrong in ("tool.example.org", "https://tool.example.org/path", "https://x?y", "https://x#", "ftp://x", "*", "http://[",
                  "https://"):  # fmt: skip
        with pytest.raises(SettingError, match="expected an origin"):
            origins(wrong)
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org")] == [False] * 4
