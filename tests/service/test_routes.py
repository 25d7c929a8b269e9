"""The routes: what they answer, and that a change is in force at the next answer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from likewise.model import Model
from rows import ROWS, alike

ASKED = ["my parcel is late", "the bank card is lost"]


def refused(answer: httpx.Response, status: int, kind: str, *fragments: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"type", "message", "hint"}
    assert error["type"] == kind
    for fragment in fragments:
        assert fragment in f"{error['message']}; {error['hint']}"


def classify(client: httpx.Client, *texts: str, **more: Any) -> Any:
    answer = client.post("/v1/classify", json={"texts": texts, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_classification_is_what_the_model_says(shared: httpx.Client, fitted: Path) -> None:
    with Model.open(fitted) as model:
        expected = [prediction.to_dict() for prediction in model.classify(ASKED)]
        cited = [prediction.to_dict() for prediction in model.classify(ASKED, neighbours=2)]
    assert alike(classify(shared, *ASKED), expected, 1e-6)
    assert alike(classify(shared, *ASKED, neighbours=2), cited, 1e-6)
    assert classify(shared) == []


def test_what_is_taught_corrected_and_forgotten_counts_at_once(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/examples",
        json={"examples": [{"text": "a sick bird", "labels": "health", "ref": "r1"},
                           {"text": "a sick child", "labels": ["health"]}], "note": "new"},
    )  # fmt: skip
    assert answer.json() == {"ids": [41, 42], "revision": 2, "added": 2, "updated": 0, "known": 0, "kept": 0}
    (prediction,) = classify(client, "a sick bird")
    assert (prediction["label"], prediction["neighbours"][0]["id"], prediction["revision"]) == ("health", 41, 2)
    changed = client.patch("/v1/examples/41", json={"labels": "animals"})
    assert changed.json() == {"ids": [41], "revision": 3, "updated": 1}
    assert changed.headers["ETag"] == '"3"'
    assert classify(client, "a sick bird")[0]["neighbours"][0]["labels"] == ["animals"]
    assert client.delete("/v1/examples/41").json() == {"ids": [41], "revision": 4}
    assert classify(client, "a sick bird")[0]["neighbours"][0]["id"] != 41
    (past,) = classify(client, "a sick bird", as_of=2)
    assert (past["neighbours"][0]["id"], past["revision"]) == (41, 2)


def test_examples_are_found_by_words_label_ref_and_id(client: httpx.Client) -> None:
    client.post("/v1/examples", json={"examples": [{"text": "A Sick bird", "labels": "health", "ref": "r1"}]})

    def ids(**conditions: Any) -> list[int]:
        found = client.get("/v1/examples", params=conditions).json()
        return [example["id"] for example in found["examples"]]

    assert ids(words="SICK bird") == ids(ref="r1") == ids(label="health") == [41]
    assert ids(words="bird parcel") == ids(label="heal") == ids(ref="r2") == []
    assert ids(id=[3, 41, 4711]) == [3, 41]
    (example,) = client.get("/v1/examples", params={"id": 41}).json()["examples"]
    assert example == {
        "id": 41, "text": "A Sick bird", "labels": ["health"], "ref": "r1", "source": "http", "revision": 2,
    }  # fmt: skip


def test_a_parameter_that_nothing_reads_is_refused_and_nothing_is_done(client: httpx.Client) -> None:
    for answer, found, expected in (
        (
            client.delete("/v1/examples/1", params={"erased": "true"}),
            "'erased'",
            "expected erase; did you mean 'erase'?",
        ),
        (client.get("/v1/examples", params={"limit": 2, "labels": "invoice"}), "'labels'", "did you mean 'label'?"),
        (client.get("/v1/labels?%71"), "'q'", "expected none here"),
    ):
        refused(answer, 422, "invalid", f"found the parameter {found}", expected, "nothing was done")
    assert client.get("/v1/model").json()["revision"] == 1
    assert client.get("/health", params={"probe": "7"}).status_code == 200


def pages(client: httpx.Client, route: str, key: str, **conditions: Any) -> list[list[Any]]:
    found, cursor = [], None
    while True:
        page = client.get(route, params={**conditions, **({"cursor": cursor} if cursor else {})}).json()
        found.append(page[key])
        cursor = page["next"]
        if cursor is None:
            return found


def test_pages_hold_everything_once(client: httpx.Client) -> None:
    found = pages(client, "/v1/examples", "examples", limit=7, label="invoice")
    assert [len(page) for page in found] == [7, 7, 6]
    assert [example["id"] for page in found for example in page] == list(range(21, 41))
    assert [len(page) for page in pages(client, "/v1/examples", "examples", limit=20)] == [20, 20]
    for number in range(4):
        client.patch(f"/v1/examples/{number + 1}", json={"labels": "invoice"})
    changes = [change["revision"] for page in pages(client, "/v1/history", "history", limit=2) for change in page]
    assert changes == [5, 4, 3, 2, 1]


def test_an_example_is_told_with_its_life(client: httpx.Client) -> None:
    client.patch("/v1/examples/1", json={"labels": "invoice", "note": "seen"})
    client.delete("/v1/examples/1")
    answer = client.get("/v1/examples/1")
    assert answer.headers["ETag"] == '"3"'
    found = answer.json()
    assert (found["id"], found["text"], found["labels"], found["revision"]) == (1, ROWS[0][0], None, 3)
    assert [(one["action"], one["labels"], one["note"]) for one in found["history"]] == [
        ("forgot", None, None),
        ("relabelled", ["invoice"], "seen"),
        ("taught", ["delivery"], "fit"),
    ]


def test_a_change_in_between_is_a_conflict(client: httpx.Client) -> None:
    seen = client.get("/v1/examples/1").headers["ETag"]
    assert client.patch("/v1/examples/1", json={"labels": "invoice"}, headers={"If-Match": seen}).status_code == 200
    for answer in (
        client.patch("/v1/examples/1", json={"labels": "delivery"}, headers={"If-Match": seen}),
        client.delete("/v1/examples/1", headers={"If-Match": seen}),
    ):
        refused(answer, 409, "conflict", "example 1 was changed at revision 2, after revision 1", "look at it again")
    now = client.get("/v1/examples/1").headers["ETag"].strip('"')
    assert client.patch("/v1/examples/1", json={"labels": "delivery"}, headers={"If-Match": now}).status_code == 200
    assert client.patch("/v1/examples/1", json={"labels": "invoice"}, headers={"If-Match": "*"}).status_code == 200
    refused(client.patch("/v1/examples/1", json={"labels": "x"}, headers={"If-Match": "W/x"}), 422, "invalid")


def test_an_erased_example_is_gone_from_the_past(client: httpx.Client, path: Path) -> None:
    client.post("/v1/examples", json={"examples": [{"text": "a secret bird!", "labels": "secret!"}]})
    answer = client.delete("/v1/examples/41", params={"erase": "true"})
    assert answer.json() == {"ids": [41], "revision": 3, "shared": []}
    assert client.get("/v1/examples/41").json()["text"] is None
    content = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert b"secret" not in content
    refused(client.delete("/v1/examples/41", params={"erase": "true"}), 404, "not_found", "was erased already")


def test_an_example_is_erased_as_it_was_seen_and_one_that_was_forgotten_too(client: httpx.Client) -> None:
    client.patch("/v1/examples/1", json={"labels": "invoice"})
    erase, seen = {"erase": "true"}, {"If-Match": "1"}
    refused(client.delete("/v1/examples/1", params=erase, headers=seen), 409, "conflict")
    assert client.delete("/v1/examples/1", params=erase, headers={"If-Match": "2"}).json()["revision"] == 4
    client.delete("/v1/examples/2")
    assert client.delete("/v1/examples/2", params=erase, headers=seen).json()["ids"] == [2]
    refused(client.delete("/v1/examples/4711", params=erase, headers=seen), 404, "not_found")
    client.patch("/v1/examples/3", json={"labels": "invoice"})
    client.delete("/v1/examples/3")
    refused(
        client.delete("/v1/examples/3", params=erase, headers=seen), 409, "conflict", "revision 7", "look at it again"
    )
    assert client.get("/v1/examples/3").json()["text"] is not None
    now = {"If-Match": client.get("/v1/examples/3").headers["ETag"]}
    assert client.delete("/v1/examples/3", params=erase, headers=now).json()["ids"] == [3]


def test_labels_are_counted_renamed_and_merged(client: httpx.Client) -> None:
    assert client.get("/v1/labels").json() == {
        "labels": [{"label": "delivery", "examples": 20}, {"label": "invoice", "examples": 20}]
    }
    done = client.post("/v1/labels/rename", json={"old": "delivery", "new": "parcels"}).json()
    assert done == {"ids": list(range(1, 21)), "revision": 2, "updated": 20}
    assert classify(client, ROWS[0][0])[0]["label"] == "parcels"
    refused(
        client.post("/v1/labels/rename", json={"old": "parcels", "new": "invoice"}), 409, "conflict", "labels/merge"
    )
    refused(client.post("/v1/labels/rename", json={"old": "parcel", "new": "x"}), 404, "not_found", "'parcels'")
    done = client.post("/v1/labels/merge", json={"labels": ["parcels", "invoice"], "into": "all"}).json()
    assert (done["revision"], done["updated"]) == (3, 40)
    refused(client.post("/v1/labels/merge", json={"labels": ["gone"], "into": "all"}), 404, "not_found")


def test_history_and_the_way_back(client: httpx.Client) -> None:
    client.patch("/v1/examples/1", json={"labels": "invoice", "note": "seen"})
    done = client.post("/v1/revert", json={"revision": 1, "note": "start over"}).json()
    assert done == {"ids": [1], "revision": 3, "updated": 1}
    newest, second, _ = client.get("/v1/history").json()["history"]
    assert (newest["action"], newest["note"]) == ("reverted", "to revision 1: start over")
    assert (second["action"], second["examples"], second["note"]) == ("relabelled", 1, "seen")
    refused(client.post("/v1/revert", json={"revision": 99}), 404, "not_found", "0 to 3")
    refused(client.post("/v1/revert", json={"revision": "yesterday"}), 422, "invalid", "2026-05-01T12:00")
    refused(client.post("/v1/classify", json={"texts": ["a"], "as_of": 99}), 404, "not_found")


def test_the_model_is_told(shared: httpx.Client, tiny_encoder: Path) -> None:
    found = shared.get("/v1/model").json()
    assert (found["task"], found["recipe"], found["generation"], found["revision"]) == ("single", "frozen", 1, 1)
    assert (found["examples"], found["labels"], found["encoder"]) == (40, 2, tiny_encoder.name)
    assert str(tiny_encoder.parent) not in str(found)
    assert found["fit"]


def test_the_process_is_alive_and_ready(shared: httpx.Client) -> None:
    assert shared.get("/health").json() == {"status": "alive"}
    assert shared.get("/ready").json() == {"status": "ready", "revision": 1}


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        ({}, "texts"),
        ({"texts": "one"}, "list"),
        ({"texts": [1]}, "string"),
        ({"texts": ["  "]}, "nothing but whitespace"),
        ({"texts": ["a\x00"]}, "NUL"),
        ({"texts": ["\ud800"]}, ""),
        ({"texts": ["a"], "neighbors": 2}, "body: found the unknown key 'neighbors'; did you mean 'neighbours'?"),
        ({"texts": ["a"], "as_of": -1}, "body.as_of: input should be greater than"),
        ({"texts": ["a"], "as_of": "9" * 5000}, "body.as_of: string should have at most"),
        ({"texts": ["a"], "neighbours": "2"}, "neighbours"),
        ({"texts": ["a"], "neighbours": -1}, "neighbours"),
        ({"texts": ["a"], "as_of": "9999-12-31T23:59:59-23:00"}, ""),
    ],
)
def test_what_is_no_question_is_told(shared: httpx.Client, body: Any, fragment: str) -> None:
    answer = shared.post("/v1/classify", content=json.dumps(body), headers={"Content-Type": "application/json"})
    refused(answer, 422, "invalid", fragment)


def test_a_label_that_is_none_is_named_with_its_place(shared: httpx.Client) -> None:
    for labels, place in ((1, "body.labels: "), ([1], "body.labels.0: "), ([["a"]], "body.labels.0: ")):
        refused(shared.patch("/v1/examples/1", json={"labels": labels}), 422, "invalid", f"{place}input should be")
    answer = shared.post("/v1/examples", json={"examples": [{"text": "a", "labels": ["b", ""]}]})
    refused(answer, 422, "invalid", "body.examples.0.labels.1: string should have at least 1")


def test_what_cannot_be_taught_writes_nothing(shared: httpx.Client) -> None:
    for example in (
        {"text": "a", "labels": []},
        {"text": "a", "labels": ["x", "y"]},
        {"text": " ", "labels": "x"},
        {"text": "a", "labels": " "},
        {"text": "a", "labels": "x", "ref": ""},
        {"text": "a"},
    ):
        refused(
            shared.post("/v1/examples", json={"examples": [{"text": "fine", "labels": "x"}, example]}), 422, "invalid"
        )
    refused(shared.post("/v1/examples", json={"examples": []}), 422, "invalid")
    refused(shared.patch("/v1/examples/4711", json={"labels": "x"}), 404, "not_found")
    refused(shared.delete("/v1/examples/4711"), 404, "not_found")
    refused(shared.get("/v1/examples/4711"), 404, "not_found")
    refused(shared.get("/v1/examples/0"), 422, "invalid")
    assert shared.get("/ready").json()["revision"] == 1


def test_paths_and_methods_that_are_not_there(shared: httpx.Client) -> None:
    refused(shared.get("/v1/nothing"), 404, "not_found")
    refused(shared.get("/v1/../likewise.json"), 404, "not_found")
    answer = shared.get("/v1/classify")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"
    for body in (b"{", b"\xff", b"[" * 100_000, gzip.compress(b'{"texts": ["a"]}')):
        answer = shared.post("/v1/classify", content=body, headers={"Content-Type": "application/json"})
        refused(answer, 400, "bad_request", "the body is no JSON")
