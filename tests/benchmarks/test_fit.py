"""Fits against the clock, on few rows."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.fit import section, split
from experiments.data import read

from quick_runs import quick_benchmark


def test_a_quick_run_fits_and_says_who_is_missing(tmp_path: Path) -> None:
    done = quick_benchmark("fit", tmp_path)
    found = json.loads((tmp_path / "fit-sample-3-frozen.json").read_text())["found"]["likewise"]
    assert found["curve"][-1] == [round(found["seconds"], 1), found["dev"]["macro_f1"]]
    assert found["kept"] == "frozen"
    assert "setfit: left out" in done.stderr and "| Likewise, recipe frozen |" in done.stdout


def test_dev_rows_are_held_out_of_train() -> None:
    train = read(None, "sample", "train")
    assert train is not None
    rest, dev = split(train)
    assert len(rest) + len(dev) == len(train) and len(dev) >= 90
    assert not set(rest.texts) & set(dev.texts)


def test_a_page_without_results_is_empty(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
