"""Fits whose encoder starts from nothing: they learn, answer, cite and are kept like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from likewise.checking import check
from likewise.encoding.names import FROM_SCRATCH
from likewise.errors import SettingError
from likewise.fitting import fit
from likewise.model import Model
from likewise.progress import LikewiseWarning
from likewise.settings import Settings
from likewise.train_encoder import train_encoder
from likewise.training.scratch import NETWORKS
from rows import ROWS

TEXTS, LABELS = (list(part) for part in zip(*ROWS, strict=True))
BRISK: dict[str, Any] = {"epochs": 4, "batch_size": 8, "seed": 0}


def test_the_names_are_those_of_the_networks() -> None:
    assert set(FROM_SCRATCH) == set(NETWORKS)


@pytest.mark.parametrize("recipe", ["multilabel-knn", "softmax", "knn-ec", "cea"])
def test_it_learns_answers_cites_and_is_refitted(recipe: str, tmp_path: Path) -> None:
    with fit(TEXTS, LABELS, recipe=recipe, encoder="cnn", dev=(TEXTS, LABELS), settings=Settings(**BRISK)) as model:
        model.save(tmp_path / "model")
        first = model.classify(TEXTS)
        assert sum(said.scores[0][0] == label for said, label in zip(first, LABELS, strict=True)) >= 36
        assert all(said.neighbours for said in first)
    assert check(tmp_path / "model") == []
    with Model.open(tmp_path / "model") as model:
        assert model.info.encoder == "cnn"
        model.teach(["a bird", "two birds", "the bird"], ["animal"] * 3)
        assert "animal" in dict(model.classify("a bird").scores)
        assert model.refit().generation == 2
        assert model.classify("a bird").neighbours


def test_one_seed_gives_one_result() -> None:
    given: Any = dict(recipe="softmax", encoder="cnn", dev=(TEXTS, LABELS), settings=Settings(**{**BRISK, "epochs": 1}))
    with fit(TEXTS, LABELS, **given) as one, fit(TEXTS, LABELS, **given) as again:
        assert one.classify(TEXTS) == again.classify(TEXTS)


def test_it_learns_as_fast_as_a_classifier_unless_told_otherwise(tmp_path: Path) -> None:
    given: Any = dict(recipe="cea", encoder="cnn", dev=(TEXTS, LABELS))
    for rate, expected in ((None, 1e-3), (0.01, 0.01)):
        said = train_encoder(
            tmp_path / f"rate-{rate}", TEXTS, LABELS, settings=Settings(**{**BRISK, "epochs": 1}, learning_rate=rate),
            **given,
        )  # fmt: skip
        assert f'"learning_rate": {expected}' in (Path(said.encoder) / "README.md").read_text()
    with (
        pytest.warns(LikewiseWarning, match="fewer examples"),
        fit(TEXTS, LABELS, recipe="frozen", encoder=str(tmp_path / "rate-None")) as model,  # a folder like any other
    ):
        assert model.classify("parcel ship").neighbours


@pytest.mark.parametrize("recipe", ["likewise", "frozen", "sbert-frozen-softmax"])
def test_a_recipe_that_uses_the_encoder_as_it_comes_has_no_use_for_it(recipe: str) -> None:
    with pytest.raises(SettingError, match="this one starts from nothing; recipes that train it are knn-ec"):
        fit(TEXTS, LABELS, recipe=recipe, encoder="cnn")
