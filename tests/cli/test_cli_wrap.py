"""`likewise wrap` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rows import ROWS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS), encoding="utf-8")
    return path


def test_a_classifier_becomes_a_model(
    likewise: Callable[..., Any], tiny_classifier: Path, data: Path, tmp_path: Path
) -> None:
    made = likewise("wrap", tmp_path / "model", "--classifier", tiny_classifier, "--data", data, "--dev", data)
    assert made.status == 0, made.err
    assert "Kept: the wrapped encoder." in made.out
    answered = likewise("classify", tmp_path / "model", "the parcel is late", "--json")
    answer = json.loads(answered.out)
    assert answer["neighbours"] and {one["label"] for one in answer["head"]} == {"delivery", "invoice"}
    again = likewise("wrap", tmp_path / "model", "--classifier", tiny_classifier, "--data", data)
    assert again.status == 2 and "there is something already" in again.err


@pytest.mark.parametrize("missing", ["--classifier", "--data"])
def test_what_is_needed_is_said(likewise: Callable[..., Any], tiny_classifier: Path, data: Path, missing: str) -> None:
    given = {"--classifier": str(tiny_classifier), "--data": str(data)}
    del given[missing]
    done = likewise("wrap", "model", *(part for pair in given.items() for part in pair))
    done.refused(missing)


def test_a_folder_that_is_no_classifier(likewise: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    done = likewise("wrap", tmp_path / "model", "--classifier", tmp_path / "none", "--data", data)
    done.refused("none")
    assert not (tmp_path / "model").exists()
