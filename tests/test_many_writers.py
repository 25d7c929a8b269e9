"""Four processes change one model at once, in a directory and on a server: nothing is lost, and all end alike.

LIKEWISE_CHANGES says how many changes each makes; `make soak` sets 500.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from likewise.checking import check
from likewise.model import Model
from rows import ROWS, alike

CHANGES = int(os.environ.get("LIKEWISE_CHANGES", "40"))
NAMES = ("ann", "bob", "cid", "dan")
ASKED = ["my parcel is late", "the bank card is lost", "a sick bird", "why"]

WRITER = """
import json, random, sys
from likewise.model import Model
path, name, changes, asked = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
rng, mine, revisions = random.Random(name), {}, []
with Model.open(path, lock_timeout=120) as model:
    for number in range(changes):
        verb = rng.choice(["teach", "teach", "relabel", "forget"]) if mine else "teach"
        if verb == "teach":
            text, label = f"{name} bird {number}", rng.choice(["delivery", "invoice", "health"])
            change = model.teach(text, label, by=name)
            mine[change.ids[0]] = (text, label)
        else:
            one = rng.choice(sorted(mine))
            if verb == "forget":
                change = model.forget(one, by=name)
                del mine[one]
            else:
                label = rng.choice([l for l in ("delivery", "invoice", "health") if l != mine[one][1]])
                change = model.relabel(one, label, by=name)
                mine[one] = (mine[one][0], label)
        revisions.append(change.revision)
        if number % 10 == 0:
            model.classify(asked[0])
    print(json.dumps({"mine": mine, "revisions": revisions}), flush=True)
    sys.stdin.readline()  # until all are done
    print(json.dumps([p.to_dict() for p in model.classify(asked)]), flush=True)
"""


@pytest.mark.parametrize("kind", ["directory", "server"])
def test_all_changes_are_there_and_all_answer_alike(
    fitted: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    if kind == "server":
        with Model.open(path) as model:
            model.move(request.getfixturevalue("server").place())
    with Model.open(path) as model:
        start = model.revision
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), name, str(CHANGES), json.dumps(ASKED)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ),
            ) for name in NAMES
        ]  # fmt: skip
        done = [json.loads(writer.stdout.readline()) for writer in writers if writer.stdout]
        answers = [json.loads(writer.communicate("go\n", timeout=120)[0]) for writer in writers]
        mine = {int(number): tuple(held) for one in done for number, held in one["mine"].items()}
        assert {e.id: (e.text, e.labels[0]) for e in model.examples() if e.id > len(ROWS)} == mine
        made = sorted(revision for one in done for revision in one["revisions"])
        assert made == list(range(start + 1, start + len(NAMES) * CHANGES + 1))
        assert [change.revision for change in model.history()] == list(range(model.revision, 0, -1))
        ours = [prediction.to_dict() for prediction in model.classify(ASKED)]
        assert all(alike(answer, ours, 1e-8) for answer in answers)
        for name, one in zip(NAMES, done, strict=True):
            by_name = [change.revision for change in model.history() if change.by == name]
            assert sorted(by_name) == one["revisions"]
    assert check(path) == []
