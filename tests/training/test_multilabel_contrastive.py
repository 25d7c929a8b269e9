"""The multi-label contrastive loss against a loop, its gradient, and what it does in the library's own trainer."""

from __future__ import annotations

import math
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from likewise.errors import SettingError
from likewise.training.loading import load
from likewise.training.losses.multilabel_contrastive import MultiLabelContrastive
from naive import Given, batches, train


def naive(embeddings: Tensor, labels: Tensor, temperature: float, counted: bool) -> float:
    n, rows = len(embeddings), embeddings.tolist()
    multi = (
        labels.tolist() if labels.ndim == 2 else [[float(label == c) for c in range(9)] for label in labels.tolist()]
    )
    total = 0.0
    for i in range(n):
        others = [k for k in range(n) if k != i]
        common = {k: sum(a * b for a, b in zip(multi[i], multi[k], strict=True)) for k in others}
        if not counted:
            common = {k: min(c, 1.0) for k, c in common.items()}
        e = {k: math.exp(-math.dist(rows[i], rows[k]) / temperature) for k in others}
        for j in others:
            if sum(common.values()):
                total -= common[j] / sum(common.values()) * math.log(e[j] / sum(e.values()))
    return total


@settings(deadline=None, max_examples=80)
@given(batches(), st.sampled_from([0.5, 1.0, 10.0]), st.booleans())
def test_it_equals_the_double_loop(batch: tuple[Tensor, Tensor], temperature: float, counted: bool) -> None:
    loss = MultiLabelContrastive(Given(), temperature, counted).from_embeddings(*batch)
    assert float(loss) == pytest.approx(naive(*batch, temperature, counted), abs=1e-6)


@pytest.mark.parametrize("counted", [True, False])
def test_gradients(counted: bool) -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]])
    loss = MultiLabelContrastive(Given(), 2.0, counted)
    assert torch.autograd.gradcheck(lambda e: loss.from_embeddings(e, labels), embeddings)


def test_equal_texts_and_a_text_alone_give_no_infinities() -> None:
    embeddings = torch.zeros(3, 3, requires_grad=True)
    labels = torch.tensor([[1, 0], [1, 0], [0, 1]])
    loss = MultiLabelContrastive(Given()).from_embeddings(embeddings, labels)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2 * math.log(2)) and embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert float(MultiLabelContrastive(Given()).from_embeddings(torch.randn(1, 3), labels[:1])) == 0.0
    with pytest.raises(SettingError, match="temperature is 0"):
        MultiLabelContrastive(Given(), 0.0)


def test_two_shared_labels_count_for_more_than_one_unless_they_are_clipped() -> None:
    labels = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1]])  # the first shares two with the second, one with the third
    near_second = torch.tensor([[0.0, 0, 0], [1, 0, 0], [9, 0, 0]])
    near_third = torch.tensor([[0.0, 0, 0], [9, 0, 0], [1, 0, 0]])

    def of_first(embeddings: Tensor, counted: bool) -> float:
        row = embeddings.clone().requires_grad_()
        loss = MultiLabelContrastive(Given(), 1.0, counted).from_embeddings(row, labels)
        return float(loss.detach())

    assert of_first(near_second, True) < of_first(near_third, True)
    assert of_first(near_second, True) < of_first(near_second, False)


def test_in_the_librarys_own_trainer_texts_come_nearer_the_more_labels_they_share(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    texts = ["red apple", "green apple", "blue car", "fast car"] * 4
    labels = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]] * 4
    model = load(tiny_encoder)
    train(MultiLabelContrastive(model, 1.0), {"text": texts, "label": labels}, tmp_path, num_train_epochs=8)
    e = torch.tensor(model.encode(texts[:4]))
    distance = torch.cdist(e, e)
    assert distance[0, 1] < distance[0, 2] < distance[0, 3]
