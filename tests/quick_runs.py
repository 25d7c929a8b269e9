"""An experiment of a paper or a benchmark, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(paper: str, *given: str, package: str = "experiments", **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m experiments.PAPER`, without a network, in one thread: several would wait for one another."""
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", f"{package}.{paper}", *given],
        cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, **quiet, **environment},
    )  # fmt: skip


def quick_run(paper: str, folder: Path, **environment: str) -> tuple[Path, str]:
    """A quick run with its results in `folder`: that, and what it printed. It neither fails nor warns."""
    done = run(paper, "--quick", "--results", str(folder), **environment)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return folder, done.stdout


def quick_benchmark(name: str, folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    """A quick run of a benchmark where no peer is installed, with the models of those before. It does not fail."""
    asked = ["--quick", "--results", str(folder), "--peers", str(folder / "no peers"), *given]
    done = run(name, *asked, package="benchmarks", LIKEWISE_EXPERIMENT_WORK=str(folder.parent / "models"))
    assert done.returncode == 0, done.stderr
    return done
