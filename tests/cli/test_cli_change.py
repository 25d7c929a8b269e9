"""The commands that change a model: a change holds at the next answer of any process, or nothing was changed."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from likewise import Model

NOVEL = ["cancel my order", "please cancel the order", "can you stop the order", "cancel it now"]


@pytest.fixture
def standing(own, kit):
    """Fails unless the model has, at the end, the revision and the files that it had at the start."""
    before = kit.revision(own), {name for name in kit.listing(own) if not name.startswith("datastore.db-")}
    yield own
    assert (kit.revision(own), {name for name in kit.listing(own) if not name.startswith("datastore.db-")}) == before


def test_a_taught_class_is_known_at_the_next_answer(likewise, kit, own, tmp_path):
    data = kit.write_jsonl(tmp_path / "new.jsonl", [{"text": text, "label": "cancellation"} for text in NOVEL])
    with Model.open(own) as model:
        assert model.classify("cancel my order").label != "cancellation"

        result = likewise("teach", own, "--input", data, "--json", "--by", "ada", "--note", "new topic")

        taught = result.json()
        assert taught == {
            "ids": [61, 62, 63, 64],
            "revision": 2,
            "added": 4,
            "updated": 0,
            "known": 0,
            "kept": 0,
            "conflicts": {},
        }
        assert result.err == "likewise: 'cancellation' is a new label\n"
        answer = model.classify("cancel my order")
    assert answer.label == "cancellation"
    assert answer.neighbours[0].id == 61
    assert answer.revision == 2
    recorded = "SELECT action, by, note, examples FROM revisions WHERE revision = 2"
    assert kit.ledger(own, recorded) == [("taught", "ada", "new topic", 4)]
    assert kit.ledger(own, "SELECT DISTINCT source FROM versions WHERE revision = 2") == [("new.jsonl",)]


def test_rows_with_too_many_labels_are_rejected_where_one_is_the_rule(likewise, kit, own, tmp_path):
    rows = [
        {"text": NOVEL[0], "labels": ["a", "b"]},
        {"text": NOVEL[1], "label": "a"},
        {"text": NOVEL[2], "labels": []},
    ]
    data, bad = kit.write_jsonl(tmp_path / "new.jsonl", rows), tmp_path / "bad.jsonl"

    refused = likewise("teach", own, "--input", data)
    refused.refused("new.jsonl, line 1: column 'labels': found 2 labels ('a', 'b'), expected exactly one")
    taken = likewise("teach", own, "--input", data, "--skip-invalid", bad, "--json")

    assert taken.json()["added"] == 1
    assert [json.loads(line)["line"] for line in bad.read_text().splitlines()] == [1, 3]


def test_teaching_one_text_and_the_same_again(likewise, own):
    first = likewise("teach", own, "my parcel came broken", "--label", "delivery", "--ref", "x1")
    again = likewise("teach", own, "my parcel came broken", "--label", "delivery", "--ref", "x1")

    assert first.out == "Taught 1 text: 1 added.\nId: 61. Revision: 2.\n"
    assert again.out == "Taught 1 text: 1 already known.\nId: 61. Revision: 2.\n"
    moved = likewise("teach", own, "my parcel came broken", "--label", "refund", "--ref", "x1", "--json").json()
    assert (moved["ids"], moved["updated"], moved["revision"]) == ([61], 1, 3)


@pytest.mark.parametrize(
    ("choice", "expected"), [("keep", {"kept": 1}), ("replace", {"updated": 1}), ("both", {"added": 1})]
)
def test_on_conflict(likewise, kit, own, choice, expected):
    text = kit.rows()[0]["text"]

    done = likewise("teach", own, text, "--label", "praise", "--on-conflict", choice, "--json").json()

    assert {name: done[name] for name in ("added", "updated", "known", "kept") if done[name]} == expected


def test_a_slip_in_a_new_label_is_pointed_out(likewise, own):
    result = likewise("teach", own, "thank you all", "--label", "prase")

    assert result.err == "likewise: 'prase' is a new label; did you mean 'praise'?\n"


def test_forgetting(likewise, kit, own):
    text = kit.rows()[0]["text"]
    result = likewise("forget", own, "1", "3")

    assert result.status == 0, result
    assert "Forgot 2 examples. Revision: 2." in result.out
    assert text in result.out
    with Model.open(own) as model:
        assert not {1, 3} & {cited.id for cited in model.classify(text, 50).neighbours}
    likewise("forget", own, "3").refused("example 3 was forgotten already")
    likewise("forget", own, "5", "999").refused("there is no example 999")
    assert likewise("forget", own, "5", "--json").json() == {"ids": [5], "revision": 3, "updated": 1}
    assert kit.revision(own) == 3


def test_relabelling_one(likewise, own):
    result = likewise("relabel", own, "1", "--label", "refund")

    assert "Relabelled 1 example. Revision: 2." in result.out
    row = next(line for line in result.out.splitlines() if line.split()[:1] == ["1"])
    assert row.split()[1:3] == ["delivery", "refund"]
    with Model.open(own) as model:
        assert model.examples(ids=[1])[0].labels == ("refund",)


def test_relabelling_with_the_same_labels_says_that_nothing_was_changed(likewise, own, tmp_path):
    same = likewise("relabel", own, "1", "--label", "delivery", "--note", "seen")
    (tmp_path / "c.csv").write_text("id,label\n1,delivery\n2,refund\n2,refund\n", encoding="utf-8")
    one = likewise("relabel", own, "--input", tmp_path / "c.csv")

    assert same.out == (
        "Nothing to change: these labels were there already; no revision was made (and the note recorded nowhere). "
        "Revision: 1.\n"
    )
    assert "Relabelled 1 example. Revision: 2." in one.out


def test_relabelling_by_a_file_of_ids_or_refs(likewise, own, tmp_path):
    (tmp_path / "ids.csv").write_text("id,label\n1,refund\n2,praise\n", encoding="utf-8")
    (tmp_path / "refs.jsonl").write_text('{"key": "d2", "topic": "praise"}\n', encoding="utf-8")

    by_id = likewise("relabel", own, "--input", tmp_path / "ids.csv", "--json").json()
    columns = ("--ref-column", "key", "--label-column", "topic")
    by_ref = likewise("relabel", own, "--input", tmp_path / "refs.jsonl", *columns, "--json").json()

    assert by_id == {"ids": [1, 2], "revision": 2, "updated": 2}
    assert by_ref == {"ids": [3], "revision": 3, "updated": 1}
    with Model.open(own) as model:
        assert [each.labels for each in model.examples(ids=[1, 2, 3])] == [("refund",), ("praise",), ("praise",)]


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("id,label\n1,refund\n999,praise\n", [], ["there is no example 999"]),
        ("id,label\n1,refund\nx,praise\n", [], ["c.csv, line 3", "'id'", "'x'", "whole number"]),
        ("id,label\n1,refund|praise\n", [], ["c.csv, line 2", "2 labels"]),
        ("number,label\n1,refund\n", [], ["c.csv", "no column 'id'"]),
        ("ref,label\nd00,refund\n", ["--ref-column", "ref"], ["c.csv, line 2", "'d00'", "did you mean 'd0'?"]),
        ("id,label\n", [], ["c.csv", "no rows"]),
        ("id,label\n1,refund\n2,praise\n1,praise\n", [], ["c.csv, line 4", "'1'", "other labels than in line 2"]),
    ],
)
def test_a_bad_file_of_corrections_changes_nothing(likewise, standing, tmp_path, content, options, expected):
    (tmp_path / "c.csv").write_text(content, encoding="utf-8")

    likewise("relabel", standing, "--input", tmp_path / "c.csv", *options).refused(*expected)


def test_renaming_and_merging(likewise, own):
    renamed = likewise("rename-label", own, "praise", "thanks")
    assert renamed.out == "Renamed 'praise' to 'thanks' on 20 examples. Revision: 2.\n"
    merged = likewise("merge-labels", own, "refund", "delivery", "--into", "trouble", "--json").json()
    assert (len(merged["ids"]), merged["revision"]) == (40, 3)
    with Model.open(own) as model:
        assert model.labels == {"thanks": 20, "trouble": 40}
    (row,) = likewise("classify", own, "thank you great", "--json").json_lines()
    assert {each["label"] for each in row["scores"]} == {"thanks", "trouble"}
    told = likewise("merge-labels", own, "thanks", "thanks", "--into", "thanks", "--note", "why").out
    assert told.startswith("Nothing to change: 'thanks' is its name already; no revision was made (and the note")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["teach", "{}", "a text"], ["no label", "--label"]),
        (["teach", "{}", "a text", "--label", "refund", "--label", "praise"], ["--label", "2 labels", "exactly one"]),
        (["teach", "{}", "a text", "--label", " "], ["--label", "empty label"]),
        (["teach", "{}", "a text", "--no-label"], ["--label", "no label", "exactly one"]),
        (["teach", "{}", " ", "--label", "refund"], ["TEXT", "whitespace"]),
        (["teach", "{}", b"caf\xe9", "--label", "refund"], ["TEXT", "surrogate"]),
        (["teach", "{}", "a text", "--label", b"\xff"], ["--label", "surrogate"]),
        (["forget", "{}", "1", "61"], ["there is no example 61"]),
        (["relabel", "{}", "61", "--label", "refund"], ["there is no example 61"]),
        (["relabel", "{}", "1", "--label", "refund", "--label", "praise"], ["--label", "2 labels"]),
        (["rename-label", "{}", "prase", "thanks"], ["'prase'", "did you mean 'praise'?"]),
        (["rename-label", "{}", "praise", "refund"], ["'refund' exists already", "merge-labels"]),
        (["rename-label", "{}", "praise", ""], ["empty label"]),
        (["merge-labels", "{}", "refund", "deliver", "--into", "x"], ["'deliver'", "did you mean 'delivery'?"]),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(likewise, standing, arguments, expected):
    filled = [str(standing) if argument == "{}" else argument for argument in arguments]

    likewise(*filled).refused(*expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ["t.jsonl", "empty file"]),
        (b'{"text": "good", "label": "refund"}\n{"text": "\\u0000", "label": "refund"}\n', ["t.jsonl, line 2", "NUL"]),
        (
            b'{"text": "good", "label": "refund"}\n{"text": "x", "labels": ["refund", "praise"]}\n',
            ["t.jsonl, line 2", "2 labels"],
        ),
        (json.dumps({"text": "x" * 10**7, "label": "refund"}).encode(), ["t.jsonl, line 1", "10,000,000 characters"]),
    ],
)
def test_a_file_that_cannot_be_taught_changes_nothing(likewise, standing, tmp_path, content, expected):
    (tmp_path / "t.jsonl").write_bytes(content)

    likewise("teach", standing, "--input", tmp_path / "t.jsonl").refused(*expected)


def test_several_labels_and_none(likewise, several, tmp_path):
    own = Path(shutil.copytree(several, tmp_path / "own"))
    both = ("--label", "refund", "--label", "delivery")

    likewise("teach", own, "my money is late").refused("found no label", "--no-label")
    taught = likewise("teach", own, "my money is late", *both, "--json").json()
    nothing = likewise("teach", own, "the dog is black", "--no-label", "--json").json()
    emptied = likewise("relabel", own, str(taught["ids"][0]), "--no-label")

    assert (taught["added"], nothing["added"]) == (1, 1)
    assert "(none)" in emptied.out
    with Model.open(own) as model:
        labels = [each.labels for each in model.examples(ids=[*taught["ids"], *nothing["ids"]])]
    assert labels == [(), ()]


def test_a_writer_that_does_not_finish_is_waited_for_and_then_named(likewise, standing):
    with contextlib.closing(sqlite3.connect(standing / "datastore.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        blocked = likewise("teach", standing, "a text", "--label", "refund", "--lock-timeout", "0.3")
        answered = likewise("classify", standing, "my parcel", "--json")
        other.execute("ROLLBACK")

    blocked.refused("another writer holds its lock", "nothing was written")
    assert answered.status == 0, answered


AS_NOBODY = """
import json, os, sys
from likewise.cli import main

model, spare, commands = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
for warm in (["teach", spare, "a text", "--label", "refund"], ["classify", spare, "a text", "--json"]):
    assert main(warm) == 0  # whoever is nobody may not be able to read our libraries
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for command in commands:
    for stream in (sys.stdout, sys.stderr):
        print("=====", flush=True, file=stream)
    print(main(command), flush=True)
"""


def test_a_directory_that_may_not_be_written_answers_and_refuses_changes(kit, single, own):
    with tempfile.TemporaryDirectory() as folder:
        model = Path(shutil.copytree(single, Path(folder) / "model"))
        Path(folder).chmod(0o755)
        for path in (model, *model.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = kit.listing(Path(folder))
        name = str(model)
        changes = [
            ["teach", name, "a text", "--label", "refund"],
            ["forget", name, "1"],
            ["relabel", name, "1", "--label", "praise"],
            ["rename-label", name, "praise", "thanks"],
            ["merge-labels", name, "praise", "refund", "--into", "both"],
            ["fit", str(model / "new"), "missing.csv"],
        ]
        commands = [*changes, ["classify", name, "my parcel", "--json"]]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, name, str(own), json.dumps(commands)],
            capture_output=True,
            text=True,
            env=kit.environment(),
        )
        assert done.returncode == 0, done.stderr
        out = [part.split() for part in done.stdout.split("=====\n")[1:]]
        errors = [part.splitlines() for part in done.stderr.split("=====\n")[1:]]
        assert out[:-1] == [["2"]] * len(changes)
        for (line,) in errors[:-1]:
            assert line.startswith("likewise: ")
            assert name in line
        assert (errors[-1], out[-1][-1]) == ([], "0")
        assert kit.listing(Path(folder)) == before
        for path in (model, *model.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
