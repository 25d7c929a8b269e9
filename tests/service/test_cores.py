"""How the processes of a service share the cores."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from likewise.service.cores import shared
from likewise.settings import Settings


def test_workers_share_the_cores_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is put back even where it was unset: `shared` sets it
        monkeypatch.delenv(name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert shared(Settings(threads=3, http_workers=2)).threads == 3
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert shared(Settings(http_workers=1)).threads == cores
    assert shared(Settings(http_workers=10_000)).threads == 1
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"  # what the user or an earlier call said stays


def test_nothing_that_reads_the_environment_once_is_imported_before() -> None:
    loaded = "sorted({'numpy', 'onnxruntime'} & set(sys.modules))"
    program = f"import sys, likewise.service.cores, likewise.cli; print({loaded})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
