"""What retrofitting adds: contrast of projections, and preservation of what the encoder was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from likewise.errors import DataError, SettingError
from likewise.training.loading import load
from likewise.training.losses.contrastive import PROJECTED, SupervisedContrastive
from likewise.training.losses.joint import Joint
from likewise.training.losses.preservation import Preservation
from naive import Given, batches, train


@settings(deadline=None, max_examples=30)
@given(batches(), st.sampled_from(["linear", "mlp"]))
def test_contrast_of_a_projection_is_that_of_what_the_layers_yield(batch: tuple[Tensor, Tensor], kind: Any) -> None:
    embeddings, labels = batch
    loss = SupervisedContrastive(Given(), 0.2, kind).double()
    layers = [module for module in loss.projection.modules() if isinstance(module, nn.Linear)]
    rows = []
    for row in embeddings.tolist():  # the layers as sums
        for number, layer in enumerate(layers):
            weights, bias = layer.weight.tolist(), layer.bias.tolist()
            row = [
                b + sum(w * x for w, x in zip(line, row, strict=True)) for line, b in zip(weights, bias, strict=True)
            ]
            if number < len(layers) - 1:
                row = [max(0.0, x) for x in row]
        rows.append(row)
    assert len(layers) == (1 if kind == "linear" else 2)
    assert len(rows[0]) == PROJECTED == 64
    plain = SupervisedContrastive(Given(), 0.2).from_embeddings(torch.tensor(rows, dtype=torch.float64), labels)
    assert float(loss.from_embeddings(embeddings, labels).detach()) == pytest.approx(float(plain), abs=1e-9)


@pytest.mark.parametrize("kind", ["none", "linear", "mlp"])
def test_gradients_of_projected_contrast(kind: Any) -> None:
    torch.manual_seed(0)
    loss = SupervisedContrastive(Given(), 0.5, kind).double()
    labels = torch.tensor([0, 0, 1, 1, 2])
    embeddings = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: loss.from_embeddings(e, labels), embeddings)


def test_an_encoder_of_unknown_width_cannot_be_projected() -> None:
    with pytest.raises(SettingError, match="dimensions"):
        SupervisedContrastive(nn.Linear(2, 2), 0.1, "linear")


class Linear(nn.Module):
    """An encoder that can be read: a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2).double()

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        features["sentence_embedding"] = self.layer(features["input"])  # as sentence-transformers: in place
        return features


def test_preservation_is_the_mean_squared_difference_to_before() -> None:
    model = Linear()
    loss = Preservation(model)
    inputs = torch.randn(4, 3, dtype=torch.float64)
    assert float(loss([{"input": inputs}], torch.zeros(4)).detach()) == 0.0
    before = model.layer(inputs).tolist()
    with torch.no_grad():
        model.layer.weight.add_(0.5)
    after = model.layer(inputs).tolist()
    squares = [(a - b) ** 2 for one, two in zip(before, after, strict=True) for a, b in zip(one, two, strict=True)]
    found = float(loss([{"input": inputs}], torch.zeros(4)).detach())
    assert found == pytest.approx(sum(squares) / len(squares), abs=1e-12)
    assert {name for name, _ in loss.named_parameters()} == {"model.layer.weight", "model.layer.bias"}


def test_gradients_of_preservation() -> None:
    model = Linear()
    loss = Preservation(model)
    inputs = torch.randn(4, 3, dtype=torch.float64)
    embeddings = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: loss.from_batch({"input": inputs}, e, torch.zeros(4)), embeddings)
    with pytest.raises(DataError, match="texts"):
        loss.from_embeddings(embeddings, torch.zeros(4))


def test_in_the_librarys_own_trainer_preservation_holds_an_encoder_back(tiny_encoder: Path, tmp_path: Path) -> None:
    texts = ["a red apple", "a green apple", "two blue cars", "one fast car"] * 4
    labels = [0, 0, 1, 1] * 4
    moved = {}
    for weight in (0.0, 1000.0):
        model = load(tiny_encoder)
        before = torch.tensor(model.encode(texts))
        parts: Any = {"contrastive": (1.0, SupervisedContrastive(model, 0.1, "mlp"))}
        if weight:
            parts["preservation"] = (weight, Preservation(model))
        train(Joint(model, parts), {"text": texts, "label": labels}, tmp_path, num_train_epochs=3)
        moved[weight] = float((torch.tensor(model.encode(texts)) - before).norm(dim=1).mean())
    assert math.isfinite(moved[0.0])
    assert moved[1000.0] < 0.7 * moved[0.0]
