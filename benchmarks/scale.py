"""A ledger of a million examples: what opening, answering, teaching and the past cost.

    python -m benchmarks.scale                       a million examples, some minutes and 4 GB of disk
    python -m benchmarks.scale --examples 20000      fewer

The model is fitted to the bundled sample (recipe frozen) and keeps embeddings as float16; the examples are synthetic,
384-dimensional, around as many centres as there are topics. Each step runs in a process of its own, so that its time
and its memory are its own. The result goes to benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from experiments.running import machine

from likewise.bundle import Layout
from likewise.datastore.ledger import Ledger, NewExample
from likewise.fitting import fit
from likewise.model import Model
from likewise.sample import load
from likewise.settings import Settings

RESULTS = Path(__file__).parent / "results"
CHUNK = 20_000
BEHIND = 1000
ASKED = "where is my parcel"
NOISE = 0.6  # of a synthetic embedding, against its centre of length 1


def main() -> None:
    """Run all steps, or, called by itself, one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the model is made and left")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(_measured(STEPS[given.step], given.folder / "model", given.examples)))
        return
    folder = given.folder or Path(tempfile.mkdtemp(prefix="likewise-scale-"))
    found: dict[str, Any] = {"examples": given.examples, "machine": machine()}
    try:
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.scale", "--step", step, "--folder", str(folder)]
            done = subprocess.run([*command, "--examples", str(given.examples)], check=True, stdout=subprocess.PIPE)
            found[step] = json.loads(done.stdout)
            print(step, found[step], file=sys.stderr, flush=True)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "scale.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _measured(step: Callable[[Path, int], dict[str, float]], path: Path, examples: int) -> dict[str, float]:
    found = step(path, examples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    return {**{name: round(value, 4) for name, value in found.items()}, "peak_mib": round(peak)}


def _timed(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _build(path: Path, examples: int) -> dict[str, float]:
    texts, topics = load("train")
    with fit(texts, topics, recipe="frozen", settings=Settings(storage="float16")) as model:
        model.save(path)
        fingerprint = str(model.info.fit["fingerprint"])
    rng = np.random.default_rng(0)
    labels = sorted(set(topics))
    centres = rng.normal(size=(len(labels), 384))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def fill() -> None:
        with Ledger.open(Layout(path).datastore) as ledger:
            for start in range(0, examples, CHUNK):
                count = min(CHUNK, examples - start)
                which = rng.integers(len(labels), size=count)
                vectors = centres[which] + NOISE * rng.normal(size=(count, 384)) / np.sqrt(384)
                vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
                new = [
                    NewExample(f"synthetic text {start + i}", (labels[which[i]],), None, vectors[i])
                    for i in range(count)
                ]
                ledger.teach(new, fingerprint, on_conflict="both")

    seconds = _timed(fill)
    return {"teaching_all_s": seconds, "ledger_mib": Layout(path).datastore.stat().st_size / 2**20}


def _rebuild(path: Path, examples: int) -> dict[str, float]:
    """Open without a snapshot."""
    Layout(path).snapshot.unlink(missing_ok=True)
    return _first(path, "rebuild")


def _open(path: Path, examples: int) -> dict[str, float]:
    """Open from a snapshot, answer, teach, answer, and look back."""
    found: dict[str, float] = {}
    started = time.monotonic()
    with Model.open(path) as model:
        found["opening_s"] = time.monotonic() - started
        found["first_answer_s"] = _timed(lambda: model.classify(ASKED))
        found["answer_s"] = min(_timed(lambda: model.classify(ASKED)) for _ in range(5))
        before = model.revision
        found["teach_s"] = _timed(lambda: model.teach(f"where is it {time.time_ns()}", "delivery"))
        found["answer_after_teach_s"] = _timed(lambda: model.classify(ASKED))

        def back() -> None:
            with model.as_of(before) as past:
                past.classify(ASKED)

        found["as_of_s"] = _timed(back)
    return found


def _behind(path: Path, examples: int) -> dict[str, float]:
    """Open from a snapshot that does not know the last changes."""
    with Ledger.open(Layout(path).datastore) as ledger:
        fingerprint = str(json.loads(Layout(path).manifest.read_text())["fit"]["fingerprint"])
        rng = np.random.default_rng(time.time_ns())
        vectors = rng.normal(size=(BEHIND, 384)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        stamp = time.time_ns()
        ledger.teach(
            [NewExample(f"later {stamp} {i}", ("delivery",), None, vector) for i, vector in enumerate(vectors)],
            fingerprint,
        )
    return _first(path, "catching_up")


def _first(path: Path, name: str) -> dict[str, float]:
    started = time.monotonic()
    with Model.open(path) as model:
        model.classify(ASKED)
        found = {f"{name}_and_first_answer_s": time.monotonic() - started}
        started = time.monotonic()
    found["closing_s"] = time.monotonic() - started
    return found


STEPS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "build": _build,
    "rebuild": _rebuild,
    "open": _open,
    "behind": _behind,
}


def section(results: Path = RESULTS) -> str:
    """The part of docs/results.md about scale; empty without results."""
    path = results / "scale.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        (f"teaching all of them, in portions of {CHUNK:,}", f"{found['build']['teaching_all_s']:.0f} s", "build"),
        ("opening without a snapshot (index and head made afresh), first answer",
         f"{found['rebuild']['rebuild_and_first_answer_s']:.1f} s", "rebuild"),
        ("opening from a snapshot", f"{found['open']['opening_s']:.1f} s", "open"),
        ("first answer after that", f"{found['open']['first_answer_s']:.2f} s", "open"),
        ("an answer", f"{found['open']['answer_s'] * 1000:.0f} ms", "open"),
        ("teaching one example", f"{found['open']['teach_s'] * 1000:.0f} ms", "open"),
        ("the answer after it", f"{found['open']['answer_after_teach_s'] * 1000:.0f} ms", "open"),
        ("an answer as of the revision before, with opening it", f"{found['open']['as_of_s']:.1f} s", "open"),
        (f"opening from a snapshot {BEHIND:,} examples behind, first answer",
         f"{found['behind']['catching_up_and_first_answer_s']:.1f} s", "behind"),
    ]  # fmt: skip
    lines = [f"| {what} | {value} | {found[step]['peak_mib']:,} MiB |" for what, value, step in rows]
    return (
        f"## A ledger of {found['examples']:,} examples\n\n"
        "Synthetic embeddings of 384 dimensions, stored as float16; each step in a process of its own: "
        f"`python -m benchmarks.scale`, {found['machine']}. The file of the ledger has "
        f"{found['build']['ledger_mib']:,.0f} MiB.\n\n"
        "| what | time | peak memory of the process |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
