"""The page of `experiments.multilabel_knn`, from its runs' JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.paper import PAGE, curves, mean_and_deviation, table

Found = dict[str, Any]
BASE, CONTRAST, WITHOUT_BETA = "without contrast", "with contrast", "without beta"

# The paper's figures by data set and network. Table 4, micro-F1 in percent: base, +kNN, +CL, both.
PAPER = {
    ("aapd", "cnn"): ("69.60", "70.19", "69.43", "71.69"), ("rcv1-v2", "cnn"): ("83.76", "85.21", "83.84", "86.14"),
    ("aapd", "ldgn"): ("70.59", "70.73", "70.44", "71.38"), ("rcv1-v2", "ldgn"): ("86.00", "86.76", "86.51", "87.29"),
    ("aapd", "transformer"): ("74.03", "74.22", "73.85", "75.18"),
    ("rcv1-v2", "transformer"): ("87.54", "87.84", "87.74", "88.36"),
}  # fmt: skip
# Table 3, hamming loss: base, and with both.
PAPER_HAMMING = {
    ("aapd", "cnn"): ("0.02378", "0.02248"), ("rcv1-v2", "cnn"): ("0.00946", "0.00824"),
    ("aapd", "ldgn"): ("0.02478", "0.02296"), ("rcv1-v2", "ldgn"): ("0.00863", "0.00768"),
    ("aapd", "transformer"): ("0.02257", "0.02167"), ("rcv1-v2", "transformer"): ("0.00766", "0.00715"),
}  # fmt: skip
# Table 5, micro-F1 in percent: without beta, and with it.
PAPER_BETA = {
    ("aapd", "cnn"): ("71.19", "71.69"), ("rcv1-v2", "cnn"): ("85.27", "86.14"),
    ("aapd", "ldgn"): ("71.06", "71.38"), ("rcv1-v2", "ldgn"): ("86.78", "87.29"),
    ("aapd", "transformer"): ("74.66", "75.18"), ("rcv1-v2", "transformer"): ("88.08", "88.36"),
}  # fmt: skip
# Table 6, share of labels in percent: without contrast, and with it.
PAPER_SHARED = {
    ("aapd", "cnn"): ("64.5", "65.5"), ("rcv1-v2", "cnn"): ("82.7", "84.2"),
    ("aapd", "ldgn"): ("63.1", "64.2"), ("rcv1-v2", "ldgn"): ("84.4", "84.9"),
    ("aapd", "transformer"): ("67.8", "68.5"), ("rcv1-v2", "transformer"): ("85.5", "86.4"),
}  # fmt: skip


def write(folder: Path, command: str) -> None:
    """Make the page anew, with its plots."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    runs = list(found.values())
    sections = [_head(runs, command), _ablation(runs), _beta(runs), _sweeps(runs, folder), _neighbours(runs),
                _costs(runs), _gammas(runs), _maps(found)]  # fmt: skip
    (folder / PAGE).write_text("\n".join(sections), encoding="utf-8")


def _head(runs: Sequence[Found], command: str) -> str:
    hours = sum(run["wall_seconds"] for run in runs) / 3600
    machines = "; ".join(sorted({run["machine"] for run in runs}))
    encoders = ", ".join(sorted({run["encoder"] for run in runs}))
    return f"""# Multi-label kNN

Last command: {command}. {len(runs)} runs, {hours:.1f} hours of wall time in all, on {machines}, shared with other work.

Transformer: {encoders}, the paper's is bert-base; CNN: as the paper's, Kim 2014; LDGN: Ma et al. 2021, its words from
nothing and not GloVe's. The paper's data sets, AAPD and RCV1-V2, are read where a user has them. "The paper's values":
k 5 (RCV1-V2: 10), lambda 0.5, T 1, a threshold of a half; "chosen": by the recipe, on dev rows, thresholds too, so
there for the blend alone. Batches hold 128 texts; the contrastive loss is a sum over them. Learning rates: 1e-3 for CNN
and LDGN, as the paper has it for all, 1e-4 for the transformer.
"""


def _of(runs: Sequence[Found], *variants: str) -> dict[tuple[str, str], dict[str, list[Found]]]:
    """By data set and network, the runs of each of these variants; only where all of them are there."""
    out: dict[tuple[str, str], dict[str, list[Found]]] = {}
    for run in runs:
        if run["variant"] in variants:
            out.setdefault((run["data"], run["network"]), {}).setdefault(run["variant"], []).append(run)
    return {key: its for key, its in sorted(out.items()) if set(its) == set(variants)}


def _mean(runs: Sequence[Found], read: Callable[[Found], float]) -> str:
    return mean_and_deviation([read(run) for run in runs])


def _ablation(runs: Sequence[Found]) -> str:
    rows = []
    for (data, network), its in _of(runs, BASE, CONTRAST).items():
        paper = PAPER.get((data, network), ("", "", "", ""))
        lost = dict(zip(("base", "both"), PAPER_HAMMING.get((data, network), ()), strict=False))
        ways = (("base", BASE, "head"), ("+kNN", BASE, "blend"), ("+CL", CONTRAST, "head"), ("both", CONTRAST, "blend"))
        for (name, variant, voice), theirs in zip(ways, paper, strict=True):
            some = its[variant]
            cells = [
                _mean(some, lambda run, values=values, voice=voice, measure=measure: run[values][voice][measure])  # type: ignore[misc]
                for values in ("paper", "tuned")
                if values == "paper" or voice == "blend"
                for measure in ("micro_f1", "hamming_loss")
            ]
            theirs_lost = lost.get(name, "")
            rows.append([data, network, name, *cells, *([""] * (4 - len(cells))), theirs, theirs_lost, len(some)])
    header = ["data", "network", "", "the paper's values: micro-F1", "hamming loss", "chosen: micro-F1", "hamming loss",
              "paper: micro-F1, %", "hamming loss", "seeds"]  # fmt: skip
    return "## Tables 3 and 4: network, neighbours, contrast\n\n" + table(header, rows)


def _beta(runs: Sequence[Found]) -> str:
    rows = [
        [data, network, *(_mean(its[variant], lambda run: run["paper"]["blend"]["micro_f1"])
                          for variant in (WITHOUT_BETA, CONTRAST)), *PAPER_BETA.get((data, network), ("", ""))]
        for (data, network), its in _of(runs, WITHOUT_BETA, CONTRAST).items()
    ]  # fmt: skip
    if not rows:
        return ""
    text = "Micro-F1 of network and neighbours, the paper's values.\n\n"
    header = ["data", "network", "without", "with", "paper: without, %", "with, %"]
    return "## Table 5: the dynamic coefficient\n\n" + text + table(header, rows)


def _sweeps(runs: Sequence[Found], folder: Path) -> str:
    shown = []
    for key, x in (("ks", "k"), ("lambdas", "lambda")):
        lines = {
            f"{data}, {network}": [(point[0], sum(run[key][i][1] for run in its[CONTRAST]) / len(its[CONTRAST]))
                                   for i, point in enumerate(its[CONTRAST][0][key])]
            for (data, network), its in _of(runs, CONTRAST).items()
        }  # fmt: skip
        if lines:
            curves(folder / f"figure2-{x}.png", f"With contrast, over {x}", x, "micro-F1", lines, log=key == "ks")
            shown.append(f"![{x}](figure2-{x}.png)\n")
    return "\n".join(["## Figure 2: k and lambda, the other values being the paper's\n", *shown])


def _neighbours(runs: Sequence[Found]) -> str:
    rows = [
        [data, network, *(_mean(its[variant], lambda run: run["shared"]) for variant in (BASE, CONTRAST)),
         *PAPER_SHARED.get((data, network), ("", ""))]
        for (data, network), its in _of(runs, BASE, CONTRAST).items()
    ]  # fmt: skip
    text = "Of all labels that the nearest bring, the share that the text bears; texts without labels left out.\n\n"
    header = ["data", "network", "without", "with contrast", "paper: without, %", "with contrast, %"]
    return "## Table 6: labels of neighbours\n\n" + text + table(header, rows)


def _costs(runs: Sequence[Found]) -> str:
    rows = []
    for (data, network), its in _of(runs, CONTRAST).items():
        some = its[CONTRAST]
        times = [_mean(some, lambda run, way=way: run["milliseconds"][way]) for way in ("without", "with")]  # type: ignore[misc]
        rows.append([data, network, some[0]["train"], f"{some[0]['disk'] / 1e6:.1f}", *times, some[0]["fit_seconds"]])
    header = ["data", "network", "rows", "datastore, MB", "ms a text without neighbours", "with", "fit, s"]
    text = "Datastore: ledger with texts and history, and index. Texts one by one.\n\n"
    return "## Tables 7 and 8: disk and time\n\n" + text + table(header, rows)


def _gammas(runs: Sequence[Found]) -> str:
    rows = [
        [run["data"], run["network"], f"{run['gamma']:g}", run["paper"]["head"]["micro_f1"],
         run["paper"]["blend"]["micro_f1"], run["tuned"]["blend"]["micro_f1"], run["seed"]]
        for run in sorted(runs, key=lambda run: (run["data"], run["network"], run["gamma"], run["seed"]))
        if run["variant"] != WITHOUT_BETA
    ]  # fmt: skip
    header = ["data", "network", "gamma", "network alone", "with neighbours", "with neighbours, chosen", "seed"]
    return "## Appendix D: the weight of contrast\n\nMicro-F1.\n\n" + table(header, rows)


def _maps(found: dict[str, Found]) -> str:
    shown = [f"![{name}]({name}-map.png)\n" for name, run in found.items() if run["variant"] in (BASE, CONTRAST)]
    return "\n".join(["## Figure 3: a text and its neighbours, without contrast and with it\n", *shown])
