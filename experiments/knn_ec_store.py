"""A KNN-EC model taken apart: embeddings of train, held-out and test rows, the trained head, and what they decide.

Every formula is the library's own; here the pieces are put together as `fit` and an opened model do.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data import Part, overlapping
from experiments.running import kept_work
from likewise.bundle import Decision, Layout, Manifest, read_decision, read_manifest
from likewise.candidates import nearest, parts_of
from likewise.datastore.index import Index
from likewise.decision.blend import blend
from likewise.decision.grid import Grid
from likewise.decision.head import LinearHead
from likewise.decision.measures import count_columns
from likewise.decision.tuning import Fold, Tuned, tune
from likewise.decision.vote import vote, vote_weights
from likewise.decision.whitening import Whitening, fit_whitening
from likewise.encoding.runtime import Encoder
from likewise.fitting import fit
from likewise.job import Job, checked
from likewise.progress import Progress
from likewise.recipes import KNN_EC
from likewise.settings import Settings
from likewise.types import Pooling

Embeddings = NDArray[np.float32]
Columns = NDArray[np.intp]
VOICES = ("model", "neighbours", "blend")
"""p_model, p_kNN and p of the paper."""
BOOTSTRAP = 1000
PAIRS = 20_000
ROUNDS = 5
"""A search is timed so often; the fastest round counts, the others were disturbed."""


@dataclass(frozen=True)
class Asked:
    """One run: rows, encoder, learning rate (None: the paper's), the grid to tune on, seed, and where to keep things.

    `folder` is this run's, `shared` that of all runs of the data set with this encoder. They hold models, and so texts
    of the data set: they are none of the repository's.
    """

    data: str
    train: Part
    dev: Part | None
    test: Part
    encoder: str
    learning_rate: float | None
    epochs: int | None
    grid: Grid
    seed: int
    folder: Path
    shared: Path

    @property
    def settings(self) -> Settings:
        """The fit's settings."""
        return Settings.resolve(seed=self.seed, learning_rate=self.learning_rate, epochs=self.epochs)

    @property
    def held(self) -> tuple[list[str], list[tuple[str, ...]]] | None:
        """The data set's dev rows; None where a part of train is held out."""
        return None if self.dev is None else (self.dev.texts, self.dev.labels)


@contextmanager
def work_folder(passing: bool) -> Iterator[Path]:
    """Where fitted models and embeddings are kept, so that a run that was killed goes on; `passing`: for now only."""
    named = kept_work()
    if passing and not named:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        yield (named or Path(tempfile.gettempdir(), "likewise-experiments")) / "knn_ec"


@dataclass(frozen=True, eq=False)
class Store:
    """Rows by one encoder, `train` being the datastore, and the head; `columns` number the labels in `labels`."""

    job: Job
    labels: list[str]
    columns: Columns
    truth: Columns
    apart: Columns  # numbers of the test rows that do not also stand in train
    train: Embeddings
    dev: Embeddings | None
    test: Embeddings
    head: LinearHead
    whitening: Whitening

    @cached_property
    def fold(self) -> Fold:
        """What `fit` tunes on: the rows that trained, the held-out rows, the head."""
        return parts_of(self.job, [self.train], self.dev, [self.head])[0]

    @cached_property
    def fold_whitening(self) -> Whitening:
        """The whitening of the rows that trained, which tuning works with."""
        return fit_whitening(self.fold.embeddings)

    @property
    def all_dimensions(self) -> int:
        """How many whitened dimensions there are, in tuning and in the end."""
        return min(self.whitening.dimension, self.fold_whitening.dimension)

    def dimensions(self, grid: Grid) -> tuple[int, ...]:
        """The grid's numbers of whitened dimensions, and all that there are."""
        return (*(n for n in grid.dimensions if n is not None and n < self.all_dimensions), self.all_dimensions)

    def choose(self, grid: Grid) -> Tuned:
        """The settings of the grid that serve the held-out rows best, as `fit` chooses them."""
        return tune([self.fold], self.job.task, self.job.measure, nearest, grid)

    def choose_for(self, rows: NDArray[np.int64], tuned: Tuned, grid: Grid) -> Tuned:
        """The same where only these rows of train can be retrieved, in the dimensions of `tuned`."""
        kept = self.job.split.parts[0][0]
        to_key = self.fold_whitening.first(tuned.dimensions)
        there = np.intersect1d(kept, rows)
        fold = Fold(
            to_key.keys(self.train[there]), [self.job.labels[i] for i in there],
            to_key.keys(self.fold.held_embeddings), self.fold.held_label_sets,
            Said(self.labels, self.head.probabilities(self.fold.held_embeddings)),
        )  # fmt: skip
        found = tune([fold], self.job.task, self.job.measure, nearest, replace(grid, dimensions=(None,)))
        return replace(found, dimensions=tuned.dimensions)

    def drawn(self, share: float, seed: Sequence[int]) -> NDArray[np.int64]:
        """Numbers of a share of the rows of train, of each label alike and of each at least one.

        A larger share of the same seed holds the smaller ones.
        """
        rng = np.random.default_rng(seed)
        chosen = []
        for column in range(len(self.labels)):
            rows = rng.permutation(np.flatnonzero(self.columns == column))
            chosen.append(rows[: math.ceil(share * len(rows) - 1e-9)])
        return np.sort(np.concatenate(chosen))

    def decide(self, tuned: Tuned, rows: NDArray[np.int64] | None = None) -> dict[str, Columns]:
        """What each voice makes of the test rows, with all of train as datastore or these rows of it."""
        rows = np.arange(len(self.train)) if rows is None else rows
        to_key = self.whitening.first(tuned.dimensions)
        keys = to_key.keys(self.train[rows])
        distances, found = nearest(keys, to_key.keys(self.test), min(tuned.k, len(keys)))
        codes = self.columns[rows[found]].astype(np.int32)
        voted = vote(vote_weights(distances, tuned.temperature), codes, np.eye(len(self.labels)))
        headed = self.head.probabilities(self.test)
        tables = (headed, voted, blend(voted, headed, tuned.lambda_))
        return {voice: table.argmax(axis=1) for voice, table in zip(VOICES, tables, strict=True)}

    def score(self, decided: Columns) -> dict[str, float]:
        """Macro-F1 on all test rows, and on those that do not also stand in train."""
        return {"all": self._f1(decided, slice(None)), "apart": self._f1(decided, self.apart)}

    def difference(self, decided: Columns, other: Columns) -> dict[str, float]:
        """Macro-F1 of one less that of the other on all test rows, and its standard error by bootstrap."""
        rng = np.random.default_rng(0)
        draws = (rng.integers(0, len(self.truth), len(self.truth)) for _ in range(BOOTSTRAP))
        drawn = [self._f1(decided, rows) - self._f1(other, rows) for rows in draws]
        found = self._f1(decided, slice(None)) - self._f1(other, slice(None))
        return {"difference": found, "standard_error": float(np.std(drawn))}

    def _f1(self, decided: Columns, rows: slice | NDArray[np.int64]) -> float:
        return float(count_columns(self.truth[rows], decided[rows], len(self.labels)).macro_f1())


@dataclass(frozen=True, eq=False)
class Said:
    """A head that was asked before: its probabilities, for rows that are keys by now."""

    labels: list[str]
    table: NDArray[np.float64]

    def probabilities(self, embeddings: Embeddings) -> NDArray[np.float64]:
        """What it said, whatever is asked; ValueError for another number of rows."""
        if len(embeddings) != len(self.table):
            raise ValueError(f"found {len(embeddings)} rows, expected the {len(self.table)} that were asked before")
        return self.table


class Run:
    """A fit, made when it is first needed or found where it was made before, and the stores of it."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    @cached_property
    def _layout(self) -> Layout:
        asked, place = self.asked, self.asked.folder / "model"
        if not place.exists():  # it appears whole
            model = fit(
                asked.train.texts, asked.train.labels, recipe=KNN_EC.name, encoder=asked.encoder, dev=asked.held,
                settings=asked.settings, work=asked.folder / "work",
            )  # fmt: skip
            model.save(place).close()
        return Layout(place)

    @cached_property
    def manifest(self) -> Manifest:
        """What the fit measured."""
        return read_manifest(self._layout.root)

    @cached_property
    def course(self) -> list[dict[str, Any]]:
        """The epochs that were trained: loss, score on the held-out rows, seconds."""
        path = self._layout.generation(self.manifest.generation) / "info.json"
        course: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["history"]
        return course

    @cached_property
    def decision(self) -> Decision:
        """What the model decides with: whitening, tuned values, head."""
        return read_decision(self._layout, self.manifest.generation)

    @cached_property
    def tuned(self) -> Tuned:
        """The settings of the grid that is asked for; by the recipe's own grid those of the model."""
        return self.fine_tuned.choose(self.asked.grid)

    @cached_property
    def job(self) -> Job:
        """What the fit was asked: its rows, and which of them it held out."""
        asked = self.asked
        return checked(
            asked.train.texts, asked.train.labels, None, "auto", KNN_EC, asked.encoder, asked.held, asked.settings,
            Progress(), asked.folder / "work",
        )  # fmt: skip

    @cached_property
    def fine_tuned(self) -> Store:
        """By the encoder that was fine-tuned, with the head that was trained with it."""
        opened: list[Encoder] = []

        def encode(texts: Sequence[str]) -> Embeddings:
            if not opened:
                opened.append(Encoder(self._layout.onnx(self.manifest.generation)))
            return opened[0].encode(texts)

        assert self.decision.head is not None
        return self._store(self.asked.folder / "embeddings", encode, self.decision.head, self.decision.whitening)

    def pretrained(self, pooling: Pooling) -> Store:
        """By the encoder as it was before fine-tuning, not normalised; it has no head, and this one favours nothing."""
        from likewise.training.trainable import Trainable

        opened: list[Trainable] = []

        def encode(texts: Sequence[str]) -> Embeddings:
            if not opened:
                tokens = self.asked.settings.max_tokens
                opened.append(Trainable(self.job.base, pooling=pooling, normalise=False, max_tokens=tokens))
            return opened[0].embed(texts)

        return self._store(self.asked.shared / f"pretrained-{pooling}", encode, None, None)

    def _store(
        self,
        stem: Path,
        encode: Callable[[Sequence[str]], Embeddings],
        head: LinearHead | None,
        whitening: Whitening | None,
    ) -> Store:
        job, test = self.job, self.asked.test
        train, dev, tested = (
            None if texts is None else _kept(stem.with_name(f"{stem.name}-{part}.npy"), partial(encode, texts))
            for part, texts in (
                ("train", job.texts), ("dev", job.split.dev[0] if job.split.dev else None), ("test", test.texts),
            )
        )  # fmt: skip
        assert train is not None and tested is not None
        if head is None:
            labels = sorted({label for row in job.labels for label in row})
            head = LinearHead(labels, np.zeros((train.shape[1], len(labels))), np.zeros(len(labels)), job.task)
        column = {label: i for i, label in enumerate(head.labels)}
        also_in_train = np.isin(np.arange(len(test)), overlapping(self.asked.train, test))
        return Store(
            job, head.labels, *(np.array([column[row[0]] for row in rows]) for rows in (job.labels, test.labels)),
            np.flatnonzero(~also_in_train), train, dev, tested, head, whitening or fit_whitening(train),
        )  # fmt: skip


def _kept(path: Path, make: Callable[[], Embeddings]) -> Embeddings:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"making-{path.name}")
        np.save(beside, make())
        beside.replace(path)
    found: Embeddings = np.load(path)
    return found


def mean_cosine(vectors: Embeddings, seed: int = 0) -> float:
    """The mean cosine of random pairs of rows: near 0 where they point everywhere, near 1 in a narrow cone."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(vectors), PAIRS)
    second = (first + rng.integers(1, len(vectors), PAIRS)) % len(vectors)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return float(np.einsum("ij,ij->i", units[first], units[second]).mean())


def search_times(maps: Sequence[Whitening], train: Embeddings, queries: Embeddings, k: int) -> list[float]:
    """Milliseconds a query that the index takes with each map's keys; all maps take turns, so that ratios are fair."""
    made = []
    for to_key in maps:
        index = Index(to_key.dimension)
        rows = np.arange(len(train))
        index.add(rows, to_key.keys(train), rows.astype(np.int32))
        made.append((index, to_key.keys(queries)))
    best = [np.inf] * len(made)
    for _ in range(ROUNDS):
        for i, (index, keys) in enumerate(made):
            started = time.perf_counter()
            index.search(keys, min(k, len(train)))
            best[i] = min(best[i], time.perf_counter() - started)
    return [1000 * seconds / len(queries) for seconds in best]
