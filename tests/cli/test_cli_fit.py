"""`likewise fit`: what it makes, what it refuses, and what it leaves behind."""

from __future__ import annotations

import io
import json
import shlex
import signal
import subprocess
import time

import pytest
from rich.console import Console

from likewise.rendering_fits import render_fit

GOOD = [f'{{"text": "text number {i}", "label": "{label}"}}' for i in range(3) for label in ("a", "b")]


def lines(*extra: str | bytes) -> bytes:
    """Two good lines, then others."""
    encoded = (line if isinstance(line, bytes) else line.encode() for line in (*GOOD[:2], *extra))
    return b"\n".join(encoded) + b"\n"


BAD = {
    "empty file": ("d.jsonl", b"", [], ["d.jsonl", "empty file"]),
    "empty csv": ("d.csv", b"", [], ["d.csv", "empty file"]),
    "header alone": ("d.csv", b"text,label\n", [], ["d.csv", "no rows"]),
    "missing text column": ("d.csv", b"txt,label\nhello,a\n", [], ["d.csv", "no column 'text'", "did you mean 'txt'?"]),
    "missing label column": ("d.csv", b"text,topic\nhello,a\n", [], ["no column 'labels' or 'label'", "'topic'"]),
    "missing column of one line": ("d.jsonl", lines('{"text": "t"}'), [], ["line 3", "no column 'labels' or 'label'"]),
    "not JSON": ("d.jsonl", lines("{text: hello}"), [], ["line 3", "not JSON"]),
    "label of a number": ("d.jsonl", lines('{"text": "t", "label": 3}'), [], ["line 3", "3 (int)", "string"]),
    "text of nothing": ("d.jsonl", lines('{"text": "", "label": "a"}'), [], ["line 3", "empty text"]),
    "text of whitespace": ("d.csv", b'text,label\nhello,a\n" \n ",b\n', [], ["line 3", "whitespace"]),
    "text of 10 MB": ("d.jsonl", lines(json.dumps({"text": "x" * 10**7, "label": "a"})), [], ["line 3", "10,000,000"]),
    "invalid UTF-8": ("d.jsonl", lines(b'{"text": "caf\xe9", "label": "a"}'), [], ["line 3", "invalid UTF-8", "0xe9"]),
    "NUL": ("d.jsonl", lines('{"text": "a\\u0000b", "label": "a"}'), [], ["line 3", "NUL"]),
    "lone surrogate": ("d.jsonl", lines('{"text": "a\\ud800b", "label": "a"}'), [], ["line 3", "surrogate"]),
    "surrogate in a label": ("d.jsonl", lines('{"text": "a", "label": "\\udc00"}'), [], ["line 3", "surrogate"]),
    "one class": ("d.csv", b"text,label\nx,a\ny,a\n", [], ["d.csv", "only the label 'a'", "at least two"]),
    "two labels under single": (
        "d.csv", b"text,label\nx,a\ny,a|b\n", ["--task", "single"], ["d.csv, line 3", "2 labels"]
    ),
    "unknown task": ("d.jsonl", lines(), ["--task", "singel"], ["'singel'", "did you mean 'single'?"]),
    "unknown recipe": ("d.jsonl", lines(), ["--recipe", "frozn"], ["unknown recipe 'frozn'", "did you mean 'frozen'?"]),
    "unknown encoder": (
        "d.jsonl", lines(*GOOD[2:]), ["--encoder", "all-MiniLM-L6-v3"], ["L6-v3'", "did you mean 'all-MiniLM-L6-v2'?"]
    ),
    "setting out of range": ("d.jsonl", lines(), ["--epochs", "0"], ["--epochs: found 0", "at least 1"]),
    "setting of the wrong type": ("d.jsonl", lines(), ["--seed", "lucky"], ["--seed", "'lucky'", "whole number"]),
    "unknown suffix": ("d.xlsx", lines(), [], ["d.xlsx", ".xlsx", ".csv"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(likewise, kit, tmp_path, case):
    name, content, options, expected = BAD[case]
    (tmp_path / name).write_bytes(content)
    before = kit.listing(tmp_path)

    result = likewise("fit", tmp_path / "model", tmp_path / name, *options)

    result.refused(*expected)
    assert kit.listing(tmp_path) == before


def test_a_file_that_is_not_there_is_named_with_the_one_that_is(likewise, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n", encoding="utf-8")

    likewise("fit", tmp_path / "m", tmp_path / "trian.csv").refused("trian.csv", "did you mean 'train.csv'?")


def test_no_file_that_is_read_takes_the_rejected_rows(likewise, tmp_path):
    (tmp_path / "dev.csv").write_text("text,label\n", encoding="utf-8")

    files = ("missing.csv", "--dev", tmp_path / "dev.csv", "--skip-invalid", tmp_path / "dev.csv")
    likewise("fit", tmp_path / "m", *files).refused("dev.csv", "the file that is read")


def test_of_rows_with_one_reference_the_last_counts(likewise, kit, tiny_encoder, tmp_path):
    rows = kit.rows(10)
    data = kit.write_jsonl(tmp_path / "d.jsonl", [*rows, {**rows[0], "text": "quite another text", "label": "praise"}])
    done = likewise(
        "fit", tmp_path / "m", data, "--recipe", "frozen", "--encoder", tiny_encoder, "--ref-column", "ref", "--json"
    )
    assert "1 row(s) have a reference that a later row has too, such as 'd0'" in done.err
    told = done.json()
    assert told["examples"] == sum(told["labels"].values()) == len(rows)
    assert told["labels"]["praise"] == told["labels"]["delivery"] + 2
    exported = [json.loads(line) for line in likewise("export", tmp_path / "m", "-").out.splitlines()]
    assert [row["text"] for row in exported if row["ref"] == "d0"] == ["quite another text"]
    assert len(exported) == len(rows)


def test_a_complaint_names_the_file_that_it_is_about(likewise, kit, tiny_encoder, tmp_path):
    data = kit.write_jsonl(tmp_path / "d.jsonl", kit.rows(6))
    source = kit.write_jsonl(tmp_path / "s.jsonl", [{"text": "the same", "label": label} for label in "abab"])
    given = ("--recipe", "transfer", "--encoder", tiny_encoder, "--source", source)
    likewise("fit", tmp_path / "m", data, *given).refused("s.jsonl: source texts: all are the same")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.jsonl", "s.jsonl"]


def test_what_is_there_already_is_refused_before_any_work(likewise, kit, tmp_path, single):
    before = kit.listing(single)

    # The data are never looked at: they do not exist.
    likewise("fit", single, tmp_path / "missing.csv").refused(str(single), "something already")
    assert kit.listing(single) == before


def test_a_fit_says_what_it_measured_kept_and_saved(fitted, kit):
    model, result = fitted

    assert result.status == 0, result
    assert result.err == ""
    for expected in ("60 examples", "3 labels", "one label a text", "head", "neighbours", "blend", "frozen encoder"):
        assert expected in result.out
    assert f"Saved: {model}" in result.out
    assert f"likewise classify {model}" in result.out
    assert [path.name for path in model.parent.iterdir() if path.name.startswith(".")] == []
    assert kit.revision(model) == 1
    assert ("d3", "train.jsonl") in kit.ledger(model, "SELECT ref, source FROM versions")


def test_the_commands_that_are_suggested_can_be_copied(fitted_several):
    _, result = fitted_several
    console = Console(file=io.StringIO(), width=100)
    render_fit(console, {**result.json(), "model": "my [new] model"})

    suggested = [line.split("  ")[1] for line in console.file.getvalue().splitlines() if line.startswith("  likewise")]
    assert [shlex.split(command)[:3] for command in suggested] == [
        ["likewise", verb, "my [new] model"] for verb in ("classify", "evaluate", "teach")
    ]


def test_no_score_of_a_fit_is_cut_on_a_narrow_terminal(fitted_several):
    _, result = fitted_several
    console = Console(file=io.StringIO(), width=40)
    scores = result.json()["scores"]["frozen"]
    both = {"frozen": scores, "fine-tuned": scores}
    render_fit(console, {**result.json(), "judged_on": "4-fold cross-validation", "scores": both})

    drawn = console.file.getvalue()
    assert all(f" {score:.3f} " in drawn for score in scores.values())
    assert "…" not in drawn


def test_a_fit_in_json(fitted_several, kit):
    model, result = fitted_several
    summary = result.json()

    assert result.err == ""
    assert summary["model"] == str(model)
    assert summary["task"] == "multi"
    assert summary["examples"] == len(kit.several_rows())
    assert set(summary["labels"]) == {"delivery", "praise", "refund"}
    assert summary["labels"]["refund"] == 24
    assert summary["measure"] == "macro_f1"
    assert summary["kept"] == "frozen"
    assert set(summary["scores"]["frozen"]) == {"head", "neighbours", "blend"}
    # Dev rows choose the settings and stay out of the datastore.
    assert summary["judged_on"] == "20 dev rows"
    assert kit.ledger(model, "SELECT count(*) FROM examples") == [(len(kit.several_rows()),)]


@pytest.fixture(scope="module")
def interrupted(likewise, kit, tiny_encoder, tmp_path_factory):
    """A fit to a real CSV file that was killed while it trained: its folder, what was there then, the second run."""
    folder = tmp_path_factory.mktemp("killed")
    content = ["\ufeffref,message,topic,extra"]
    content += [f'{row["ref"]},"{row["text"]},\r\nsecond ""line""",{row["label"]},x' for row in kit.rows(8)]
    content += ["u1,my invoice,lonely,x", "u2, ,refund,x", "u3,short row"]
    (folder / "real.csv").write_bytes("\r\n".join(content).encode())
    arguments = [
        "fit", str(folder / "m"), str(folder / "real.csv"), "--encoder", str(tiny_encoder), "--text-column", "message",
        "--label-column", "topic", "--ref-column", "ref", "--skip-invalid", str(folder / "bad.jsonl"),
    ]  # fmt: skip
    with subprocess.Popen(
        [kit.command, *arguments, "--epochs", "10000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=kit.environment(),
    ) as process:
        while process.poll() is None and not list((folder / ".m.fit").rglob("fit.json")):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    left = sorted(path.name for path in folder.iterdir())
    return folder, left, likewise(*arguments, "--epochs", "2")


def test_a_killed_fit_leaves_no_model_and_the_same_command_then_makes_one(interrupted, likewise):
    folder, left, result = interrupted

    assert left == [".m.fit", "bad.jsonl", "real.csv"]
    assert result.status == 0, result
    assert "fine-tuned encoder" in result.out
    assert sorted(path.name for path in folder.iterdir()) == ["bad.jsonl", "m", "real.csv"]
    assert likewise("check", folder / "m").status == 0


def test_who_interrupts_training_is_told_how_it_goes_on(kit, tiny_encoder, tmp_path):
    data = kit.write_jsonl(tmp_path / "train.jsonl", kit.rows(8))
    with subprocess.Popen(
        [kit.command, "fit", "m", str(data), "--encoder", str(tiny_encoder), "--epochs", "200"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=kit.environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background is deaf to it
    ) as process:  # fmt: skip
        while process.poll() is None and not list((tmp_path / ".m.fit").rglob("finished.json")):  # of the first fold
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)

    told = f"likewise: interrupted; the same command goes on from its last checkpoint in {tmp_path / '.m.fit'}"
    assert (process.returncode, out) == (130, b"")
    assert errors.decode().splitlines()[-1] == told
    assert "Traceback" not in errors.decode()


def test_a_real_csv_file(interrupted, kit):
    folder, _, _ = interrupted

    stored = dict(kit.ledger(folder / "m", "SELECT ref, text FROM versions JOIN texts ON texts.id = text_id"))
    assert stored["d0"] == kit.rows(1)[0]["text"] + ',\r\nsecond "line"'
    assert len(stored) == 25


def test_rows_that_cannot_be_used_are_put_elsewhere(interrupted):
    folder, _, result = interrupted

    rejects = [json.loads(line) for line in (folder / "bad.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["line"], row["fields"]["ref"]) for row in rejects] == [(51, "u2"), (52, "u3")]
    assert "whitespace" in rejects[0]["reason"]
    assert result.err.splitlines()[0] == f"likewise: 2 rows left out, with the reason in {folder / 'bad.jsonl'}"


def test_a_warning_is_a_line_and_the_fit_goes_on(interrupted):
    _, _, result = interrupted

    warnings = result.err.splitlines()[1:]
    assert all(line.startswith("likewise: warning: ") for line in warnings), result
    assert any("'lonely'" in line for line in warnings)
    assert any("fewer examples" in line for line in warnings)
