from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from likewise.decision.blend import blend, shares
from likewise.decision.grid import Grid
from likewise.decision.head import HeadSettings, LinearHead, make_head, sigmoid, softmax
from likewise.decision.measures import turned
from likewise.decision.statistics import Statistics
from likewise.decision.trained import align
from likewise.decision.tuning import Fold, Tuned, copy_temperature, probe, scores, tune, usual_shrinkage
from likewise.decision.vote import vote, vote_weights
from likewise.decision.whitening import fit_whitening, no_whitening
from likewise.settings import Measure
from likewise.types import Task

MEASURES = ("macro_f1", "accuracy", "micro_f1", "hamming_loss")


def nearest(keys: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    distances = np.linalg.norm(queries[:, None].astype(np.float64) - keys[None], axis=2)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, axis=1), rows


class World:
    """Texts around a centre for each label; `noise` says how hard they are to tell apart."""

    def __init__(self, task: Task, noise: float = 1.5, labels: int = 4, dimension: int = 8, seed: int = 0) -> None:
        self.task, self.noise = task, noise
        self.rng = np.random.default_rng(seed)
        self.names = [f"label {i}" for i in range(labels)]
        self.centres = self.rng.normal(size=(labels, dimension)) * 3

    def rows(self, n: int) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        if self.task == "single":
            members = np.eye(len(self.names), dtype=bool)[np.arange(n) % len(self.names)]
        else:
            members = self.rng.random((n, len(self.names))) < 0.35
        x = members @ self.centres + self.rng.normal(size=(n, self.centres.shape[1])) * self.noise
        return x.astype(np.float32), [tuple(self.names[j] for j in np.flatnonzero(row)) for row in members]

    def fold(self, n: int = 80, held: int = 40) -> Fold:
        return Fold(*self.rows(n), *self.rows(held))


def by_hand(folds: list[Fold], tuned: Tuned, task: Task, names: list[str]) -> dict[str, np.ndarray]:
    """Probabilities of each voice on the held-out rows, slowly."""
    heads, votes = [], []
    for fold in folds:
        whitening = fit_whitening(fold.embeddings)
        head = make_head(Statistics.of(fold.embeddings, fold.label_sets), whitening, tuned.head, task)
        assert head.labels == names
        heads.append(head.probabilities(fold.held_embeddings))
        to_key = whitening.first(tuned.dimensions)
        keys, queries = to_key.keys(fold.embeddings), to_key.keys(fold.held_embeddings)
        for query in queries:
            distances = np.sqrt(((keys.astype(np.float64) - query) ** 2).sum(axis=1))
            rows = np.argsort(distances, kind="stable")[: tuned.k]
            weights = np.exp(-distances[rows] / tuned.temperature)
            shares = dict.fromkeys(names, 0.0)
            for weight, row in zip(weights / weights.sum(), rows, strict=True):
                for label in fold.label_sets[row]:
                    shares[label] += weight
            votes.append(list(shares.values()))
    head, vote = np.concatenate(heads), np.array(votes)
    return {"head": head, "neighbours": vote, "blend": tuned.lambda_ * vote + (1 - tuned.lambda_) * head}


def indicator(label_sets: list[tuple[str, ...]], names: list[str]) -> np.ndarray:
    return np.array([[name in labels for name in names] for labels in label_sets])


def score(measure: str, truth: np.ndarray, decided: np.ndarray) -> float:
    if measure == "accuracy":
        return metrics.accuracy_score(truth, decided)
    if measure == "hamming_loss":
        return metrics.hamming_loss(truth, decided)
    return metrics.f1_score(truth, decided, average=measure.removesuffix("_f1"), zero_division=0)


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("measure", MEASURES)
def test_separable_texts_are_told_apart(task: Task, measure: str) -> None:
    tuned = tune([World(task, noise=0.05).fold()], task, measure, nearest)
    best = 0.0 if measure == "hamming_loss" else 1.0
    assert tuned.scores["blend"] == pytest.approx(best)
    assert tuned.measure == measure


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("n_folds", [1, 3])
def test_single_scores_are_what_the_settings_yield(measure: str, n_folds: int) -> None:
    world = World("single", noise=3)
    folds = [world.fold() for _ in range(n_folds)]
    tuned = tune(folds, "single", measure, nearest)
    truth = indicator([labels for fold in folds for labels in fold.held_label_sets], world.names)
    for voice, probabilities in by_hand(folds, tuned, "single", world.names).items():
        decided = np.eye(len(world.names), dtype=bool)[probabilities.argmax(axis=1)]
        assert tuned.scores[voice] == pytest.approx(score(measure, truth, decided)), voice
    assert tuned.scores["blend"] < 1 - 1e-9
    assert not tuned.thresholds


@pytest.mark.parametrize("measure", MEASURES)
def test_multi_scores_are_what_the_settings_yield(measure: str) -> None:
    world = World("multi", noise=4)
    folds = [world.fold(), world.fold()]
    tuned = tune(folds, "multi", measure, nearest)
    held = [labels for fold in folds for labels in fold.held_label_sets]
    assert () in held, "texts without labels belong to the test"
    truth = indicator(held, world.names)
    blended = by_hand(folds, tuned, "multi", world.names)["blend"]
    common = score(measure, truth, blended >= tuned.threshold)
    assert tuned.scores["blend"] == pytest.approx(common)
    assert list(tuned.thresholds) == world.names
    each = np.array([tuned.thresholds[name] for name in world.names])
    assert turned(measure, score(measure, truth, blended >= each)) >= turned(measure, common) - 1e-12


@pytest.mark.parametrize("n_folds", [1, 3])
@pytest.mark.parametrize(("task", "measure"), [("single", "accuracy"), ("multi", "macro_f1")])
def test_settings_scored_anew_score_what_they_did_in_the_search(task: Task, measure: Measure, n_folds: int) -> None:
    world = World(task, noise=3.0)
    folds = [world.fold() for _ in range(n_folds)]
    tuned = tune(folds, task, measure, nearest)
    assert scores(folds, None, tuned, task, measure, nearest) == pytest.approx(dict(tuned.scores))


@pytest.mark.parametrize("task", ["single", "multi"])
def test_blend_is_no_worse_than_its_voices_by_more_than_the_slack(task: Task) -> None:
    for seed in range(3):
        scores = tune([World(task, noise=4, seed=seed).fold()], task, "accuracy", nearest).scores
        assert scores["blend"] >= max(scores["head"], scores["neighbours"]) - 0.05


@pytest.mark.parametrize("task", ["single", "multi"])
def test_the_same_again(task: Task) -> None:
    assert tune([World(task).fold()], task, "macro_f1", nearest) == tune(
        [World(task).fold()], task, "macro_f1", nearest
    )


@pytest.mark.parametrize("task", ["single", "multi"])
def test_a_label_that_one_fold_cannot_learn(task: Task) -> None:
    """Its examples are all held out there: it counts as missed, and must not spoil the rest."""
    world = World(task, noise=0.3)
    whole = [world.fold(), world.fold()]
    lost = world.names[0]
    kept = [i for i, labels in enumerate(whole[0].label_sets) if lost not in labels]
    first = Fold(
        whole[0].embeddings[kept], [whole[0].label_sets[i] for i in kept],
        whole[0].held_embeddings, whole[0].held_label_sets,
    )  # fmt: skip
    tuned = tune([first, whole[1]], task, "micro_f1", nearest)
    held = [labels for fold in whole for labels in fold.held_label_sets]
    missed = sum(lost in labels for labels in first.held_label_sets) / sum(map(len, held))
    assert tuned.scores["blend"] >= 1 - 2 * missed
    assert tuned.scores["blend"] < 1
    if task == "multi":  # the maps are those of a label that was seen, not drawn off by one that was not
        slopes = [slope for slope, _ in tuned.head.maps.values()]
        assert min(slopes) > 0
        assert tuned.head.pooled_map[0] > 0


def test_held_out_labels_that_no_fold_can_learn_are_left_out() -> None:
    world = World("single", noise=0.05)
    fold = world.fold()
    foreign = Fold(fold.embeddings, fold.label_sets, fold.held_embeddings, [("new",), *fold.held_label_sets[1:]])
    tuned = tune([foreign], "single", "accuracy", nearest)
    assert tuned.scores["blend"] == pytest.approx(1 - 1 / len(fold.held_label_sets))


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("held", [1, 2])
def test_tiny_folds(task: Task, n: int, held: int) -> None:
    world = World(task)
    rows = [Fold(*world.rows(n), *world.rows(held)) for _ in range(2)]
    if not any(labels for fold in rows for labels in fold.label_sets):
        rows[0].label_sets[0] = (world.names[0],)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned = tune(rows, task, "macro_f1", nearest)
    assert 1 <= tuned.k <= n
    assert all(np.isfinite(value) for value in tuned.scores.values())


@pytest.mark.parametrize("task", ["single", "multi"])
def test_equal_embeddings(task: Task) -> None:
    fold = World(task).fold(20, 10)
    same = Fold(np.ones((20, 8), np.float32), fold.label_sets, np.ones((10, 8), np.float32), fold.held_label_sets)
    tuned = tune([same], task, "macro_f1", nearest)
    assert all(np.isfinite(value) for value in tuned.scores.values())


def test_a_copy_has_its_share_of_the_vote() -> None:
    for k, share in ((5, 0.5), (40, 0.8), (160, 0.95)):
        temperature = copy_temperature(1.7, k, share)
        distances = np.array([[0.0] + [1.7] * (k - 1)])
        assert vote_weights(distances, temperature)[0, 0] == pytest.approx(share)
    assert copy_temperature(1.7, 1, 0.5) == np.inf  # one neighbour has the whole vote at any temperature
    assert copy_temperature(0.0, 10, 0.8) == np.inf  # all at the same place: nothing to tell apart


@pytest.mark.parametrize("n", [18, 40, 90])
def test_keys_have_far_fewer_dimensions_than_there_are_rows(n: int) -> None:
    asked: list[int] = []

    def spy(keys: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(keys.shape[1])
        return nearest(keys, queries, k)

    tune([World("single", dimension=200).fold(n)], "single", "macro_f1", spy)
    assert asked == [200, *(dimensions for dimensions in (8, 16, 32, 64, 128) if dimensions <= n / 2)]


@pytest.mark.parametrize("seed", range(5))
def test_a_head_tuned_on_few_rows_gets_better_with_what_is_taught(seed: int) -> None:
    """Few rows span few directions; a head that saw only these would hardly learn from the others."""
    world = World("single", noise=12, labels=6, dimension=48, seed=seed)
    fold = world.fold(30, 120)
    tuned = tune([fold], "single", "accuracy", nearest)
    assert tuned.head.dimensions is None
    more, labels = world.rows(1500)
    queries, truth = world.rows(400)
    whitening = fit_whitening(fold.embeddings)

    def right(embeddings: np.ndarray, label_sets: list[tuple[str, ...]]) -> float:
        later = Fold(embeddings, label_sets, queries, truth)
        return scores([later], whitening, tuned, "single", "accuracy", nearest)["head"]

    before = right(fold.embeddings, list(fold.label_sets))
    after = right(np.concatenate([fold.embeddings, more]), [*fold.label_sets, *labels])
    assert after > before + 0.2


@pytest.mark.parametrize("task", ["single", "multi"])
def test_settings_that_cannot_be_told_apart_are_the_usual_ones(task: Task) -> None:
    told = tune([World(task, noise=0.01).fold()], task, "macro_f1", nearest)
    assert (told.head.shrinkage, told.dimensions) == (0.3, None)
    few = tune([World(task, noise=0.01, dimension=200).fold(20, 40)], task, "macro_f1", nearest)
    assert few.head.shrinkage == 0.9  # 200 dimensions, 20 examples


def test_keys_are_whitened_where_the_rows_clearly_ask_for_it() -> None:
    rng = np.random.default_rng(0)
    label_sets = [(("left", "right")[i % 2],) for i in range(600)]
    x = rng.normal(size=(600, 10)) * 0.5
    x[:, 0] = np.where(np.arange(600) % 2, 1.0, -1.0) + rng.normal(size=600) * 0.2
    x[:, 1] = rng.normal(size=600) * 30  # says nothing, and drowns what does
    x = x.astype(np.float32)
    told = tune([Fold(x[:400], label_sets[:400], x[400:], label_sets[400:])], "single", "macro_f1", nearest)
    assert told.dimensions == 8
    assert told.scores["neighbours"] > 0.9


@pytest.mark.parametrize("task", ["single", "multi"])
def test_both_voices_speak_unless_the_rows_clearly_say_otherwise(task: Task) -> None:
    assert tune([World(task, noise=0.01).fold()], task, "macro_f1", nearest).lambda_ == pytest.approx(0.3)
    rng = np.random.default_rng(0)
    # Two rings, one in the other: no line between them, and neighbours that are all of one kind.
    label_sets = [(("inner", "outer")[i % 2],) for i in range(400)]
    angles, radius = rng.random(400) * 2 * np.pi, np.where(np.arange(400) % 2, 3.0, 1.0)
    rings = (np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]).astype(np.float32)
    told = tune([Fold(rings[:300], label_sets[:300], rings[300:], label_sets[300:])], task, "macro_f1", nearest)
    assert told.lambda_ > 0.3
    assert told.scores["blend"] > told.scores["head"] + 0.2


@pytest.mark.parametrize("task", ["single", "multi"])
def test_a_joint_choice_is_the_best_blend_of_all(task: Task) -> None:
    world = World(task, noise=3.0)
    fold = world.fold(90, 60)
    grid = Grid(dimensions=(None, 4), ks=(1, 3, 9), temperatures=(2.0, np.inf), lambdas=(0.0, 0.4, 1.0), jointly=True)
    tuned = tune([fold], task, "macro_f1", nearest, grid)
    every = [
        tune([fold], task, "macro_f1", nearest, Grid((n,), (k,), (t,), (share,), jointly=True)).scores["blend"]
        for n in grid.dimensions
        for k in grid.ks
        for t in grid.temperatures
        for share in grid.lambdas
    ]
    assert tuned.scores["blend"] == max(every) > min(every)
    assert (tuned.dimensions, tuned.k, tuned.temperature, tuned.lambda_) in {
        (n, k, t, share) for n in grid.dimensions for k in grid.ks for t in grid.temperatures for share in grid.lambdas
    }


def test_a_head_that_was_trained_speaks_in_the_place_of_the_closed_form() -> None:
    world = World("single", noise=3.0)
    fold = world.fold(90, 60)
    said = LinearHead(world.names, np.eye(8)[:, :4], np.zeros(4), "single")
    tuned = tune([replace(fold, head=said)], "single", "accuracy", nearest, Grid(lambdas=(0.0,)))
    truth = [world.names.index(label) for (label,) in fold.held_label_sets]
    assert tuned.lambda_ == 0.0
    assert tuned.scores["blend"] == tuned.scores["head"]
    assert tuned.scores["head"] == np.mean(said.probabilities(fold.held_embeddings).argmax(axis=1) == truth)


@pytest.mark.parametrize("task", ["single", "multi"])
def test_labels_that_a_trained_head_does_not_know_are_left_to_the_neighbours(task: Task) -> None:
    world = World(task, noise=1.0)
    fold = world.fold(90, 60)
    known = LinearHead(world.names[:3], np.eye(8)[:, :3], np.zeros(3), task)
    head = align(known, world.names, {label: label for label in known.labels})
    tuned = tune([replace(fold, head=head)], task, "accuracy", nearest)
    p_head = head.probabilities(fold.held_embeddings)
    to_key = fit_whitening(fold.embeddings).first(tuned.dimensions)
    distances, rows = nearest(to_key.keys(fold.embeddings), to_key.keys(fold.held_embeddings), tuned.k)
    votes = vote(
        vote_weights(distances, tuned.temperature), rows.astype(np.int32), indicator(fold.label_sets, world.names)
    )
    blended = blend(votes, p_head, shares(votes, p_head, tuned.lambda_, task, head.known))
    truth = indicator(fold.held_label_sets, world.names)
    decided = blended >= tuned.threshold if task == "multi" else blended == blended.max(axis=1, keepdims=True)
    assert tuned.scores["blend"] == pytest.approx(score("accuracy", truth, decided))
    assert scores([replace(fold, head=head)], None, tuned, task, "accuracy", nearest) == pytest.approx(
        dict(tuned.scores)
    )


def test_a_head_of_the_networks_own_logits_is_asked_about_those() -> None:
    """The blend is that of a head which takes embeddings and says the same."""
    world = World("multi", noise=3.0)
    fold = world.fold(90, 60)
    by_embeddings = LinearHead(world.names, np.eye(8)[:, :4], np.zeros(4), "multi")
    own = LinearHead(world.names, np.eye(4), np.zeros(4), "multi")
    logits = fold.held_embeddings[:, :4].copy()
    grid = Grid(lambdas=(0.0, 0.5), jointly=True)
    expected = tune([replace(fold, head=by_embeddings)], "multi", "micro_f1", nearest, grid)
    folds = [replace(fold, head=own, held_logits=logits)]
    found = tune(folds, "multi", "micro_f1", nearest, grid)
    assert found == expected
    whitening = fit_whitening(fold.embeddings)
    again = scores(folds, whitening, found, "multi", "micro_f1", nearest)
    assert again["head"] == expected.scores["head"]
    without = (fold, replace(folds[0], head=None))
    made = [scores([one], whitening, found, "multi", "micro_f1", nearest) for one in without]
    assert made[0] == made[1]  # a head that is made from the examples takes embeddings, whatever there is beside them


def test_a_probe_is_the_usual_discriminant_at_its_likeliest_temperature() -> None:
    """No other temperature of a fine grid gives its own rows a clearly higher likelihood."""
    world = World("single", noise=4.0)
    embeddings, labels = world.rows(200)
    found = probe(embeddings, labels, "single")
    settings = HeadSettings(None, usual_shrinkage(*embeddings.shape), 1.0)
    plain = make_head(Statistics.of(embeddings, labels), no_whitening(8), settings, "single")
    assert found.labels == plain.labels == world.names
    ratio = plain.weights / found.weights
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-9)

    def likelihood(temperature: float) -> float:
        p = softmax((embeddings @ plain.weights + plain.bias) / temperature)
        return float(np.log([row[world.names.index(its[0])] for row, its in zip(p, labels, strict=True)]).mean())

    assert likelihood(ratio[0, 0]) >= max(likelihood(t) for t in np.geomspace(0.1, 100, 300)) - 1e-3


def test_a_probe_of_several_labels_says_each_as_often_as_it_is_there() -> None:
    world = World("multi", noise=4.0)
    embeddings, labels = world.rows(400)
    found = probe(embeddings, labels, "multi")
    p = sigmoid(embeddings @ found.weights + found.bias)
    shares = [np.mean([name in its for its in labels]) for name in found.labels]
    np.testing.assert_allclose(p.mean(axis=0), shares, atol=0.03)
