"""The page of `experiments.retrofit`, from its runs' JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.paper import PAGE, curves, mean_and_deviation, table

Found = dict[str, Any]
MEASURES = {"ami": "AMI", "ari": "ARI", "fms": "FMS", "mrr": "MRR", "p_at_1": "P@1", "map_at_r": "MAP@R"}


def write(folder: Path, command: str) -> None:
    """Make the page anew, with its plots."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    parts = [_head(found, command), _encoders(found), _tasks(found), _shares(found, folder)]
    (folder / PAGE).write_text("\n".join(part for part in parts if part), encoding="utf-8")


def _head(found: Sequence[Found], command: str) -> str:
    hours = sum(run["wall_seconds"] or 0 for run in found) / 3600
    halted = sum(run["wall_seconds"] is None for run in found)  # for other measurements: their times say nothing
    without = f" (without {halted} that were halted meanwhile)" if halted else ""
    machines = "; ".join(sorted({run["machine"] for run in found}))
    seeds = ", ".join(str(seed) for seed in sorted({run["seed"] for run in found}))
    return f"""# Retrofitting

Last command: {command}. Seeds: {seeds}. {len(found)} runs, {hours:.1f} hours of wall time in all{without}, on
{machines}, shared with other work.

The summary of the paper that there is gives no tables, so no figures stand beside ours; it claims about a percent of F1
for sentiment and sarcasm, and more with few examples. Its temperature, weight of preservation and epochs are not in it
either; ours are those of the recipe `retrofit` where a row does not name others.
"""


def _grouped(runs: Sequence[Found], key: Callable[[Found], Any]) -> dict[Any, list[Found]]:
    out: dict[Any, list[Found]] = {}
    for run in runs:
        out.setdefault(key(run), []).append(run)
    return out


def _encoders(found: Sequence[Found]) -> str:
    runs = [run for run in found if run["kind"] == "encoder"]
    if not runs:
        return ""
    order = ["before", "retrofitted", "transfer", "before, mean", "retrofitted, mean", "transfer, mean"]
    rows = []
    by_name = _grouped(runs, lambda run: run["variant"])
    for name in sorted(by_name, key=lambda name: (order.index(name) if name in order else len(order), name)):
        its = by_name[name]
        measured = [mean_and_deviation([run[measure] for run in its]) for measure in (*MEASURES, "delta")]
        rows.append([name, its[0]["pooling"], *measured, len(its)])
    first = runs[0]
    return (
        f"## Encoders\n\n{first['rows']:,} test rows with one emotion, by {first['encoder']}. AMI, ARI, FMS: k-means "
        "with as many clusters as\nlabels against the labels. MRR, P@1, MAP@R: each row's nearest others by cosine. "
        "delta: the mean Euclidean distance\nbetween a row's embedding before and after; by the mean of tokens rows "
        f"have a length of {first['norm_before']:.1f} or so.\n\n"
        + table(["encoder", "pooling", *MEASURES.values(), "delta", "seeds"], rows)
    )


def _tasks(found: Sequence[Found]) -> str:
    runs = [run for run in found if run["kind"] == "task" and run["share"] == 1]
    if not runs:
        return ""
    rows = []
    for (task, start), its in _grouped(runs, lambda run: (run["task"], run["start"])).items():
        tuned = [mean_and_deviation([run["fine-tuned"][voice] for run in its]) for voice in ("head", "blend")]
        frozen = [
            mean_and_deviation([run["as it is"][voice] for run in its]) if "as it is" in its[0] else ""
            for voice in ("neighbours", "head", "blend")
        ]
        rows.append([task, start, its[0]["rows"], *tuned, *frozen, len(its)])
    header = ["task", "start", "rows", "fine-tuned: classifier", "with neighbours", "as it is: neighbours", "head",
              "blend", "seeds"]  # fmt: skip
    return (
        "## Other tasks that start from them\n\nMacro-F1 on test. Fine-tuned: recipe `knn-ec` (4 epochs at 1e-4), the "
        "classifier alone and blended with its neighbours.\nAs it is: recipe `frozen` on that encoder. Multitask: the "
        "task and the emotions at once, from the encoder as it came.\n\n" + table(header, rows)
    )


def _shares(found: Sequence[Found], folder: Path) -> str:
    runs = [run for run in found if run["kind"] == "task"]
    out = []
    for task, its in _grouped(runs, lambda run: run["task"]).items():
        if len({run["share"] for run in its}) < 2:
            continue
        lines: dict[str, list[tuple[float, float]]] = {}
        rows = []
        for (start, share), some in sorted(_grouped(its, lambda run: (run["start"], run["share"])).items()):
            cells = []
            for way, voice in (("fine-tuned", "head"), ("as it is", "blend")):
                values = [run[way][voice] for run in some if way in run]
                cells.append(mean_and_deviation(values) if values else "")
                if values:
                    lines.setdefault(f"{start}, {way}", []).append((share, sum(values) / len(values)))
            rows.append([start, f"{share:.0%}", some[0]["rows"], *cells])
        name = f"shares-{task}.png"
        curves(folder / name, f"{task}: shares of its training rows", "share", "macro-F1", lines, log=True)
        header = ["start", "share", "rows", "fine-tuned: classifier", "as it is: blend"]
        out.append(f"### {task}\n\n{table(header, rows)}\n![curves]({name})\n")
    return "\n".join(["## Few examples\n", *out]) if out else ""
