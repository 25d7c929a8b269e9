"""POST /predict, held against what Text Embeddings Inference documents and its clients expect."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from likewise.fitting import fit
from likewise.model import Model
from rows import alike
from service.serving import serving

LONG = "parcel " * 200  # tokens; the tiny encoder reads 64


def predict(client: httpx.Client, inputs: Any, **more: Any) -> Any:
    answer = client.post("/predict", json={"inputs": inputs, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def expected(path: Path, *texts: str) -> list[list[dict[str, Any]]]:
    with Model.open(path) as model:
        return [[{"score": score, "label": label} for label, score in p.scores] for p in model.classify(list(texts))]


def test_a_text_a_pair_and_a_batch(shared: httpx.Client, fitted: Path) -> None:
    one, pair = expected(fitted, "my parcel is late", "my parcel is late pay the bill")
    assert alike(predict(shared, "my parcel is late"), one, 1e-6)
    assert alike(predict(shared, ["my parcel is late"]), one, 1e-6)
    assert alike(predict(shared, ["my parcel is late", "pay the bill"]), pair, 1e-6)
    batch = predict(shared, [["my parcel is late"], ["my parcel is late", "pay the bill"]])
    assert alike(batch, [one, pair], 1e-6)
    assert alike(predict(shared, [["my parcel is late"]]), [one], 1e-6)
    for row in batch:
        scores = [each["score"] for each in row]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)


def test_unknown_keys_are_left_aside(shared: httpx.Client) -> None:
    assert predict(shared, "a", model="x", truncation_direction="Left") == predict(shared, "a")


def test_raw_scores_become_scores_by_softmax(shared: httpx.Client) -> None:
    scores, raw = predict(shared, "my parcel is late"), predict(shared, "my parcel is late", raw_scores=True)
    total = sum(math.exp(row["score"]) for row in raw)
    assert [math.exp(row["score"]) / total for row in raw] == pytest.approx([row["score"] for row in scores])


@pytest.fixture(scope="module")
def several(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    path = tmp_path_factory.mktemp("several") / "model"
    texts = [f"{what} {i}" for what in ("parcel late", "pay bill", "parcel bill", "black cat") for i in range(10)]
    labels = [its for its in (["delivery"], ["invoice"], ["delivery", "invoice"], []) for _ in range(10)]
    fit(texts, labels, recipe="frozen", encoder=str(tiny_encoder)).save(path).close()
    with serving(Path(shutil.copytree(path, path.with_name("copy")))) as client:
        yield client


def test_raw_scores_become_scores_by_sigmoid_where_there_are_several_labels(several: httpx.Client) -> None:
    scores, raw = predict(several, "parcel bill 3"), predict(several, "parcel bill 3", raw_scores=True)
    assert [row["label"] for row in scores] == [row["label"] for row in raw]
    assert [1 / (1 + math.exp(-row["score"])) for row in raw] == pytest.approx([row["score"] for row in scores])
    answer = several.post("/v1/classify", json={"texts": ["parcel bill 3", "black cat 1"]}).json()
    assert "label" not in answer[0] and isinstance(answer[0]["labels"], list)


def test_a_text_that_is_too_long_fails_unless_it_may_be_cut(shared: httpx.Client) -> None:
    answer = shared.post("/predict", json={"inputs": LONG})
    assert answer.status_code == 413
    assert answer.json() == {
        "error": "Input validation error: `inputs` must have less than 64 tokens. Given: 202",
        "error_type": "Validation",
    }
    begins = predict(shared, f"{LONG} {'bill ' * 200}", truncate=True)
    ends = predict(shared, f"{LONG} {'bill ' * 200}", truncate=True, truncation_direction="left")
    assert alike(begins, predict(shared, "parcel " * 62), 1e-6)
    assert alike(ends, predict(shared, "bill " * 62), 1e-6)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"inputs": []}, 400, "Empty"),
        ({"inputs": ""}, 413, "Validation"),
        ({"inputs": [["a"], [""]]}, 413, "Validation"),
        ({"inputs": ["", ""]}, 413, "Validation"),
        ({"inputs": [["", ""]]}, 413, "Validation"),
        ({"inputs": [["a"]] * 257}, 413, "Validation"),
        ({"inputs": "a\x00"}, 422, "Tokenizer"),
        ({"inputs": " "}, 422, "Tokenizer"),
        ({}, 422, "Validation"),
        ({"inputs": 1}, 422, "Validation"),
        ({"inputs": ["a", "b", "c"]}, 422, "Validation"),
        ({"inputs": [["a", "b", "c"]]}, 422, "Validation"),
        ({"inputs": [[]]}, 422, "Validation"),
        ({"inputs": "a", "truncate": "yes"}, 422, "Validation"),
        ({"inputs": "a", "raw_scores": None}, 422, "Validation"),
        ({"inputs": "a", "truncation_direction": "up"}, 422, "Validation"),
    ],
)
def test_errors_have_their_shape_and_status(shared: httpx.Client, body: Any, status: int, kind: str) -> None:
    answer = shared.post("/predict", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind), answer.text
    assert set(answer.json()) == {"error", "error_type"}
    assert isinstance(answer.json()["error"], str) and answer.json()["error"]


def test_errors_before_the_route_have_the_shape_too(shared: httpx.Client) -> None:
    deep = b"[" * 100_000
    for content, kind, status in (
        *((content, "application/json", 400) for content in (b"{", b'{"inputs": "\xff"}', deep)),
        (b"{}", "text/plain", 415),
    ):
        answer = shared.post("/predict", content=content, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["error_type"]) == (status, "Validation")


def test_a_model_without_examples_fails_as_a_backend(client: httpx.Client) -> None:
    for number in range(1, 41):
        client.delete(f"/v1/examples/{number}")
    answer = client.post("/predict", json={"inputs": "a"})
    assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")
    answer = client.post("/v1/classify", json={"texts": ["a"]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "conflict")


def test_headers_tell_what_it_took(shared: httpx.Client) -> None:
    headers = shared.post("/predict", json={"inputs": "my parcel"}).headers
    assert (headers["x-compute-type"], headers["x-compute-characters"], headers["x-compute-tokens"]) == (
        "cpu",
        "9",
        "4",
    )
