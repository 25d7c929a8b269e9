"""The experiment of the main job runs on the bundled data, and its page holds what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_quick_run_scores_and_reports(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.main_job", "scores", "--quick", "--results", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "scores-sample-0.json").read_text())
    blend = result["test"]["blend"]["accuracy"]
    assert 0.75 <= blend <= 0.95  # what the sample data were written for
    assert f"{result['test']['blend']['macro_f1']:.3f}" in done.stdout
    assert result["difference"]["standard_error"] > 0


def test_a_missing_data_set_is_skipped_with_a_word(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.main_job", "scores", "--data", str(tmp_path), "--results", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.count("skipped") == 4
    assert not list(tmp_path.glob("*.json"))
