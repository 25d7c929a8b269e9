"""Search alone: exact kinds agree, and the page tells who is missing."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.search import section

from quick_runs import quick_benchmark


def test_a_quick_run_compares_the_exact_kinds(tmp_path: Path) -> None:
    done = quick_benchmark("search", tmp_path)
    found = json.loads((tmp_path / "search-0001000-032.json").read_text())["found"]
    assert found["Likewise's index"]["recall"] == found["matrix product"]["recall"] == 1
    assert "faiss: left out" in found["FAISS flat"]["missing"] and "faiss: left out" in done.stdout
    assert "| 1,000 | 32 | Likewise's index |" in done.stdout


def test_a_page_without_results_is_empty(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
