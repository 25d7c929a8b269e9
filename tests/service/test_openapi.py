"""The OpenAPI document: every example in it is executed, and schemathesis holds the service to all of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from likewise.checking import check
from likewise.sample import load
from rows import saved
from service.serving import serving

OPERATIONS = 16
SCHEMATHESIS = str(Path(sys.executable).parent / "schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def shop(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the sample's short texts, whose labels the document's examples name."""
    short = [(text, label) for text, label in zip(*load("train"), strict=True) if len(text) < 60]
    return saved(short, tiny_encoder, tmp_path_factory.mktemp("shop") / "model")


@pytest.fixture
def own(shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop, tmp_path / "model"))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def shape(value: Any) -> Any:
    """What a value is made of: keys and kinds, not contents."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


def fits(found: Any, shown: Any) -> bool:
    """Whether an answer has the shape of the one that is shown; null stands for any plain value."""
    if isinstance(shown, dict) and isinstance(found, dict):
        return found.keys() == shown.keys() and all(fits(found[key], shown[key]) for key in shown)
    if isinstance(shown, list) and isinstance(found, list):
        return not (found and shown) or fits(found[0], shown[0])
    return "NoneType" in (shape(found), shape(shown)) or shape(found) == shape(shown)


def test_every_example_is_executed(own: Path) -> None:
    """Each request that is shown, in the document's order, is answered as is shown beside it."""
    executed = 0
    with serving(own) as client:
        document = client.get("/openapi.json").json()
        for method, path, operation in operations(document):
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            bodies = [example["value"] for example in content.get("examples", {}).values()]
            assert bodies or method in ("GET", "DELETE"), path
            for body in bodies or [None]:
                answer = client.request(method, path.replace("{id}", "1"), json=body)
                assert answer.status_code == 200, (method, path, answer.text)
                shown = operation["responses"]["200"]["content"]
                kind = answer.headers["Content-Type"].partition(";")[0]
                if kind == "application/json":
                    found, expected = answer.json(), shown[kind]["example"]
                    if path == "/v1/model":
                        found.pop("fit"), expected.pop("fit")
                    batch = (
                        path == "/predict" and isinstance(body["inputs"], list) and isinstance(body["inputs"][0], list)
                    )
                    assert fits(found[0] if batch else found, expected), (path, found)
                else:
                    assert shown[kind]["example"].splitlines()[1] in answer.text
                executed += 1
            for status, failure in operation["responses"].items():
                if status != "200":
                    (example,) = (each["example"] for each in failure["content"].values())
                    assert fits(example, {"error": "", "error_type": ""} if path == "/predict" else
                                {"error": {"type": "", "message": "", "hint": ""}})  # fmt: skip
    assert executed >= OPERATIONS
    assert len(list(operations(document))) == OPERATIONS


def test_the_page_shows_every_route(own: Path) -> None:
    with serving(own) as client:
        document = client.get("/openapi.json").json()
        page = client.get("/docs").text
    for method, path, operation in operations(document):
        assert f'id="{operation["operationId"]}"' in page
        assert operation["description"], (method, path)
    assert "curl -X PATCH" in page


def test_tokens_are_in_the_document_where_they_are_asked_for(own: Path) -> None:
    with serving(own, auth=True) as client:
        document = client.get("/openapi.json").json()
    for _, path, operation in operations(document):
        assert ("security" in operation) == (path not in ("/health", "/ready"))
    with serving(own) as client:
        assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


@pytest.mark.parametrize("phases", ["examples,coverage", "fuzzing,stateful"])
def test_schemathesis_finds_nothing(own: Path, tmp_path: Path, phases: str) -> None:
    """Examples, the edges of every schema, data right and wrong, chains of requests; always the same."""
    with serving(own) as client:
        done = subprocess.run(
            [SCHEMATHESIS, "--config-file", str(CONFIG), "run", f"{client.base_url}/openapi.json", "--phases", phases,
             "--max-examples", "8", "--generation-deterministic", "--no-color", "--warnings", "off"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert client.get("/ready").status_code == 200
    assert done.returncode == 0, done.stdout
    assert f"{OPERATIONS} selected / {OPERATIONS} total" in done.stdout
    assert check(own) == []
