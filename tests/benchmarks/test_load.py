"""The service under load: clients, a writer, and what they saw."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.load import section

from quick_runs import quick_benchmark


def test_a_quick_run_answers_and_teaches(tmp_path: Path) -> None:
    done = quick_benchmark(
        "load", tmp_path, "--contestants", "likewise-taught", "setfit", "--clients", "2", "--workers", "1"
    )
    assert "| Likewise, taught meanwhile |" in done.stdout
    assert "setfit: left out" in done.stderr
    found = json.loads((tmp_path / "load-1.json").read_text())["found"]
    for name in ("likewise", "likewise-taught"):
        facts = found[name]["2"]
        assert facts["requests"]["median"] > 0 and facts["failed"]["high"] == 0
        assert 0 < facts["p50"]["median"] <= facts["p99"]["median"]
    assert found["likewise"]["2"]["taught"]["high"] == 0
    assert found["likewise-taught"]["2"]["taught"]["low"] > 0


def test_a_page_without_results_is_empty(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
