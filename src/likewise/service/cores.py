"""How the processes of a service share the cores. Imported before NumPy, whose libraries read the environment once."""

from __future__ import annotations

import os
from dataclasses import replace

from likewise.machine import cores
from likewise.settings import Settings

_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def shared(settings: Settings) -> Settings:
    """The settings with as many threads as each worker has cores, unless they say otherwise.

    Linear algebra keeps to that as well, here and in the processes that are started from here.
    """
    threads = settings.threads or max(1, cores() // settings.http_workers)
    for name in _LIMITS:
        os.environ.setdefault(name, str(threads))
    return replace(settings, threads=threads)
