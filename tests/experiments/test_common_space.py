"""The common-space experiment: every table comes out of a quick run, and its numbers agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiments.common_space import SETS, VARIANTS
from experiments.common_space_tables import ORDER, PAPER

from likewise.planning import planned
from likewise.recipes import RECIPES
from likewise.settings import Settings
from quick_runs import quick_run, run


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return quick_run("common_space", tmp_path_factory.mktemp("common_space"))


def test_every_table_is_printed_and_on_the_page(quick: tuple[Path, str]) -> None:
    folder, printed = quick
    page = (folder / "README.md").read_text()
    assert page.strip() == printed.strip()
    for title in ("sample", "sample-several", "The degenerate solution", "The two strategies", "What cannot"):
        assert f"## {title}" in page
    assert "at a threshold of a half" in page and "dev rows chose for it" in page


def test_the_halves_of_the_common_space_are_told_apart(quick: tuple[Path, str]) -> None:
    found = [json.loads(path.read_text()) for path in quick[0].glob("*.json")]
    assert len(found) == 5
    for one in found:
        assert bool(one["halves"]) == one["recipe"].startswith("common-space")
        assert (one["task"] == "multi") == ("several" in one["data"]) == (one["copies"] > 0)
        if one["halves"]:
            assert all(value > 0 for kind in ("norm", "spread") for value in one["halves"][kind].values())
            scores = one["scores"]["a half" if one["task"] == "multi" else "highest"]["head"]
            assert one["halves"]["macro_f1"]["both"] == pytest.approx(scores["macro_f1"], abs=0.05)


def test_a_second_run_repeats_nothing_and_missing_data_are_skipped(quick: tuple[Path, str], tmp_path: Path) -> None:
    again = run("common_space", "--quick", "--results", str(quick[0]))
    assert again.returncode == 0 and again.stderr.count("done before") == 5
    nothing = run("common_space", "--folder", str(tmp_path), "--results", str(tmp_path / "out"))
    assert nothing.returncode == 0 and "semeval2017-4a: not found" in nothing.stderr
    assert "Traceback" not in nothing.stderr


def test_every_model_is_one_that_its_recipe_allows_and_stands_beside_the_papers() -> None:
    for variant in VARIANTS:
        assert planned(RECIPES[variant.recipe], False, Settings(**variant.given))
    names = {variant.name.partition(",")[0] for variant in VARIANTS}
    assert names == set(ORDER) and {model for _, model in PAPER} == names and {data for data, _ in PAPER} == set(SETS)
