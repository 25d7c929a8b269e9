"""What was acknowledged is there: processes are killed at random moments in the midst of changes.

LIKEWISE_KILLS says how often in all; `make soak` sets 200.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from likewise.checking import check
from likewise.errors import ExampleError
from likewise.model import Model
from rows import ROWS

KILLS = int(os.environ.get("LIKEWISE_KILLS", "10"))

CHILD = """
import itertools, json, random, sys
from likewise.model import Model
kind, path, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = random.Random(seed)
def say(**what):
    print(json.dumps(what), flush=True)
def state(model):
    return [[e.id, e.text, list(e.labels)] for e in model.examples()]
with Model.open(path) as model:
    say(ready=True)
    for number in itertools.count():
        if kind == "teach":
            text, label = f"bird {seed} {number}", rng.choice(["delivery", "invoice", "health"])
            say(id=model.teach(text, label).ids[0], text=text, labels=[label])
        elif kind == "change":
            ids = [example.id for example in model.examples()]
            labels = sorted(model.labels)
            verb = rng.choice(["relabel", "rename", "merge", "revert", "forget", "teach"])
            if verb == "relabel": model.relabel(rng.choice(ids), f"label {rng.randrange(5)}")
            elif verb == "rename": model.rename_label(rng.choice(labels), f"name {seed} {number}")
            elif verb == "merge": model.merge_labels(labels[:2], labels[-1])
            elif verb == "revert": model.revert(rng.randrange(1, model.revision + 1))
            elif verb == "forget" and len(ids) > 10: model.forget(rng.choice(ids))
            else: model.teach(f"bird {seed} {number}", rng.choice(["delivery", "invoice"]))
            say(revision=model.revision, state=state(model))
        elif kind == "erase":
            (taught,) = model.teach(f"secret bird {seed} {number}!", f"secret-{seed}-{number}!").ids
            say(taught=taught, of=f"{seed} {number}")
            model.erase(taught)
            say(erased=taught, of=f"{seed} {number}")
        elif kind == "save":
            say(before=f"{path}-{seed}-{number}")
            with Model.open(path) as another:
                another.save(f"{path}-{seed}-{number}")
            say(after=f"{path}-{seed}-{number}")
        elif kind == "refit":
            say(refitted=model.refit().generation)
"""


def killed(kind: str, path: Path, seed: int) -> list[dict[str, Any]]:
    """What a child said until it was killed, some moments after it began."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, kind, str(path), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.02, 3.0 if kind == "refit" else 0.6))
    child.send_signal(signal.SIGKILL)
    said = [first, *child.stdout.read().splitlines()]
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    whole = [json.loads(line) for line in said if line.endswith("}") or line.endswith("}\n")]
    assert whole[0] == {"ready": True}
    return whole[1:]


def rounds(share: float) -> range:
    return range(max(1, round(KILLS * share)))


def answers(path: Path) -> None:
    """Index and head agree with the ledger, and it answers."""
    with Model.open(path) as model:
        model.classify(["my parcel is late", "a bird"])
    assert check(path) == []


def test_every_acknowledged_example_is_there(fitted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    expected: dict[int, tuple[str, list[str]]] = {}
    for seed in rounds(0.4):
        expected.update({one["id"]: (one["text"], one["labels"]) for one in killed("teach", path, seed)})
        with Model.open(path) as model:
            there = {example.id: (example.text, list(example.labels)) for example in model.examples()}
            assert there.items() >= expected.items()
            assert len(there) == len(ROWS) + model.revision - 1  # one revision an example: no half change
        answers(path)
    assert len(expected) > 0


def test_every_acknowledged_change_is_there(fitted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    for seed in rounds(0.3):
        said = killed("change", path, seed)
        with Model.open(path) as model:
            for one in said[-5:]:
                with model.as_of(one["revision"]) as then:
                    assert [[e.id, e.text, list(e.labels)] for e in then.examples()] == one["state"]
        answers(path)


def test_an_erasure_that_was_killed_is_completed(fitted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    for seed in rounds(0.2):
        said = killed("erase", path, seed)
        erased = {one["of"] for one in said if "erased" in one}
        half = [one for one in said if "taught" in one and one["of"] not in erased]
        left = [sentence for sentence in check(path) if "interrupted" not in sentence]
        assert [sentence for sentence in left if "snapshot" not in sentence and "checksums" not in sentence] == []
        if half:
            # Complete already, if it was killed just before it could say so.
            with Model.open(path) as model, contextlib.suppress(ExampleError):
                model.erase([one["taught"] for one in half])
        content = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
        for one in said:
            assert f"secret bird {one['of']}!".encode() not in content  # with its end: 1 is no part of 15
            assert f"secret-{one['of'].replace(' ', '-')}!".encode() not in content
        with Model.open(path) as model:  # what was taught and killed before it was said
            for example in model.examples(contains="secret bird"):
                model.erase(example.id)
        answers(path)


def test_a_refit_that_was_killed_leaves_the_old_generation_or_the_new(fitted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    for seed in rounds(0.1):
        said = killed("refit", path, seed)
        with Model.open(path) as model:
            assert model.info.generation >= max([1, *(one["refitted"] for one in said)])
            assert [(example.text, example.labels[0]) for example in model.examples()] == ROWS
            assert [change.action for change in model.history()].count("refitted") == model.revision - 1
        answers(path)


def test_a_save_that_was_killed_leaves_all_or_nothing(fitted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(fitted, tmp_path / "model"))
    for seed in rounds(0.1):
        for one in killed("save", path, seed):
            if "after" in one:
                assert check(one["after"]) == []
            elif Path(one["before"]).exists():
                assert check(one["before"]) == []
        answers(path)
