"""The commands about what a model knew and when."""

from __future__ import annotations

import json
import re
import shutil

import pyarrow.parquet as pq
import pytest

NOVEL = ["cancel my order", "please cancel the order", "can you stop the order", "cancel it now"]


@pytest.fixture
def changed(likewise, own):
    """A model of four revisions: fitted, taught by ada, example 5 relabelled, example 7 forgotten by bob."""
    for arguments in (
        ("teach", own, NOVEL[0], "--label", "cancellation", "--by", "ada", "--note", "new topic"),
        ("relabel", own, "5", "--label", "praise"),
        ("forget", own, "7", "--by", "bob"),
    ):
        assert likewise(*arguments).status == 0
    return own


def test_the_history_names_every_change(likewise, changed):
    told = likewise("history", changed, "--json").json_lines()
    assert [(row["revision"], row["action"], row["examples"]) for row in told] == [
        (4, "forgot", 1), (3, "relabelled", 1), (2, "taught", 1), (1, "taught", 60),
    ]  # fmt: skip
    assert [row["by"] for row in told][::2] == ["bob", "ada"]
    assert told[2]["note"] == "new topic"
    assert all(row["at"].endswith("+00:00") for row in told)
    shown = likewise("history", changed, "--limit", "3")
    assert (shown.status, shown.err) == (0, "")
    lines = [line.split() for line in shown.out.splitlines() if line.strip()[:1].isdigit()]
    assert [(line[0], line[3]) for line in lines] == [("4", "forgot"), ("3", "relabelled"), ("2", "taught")]
    assert "new topic" in shown.out
    assert "new topic" in likewise("history", changed, env={"COLUMNS": "60"}).out
    assert NOVEL[0] in likewise("diff", changed, "1", "4", env={"COLUMNS": "40"}).out


def test_the_time_that_a_history_shows_names_its_revision(likewise, own):
    assert likewise("teach", own, NOVEL[0], "--label", "cancellation").status == 0
    shown = likewise("history", own, "--limit", "1").out
    at = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", shown)[0]
    assert likewise("classify", own, NOVEL[0], "--json", "--as-of", at).json()["revision"] == 2


@pytest.mark.parametrize("name", ["likewise.json", "generations/0001/new.jsonl"])
def test_nothing_is_written_into_the_model_that_is_read(likewise, kit, single, tmp_path, name):
    before = kit.listing(single)
    likewise("export", single, single / name).refused("in the directory that is read")
    data = kit.write_jsonl(tmp_path / "in.jsonl", kit.rows(1))
    for option in ("--output", "--skip-invalid"):
        likewise("classify", single, "--input", data, option, single / name).refused("in the directory that is read")
    likewise("teach", single, "--input", data, "--skip-invalid", single / name).refused("the directory that is read")
    assert kit.listing(single) == before


def test_the_life_of_an_example(likewise, changed):
    told = likewise("history", changed, "--example", "5", "--json").json_lines()
    assert [(row["revision"], row["action"], row["labels"]) for row in told] == [
        (3, "relabelled", ["praise"]), (1, "taught", ["delivery"]),
    ]  # fmt: skip
    assert likewise("history", changed, "--example", "7", "--json").json_lines()[0]["labels"] is None
    shown = likewise("history", changed, "--example", "7").out
    assert "forgotten" in shown
    assert "delivery" in shown
    likewise("history", changed, "--example", "99").refused("no example 99")


def test_an_answer_from_the_past(likewise, kit, changed, tmp_path):
    now = likewise("classify", changed, NOVEL[0], "--json").json()
    then = likewise("classify", changed, NOVEL[0], "--json", "--as-of", "1").json()
    assert (now["label"], now["revision"]) == ("cancellation", 4)
    assert then["revision"] == 1
    assert "cancellation" not in [row["label"] for row in then["scores"]]
    at = likewise("history", changed, "--json").json_lines()[2]["at"]
    assert likewise("classify", changed, NOVEL[0], "--json", "--as-of", at).json()["revision"] == 2
    data = kit.write_jsonl(tmp_path / "in.jsonl", [{"text": text} for text in NOVEL])
    streamed = likewise("classify", changed, "--input", data, "--json", "--as-of", "1").json_lines()
    assert {row["revision"] for row in streamed} == {1}
    likewise("classify", changed, "hi", "--as-of", "5").refused("revision 5", "expected 0 to 4")
    likewise("classify", changed, "hi", "--as-of", "").refused("found ''", "expected the number of a revision")
    likewise("classify", changed, "hi", "--as-of", "soon").refused("'soon'", "expected the number of a revision")


def test_reverting_is_a_change_like_any_other(likewise, kit, own, changed):
    result = likewise("revert", changed, "2", "--by", "eve", "--note", "too hasty", "--json")
    assert result.json() == {"ids": [5, 7], "revision": 5, "updated": 2}
    recorded = "SELECT action, by, note, examples FROM revisions WHERE revision = 5"
    assert kit.ledger(changed, recorded) == [("reverted", "eve", "to revision 2: too hasty", 2)]
    assert likewise("diff", changed, "2", "5", "--json").out == ""
    assert "Nothing has changed since revision 5" in likewise("revert", changed, "5").out
    assert "Reverted to revision 4: 2 examples changed. Revision: 6.\nIds: 5, 7." in likewise("revert", own, "4").out
    likewise("revert", changed, "17").refused("revision 17", "expected 0 to 6")
    assert likewise("revert", changed, "2020-01-01").out.startswith("Reverted to revision 0: 60 examples changed.")
    assert kit.revision(changed) == 7
    assert likewise("check", changed).status == 0


def test_the_difference_of_two_revisions(likewise, kit, changed, tmp_path):
    told = likewise("diff", changed, "1", "4", "--json").json_lines()
    assert [row["id"] for row in told] == [5, 7, 61]
    assert [row["before"] and row["before"]["labels"] for row in told] == [["delivery"], ["delivery"], None]
    assert [row["after"] and row["after"]["labels"] for row in told] == [["praise"], None, ["cancellation"]]
    assert "No example differs" in likewise("diff", changed, "4", "4").out
    data = kit.write_jsonl(tmp_path / "in.jsonl", [{"text": NOVEL[0]}, {"text": "thank you, great"}])
    (answer,) = likewise("diff", changed, "1", "4", "--input", data, "--json").json_lines()
    assert (answer["text"], answer["after"]["label"]) == (NOVEL[0], "cancellation")
    assert answer["causes"][0]["id"] == 61
    assert answer["causes"][0]["alone"] is True
    shown = likewise("diff", changed, "1", "4", "--input", data)
    assert (shown.status, shown.err) == (0, "")
    assert "1 of 2 texts are answered differently" in shown.out
    bad = kit.write_jsonl(tmp_path / "bad.jsonl", [{"text": ""}, {"text": NOVEL[0]}])
    likewise("diff", changed, "1", "4", "--input", bad).refused("bad.jsonl, line 1")
    rejects = tmp_path / "rejects.jsonl"
    assert likewise("diff", changed, "1", "4", "--input", bad, "--skip-invalid", rejects).status == 0
    assert len(rejects.read_text().splitlines()) == 1
    into = ("diff", changed, "1", "4", "--input", bad, "--skip-invalid", bad)
    likewise(*into).refused("bad.jsonl", "the file that is read")


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_what_is_exported_can_be_taught_again(likewise, changed, tmp_path, name):
    file = tmp_path / name
    assert likewise("export", changed, file, "--json").json() == {"output": str(file), "examples": 60}
    if file.suffix == ".parquet":
        rows = pq.read_table(file).to_pylist()
    else:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    by_id = {row["id"]: row for row in rows}
    assert 7 not in by_id
    assert (by_id[5]["labels"], by_id[5]["revision"], by_id[5]["ref"]) == (["praise"], 3, "d4")
    assert (by_id[61]["text"], by_id[61]["by"], by_id[61]["note"]) == (NOVEL[0], "ada", "new topic")
    again = likewise("teach", changed, "--input", file, "--ref-column", "ref", "--json").json()
    assert (again["revision"], again["known"], again["added"]) == (4, 60, 0)
    likewise("relabel", changed, "5", "--label", "refund")
    back = likewise("teach", changed, "--input", file, "--ref-column", "ref", "--json").json()
    assert (back["updated"], back["known"]) == (1, 59)


def test_an_export_goes_to_standard_output_or_to_a_file_that_can_hold_it(likewise, changed, tmp_path):
    assert len(likewise("export", changed, "-").json_lines()) == 60
    likewise("export", changed, tmp_path / "out.csv").refused("'.csv'", "expected one of .jsonl")
    assert list(tmp_path.glob("out*")) == []


def test_erase_says_what_it_cannot_reach(likewise, changed):
    twin = likewise("teach", changed, NOVEL[0], "--label", "praise", "--json").json()["ids"][0]
    done = likewise("erase", changed, "61", "7", "--by", "eve", "--json").json()
    assert (done["ids"], done["shared"], done["revision"]) == ([7, 61], [twin], 6)
    assert any("weights" in sentence for sentence in done["not_reached"])
    shown = likewise("erase", changed, str(twin))
    assert "Erased 1 example. Revision: 7." in shown.out
    assert "backups" in shown.out and "a database server's own log" in shown.out
    assert likewise("history", changed, "--limit", "2", "--json").json_lines()[1]["by"] == "eve"
    assert "erased" in likewise("history", changed, "--example", "61").out
    assert "cancel" not in likewise("history", changed, "--example", "61").out
    likewise("erase", changed, "61").refused("example 61 was erased already")
    likewise("erase", changed, "99").refused("no example 99")


def test_what_was_exported_is_taken_back_once(likewise, kit, own, tmp_path):
    rows = [
        {"text": "where is it", "label": "delivery", "ref": "a1"},
        {"text": "thank you all", "label": "praise", "ref": "a2"},
    ]
    data = kit.write_jsonl(tmp_path / "in.jsonl", rows)
    assert likewise("teach", own, "--input", data, "--ref-column", "ref").status == 0
    assert likewise("export", own, tmp_path / "all.jsonl").status == 0
    back = ("teach", own, "--input", tmp_path / "all.jsonl", "--ref-column", "ref")
    again = likewise(*back, "--json").json()
    assert (again["known"], again["added"], again["updated"], again["conflicts"]) == (62, 0, 0, {})
    assert again["revision"] == 2
    kept = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    kept[0]["labels"], kept[-1]["labels"] = ["praise"], ["delivery"]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    shown = likewise(*back).out
    assert "2 updated, 60 already known" in shown
    assert "2 texts contradict what was there: 2 put in its place." in shown
    left = likewise(*back, "--on-conflict", "keep", "--json").json()
    assert (left["known"], left["kept"], left["conflicts"]) == (62, 0, {})


def test_what_was_exported_is_taken_back_but_for_repeats_without_a_ref(likewise, kit, own, single, tmp_path):
    repeats = [{"text": "where is it", "label": "delivery"}] * 2 + [{"text": "where is it", "label": "praise"}]
    data = kit.write_jsonl(tmp_path / "in.jsonl", repeats)
    assert likewise("teach", own, "--input", data, "--on-conflict", "both", "--json").json()["added"] == 3
    assert likewise("export", own, tmp_path / "all.jsonl", "--json").json()["examples"] == 63
    other = shutil.copytree(single, tmp_path / "other")
    back = likewise("teach", other, "--input", tmp_path / "all.jsonl", "--ref-column", "ref", "--json").json()
    assert (back["added"], back["known"]) == (2, 61)
    assert "becomes one with it" in " ".join(likewise("export", "--help").out.split())


def test_a_refit_from_the_command_line(likewise, own):
    assert likewise("teach", own, NOVEL[0], "--label", "praise").status == 0
    shown = likewise("refit", own, "--by", "ada", "--note", "monthly")
    assert shown.status == 0, shown.err
    assert "generation 2 answers from revision 3 on" in shown.out
    assert "before" in shown.out and "after" in shown.out
    done = likewise("refit", own, "--seed", "3", "--json").json()
    assert (done["generation"], done["revision"], done["examples"]) == (3, 4, 61)
    assert likewise("history", own, "--limit", "1", "--json").json()["action"] == "refitted"
    assert likewise("refit", own, "--prune", "--json").json() == {"pruned": [1, 2], "generation": 3}
    assert "only one generation" in likewise("refit", own, "--prune").out
    likewise("refit", own, "--prune", "--recipe", "frozen").refused("--prune trains nothing")
    likewise("refit", own, "--recipe", "frozn").refused("did you mean 'frozen'")
    assert likewise("check", own).status == 0


def test_a_datastore_on_a_server(likewise, kit, own, server, tmp_path):
    place = server.place()
    done = likewise("move", own, "--datastore", place, "--json").json()
    assert done == {"datastore": place, "examples": 60, "revision": 2}
    assert likewise("teach", own, NOVEL[0], "--label", "cancellation").status == 0
    assert likewise("classify", own, NOVEL[0], "--json").json()["label"] == "cancellation"
    assert likewise("check", own).status == 0
    likewise("move", own, "--datastore", server.place().replace("likewise@", "likewise:hush@")).refused("PGPASSWORD")
    likewise("move", own, "--datastore", "mysql://x").refused("expected postgresql://")
    assert "Moved 61 examples to sqlite" in likewise("move", own, "--datastore", "sqlite").out
    assert likewise("history", own, "--json").json_lines()[0]["action"] == "moved"
    likewise("move", own, "--datastore", place).refused("holds a datastore already")
