from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from likewise.decision.head import HeadSettings, LinearHead, log_odds, make_head, sigmoid, softmax
from likewise.decision.statistics import Statistics
from likewise.decision.whitening import Whitening, fit_whitening, no_whitening
from likewise.types import Task

D = 5
RNG = np.random.default_rng(3)
POOL = (RNG.normal(size=(40, D)) + 2).astype(np.float32)
NONE = no_whitening(D)
WHITENING = fit_whitening(POOL)
SINGLE = [(label,) for label in "abcd"]
MULTI = [(), ("a",), ("b",), ("a", "b"), ("c",), ("a", "c", "d")]
SETTINGS = {
    "single": HeadSettings(shrinkage=0.1, prior=0.7, temperature=2.5),
    "multi": HeadSettings(shrinkage=0.1, maps={"a": (1.5, -0.2), "b": (0.7, 0.1)}, pooled_map=(1.2, -0.1)),
}


def logits(head: LinearHead, rows: np.ndarray) -> np.ndarray:
    return rows @ head.weights + head.bias


def data(task: Task, n: int = 40, seed: int = 5) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    rng = np.random.default_rng(seed)
    sets = SINGLE if task == "single" else MULTI
    chosen = [sets[i] for i in rng.integers(len(sets), size=n)]
    centre = {label: rng.normal(size=D) for label in "abcd"}
    shift = np.array([sum((centre[label] for label in row), np.zeros(D)) for row in chosen])
    return (rng.normal(size=(n, D)) + shift).astype(np.float32), chosen


def check_following(task: Task, whitening: Whitening, dimensions: int | None, operations: list) -> None:
    """Statistics that follow the operations make the head that all current rows make."""
    sets = SINGLE if task == "single" else MULTI
    settings_ = HeadSettings(**{**vars(SETTINGS[task]), "dimensions": dimensions})
    current = [(i, sets[i % 2 + 1]) for i in range(4)]
    statistics = Statistics.of(POOL[:4], [labels for _, labels in current])
    for kind, which, set_number in operations:
        labels = sets[set_number % len(sets)]
        if kind == "add":
            current.append((which, labels))
            statistics.add(POOL[[which]], [labels])
            continue
        if len(current) < 2:
            continue
        row, before = current.pop(which % len(current))
        statistics.remove(POOL[[row]], [before])
        if kind == "relabel":
            current.append((row, labels))
            statistics.add(POOL[[row]], [labels])
    afresh = Statistics.of(POOL[[row for row, _ in current]], [labels for _, labels in current])
    followed = make_head(statistics, whitening, settings_, task)
    expected = make_head(afresh, whitening, settings_, task)
    assert followed.labels == expected.labels == sorted({label for _, labels in current for label in labels})
    for found, wanted in ((followed.weights, expected.weights), (followed.bias, expected.bias)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max(initial=1e-6))
    np.testing.assert_allclose(followed.probabilities(POOL), expected.probabilities(POOL), atol=1e-5)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "relabel"]), st.integers(0, 39), st.integers(0, 5)), max_size=30
)


@settings(deadline=None, max_examples=60)
@given(OPERATIONS, st.sampled_from([None, 3]))
def test_single_label_head_follows_every_change(operations: list, dimensions: int | None) -> None:
    check_following("single", WHITENING, dimensions, operations)


@settings(deadline=None, max_examples=60)
@given(OPERATIONS, st.sampled_from([None, 3]))
def test_multi_label_head_follows_every_change(operations: list, dimensions: int | None) -> None:
    check_following("multi", WHITENING, dimensions, operations)


@pytest.mark.parametrize("task", ["single", "multi"])
def test_a_class_appears_and_one_vanishes(task: Task) -> None:
    new_labels = len(SINGLE) - 1 if task == "single" else len(MULTI) - 1
    appears = [("add", i, new_labels) for i in range(10, 14)]
    vanishes = [("remove", 1, 0), ("remove", 2, 0)]  # both rows of the second label among the first four
    check_following(task, WHITENING, None, appears)
    check_following(task, WHITENING, None, appears + vanishes)
    check_following(task, WHITENING, 3, vanishes + appears)


def test_discriminant_is_the_gaussian_posterior() -> None:
    rows, sets = data("single", 60)
    chosen = HeadSettings(shrinkage=0.2, prior=0.5, temperature=3.0)
    x = rows.astype(np.float64)
    owners = np.array([labels[0] for labels in sets])
    labels = sorted(set(owners))
    means = {label: x[owners == label].mean(axis=0) for label in labels}
    within = sum(np.outer(r - means[o], r - means[o]) for r, o in zip(x, owners, strict=True)) / len(x)
    s = 0.8 * within + 0.2 * np.trace(within) / D * np.eye(D)
    inverse, (_, logdet) = np.linalg.inv(s), np.linalg.slogdet(s)
    naive = np.zeros((len(x), len(labels)))
    for i, row in enumerate(x):
        for j, label in enumerate(labels):
            apart = row - means[label]
            density = -0.5 * (apart @ inverse @ apart + logdet + D * np.log(2 * np.pi))
            naive[i, j] = (density + 0.5 * np.log((owners == label).mean())) / 3.0
    head = make_head(Statistics.of(rows, sets), NONE, chosen, "single")
    assert head.labels == labels
    np.testing.assert_allclose(head.probabilities(rows), softmax(naive), rtol=1e-8, atol=1e-12)


def test_ridge_is_scikit_learns_ridge_rescaled() -> None:
    rows, sets = data("multi", 80)
    shrinkage, n = 0.3, len(rows)
    x = rows.astype(np.float64)
    variance = np.trace(np.cov(x, rowvar=False, bias=True)) / D
    statistics = Statistics.of(rows, sets)
    head = make_head(statistics, NONE, HeadSettings(shrinkage=shrinkage), "multi")
    odds = log_odds(statistics)
    for j, label in enumerate(head.labels):
        indicator = np.array([label in labels for labels in sets], dtype=float)
        # (1 - a) C + a v I is, up to the factor 1 - a, C + alpha / N I.
        ridge = Ridge(alpha=n * shrinkage * variance / (1 - shrinkage)).fit(x, indicator)
        scale = 1 / ((1 - shrinkage) * indicator.mean())
        np.testing.assert_allclose(head.weights[:, j], ridge.coef_ * scale, rtol=1e-7)
        np.testing.assert_allclose(
            logits(head, rows)[:, j] - odds[j], (ridge.predict(x) - indicator.mean()) * scale, rtol=1e-6, atol=1e-8
        )


def test_logistic_maps_apply_by_label_and_the_pooled_one_elsewhere() -> None:
    rows, sets = data("multi")
    statistics = Statistics.of(rows, sets)
    plain = logits(make_head(statistics, NONE, HeadSettings(), "multi"), rows) - log_odds(statistics)
    mapped = make_head(statistics, NONE, HeadSettings(maps={"b": (2.0, 0.5)}, pooled_map=(3.0, -1.0)), "multi")
    for j, (slope, intercept) in enumerate([(3.0, -1.0), (2.0, 0.5), (3.0, -1.0), (3.0, -1.0)]):
        expected = slope * plain[:, j] + intercept + log_odds(statistics)[j]
        np.testing.assert_allclose(logits(mapped, rows)[:, j], expected)
        np.testing.assert_allclose(mapped.probabilities(rows)[:, j], 1 / (1 + np.exp(-expected)))


def test_log_odds() -> None:
    rows, sets = POOL[:4], [("a", "b"), ("a",), ("a",), ("a",)]
    found = log_odds(Statistics.of(rows, sets))
    assert found[1] == pytest.approx(np.log(1 / 3))
    assert found[0] > np.log(3)  # every example bears it: large, but finite
    assert np.isfinite(found[0])


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("dimensions", [1, 3, 10**6])
def test_on_whitened_dimensions_it_is_the_head_of_the_keys(task: Task, dimensions: int) -> None:
    rows, sets = data(task)
    whitening = fit_whitening(rows)
    keys = whitening.first(dimensions).keys(rows)
    chosen = SETTINGS[task]
    of_embeddings = make_head(
        Statistics.of(rows, sets), whitening, HeadSettings(**{**vars(chosen), "dimensions": dimensions}), task
    )
    of_keys = make_head(Statistics.of(keys, sets), no_whitening(keys.shape[1]), chosen, task)
    np.testing.assert_allclose(of_embeddings.probabilities(rows), of_keys.probabilities(keys), atol=1e-4)


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("dimensions", [None, 4])
@pytest.mark.parametrize("shrinkage", [0.01, 0.9])
def test_one_example_a_class(task: Task, dimensions: int | None, shrinkage: float) -> None:
    """There is no variance within a class; each text must still be nearest to itself."""
    rows = np.random.default_rng(0).normal(size=(6, 300)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    chosen = HeadSettings(dimensions, shrinkage)
    head = make_head(Statistics.of(rows, [(label,) for label in "abcdef"]), fit_whitening(rows), chosen, task)
    found = head.probabilities(rows)
    assert np.isfinite(found).all()
    assert found.argmax(axis=1).tolist() == list(range(6))


@pytest.mark.parametrize("task", ["single", "multi"])
def test_equal_embeddings_leave_it_to_the_frequencies(task: Task) -> None:
    rows = np.repeat(POOL[:1], 8, axis=0)
    sets = [("often",)] * 6 + [("seldom",)] * 2
    for dimensions in (None, 3):
        head = make_head(Statistics.of(rows, sets), fit_whitening(rows), HeadSettings(dimensions), task)
        np.testing.assert_allclose(head.probabilities(rows[:1]), [[0.75, 0.25]], atol=1e-6)


def test_a_single_example() -> None:
    head = make_head(Statistics.of(POOL[:1], [("a",)]), NONE, HeadSettings(), "single")
    np.testing.assert_allclose(head.probabilities(POOL), 1.0)


def test_softmax_and_sigmoid_at_extremes() -> None:
    extreme = np.array([[1e5, 0.0, -1e5], [-np.inf, 2.0, 2.0]])
    np.testing.assert_allclose(softmax(extreme), [[1, 0, 0], [0, 0.5, 0.5]])
    np.testing.assert_allclose(sigmoid(extreme), [[1, 0.5, 0], [0, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-2))]])
