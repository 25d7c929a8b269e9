"""What every experiment shares: its arguments, the data sets that are there, one result file a run, the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.data import Missing, Part, read
from likewise.progress import Progress


class Quiet(Progress):
    """Says nothing, not even what is worth a warning: the data are as they are."""

    def warn(self, message: str) -> None:
        """Nothing."""


def arguments(description: str | None, results: Path) -> argparse.ArgumentParser:
    """Where the data sets are, which of them, and where the results go."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("LIKEWISE_EXPERIMENT_DATA")
    parser.add_argument("--data", type=Path, default=Path(folder) if folder else None, help="folder of the data sets")
    parser.add_argument("--only", help="one data set")
    parser.add_argument("--results", type=Path, default=results)
    return parser


def parts(folder: Path | None, names: Iterable[str], *which: str) -> Iterator[tuple[str, list[Part | None]]]:
    """These parts ("train", "dev", "test") of each data set that is there; of the others it says that they are not."""
    for name in names:
        try:
            yield name, [read(folder, name, one) for one in which]
        except Missing as missing:
            print(missing, file=sys.stderr)


def once(path: Path, job: Callable[[], dict[str, Any]]) -> None:
    """Do a job and write what it found, with its wall time, the machine and the commit; nothing where that is there."""
    if path.exists():
        print(f"{path.stem}: done before", file=sys.stderr)
        return
    print(f"{path.stem} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    found = {**job(), "wall_seconds": round(time.monotonic() - started, 1), "machine": machine(), "commit": commit()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{path.stem}: {found['wall_seconds']} s {found.get('short', '')}", file=sys.stderr, flush=True)


def kept_work() -> Path | None:
    """The folder LIKEWISE_EXPERIMENT_WORK, where models are kept for later runs; None where that is not set."""
    named = os.environ.get("LIKEWISE_EXPERIMENT_WORK")
    return Path(named) if named else None


def commit() -> str:
    """What the working tree stands on."""
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def machine() -> str:
    """Cores, processor and graphics processor, as far as the system tells."""
    names = [
        line.split(":", 1)[1].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else [])
        if line.startswith("model name")
    ]
    cores = f"{os.cpu_count()} cores, {names[0] if names else platform.processor() or platform.machine()}"
    if shutil.which("nvidia-smi") is None:
        return cores
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")[0]
    return f"{cores}, {found}" if found else cores
