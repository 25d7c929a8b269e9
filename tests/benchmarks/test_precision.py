"""What lower precisions do to scores and probabilities."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.precision import section

from likewise.encoding.sessions import multiplies_bfloat16
from quick_runs import quick_benchmark


def test_a_quick_run_compares_precisions_and_the_model_elsewhere(tmp_path: Path) -> None:
    done = quick_benchmark("precision", tmp_path)
    assert done.stdout.count("| sample |") == 1 + multiplies_bfloat16()
    for lower in ("int8", *(["bf16"] if multiplies_bfloat16() else [])):
        assert f"macro-F1 in {lower}" in done.stdout
        found = json.loads((tmp_path / f"precision-{lower}-sample.json").read_text())
        assert set(found["macro_f1"]) == {"fp32", "lower", "elsewhere"}
        assert 0 < found["moved"]["max"] < 0.3
        assert found["moved"]["median"] <= found["moved"]["p99"] <= found["moved"]["max"]


def test_a_page_without_results_is_empty(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
