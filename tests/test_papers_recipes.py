"""The papers' recipes: each fits, classifies, cites, teaches and forgets like any other model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from likewise.bundle import Layout, read_decision
from likewise.checking import check
from likewise.errors import EncoderError, LabelError, SettingError
from likewise.fitting import fit, wrap
from likewise.model import Model
from likewise.progress import Progress
from likewise.recipes import RECIPES
from likewise.settings import Settings
from likewise.training.loading import quiet
from rows import ROWS, alike


class Told(Progress):
    """Remembers the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


TEXTS, LABELS = (list(part) for part in zip(*ROWS, strict=True))
QUERIES = ["the parcel is late", "my bill", "a bird"]
BRISK: dict[str, Any] = {"epochs": 3, "learning_rate": 3e-3, "batch_size": 8, "seed": 0}
PAPERS = [name for name in RECIPES if name not in ("likewise", "frozen")]
SOURCE = (["good", "great", "bad", "awful", "fine"] * 4, ["liked", "liked", "disliked", "disliked", "liked"] * 4)
"""Another task, for the recipes that learn from one."""
TRAINED = [name for name in PAPERS if RECIPES[name].head == "trained"]


def source_of(recipe: str) -> Any:
    return SOURCE if RECIPES[recipe].needs_source else None


@pytest.fixture(scope="module", params=PAPERS)
def model(request: pytest.FixtureRequest, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp(request.param) / "model"
    dev = (TEXTS[::3], LABELS[::3])
    settings = Settings(**BRISK)
    given: Any = dict(encoder=str(tiny_encoder), dev=dev, source_task=source_of(request.param), settings=settings)
    with fit(TEXTS, LABELS, recipe=request.param, **given) as fitted:
        fitted.save(path)
    with Model.open(path) as opened:
        yield opened


def test_it_answers_cites_learns_and_forgets(model: Model) -> None:
    recipe = RECIPES[model.info.recipe]
    before = model.classify(QUERIES)
    for prediction in before:
        assert prediction.neighbours and math.isclose(sum(p for _, p in prediction.scores), 1, rel_tol=1e-6)
        voice = prediction.head if recipe.grid.lambdas == (0.0,) else prediction.vote
        if len(recipe.grid.lambdas) == 1:
            assert prediction.scores == voice
    change = model.teach(["a bird", "one bird"], ["animal", "animal"])
    assert model.classify("a bird").labels == ("animal",)
    assert model.classify("a bird").neighbours[0].id in change.ids
    if recipe.head == "trained":  # its head does not know that label, so the neighbours decide alone
        assert model.classify("a bird").lambda_ == 1.0
    model.forget(change.ids)
    assert [prediction.labels for prediction in model.classify(QUERIES)] == [p.labels for p in before]
    assert check(model.path or "") == []
    trained = "trained with the encoder" in (Path(model.path or "") / "README.md").read_text()
    assert trained == (recipe.head == "trained")


def test_a_renamed_label_is_answered_by_its_new_name(model: Model) -> None:
    before = model.classify(QUERIES)
    model.rename_label("invoice", "money")
    try:
        renamed = {"invoice": "money"}
        for was, now in zip(before, model.classify(QUERIES), strict=True):
            assert now.labels == tuple(renamed.get(label, label) for label in was.labels)
            assert dict(now.scores) == pytest.approx({renamed.get(name, name): p for name, p in was.scores})
        with Model.open(model.path or "") as another:
            found = [prediction.to_dict() for prediction in another.classify(QUERIES)]
            assert alike(found, [prediction.to_dict() for prediction in model.classify(QUERIES)], within=1e-9)
    finally:
        model.rename_label("money", "invoice")


@pytest.mark.parametrize("recipe", TRAINED)
def test_the_head_is_the_classifier_that_was_trained(recipe: str, tiny_encoder: Path, tmp_path: Path) -> None:
    dev = (TEXTS[::3], LABELS[::3])
    given: Any = dict(recipe=recipe, encoder=str(tiny_encoder), dev=dev, settings=Settings(**{**BRISK, "epochs": 1}))
    given["source_task"] = source_of(recipe)
    with fit(TEXTS, LABELS, **given) as one, fit(TEXTS, LABELS, **given) as again:
        one.save(tmp_path / "model")
        decision = read_decision(Layout(tmp_path / "model"), 1)
        head = decision.head
        assert head is not None and head.labels == ["delivery", "invoice"] and decision.tuned.revision == 1
        assert one.classify(QUERIES) == again.classify(QUERIES)  # one seed, one result
        embeddings, _ = one._answering.embed(QUERIES)
        logits = embeddings.astype(np.float64) @ head.weights + head.bias
        expected = torch.softmax(torch.tensor(logits), dim=1).numpy()
        found = [dict(prediction.head) for prediction in one.classify(QUERIES)]
        assert np.allclose([[p["delivery"], p["invoice"]] for p in found], expected)


def test_a_frozen_stage_leaves_the_encoder_as_it_is(tiny_encoder: Path) -> None:
    dev = (TEXTS[::3], LABELS[::3])
    settings = Settings(**BRISK)
    given: Any = dict(encoder=str(tiny_encoder), dev=dev, settings=settings)
    with (
        fit(TEXTS, LABELS, recipe="sbert-frozen-softmax", **given) as one,
        fit(TEXTS, LABELS, recipe="softmax", **given) as other,
    ):
        plain = one._answering.embed(QUERIES)[0]
        assert not np.allclose(plain, other._answering.embed(QUERIES)[0], atol=1e-2)
        with fit(TEXTS, LABELS, recipe="frozen", encoder=str(tiny_encoder)) as frozen:
            unit = frozen._answering.embed(QUERIES)[0]
    assert np.allclose(plain / np.linalg.norm(plain, axis=1, keepdims=True), unit, atol=1e-5)


@pytest.mark.parametrize("objective", ["pairs", "contrastive", "triplet"])
def test_other_objectives_align_too(objective: Any, tiny_encoder: Path) -> None:
    dev = (TEXTS[::3], LABELS[::3])
    settings = Settings(**BRISK, objective=objective, pooling="mean")
    with fit(TEXTS, LABELS, recipe="cea", encoder=str(tiny_encoder), dev=dev, settings=settings) as model:
        assert model.info.settings["objective"] == objective
        assert model.evaluate(TEXTS, LABELS).to_dict()["blend"]["accuracy"] > 0.9


def test_what_a_recipe_cannot_do_is_said_before_any_work(tiny_encoder: Path) -> None:
    with pytest.raises(SettingError, match="recipe 'softmax' aligns no embeddings"):
        fit(TEXTS, LABELS, recipe="softmax", encoder=str(tiny_encoder), settings=Settings(objective="pairs"))
    few: Any = (["a parcel", "the bill"], ["delivery", "invoice"])
    with pytest.raises(LabelError, match="too few examples to hold some out"):
        fit(*few, recipe="softmax", encoder=str(tiny_encoder), settings=Settings(epochs=1), progress=Told())


def test_an_erased_label_leaves_the_trained_head_as_well(tiny_encoder: Path, tmp_path: Path) -> None:
    texts, labels = [*TEXTS, "a secret bird"], [*LABELS, "secret-label"]
    given: Any = dict(encoder=str(tiny_encoder), dev=(TEXTS[::3], LABELS[::3]), progress=Told())
    settings = Settings(**{**BRISK, "epochs": 1})
    with fit(texts, labels, recipe="softmax", settings=settings, **given) as model:
        model.save(tmp_path / "model")
        (number,) = (example.id for example in model.examples(label="secret-label"))
        before = dict(model.classify(QUERIES[0]).head)
        model.erase(number)
        after = dict(model.classify(QUERIES[0]).head)
        assert "secret-label" not in after
        assert after["delivery"] / after["invoice"] == pytest.approx(before["delivery"] / before["invoice"])
    assert not any(b"secret-label" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert check(tmp_path / "model") == []


SEVERAL = ["multilabel-knn", "softmax", "retrofit", "cea", *(name for name in PAPERS if RECIPES[name].needs_source)]


@pytest.mark.parametrize("recipe", SEVERAL)
def test_several_labels_a_text(recipe: str, tiny_encoder: Path, tmp_path: Path) -> None:
    late = [(label, "late") if "late" in text else (label,) if "old" not in text else () for text, label in ROWS]
    settings = Settings(**BRISK, batches="stratified" if recipe == "retrofit" else None)
    given: Any = dict(encoder=str(tiny_encoder), dev=(TEXTS, late), source_task=source_of(recipe), settings=settings)
    with fit(TEXTS, late, recipe=recipe, **given) as model:
        model.save(tmp_path / "model")
        assert model.task == "multi" and list(model.labels) == ["delivery", "invoice", "late"]
        answer = model.classify("parcel ship late")
        assert all(0 <= share <= 1 for _, share in answer.scores) and answer.neighbours
        model.teach(["a bird", "two birds", "the bird"], [["animal"]] * 3)
        assert "animal" in dict(model.classify("a bird").scores)
    assert check(tmp_path / "model") == []


# A classifier that others have trained


def softmax_of(classifier: Path, texts: list[str]) -> np.ndarray:
    from transformers import AutoTokenizer

    with quiet(), torch.no_grad():
        network = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
        tokenizer = AutoTokenizer.from_pretrained(classifier)
        made = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
        return torch.softmax(network(**made).logits.double(), dim=1).numpy()


def test_a_wrapped_classifier_answers_as_before_and_cites_and_learns(tiny_classifier: Path, tmp_path: Path) -> None:
    with wrap(tiny_classifier, TEXTS, LABELS, dev=(TEXTS[::3], LABELS[::3])) as made:
        made.save(tmp_path / "model")
    with Model.open(tmp_path / "model") as model:
        assert model.info.recipe == "wrapped" and model.info.fit["kept"] == "wrapped"
        found = [dict(prediction.head) for prediction in model.classify(TEXTS)]
        said = np.array([[p["delivery"], p["invoice"]] for p in found])
        assert np.abs(said - softmax_of(tiny_classifier, TEXTS)).max() < 1e-5
        assert all(prediction.neighbours for prediction in model.classify(QUERIES))
        model.teach(["a bird", "one bird"], ["animal", "animal"])
        assert dict(model.classify("a bird").vote)["animal"] > 0
        assert dict(model.classify("a bird").head)["animal"] == 0
        with pytest.raises(SettingError, match="a wrapped classifier has no recipe"):
            model.refit()
        assert model.refit(recipe="frozen").generation == 2  # its body is an encoder like others
        assert check(tmp_path / "model") == []


def test_labels_that_a_classifier_does_not_know(tiny_classifier: Path) -> None:
    told = Told()
    wrap(tiny_classifier, [*TEXTS, "a bird", "one bird"], [*LABELS, "animal", "animal"], progress=told).close()
    assert "the classifier does not know animal; the neighbours alone decide on these" in told.warnings
    assert any("its own scores flatter it" in warning for warning in told.warnings)  # there are no dev rows
    with pytest.raises(LabelError, match=r"found ham, spam, the classifier knows delivery, invoice"):
        wrap(tiny_classifier, TEXTS, ["ham" if label == "invoice" else "spam" for label in LABELS])


def test_labels_that_a_classifier_knows_and_no_example_bears(tiny_classifier: Path) -> None:
    """They are not answered until someone teaches them; then the classifier knows them."""
    texts, labels = [*TEXTS, "a bird", "one bird"], ["delivery"] * len(TEXTS) + ["animal", "animal"]
    with wrap(tiny_classifier, texts, labels, progress=Told()) as model:
        assert dict(model.classify("a bill").head).keys() == {"delivery", "animal"}
        model.teach("a bank bill", "invoice")
        assert dict(model.classify("a bill").head)["invoice"] > 0


def test_a_refit_scores_the_generation_before_as_it_answers(tiny_encoder: Path) -> None:
    """Its head knows nothing of a class that was taught later, and leaves that to the neighbours."""
    given = Settings(**{**BRISK, "epochs": 1, "holdout": 0.4})
    with fit(TEXTS, LABELS, recipe="softmax", encoder=str(tiny_encoder), settings=given) as model:
        birds = [f"{which} bird" for which in ("a", "one", "late", "lost", "new", "old", "red", "sick")]
        model.teach(birds, ["animal"] * len(birds))
        model.teach("zzz", "alone")  # held out or not, it hinders nothing
        done = model.refit(recipe="frozen", progress=Told())
        assert done.before["blend"] > done.before["head"]


def test_what_is_no_classifier(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError):
        wrap(tmp_path / "none", TEXTS, LABELS)
    with pytest.raises(EncoderError):
        wrap(tiny_encoder, TEXTS, LABELS)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(EncoderError):
        wrap(tmp_path, TEXTS, LABELS)
