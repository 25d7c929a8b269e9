"""The encoder's operations a second beside a matrix product's."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.limit import section

from quick_runs import quick_benchmark


def test_a_quick_run_reaches_a_share_of_the_product(tmp_path: Path) -> None:
    done = quick_benchmark("limit", tmp_path, "--contestants", "likewise")
    assert "| Likewise |" in done.stdout
    found = json.loads((tmp_path / "limit.json").read_text())["found"]["likewise"]
    assert 13 <= found["tokens"]["short"] <= 17 and 100 <= found["tokens"]["long"] <= 200
    for figure in ("short", "long", "product"):
        assert found[figure]["median"] > 0


def test_a_page_without_results_is_empty(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
