"""The clients against a real service, with a gate between that loses requests and answers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import shutil
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from likewise import client as clients
from likewise.client import AsyncClient, Client, ServiceAway, ServiceError
from likewise.errors import UsageError
from likewise.model import Model
from likewise.service.tokens import Tokens
from rows import ROWS, alike
from service.serving import serving


@pytest.fixture
def path(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "model"))


@pytest.fixture
def url(path: Path) -> Iterator[str]:
    with serving(path) as http:
        yield str(http.base_url)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PAUSE", 0.01)


class Gate:
    """Passes requests on to a service. Of the first `lose` it passes the request, and loses the answer; the first
    `refuse` it does not pass at all."""

    def __init__(self, url: str, lose: int = 0, refuse: int = 0) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._to = (host, int(port.strip("/")))
        self.lose, self.refuse, self.passed = lose, refuse, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                if self.refuse:
                    self.refuse -= 1
                    continue
                request = self._whole(connection)
                request = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
                with socket.create_connection(self._to) as service:
                    service.sendall(request)
                    answer = b"".join(iter(lambda: service.recv(65536), b""))
                self.passed += 1
                if self.lose:
                    self.lose -= 1
                    continue
                connection.sendall(answer)

    @staticmethod
    def _whole(connection: socket.socket) -> bytes:
        """A request with all of its body."""
        read = b""
        while b"\r\n\r\n" not in read:
            part = connection.recv(65536)
            if not part:
                return read
            read += part
        head, _, body = read.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


@contextlib.contextmanager
def gate(url: str, **losses: int) -> Iterator[Gate]:
    made = Gate(url, **losses)
    try:
        yield made
    finally:
        made.close()


def test_everything_that_can_be_asked(url: str, path: Path) -> None:
    with Client(url) as client, Model.open(path) as model:
        (found,) = client.classify(["my parcel is late"], neighbours=2)
        (expected,) = model.classify(["my parcel is late"], neighbours=2)
        assert alike(found.to_dict(), expected.to_dict(), 1e-6)
        change = client.teach(["a sick bird", "a sick child"], ["health", ["health"]], refs=["r1", None], note="new")
        assert (change.ids, change.revision, change.added) == ((41, 42), 2, 2)
        first, second = client.examples(label="health")
        assert (first.ref, first.text, first.labels) == ("r1", "a sick bird", ("health",))
        assert second.ref is None
        assert client.relabel(41, "animals", seen=2).revision == 3
        with pytest.raises(ServiceError) as caught:
            client.relabel(41, "health", seen=2)
        assert (caught.value.status, caught.value.kind) == (409, "conflict")
        assert caught.value.hint.endswith("look at it again")
        assert client.rename_label("animals", "birds").ids == (41,)
        assert client.merge_labels("birds", "health").ids == (41,)
        assert client.forget(42).revision == 6
        assert client.erase(42).shared == ()
        assert client.labels() == model.labels
        assert list(client.history()) == model.history()
        assert client.history_of(41) == model.history_of(41)
        assert list(client.examples(words="SICK", ref="r1", ids=[41])) == model.examples([41])
        assert list(client.examples(ids=[])) == []
        assert client.classify(["a sick bird"], as_of=2)[0].revision == 2
        assert client.revert(1).revision == 8
        assert client.model()["examples"] == len(ROWS)
        with pytest.raises(ServiceError) as caught:
            client.forget(4711)
        assert caught.value.status == 404


def test_many_come_page_by_page(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PAGE", 7)
    with Client(url) as client:
        assert [example.id for example in client.examples()] == list(range(1, 41))
        assert [example.id for example in client.examples(ids=range(2_000, 0, -1))] == list(range(1, 41))
        for number in range(1, 9):
            client.relabel(number, "invoice")
        assert [change.revision for change in client.history()] == list(range(9, 0, -1))


@pytest.mark.parametrize("on_conflict", [None, "keep", "replace"])
@pytest.mark.parametrize("refs", [None, ["r1", "r2", "r3"]])
def test_a_lost_answer_never_teaches_twice(url: str, path: Path, on_conflict: Any, refs: Any) -> None:
    with Model.open(path) as model:
        texts, labels = ["a sick bird", "a sick child", ROWS[0][0]], ["health", "health", "health"]
        with gate(url, lose=3) as between, Client(between.url) as client:
            repeated = client.teach(texts, labels, refs, on_conflict=on_conflict)
            assert between.passed == 4
        assert model.revision == 2
        with Client(url) as client:
            assert client.teach(texts, labels, refs, on_conflict=on_conflict) == repeated
        assert [example.text for example in model.examples(label="health")].count("a sick bird") == 1


def test_what_would_be_taught_twice_is_reported_and_not_repeated(url: str, path: Path) -> None:
    both: dict[str, Any] = {"on_conflict": "both"}
    with Model.open(path) as model:
        for known, (refs, more) in enumerate([(None, both), (["r", None], {}), (["r", None], both)]):
            with gate(url, lose=1) as between, Client(between.url) as client:
                with pytest.raises(ServiceAway, match="look it up in the history"):
                    client.teach([f"bird {known}", f"child {known}"], ["health"] * 2, refs, **more)
                assert between.passed == 1
        with gate(url, lose=1) as between, Client(between.url) as client:
            change = client.teach(["a bird"] * 2, ["animals"] * 2, ["r1", "r2"], "both")
        assert [example.id for example in model.examples(label="animals")] == list(change.ids)


def test_teaching_over_http_does_what_the_model_does(url: str, fitted: Path, tmp_path: Path) -> None:
    beside = Path(shutil.copytree(fitted, tmp_path / "beside"))
    with Client(url) as client, Model.open(beside) as model:
        for on_conflict in (None, "keep", "replace", "both"):
            text = f"a sick bird {on_conflict}"
            for label in ("health", "health", "animals"):
                taught = client.teach([text], [label], on_conflict=on_conflict)
                expected = model.teach([text], [label], on_conflict=on_conflict)
                for name in ("ids", "revision", "added", "updated", "known", "kept"):
                    assert getattr(taught, name) == getattr(expected, name), (on_conflict, label)
        found, expected_rows = list(client.examples()), model.examples()
        assert [(e.id, e.labels, e.ref) for e in found] == [(e.id, e.labels, e.ref) for e in expected_rows]


def test_a_lost_answer_to_another_change_is_reported_and_not_repeated(url: str, path: Path) -> None:
    with Model.open(path) as model:
        for change in (
            lambda client: client.revert(1),
            lambda client: client.forget(3),
            lambda client: client.relabel(2, "invoice", seen=model.revision),
            lambda client: client.relabel(4, "invoice"),
            lambda client: client.rename_label("delivery", "parcels"),
        ):
            with gate(url, lose=1) as between, Client(between.url) as client:
                with pytest.raises(ServiceAway, match="look it up in the history"):
                    change(client)
                assert between.passed == 1


def test_what_was_not_sent_is_sent_again(url: str) -> None:
    with gate(url, lose=2) as between, Client(between.url) as client:
        assert len(client.classify(["my parcel is late"])) == 1
        assert client.labels()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with Client(nowhere) as client, pytest.raises(ServiceAway, match="check that it runs"):
        client.forget(1)


def test_a_service_that_is_too_busy_is_asked_again(path: Path) -> None:
    with serving(path, http_queue=1, http_batch_wait=100.0) as http:
        answers: list[Any] = []

        def ask() -> None:
            with Client(str(http.base_url), attempts=20) as client:
                answers.append(client.classify(["my parcel is late"]))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 4


def test_a_token_is_sent_and_its_lack_told(path: Path) -> None:
    secret = Tokens(path).add("ann", "read")
    with serving(path, auth=True) as http:
        with Client(str(http.base_url), secret) as client:
            assert client.labels() == {"delivery": 20, "invoice": 20}
            with pytest.raises(ServiceError) as caught:
                client.forget(1)
            assert caught.value.kind == "forbidden"
        with Client(str(http.base_url)) as client, pytest.raises(ServiceError) as caught:
            client.labels()
        assert caught.value.status == 401


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"404 Not Found\r\nContent-Length: 5\r\n\r\nhello", 404),
        (b"204 No Content\r\n\r\n", 204),
        (b"302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", 302),
        *((b"200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), 200)
          for body in (b"<html></html>", b"[]", b'{"x": 1}', b"null", b"\xff", b'{"labels": [1]}')),
    ],
)  # fmt: skip
def test_something_else_that_answers_is_told(answer: bytes, status: int) -> None:
    with answering(answer) as url, Client(url) as client, pytest.raises(ServiceError) as caught:
        client.labels()
    assert "of no Likewise service" in str(caught.value)
    assert (caught.value.status, caught.value.kind) == (status, "unknown")


def test_every_answer_is_held_against_what_was_asked() -> None:
    ask: tuple[Callable[[Client], object], ...] = (
        lambda client: client.classify(["a"]),
        lambda client: client.teach(["a"], ["b"]),
        lambda client: client.erase(1),
        lambda client: list(client.examples()),
        lambda client: client.history_of(1),
        lambda client: client.model(),
    )
    for one in ask:
        empty = answering(b"200 OK\r\nContent-Length: 2\r\n\r\n[]")
        with empty as url, Client(url) as client, pytest.raises(ServiceError, match="no Likewise service"):
            one(client)


def test_an_answer_that_cannot_be_decoded_is_a_loss() -> None:
    answer = b"200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"
    with answering(answer) as url, Client(url) as client, pytest.raises(ServiceAway, match="look it up"):
        client.forget(1)


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Something that gives one request this answer."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 " + answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_what_is_no_address_or_no_token_is_told_at_once(client: type) -> None:
    for url in ("127.0.0.1:8000", "ftp://x", "http:///x", "http://x:99999", "", "http://a b", "http://%20"):
        with pytest.raises(UsageError, match="url: found"):
            client(url)
    for token in ("secret\nsecret", "sécret", "secret secret", "", "secret\x00"):
        with pytest.raises(UsageError, match="token: found") as caught:
            client("http://127.0.0.1:8000", token)
        assert "secret" not in "".join(traceback.format_exception(caught.value)).replace(__file__, "")
    with pytest.raises(UsageError, match="token: found"):
        client("http://127.0.0.1:8000", 5)


def test_what_cannot_be_asked_is_refused_before_it_is_sent() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,  # accepts, and would never answer
        Client(f"http://127.0.0.1:{listening.getsockname()[1]}") as client,
    ):
        wrong: tuple[Callable[[], object], ...] = (
            lambda: client.classify("hello"),
            lambda: client.classify(["\ud800"]),
            lambda: client.classify([object()]),  # type: ignore[list-item]
            lambda: client.classify([1]),  # type: ignore[list-item]
            lambda: client.classify([" "]),
            lambda: client.classify(None),  # type: ignore[arg-type]
            lambda: client.classify(["a"], neighbours=1.5),  # type: ignore[arg-type]
            lambda: client.classify(["a"], as_of="yesterday"),
            lambda: client.teach("ab", ["x", "y"]),
            lambda: client.teach(["a b"], "xy"),
            lambda: client.teach(["a", "b"], ["x"]),
            lambda: client.teach(["a"], ["x"], refs=["r", "s"]),
            lambda: client.relabel("1/../2", "x"),  # type: ignore[arg-type]
            lambda: client.forget("1?erase=true"),  # type: ignore[arg-type]
            lambda: client.forget(1, seen="1\n"),  # type: ignore[arg-type]
            lambda: client.forget(1, seen="x"),  # type: ignore[arg-type]
            lambda: client.forget(1, seen=-1),
            lambda: client.relabel(1, "x", note=5),  # type: ignore[arg-type]
            lambda: client.rename_label("x", 5),  # type: ignore[arg-type]
            lambda: client.merge_labels("x", " "),
            lambda: client.revert(1.5),  # type: ignore[arg-type]
            lambda: client.history_of(1.5),  # type: ignore[arg-type]
            lambda: list(client.examples(ids="12")),  # type: ignore[arg-type]
            lambda: list(client.examples(ids=5.5)),  # type: ignore[arg-type]
            lambda: list(client.examples(words=5)),  # type: ignore[arg-type]
            lambda: list(client.examples(words="\ud800")),
        )
        for ask in wrong:
            with pytest.raises(UsageError):
                ask()


def test_the_asynchronous_client_does_the_same(url: str, path: Path) -> None:
    async def asked() -> None:
        with gate(url, lose=1) as between:
            async with AsyncClient(between.url) as client:
                change = await client.teach(["a sick bird"], ["health"])
                assert change.ids == (41,)
        async with AsyncClient(url) as client:
            answers = await asyncio.gather(*(client.classify([f"a sick bird {i}"]) for i in range(20)))
            assert [answer[0].text for answer in answers] == [f"a sick bird {i}" for i in range(20)]
            assert [example.id async for example in client.examples(label="health")] == [41]
            assert [example async for example in client.examples(ids=[])] == []
            await client.relabel(41, "animals")
            await client.rename_label("animals", "birds")
            await client.merge_labels(["birds"], "health")
            await client.forget(41)
            assert len(await client.history_of(41)) == 5
            await client.erase(41)
            await client.revert(1)
            assert [change.action async for change in client.history()].count("erased") == 1
            assert await client.labels() == {"delivery": 20, "invoice": 20}
            assert (await client.model())["revision"] == 7

    asyncio.run(asked())


def test_both_clients_have_the_same_methods() -> None:
    def signatures(kind: type) -> dict[str, list[str]]:
        members = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(its).parameters) for name, its in members if not name.startswith("_")}

    assert signatures(Client) == signatures(AsyncClient)
