"""Fits whose encoder starts from nothing: they learn, answer, cite and are kept like any other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from likewise.bundle import Layout, read_decision
from likewise.checking import check
from likewise.encoding.names import FROM_SCRATCH
from likewise.errors import SettingError
from likewise.fitting import fit
from likewise.model import Model
from likewise.progress import LikewiseWarning
from likewise.settings import Settings
from likewise.train_encoder import train_encoder
from likewise.training.loading import load
from likewise.training.scratch import NETWORKS
from rows import ROWS
from test_light import HEAVY, OPTIONAL, WITHOUT

TEXTS, LABELS = (list(part) for part in zip(*ROWS, strict=True))
SETS = [(label, "late") if "late" in text else (label,) if "old" not in text else () for text, label in ROWS]
QUERIES = ["the parcel ship is late", "my bill", "a bird"]
BRISK: dict[str, Any] = {"epochs": 4, "batch_size": 8, "seed": 0}


def test_the_names_are_those_of_the_networks() -> None:
    assert set(FROM_SCRATCH) == set(NETWORKS)


@pytest.mark.parametrize(
    ("network", "recipe"),
    [
        *(("cnn", recipe) for recipe in ("multilabel-knn", "softmax", "knn-ec", "cea")),
        *(("ldgn", recipe) for recipe in ("softmax", "cea-frozen-softmax")),
    ],
)
def test_it_learns_answers_cites_and_is_refitted(network: str, recipe: str, tmp_path: Path) -> None:
    with fit(TEXTS, LABELS, recipe=recipe, encoder=network, dev=(TEXTS, LABELS), settings=Settings(**BRISK)) as model:
        model.save(tmp_path / "model")
        first = model.classify(TEXTS)
        assert sum(said.scores[0][0] == label for said, label in zip(first, LABELS, strict=True)) >= 36
        assert all(said.neighbours for said in first)
    assert check(tmp_path / "model") == []
    with Model.open(tmp_path / "model") as model:
        assert model.info.encoder == network
        model.teach(["a bird", "two birds", "the bird"], ["animal"] * 3)
        assert "animal" in dict(model.classify("a bird").scores)
        assert model.refit().generation == 2
        assert model.classify("a bird").neighbours


@pytest.mark.parametrize("network", FROM_SCRATCH)
def test_one_seed_gives_one_result(network: str) -> None:
    settings = Settings(**{**BRISK, "epochs": 1})
    given: Any = dict(recipe="softmax", encoder=network, dev=(TEXTS, LABELS), settings=settings)
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


@pytest.mark.parametrize("network", FROM_SCRATCH)
def test_whole_numbers_are_not_for_it(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: Any = dict(recipe="softmax", encoder=network, dev=(TEXTS, LABELS))
    with pytest.raises(SettingError, match="'int8', which is for the linear layers of a transformer"):
        fit(TEXTS, LABELS, settings=Settings(**BRISK, precision="int8"), **given)
    monkeypatch.setattr("likewise.encoding.sessions.multiplies_bfloat16", lambda: False)
    with fit(TEXTS, LABELS, settings=Settings(**{**BRISK, "epochs": 1}, precision="auto"), **given) as model:
        assert model.info.fit["precision"] == "fp32"


# LDGN, whose head is its own logits


@pytest.fixture(scope="module")
def ldgn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of several labels a text. Not to be changed."""
    path = tmp_path_factory.mktemp("ldgn") / "model"
    settings = Settings(**BRISK)
    given: Any = dict(recipe="multilabel-knn", encoder="ldgn", dev=(TEXTS, SETS), settings=settings)
    fit(TEXTS, SETS, **given).save(path).close()
    return path


@pytest.fixture
def copied(ldgn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ldgn, tmp_path / "model"))


def logits_of(path: Path, texts: list[str]) -> np.ndarray:
    """By torch, from the folder for further training."""
    model = load(Layout(path).encoder(1))
    network: Any = model[0]
    with torch.no_grad():
        return np.asarray(network(network.preprocess(texts))["logits"].numpy())


def test_the_head_is_the_networks_own_logits(ldgn: Path) -> None:
    head = read_decision(Layout(ldgn), 1).head
    assert head is not None and head.labels == ["delivery", "invoice", "late"]
    expected = 1 / (1 + np.exp(-logits_of(ldgn, QUERIES)))
    with Model.open(ldgn) as model:
        assert model._answering.encoder.labels == 3
        for said, row in zip(model.classify(QUERIES), expected, strict=True):
            assert [dict(said.head)[label] for label in head.labels] == pytest.approx(row.tolist(), abs=1e-5)
        alone = [model.classify(query) for query in QUERIES]
        for one, other in zip(alone, model.classify(QUERIES), strict=True):
            assert dict(one.scores) == pytest.approx(dict(other.scores), abs=1e-4)
        assert model.info.fit["scores"]["fine-tuned"]["head"] > 0.8
        assert model.evaluate(TEXTS, SETS).to_dict()["blend"]["micro_f1"] > 0.9


def test_the_graph_of_labels_is_that_of_the_rows(ldgn: Path) -> None:
    network: Any = load(Layout(ldgn).encoder(1))[0]
    names = ["delivery", "invoice", "late"]
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            with_j = [row for row in SETS if other in row]
            expected = 0.0 if i == j else sum(one in row for row in with_j) / len(with_j)
            assert float(network.cooccurrence[i, j]) == pytest.approx(expected)


def test_its_labels_are_taught_renamed_merged_forgotten_and_remembered(copied: Path) -> None:
    with Model.open(copied) as model:
        before = model.classify(QUERIES)
        change = model.teach(["a bird", "two birds", "the bird"], [["animal"]] * 3)
        after = model.classify("a bird")
        assert dict(after.vote)["animal"] > 0 and dict(after.head)["animal"] == 0  # its head does not know it
        assert after.neighbours[0].id in change.ids
        model.rename_label("late", "slow")
        said = {"late": "slow"}
        for was, now in zip(before, model.classify(QUERIES), strict=True):
            head = dict(now.head)
            assert {said.get(name, name): share for name, share in was.head} == pytest.approx(
                {name: share for name, share in head.items() if name != "animal"}
            )
        model.merge_labels(["delivery", "invoice"], "matter")
        for was, now in zip(before, model.classify(QUERIES), strict=True):
            assert dict(now.head)["matter"] == pytest.approx(max(dict(was.head)["delivery"], dict(was.head)["invoice"]))
        with model.as_of(1) as past:
            for was, then in zip(before, past.classify(QUERIES), strict=True):
                assert dict(then.scores) == pytest.approx(dict(was.scores), abs=1e-6)
        model.forget(change.ids)
        assert "animal" not in dict(model.classify("a bird").scores)
        model.forget([example.id for example in model.examples(label="slow")])
        assert set(dict(model.classify("a bird").head)) == {"matter"}
    assert check(copied) == []


def test_an_erased_label_leaves_its_head(copied: Path) -> None:
    with Model.open(copied) as model:
        before = dict(model.classify(QUERIES[0]).head)
        model.erase([example.id for example in model.examples(label="late")])
        after = dict(model.classify(QUERIES[0]).head)
        assert after == pytest.approx({name: share for name, share in before.items() if name != "late"})
    head = read_decision(Layout(copied), 1).head
    assert head is not None and head.labels == ["delivery", "invoice"]
    assert check(copied) == []


def test_a_refit_compares_by_logits_and_learns_new_labels(copied: Path) -> None:
    with Model.open(copied) as model:
        birds = [f"a bird {which}" for which in ("old", "new", "lost", "again", "today", "first", "last", "good")]
        model.teach(birds, [["animal"]] * len(birds))
        said = model.refit()
        assert said.generation == 2 and said.before is not None and said.before["head"] > 0.6
        assert dict(model.classify("a bird").head)["animal"] > 0.2
        assert model._answering.encoder.labels == 4
    assert check(copied) == []


def test_it_answers_without_the_training_side(copied: Path, tmp_path: Path) -> None:
    with Model.open(copied) as model:
        expected = [prediction.to_dict() for prediction in model.classify(QUERIES)]
    program = f"""
import json, sys
MISSING = {HEAVY + OPTIONAL}
{WITHOUT}
import likewise
with likewise.Model.open(sys.argv[1]) as model:
    first = [prediction.to_dict() for prediction in model.classify({QUERIES})]
    model.teach(["a bird"], [["animal"]])
    second = model.classify("a bird").to_dict()
    model.save(sys.argv[2])
print(json.dumps([first, second["neighbours"][0]["labels"], sorted(set(MISSING) & set(sys.modules))]))
"""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, copied, tmp_path / "copy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    first, labels, loaded = json.loads(process.stdout)
    assert first == json.loads(json.dumps(expected))
    assert labels == ["animal"] and loaded == []
    assert check(tmp_path / "copy") == []


def test_a_folder_of_it_starts_other_labels(tmp_path: Path) -> None:
    """What it knows of words is kept, what it knows of labels made anew."""
    one, settings = tmp_path / "one", Settings(**BRISK, learning_rate=1e-3)
    train_encoder(
        one, TEXTS, SETS, recipe="multilabel-knn", encoder="ldgn", dev=(TEXTS, SETS), settings=settings
    )  # fmt: skip
    given: Any = dict(recipe="softmax", encoder=str(one), dev=(TEXTS, LABELS), settings=settings)
    with fit(TEXTS, LABELS, **given) as model:
        assert model.evaluate(TEXTS, LABELS).to_dict()["head"]["accuracy"] > 0.9
        assert model._answering.encoder.labels == 2
        model.save(tmp_path / "model")
        trained = Layout(Path(model.path or "")).encoder(1)
    before, after = (load(folder)[0].state_dict() for folder in (one, trained))
    assert before["words.weight"].shape == after["words.weight"].shape
    assert before["label_vectors"].shape[0] == 3 and after["label_vectors"].shape[0] == 2


def test_where_rows_are_few_each_fold_has_a_network_of_its_labels() -> None:
    settings = Settings(**{**BRISK, "epochs": 2})
    with fit(TEXTS, SETS, recipe="multilabel-knn", encoder="ldgn", settings=settings) as model:
        assert "cross-validation" in model.info.fit["judged_on"]
        assert set(dict(model.classify(QUERIES[0]).head)) == {"delivery", "invoice", "late"}
