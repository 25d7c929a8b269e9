"""A contestant's process: reads what it is asked line by line, does it, and answers.

python -m benchmarks.contestants NAME
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import resource
import sys
import traceback

from benchmarks.contestants import HOMES, REQUIRED

_SHOWN = (
    "likewise", "setfit", "adaptive-classifier", "sentence-transformers", "transformers", "torch", "scikit-learn",
    "onnxruntime", "openvino", "optimum", "faiss-cpu", "numpy",
)  # fmt: skip


def main() -> None:
    """Serve until standard input ends."""
    name = sys.argv[1]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def say(answer: dict[str, object]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    absent = [module for module in REQUIRED[name] if importlib.util.find_spec(module) is None]
    if absent:
        say({"missing": absent})
        return
    module, kind = HOMES[name]
    contestant = getattr(importlib.import_module(f"benchmarks.contestants.{module}"), kind)(name)
    say({"versions": _versions(name)})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = getattr(contestant, asked["method"])(**asked["given"]) or {}
        except Exception as error:  # whatever it is, it is the other process's to tell
            traceback.print_exc()
            say({"failed": f"{type(error).__name__}: {error}"[:500]})
            continue
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
        say({**answer, "peak_mib": round(peak)})


def _versions(name: str) -> dict[str, str]:
    """Of the packages that matter to it, as far as they are installed."""
    wanted = {module.replace("_", "-") for module in REQUIRED[name]}
    wanted |= {"torch", "transformers"} if "sentence-transformers" in wanted or name.startswith("setfit") else set()
    renamed = {"sklearn": "scikit-learn", "faiss": "faiss-cpu"}
    wanted = {renamed.get(module, module) for module in wanted}
    wanted |= {"likewise"} if name.startswith(("likewise", "index")) else set()
    found = {}
    for package in _SHOWN:
        if package in wanted:
            found[package] = importlib.metadata.version(package)
    return found


if __name__ == "__main__":
    main()
