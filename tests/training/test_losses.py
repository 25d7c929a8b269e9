"""Each loss against a loop that anyone can read, its gradient, and its use in sentence-transformers' own trainer."""

from __future__ import annotations

import math
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from likewise.errors import DataError, SettingError
from likewise.training.loading import load
from likewise.training.losses.alignment import ClassDrivenAlignment
from likewise.training.losses.classification import Classification
from likewise.training.losses.contrastive import SupervisedContrastive
from likewise.training.losses.joint import Joint
from likewise.training.losses.objective import Objective
from naive import Given, batches, cosine, shares, train


def naive_alignment(embeddings: Tensor, labels: Tensor, weights: list[float]) -> float:
    total = 0.0
    for i in range(len(embeddings)):
        positives, negatives = [], []
        for j in range(len(embeddings)):
            if i == j:
                continue
            c = cosine(embeddings[i], embeddings[j])
            if shares(labels, i, j):
                positives.append((c - 1) ** 2)
            else:
                negatives.append(c**2)
        for part in (positives, negatives):
            if part:
                total += weights[i] * sum(part) / len(part)
    return total / (2 * len(embeddings))


def naive_contrastive(embeddings: Tensor, labels: Tensor, temperature: float) -> float:
    each = []
    for i in range(len(embeddings)):
        others = [j for j in range(len(embeddings)) if j != i]
        e = {j: math.exp(cosine(embeddings[i], embeddings[j]) / temperature) for j in others}
        positives = [j for j in others if shares(labels, i, j)]
        if positives:
            each.append(-sum(math.log(e[j] / sum(e.values())) for j in positives) / len(positives))
    return sum(each) / len(each) if each else 0.0


@settings(deadline=None, max_examples=60)
@given(batches())
def test_alignment_equals_the_double_loop(batch: tuple[Tensor, Tensor]) -> None:
    embeddings, labels = batch
    loss = ClassDrivenAlignment(Given()).from_embeddings(embeddings, labels)
    assert float(loss) == pytest.approx(naive_alignment(embeddings, labels, [1.0] * len(labels)), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(batches())
def test_weighted_alignment_equals_the_double_loop(batch: tuple[Tensor, Tensor]) -> None:
    embeddings, labels = batch
    by_class = [0.5, 1.5, 3.0]
    if labels.ndim == 1:
        weights = [by_class[label] for label in labels.tolist()]
    else:
        borne = [[w for w, has in zip(by_class, row, strict=True) if has] for row in labels.tolist()]
        weights = [sum(of) / len(of) if of else 1.0 for of in borne]
    loss = ClassDrivenAlignment(Given(), by_class).from_embeddings(embeddings, labels)
    assert float(loss) == pytest.approx(naive_alignment(embeddings, labels, weights), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(batches(), st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_contrastive_equals_the_double_loop(batch: tuple[Tensor, Tensor], temperature: float) -> None:
    embeddings, labels = batch
    loss = SupervisedContrastive(Given(), temperature).from_embeddings(embeddings, labels)
    assert float(loss) == pytest.approx(naive_contrastive(embeddings, labels, temperature), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_classification_equals_the_written_out_likelihood(smoothing: float) -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(5, 3)
    several = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 0]], dtype=torch.float32)
    one = torch.tensor([0, 3, 1, 2, 2])

    single = Classification(Given(), 4, "single", label_smoothing=smoothing)
    logits = single.classifier(embeddings).tolist()
    expected = 0.0
    for row, label in zip(logits, one.tolist(), strict=True):
        whole = sum(math.exp(x) for x in row)
        for k, x in enumerate(row):
            target = (1 - smoothing) * (k == label) + smoothing / 4
            expected -= target * math.log(math.exp(x) / whole) / len(logits)
    assert single.from_embeddings(embeddings, one).item() == pytest.approx(expected, rel=1e-5)

    multi = Classification(Given(), 4, "multi", label_smoothing=smoothing)
    expected = 0.0
    for row, labels in zip(multi.classifier(embeddings).tolist(), several.tolist(), strict=True):
        for x, has in zip(row, labels, strict=True):
            p, target = 1 / (1 + math.exp(-x)), (1 - smoothing) * has + smoothing / 2
            expected -= (target * math.log(p) + (1 - target) * math.log(1 - p)) / 20
    assert multi.from_embeddings(embeddings, several).item() == pytest.approx(expected, rel=1e-5)


def test_dropout_follows_the_models_mode() -> None:
    model = Given()
    loss = Classification(model, 2, "single", dropout=0.5)
    embeddings, labels = torch.randn(50, 3), torch.zeros(50, dtype=torch.int64)
    model.train()
    assert loss.from_embeddings(embeddings, labels) != loss.from_embeddings(embeddings, labels)
    model.eval()
    assert loss.from_embeddings(embeddings, labels) == loss.from_embeddings(embeddings, labels)


def test_a_unit_classifier_sees_embeddings_of_length_1_and_in_full_precision() -> None:
    torch.manual_seed(0)
    model, labels = Given(), torch.tensor([0, 1, 2, 1, 0, 2])
    model.eval()
    loss, plain = Classification(model, 3, "single", unit=True), Classification(model, 3, "single")
    plain.classifier.load_state_dict({name: 50 * value for name, value in loss.classifier.state_dict().items()})
    loss.classifier.load_state_dict(plain.classifier.state_dict())
    embeddings = torch.randn(6, 3) * torch.tensor([[0.1], [1.0], [3.0], [10.0], [0.5], [2.0]])
    length_1 = embeddings / embeddings.norm(dim=1, keepdim=True)
    expected = plain.from_embeddings(length_1, labels)
    assert loss.from_embeddings(embeddings, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(loss.logits(embeddings), plain.logits(length_1), rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss.logits(embeddings), plain.logits(length_1))
        assert loss.logits(embeddings).dtype == torch.float32


def test_a_detached_classifier_does_not_teach_the_encoder() -> None:
    embeddings = torch.randn(4, 3, requires_grad=True)
    loss = Classification(Given(), 2, "single", detached=True)
    loss.from_embeddings(embeddings, torch.tensor([0, 1, 0, 1])).backward()
    assert embeddings.grad is None
    assert loss.classifier.weight.grad is not None


def test_a_network_that_classifies_is_taught_by_its_own_logits() -> None:
    """The same loss as by a layer that yields these logits, whatever the embeddings."""
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    logits, embeddings = torch.randn(3, 2, requires_grad=True), torch.randn(3, 3, requires_grad=True)

    class Classifying(Given):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {**super().forward(features), "logits": logits}

    model = Classifying()
    own = Classification(model, 2, "multi", label_smoothing=0.1, own=True)
    assert not [name for name, _ in own.named_parameters()]
    found = Joint(model, {"classifier": (2.0, own)})([{"input": embeddings}], labels)
    by_layer = Classification(Given(), 2, "multi", label_smoothing=0.1)
    assert found.item() == pytest.approx(2 * by_layer.from_logits(logits, labels).item())
    assert model.calls == 1
    found.backward()
    assert logits.grad is not None and logits.grad.any() and embeddings.grad is None
    with pytest.raises(DataError, match="logits of its own"):
        own.from_embeddings(embeddings, labels)


def every_loss(task: str) -> list[Objective]:
    model = Given()
    classification = Classification(model, 3, "single" if task == "single" else "multi", label_smoothing=0.1)
    alignment, contrastive = ClassDrivenAlignment(model, [0.5, 1.0, 2.0]), SupervisedContrastive(model, 0.2)
    joint = Joint(model, {"a": (1.0, classification), "b": (0.5, alignment), "c": (0.3, contrastive)})
    return [classification, alignment, contrastive, joint]


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("which", range(4), ids=["classification", "alignment", "contrastive", "joint"])
def test_gradients(task: str, which: int) -> None:
    torch.manual_seed(1)
    loss = every_loss(task)[which].double().eval()
    # The last text has no positive: of one class alone, or without a label.
    labels = torch.tensor([0, 0, 1, 1, 2]) if task == "single" else torch.tensor(
        [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=torch.float64
    )  # fmt: skip
    embeddings = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: loss.from_embeddings(e, labels), embeddings)


def algorithm_1(labels: list[int], rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """The paper's sampling for one epoch: a positive and a negative pair for each text, drawn from all others."""
    samples = []
    for i, label in enumerate(labels):
        positives = [j for j, other in enumerate(labels) if other == label and j != i]
        negatives = [j for j, other in enumerate(labels) if other != label]
        samples += [(i, int(rng.choice(positives)), 1), (i, int(rng.choice(negatives)), 0)]
    return samples


UNBALANCED = [0] * 8 + [1] * 3 + [2] * 2


def sampled_loss(embeddings: Tensor, labels: list[int], epochs: int) -> float:
    rng = np.random.default_rng(0)
    cosines = [[cosine(a, b) for b in embeddings] for a in embeddings]
    pairs = [pair for _ in range(epochs) for pair in algorithm_1(labels, rng)]
    return sum((cosines[i][j] - y) ** 2 for i, j, y in pairs) / len(pairs)


def test_alignment_is_what_algorithm_1_gives_on_average() -> None:
    embeddings = torch.tensor(np.random.default_rng(5).normal(size=(len(UNBALANCED), 4)))
    loss = float(ClassDrivenAlignment(Given()).from_embeddings(embeddings, torch.tensor(UNBALANCED)))
    assert sampled_loss(embeddings, UNBALANCED, 1500) == pytest.approx(loss, abs=0.006)


def test_class_weights_undo_balanced_batches() -> None:
    """Batches of two texts a class show the rare classes too often; weighted, texts count alike all the same."""
    embeddings = torch.tensor(np.random.default_rng(6).normal(size=(len(UNBALANCED), 4)))
    labels = torch.tensor(UNBALANCED)
    shares = np.bincount(UNBALANCED) / len(UNBALANCED)
    weighted = ClassDrivenAlignment(Given(), (shares / (1 / 3)).tolist())
    plain = ClassDrivenAlignment(Given())
    rng = np.random.default_rng(7)
    drawn: dict[str, list[float]] = {"weighted": [], "plain": []}
    for _ in range(3000):
        rows = np.concatenate([rng.choice(np.flatnonzero(labels.numpy() == c), 2, replace=False) for c in range(3)])
        drawn["weighted"].append(float(weighted.from_embeddings(embeddings[rows], labels[rows])))
        drawn["plain"].append(float(plain.from_embeddings(embeddings[rows], labels[rows])))
    expected = balanced_negatives(embeddings, UNBALANCED)
    assert np.mean(drawn["weighted"]) == pytest.approx(expected, abs=0.006)
    assert abs(np.mean(drawn["plain"]) - expected) > 0.02


def balanced_negatives(embeddings: Tensor, labels: list[int]) -> float:
    """Algorithm 1's loss, but a negative's class is drawn before the negative, as balanced batches have it."""
    total = 0.0
    for i, label in enumerate(labels):
        by_class = {
            c: [cosine(embeddings[i], embeddings[j]) for j in range(len(labels)) if labels[j] == c and j != i]
            for c in set(labels)
        }
        total += float(np.mean([(c - 1) ** 2 for c in by_class[label]]))
        total += float(np.mean([np.mean(np.square(by_class[c])) for c in by_class if c != label]))
    return total / (2 * len(labels))


def test_joint_is_the_weighted_sum_from_one_forward_pass() -> None:
    model = Given()
    alignment, contrastive = ClassDrivenAlignment(model), SupervisedContrastive(model, 0.5)
    joint = Joint(model, {"alignment": (0.25, alignment), "contrastive": (2.0, contrastive)})
    embeddings, labels = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 2, 2])
    apart = 0.25 * alignment.from_embeddings(embeddings, labels) + 2 * contrastive.from_embeddings(embeddings, labels)
    assert float(joint([{"input": embeddings}], labels)) == pytest.approx(float(apart), rel=1e-6)
    assert model.calls == 1
    assert joint.get_config_dict()["contrastive"] == {"weight": 2.0, "temperature": 0.5, "projection": "none"}


def test_what_a_loss_refuses() -> None:
    model = Given()
    two = [{"input": torch.randn(2, 3)}, {"input": torch.randn(2, 3)}]
    with pytest.raises(DataError, match=r"found 2 text columns; ClassDrivenAlignment takes exactly one"):
        ClassDrivenAlignment(model)(two, torch.tensor([0, 1]))
    with pytest.raises(DataError, match=r"shape \(2,\); a multi-label task takes \(n, L\)"):
        Classification(model, 2, "multi").from_embeddings(torch.randn(2, 3), torch.tensor([0, 1]))
    with pytest.raises(SettingError, match="no parts"):
        Joint(model, {})


@pytest.mark.parametrize("which", range(4), ids=["classification", "alignment", "contrastive", "joint"])
def test_every_loss_trains_in_sentence_transformers_own_trainer(tiny_encoder: Path, tmp_path: Path, which: int) -> None:
    model = load(tiny_encoder)
    losses: list[Objective] = [
        Classification(model, 2, "single"),
        ClassDrivenAlignment(model),
        SupervisedContrastive(model),
    ]
    losses.append(Joint(model, {str(at): (1.0, loss) for at, loss in enumerate(losses)}))
    loss = losses[which]
    before = [p.detach().clone() for p in loss.parameters()]
    train(loss, {"text": ["good", "fine", "bad", "poor"] * 4, "label": [0, 0, 1, 1] * 4}, tmp_path, max_steps=2)
    moved = sum(not torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))
    assert moved > len(before) / 2
