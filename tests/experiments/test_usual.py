"""How the usual settings were found: what is patched is there, is put back, and the page holds what was found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiments.usual import RULES, _patched, section

from likewise.decision import tuning
from likewise.decision.head import HeadSettings


def test_rules_patch_what_is_there_and_put_it_back() -> None:
    for rule in RULES.values():
        before = {name: getattr(tuning, name) for name in rule}
        with pytest.raises(RuntimeError), _patched(rule):
            assert all(getattr(tuning, name) is not before[name] for name in rule)
            assert tuning.unusual_head(HeadSettings(shrinkage=0.1), 0.1) >= 0
            raise RuntimeError
        assert {name: getattr(tuning, name) for name in rule} == before


def test_the_page_holds_what_was_found(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
    rules = {rule: {"head": 0.1, "neighbours": 0.2, "blend": i / 10} for i, rule in enumerate(RULES)}
    for hidden in ("guilt", None):
        found = {"data": "isear", "hidden": hidden, "held": 1200, "rules": rules}
        (tmp_path / f"{hidden}.json").write_text(json.dumps(found))
    lines = section(tmp_path).splitlines()
    assert "| rule | isear | isear, guilt taught later |" in lines
    assert "| the likeliest | 0.100 0.200 **0.100** | 0.100 0.200 **0.100** |" in lines
    assert "(1,200 rows)" in section(tmp_path)
