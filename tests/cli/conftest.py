"""The installed command, run as a user runs it, and models fitted by it once a session."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

COMMAND = str(Path(sys.executable).parent / "likewise")

# Words of the tiny encoder's vocabulary, so that its random embeddings tell the topics apart.
TOPICS = {
    "delivery": ["where", "is", "my", "parcel", "late", "order", "ship", "arrived", "wait", "tomorrow", "street"],
    "refund": ["please", "refund", "money", "back", "paid", "return", "charge", "bill", "want", "price"],
    "praise": ["thank", "you", "love", "great", "happy", "good", "beautiful", "best", "laugh", "warm"],
}


def sentences(topic: str, count: int) -> list[str]:
    """Different short texts on a topic, the same every time."""
    words = TOPICS[topic]
    return [" ".join(words[(i * step + i) % len(words)] for step in range(1, 6)) + f" {i}" for i in range(count)]


def rows(count: int = 20) -> list[dict[str, str]]:
    """Labelled rows with a ref and a column of the user's own."""
    return [
        {"ref": f"{label[0]}{i}", "text": text, "label": label, "channel": "mail" if i % 2 else "chat"}
        for label in TOPICS
        for i, text in enumerate(sentences(label, count))
    ]


def several_rows() -> list[dict[str, Any]]:
    """Rows of none to two labels: some texts are about two topics, some about nothing."""
    single = [{"text": row["text"], "labels": [row["label"]]} for row in rows(14)]
    both = [
        {"text": f"{a} {b}", "labels": ["praise", "refund"]}
        for a, b in zip(sentences("refund", 10), sentences("praise", 10), strict=True)
    ]
    nothing: list[dict[str, Any]] = [{"text": f"the cat is black {i}", "labels": []} for i in range(6)]
    return [*single, *both, *nothing]


def write_jsonl(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


class Result:
    """How a run ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.status = done.returncode
        self.out = done.stdout.decode("utf-8")
        self.err = done.stderr.decode("utf-8")

    def __repr__(self) -> str:
        return f"status {self.status}\n{self.out}\n--- stderr\n{self.err}"

    def json(self) -> Any:
        """The one JSON object on standard output, after a run that went well."""
        assert self.status == 0, self
        (line,) = self.out.splitlines()
        return json.loads(line)

    def json_lines(self) -> list[Any]:
        assert self.status == 0, self
        return [json.loads(line) for line in self.out.splitlines()]

    def refused(self, *fragments: str) -> None:
        """The user's mistake: status 2, nothing on standard output, one line that says all of this."""
        assert self.status == 2, self
        assert self.out == "", self
        (line,) = self.err.splitlines()
        assert line.startswith("likewise: "), self
        for fragment in fragments:
            assert fragment in line, self


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LIKEWISE_", "PYTHONWARN"))}
    return {**clean, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100", **more}


def likewise(
    *arguments: str | bytes | Path, stdin: bytes = b"", env: dict[str, str] | None = None, **options: Any
) -> Result:
    """Run the command to its end."""
    done = subprocess.run(
        [COMMAND, *(os.fspath(argument) for argument in arguments)],
        input=stdin,
        capture_output=True,
        env=environment(**(env or {})),
        timeout=300,
        check=False,
        **options,
    )
    return Result(done)


def listing(folder: Path) -> dict[str, int]:
    """Every path below a folder with its size."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*"))}


def ledger(model: Path, question: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(model / "datastore.db")) as connection:
        return connection.execute(question).fetchall()


def revision(model: Path) -> int:
    return int(ledger(model, "SELECT max(revision) FROM revisions")[0][0])


def quick(encoder: Path) -> tuple[str, ...]:
    """What makes a fit quick."""
    return ("--encoder", str(encoder), "--recipe", "frozen")


@pytest.fixture(scope="session")
def fitted(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A model of three topics (not to be changed) and how its fit ended."""
    folder = tmp_path_factory.mktemp("single")
    data = write_jsonl(folder / "train.jsonl", rows())
    return folder / "model", likewise("fit", folder / "model", data, "--ref-column", "ref", *quick(tiny_encoder))


@pytest.fixture(scope="session")
def single(fitted: tuple[Path, Result]) -> Path:
    """A model of three topics that no test changes."""
    model, result = fitted
    assert result.status == 0, result
    return model


@pytest.fixture(scope="session")
def fitted_several(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A model with several labels a text (not to be changed), fitted to CSV files, and how its fit ended."""
    folder = tmp_path_factory.mktemp("several")
    lines = [f"{row['text']},{'; '.join(row['labels'])}" for row in several_rows()]
    for name, chosen in (("train.csv", lines), ("dev.csv", [f"so {line}" for line in lines[::3]])):
        (folder / name).write_text("\n".join(["body,topics", *chosen]), encoding="utf-8")
    columns = ("--text-column", "body", "--label-column", "topics", "--label-separator", ";")
    files = (folder / "train.csv", "--dev", folder / "dev.csv")
    return folder / "model", likewise("fit", folder / "model", *files, *columns, "--json", *quick(tiny_encoder))


@pytest.fixture(scope="session")
def several(fitted_several: tuple[Path, Result]) -> Path:
    model, result = fitted_several
    assert result.status == 0, result
    return model


@pytest.fixture
def own(single: Path, tmp_path: Path) -> Path:
    """A copy of the model of three topics, for a test to change."""
    return Path(shutil.copytree(single, tmp_path / "own"))


class Kit:
    """What the tests here share; a fixture, because test modules do not import each other."""

    rows = staticmethod(rows)
    sentences = staticmethod(sentences)
    several_rows = staticmethod(several_rows)
    write_jsonl = staticmethod(write_jsonl)
    environment = staticmethod(environment)
    listing = staticmethod(listing)
    ledger = staticmethod(ledger)
    revision = staticmethod(revision)
    quick = staticmethod(quick)
    command = COMMAND


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()


@pytest.fixture(scope="session", name="likewise")
def run() -> Callable[..., Result]:
    """Runs the command to its end."""
    return likewise
