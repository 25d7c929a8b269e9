"""What this process has of the machine, and takes of it. Does not load NumPy, which reads the environment once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any


def cores() -> int:
    """How many cores this process, and those that it starts, may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy's linear algebra calculate in one thread, which for small matrices is as fast as several.

    Several wait for one another at every step; where other processes want the cores, a system of 384 equations then
    takes sixty times as long. The number of threads is the whole process's: one block at a time has it, and search
    by another thread may be slower meanwhile.
    """
    with _limiting, _libraries().limit(limits=1, user_api="blas"):
        yield


def threads_for(multiplications: int) -> AbstractContextManager[None]:
    """Let NumPy's linear algebra do so many multiplications in as many threads as serves the whole.

    That is one where they are few. The others wait for more work by spinning, and so take a core from the encoder of
    the next text: a millisecond in all, which is what they save where there are many.
    """
    return one_thread() if multiplications < _MANY else nullcontext()


_MANY = 10_000_000
_limiting = threading.RLock()


@cache
def _libraries() -> Any:
    """The libraries of linear algebra that this process has loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
