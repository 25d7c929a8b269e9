"""The retrofitting experiment: every table comes out of a quick run, and what is said of encoders is so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiments.retrofit import VARIANTS

from likewise.planning import planned
from likewise.recipes import RECIPES
from likewise.settings import Settings
from quick_runs import quick_run, run


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return quick_run("retrofit", tmp_path_factory.mktemp("retrofit"))


def test_every_table_is_printed_and_on_the_page(quick: tuple[Path, str]) -> None:
    folder, printed = quick
    page = (folder / "README.md").read_text()
    assert page.strip() == printed.strip()
    for title in ("Encoders", "Other tasks that start from them", "Few examples"):
        assert f"## {title}" in page
    assert (folder / "shares-sample.png").stat().st_size > 5000


def test_only_what_was_trained_has_moved(quick: tuple[Path, str]) -> None:
    before, after = (
        json.loads((quick[0] / f"encoder-0-{name}-mean.json").read_text()) for name in ("before", "retrofitted")
    )
    assert before["delta"] == 0 < after["delta"] < after["norm_before"]
    assert (quick[0] / "models" / "0-retrofitted-mean" / "modules.json").exists()


def test_a_second_run_repeats_nothing_and_missing_data_are_skipped(quick: tuple[Path, str], tmp_path: Path) -> None:
    again = run("retrofit", "--quick", "--results", str(quick[0]))
    assert again.returncode == 0 and again.stderr.count("done before") == 6
    nothing = run("retrofit", "--folder", str(tmp_path), "--results", str(tmp_path / "out"))
    assert nothing.returncode == 0 and "goemotions: not found" in nothing.stderr and "Traceback" not in nothing.stderr


def test_every_variant_is_one_that_the_recipe_allows() -> None:
    for variant in VARIANTS:
        if variant.recipe:
            assert planned(RECIPES[variant.recipe], False, Settings(**variant.given))
