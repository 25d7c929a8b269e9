"""From teaching to the changed answer, with few examples held."""

from __future__ import annotations

from pathlib import Path

from benchmarks.teach import section

from quick_runs import quick_benchmark


def test_a_quick_run_measures_and_says_who_is_missing(tmp_path: Path) -> None:
    done = quick_benchmark("teach", tmp_path, "--contestants", "adaptive")
    assert "| Likewise |" in done.stdout
    assert "adaptive: left out" in done.stderr and "adaptive: left out" in done.stdout
    assert section(tmp_path).strip() == done.stdout.strip()


def test_a_page_without_results_is_empty(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
