"""Texts a second, on the bundled data: what is measured, who is missing, and that a run goes on."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.bulk import documents, section
from experiments.data import Part

from quick_runs import quick_benchmark


def test_a_quick_run_measures_says_who_is_missing_and_is_not_repeated(tmp_path: Path) -> None:
    given = ("--contestants", "setfit", "logistic-onnx", "--only", "sample")
    done = quick_benchmark("bulk", tmp_path, *given)
    for peer in ("setfit", "logistic-onnx"):
        assert f"{peer}: left out" in done.stderr and "make bench" in done.stderr
    path = tmp_path / "bulk-sample.json"
    found = json.loads(path.read_text())["found"]
    rate = found["likewise"]["rate"]
    assert 0.4 < found["likewise"]["score"]["accuracy"] <= 1  # it answered the texts that it was asked
    assert rate["low"] <= rate["median"] <= rate["high"] and len(rate["rounds"]) == 2
    assert "left out" in found["setfit"]["missing"] and "setfit: left out" in done.stdout
    assert "| Likewise |" in done.stdout and (tmp_path / "bulk-sample.png").stat().st_size > 1000
    before = path.read_bytes()
    assert "bulk-sample: done before" in quick_benchmark("bulk", tmp_path, *given).stderr
    assert path.read_bytes() == before


def test_documents_join_texts_of_one_label() -> None:
    part = Part(["one " * 100 + "a", "two " * 250 + "b", "three " * 250 + "a"], [("a",), ("b",), ("a",)])
    joined = documents(part)
    assert sorted(label for (label,) in joined.labels) == ["a", "b"]
    for text, (label,) in zip(joined.texts, joined.labels, strict=True):
        assert text.split()[-1] == label and len(text.split()) <= 400


def test_a_page_without_results_is_empty(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
