"""Each benchmark runs on the bundled data where no peer is installed, says who is missing, and makes its page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bulk, cold_start, fit, limit, search, single, teach

ROOT = Path(__file__).parents[2]


def quick(name: str, folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    """A quick run, as a user would start it, in one thread and with no peers."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--results", str(folder)]
    done = subprocess.run(
        [*command, "--peers", str(folder / "no peers"), *given], cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def result(folder: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_bulk(tmp_path: Path) -> None:
    done = quick("bulk", tmp_path, "--contestants", "setfit", "logistic-onnx", "--only", "sample")
    for peer in ("setfit", "logistic-onnx"):
        assert f"{peer}: left out" in done.stderr and "make bench" in done.stderr
    found = result(tmp_path, "bulk-sample")["found"]
    assert 0.5 < found["likewise"]["score"]["accuracy"] <= 1  # it answered the texts that it was asked
    assert found["likewise"]["rate"]["low"] <= found["likewise"]["rate"]["median"] <= found["likewise"]["rate"]["high"]
    assert len(found["likewise"]["rate"]["rounds"]) == 2
    assert "left out" in found["setfit"]["missing"]
    assert "| Likewise |" in done.stdout and (tmp_path / "bulk-sample.png").stat().st_size > 1000
    before = (tmp_path / "bulk-sample.json").read_bytes()
    assert "done before" in quick("bulk", tmp_path, "--only", "sample").stderr
    assert (tmp_path / "bulk-sample.json").read_bytes() == before


@pytest.mark.parametrize("name", ["single", "cold_start", "teach", "limit"])
def test_a_quick_run(name: str, tmp_path: Path) -> None:
    done = quick(name, tmp_path, "--contestants", "adaptive" if name != "limit" else "likewise")
    assert "| Likewise |" in done.stdout
    if name != "limit":
        assert "adaptive: left out" in done.stderr and "adaptive: left out" in done.stdout


def test_search(tmp_path: Path) -> None:
    done = quick("search", tmp_path)
    found = result(tmp_path, "search-0001000-032")["found"]
    assert found["Likewise's index"]["recall"] == found["matrix product"]["recall"] == 1
    assert "missing" in found["FAISS flat"]
    assert "| 1,000 | 32 | Likewise's index |" in done.stdout


def test_fit(tmp_path: Path) -> None:
    done = quick("fit", tmp_path)
    found = result(tmp_path, "fit-sample-3-frozen")["found"]["likewise"]
    assert found["curve"][-1] == [round(found["seconds"], 1), found["dev"]["macro_f1"]]
    assert found["kept"] == "frozen"
    assert "setfit: left out" in done.stderr and "| Likewise, recipe frozen |" in done.stdout


def test_pages_without_results_are_empty(tmp_path: Path) -> None:
    assert [part.section(tmp_path) for part in (bulk, cold_start, fit, limit, search, single, teach)] == [""] * 7
