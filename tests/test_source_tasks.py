"""Recipes that learn from a second data set: what it does to the encoder, and what is said where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from likewise.errors import DataError, LabelError, SettingError, UsageError
from likewise.fitting import fit
from likewise.model import Model
from likewise.progress import Progress
from likewise.settings import Settings
from likewise.training.fine_tuning import Beside, fine_tune
from likewise.training.losses.classification import Classification
from likewise.training.schedule import Schedule
from naive import Given
from rows import ROWS

TEXTS, LABELS = (list(part) for part in zip(*ROWS, strict=True))
BRISK: dict[str, Any] = {"epochs": 2, "learning_rate": 3e-3, "batch_size": 8}
# What the target rows do not tell: which animals are which.
ANIMALS = [(f"{animal} {how}", kind) for kind, animals in (("pet", ("cat", "dog")), ("wild", ("bird", "fish")))
           for animal in animals for how in ("old", "new", "good", "bad", "first", "last")]  # fmt: skip
SOURCE = tuple(list(part) for part in zip(*ANIMALS, strict=True))


def several_tasks() -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of five texts and labels of two tasks: two columns, one label a text; three columns, several."""
    nan = float("nan")
    labels = [
        [1, 0, nan, nan, nan],
        [0, 1, nan, nan, nan],
        [nan, nan, 1, 1, 0],
        [nan, nan, 0, 0, 0],
        [0, 1] + [nan] * 3,
    ]
    return torch.randn(5, 3), torch.tensor(labels, dtype=torch.float32)


def test_each_task_has_a_classifier_and_a_loss_of_its_own_texts() -> None:
    embeddings, labels = several_tasks()
    first = Classification(Given(), 2, "single", columns=(0, 2))  # type: ignore[arg-type]
    second = Classification(Given(), 3, "multi", columns=(2, 5))  # type: ignore[arg-type]
    for loss, rows, own in ((first, [0, 1, 4], torch.tensor([0, 1, 1])), (second, [2, 3], labels[2:4, 2:])):
        plain = Classification(Given(), loss.n_labels, loss.task)  # type: ignore[arg-type]
        plain.classifier = loss.classifier
        expected = plain.from_embeddings(embeddings[rows], own)
        assert loss.from_embeddings(embeddings, labels).item() == pytest.approx(expected.item(), abs=1e-6)
    alone = embeddings[:2].requires_grad_()
    nothing = second.from_embeddings(alone, labels[:2])
    nothing.backward()
    assert nothing.item() == 0 and alone.grad is not None and not alone.grad.any()


def targets(labels: list[str]) -> np.ndarray:
    names = sorted(set(labels))
    return np.array([[label == name for name in names] for label in labels], dtype=np.float32)


def told_apart(model: SentenceTransformer) -> float:
    """How much nearer animals are to their own kind than to the other."""
    embeddings = model.encode(SOURCE[0], normalize_embeddings=True)
    alike = np.array(SOURCE[1])[:, None] == np.array(SOURCE[1])
    cosines = embeddings @ embeddings.T
    return float(cosines[alike].mean() - cosines[~alike].mean())


def test_two_tasks_at_once_teach_the_encoder_both(tiny_encoder: Path, tmp_path: Path) -> None:
    found = {}
    for name, beside in (("alone", None), ("both", Beside(SOURCE[0], targets(SOURCE[1]), "single"))):
        model = SentenceTransformer(str(tiny_encoder), device="cpu")
        schedule = Schedule(epochs=6, learning_rate=4e-3, batch_size=8, patience=0, data="both" if beside else "target")
        made = fine_tune(
            model, TEXTS, targets(LABELS), task="single", schedule=schedule, beside=beside, seed=0,
            work=tmp_path / name, progress=Progress(), dev_texts=TEXTS, dev_targets=targets(LABELS),
        )  # fmt: skip
        score = made.history.epochs[-1].dev_score
        assert score is not None and score > 0.9
        layer = made.classifier  # the other task's is not kept
        assert layer is not None and layer.weights.shape == (32, 2)
        found[name] = told_apart(model)
    assert found["both"] > found["alone"] + 0.2


STAGES = {
    "transfer": [("encoder", "source"), ("encoder", "target")],
    "multitask": [("encoder", "both")],
    "common-space-3.3": [
        ("source-encoder", "source"), ("encoder", "target"), ("siamese", "target"), ("common-space", "target"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("recipe", STAGES)
def test_the_second_data_set_trains_but_is_no_example(recipe: str, tiny_encoder: Path, tmp_path: Path) -> None:
    settings = Settings(**BRISK)
    given: Any = dict(recipe=recipe, encoder=str(tiny_encoder), dev=(TEXTS, LABELS), settings=settings)
    with fit(TEXTS, LABELS, source_task=SOURCE, **given) as model:
        model.save(tmp_path / "one")
        assert len(model.examples()) == len(TEXTS) and set(model.labels) == set(LABELS)
    info = json.loads((tmp_path / "one" / "generations" / "0001" / "info.json").read_text())
    assert [(stage["trains"], stage["data"]) for stage in info["stages"]] == STAGES[recipe]
    swapped = (SOURCE[0], ["pet", "wild"] * 12)
    with fit(TEXTS, LABELS, source_task=swapped, **given) as other, Model.open(tmp_path / "one") as one:
        assert one.classify("cat").scores != other.classify("cat").scores  # it makes a difference
        again = one.refit(source_task=SOURCE)
        assert again.generation == 2
        with pytest.raises(SettingError, match="source: found none, but recipe"):
            one.refit()


def test_cross_validation_trains_on_the_source_once(tiny_encoder: Path, tmp_path: Path) -> None:
    class Steps(Progress):
        steps = 0

        def update(self, done: int, total: int, note: str = "") -> None:
            self.steps += note.startswith("loss")

    few = [*range(0, 40, 4)]
    steps = {}
    for recipe in ("softmax", "transfer", "common-space-3.1"):
        progress = Steps()
        fit(
            [TEXTS[i] for i in few], [LABELS[i] for i in few], recipe=recipe, encoder=str(tiny_encoder),
            source_task=None if recipe == "softmax" else SOURCE, progress=progress,
            settings=Settings(epochs=1, batch_size=8, learning_rate=1e-3),
        ).close()  # fmt: skip
        steps[recipe] = progress.steps
    assert steps["transfer"] == steps["softmax"] + 3  # 24 texts, whose task is too small to hold some out
    assert steps["common-space-3.1"] == 2 * steps["softmax"] + 3  # the layers behind, for each fold and all


@pytest.mark.parametrize(
    ("recipe", "source", "kind", "expected"),
    [
        ("transfer", None, SettingError, "source: found none, but recipe 'transfer' learns from a second data set"),
        (
            "cea",
            SOURCE,
            SettingError,
            "recipe 'cea' learns from no second data set; recipes that do are transfer, multitask, common",
        ),
        ("multitask", (["a"], ["b"]), LabelError, "source labels: found 1 label"),
        (
            "transfer",
            (["a"],),
            DataError,
            "source_task: found a tuple of 1, expected a pair: texts, and a list of their labels",
        ),
        ("transfer", 3, DataError, r"source_task: found 3 \(int\), expected a pair"),
        ("transfer", (["a"], 3), DataError, r"source labels: found 3 \(int\), expected a list"),
    ],
)
def test_what_cannot_be_is_said(
    recipe: str, source: Any, kind: type[UsageError], expected: str, tiny_encoder: Path
) -> None:
    with pytest.raises(kind, match=expected):
        fit(TEXTS, LABELS, recipe=recipe, encoder=str(tiny_encoder), source_task=source)


def test_two_tasks_are_learnt_by_cross_entropy_alone() -> None:
    with pytest.raises(SettingError, match="alignment is over 0"):
        Schedule(data="both", alignment=0.5)


def test_pairs_of_a_siamese_network_are_those_that_were_asked_for(tiny_encoder: Path) -> None:
    late = [(label, "late") if "late" in text else (label,) for text, label in ROWS]
    found = []
    for pairs in ("random", "distinct"):
        settings: Any = Settings(**{**BRISK, "epochs": 1}, siamese_pairs=pairs)
        with fit(
            TEXTS, late, recipe="common-space-3.2", encoder=str(tiny_encoder), dev=(TEXTS, late), source_task=SOURCE,
            settings=settings,
        ) as model:  # fmt: skip
            assert model.info.settings["siamese_pairs"] == pairs
            found.append(model.classify(TEXTS[0]).scores)
    assert found[0] != found[1]
    with pytest.raises(SettingError, match=r"siamese_pairs: .* recipes that do are common-space-3.2, common-space-3.3"):
        fit(TEXTS, late, recipe="transfer", encoder=str(tiny_encoder), source_task=SOURCE, settings=settings)


def test_a_kill_between_the_stages_costs_what_was_not_finished(tiny_encoder: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    class Steps(Progress):
        def __init__(self, most: int) -> None:
            self.most, self.steps = most, 0

        def update(self, done: int, total: int, note: str = "") -> None:
            self.steps += note.startswith("loss")
            if self.steps > self.most:
                raise Killed

    given: Any = dict(
        recipe="common-space-3.3", encoder=str(tiny_encoder), dev=(TEXTS, LABELS), source_task=SOURCE,
        settings=Settings(**BRISK), work=tmp_path / "work",
    )  # fmt: skip
    whole = Steps(10**6)
    with fit(TEXTS, LABELS, **{**given, "work": tmp_path / "whole"}, progress=whole) as model:
        expected = model.classify(TEXTS)
    encoders = 2 * 3 + 2 * 5  # 24 texts of the source, 40 of the target, two epochs in batches of eight
    with pytest.raises(Killed):
        fit(TEXTS, LABELS, **given, progress=Steps(encoders + 3))
    rest = Steps(10**6)
    with fit(TEXTS, LABELS, **given, progress=rest) as model:
        assert model.classify(TEXTS) == expected
    assert rest.steps == whole.steps - encoders


@pytest.mark.parametrize("recipe", ["common-space-3.1", "common-space-3.3"])
def test_two_networks_from_nothing_make_a_common_space(recipe: str, tmp_path: Path) -> None:
    settings = Settings(**{**BRISK, "epochs": 6})
    given: Any = dict(recipe=recipe, encoder="cnn", dev=(TEXTS, LABELS), source_task=SOURCE, settings=settings)
    with fit(TEXTS, LABELS, **given) as model:
        model.save(tmp_path / "model")
        right = [said.labels[0] == label for said, label in zip(model.classify(TEXTS), LABELS, strict=True)]
        assert np.mean(right) > 0.8
    encoder = tmp_path / "model" / "generations" / "0001" / "encoder"
    with fit(TEXTS, LABELS, recipe="softmax", encoder=str(encoder), settings=settings, dev=(TEXTS, LABELS)) as other:
        assert other.classify(TEXTS[0]).neighbours  # it is an encoder like others
