"""All benchmarks, and the page that holds what they found: benchmarks/results/README.md.

    python -m benchmarks --data FOLDER      what is not there yet is measured; a run that was cut off goes on
    python -m benchmarks --page             the page alone

Arguments are those of each benchmark (`python -m benchmarks.bulk --help`); `scale` runs by itself.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks import bulk, cold_start, fit, limit, load, precision, search, single, teach
from benchmarks.measuring import arguments

PARTS = {
    "limit": limit, "precision": precision, "search": search, "bulk": bulk, "single": single, "cold_start": cold_start,
    "load": load, "teach": teach, "fit": fit,
}  # fmt: skip
HEAD = """\
# Likewise and its peers, side by side

Made by `make bench` (`python -m benchmarks --page` makes this page again from the files beside it). Contestants take
turns in each round, each in a process of its own; figures are medians over the rounds with the lowest and highest in
brackets; ratios are of medians, with the lowest and highest of the rounds. The first round is not counted. Everybody
has the same texts, the same encoder, the same greatest length and the same cores, and otherwise its own defaults.
"ONNX" and "OpenVINO" are the backends that sentence-transformers' documentation offers for CPUs, through optimum, as it
exports them (OpenVINO then calculates in bfloat16 where the processor has it). adaptive-classifier's default is ONNX.
What it means is told in [docs/performance.md](../../docs/performance.md).
"""


def main() -> None:
    """Run each in a process of its own, with the arguments given, and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--page", action="store_true", help="make the page, measure nothing")
    given = parser.parse_args()
    failed = []
    if not given.page:
        for name in PARTS:
            done = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], stdout=subprocess.DEVNULL
            )
            if done.returncode:
                failed.append(name)
    given.results.mkdir(parents=True, exist_ok=True)
    sections = [part.section(given.results) for part in PARTS.values()]
    (given.results / "README.md").write_text("\n".join([HEAD, *filter(None, sections)]), encoding="utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; its message stands above, the same command goes on from there")


if __name__ == "__main__":
    main()
