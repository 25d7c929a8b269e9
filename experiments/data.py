"""The data sets of the experiments: folders of JSON Lines that are not part of this repository.

Each is a folder FOLDER/NAME with train.jsonl, test.jsonl and sometimes dev.jsonl, one object a line:
{"text": ..., "labels": [...]}; or the files that `published.py` tells of, in which two data sets come. FOLDER is given
on the command line, or in the environment as LIKEWISE_EXPERIMENT_DATA.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from experiments.published import FORMS
from likewise.validation import normalised


@dataclass(frozen=True)
class Part:
    """Rows of one file."""

    texts: list[str]
    labels: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, numbers: list[int]) -> Part:
        """The rows with these numbers."""
        return Part([self.texts[i] for i in numbers], [self.labels[i] for i in numbers])

    def hiding(self, label: str | None) -> tuple[Part, Part]:
        """The rows without a label, and those with it; None hides nothing."""
        without, bearing = (
            [i for i, labels in enumerate(self.labels) if (label in labels) is it] for it in (False, True)
        )
        return self.rows(without), self.rows(bearing)


class Missing(Exception):
    """A data set is not there; the experiment skips it and says so."""


def read(folder: Path | None, name: str, part: str) -> Part | None:
    """train, dev or test rows of a data set; None where it has no such part. "sample" is the bundled data."""
    if name == "sample":
        path = Path(str(files("likewise") / "sample" / f"{part}.jsonl"))
        return _read(path) if path.exists() else None
    if folder is not None and name in FORMS and (folder / name / FORMS[name][0]).exists():
        rows = FORMS[name][1](folder / name, part)
        return Part(*rows) if rows else None
    if folder is None or not (folder / name / "train.jsonl").exists():
        raise Missing(f"{name}: not found in {folder or 'any folder (say where the data sets are)'}; skipped")
    path = folder / name / f"{part}.jsonl"
    return _read(path) if path.exists() else None


def _read(path: Path) -> Part:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    labels = [tuple(row["labels"]) if "labels" in row else (row["label"],) for row in rows]
    return Part([row["text"] for row in rows], labels)


def money(labels: tuple[str, ...]) -> bool:
    """Whether a message of the bundled data is about money: another task on the same texts, for quick runs."""
    return bool({"payment", "refund"} & {*labels})


def money_or_other(part: Part) -> Part:
    """The same texts, with that as their label."""
    return Part(part.texts, [("money",) if money(labels) else ("other",) for labels in part.labels])


def overlapping(train: Part, test: Part) -> list[int]:
    """Numbers of the test rows whose text, normalised, also stands in train: they flatter nearest neighbours."""
    known = {normalised(text) for text in train.texts}
    return [i for i, text in enumerate(test.texts) if normalised(text) in known]
