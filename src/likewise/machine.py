"""What this process has of the machine. Imports nothing, so that it can be asked before NumPy is loaded."""

from __future__ import annotations

import os


def cores() -> int:
    """How many cores this process, and those that it starts, may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
