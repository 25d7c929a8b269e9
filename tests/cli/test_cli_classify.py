"""`likewise classify` and `likewise evaluate`: answers on a terminal, in JSON and in files."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from likewise import Model

TEXTS = ["where is my parcel order", "please refund my money"]


def test_an_answer_shows_voices_and_cited_examples(likewise, single):
    result = likewise("classify", single, *TEXTS, "--neighbours", "2")

    assert result.status == 0, result
    assert result.err == ""
    with Model.open(single) as model:
        expected = model.classify(TEXTS, 2)
    for prediction in expected:
        assert f"{prediction.label} {prediction.score:.2f}" in result.out
        assert prediction.text in result.out
        for cited in prediction.neighbours:
            numbers = rf" {cited.id} +{cited.weight:.2f} +{cited.distance:.2f} +{cited.labels[0]} +"
            assert re.search(numbers + re.escape(cited.text), result.out), cited
    assert result.out.count("head ") == 2
    assert max(map(len, result.out.splitlines())) <= 100


def test_a_narrow_terminal_shows_what_is_cited(likewise, single):
    result = likewise("classify", single, TEXTS[0], "--neighbours", "2", env={"COLUMNS": "40"})

    with Model.open(single) as model:
        prediction = model.classify(TEXTS[0], 2)
    shown = " ".join(line.strip("│ ") for line in result.out.splitlines())
    for cited in prediction.neighbours:
        assert f"{cited.id}  {cited.weight:.2f}  {cited.distance:.2f}  {cited.labels[0]} {cited.text}" in shown
    assert {len(line) for line in result.out.splitlines()} == {40}


def test_an_answer_in_json_is_the_one_python_gets(likewise, single):
    found = likewise("classify", single, *TEXTS, "--json").json_lines()

    with Model.open(single) as model:
        assert found == [prediction.to_dict() for prediction in model.classify(TEXTS)]
    for row in found:
        assert list(row) == ["text", "label", "score", "scores", "head", "neighbours", "lambda", "revision"]
        assert row["scores"][0] == {"label": row["label"], "score": row["score"]}
        assert list(row["neighbours"][0]) == ["id", "text", "labels", "distance", "weight"]
        assert 0 < len(row["neighbours"]) <= 5
        assert row["revision"] == 1


@pytest.fixture(scope="module")
def about_two(several, kit):
    """A text to which the model gives more than one label."""
    with Model.open(several) as model:
        predictions = model.classify([row["text"] for row in kit.several_rows()])
    return next(prediction for prediction in predictions if len(prediction.labels) > 1)


def test_several_labels_in_json(likewise, several, about_two):
    (row,) = likewise("classify", several, about_two.text, "--json").json_lines()

    assert list(row) == ["text", "labels", "scores", "head", "neighbours", "lambda", "revision"]
    assert row["labels"] == list(about_two.labels)
    told = likewise("classify", several, about_two.text)
    assert ", ".join(f"{label} {score:.2f}" for label, score in about_two.scores[:2]) in told.out.splitlines()[0]


def test_a_text_cannot_steer_the_terminal(likewise, single):
    result = likewise("classify", single, "where is\x1b[2J my \u202eparcel")

    assert result.status == 0
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("   ", ["TEXT 2", "whitespace"]),
        ("", ["TEXT 2", "empty text"]),
        (b"caf\xe9", ["TEXT 2", "lone surrogate"]),
        ("x" * 2000, ["TEXT 2", "2,000 characters", "at most 1,500"]),
    ],
)
def test_a_bad_text_is_named(likewise, single, text, expected):
    likewise("classify", single, "good", text, "--max-text", "1500").refused(*expected)


def test_a_csv_file_keeps_its_columns_and_its_broken_rows(likewise, single, tmp_path):
    content = (
        '\ufeffid,message,label,channel\r\n7,"where is my\r\nparcel, please",old,mail\r\n8,,old,chat\r\n'
        "9,refund my money,,mail\r\n"
    )
    (tmp_path / "in.csv").write_bytes(content.encode())

    result = likewise(
        "classify", single, "--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv", "--text-column", "message"
    )

    assert result.status == 0, result
    assert "Classified 2 texts" in result.out
    (told,) = result.err.splitlines()
    assert "1 row could not be read; the first: line 4: " in told
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_bytes().decode(), newline="")))
    assert [row["id"] for row in rows] == ["7", "8", "9"]
    assert rows[0]["message"] == "where is my\r\nparcel, please"
    assert [row["label"] for row in rows] == ["old", "old", ""]
    with Model.open(single) as model:
        first, last = model.classify([rows[0]["message"], rows[2]["message"]])
    assert [row["predicted_label"] for row in rows] == [first.label, "", last.label]
    assert float(rows[0]["score"]) == pytest.approx(first.score, abs=1e-4)
    assert rows[1]["score"] == ""
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert "line 4" in rows[1]["error"]


def test_jsonl_output_holds_the_whole_answer(likewise, single, tmp_path, kit):
    data = kit.write_jsonl(tmp_path / "in.jsonl", [{"text": text, "n": i} for i, text in enumerate(TEXTS)])
    with data.open("ab") as file:
        file.write(b"{broken\n")

    arguments = ("classify", single, "--input", data, "--output", tmp_path / "out.jsonl", "--json")
    summary = likewise(*arguments).json()

    assert summary == {"output": str(tmp_path / "out.jsonl"), "classified": 2, "unread": 1}
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    with Model.open(single) as model:
        expected = [prediction.to_dict() for prediction in model.classify(TEXTS)]
    for i, (row, prediction) in enumerate(zip(rows, expected, strict=False)):
        assert row.pop("n") == i
        assert list(row) == list(prediction)
        assert row["label"] == prediction["label"]
        assert [n["id"] for n in row["neighbours"]] == [n["id"] for n in prediction["neighbours"]]
    assert rows[2]["label"] is None
    assert "not JSON" in rows[2]["error"]


def test_parquet_in_and_out(likewise, several, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"body": [*TEXTS, ""], "n": [1, 2, 3]}), tmp_path / "in.parquet")
    told = likewise(
        "classify", several, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out.parquet",
        "--text-column", "body",
    )  # fmt: skip

    assert "1 row could not be read; the first: row 3: " in told.err
    *rows, unread = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert unread["error"].startswith("row 3: column 'body': found an empty text")
    assert [row["n"] for row in rows] == [1, 2]
    with Model.open(several) as model:
        assert [tuple(row["labels"]) for row in rows] == [each.labels for each in model.classify(TEXTS)]


def test_several_labels_are_joined_in_csv(likewise, several, about_two, tmp_path):
    (tmp_path / "in.csv").write_text(f"text\n{about_two.text}\n", encoding="utf-8")

    likewise(
        "classify", several, "--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv", "--label-separator", ";"
    )

    (row,) = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8")))
    assert row == {"text": about_two.text, "labels": ";".join(about_two.labels)}


def test_skipped_rows_go_elsewhere(likewise, single, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "my parcel"}\n{"text": 5}\n{"text": "caf\xe9"}\n')

    result = likewise(
        "classify", single, "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl",
        "--skip-invalid", tmp_path / "bad.jsonl",
    )  # fmt: skip

    assert result.status == 0, result
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 1
    rejects = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_bytes().splitlines()]
    assert [row["line"] for row in rejects] == [2, 3]
    assert "2 rows left out" in result.err


def test_standard_input_takes_plain_lines_and_json(likewise, single):
    lines = b'where is my parcel\n\n{"text": "refund my money", "ref": "a"}\n'
    found = likewise("classify", single, "--input", "-", "--json", stdin=lines).json_lines()

    assert [row["text"] for row in found] == ["where is my parcel", "refund my money"]
    assert found[1]["ref"] == "a"
    assert all(row["label"] for row in found)

    told = likewise("classify", single, "--input", "-", stdin=lines)
    assert [line.split()[0] for line in told.out.splitlines()] == [row["label"] for row in found]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ["in.jsonl", "empty file"]),
        (b'{"text": ""}\n{}\n', ["in.jsonl", "no row that can be used among 2", "line 1"]),
    ],
)
def test_a_file_without_a_text_writes_nothing(likewise, kit, single, tmp_path, content, expected):
    (tmp_path / "in.jsonl").write_bytes(content)
    before = kit.listing(tmp_path)

    arguments = ("classify", single, "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.csv")
    likewise(*arguments).refused(*expected)
    assert kit.listing(tmp_path) == before


def test_the_file_that_is_read_is_not_written(likewise, single, kit, tmp_path):
    data = kit.write_jsonl(tmp_path / "in.jsonl", [{"text": "my parcel"}])
    before = data.read_bytes()

    for option in ("--output", "--skip-invalid"):
        likewise("classify", single, "--input", data, option, data).refused("in.jsonl", "the file that is read")
    both = ("--output", tmp_path / "out.jsonl", "--skip-invalid", tmp_path / "out.jsonl")
    likewise("classify", single, "--input", data, *both).refused("out.jsonl", "where the answers go")
    assert (data.read_bytes(), list(tmp_path.iterdir())) == (before, [data])


@pytest.mark.parametrize("column", ["label", "error"])
def test_no_column_of_the_rows_is_lost(likewise, single, tmp_path, column):
    theirs = {column: "a", f"predicted_{column}": "b", f"predicted_predicted_{column}": "c"}
    lines = [json.dumps({"text": text, **theirs}) for text in (TEXTS[0], "")]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")

    files = ("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert likewise("classify", single, *files).status == 0

    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        assert {key: row[key] for key in theirs} == theirs
    answered = rows[0] if column == "label" else rows[1]
    assert answered[f"predicted_predicted_predicted_{column}"]


@pytest.mark.parametrize(
    ("late", "column"),
    [
        ([{"text": "my money", "label": "precious"}], "label"),
        ([{"text": "my money", "predicted_score": 1}], "predicted_score"),
        ([{"text": "", "error": "theirs"}], "error"),
        ([{"text": "my money", "error": "theirs"}, {"text": ""}], "error"),
    ],
)
def test_a_column_that_comes_too_late_is_not_overwritten(likewise, kit, single, tmp_path, late, column):
    rows = [{"text": f"my parcel {i}", "score": i} for i in range(601 - len(late))]
    data = kit.write_jsonl(tmp_path / "in.jsonl", [*rows, *late])

    arguments = ("classify", single, "--input", data, "--output", tmp_path / "out.csv")
    likewise(*arguments).refused("in.jsonl, line 601", f"'{column}'")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_evaluate(likewise, kit, single, tmp_path):
    rows = [{"body": f"{row['text']} please", "topic": row["label"]} for row in kit.rows(6)]
    data = kit.write_jsonl(tmp_path / "test.jsonl", rows)
    columns = ("--text-column", "body", "--label-column", "topic")

    found = likewise("evaluate", single, data, *columns, "--json").json()

    assert (found["n"], found["revision"]) == (18, 1)
    for voice in ("blend", "head", "neighbours"):
        assert {"accuracy", "macro_f1", "micro_f1", "hamming_loss", "jaccard", "per_label"} <= found[voice].keys()
    with Model.open(single) as model:
        decided = [prediction.label for prediction in model.classify([row["body"] for row in rows])]
    right = sum(label == row["topic"] for label, row in zip(decided, rows, strict=True))
    assert found["blend"]["accuracy"] == pytest.approx(right / 18)
    told = likewise("evaluate", single, data, *columns)
    assert told.err == ""
    assert f"{found['blend']['macro_f1']:.3f}" in told.out


def test_evaluate_several_labels_and_an_unknown_one(likewise, several, tmp_path):
    (tmp_path / "t.csv").write_text("text,label\nrefund my money,refund|prase\nthe cat,\n", encoding="utf-8")

    result = likewise("evaluate", several, tmp_path / "t.csv", "--json")

    assert result.status == 0, result
    assert json.loads(result.out)["n"] == 2
    (warning,) = result.err.splitlines()
    assert "'prase', which the model does not know; did you mean 'praise'?" in warning
    piped = likewise("evaluate", several, "-", stdin=b'{"text": "refund my money", "label": "prase"}\n')
    assert "standard input has the label 'prase'" in piped.err


def test_evaluate_refuses_labels_that_the_task_does_not_allow(likewise, single, tmp_path):
    (tmp_path / "t.csv").write_text("text,label\nmy money,refund\nmy parcel,refund|praise\n", encoding="utf-8")

    likewise("evaluate", single, tmp_path / "t.csv").refused("t.csv, line 3", "2 labels", "exactly one")
