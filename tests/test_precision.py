"""Encoders in a lower precision: chosen by a fit, remembered with the model, and told where they cannot have it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from likewise import precision
from likewise.checking import check
from likewise.encoding.sessions import multiplies_bfloat16
from likewise.errors import SettingError
from likewise.fitting import fit, wrap
from likewise.model import Model
from likewise.progress import LikewiseWarning
from likewise.settings import Settings
from rows import ROWS, exact_and, moods

needs_bfloat16 = pytest.mark.skipif(not multiplies_bfloat16(), reason="the processor does not multiply bfloat16")
ASKED = ["my parcel is late", "the bank card is lost", "why"]
NEAR = {"bf16": 0.05, "int8": 0.1}
"""How near probabilities are to those in float32."""


def saved_and_taught(exact: Model, quick: Model, taken: str, path: Path) -> int:
    """A model of this precision is saved, answers much like the exact one, and learns an example, whose id this is."""
    quick.save(path)
    assert (quick._answering.encoder.precision, exact._answering.encoder.precision) == (taken, "fp32")
    assert quick.info.fit["precision"] == taken
    assert quick._answering.fingerprint != exact._answering.fingerprint
    for a, b in zip(exact.classify(ASKED), quick.classify(ASKED), strict=True):
        assert dict(a.scores) == pytest.approx(dict(b.scores), abs=NEAR[taken])
    (number,) = quick.teach("a sick bird", "health").ids
    (nearest, *_) = quick.classify("a sick bird").neighbours
    assert (nearest.id, nearest.distance) == (number, 0.0)
    assert f"calculates in {taken}" in (path / "README.md").read_text()
    assert check(path) == []
    return number


@needs_bfloat16
def test_a_model_of_bfloat16_answers_learns_and_is_told_elsewhere(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exact_and(tiny_encoder, precision="bf16") as (exact, quick):
        number = saved_and_taught(exact, quick, "bf16", tmp_path / "quick")
        here = quick.classify(ASKED)
    monkeypatch.setattr("likewise.encoding.sessions.multiplies_bfloat16", lambda: False)
    with Model.open(tmp_path / "quick") as elsewhere:
        with pytest.warns(LikewiseWarning, match="calculates in fp32"):
            there = elsewhere.classify(ASKED)
        for a, b in zip(here, there, strict=True):
            assert dict(a.scores) == pytest.approx(dict(b.scores), abs=0.05)
        elsewhere.forget(number)
        with pytest.raises(SettingError, match="precision"):
            elsewhere.refit()
        elsewhere.refit(precision="fp32")
        assert elsewhere._answering.fingerprint == exact._answering.fingerprint


def test_a_model_of_whole_numbers_answers_learns_and_is_refitted(tiny_encoder: Path, tmp_path: Path) -> None:
    with exact_and(tiny_encoder, precision="int8") as (exact, quick):
        number = saved_and_taught(exact, quick, "int8", tmp_path / "quick")
    with Model.open(tmp_path / "quick") as model:
        model.forget(number)
        assert model.refit(recipe="softmax", epochs=1).kept
        assert (model._answering.encoder.precision, model.info.fit["precision"]) == ("int8", "int8")
        model.refit(recipe="frozen", precision="fp32")
        assert model._answering.fingerprint == exact._answering.fingerprint
    assert check(tmp_path / "quick") == []


# Chosen by the fit


LOWER = [pytest.param("bf16", marks=needs_bfloat16), "int8"]
"""The two that a fit compares with float32: the second where the first cannot be had."""


@pytest.fixture()
def other(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of them, on a machine that has it to offer."""
    if request.param == "int8":
        monkeypatch.setattr("likewise.encoding.sessions.multiplies_bfloat16", lambda: False)
    return str(request.param)


CASES = {
    "frozen, hold-out": ("frozen", 300, Settings(precision="auto", holdout=0.4)),
    "frozen, cross-validation": ("frozen", 60, Settings(precision="auto")),
    "trained, hold-out": ("softmax", 300, Settings(precision="auto", holdout=0.4, epochs=1)),
    "trained, cross-validation": ("likewise", 50, Settings(precision="auto", epochs=1)),
}


@pytest.mark.parametrize(
    ("case", "other"),
    [
        *((case, "int8") for case in CASES),
        *(
            pytest.param(case, "bf16", marks=needs_bfloat16)
            for case in ("frozen, hold-out", "trained, cross-validation")
        ),
    ],
    indirect=["other"],
)
def test_a_fit_takes_a_lower_precision_where_it_costs_the_blend_little(
    case: str, other: str, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, count, settings = CASES[case]
    texts, labels = moods(count, seed=0)
    made: dict[str, Any] = {}
    for taken, slack in ((other, 1.0), ("fp32", -1.0)):
        monkeypatch.setattr(precision, "SLACK", slack)
        with fit(texts, labels, recipe=recipe, encoder=str(tiny_encoder), settings=settings) as model:
            encoder = model._answering.encoder
            assert (model.info.fit["precision"], encoder.precision) == (taken, taken)
            assert encoder.fingerprint == model._answering.fingerprint == model.info.fit["fingerprint"]
            made[taken] = dict(model.classify("a good bird").scores)
            model.save(tmp_path / taken)
        assert f"calculates in {taken}" in (tmp_path / taken / "README.md").read_text()
        assert check(tmp_path / taken) == []
    assert made[other] == pytest.approx(made["fp32"], abs=NEAR[other])
    with Model.open(tmp_path / other) as model:
        assert model.refit().kept  # asks the question anew
        assert model.info.fit["precision"] == "fp32"


@pytest.mark.parametrize("other", LOWER, indirect=True)
def test_a_wrapped_classifier_takes_it_too(other: str, tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels = zip(*ROWS, strict=True)
    for taken, slack in ((other, 1.0), ("fp32", -1.0)):
        monkeypatch.setattr(precision, "SLACK", slack)
        dev = (texts[::3], labels[::3])
        with wrap(tiny_classifier, texts, labels, dev=dev, settings=Settings(precision="auto")) as model:
            assert (model.info.fit["precision"], model._answering.encoder.precision) == (taken, taken)
            assert model.classify(texts[0]).neighbours[0].text == texts[0]


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is an extra")
def test_where_none_can_be_had_a_fit_that_may_choose_takes_float32(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.encoding.sessions.multiplies_bfloat16", lambda: False)
    with exact_and(tiny_encoder, precision="auto", runtime="openvino") as (exact, other):
        assert other.info.fit["precision"] == "fp32"
        assert other.info.fit["fingerprint"] == exact.info.fit["fingerprint"]
        for a, b in zip(exact.classify(ASKED), other.classify(ASKED), strict=True):
            assert (a.labels, dict(a.scores)) == (b.labels, pytest.approx(dict(b.scores), abs=1e-5))
