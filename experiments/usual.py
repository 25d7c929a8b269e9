"""Which of the settings that held-out rows cannot tell apart serve best, also where a class is taught later.

    python -m experiments.usual --data FOLDER                  every data set
    python -m experiments.usual --data FOLDER --only trec-6    one data set

`likewise.decision.tuning` takes the settings nearest to the usual; this is how the usual was found. The encoder is
trained once a data set and hidden class, on a part of train, and its settings are then chosen by each rule; the class
is taught, and the rest of train scored. No test split is read. Every run leaves one JSON file in
experiments/results/usual/; runs that have theirs are not repeated.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data import Part
from experiments.main_job import MEASURES
from experiments.running import arguments, once, parts
from experiments.schedules import many_rows
from likewise.candidates import nearest
from likewise.decision import tuning
from likewise.decision.splitting import hold_out
from likewise.decision.tuning import Fold, probe, scores, tune, unusual_head
from likewise.decision.whitening import fit_whitening
from likewise.encoding.names import DEFAULT, resolve
from likewise.progress import Progress
from likewise.recipes import LIKEWISE
from likewise.settings import Settings
from likewise.training.trainable import Trainable
from likewise.validation import normalised

RESULTS = Path(__file__).parent / "results" / "usual"
HIDDEN: dict[str, tuple[str | None, ...]] = {"trec-6": (None, "DESC", "ENTY", "NUM"), "isear": (None, "guilt")}


def _any(*_: object) -> float:
    return 0.0


def _near(shrinkage: float) -> Callable[..., float]:
    return lambda settings, _: unusual_head(settings, shrinkage)


RULES: Mapping[str, Mapping[str, Callable[..., float]]] = {
    "as it is": {},
    "the likeliest": {"unusual_head": _any, "unusual_keys": _any},
    "the likeliest head": {"unusual_head": _any},
    "shrinkage near 0.03": {"unusual_head": _near(0.03)},
    "shrinkage near 0.1": {"unusual_head": _near(0.1)},
    "the likeliest vote": {"unusual_keys": _any},
    "the likeliest lambda": {"unusual_lambda": _any},
}


def main() -> None:
    """Run what the command line asks for."""
    given = arguments(__doc__, RESULTS).parse_args()
    sets = [name for name in HIDDEN if given.only in (None, name)]
    for name, (train,) in parts(given.data, sets, "train"):
        assert train is not None
        for hidden in HIDDEN[name]:
            once(given.results / f"{name}-{hidden or 'none'}.json", partial(_found, name, train, hidden))


def _found(name: str, train: Part, hidden: str | None) -> dict[str, Any]:
    return {"data": name, "hidden": hidden, **run(train, MEASURES.get(name, "macro_f1"), hidden)}


def run(train: Part, measure: Any, hidden: str | None) -> dict[str, Any]:
    """Train without a class, teach it, and score what each rule chose: head, neighbours and blend."""
    everything, held = many_rows(train)
    known, _ = everything.hiding(hidden)
    settings = Settings.resolve()
    learnt, watched = hold_out([normalised(t) for t in known.texts], known.labels, settings.holdout, settings.seed)
    taught, dev = (known.rows(rows.tolist()) for rows in (learnt, watched))
    encoder = Trainable(
        resolve(DEFAULT), pooling=LIKEWISE.pooling, normalise=LIKEWISE.normalise, max_tokens=settings.max_tokens
    )
    (schedule,) = LIKEWISE.stages
    start = probe(encoder.embed(taught.texts), taught.labels, "single")
    with tempfile.TemporaryDirectory() as work:
        encoder.fine_tune(
            taught.texts, taught.labels, task="single", schedule=schedule,
            dev=(dev.texts, dev.labels), seed=settings.seed, work=Path(work), progress=Progress(),
            probe=(start.weights, start.bias),
        )  # fmt: skip
    choosing, judging = (
        Fold(encoder.embed(one.texts), one.labels, encoder.embed(other.texts), other.labels)
        for one, other in ((taught, dev), (everything, held))
    )
    whitening = fit_whitening(np.concatenate([choosing.embeddings, choosing.held_embeddings]))
    found = {}
    for rule, unusual in RULES.items():
        with _patched(unusual):
            tuned = tune([choosing], "single", measure, nearest)
        voices = scores([judging], whitening, tuned, "single", measure, nearest)
        chosen = {"shrinkage": tuned.head.shrinkage, "dimensions": tuned.dimensions, "lambda": round(tuned.lambda_, 1)}
        found[rule] = {**{voice: round(value, 4) for voice, value in voices.items()}, **chosen}
    return {"measure": measure, "fitted": len(known), "held": len(held), "rules": found}


@contextmanager
def _patched(unusual: Mapping[str, Callable[..., float]]) -> Iterator[None]:
    before = {name: getattr(tuning, name) for name in unusual}
    try:
        for name, value in unusual.items():
            setattr(tuning, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(tuning, name, value)


def section(results: Path = RESULTS) -> str:
    """The part of docs/results.md that tells how the usual settings were found; empty without results."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    if not found:
        return ""
    found.sort(key=lambda run: (run["data"], run["hidden"] or ""))
    head = [f"{run['data']}, {run['hidden']} taught later" if run["hidden"] else run["data"] for run in found]
    lines = [f"| rule | {' | '.join(head)} |", "|" + " --- |" * (len(found) + 1)]
    for rule in RULES:
        cells = (run["rules"][rule] for run in found)
        lines.append(
            f"| {rule} | "
            + " | ".join(f"{c['head']:.3f} {c['neighbours']:.3f} **{c['blend']:.3f}**" for c in cells)
            + " |"
        )
    older = "" if all("commit" in run for run in found) else (
        " By the recipe as it was before its classifier started from the closed-form head."
    )  # fmt: skip
    held = ", ".join(f"{run['held']:,}" for run in {run["data"]: run for run in found}.values())
    return (
        "## Which settings are usual\n\nOf the settings that held-out rows cannot tell apart, tuning takes those "
        "nearest to the usual: a shrinkage of 0.3, keys that are not whitened, a lambda of 0.3. On train alone, one "
        f"split, seed 0, a part of train held out to be scored ({held} rows): head, neighbours and **blend**, by "
        "`python -m experiments.usual --data FOLDER`; accuracy on trec-6, macro-F1 on isear. Each rule changes one "
        f"thing.{older}\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
