"""Which mix of objectives, which learning rate and how many epochs serve best, on rows held out of train.

    python -m experiments.schedules --data FOLDER                  every variant, with many, some and few examples
    python -m experiments.schedules --data FOLDER --only trec-6    one data set
    python -m experiments.schedules --data FOLDER --kind some      one of the kinds

One kind hides a class during the fit and teaches it afterwards. The recipe `likewise` was chosen by these and not
on any test split, which is never read here. Each run fits the recipe with one variant in the place of its schedule, on
a part of train, and scores the rest of train once. Every run leaves one JSON file in experiments/results/schedules/;
runs that have theirs are not repeated.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data import Part
from experiments.main_job import MEASURES
from experiments.running import arguments, once, parts
from likewise.decision.splitting import hold_out
from likewise.fitting import fit
from likewise.recipes import LIKEWISE, RECIPES
from likewise.settings import Settings
from likewise.training.schedule import Schedule
from likewise.validation import normalised

RESULTS = Path(__file__).parent / "results" / "schedules"
SETS: dict[str, tuple[str, ...]] = {
    "trec-6": ("many", "some", "some alone", "hidden", "few"),
    "isear": ("many", "some", "some alone", "hidden", "few"),
    "goemotions-ekman": ("some alone",),
}
"""The data sets, and which kinds of runs each is for."""
HELD = 0.2  # share of train that is held out, many examples
FEW_HELD = 1400  # rows that are, some or few examples
DEV = 400  # of those, rows that choose the epoch and the settings where the examples are some
PER_CLASS = {"few": 8, "some": 64, "some alone": 64}

(OWN,), (OWN_FEW,) = LIKEWISE.stages, LIKEWISE.few
MANY: dict[str, Schedule] = {
    "as the recipe": OWN,
    "a classifier from nothing": replace(OWN, probe=False),
    "cross-entropy alone": replace(OWN, alignment=0.0),
    "alignment alone": replace(OWN, cross_entropy=0.0, probe=False),
    "contrastive in place of alignment": replace(OWN, alignment=0.0, contrastive=1.0),
    "2 epochs": replace(OWN, epochs=2),
    "8 epochs": replace(OWN, epochs=8),
    "learning rate 2e-4": replace(OWN, learning_rate=2e-4),
    "label smoothing 0.1": replace(OWN, label_smoothing=0.1),
}
HIDDEN = {variant: MANY[variant] for variant in ("as the recipe", "a classifier from nothing", "2 epochs")}
TAUGHT = {"trec-6": ("ABBR", "DESC", "ENTY"), "isear": ("guilt",)}
SOME: dict[str, Schedule] = {
    "as the recipe": OWN,
    "no least number of steps": replace(OWN, min_steps=0),
}
FEW: dict[str, Schedule] = {
    "as the recipe": OWN_FEW,
    "with cross-entropy": replace(OWN_FEW, cross_entropy=1.0),
    "contrastive in place of alignment": replace(OWN_FEW, alignment=0.0, contrastive=1.0),
    "cross-entropy alone": replace(OWN_FEW, alignment=0.0, cross_entropy=1.0),
}
ALONE: dict[str, Schedule] = {
    "the schedule for many": OWN,
    "the schedule for few": OWN_FEW,
    "the schedule for few with 100 steps": replace(OWN_FEW, min_steps=100),
}
KINDS = {"many": MANY, "some": SOME, "some alone": ALONE, "hidden": HIDDEN, "few": FEW}


def main() -> None:
    """Run what the command line asks for."""
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--kind", choices=tuple(KINDS), help="one of the kinds")
    given = parser.parse_args()
    sets = [name for name in SETS if given.only in (None, name)]
    for name, (train,) in parts(given.data, sets, "train"):
        assert train is not None
        for kind in [given.kind] if given.kind else KINDS:
            if kind not in SETS[name]:
                continue
            for variant, schedule in KINDS[kind].items():
                for hidden in TAUGHT[name] if kind == "hidden" else (None,):
                    named = "-".join(filter(None, (name, kind, hidden, variant))).replace(" ", "-")
                    once(
                        given.results / f"{named}.json",
                        partial(_found, name, train, kind, variant, schedule, hidden),
                    )


def _found(name: str, train: Part, kind: str, variant: str, schedule: Schedule, hidden: str | None) -> dict[str, Any]:
    found = score(name, train, kind, schedule, hidden)
    return {"data": name, "kind": kind, "variant": variant, "hidden": hidden, **found}


def score(name: str, train: Part, kind: str, schedule: Schedule, hidden: str | None = None) -> dict[str, Any]:
    """Fit the recipe with this schedule on a part of train; the measure of the three voices on the rest.

    The kind says how many examples, and whether there are dev rows; `hidden` is a label whose rows are taught after the
    fit.
    """
    per_class, dev = PER_CLASS.get(kind), None
    known, held = few_rows(train, per_class) if per_class else many_rows(train)
    if kind == "some":
        dev, held = held.rows(list(range(DEV))), held.rows(list(range(DEV, len(held))))
    fitted, later = known.hiding(hidden)
    recipe = replace(LIKEWISE, stages=(schedule,), few=(schedule,))
    before = RECIPES[LIKEWISE.name]
    measure = "macro_f1" if kind == "few" else MEASURES.get(name, "macro_f1")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        RECIPES[LIKEWISE.name] = recipe
        try:
            settings = Settings.resolve(measure=measure, seed=0)
            model = fit(
                fitted.texts, fitted.labels, dev=(dev.texts, dev.labels) if dev else None, settings=settings,
                work=Path(work) / "work",
            )  # fmt: skip
        finally:
            RECIPES[LIKEWISE.name] = before
        seconds = time.monotonic() - started
        with model:
            if len(later):
                model.teach(later.texts, later.labels, on_conflict="both")
            scores = model.evaluate(held.texts, held.labels).to_dict()
            kept = model.info.fit["kept"]
    voices = {voice: scores[voice][measure] for voice in ("head", "neighbours", "blend")}
    return {
        **voices, "measure": measure, "fitted": len(fitted), "held": len(held), "kept": kept,
        "seconds": round(seconds, 1),
    }  # fmt: skip


def many_rows(train: Part) -> tuple[Part, Part]:
    """Most of train, and the rest; texts that are equal after normalisation stay on one side."""
    kept, held = hold_out([normalised(text) for text in train.texts], train.labels, HELD, 1)
    return train.rows(kept.tolist()), train.rows(held.tolist())


def few_rows(train: Part, per_class: int) -> tuple[Part, Part]:
    """So many rows of each class, and other rows of train whose texts are not among them."""
    order = np.random.default_rng(100).permutation(len(train)).tolist()  # not one of the draws that test scores
    by_label: dict[tuple[str, ...], list[int]] = {}
    for row in order:
        by_label.setdefault(train.labels[row], []).append(row)
    chosen = [row for labels in sorted(by_label) for row in by_label[labels][:per_class]]
    known = {normalised(train.texts[row]) for row in chosen}
    rest = [row for row in order if normalised(train.texts[row]) not in known]
    return train.rows(chosen), train.rows(rest[:FEW_HELD])


def section(results: Path = RESULTS) -> str:
    """The part of docs/results.md that tells how the recipe was chosen; empty without results."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    parts = []
    titles = {
        "many": "many examples",
        "hidden": "a class hidden during the fit, then taught",
        "some": f"{PER_CLASS['some']} examples a class, with {DEV} dev rows",
        "some alone": f"{PER_CLASS['some alone']} examples a class, without dev rows",
        "few": f"{PER_CLASS['few']} examples a class",
    }
    for kind, variants in KINDS.items():
        for name in sorted({result["data"] for result in found if result["kind"] == kind}):
            runs = [r for r in found if r["kind"] == kind and r["data"] == name and r["variant"] in variants]
            rows = sorted(runs, key=lambda r: (r.get("hidden") or "", list(variants).index(r["variant"])))
            measure, held = rows[0]["measure"], rows[0]["held"]
            best = max(row["blend"] for row in rows)
            error = float(np.sqrt(best * (1 - best) / held))
            lines = ["| variant | head | neighbours | blend | kept | fit, seconds |", "|" + " --- |" * 6]
            lines += [
                f"| {', '.join(filter(None, (row['variant'], row.get('hidden'))))} | {row['head']:.3f} "
                f"| {row['neighbours']:.3f} | {row['blend']:.3f} | {row['kept']} "
                f"| {'-' if row['seconds'] is None else round(row['seconds'])} |"
                for row in rows
            ]
            parts.append(
                f"### {name}, {titles[kind]}\n\n{measure} on {held:,} rows held out of train, fitted on "
                f"{rows[0]['fitted']:,}; a standard error is about {error:.3f}.\n\n" + "\n".join(lines) + "\n"
            )
    if not parts:
        return ""
    return (
        "## How the recipe was chosen\n\nOn train alone, one split, seed 0: `python -m experiments.schedules --data "
        "FOLDER`, results in `experiments/results/schedules/`. The recipe changes one thing a row.\n\n"
        + "\n".join(parts)
    )


if __name__ == "__main__":
    main()
