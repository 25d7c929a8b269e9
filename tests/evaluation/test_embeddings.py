"""What is said of embeddings: by loops that anyone can read, and on embeddings whose answer is known."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from likewise.errors import DataError
from likewise.evaluation.embeddings import clustering, delta_emb, retrieval


@st.composite
def tables(draw: st.DrawFn) -> tuple[NDArray[np.float64], list[str]]:
    n = draw(st.integers(4, 25))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = [f"l{i}" for i in rng.integers(0, draw(st.integers(1, 4)), n)]
    return rng.normal(size=(n, 4)), ["x", "x", "y", "y", *labels[4:]]


def naive_retrieval(embeddings: NDArray[np.float64], labels: list[str]) -> dict[str, float]:
    each: dict[str, list[float]] = {"mrr": [], "p_at_1": [], "map_at_r": []}
    for i, label in enumerate(labels):
        others = [j for j in range(len(labels)) if j != i]
        r = sum(labels[j] == label for j in others)
        if not r:
            continue

        def cosine(j: int, i: int = i) -> float:
            a, b = embeddings[i], embeddings[j]
            return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

        ranked = [labels[j] == label for j in sorted(others, key=cosine, reverse=True)]
        each["mrr"].append(1 / (1 + ranked.index(True)))
        each["p_at_1"].append(float(ranked[0]))
        each["map_at_r"].append(sum(sum(ranked[: p + 1]) / (p + 1) for p in range(r) if ranked[p]) / r)
    return {name: sum(values) / len(values) for name, values in each.items()}


@settings(deadline=None, max_examples=60)
@given(tables())
def test_retrieval_equals_the_loop(table: tuple[NDArray[np.float64], list[str]]) -> None:
    assert retrieval(*table) == pytest.approx(naive_retrieval(*table), abs=1e-6)


def test_clusters_that_are_the_classes_and_clusters_of_chance() -> None:
    rng = np.random.default_rng(0)
    labels = [f"l{i % 3}" for i in range(90)]
    apart = 0.1 * rng.normal(size=(90, 3)) + np.eye(3)[[i % 3 for i in range(90)]] * 5
    assert clustering(apart, labels) == pytest.approx({"ami": 1.0, "ari": 1.0, "fms": 1.0})
    assert retrieval(apart, labels) == pytest.approx({"mrr": 1.0, "p_at_1": 1.0, "map_at_r": 1.0})
    chance = clustering(rng.normal(size=(90, 3)), labels, seed=3)
    assert abs(chance["ami"]) < 0.1 and abs(chance["ari"]) < 0.1 and 0.2 < chance["fms"] < 0.6
    assert clustering(apart, labels, seed=1) == clustering(apart, labels, seed=1)


def test_how_far_embeddings_have_moved() -> None:
    before = np.zeros((2, 2), dtype=np.float32)
    after = np.array([[3.0, 4.0], [0.0, 1.0]], dtype=np.float32)
    assert delta_emb(before, after) == 3.0
    with pytest.raises(ValueError, match="shapes"):
        delta_emb(before, after[:1])


def test_what_cannot_be_measured() -> None:
    with pytest.raises(DataError, match="found 2 embeddings and 1 labels"):
        retrieval(np.zeros((2, 2)), ["a"])
    for measure in (retrieval, clustering):
        with pytest.raises(DataError, match="found 1 label"):
            measure(np.zeros((2, 2)), ["a", "a"])
