"""The losses on pairs: against a loop, in both conventions, their gradients, and in sentence-transformers' trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from likewise.errors import DataError, SettingError
from likewise.training.loading import load
from likewise.training.losses.alignment import ClassDrivenAlignment
from likewise.training.losses.contrastive_pairs import ContrastivePairs
from likewise.training.losses.cosine_pairs import CosinePairs
from likewise.training.losses.joint import Joint
from likewise.training.losses.pairs import PairObjective
from likewise.training.losses.siamese import SiameseDistance
from naive import Given, batches, cosine, loss_of, shares, train

LOSSES: dict[str, Callable[[], PairObjective]] = {
    "cosine": lambda: CosinePairs(Given()),
    "contrastive": lambda: ContrastivePairs(Given()),
    "contrastive, narrow": lambda: ContrastivePairs(Given(), margin=0.6),
    "siamese": lambda: SiameseDistance(Given()),
}


def naive(loss: PairObjective, embeddings: Tensor, labels: Tensor) -> float:
    """The mean over the pairs (0, 1), (2, 3), ... of what the loss's equation says."""
    each = []
    for i in range(0, len(embeddings), 2):
        c, same = cosine(embeddings[i], embeddings[i + 1]), shares(labels, i, i + 1)
        if isinstance(loss, ContrastivePairs):
            distance = math.sqrt(max(0.0, 2 - 2 * c))
            each.append(distance**2 / 2 if same else max(0.0, loss.margin - distance) ** 2 / 2)
        elif isinstance(loss, SiameseDistance):
            each.append((math.dist(embeddings[i].tolist(), embeddings[i + 1].tolist()) - (not same)) ** 2)
        else:
            each.append((c - same) ** 2)
    return sum(each) / len(each)


@pytest.mark.parametrize("which", LOSSES)
@settings(deadline=None, max_examples=60)
@given(batch=batches())
def test_a_pair_loss_equals_the_loop_in_both_conventions(which: str, batch: tuple[Tensor, Tensor]) -> None:
    embeddings, labels = (of[: len(of) // 2 * 2] for of in batch)
    if not len(embeddings):
        return
    loss = LOSSES[which]()
    expected = pytest.approx(naive(loss, embeddings, labels), abs=1e-6)
    assert float(loss.from_embeddings(embeddings, labels)) == expected
    assert float(loss([{"input": embeddings}], labels)) == expected

    columns = [{"input": embeddings[0::2]}, {"input": embeddings[1::2]}]
    same = [shares(labels, i, i + 1) for i in range(0, len(labels), 2)]
    for dtype in (torch.int64, torch.float32, torch.bool):  # as a Dataset gives integers, scores or truth values
        assert float(loss(columns, torch.tensor(same, dtype=dtype))) == expected


@pytest.mark.parametrize("which", LOSSES)
@pytest.mark.parametrize("task", ["single", "multi"])
def test_gradients(which: str, task: str) -> None:
    torch.manual_seed(2)
    loss = LOSSES[which]()
    labels = torch.tensor([0, 0, 1, 2, 2, 2, 0, 1]) if task == "single" else torch.tensor(
        [[1, 1], [0, 1], [1, 0], [0, 1], [1, 1], [1, 1], [0, 0], [0, 0]], dtype=torch.float64
    )  # fmt: skip
    embeddings = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: loss.from_embeddings(e, labels), embeddings)


@pytest.mark.parametrize("which", LOSSES)
@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 1, 2]], ids=["one class", "two classes"])
def test_a_text_paired_with_its_own_copy(which: str, labels: list[int]) -> None:
    """Distance 0 and cosine 1, and for the second pair nothing but zeros."""
    embeddings = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]], requires_grad=True)
    loss = LOSSES[which]().from_embeddings(embeddings, torch.tensor(labels))
    loss.backward()
    assert torch.isfinite(loss)
    assert embeddings.grad is not None and torch.isfinite(embeddings.grad).all()


def test_pairs_of_one_class_are_pulled_together_and_others_pushed_apart() -> None:
    for make in LOSSES.values():
        before = torch.tensor([[1.0, 0.0], [0.9, 0.3], [1.0, 0.0], [0.9, 0.3]], requires_grad=True)
        make().from_embeddings(before, torch.tensor([0, 0, 0, 1])).backward()
        assert before.grad is not None
        after = before.detach() - 0.01 * before.grad
        at_first = cosine(*before[:2].detach())
        assert cosine(after[0], after[1]) > at_first > cosine(after[2], after[3])


def test_the_usual_margin_is_a_right_angle() -> None:
    loss = ContrastivePairs(Given())
    different = torch.tensor([0])
    far, near = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 2.0]])
    anchor = {"input": torch.tensor([[3.0, 0.0]])}
    assert float(loss([anchor, {"input": far}], different)) == pytest.approx(0, abs=1e-12)
    assert float(loss([anchor, {"input": near}], different)) > 1e-4
    assert loss.get_config_dict() == {"margin": math.sqrt(2)}
    assert CosinePairs(Given()).get_config_dict() == {}


def test_a_pair_loss_is_part_of_a_joint_objective() -> None:
    model = Given()
    pairs, alignment = CosinePairs(model), ClassDrivenAlignment(model)
    joint = Joint(model, {"pairs": (0.5, pairs), "alignment": (2.0, alignment)})
    embeddings, labels = torch.randn(6, 3), torch.tensor([0, 1, 0, 0, 2, 2])
    apart = 0.5 * pairs.from_embeddings(embeddings, labels) + 2 * alignment.from_embeddings(embeddings, labels)
    assert float(joint([{"input": embeddings}], labels)) == pytest.approx(float(apart), rel=1e-6)
    assert model.calls == 1


def test_what_a_pair_loss_refuses() -> None:
    loss = CosinePairs(Given())
    column = {"input": torch.randn(3, 3)}
    one_each = torch.tensor([1, 0, 1])
    with pytest.raises(DataError, match=r"found 3 text columns; CosinePairs takes two, the pairs, or one"):
        loss([column] * 3, one_each)
    with pytest.raises(DataError, match=r"found 0 text columns"):
        loss([], one_each)
    with pytest.raises(DataError, match=r"found 3 texts; CosinePairs takes an even number"):
        loss([column], one_each)
    with pytest.raises(DataError, match=r"found the label 2 beside two text columns; .* takes 1 \(same class\) or 0"):
        loss([column] * 2, torch.tensor([1, 0, 2]))
    with pytest.raises(DataError, match=r"found labels of shape \(3, 2\) for 3 pairs"):
        loss([column] * 2, torch.ones(3, 2))
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(SettingError, match="expected a distance over 0"):
            ContrastivePairs(Given(), margin)


@pytest.mark.parametrize("kind", [CosinePairs, ContrastivePairs, SiameseDistance])
def test_a_pair_loss_trains_in_sentence_transformers_own_trainer(
    tiny_encoder: Path, tmp_path: Path, kind: type[CosinePairs | ContrastivePairs | SiameseDistance]
) -> None:
    a = ["good day", "bad bill", "good night", "rain now", "money please", "bank"] * 4
    b = ["nice day", "money lost", "bill paid", "good sun", "angry bank", "angry bill"] * 4
    labels = [1, 1, 0, 1, 1, 1] * 3 + [1, 1, 0, 0, 0, 1]
    loss = kind(load(tiny_encoder))
    before = loss_of(loss, [a, b], labels)
    train(loss, {"sentence1": a, "sentence2": b, "label": labels}, tmp_path, max_steps=10)
    assert loss_of(loss, [a, b], labels) < 0.8 * before
