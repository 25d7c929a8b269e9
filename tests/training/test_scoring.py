"""What chooses the epoch that is kept, against the libraries' own scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sklearn import metrics

from likewise.progress import Progress
from likewise.training.checkpoints import weights_of
from likewise.training.fine_tuning import fine_tune
from likewise.training.loading import quiet
from likewise.training.objectives import objective
from likewise.training.pair_sampling import draw_pairs
from likewise.training.schedule import Schedule
from likewise.training.scoring import classifier_score, encoded, pair_score

WORDS = {0: "parcel ship street", 1: "bank money bill", 2: "rain wind sun"}
TEXTS = [f"{word} {which}" for words in WORDS.values() for word in words.split() for which in ("late", "new", "old")]
TARGETS = np.repeat(np.eye(3, dtype=np.float32), 9, axis=0)
SCHEDULE = Schedule(epochs=2, learning_rate=2e-3, batch_size=8, patience=0)


@pytest.fixture
def model(tiny_encoder: Path) -> SentenceTransformer:
    with quiet():
        return SentenceTransformer(str(tiny_encoder), device="cpu", local_files_only=True)


def test_embeddings_come_in_the_texts_order(model: SentenceTransformer) -> None:
    one_by_one = torch.cat([encoded(model, [text]) for text in TEXTS])
    assert torch.allclose(encoded(model, TEXTS), one_by_one, atol=1e-5)


def test_pairs_are_scored_as_scipy_does_from_cosines_by_hand(model: SentenceTransformer) -> None:
    rows = draw_pairs(TARGETS, np.random.default_rng(3))
    embeddings = encoded(model, TEXTS).numpy().astype(np.float64)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = [float(unit[a] @ unit[b]) for a, b in rows]
    same = [bool((TARGETS[a] == TARGETS[b]).all()) for a, b in rows]
    assert sum(same) == len(TEXTS) == len(rows) / 2
    assert pair_score(model, TEXTS, TARGETS, seed=3) == pytest.approx(spearmanr(cosines, same).statistic, abs=1e-3)


def test_pairs_of_one_kind_alone_tell_nothing(model: SentenceTransformer) -> None:
    assert pair_score(model, TEXTS[:4], TARGETS[:4], seed=0) == 0.0


@pytest.mark.parametrize("measure", ["accuracy", "macro_f1"])
def test_a_classifier_is_scored_as_scikit_learn_does(model: SentenceTransformer, measure: str) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(32, 3)
    with torch.no_grad():
        said = layer(encoded(model, TEXTS)).argmax(dim=1).numpy()
    truth = TARGETS.argmax(axis=1)
    by_hand = {
        "accuracy": metrics.accuracy_score(truth, said),
        "macro_f1": metrics.f1_score(truth, said, average="macro", zero_division=0),
    }
    assert classifier_score(model, layer, TEXTS, TARGETS, "single", measure) == pytest.approx(by_hand[measure])


def test_a_frozen_encoder_keeps_its_weights_while_the_classifier_learns(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in weights_of(model).items()}
    schedule = replace(SCHEDULE, frozen=True, head_learning_rate=0.05, epochs=10)
    trained = fine_tune(
        model, TEXTS, TARGETS, task="single", schedule=schedule, seed=0, work=tmp_path, progress=Progress()
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(model).items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    layer = trained.classifier
    assert layer is not None
    said = encoded(model, TEXTS).numpy() @ layer.weights + layer.bias
    assert (said.argmax(axis=1) == TARGETS.argmax(axis=1)).mean() > 0.8


@pytest.mark.parametrize("changes", [{"cross_entropy": 1.0}, {"cross_entropy": 0.0, "cosine_pairs": 1.0}])
def test_a_finished_fit_is_read_back_with_its_classifier(
    tiny_encoder: Path, tmp_path: Path, changes: dict[str, float]
) -> None:
    found = []
    for _ in range(2):
        with quiet():
            model = SentenceTransformer(str(tiny_encoder), device="cpu", local_files_only=True)
        schedule = replace(SCHEDULE, **changes, select="spearman")  # type: ignore[arg-type]
        trained = fine_tune(
            model, TEXTS, TARGETS, task="single", schedule=schedule, dev_texts=TEXTS[::2], dev_targets=TARGETS[::2],
            seed=0, work=tmp_path, progress=Progress(),
        )  # fmt: skip
        found.append((trained, encoded(model, TEXTS)))
    (one, first), (two, second) = found
    assert one.history == two.history and torch.equal(first, second)
    assert (one.classifier is None) == (two.classifier is None) == (changes["cross_entropy"] == 0)
    if one.classifier is not None and two.classifier is not None:
        assert np.array_equal(one.classifier.weights, two.classifier.weights)


def test_scored_by_pairs_there_is_no_classifier_to_watch(model: SentenceTransformer) -> None:
    aligned = replace(SCHEDULE, cross_entropy=0.0, alignment=1.0)
    assert set(objective(model, 3, "single", aligned, scored=True).parts) == {"classifier", "alignment"}
    by_pairs = replace(aligned, select="spearman")
    assert set(objective(model, 3, "single", by_pairs, scored=True).parts) == {"alignment"}


def test_a_schedule_that_trains_nothing_is_refused() -> None:
    from likewise.errors import SettingError

    with pytest.raises(SettingError, match="cross_entropy is 0 and the encoder frozen"):
        Schedule(frozen=True, cross_entropy=0.0, alignment=1.0)
