"""Linear algebra in one thread, and in as many as before afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import ThreadpoolController

from likewise.machine import one_thread, threads_for

blas = ThreadpoolController().select(user_api="blas")


def threads():
    return {library["num_threads"] for library in blas.info()}


def work(seed):
    matrix = np.random.default_rng(seed).normal(size=(64, 64))
    with one_thread():
        np.linalg.solve(matrix, matrix)
        return threads()


print(threads(), work(0), threads())
for multiplications in (1000, 10**9):
    with threads_for(multiplications):
        work(0)
        print(threads())
with ThreadPoolExecutor(8) as pool:
    print(*set(map(frozenset, pool.map(work, range(200)))), threads())
"""


def test_one_thread_where_that_serves_and_then_as_many_as_before() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["{2} {1} {2}", "{1}", "{2}", "frozenset({1}) {2}"]
