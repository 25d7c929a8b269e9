"""What a step on the CPU computes is what torch's own modules compute."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from likewise.progress import Progress
from likewise.training import fine_tuning
from likewise.training.cpu_modules import QuickDropout, RowsEmbedding, cpu_modules
from likewise.training.loading import quiet
from likewise.training.schedule import Schedule

IDS = st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=1, max_size=3)


def pair(padding: int | None) -> tuple[nn.Embedding, nn.Embedding]:
    """Two embeddings with the same weights: torch's, and one that is put in its place."""
    torch.manual_seed(0)
    plain, other = nn.Embedding(7, 3, padding_idx=padding), nn.Embedding(7, 3, padding_idx=padding)
    other.load_state_dict(plain.state_dict())
    return plain, other


@given(st.lists(st.lists(IDS, min_size=1, max_size=2), min_size=1, max_size=5), st.sampled_from([None, 0, 3]))
def test_rows_embedding_trains_as_torch_does(steps: list[list[list[list[int]]]], padding: int | None) -> None:
    """Steps of one or two passes each, with and without a gradient that was left by the step before."""
    plain, base = pair(padding)
    other = RowsEmbedding(base)
    factors = torch.arange(1.0, 4.0)
    for number, passes in enumerate(steps):
        for embedding in (plain, other):
            if number % 3 != 2:
                embedding.zero_grad(set_to_none=number % 2 == 0)
            loss = sum((embedding(torch.tensor(ids)) ** 2 * factors).sum() for ids in passes)
            assert isinstance(loss, Tensor)
            loss.backward()
        assert plain.weight.grad is not None and other.weight.grad is not None
        assert torch.allclose(plain.weight.grad, other.weight.grad, atol=1e-5)
        for embedding in (plain, other):
            with torch.no_grad():
                assert embedding.weight.grad is not None
                embedding.weight.grad.mul_(0.5)  # as clipping does
                embedding.weight -= 0.01 * embedding.weight.grad
    assert base.weight is other.weight
    assert torch.allclose(plain.weight, other.weight, atol=1e-5)


def test_a_gradient_that_is_there_is_added_to() -> None:
    plain, base = pair(None)
    other = RowsEmbedding(base)
    for embedding in (plain, other):
        embedding.weight.grad = torch.ones(7, 3)
        embedding(torch.tensor([1, 1, 4])).sum().backward()
    assert torch.equal(plain.weight.grad, other.weight.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_hides_its_share_and_scales_the_rest(kind: torch.dtype, share: float) -> None:
    torch.manual_seed(1)
    base = torch.ones(300, 400, dtype=kind, requires_grad=True)
    dropout = QuickDropout(share)
    found = dropout(base)
    hidden = (found == 0).float()
    assert found.dtype == kind
    assert hidden.mean() == pytest.approx(share, abs=0.005)
    assert hidden.mean(dim=0).std() < 0.05 and hidden.mean(dim=1).std() < 0.05  # no row or column of its own
    assert torch.equal(found.unique(), torch.tensor([0, 1 / (1 - share)]).to(kind))
    found.sum().backward()
    assert base.grad is not None and torch.equal(base.grad, found.detach())


def test_dropout_follows_from_the_seed_and_differs_from_call_to_call() -> None:
    values, dropout = torch.randn(20, 30), QuickDropout(0.3)

    def drawn(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [dropout(values), dropout(values)]

    first, again, other = drawn(3), drawn(3), drawn(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], other[0])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_dropout_of_nothing_and_of_all(share: float) -> None:
    values = torch.randn(5, 6)
    assert torch.equal(QuickDropout(share)(values), nn.Dropout(share)(values))
    assert torch.equal(QuickDropout(0.5).eval()(values), values)


class Twice(nn.Module):
    """The same embedding and the same dropout in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.drop = nn.Embedding(9, 2), nn.Dropout(0.5)
        self.inner = nn.ModuleDict({"words": self.words, "drop": self.drop})


def test_modules_are_put_back_also_after_an_error() -> None:
    network = Twice()
    words, drop, names = network.words, network.drop, [name for name, _ in network.named_parameters()]
    with pytest.raises(ValueError, match="stop"), cpu_modules(network):
        assert type(network.words) is RowsEmbedding and type(network.drop) is QuickDropout
        assert network.inner["words"] is network.words and network.words.weight is words.weight
        assert [name for name, _ in network.named_parameters()] == names
        network.eval()
        raise ValueError("stop")
    assert network.words is words and network.drop is drop and network.inner["drop"] is drop
    assert not drop.training


def test_a_fit_without_dropout_ends_as_with_the_modules_of_torch(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["rain and wind", "the bill was paid", "cold water", "money back please", "sun", "card charge"] * 4
    targets = np.tile(np.eye(2, dtype=np.float32), (12, 1))
    schedule = Schedule(epochs=2, batch_size=8, alignment=0.5, dropout=0.0, learning_rate=1e-3)

    def fitted(name: str) -> dict[str, Any]:
        with quiet():
            model = SentenceTransformer(str(tiny_encoder), device="cpu")
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        fine_tuning.fine_tune(
            model, texts, targets, task="single", schedule=schedule, seed=0, work=tmp_path / name, progress=Progress()
        )
        assert not any(isinstance(module, RowsEmbedding) for module in model.modules())
        return {key: value.clone() for key, value in model.state_dict().items()}

    ours = fitted("ours")
    monkeypatch.setattr(fine_tuning, "cpu_modules", lambda network: nullcontext())
    plain = fitted("plain")
    assert ours.keys() == plain.keys()
    assert all(torch.allclose(ours[key].float(), plain[key].float(), atol=1e-5) for key in ours)
