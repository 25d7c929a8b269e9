"""One text at a time, on the bundled data."""

from __future__ import annotations

from pathlib import Path

from benchmarks.single import section

from quick_runs import quick_benchmark


def test_a_quick_run_measures_and_says_who_is_missing(tmp_path: Path) -> None:
    done = quick_benchmark("single", tmp_path, "--contestants", "adaptive")
    assert "| Likewise |" in done.stdout
    assert "adaptive: left out" in done.stderr and "adaptive: left out" in done.stdout
    assert section(tmp_path).strip() == done.stdout.strip()


def test_a_page_without_results_is_empty(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
