"""Algorithm 1's pairs: what each must be, how evenly partners are drawn, and batches of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from numpy.typing import NDArray

from likewise.errors import DataError
from likewise.training import pair_sampling
from likewise.training.loading import load
from likewise.training.losses.alignment import ClassDrivenAlignment
from likewise.training.losses.cosine_pairs import CosinePairs
from likewise.training.pair_sampling import PairBatchSampler, draw_pairs
from naive import Given, loss_of, one_label, several_labels, shares, train

# Partners for one reason and for two, one rare label, a text that shares with all the others, one without labels.
SEVERAL = np.array(
    [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
)
# The last text is alone in its class.
SINGLE = np.array([1, 0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 2, 3])


def candidates(labels: NDArray[Any], i: int, same: bool) -> list[int]:
    return [j for j in range(len(labels)) if j != i and shares(labels, i, j) == same]


def sampler(labels: Any, batch_size: int, **more: Any) -> PairBatchSampler:
    data = Dataset.from_dict({"text": ["x"] * len(labels), "label": labels})
    return PairBatchSampler(data, batch_size, **more)


def pairs_of(batches: list[list[int]]) -> list[tuple[int, int]]:
    return [(batch[at], batch[at + 1]) for batch in batches for at in range(0, len(batch), 2)]


@settings(deadline=None, max_examples=100)
@given(st.one_of(one_label(), several_labels()), st.integers(0, 10**6))
def test_each_text_gets_a_positive_and_a_negative_where_there_is_one(
    rows: tuple[NDArray[Any], NDArray[Any]], seed: int
) -> None:
    labels, _ = rows
    pairs = draw_pairs(labels, np.random.default_rng(seed))
    assert pairs.dtype == np.int64
    kinds = [(i, shares(labels, i, j)) for i, j in pairs.tolist()]
    # In the order of Algorithm 1: text after text, each with its positive, then its negative.
    assert kinds == [(i, same) for i in range(len(labels)) for same in (True, False) if candidates(labels, i, same)]
    assert all(i != j for i, j in pairs.tolist())
    if labels.ndim == 1 and min(np.bincount(labels)) > 1 and len(np.unique(labels)) > 1:
        assert len(pairs) == 2 * len(labels)


@pytest.mark.parametrize("tries", [1, 100])
@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one label", "several labels"])
def test_every_candidate_is_equally_likely(labels: NDArray[Any], tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pearson's statistic over all texts stays below what chance exceeds about once in a million."""
    monkeypatch.setattr(pair_sampling, "TRIES", tries)
    rng, draws = np.random.default_rng(0), 4000
    drawn = np.zeros((len(labels), len(labels)))
    for _ in range(draws):
        np.add.at(drawn, tuple(draw_pairs(labels, rng).T), 1)
    statistic, freedom = 0.0, 0
    for i in range(len(labels)):
        for same in (True, False):
            among = candidates(labels, i, same)
            if among:
                counts = drawn[i, among]
                assert counts.sum() == draws
                statistic += float(((counts - draws / len(among)) ** 2).sum() / (draws / len(among)))
                freedom += len(among) - 1
    assert freedom > 30
    assert statistic < freedom + 5.5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one label", "several labels"])
def test_alignment_of_the_whole_set_is_the_mean_over_drawn_pairs(labels: NDArray[Any]) -> None:
    """Of m pairs each counts 1/m; alignment counts each as half of 1/n, whether or not a text has both."""
    embeddings = torch.tensor(np.random.default_rng(8).normal(size=(len(labels), 4)))
    rng = np.random.default_rng(9)
    draws = [draw_pairs(labels, rng) for _ in range(5000)]
    m, n = len(draws[0]), len(labels)
    assert m < 2 * n  # some text has no positive, or no negative
    rows = torch.tensor(np.concatenate(draws).ravel())
    one, other = (torch.tensor(labels)[rows[at::2]] for at in (0, 1))
    same = one == other if labels.ndim == 1 else (one * other).any(dim=1)
    sampled = CosinePairs(Given()).from_pairs(embeddings[rows[0::2]], embeddings[rows[1::2]], same)
    alignment = ClassDrivenAlignment(Given()).from_embeddings(embeddings, torch.tensor(labels))
    assert float(sampled) * m / (2 * n) == pytest.approx(float(alignment), abs=0.004)


@settings(deadline=None, max_examples=50)
@given(st.one_of(one_label(), several_labels()), st.integers(1, 40), st.integers(0, 3), st.booleans())
def test_batches_hold_all_pairs_of_the_epoch(
    rows: tuple[NDArray[Any], NDArray[Any]], batch_size: int, epoch: int, drop_last: bool
) -> None:
    labels, lengths = rows
    if len(labels) == 1:
        return
    batches = sampler(labels, batch_size, drop_last=drop_last, lengths=lengths)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert len(drawn) == len(batches)
    assert all(len(batch) == 2 * batch_size for batch in drawn[:-1])
    expected = [(i, same) for i in range(len(labels)) for same in (True, False) if candidates(labels, i, same)]
    kinds = [(i, shares(labels, i, j)) for i, j in pairs_of(drawn)]
    if drop_last:
        assert all(len(batch) == 2 * batch_size for batch in drawn)
        assert len(kinds) == len(expected) // batch_size * batch_size
        assert set(kinds) <= set(expected)
        assert len(set(kinds)) == len(kinds)
    else:
        assert sorted(kinds) == sorted(expected)


def test_the_same_seed_and_epoch_give_the_same_batches() -> None:
    labels = np.random.default_rng(1).integers(0, 5, 100)
    first = sampler(labels, 16, seed=3)
    epoch_0 = list(first)
    first.set_epoch(1)
    epoch_1 = list(first)

    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    again = sampler(labels, 16, seed=3, lengths=np.arange(100))
    again.set_epoch(1)
    assert list(again) == epoch_1
    again.set_epoch(0)
    assert list(again) == epoch_0
    assert set(pairs_of(epoch_0)) != set(pairs_of(epoch_1))  # drawn anew, not only shuffled
    assert [i for i, _ in pairs_of(epoch_0)] != sorted(i for i, _ in pairs_of(epoch_0))
    assert list(sampler(labels, 16, seed=4)) != epoch_0
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_several_passes_make_one_epoch() -> None:
    batches = sampler(np.arange(10) % 2, 8, passes=3)
    drawn = list(batches)
    assert len(drawn) == len(batches) == 9  # 20 pairs a pass: 8, 8 and 4
    assert [len(batch) // 2 for batch in drawn] == [8, 8, 4] * 3
    passes = [set(pairs_of(drawn[at : at + 3])) for at in (0, 3, 6)]
    assert passes[0] != passes[1] != passes[2]
    alone = sampler(np.arange(10) % 2, 8)
    batches.set_epoch(1)
    alone.set_epoch(3)
    assert list(batches)[:3] == list(alone)  # no pass is drawn twice


def test_columns_are_found_and_faults_named() -> None:
    data = Dataset.from_dict({"text": ["a", "b", "c", "d"], "score": [0, 1, 0, 1]})
    assert len(PairBatchSampler(data, 3)) == 3
    assert len(PairBatchSampler(data.rename_column("score", "kind"), 3, valid_label_columns=["kind"])) == 3
    with pytest.raises(DataError, match="found no label column among"):
        PairBatchSampler(data.remove_columns("score"), 2)
    with pytest.raises(DataError, match="found 1 labelled texts to pair; give at least two"):
        PairBatchSampler(data.select([0]), 2)


def test_sentence_transformers_own_trainer_takes_the_batches(tiny_encoder: Path, tmp_path: Path) -> None:
    texts = ["good day", "bad bill", "nice night", "money lost", "rain and sun", "angry bank"]
    labels = [0, 1] * 3
    loss = CosinePairs(load(tiny_encoder))
    pairs = draw_pairs(np.array(labels), np.random.default_rng(0)).ravel()
    measured = [[texts[row] for row in pairs]], [labels[row] for row in pairs]
    before = loss_of(loss, *measured)
    train(
        loss, {"text": texts, "label": labels}, tmp_path,
        num_train_epochs=4, per_device_train_batch_size=4, batch_sampler=PairBatchSampler,
    )  # fmt: skip
    assert loss_of(loss, *measured) < 0.8 * before
