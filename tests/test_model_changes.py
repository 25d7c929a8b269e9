"""Model: teaching, forgetting and correcting take effect at once, for everybody who has the model open."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.answering import RECENT
from likewise.errors import (
    ExampleChanged,
    ExampleError,
    LabelError,
    LabelTaken,
    LabelUnknown,
    ModelError,
    RevisionError,
    UsageError,
)
from likewise.fitting import fit
from likewise.model import Model
from likewise.types import Prediction
from rows import saved

TOPICS = {"delivery": "parcel delivery ship street door arrived", "invoice": "invoice money bill charge price bank"}
SICK = "my mother is sick"


def messages(topic: str, rows: int, seed: int) -> list[str]:
    """Texts of four words of a topic, no two the same."""
    rng, words = np.random.default_rng(seed), TOPICS[topic].split()
    found: dict[str, None] = {}
    while len(found) < rows:
        found[" ".join(rng.choice(words, 4))] = None
    return list(found)


ROWS = [(text, topic) for seed, topic in enumerate(TOPICS) for text in messages(topic, 20, seed)]
FIRST = ROWS[0][0]


@pytest.fixture(scope="module")
def fitted(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model: examples 1 to 20 are about deliveries, 21 to 40 about invoices."""
    return saved(ROWS, tiny_encoder, tmp_path_factory.mktemp("fitted") / "model")


@pytest.fixture
def path(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "model"))


@pytest.fixture
def model(path: Path) -> Iterator[Model]:
    with Model.open(path) as opened:
        yield opened


ELSEWHERE = """
import json, sys
from likewise.model import Model
model = Model.open(sys.argv[1])
for line in sys.stdin:
    verb, arguments = json.loads(line)
    result = getattr(model, verb)(*arguments)
    print(json.dumps(result.to_dict() if verb == "classify" else result.revision), flush=True)
"""

Ask = Callable[..., Any]


@contextmanager
def another_process(path: Path) -> Iterator[Ask]:
    """A process that has the model open all the while and does what it is asked."""
    with subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(verb: str, *arguments: object) -> Any:
            print(json.dumps([verb, arguments]), file=stdin, flush=True)
            return json.loads(stdout.readline())

        try:
            yield ask
        finally:
            stdin.close()
    assert process.returncode == 0


def ids_cited(found: Prediction) -> list[int]:
    return [neighbour.id for neighbour in found.neighbours]


# At once


def test_every_change_is_in_the_next_answer_of_another_instance(model: Model, path: Path) -> None:
    with Model.open(path) as other:
        assert other.classify(SICK).label in TOPICS
        taught = model.teach(SICK, "health", by="ann", note="new class")
        assert (taught.ids, taught.added, taught.revision) == ((41,), 1, 2)
        found = other.classify(SICK)
        assert (found.label, found.revision, ids_cited(found)[0]) == ("health", 2, 41)

        model.relabel(41, "family")
        found = other.classify(SICK)
        assert (found.label, found.revision, found.neighbours[0].labels) == ("family", 3, ("family",))

        model.rename_label("family", "kin")
        assert (other.classify(SICK).label, other.labels["kin"]) == ("kin", 1)

        model.merge_labels(["kin", "invoice"], "home")
        found = other.classify(SICK)
        assert (found.label, found.revision) == ("home", 5)
        assert {label for label, _ in found.scores} == {"delivery", "home"} == set(other.labels)

        model.forget(41)
        found = other.classify(SICK, neighbours=100)
        assert 41 not in ids_cited(found) and found.revision == 6 == other.revision
        assert other.labels == {"delivery": 20, "home": 20}


def test_every_change_is_in_the_next_answer_of_another_process(model: Model, path: Path) -> None:
    with another_process(path) as ask:
        assert ask("classify", SICK)["label"] in TOPICS
        model.teach(SICK, "health")
        found = ask("classify", SICK)
        assert (found["label"], found["revision"], found["neighbours"][0]["id"]) == ("health", 2, 41)
        assert ask("relabel", 41, "family") == 3  # and back: that process changes, this one answers
        assert model.classify(SICK).label == "family"
        assert ask("forget", 41) == 4
        assert model.classify(SICK).label in TOPICS
        model.rename_label("delivery", "post")
        assert {score["label"] for score in ask("classify", SICK)["scores"]} == {"invoice", "post"}


def test_a_class_that_is_taught_is_answered_by_both_voices(model: Model) -> None:
    taught = ["sick mother home", "my child is sick", "sick today and at home", "mother sick in bed"]
    change = model.teach(taught, ["health"] * 4)
    assert change.ids == (41, 42, 43, 44) and change.added == 4
    for found in model.classify(taught):
        assert found.head[0][0] == found.vote[0][0] == found.label == "health"
    found = model.classify("the child is sick at home today")
    assert found.label == "health" and set(ids_cited(found)) & {41, 42, 43, 44}


def test_what_is_asked_and_corrected_on_the_spot_is_encoded_once(
    model: Model, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encoder = model._answering.encoder

    def counting(texts: list[str], progress: Any = None) -> Any:
        encoded.extend(texts)
        return type(encoder).encode_with_logits(encoder, texts, progress)

    monkeypatch.setattr(encoder, "encode_with_logits", counting)
    before = model.classify(SICK)
    (number,) = model.teach(SICK, "health").ids
    after = model.classify(SICK)
    assert (after.neighbours[0].id, after.neighbours[0].distance) == (number, 0.0)
    assert before.label != "health" and dict(after.vote)["health"] > 0
    assert encoded == [SICK]
    assert dict(model.classify([SICK, FIRST])[0].scores) == pytest.approx(dict(after.scores), abs=1e-6)
    assert encoded == [SICK, SICK, FIRST]  # in company it is encoded: its batch is made anyway
    for i in range(RECENT):
        model.classify(f"parcel number {i}")
    model.classify(SICK)
    assert encoded.count(SICK) == 3  # others have come in between
    model.erase(number)
    with Model.open(path) as fresh:
        assert model.classify(SICK) == fresh.classify(SICK)
    assert encoded.count(SICK) == 4  # nothing is left of what was erased


def test_forgetting_the_last_example_of_a_label_removes_it(model: Model) -> None:
    model.teach(SICK, "health")
    assert model.forget([41]).updated == 1
    assert model.labels.keys() == {label for label, _ in model.classify(SICK).scores} == TOPICS.keys()


def test_a_model_without_examples_says_so_and_can_be_taught_again(model: Model) -> None:
    model.forget(range(1, 41))
    with pytest.raises(ModelError, match="no labelled example is left in this model; teach it some first"):
        model.classify(SICK)
    assert model.labels == {}
    model.teach([SICK, FIRST], ["health", "delivery"])
    assert [p.label for p in model.classify([SICK, FIRST])] == ["health", "delivery"]
    assert model.examples()[0].id == 41  # ids are never reused


# What a change reports, and who made it


def test_refs_update_their_example(model: Model) -> None:
    assert model.teach(SICK, "health", refs="t-1").added == 1
    assert model.teach(SICK, "health", refs="t-1").known == 1
    assert model.revision == 2  # nothing changed, no revision
    change = model.teach(["my mother is well now", FIRST], ["family", "delivery"], refs=["t-1", None])
    assert (change.ids, change.updated, change.known) == ((41, 1), 1, 1)
    (example,) = model.examples(ref="t-1")
    assert (example.id, example.text, example.labels) == (41, "my mother is well now", ("family",))


def test_on_conflict(model: Model) -> None:
    assert model.teach(FIRST, "delivery").known == 1
    assert model.teach(FIRST, "invoice", on_conflict="keep").kept == 1
    assert model.revision == 1
    both = model.teach(FIRST, "delivery", on_conflict="both")
    assert (both.added, both.ids) == (1, (41,))
    disagreeing = model.teach(FIRST, "invoice")
    assert {e.labels for e in model.examples([1, 41, *disagreeing.ids])} == {("delivery",), ("invoice",)}
    replaced = model.teach(FIRST, "invoice", on_conflict="replace")
    assert (replaced.updated, replaced.ids) == (1, (1,))
    assert [(e.id, e.labels) for e in model.examples() if e.text == FIRST] == [(1, ("invoice",))]


def test_who_changed_it_and_why(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "berta")
    model.teach(SICK, "health", by="ann", note="asked for")
    model.forget(1)
    forgot, taught = model._ledger.revisions(limit=2)
    assert (taught.by, taught.note, taught.examples) == ("ann", "asked for", 1)
    assert (forgot.by, forgot.note) == ("berta", None)
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # a container's user, who is in no list
    model.forget(2)
    assert model._ledger.revisions(limit=1)[0].by == "user 54321"


# What is refused

REFUSED: dict[str, Callable[[Model], object]] = {
    "two labels": lambda m: m.teach("a text", ["delivery", "invoice"]),
    "no label": lambda m: m.teach(["a", "b"], [["delivery"], []]),
    "a string for the labels of a list": lambda m: m.teach(["a", "b"], "delivery"),
    "fewer labels": lambda m: m.teach(["a", "b"], ["delivery"]),
    "more labels": lambda m: m.teach(["a"], ["delivery", "invoice"]),
    "a label that is a number": lambda m: m.teach(["a"], [[3]]),  # type: ignore[arg-type]
    "an empty label": lambda m: m.teach("a", " "),
    "an empty text among others": lambda m: m.teach(["a", ""], ["delivery", "invoice"]),
    "a NUL": lambda m: m.teach("a\0", "delivery"),
    "fewer refs": lambda m: m.teach(["a", "b"], ["delivery", "invoice"], refs=["r"]),
    "a string for the refs of a list": lambda m: m.teach(["a", "b"], ["delivery", "invoice"], refs="rs"),
    "a list of refs for one text": lambda m: m.teach("a", "delivery", refs=["r"]),
    "a ref that is a number": lambda m: m.teach(["a"], ["delivery"], refs=[3]),  # type: ignore[list-item]
    "a ref with a lone surrogate": lambda m: m.teach("a", "delivery", refs="\ud800"),
    "a note with a lone surrogate": lambda m: m.teach("a", "delivery", note="\ud800"),
    "a note that is a list": lambda m: m.forget(1, note=["x"]),  # type: ignore[arg-type]
    "an author who is a path": lambda m: m.rename_label("delivery", "post", by=Path("ann")),  # type: ignore[arg-type]
    "a source that is a path": lambda m: m.teach("a", "delivery", source=Path("a.csv")),  # type: ignore[arg-type]
    "a set of texts": lambda m: m.teach({"a", "b"}, ["delivery", "invoice"]),  # type: ignore[arg-type]
    "a set of labels for a list": lambda m: m.teach(["a", "b"], {"delivery", "invoice"}),
    "a set of refs": lambda m: m.teach(["a", "b"], ["delivery", "invoice"], refs={"q", "r"}),  # type: ignore[arg-type]
    "a set of ids with their labels": lambda m: m.relabel({1, 21}, ["invoice", "delivery"]),  # type: ignore[arg-type]
    "a revision seen in quotes": lambda m: m.forget(1, seen="5"),  # type: ignore[arg-type]
    "a revision seen that is none": lambda m: m.relabel(1, "invoice", seen=-1),
    "neighbours in quotes": lambda m: m.classify(FIRST, "3"),  # type: ignore[call-overload]
    "half a neighbour": lambda m: m.classify(FIRST, 2.5),  # type: ignore[call-overload]
    "a search for ids in quotes": lambda m: m.examples(ids=["a"]),  # type: ignore[list-item]
    "a search for two refs": lambda m: m.examples(ref=["q", "r"]),  # type: ignore[arg-type]
    "a search for half a surrogate pair": lambda m: m.examples(ref="\ud800"),
    "a search for a label that is a number": lambda m: m.examples(label=3),  # type: ignore[arg-type]
    "a search for a number in texts": lambda m: m.examples(contains=[3]),  # type: ignore[list-item]
    "a page that is too small": lambda m: m.examples(limit=-1),
    "a page after what cannot be": lambda m: m.examples(after_id=2**63),
    "a history that is too short": lambda m: m.history(limit=-1),
    "a history before what cannot be": lambda m: m.history(before=2**70),
    "the history of two": lambda m: m.history_of([1, 2]),  # type: ignore[arg-type]
    "an unknown way with conflicts": lambda m: m.teach("a", "delivery", on_conflict="ask"),  # type: ignore[arg-type]
    "an unknown id": lambda m: m.forget([1, 99]),
    "an id in quotes": lambda m: m.forget("12"),  # type: ignore[arg-type]
    "an id that is no whole number": lambda m: m.forget([1, 2.5]),  # type: ignore[list-item]
    "two new labels": lambda m: m.relabel(1, ["delivery", "invoice"]),
    "a new label for a list of ids": lambda m: m.relabel([1], "invoice"),
    "an id with two labels": lambda m: m.relabel([1, 1], ["invoice", "delivery"]),
    "an id too few": lambda m: m.relabel([1], ["invoice", "delivery"]),
    "a rename of nothing": lambda m: m.rename_label("delivry", "post"),
    "a rename onto a label": lambda m: m.rename_label("delivery", "invoice"),
    "a rename to nothing": lambda m: m.rename_label("delivery", ""),
    "a merge of nothing": lambda m: m.merge_labels(["delivery", "invoce"], "all"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_done_writes_nothing(fitted: Path, what: str) -> None:
    with Model.open(fitted) as model:
        before = model.examples()
        with pytest.raises(UsageError) as caught:
            REFUSED[what](model)
        assert "\n" not in str(caught.value)
        assert model.revision == 1
        assert model.examples() == before


def test_refusals_say_what_to_do(model: Model) -> None:
    with pytest.raises(LabelError, match=r"2 labels .*expected exactly one"):
        model.teach("a text", ["delivery", "invoice"])
    with pytest.raises(LabelError, match="merge-labels"):
        model.rename_label("delivery", "invoice")
    with pytest.raises(LabelError, match="did you mean 'delivery'"):
        model.merge_labels("delivry", "post")
    model.forget(3)
    with pytest.raises(ExampleError, match="example 3 was forgotten already"):
        model.forget([2, 3])
    assert model.revision == 2


# Several labels a text


def test_a_change_after_the_revision_that_was_seen_is_refused(model: Model) -> None:
    seen = model.revision
    model.relabel(1, "invoice", seen=seen)
    for change in (lambda: model.relabel(1, "delivery", seen=seen), lambda: model.forget(1, seen=seen)):
        with pytest.raises(ExampleChanged, match=f"was changed at revision {seen + 1}, after revision {seen}"):
            change()
    assert model.revision == seen + 1
    model.relabel(2, "invoice", seen=seen)  # another example's change is no conflict
    (number,) = model.teach("a sick bird", "health").ids
    model.forget(number, seen=model.revision)
    model.forget(1, seen=seen + 1)


def test_a_search_a_page_at_a_time(model: Model) -> None:
    model.teach("a bird that is sick", "delivery")
    found = model.examples(contains=["SICK", "bird"])
    assert [example.text for example in found] == ["a bird that is sick"]
    assert model.examples(contains=["sick", "parcel"]) == []
    pages, after = [], 0
    while page := model.examples(label="delivery", after_id=after, limit=7):
        pages.append(page)
        after = page[-1].id
    assert [example for page in pages for example in page] == model.examples(label="delivery")
    assert [len(page) for page in pages[:-1]] == [7] * (len(pages) - 1)
    assert model.size == len(model.examples())
    model.teach(["a sick bird", "a blue tree"], ["health", "health"])
    model.forget(1)
    changes = model.history()
    assert model.history(1) + model.history(1, before=4) + model.history(before=3) == changes
    with model.as_of(1) as past:
        assert past.size == model.size - 2
        assert past.history(before=3) == changes[-1:]


def test_an_error_says_by_its_kind_what_is_missing(model: Model) -> None:
    for kind, change in (
        (LabelUnknown, lambda: model.rename_label("health", "x")),
        (LabelUnknown, lambda: model.merge_labels(["health"], "invoice")),
        (LabelTaken, lambda: model.rename_label("delivery", "invoice")),
        (RevisionError, lambda: model.revert(99)),
        (RevisionError, lambda: model.as_of(99)),
    ):
        with pytest.raises(kind):
            change()


def test_changes_with_several_labels(tiny_encoder: Path) -> None:
    sets: list[list[str]] = [[label] if i % 4 else [] for i, (_, label) in enumerate(ROWS)]
    with fit([text for text, _ in ROWS], sets, recipe="frozen", encoder=str(tiny_encoder)) as model:
        assert model.task == "multi" and model.labels == {"delivery": 15, "invoice": 15}
        change = model.teach(["sick child", "broken bus"], [["health", "family"], []])
        assert [e.labels for e in model.examples(change.ids)] == [("family", "health"), ()]
        assert model.classify("broken bus").neighbours[0].labels == ()
        model.relabel(change.ids, [[], ["bus", "late", "bus"]])
        assert [e.labels for e in model.examples(change.ids)] == [(), ("bus", "late")]
        assert {label for label, _ in model.classify("bus").scores} == {"delivery", "invoice", "bus", "late"}
        model.merge_labels(["bus", "late"], "traffic")
        assert model.examples(change.ids[1:])[0].labels == ("traffic",)


# Side by side


def test_threads_classify_while_one_teaches(model: Model) -> None:
    taught: dict[int, str] = {1: ""}  # revision -> the label that is new with it
    failures: list[BaseException] = []
    seen: list[list[Prediction]] = [[] for _ in range(3)]
    over = threading.Event()

    def classify(mine: list[Prediction]) -> None:
        try:
            while not over.is_set() or len(mine) < 5:
                mine += model.classify([SICK, FIRST], neighbours=8)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=classify, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    try:
        for i in range(12):
            taught[model.teach(f"{SICK} {i}", f"label {i}").revision] = f"label {i}"
            if i % 3 == 2:
                model.forget(i)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    texts = model._ledger.texts_of(range(1, 53))  # of forgotten ones too
    for mine in seen:
        revisions = [prediction.revision for prediction in mine]
        assert revisions == sorted(revisions)
        for found in mine:
            known = {label for revision, label in taught.items() if label and revision <= found.revision}
            assert {label for label, _ in found.scores} == known | TOPICS.keys()
            assert sum(p for _, p in found.scores) == pytest.approx(1)
            assert len(found.neighbours) > 0 and all(n.text == texts[n.id] for n in found.neighbours)
    assert {p.label for p in model.classify([f"{SICK} {i}" for i in range(12)])} == {f"label {i}" for i in range(12)}


# Without the right to write

AS_NOBODY = """
import json, os, sys
import likewise.model, likewise.encoding.runtime, onnxruntime, tokenizers  # while we may read them
from likewise.errors import LedgerReadOnly
with likewise.model.Model.open(sys.argv[1]) as warm:
    warm.classify("a")
    warm.examples()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
refused = 0
with likewise.model.Model.open(sys.argv[1]) as model:
    found = model.classify("my parcel")
    for change in (lambda: model.teach("a", "delivery"), lambda: model.forget(1), lambda: model.relabel(1, "x"),
                   lambda: model.rename_label("delivery", "x"), lambda: model.merge_labels(["delivery"], "x")):
        try:
            change()
        except LedgerReadOnly as error:
            refused += sys.argv[1] in str(error)
print(json.dumps([refused, found.to_dict()]))
"""


def test_a_read_only_directory_classifies_and_refuses_changes(fitted: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are private to its user
        Path(folder).chmod(0o755)
        path = Path(shutil.copytree(fitted, Path(folder, "model")))
        with Model.open(path) as model:
            expected = model.classify("my parcel")
        names = sorted(path.rglob("*"))
        for part in [path, *names]:
            part.chmod(0o555 if part.is_dir() else 0o444)
        try:
            process = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, path], capture_output=True, text=True, cwd="/", check=False
            )
        finally:
            for part in [path, *names]:
                part.chmod(0o755 if part.is_dir() else 0o644)
        assert process.returncode == 0, process.stderr
        assert json.loads(process.stdout) == [5, json.loads(json.dumps(expected.to_dict()))]
        assert sorted(path.rglob("*")) == names
