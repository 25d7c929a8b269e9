"""How good the present weights are on dev texts, which chooses the epoch that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from torch.nn.functional import cosine_similarity

from likewise.decision.measures import OBJECTIVES, count
from likewise.decision.thresholds import common_threshold
from likewise.settings import Measure
from likewise.training.losses.objective import same_class_in_pairs
from likewise.training.pair_sampling import draw_pairs
from likewise.types import Task

Targets = NDArray[np.float32]

BATCH = 64  # texts encoded at once


def classifier_score(
    model: SentenceTransformer,
    classify: Callable[[torch.Tensor], torch.Tensor] | None,
    texts: Sequence[str],
    targets: Targets,
    task: Task,
    measure: Measure,
) -> float:
    """The measure on texts of a classifier, embeddings (n, d) to logits (n, L), or of the model's own logits (None);
    with several labels a text, at the one threshold that serves it best."""
    with torch.no_grad():
        found = encoded(model, texts, "logits") if classify is None else classify(encoded(model, texts))
    logits = found.double().cpu().numpy()
    truth = targets > 0
    if task == "single":
        decided = logits == logits.max(axis=1, keepdims=True)
    else:
        probabilities = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        decided = probabilities >= common_threshold(truth, probabilities, measure)
    return float(OBJECTIVES[measure](count(truth, decided)))


def pair_score(model: SentenceTransformer, texts: Sequence[str], targets: Targets, seed: int) -> float:
    """Spearman's correlation of cosine and same class (1) or not (0), over pairs of texts as CEA's Algorithm 1 draws
    them; always the same pairs for one seed. 0 where all pairs are of one kind."""
    rows = draw_pairs(targets, np.random.default_rng(seed))
    same = same_class_in_pairs(*(torch.tensor(targets[rows[:, side]]) for side in (0, 1))).numpy()
    if same.all() or not same.any():
        return 0.0
    embeddings = encoded(model, texts)
    cosine = cosine_similarity(embeddings[rows[:, 0]], embeddings[rows[:, 1]]).cpu().numpy()
    return float(np.nan_to_num(spearmanr(cosine, same).statistic))


@contextmanager
def on_gpu(model: SentenceTransformer) -> Iterator[None]:
    """The model on the GPU, if there is one, inside this block; where it was afterwards."""
    device = model.device
    if torch.cuda.is_available():
        model.to("cuda")
    try:
        yield
    finally:
        model.to(device)


def encoded(model: SentenceTransformer, texts: Sequence[str], what: str = "sentence_embedding") -> torch.Tensor:
    """Embeddings of texts, float32 of shape (n, d), in the texts' order; the model is left in evaluation mode.

    `what` "logits": those of a model that is a classifier of its own, in their place.
    """
    model.eval()
    order = np.argsort([-len(text) for text in texts], kind="stable")
    parts = []
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            features = model.preprocess([texts[row] for row in order[start : start + BATCH]])
            features = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in features.items()}
            parts.append(model(features)[what].float())
    return torch.cat(parts)[torch.tensor(np.argsort(order))]
