"""A batch in parts is the batch as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from likewise.training.loading import load
from likewise.training.losses.preservation import Preservation
from likewise.training.parts import PART, in_parts

WORDS = ["a", "and", "answers", "arrived", "back", "dog", "is", "money", "my", "of", "parcel", "phone", "thank", "the"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=20).map(" ".join), min_size=1, max_size=50)


@pytest.fixture(scope="module", params=["right", "left"])
def model(request: pytest.FixtureRequest, tiny_encoder: Path, tiny_xlnet: Path) -> Any:
    """One that pads on the right, and one that pads on the left and has relative positions."""
    return load(tiny_encoder if request.param == "right" else tiny_xlnet).eval()


@settings(deadline=None, max_examples=20)
@given(texts=TEXTS)
def test_embeddings_and_gradients_are_those_of_one_pass(model: Any, texts: list[str]) -> None:
    features, factors = model.preprocess(texts), torch.arange(1.0, len(texts) + 1)[:, None]
    found = []
    for encode in (lambda given: model(given), lambda given: in_parts(model, given)):
        model.zero_grad()
        made = encode(dict(features))["sentence_embedding"]
        (made * factors).sum().backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        found.append((made.detach(), gradients))
    (whole, slow), (parted, fast) = found
    assert torch.allclose(whole, parted, atol=1e-5)
    assert slow.keys() == fast.keys()
    for name, gradient in slow.items():
        assert torch.allclose(gradient, fast[name], rtol=1e-3, atol=1e-3 * (1 + float(gradient.abs().max()))), name


class Counting(nn.Module):
    """A model of ids that notes how many it was given, padding included."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(100, 3)
        self.seen: list[torch.Size] = []

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sum of the words that are there, and a logit."""
        self.seen.append(features["input_ids"].shape)
        found = (self.words(features["input_ids"]) * features["attention_mask"][..., None]).sum(dim=1)
        return {**features, "sentence_embedding": found, "logits": found[:, :1]}


def batch(lengths: list[int]) -> dict[str, Any]:
    """Ids of texts of these lengths, padded on the right, with what else a batch may hold."""
    mask = torch.tensor([[int(place < length) for place in range(max(lengths))] for length in lengths])
    ids = torch.randint(1, 100, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    return {"input_ids": ids, "attention_mask": mask, "weight": torch.arange(len(lengths)), "prompt": "none"}


def test_parts_are_no_wider_than_their_longest_text() -> None:
    model, lengths = Counting(), [1, 30, 2, 29] * PART
    found, features = in_parts(model, batch(lengths)), batch(lengths)
    assert sorted(model.seen) == sorted([(PART, 1), (PART, 2), (PART, 29), (PART, 30)])
    whole = model(features)
    assert torch.allclose(found["sentence_embedding"], whole["sentence_embedding"], atol=1e-5)
    assert torch.allclose(found["logits"], whole["logits"], atol=1e-5)


def test_a_small_batch_and_one_without_a_mask_pass_as_they_are() -> None:
    model = Counting()
    in_parts(model, batch([3, 9] * (PART // 2)))
    assert model.seen == [(PART, 9)]
    seen: list[int] = []

    def encode(features: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(len(features["x"]))
        return {"sentence_embedding": features["x"]}

    in_parts(encode, {"x": torch.zeros(PART * 3, 2)})  # type: ignore[arg-type]
    assert seen == [PART * 3]


def test_texts_of_no_tokens_keep_a_column() -> None:
    model = Counting()
    found = in_parts(model, batch([0] * PART + [2] * PART))
    assert model.seen == [(PART, 1), (PART, 2)]
    assert found["sentence_embedding"][:PART].abs().max() == 0


def test_preservation_encodes_a_text_once() -> None:
    model = Counting()
    loss = Preservation(model)
    frozen: Any = loss._frozen[0]
    features = batch([1, 5, 3, 4])
    before = model(dict(features))["sentence_embedding"].detach()
    with torch.no_grad():
        model.words.weight.add_(0.5)
        expected = float(((model(dict(features))["sentence_embedding"] - before) ** 2).mean())
    wider = {name: nn.functional.pad(features[name], (0, 2)) for name in ("input_ids", "attention_mask")}
    for given_batch in (features, wider):  # padding makes no other text of it
        assert float(loss([dict(given_batch)], torch.zeros(4)).detach()) == pytest.approx(expected, rel=1e-5)
    assert frozen.seen == [(4, 5)]
