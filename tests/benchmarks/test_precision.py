"""What bfloat16 does to scores and probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.precision import section

from likewise.encoding.sessions import multiplies_bfloat16
from quick_runs import quick_benchmark


@pytest.mark.skipif(not multiplies_bfloat16(), reason="the processor does not multiply bfloat16")
def test_a_quick_run_compares_both_and_the_model_elsewhere(tmp_path: Path) -> None:
    done = quick_benchmark("precision", tmp_path)
    assert "| sample |" in done.stdout
    found = json.loads((tmp_path / "precision-sample.json").read_text())
    assert set(found["macro_f1"]) == {"fp32", "bf16", "elsewhere"}
    assert 0 < found["moved"]["max"] < 0.1
    assert found["moved"]["median"] <= found["moved"]["p99"] <= found["moved"]["max"]


def test_a_page_without_results_is_empty(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
