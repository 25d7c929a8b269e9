"""The search for whitening dimensions, k, T, lambda, the head's hyper-parameters and the thresholds.

Everything is chosen on held-out rows, from one nearest-neighbour search per number of dimensions over embeddings
that were computed once. A hold-out is one fold; cross-validation is several, whose held-out rows are pooled.

Each voice is chosen by itself, then lambda mixes the two: a vote chosen for what it adds to the head votes worse than
one chosen to vote well, and on new texts their mixture is worse too.

Among hundreds of settings the best one on a few hundred held-out rows is best by luck as much as by merit. So the
measure does not decide alone. Of all settings whose measure cannot be told from the best (within `SLACK` standard
errors) those nearest to the usual are taken, and of these the one that gives the held-out truth the highest likelihood.
Usual is what also serves classes that are taught later, of which held-out rows know nothing: a head that shrinks
little, keys that are not whitened, and both voices in the blend. What tells the known classes apart, a few directions,
is a poor guide to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from likewise.decision.blend import blend, shares
from likewise.decision.grid import OURS, Grid
from likewise.decision.head import Head, HeadSettings, LinearHead, log_odds, make_head, sigmoid, softmax
from likewise.decision.maps import fit_maps
from likewise.decision.measures import OBJECTIVES, Decisions, count_columns, turned
from likewise.decision.statistics import Statistics
from likewise.decision.thresholds import Sweep, label_thresholds
from likewise.decision.trained import AlignedHead
from likewise.decision.vote import vote, vote_weights
from likewise.decision.whitening import Whitening, fit_whitening, no_whitening
from likewise.settings import Measure
from likewise.types import Task

Matrix = NDArray[np.float64]
Embeddings = NDArray[np.float32]
LabelSets = Sequence[tuple[str, ...]]
T = TypeVar("T")
Search = Callable[[Embeddings, Embeddings, int], tuple[NDArray[np.float64], NDArray[np.int64]]]
"""(keys, queries, k) -> distances and row numbers of each query's k nearest keys, nearest first."""

SLACK = 1.0
HEAD_DIMENSIONS: tuple[int | None, ...] = (None, 10**6)  # all: the leading ones know the old classes, not new ones
SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9, 0.97)
PRIORS = (0.0, 0.5, 1.0)
COPY_SHARES = (0.5, 0.8, 0.95)
"""Votes are as sharp as this: the share that a text's own copy, once taught, has of the vote where the k - 1 others lie
at the median distance of neighbours; less where they lie nearer. A majority vote would drown a correction in the texts
around it."""
USUAL_LAMBDA = 0.3
USUAL_SHRINKAGE = 0.3
ROWS_A_DIMENSION = 2
"""Whitening to n dimensions takes at least this many rows for each, for keys and head alike. With about as many
dimensions as rows all keys lie equally far apart, and how the next whitening will order them cannot be foreseen; and
what is taught later lies outside the few directions that the rows span, so that a head which sees only these gets worse
with every example."""
TEMPERATURES = tuple(np.geomspace(0.25, 2.0**17, 77))
ABSENT = -np.inf  # the logit of a label that a fold has no example of
FLOOR = 1e-6  # a probability below this counts as this in a likelihood


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows that vote and make the head, and rows held out: embeddings (rows, d) and label sets of each.

    `head` is one that was trained with the encoder and takes the place of the closed-form one; `held_logits` (rows, L)
    are the network's own, which it takes in the place of embeddings.
    """

    embeddings: Embeddings
    label_sets: LabelSets
    held_embeddings: Embeddings
    held_label_sets: LabelSets
    head: Head | None = None
    held_logits: Embeddings | None = None

    def said(self, head: Head) -> Matrix:
        """What a head says of the held-out rows, (rows, labels): the trained one, or one made in its place."""
        logits = None if self.head is None else self.held_logits
        return head.probabilities(self.held_embeddings if logits is None else logits)


@dataclass(frozen=True)
class Tuned:
    """What the search chose. `dimensions` None: no whitening; `temperature` may be infinite: a majority vote.

    `thresholds` (several labels a text): label to threshold, `threshold` for the others. `scores`: the measure of
    head, neighbours and blend on the held-out rows they were chosen on, so somewhat optimistic. `revision` is the
    ledger's at which labels were called as they are here.
    """

    dimensions: int | None
    k: int
    temperature: float
    lambda_: float
    head: HeadSettings
    thresholds: Mapping[str, float] = field(default_factory=dict)
    threshold: float = 0.5
    measure: Measure = "macro_f1"
    scores: Mapping[str, float] = field(default_factory=dict)
    revision: int = 1


@dataclass(frozen=True, eq=False)
class _Nearest:
    """One fold's held-out rows and their neighbours: distances and label-set codes, both (rows, k), nearest first."""

    distances: Matrix
    codes: NDArray[np.int32]
    membership: Matrix


@dataclass(frozen=True, eq=False)
class _Vote:
    """A way of voting. Its probabilities are made when asked for: hundreds of such tables would fill the memory."""

    dimensions: int | None
    k: int
    temperature: float
    found: list[_Nearest]

    def probabilities(self) -> Matrix:
        """Shape (held-out rows of all folds, labels)."""
        k, temperature = self.k, self.temperature
        return np.concatenate(
            [
                vote(vote_weights(near.distances[:, :k], temperature), near.codes[:, :k], near.membership)
                for near in self.found
            ]
        )


class _Head(NamedTuple):
    """A head's hyper-parameters, what it says of the held-out rows, (rows, labels), and of which labels it knows, where
    that is not all."""

    settings: HeadSettings
    probabilities: Matrix
    known: Decisions | None = None


def usual_shrinkage(examples: int, dimension: int) -> float:
    """The more dimensions there are to the examples, the less their covariance says, and the more it is shrunk."""
    return max(USUAL_SHRINKAGE, dimension / (dimension + examples))


def unusual_head(settings: HeadSettings, usual: float) -> float:
    """How far a head is from the usual: in shrinkage, as a ratio."""
    return abs(float(np.log(settings.shrinkage / usual)))


def unusual_keys(dimensions: int | None) -> float:
    """How far keys are from the usual: they are whitened, or not."""
    return float(dimensions is not None)


def unusual_lambda(share: float) -> float:
    """How far the neighbours' share of the blend is from the usual."""
    return round(abs(share - USUAL_LAMBDA), 6)  # 0.2 and 0.4 are equally far


def tune(folds: Sequence[Fold], task: Task, measure: Measure, search: Search, grid: Grid = OURS) -> Tuned:
    """The settings of the grid that serve the held-out rows of these folds best; see the module's text for how."""
    problem = _Problem(folds, task, measure)
    whitenings = [fit_whitening(fold.embeddings) for fold in folds]
    shrinkage = usual_shrinkage(*min(fold.embeddings.shape for fold in folds))
    head = problem.choose(
        list(_heads(problem, whitenings)),
        lambda head: head.probabilities,
        lambda head: unusual_head(head.settings, shrinkage),
    )
    votes = list(_votes(problem, whitenings, search, grid))
    if grid.jointly:
        voting, lambda_ = problem.best_blend(votes, head, grid.lambdas)
        voted = voting.probabilities()
    else:
        voting = problem.choose(votes, _Vote.probabilities, lambda vote: unusual_keys(vote.dimensions))
        voted = voting.probabilities()
        # Of one example a label nobody can tell how far others lie: the head is certain of everything, and not heard.
        lambdas = grid.lambdas if problem.tells else (max(grid.lambdas),)
        lambda_ = problem.choose(lambdas, lambda share: problem.mixed(voted, head, share), unusual_lambda)
    probabilities = problem.mixed(voted, head, lambda_)
    tuned = Tuned(voting.dimensions, voting.k, voting.temperature, lambda_, head.settings, measure=measure)
    if task == "multi":
        threshold, each = label_thresholds(problem.truth, probabilities, measure)
        tuned = replace(tuned, threshold=threshold, thresholds=dict(zip(problem.labels, each, strict=True)))
    voices = {"head": head.probabilities, "neighbours": voted, "blend": probabilities}
    return replace(tuned, scores=problem.told(voices))


def scores(
    folds: Sequence[Fold], whitening: Whitening | None, tuned: Tuned, task: Task, measure: Measure, search: Search
) -> dict[str, float]:
    """The measure of head, neighbours and blend on the held-out rows, under settings that are given.

    `whitening` None: each fold's own, as in the search for settings.
    """
    problem = _Problem(folds, task, measure)
    heads, found = [], []
    for fold in folds:
        own = whitening or fit_whitening(fold.embeddings)
        to_key = own.first(tuned.dimensions)
        head: Head = fold.head or make_head(Statistics.of(fold.embeddings, fold.label_sets), own, tuned.head, task)
        heads.append((head.labels, fold.said(head)))
        codes, membership = _coded(problem, fold.label_sets)
        k = min(tuned.k, len(fold.embeddings))
        distances, rows = search(to_key.keys(fold.embeddings), to_key.keys(fold.held_embeddings), k)
        found.append(_Nearest(distances, codes[rows], membership))
    said = _Head(tuned.head, problem.held(heads, missing=0.0), problem.known_to_heads())
    voted = _Vote(tuned.dimensions, tuned.k, tuned.temperature, found).probabilities()
    voices = {"head": said.probabilities, "neighbours": voted, "blend": problem.mixed(voted, said, tuned.lambda_)}
    return problem.told(voices)


def probe(embeddings: Embeddings, label_sets: LabelSets, task: Task) -> LinearHead:
    """The usual closed-form head of these rows; its temperature, or logistic maps, make these rows likeliest."""
    own = Fold(embeddings, label_sets, embeddings, label_sets)
    problem, statistics = _Problem([own], task, "accuracy"), Statistics.of(embeddings, label_sets)
    plain = no_whitening(embeddings.shape[1])
    settings = HeadSettings(None, usual_shrinkage(*embeddings.shape), PRIORS[-1])
    return make_head(statistics, plain, _calibrated(problem, [statistics], [plain], settings).settings, task)


class _Problem:
    """The held-out truth of all folds, and how a table of probabilities is judged against it."""

    def __init__(self, folds: Sequence[Fold], task: Task, measure: Measure) -> None:
        self.folds = folds
        self.task: Task = task
        self.measure = measure
        self.labels = sorted({label for fold in folds for labels in fold.label_sets for label in labels})
        self.columns = {label: i for i, label in enumerate(self.labels)}
        held = [labels for fold in folds for labels in fold.held_label_sets]
        self.truth = self.membership(held)
        self.tells = any(_learnable(fold) for fold in folds)
        self._sweep = Sweep(self.truth)
        # With one label a text: the column of each row's label, past the last one if no fold can learn it.
        self._true_columns = np.where(self.truth.any(axis=1), self.truth.argmax(axis=1), len(self.labels))

    def rows_for(self, dimensions: int | None) -> bool:
        """Whether there are rows enough to whiten to so many dimensions; None: no whitening."""
        return dimensions is None or dimensions * ROWS_A_DIMENSION <= min(len(fold.embeddings) for fold in self.folds)

    def membership(self, label_sets: LabelSets) -> Decisions:
        """Boolean (rows, labels); labels that no fold can learn are left out."""
        out = np.zeros((len(label_sets), len(self.labels)), dtype=bool)
        for row, labels in enumerate(label_sets):
            for label in labels:
                if label in self.columns:
                    out[row, self.columns[label]] = True
        return out

    def held(self, parts: Sequence[tuple[list[str], Matrix]], missing: float) -> Matrix:
        """Each fold's values, by its own labels, as one table (held-out rows, labels)."""
        tables = []
        for fold, (labels, values) in zip(self.folds, parts, strict=True):
            table = np.full((len(fold.held_embeddings), len(self.labels)), missing)
            table[:, [self.columns[label] for label in labels]] = values
            tables.append(table)
        return np.concatenate(tables)

    def known_to_heads(self) -> Decisions | None:
        """Of which labels the folds' trained heads know, (held-out rows, labels); None where no head tells."""
        heads = [fold.head for fold in self.folds if isinstance(fold.head, AlignedHead)]
        tables = [(head.labels, head.known[None].astype(np.float64)) for head in heads]
        return self.held(tables, missing=0.0) > 0 if tables else None

    def mixed(self, voted: Matrix, head: _Head, lambda_: float) -> Matrix:
        """The blend, as it will answer: where the head does not know a label the neighbours decide."""
        share = shares(voted, head.probabilities, lambda_, self.task, head.known)
        return blend(voted, head.probabilities, share)

    def score(self, probabilities: Matrix) -> float:
        """The measure of what is decided: the best label, or those over the best common threshold."""
        objective = OBJECTIVES[self.measure]
        if self.task == "multi":
            return float(objective(self._sweep.counts(probabilities)).max())
        return float(objective(count_columns(self._true_columns, probabilities.argmax(axis=1), len(self.labels))))

    def told(self, voices: Mapping[str, Matrix]) -> dict[str, float]:
        """The measure of each voice as it is called: a loss is the smaller the better."""
        return {name: turned(self.measure, self.score(said)) for name, said in voices.items()}

    def likelihood(self, probabilities: Matrix) -> float:
        """Mean log-likelihood of the truth."""
        if self.task == "single":
            p = np.clip(probabilities[self.truth], FLOOR, 1 - FLOOR)
            return float(np.log(p).sum() / len(self.truth))
        p = np.clip(probabilities, FLOOR, 1 - FLOOR)
        return float(np.log(np.where(self.truth, p, 1 - p)).mean())

    def slack(self, best: float) -> float:
        share = min(max(abs(best), 0.01), 0.99)
        return SLACK * float(np.sqrt(share * (1 - share) / max(len(self.truth), 1)))

    def choose(self, candidates: Sequence[T], probabilities: Callable[[T], Matrix], unusual: Callable[[T], float]) -> T:
        """Of the candidates whose measure cannot be told from the best the least unusual, of these the likeliest."""
        scores = np.array([self.score(probabilities(candidate)) for candidate in candidates])
        near = [candidates[i] for i in np.flatnonzero(scores >= scores.max() - self.slack(scores.max())).tolist()]
        least = min(map(unusual, near))
        usual = [candidate for candidate in near if unusual(candidate) == least]
        return max(usual, key=lambda candidate: self.likelihood(probabilities(candidate)))

    def best_blend(self, votes: Sequence[_Vote], head: _Head, lambdas: Sequence[float]) -> tuple[_Vote, float]:
        """The vote and the lambda whose blend has the best measure; of equals the likeliest, then the first."""
        best: tuple[float, float] | None = None
        for voting in votes:
            voted = voting.probabilities()
            for share in lambdas:
                mixed = self.mixed(voted, head, share)
                found = (self.score(mixed), self.likelihood(mixed))
                if best is None or found > best:
                    best, chosen = found, (voting, share)
        return chosen


def _learnable(fold: Fold) -> bool:
    """Whether a held-out row bears a label that the fold can learn; with one example of each none does."""
    known = {label for labels in fold.label_sets for label in labels}
    return any(label in known for labels in fold.held_label_sets for label in labels)


def _heads(problem: _Problem, whitenings: list[Whitening]) -> Iterator[_Head]:
    """Every head: place, shrinkage and prior by grid; temperature or logistic maps by likelihood.

    Where the folds bring heads that were trained, those and no other.
    """
    tables = [(fold.head.labels, fold.said(fold.head)) for fold in problem.folds if fold.head is not None]
    if tables:
        yield _Head(HeadSettings(), problem.held(tables, missing=0.0), problem.known_to_heads())
        return
    statistics = [Statistics.of(fold.embeddings, fold.label_sets) for fold in problem.folds]
    widest = min(whitening.dimension for whitening in whitenings)
    places = {None if n is None else min(n, widest) for n in HEAD_DIMENSIONS}
    for place in sorted(filter(problem.rows_for, places), key=lambda n: n or 0):
        for shrinkage in SHRINKAGES:
            for prior in PRIORS if problem.task == "single" else PRIORS[-1:]:
                yield _calibrated(problem, statistics, whitenings, HeadSettings(place, shrinkage, prior))


def _calibrated(
    problem: _Problem, statistics: Sequence[Statistics], whitenings: Sequence[Whitening], settings: HeadSettings
) -> _Head:
    """The head of these settings, with the temperature or the logistic maps that make the held-out truth likeliest."""
    fitted = [make_head(s, w, settings, problem.task) for s, w in zip(statistics, whitenings, strict=True)]
    logits = problem.held(
        [
            (head.labels, fold.held_embeddings @ head.weights + head.bias)
            for fold, head in zip(problem.folds, fitted, strict=True)
        ],
        missing=ABSENT,
    )
    if problem.task == "single":
        return _tempered(problem, settings, logits)
    odds = problem.held([(s.labels, log_odds(s)) for s in statistics], missing=0.0)
    return _mapped(problem, settings, logits, odds)


def _tempered(problem: _Problem, settings: HeadSettings, logits: Matrix) -> _Head:
    tables = [softmax(logits / t) for t in TEMPERATURES]
    best = int(np.argmax([problem.likelihood(p) for p in tables]))
    return _Head(replace(settings, temperature=float(TEMPERATURES[best])), tables[best])


def _mapped(problem: _Problem, settings: HeadSettings, logits: Matrix, odds: Matrix) -> _Head:
    """`logits` were made with the neutral map (1, 0), so that the scores are what exceeds the log-odds."""
    maps, pooled, calibrated = fit_maps(problem.truth, logits - odds, odds)
    named = {label: (float(a), float(b)) for label, (a, b) in zip(problem.labels, maps, strict=True)}
    return _Head(replace(settings, maps=named, pooled_map=pooled), sigmoid(calibrated))


def _votes(problem: _Problem, whitenings: list[Whitening], search: Search, grid: Grid) -> Iterator[_Vote]:
    """Every vote: from one search per number of dimensions, each k and each temperature."""
    smallest = min(len(fold.embeddings) for fold in problem.folds)
    ks = sorted({min(k, smallest) for k in grid.ks})
    widest = min(whitening.dimension for whitening in whitenings)
    coded = [_coded(problem, fold.label_sets) for fold in problem.folds]
    possible = [n for n in grid.dimensions if n is None or n <= widest]
    for dimensions in [*filter(problem.rows_for, possible)] or [None]:
        found = []
        for fold, whitening, (codes, membership) in zip(problem.folds, whitenings, coded, strict=True):
            to_key = no_whitening(len(whitening.mean)) if dimensions is None else whitening.first(dimensions)
            distances, rows = search(to_key.keys(fold.embeddings), to_key.keys(fold.held_embeddings), ks[-1])
            found.append(_Nearest(distances, codes[rows], membership))
        for k in ks:
            typical = float(np.median(np.concatenate([n.distances[:, :k] for n in found])))
            sharp = tuple(copy_temperature(typical, k, share) for share in COPY_SHARES)
            for temperature in grid.temperatures or sharp:
                yield _Vote(dimensions, k, temperature, found)


def copy_temperature(distance: float, k: int, share: float) -> float:
    """The temperature at which a neighbour at distance 0 has `share` of the vote, and k - 1 at `distance` the rest.

    share = 1 / (1 + (k - 1) exp(-distance / T)), solved for T; infinite where there is nothing to be told apart.
    """
    odds = (k - 1) * share / (1 - share)
    return distance / float(np.log(odds)) if odds > 1 and distance > 0 else np.inf


def _coded(problem: _Problem, label_sets: LabelSets) -> tuple[NDArray[np.int32], Matrix]:
    """The number of each row's label set, and the labels of each set."""
    numbers: dict[tuple[str, ...], int] = {}
    codes = np.array([numbers.setdefault(labels, len(numbers)) for labels in label_sets], dtype=np.int32)
    return codes, problem.membership(list(numbers)).astype(np.float64)
