"""The fits behind `experiments.cea`: which rows each takes, and a folder in which those are kept that others build on.

A model that is kept is found there again, a fit that was killed goes on where it stood. Examples bear the number of
their row in train as their ref, so that neighbours can be named without copying their texts.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data import Part, overlapping
from experiments.running import Quiet
from likewise import Model
from likewise.bundle import Layout, read_decision
from likewise.decision.measures import accuracy
from likewise.decision.splitting import hold_out
from likewise.encoding.runtime import Encoder
from likewise.fitting import fit
from likewise.settings import Settings
from likewise.validation import normalised

METHODS = ("cea", "cea-softmax", "cea-frozen-softmax", "sbert-frozen-softmax", "softmax")


@dataclass(frozen=True)
class Plan:
    """How much is done. `epochs` None: the recipes' own; `rates` of cea and softmax are tried beside those.

    `short`: epochs in which objectives are compared, `matched`: the in-batch form also for as long as pairs take;
    `shares`: of train, in percent, for Figure 3; `rows`: of train, and half as many of test, None for all.
    """

    epochs: int | None = None
    cea_rates: tuple[float | None, ...] = (None, 1e-4)
    softmax_rates: tuple[float | None, ...] = (None, 2e-5, 1e-4)
    short: int = 4
    matched: bool = True
    shares: tuple[int, ...] = (5, 10, 20, 40, 60)
    rows: int | None = None
    max_tokens: int = 128
    timings: int = 5


@dataclass(frozen=True)
class Fit:
    """What tells one fit from another on the same data and seed; None is the recipe's own.

    `hidden`: a label whose rows it does not see; `share`: the percentage of train's rows that it sees; `start`: the
    fit whose encoder it begins with.
    """

    recipe: str
    epochs: int | None = None
    rate: float | None = None
    objective: str | None = None
    hidden: str | None = None
    share: int | None = None
    pooling: str | None = None
    start: Fit | None = None

    @property
    def name(self) -> str:
        """As a folder may be called."""
        own = (self.recipe, self.epochs and f"e{self.epochs}", self.rate and f"{self.rate:g}", self.objective,
               self.hidden and f"without-{self.hidden}", self.share and f"{self.share}%")  # fmt: skip
        said = "-".join(str(one) for one in own if one)
        return re.sub(r"[^\w.%-]+", "_", said) + (f"-from-{self.start.name}" if self.start else "")


def fit_of(method: str, rate: float | None, start: float | None, epochs: int | None) -> Fit:
    """A method of the paper's Table 2 at a learning rate; `start` is that of the CEA model it begins with, if any.

    `cea-softmax` and `cea-frozen-softmax` are recipes of two stages, whose first is the recipe `cea`; so that it is
    trained once, the second is fitted from the encoder that the first left. A test holds that it is the same.
    """
    begun = Fit("cea", epochs, start)
    if method == "cea-softmax":
        return Fit("softmax", epochs, rate, start=begun)
    if method == "cea-frozen-softmax":
        return Fit("sbert-frozen-softmax", epochs, pooling="cls", start=begun)
    return Fit(method, epochs, rate)


@dataclass(frozen=True, eq=False)
class Bench:
    """A data set with its split for one seed, and where its models are kept."""

    data: str
    seed: int
    train: Part
    test: Part
    plan: Plan
    encoder: str
    models: Path

    @cached_property
    def split(self) -> tuple[list[int], list[int]]:
        """Row numbers of train: those that are fitted, and the dev rows, a tenth. One split for every method."""
        kept, dev = hold_out(self._keys(range(len(self.train))), self.train.labels, Settings().holdout, self.seed)
        return kept.tolist(), dev.tolist()

    @cached_property
    def apart(self) -> list[int]:
        """Row numbers of test whose text does not also stand in train."""
        return sorted(set(range(len(self.test))) - set(overlapping(self.train, self.test)))

    @cached_property
    def labels(self) -> list[str]:
        """All labels of train, sorted."""
        return sorted({label for labels in self.train.labels for label in labels})

    def _keys(self, rows: Any) -> list[str]:
        return [normalised(self.train.texts[row]) for row in rows]

    def rows(self, made: Fit) -> tuple[list[int], list[int]]:
        """Row numbers of train that a fit sees, and of its dev rows."""
        kept, dev = ([row for row in rows if made.hidden not in self.train.labels[row]] for rows in self.split)
        if made.share is not None:
            labels = [self.train.labels[row] for row in kept]
            _, some = hold_out(self._keys(kept), labels, made.share / 100, self.seed)
            kept = [kept[i] for i in some]
            missing = {*labels} - {self.train.labels[row] for row in kept}
            if missing:
                raise ValueError(f"{made.share}% of {self.data} lacks {sorted(missing)}; expected every class")
        return kept, dev

    @contextmanager
    def opened(self, made: Fit, keep: bool = False) -> Iterator[Model]:
        """The model, one that may be changed freely; where it is kept it is fitted once."""
        place = self._place(made)
        if keep and not place.exists():
            self._fitted(made).save(place).close()
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / "model"
            if place.exists():
                shutil.copytree(place, own)
            else:
                self._fitted(made).save(own).close()
            with Model.open(own) as model:
                yield model

    def _place(self, made: Fit) -> Path:
        return self.models / f"{self.data}-{self.seed}-{made.name}"

    def _fitted(self, made: Fit) -> Model:
        encoder = self.encoder
        if made.start is not None:
            with self.opened(made.start, keep=True):
                encoder = str(Layout(self._place(made.start)).encoder(1))
        settings = Settings.resolve(
            seed=self.seed, epochs=made.epochs, learning_rate=made.rate, objective=made.objective,
            pooling=made.pooling, max_tokens=self.plan.max_tokens,
        )  # fmt: skip
        kept, dev = self.rows(made)
        part, held = self.train.rows(kept), self.train.rows(dev)
        return fit(
            part.texts, part.labels, refs=[str(row) for row in kept], recipe=made.recipe, encoder=encoder,
            dev=(held.texts, held.labels), settings=settings, progress=Quiet(),
            work=self.models / "work" / self._place(made).name,
        )  # fmt: skip

    def teach(self, model: Model, rows: list[int]) -> None:
        """Teach rows of train, also those whose text is there already, as a fit takes them."""
        part = self.train.rows(rows)
        model.teach(part.texts, part.labels, refs=[str(row) for row in rows], on_conflict="both")

    def scored(self, model: Model, details: bool = False, test: Part | None = None) -> dict[str, Any]:
        """Accuracy of each voice on test, also on the rows apart; with `details` each label's measures, too."""
        test = test or self.test
        found = model.evaluate(test.texts, test.labels)
        content = found.to_dict()
        return {
            voice: {
                "accuracy": content[voice]["accuracy"],
                "apart": accuracy(found.truth[self.apart], found.decided[voice][self.apart]),
                **({"per_label": content[voice]["per_label"]} if details else {}),
            }
            for voice in ("blend", "head", "neighbours")
        }

    def trained(self, made: Fit, model: Model) -> dict[str, Any]:
        """What a fit's training took and brought: rate, epochs, seconds, dev accuracy, k."""
        layout = _layout(model)
        info = json.loads((layout.generation(1) / "info.json").read_text(encoding="utf-8"))
        stage, seconds = info["stages"][-1], [epoch["seconds"] for epoch in info["history"]]
        return {
            "rate": None if stage["frozen"] else stage["learning_rate"],
            "epochs": len(info["history"]),
            "train_seconds": round(len(info["history"]) * float(np.median(seconds)), 1),  # runs are paused at times
            "epoch_scores": [round(epoch["dev_score"], 4) for epoch in info["history"]],
            "dev": info["scores"]["fine-tuned"]["blend"],
            "k": read_decision(layout, 1).tuned.k,
            "fitted": len(self.rows(made)[0]),
        }


def encoder_of(model: Model) -> Encoder:
    """The model's own encoder."""
    return Encoder(_layout(model).onnx(1))


def _layout(model: Model) -> Layout:
    assert model.path is not None
    return Layout(model.path)
