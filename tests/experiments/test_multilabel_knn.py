"""The multi-label kNN experiment: every table comes out of a quick run, and its numbers are the model's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import multilabel_knn_tables
from quick_runs import quick_run, run


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return quick_run("multilabel_knn", tmp_path_factory.mktemp("multilabel_knn"))


def test_every_table_is_printed_and_on_the_page(quick: tuple[Path, str]) -> None:
    folder, printed = quick
    page = (folder / "README.md").read_text()
    assert page.strip() == printed.strip()
    for title in ("Tables 3 and 4", "Figure 2", "Table 6", "Tables 7 and 8", "Appendix D", "Figure 3"):
        assert f"## {title}" in page
    assert all(f"| made-up | {network} | both |" in page for network in ("transformer", "cnn", "ldgn"))
    assert len(list(folder.glob("*.png"))) == 8


def test_sweeps_and_voices_agree(quick: tuple[Path, str]) -> None:
    for path in quick[0].glob("*.json"):
        found = json.loads(path.read_text())
        lambdas, ks = dict(found["lambdas"]), dict(found["ks"])
        assert lambdas[0.0] == found["paper"]["head"]["micro_f1"]
        assert lambdas[1.0] == found["paper"]["neighbours"]["micro_f1"]
        assert lambdas[0.5] == ks[5] == found["paper"]["blend"]["micro_f1"]
        assert 0 < found["shared"] <= 1
        assert found["milliseconds"]["with"] > found["milliseconds"]["without"] > 0
        assert found["disk"] > 50_000


def test_a_second_run_repeats_nothing(quick: tuple[Path, str]) -> None:
    again = run("multilabel_knn", "--quick", "--results", str(quick[0]))
    assert again.returncode == 0 and again.stderr.count("done before") == 6


def test_the_papers_figures_stand_beside_ours(quick: tuple[Path, str], tmp_path: Path) -> None:
    """Runs that were made on the paper's data are shown with what it has of them."""
    for path in quick[0].glob("made-up-ldgn-*.json"):
        run = {**json.loads(path.read_text()), "data": "aapd"}
        (tmp_path / path.name).write_text(json.dumps(run))
        if run["variant"] == "with contrast":
            (tmp_path / f"beta-{path.name}").write_text(json.dumps({**run, "variant": "without beta"}))
    multilabel_knn_tables.write(tmp_path, "")
    page = (tmp_path / multilabel_knn_tables.PAGE).read_text()
    for figures in ("| 70.59 | 0.02478 |", "| 71.38 | 0.02296 |", "| 71.06 | 71.38 |", "| 63.1 | 64.2 |"):
        assert figures in page
