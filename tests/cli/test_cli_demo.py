"""`likewise demo`: the whole story, told without a hitch where nobody watches it draw."""

from __future__ import annotations

import json
import re
from pathlib import Path

import likewise as package
from likewise.demo import ASKED, HIDDEN, NEAR

SAMPLE = Path(package.__file__).parent / "sample"


def read(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SAMPLE / name).read_text(encoding="utf-8").splitlines()]


def test_the_demo_tells_every_step(likewise, tmp_path):
    result = likewise("demo", "--quick", "--save", tmp_path / "kept")

    assert result.status == 0, result
    assert result.err == ""
    titles = ("1. Fit", "2. How good", "3. Ask", "4. Teach", "5. Correct", "6. Forget", "What to try next")
    assert [title in result.out for title in titles] == [True] * len(titles)
    assert all(text in result.out for text in ASKED)
    assert max(len(line) for line in result.out.splitlines() if not line.startswith("  likewise ")) <= 100
    taught = next(line for line in result.out.splitlines() if re.match(rf".*{ASKED[2][:20]}.*{HIDDEN} ", line))
    assert taught.split(HIDDEN)[0].strip(), "the hidden topic is the answer after it was taught, not before"
    story = " ".join(result.out.split())
    before, now = re.search(r"Forgotten, .*? cited the examples ([\d, ]+); now it cites ([\d, ]+), and", story).groups()
    forgotten = before.split(", ")[0]
    assert f"{forgotten} " in result.out.split("6. Forget")[1]
    assert forgotten not in now.split(", ")
    assert likewise("check", tmp_path / "kept").status == 0
    (answer,) = likewise("classify", tmp_path / "kept", ASKED[2], "--json").json_lines()
    assert answer["label"] == HIDDEN
    assert answer["revision"] == 4


def test_what_the_demo_relies_on_is_in_the_sample():
    train = {row["ref"]: row for row in read("train.jsonl")}
    mistakes = {row["ref"]: row for row in read("mistakes.jsonl")}

    assert NEAR.keys() <= mistakes.keys()
    assert all(train[ref]["label"] == mistakes[ref]["given"] for ref in NEAR)
    assert HIDDEN in {row["label"] for row in train.values()}
    assert HIDDEN not in {mistakes[ref]["given"] for ref in NEAR}
    assert not {*ASKED, *NEAR.values()} & {row["text"] for row in (*train.values(), *read("test.jsonl"))}
