"""What tests of losses and samplers share: drawn batches and labels, what a loop knows of two texts, some training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Given(nn.Module):
    """Stands where a model stands: its embeddings are given, and it counts how often it is asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        return {"sentence_embedding": features["input"]}

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def get_embedding_dimension(self) -> int:
        return 3


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Embeddings (n, 3) and labels, one a text or several."""
    n = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    embeddings = torch.tensor(rng.normal(size=(n, 3)))
    if draw(st.booleans()):
        return embeddings, torch.tensor(rng.integers(0, 3, size=n))
    return embeddings, torch.tensor((rng.random((n, 3)) < 0.4).astype(np.float32))


@st.composite
def one_label(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=12))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return labels, rng.integers(3, 129, size=len(labels))


@st.composite
def several_labels(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    n, n_labels = draw(st.integers(1, 60)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    share = draw(st.sampled_from([0.02, 0.1, 0.3]))
    return (rng.random((n, n_labels)) < share).astype(np.float32), rng.integers(3, 129, size=n)


def shares(labels: NDArray[Any] | Tensor, i: int, j: int) -> bool:
    return bool(labels[i] == labels[j]) if labels.ndim == 1 else bool((labels[i] * labels[j]).any())


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def train(loss: nn.Module, columns: Mapping[str, Sequence[Any]], folder: Path, **arguments: Any) -> None:
    """Train a loss's model with sentence-transformers' own trainer."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    from likewise.training.determinism import contained

    with contained(0):
        given = SentenceTransformerTrainingArguments(
            output_dir=str(folder), learning_rate=0.01, report_to="none", disable_tqdm=True, save_strategy="no",
            use_cpu=True, dataloader_pin_memory=False, **arguments,
        )  # fmt: skip
        data = Dataset.from_dict(dict(columns))
        SentenceTransformerTrainer(model=loss.model, args=given, train_dataset=data, loss=loss).train()


def loss_of(loss: Any, columns: Sequence[Sequence[str]], labels: Sequence[int]) -> float:
    """What a loss says of texts, in one column or several, without training."""
    loss.model.eval()
    with torch.no_grad():
        return float(loss([loss.model.preprocess(list(texts)) for texts in columns], torch.tensor(labels)))
