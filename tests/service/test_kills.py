"""A service that is killed under load loses no change that it acknowledged, and makes none by halves.

LIKEWISE_KILLS / 10 says how often, on each kind of datastore; `make soak` sets 200.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from likewise.checking import check
from likewise.model import Model
from postgres import Server
from rows import ROWS
from service.processes import Served, served

WRITERS = 3
ROUNDS = max(1, int(os.environ.get("LIKEWISE_KILLS", "10")) // 20)


@pytest.fixture
def on_server(path: Path, server: Server) -> Path:
    with Model.open(path) as model:
        model.move(server.place())
    return path


class Load:
    """Writers and a reader that go on until the service is gone; what was acknowledged to them."""

    def __init__(self, service: Served) -> None:
        self.url = service.url
        self.taught: dict[int, tuple[str, str]] = {}
        self.relabelled: dict[int, str] = {}
        self.errors: list[Exception] = []
        self.threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        self.threads.append(threading.Thread(target=self._ask))
        for thread in self.threads:
            thread.start()

    def _write(self, writer: int) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            try:
                for number in range(100_000):
                    text = f"bird {self.url} {writer} {number}"
                    example = {"text": text, "labels": "health", "ref": f"{self.url} {writer} {number}"}
                    answer = client.post("/v1/examples", json={"examples": [example]})
                    answer.raise_for_status()
                    (identity,) = answer.json()["ids"]
                    self.taught[identity] = (text, "health")
                    answer = client.patch(f"/v1/examples/{identity}", json={"labels": "animals"})
                    answer.raise_for_status()
                    self.relabelled[identity] = "animals"
            except httpx.TransportError:
                return  # it was killed
            except Exception as error:
                self.errors.append(error)

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            try:
                while True:
                    client.post("/v1/classify", json={"texts": ["a sick bird"]}).raise_for_status()
            except httpx.TransportError:
                return
            except Exception as error:
                self.errors.append(error)

    def ended(self) -> None:
        for thread in self.threads:
            thread.join(60)
        assert self.errors == []


def killed(path: Path, seconds: float, *arguments: str) -> Load:
    with served(path, "--log", "none", *arguments) as service:
        service.ready()
        load = Load(service)
        while len(load.relabelled) < 3:
            time.sleep(0.01)
            assert load.errors == []
        time.sleep(seconds)
        service.kill()
        load.ended()
    return load


def rounds(path: Path) -> Iterator[Load]:
    """Kills one process and two, in turn, some moments after they began."""
    rng = random.Random(7)
    for _ in range(ROUNDS):
        yield killed(path, rng.uniform(0.1, 0.9))
        yield killed(path, rng.uniform(0.1, 0.9), "--workers", "2")


def holds(path: Path, *loads: Load) -> None:
    """Every change that was acknowledged is there, the others whole or not at all, and the model is sound."""
    with Model.open(path) as model:
        there = {example.id: example for example in model.examples()}
        for load in loads:
            for number, (text, label) in load.taught.items():
                assert there[number].text == text
                # A relabelling may have been made without our hearing of it.
                assert there[number].labels[0] == load.relabelled.get(number, there[number].labels[0])
                assert there[number].labels[0] in (label, "animals")
        texts = [example.text for example in there.values()]
        assert len(set(texts)) == len(texts)
        model.classify("a sick bird")
    assert check(path) == []
    assert len(texts) >= len(ROWS) + sum(len(load.taught) for load in loads)


def test_killed_with_its_examples_in_a_file(path: Path) -> None:
    holds(path, *rounds(path))


def test_killed_with_its_examples_on_a_server(on_server: Path) -> None:
    holds(on_server, *rounds(on_server))


def test_a_stop_under_load_loses_nothing(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "copy")
    with served(tmp_path / "copy", "--log", "none") as service:
        service.ready()
        load = Load(service)
        while len(load.relabelled) < 3:
            time.sleep(0.01)
        assert service.stop() == 0
        load.ended()
    holds(tmp_path / "copy", load)
