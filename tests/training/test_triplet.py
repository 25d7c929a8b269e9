"""The batch-hard triplet loss: against a loop, its edges and gradients, and in sentence-transformers' trainer."""

from __future__ import annotations

import math
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from sentence_transformers.base.sampler import BatchSamplers
from torch import Tensor

from likewise.errors import DataError, SettingError
from likewise.training.loading import load
from likewise.training.losses.triplet import TripletRanking
from naive import Given, batches, loss_of, shares, train

MARGINS = [0.2, 1.0, None]


def naive(embeddings: Tensor, labels: Tensor, margin: float | None) -> float:
    unit = [e / e.norm() for e in embeddings]
    each = []
    for i in range(len(unit)):
        positives, negatives = [], []
        for j in range(len(unit)):
            if j != i:
                (positives if shares(labels, i, j) else negatives).append(float((unit[i] - unit[j]).norm()))
        if positives and negatives:
            gap = max(positives) - min(negatives)
            each.append(math.log(1 + math.exp(gap)) if margin is None else max(0.0, margin + gap))
    return sum(each) / len(each) if each else 0.0


@settings(deadline=None, max_examples=100)
@given(batches(), st.sampled_from(MARGINS))
def test_the_triplet_loss_equals_the_double_loop(batch: tuple[Tensor, Tensor], margin: float | None) -> None:
    embeddings, labels = batch
    loss = TripletRanking(Given(), margin)
    expected = pytest.approx(naive(embeddings, labels, margin), abs=1e-6)
    assert float(loss.from_embeddings(embeddings, labels)) == expected
    assert float(loss([{"input": embeddings}], labels)) == expected


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("task", ["single", "multi"])
def test_gradients(margin: float | None, task: str) -> None:
    torch.manual_seed(3)
    # The last text has no positive: of one class alone, or without a label.
    labels = torch.tensor([0, 0, 0, 1, 1, 2]) if task == "single" else torch.tensor(
        [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0]], dtype=torch.float64
    )  # fmt: skip
    loss = TripletRanking(Given(), margin)
    embeddings = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert loss.from_embeddings(embeddings, labels).item() > 0
    assert torch.autograd.gradcheck(lambda e: loss.from_embeddings(e, labels), embeddings)


@pytest.mark.parametrize("margin", MARGINS)
def test_texts_that_are_all_the_same(margin: float | None) -> None:
    """As many duplicates as texts, of two classes: every distance is 0, and no gradient is infinite."""
    embeddings = torch.ones(4, 3, requires_grad=True)
    loss = TripletRanking(Given(), margin).from_embeddings(embeddings, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) if margin is None else margin)
    assert embeddings.grad is not None and torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("labels", [[0], [0, 0, 0], [0, 1, 2]], ids=["one text", "one class", "no two of a class"])
def test_a_batch_without_triplets_teaches_nothing(margin: float | None, labels: list[int]) -> None:
    embeddings = torch.randn(len(labels), 3, requires_grad=True)
    loss = TripletRanking(Given(), margin).from_embeddings(embeddings, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0
    assert embeddings.grad is not None and not embeddings.grad.any()


def test_what_it_says_and_refuses() -> None:
    assert TripletRanking(Given()).get_config_dict() == {"margin": 0.2}
    assert TripletRanking(Given(), None).get_config_dict() == {"margin": None}
    for margin in (-0.1, math.nan):
        with pytest.raises(SettingError, match="or None for the soft margin"):
            TripletRanking(Given(), margin)
    with pytest.raises(DataError, match="found 2 text columns; TripletRanking takes exactly one"):
        TripletRanking(Given())([{"input": torch.randn(2, 3)}] * 2, torch.tensor([0, 1]))


def test_it_trains_in_sentence_transformers_own_trainer(tiny_encoder: Path, tmp_path: Path) -> None:
    texts = ["good day", "bad bill", "nice night", "money lost", "rain and sun", "angry bank"] * 4
    labels = [0, 1] * 12
    loss = TripletRanking(load(tiny_encoder))
    before = loss_of(loss, [texts], labels)
    columns = {"text": texts, "label": labels}
    train(loss, columns, tmp_path, max_steps=10, batch_sampler=BatchSamplers.GROUP_BY_LABEL)
    assert loss_of(loss, [texts], labels) < 0.8 * before
