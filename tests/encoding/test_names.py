"""Where an encoder's name leads: a folder, the wheel, the cache, the hub, in this order."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from likewise.encoding.names import DEFAULT, WEIGHTS_SHA256, WHEEL, resolve
from likewise.errors import EncoderError, MissingExtra

MODULE = WHEEL.replace("-", "_")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def encoder_folder(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.fixture()
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture()
def without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)


def cached(cache: Path, repository: str) -> Path:
    entry = cache / f"models--{repository.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text(COMMIT)
    return encoder_folder(entry / "snapshots" / COMMIT)


def test_a_local_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = encoder_folder(tmp_path / DEFAULT)
    assert resolve(str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert resolve(DEFAULT) == folder
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve(f"~/{DEFAULT}") == folder


def test_a_folder_that_holds_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"holds no encoder.*modules\.json"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("name", [DEFAULT, f"sentence-transformers/{DEFAULT}"])
def test_the_wheel_comes_before_the_cache(cache: Path, name: str) -> None:
    cached(cache, f"sentence-transformers/{DEFAULT}")
    found = resolve(name)
    assert found.parent.name == MODULE
    assert hashlib.sha256((found / "model.safetensors").read_bytes()).hexdigest() == WEIGHTS_SHA256


def test_resolving_does_not_run_the_wheels_code() -> None:
    program = (
        "import sys; from likewise.encoding.names import resolve;"
        "resolve(sys.argv[1]); print(sys.argv[2] in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, DEFAULT, MODULE], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


def test_a_forged_wheel_is_not_used(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(cache, f"sentence-transformers/{DEFAULT}")  # no way out either: something is wrong, and it is said
    (tmp_path / MODULE).mkdir()
    (tmp_path / MODULE / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EncoderError, match=r"lacks .*model\.safetensors"):
        resolve(DEFAULT)
    encoder_folder(tmp_path / MODULE / "model", b"forged")
    with pytest.raises(EncoderError, match=f"not the published ones.*{WEIGHTS_SHA256[:16]}"):
        resolve(DEFAULT)


def test_the_cache_serves_without_network(cache: Path, without_wheel: None) -> None:
    expected = cached(cache, f"sentence-transformers/{DEFAULT}")
    assert resolve(DEFAULT) == resolve(f"sentence-transformers/{DEFAULT}") == expected


def test_a_bare_name_means_sentence_transformers_first(cache: Path) -> None:
    plain = cached(cache, "some-encoder")
    assert resolve("some-encoder") == plain
    preferred = cached(cache, "sentence-transformers/some-encoder")
    assert resolve("some-encoder") == preferred
    with pytest.raises(EncoderError):
        resolve("owner/some-encoder")


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
def test_a_part_of_a_repository_in_the_cache_is_not_enough(cache: Path, lacking: str) -> None:
    (cached(cache, "owner/name") / lacking).unlink()
    with pytest.raises(EncoderError, match="owner/name: configuration or weights are missing"):
        resolve("owner/name")


def test_an_unknown_name_with_a_suggestion(cache: Path) -> None:
    with pytest.raises(EncoderError) as caught:
        resolve("all-MiniLM-L6-v3")
    message = str(caught.value)
    assert "did you mean 'all-MiniLM-L6-v2'?" in message
    assert "sentence-transformers/all-MiniLM-L6-v3" in message and "\n" not in message
    with pytest.raises(EncoderError) as caught:
        resolve("all-mpnet-base-v2")
    assert "did you mean" not in str(caught.value)  # the name is right, the network is not there


def test_the_default_without_wheel_and_network_says_what_brings_it(cache: Path, without_wheel: None) -> None:
    with pytest.raises(EncoderError, match=r"pip install 'likewise\[train\]'"):
        resolve(DEFAULT)


@pytest.mark.parametrize("name", ["./nowhere", "a/b/c", "/nowhere/encoder", "two words", "http://host/x", "", "  "])
def test_what_cannot_be_a_hub_name_never_gets_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # asking the hub would be MissingExtra
    with pytest.raises(EncoderError, match="expected"):
        resolve(name)
    with pytest.raises(MissingExtra, match=r"likewise\[train\]"):
        resolve("owner/name")


# The hub, as a server on this machine


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as a download asks for; it holds one repository."""

    repository = "sentence-transformers/good-one"
    files: dict[str, bytes] = {  # noqa: RUF012
        "config.json": b"{}",
        "modules.json": b"[]",
        "1_Pooling/config.json": b"{}",
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"the same, pickled",
        "tf_model.h5": b"the same again",
        "onnx/model.onnx": b"and again",
    }
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith((f"/api/models/{self.repository}/tree/",)):
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            self._answer(json.dumps(entries).encode(), "application/json")
        elif path.startswith(f"/api/models/{self.repository}"):
            about: dict[str, Any] = {"id": self.repository, "modelId": self.repository, "sha": COMMIT, "siblings": []}
            self._answer(json.dumps({**about, "tags": [], "private": False}).encode(), "application/json")
        elif path.startswith(prefix := f"/{self.repository}/resolve/{COMMIT}/"):
            self._answer(self.files[path.removeprefix(prefix)], "application/octet-stream")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture()
def hub() -> Iterator[str]:
    _Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_hub_comes_last_and_only_what_is_needed_is_fetched(hub: str, tmp_path: Path) -> None:
    program = (
        "import sys; from likewise.encoding.names import resolve\n"
        "try: print(resolve(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    environment |= {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}

    def asked(name: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, name], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.stderr == ""  # no bars into a pipe
        return done.stdout.strip()

    folder = Path(asked("good-one"))
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {"config.json", "modules.json", "1_Pooling/config.json", "model.safetensors"}
    _Hub.asked.clear()
    assert asked("good-one") == asked("sentence-transformers/good-one") == str(folder)
    assert _Hub.asked == []  # the cache answers
    assert "EncoderError unknown encoder 'bad-one'" in (message := asked("bad-one"))
    assert "sentence-transformers/bad-one: no such repository; bad-one: no such repository" in message
