"""The choice of the recipe: no row is both fitted and scored, and the page holds what was found."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.data import Part, read
from experiments.schedules import few_rows, many_rows, section

from likewise.validation import normalised


def sample() -> Part:
    train = read(None, "sample", "train")
    assert train is not None
    return train


def test_no_text_is_both_fitted_and_scored() -> None:
    train = sample()
    doubled = Part([*train.texts, *(text.upper() for text in train.texts[:50])], [*train.labels, *train.labels[:50]])
    for fitted, held in (many_rows(doubled), few_rows(doubled, 8)):
        assert len(held) > 0
        assert not {normalised(text) for text in fitted.texts} & {normalised(text) for text in held.texts}


def test_few_rows_are_as_many_of_each_class() -> None:
    fitted, _ = few_rows(sample(), 8)
    counts = [fitted.labels.count(labels) for labels in set(sample().labels)]
    assert counts == [8] * 9


def test_the_page_holds_what_was_found(tmp_path: Path) -> None:
    assert section(tmp_path) == ""
    for variant, blend in (("8 epochs", 0.5), ("as the recipe", 0.75)):
        found = {
            "data": "isear", "kind": "many", "variant": variant, "head": 0.1, "neighbours": 0.2, "blend": blend,
            "measure": "macro_f1", "fitted": 400, "held": 300, "kept": "fine-tuned", "seconds": 12.3,
        }  # fmt: skip
        (tmp_path / f"{variant}.json").write_text(json.dumps(found))
    lines = section(tmp_path).splitlines()
    assert "| as the recipe | 0.100 | 0.200 | 0.750 | fine-tuned | 12 |" in lines
    assert lines.index("| as the recipe | 0.100 | 0.200 | 0.750 | fine-tuned | 12 |") < lines.index(
        "| 8 epochs | 0.100 | 0.200 | 0.500 | fine-tuned | 12 |"
    )
    taught = {**found, "kind": "hidden", "variant": "2 epochs", "hidden": "guilt", "blend": 0.6}
    (tmp_path / "taught.json").write_text(json.dumps(taught))
    assert "| 2 epochs, guilt | 0.100 | 0.200 | 0.600 | fine-tuned | 12 |" in section(tmp_path).splitlines()
    assert "about 0.025" in section(tmp_path)  # sqrt(0.75 * 0.25 / 300)
