"""Encoders that calculate in bfloat16: chosen by a fit, remembered with the model, and told where they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from likewise.checking import check
from likewise.encoding.sessions import multiplies_bfloat16
from likewise.errors import SettingError
from likewise.model import Model
from likewise.progress import LikewiseWarning
from rows import exact_and

ASKED = ["my parcel is late", "the bank card is lost", "why"]


@pytest.mark.skipif(not multiplies_bfloat16(), reason="the processor does not multiply bfloat16")
def test_a_model_of_bfloat16_answers_learns_and_is_told_elsewhere(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exact_and(tiny_encoder, precision="bf16") as (exact, quick):
        quick.save(tmp_path / "quick")
        assert (quick._answering.encoder.precision, exact._answering.encoder.precision) == ("bf16", "fp32")
        assert quick._answering.fingerprint != exact._answering.fingerprint
        for a, b in zip(exact.classify(ASKED), quick.classify(ASKED), strict=True):
            assert dict(a.scores) == pytest.approx(dict(b.scores), abs=0.05)
        (number,) = quick.teach("a sick bird", "health").ids
        (nearest, *_) = quick.classify("a sick bird").neighbours
        assert (nearest.id, nearest.distance) == (number, 0.0)
        here = quick.classify(ASKED)
    assert "calculates in bf16" in (tmp_path / "quick" / "README.md").read_text()
    assert check(tmp_path / "quick") == []
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
