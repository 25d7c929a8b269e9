"""The CEA paper's experiment: every table and plot comes out of a quick run, and its short cuts change nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from experiments.cea import chosen, fine_labels
from experiments.cea_fits import Bench, Fit, Plan, fit_of
from experiments.data import Part

from likewise.bundle import Layout, read_decision
from likewise.fitting import fit
from likewise.settings import Settings
from quick_runs import quick_run, run
from rows import ROWS

TITLES = ("Table 2", "Table 3", "Table 4", "Table 5", "Table 6", "Algorithm 1", "Figure 3", "Sub-classes", "Figure 6",
          "Figures 1 and 4")  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return quick_run("cea", tmp_path_factory.mktemp("cea"))


def read(quick: tuple[Path, str], name: str) -> dict:
    return json.loads((quick[0] / f"{name}.json").read_text())


def test_every_table_is_printed_and_on_the_page(quick: tuple[Path, str]) -> None:
    folder, printed = quick
    page = (folder / "README.md").read_text()
    assert page.strip() == printed.strip()
    assert [title for title in TITLES if title not in page] == []
    for part in ("cea", "cea-softmax", "cea-frozen-softmax", "sbert-frozen-softmax", "softmax"):
        assert re.search(rf"^\| {part} \|.*\| \d\.\d{{3}} \|", page, re.MULTILINE), part


def test_the_plots_show_something(quick: tuple[Path, str]) -> None:
    from matplotlib.image import imread

    folder, page = quick
    shown = set(re.findall(r"!\[\w+\]\((.+?\.png)\)", page))
    assert shown == {path.name for path in folder.glob("*.png")} and len(shown) == 4
    for name in shown:
        assert imread(folder / name)[..., :3].std() > 0.02, name


def test_a_hidden_class_is_never_decided_until_it_is_taught(quick: tuple[Path, str]) -> None:
    (name,) = {path.stem for path in quick[0].glob("table5-*.json")} - {"table5-sample-full"}
    found = read(quick, name)
    for voice in ("neighbours", "head"):
        assert found["held-out"][voice]["per_label"][found["hidden"]]["f1"] == 0
    assert found["index++"]["head"]["per_label"][found["hidden"]]["recall"] > 0
    assert found["taught"] > 5


def test_pairs_cost_four_times_the_texts(quick: tuple[Path, str]) -> None:
    in_batch, pairs = (read(quick, f"objective-sample-{name}-01") for name in ("in-batch", "pairs"))
    assert in_batch["texts_encoded"] == in_batch["fitted"]
    assert pairs["texts_encoded"] == 4 * pairs["fitted"]


def test_wrong_answers_name_rows_that_bear_those_labels(quick: tuple[Path, str]) -> None:
    from experiments.data import read as rows_of

    train = rows_of(None, "sample", "train")
    found = read(quick, "table4-sample")
    assert train is not None and found["wrong"]
    for one in found["wrong"]:
        assert len(one["neighbours"]) == 4
        assert all(train.labels[near["row"]] == (near["label"],) for near in one["neighbours"])


def test_the_k_of_the_curve_is_the_one_that_the_model_votes_with(quick: tuple[Path, str]) -> None:
    found = read(quick, "table6-sample")
    curve = dict(map(tuple, found["curve"]))
    assert curve[found["k"]] == max(curve.values()) == pytest.approx(found["dev"])


def test_no_run_is_repeated(quick: tuple[Path, str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in quick[0].glob("*.json")}
    done = run("cea", "--quick", "--results", str(quick[0]), "--only", "table2")
    assert done.returncode == 0 and "done before" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in quick[0].glob("*.json")} == before


def test_missing_data_are_skipped_with_a_word(tmp_path: Path) -> None:
    done = run(
        "cea", "--data", "trec-6", "--data", "agnews", "--folder", str(tmp_path), "--results", str(tmp_path / "out")
    )
    assert done.returncode == 0
    assert done.stderr.count("; skipped") == 2 and "trec-6: not found" in done.stderr
    assert not (tmp_path / "out").exists()


def bench(encoder: Path, models: Path) -> Bench:
    texts, labels = zip(*ROWS, strict=True)
    rows = Part(list(texts), [(label,) for label in labels])
    return Bench("rows", 0, rows, rows, Plan(), str(encoder), models)


@pytest.mark.parametrize("method", ["cea-softmax", "cea-frozen-softmax"])
def test_the_second_stage_from_ceas_encoder_is_the_recipe_of_two_stages(
    method: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    own = bench(tiny_encoder, tmp_path / "models")
    kept, dev = (own.train.rows(rows) for rows in own.split)
    whole = fit(
        kept.texts, kept.labels, recipe=method, encoder=str(tiny_encoder), dev=(dev.texts, dev.labels),
        settings=Settings.resolve(seed=0, epochs=2),
    ).save(tmp_path / "whole")  # fmt: skip
    with own.opened(fit_of(method, None, None, epochs=2)) as apart, whole:
        assert apart.info.fit["scores"] == whole.info.fit["scores"]
        assert apart.info.fit["fingerprint"] == whole.info.fit["fingerprint"]  # the same graph, to the last bit
        heads = [read_decision(Layout(model.path), 1).head for model in (apart, whole)]
    assert np.array_equal(heads[0].weights, heads[1].weights)


def test_rows_hidden_or_beyond_the_share_are_not_fitted(tiny_encoder: Path, tmp_path: Path) -> None:
    own = bench(tiny_encoder, tmp_path)
    kept, dev = own.split
    assert sorted([*kept, *dev]) == list(range(len(ROWS)))
    assert own.rows(Fit("cea")) == (kept, dev)
    for rows in own.rows(Fit("cea", hidden="invoice")):
        assert {own.train.labels[row] for row in rows} == {("delivery",)}
    some, same = own.rows(Fit("cea", share=50))
    assert same == dev and set(some) < set(kept) and len(some) == pytest.approx(len(kept) / 2, abs=1)


def test_rates_are_chosen_by_dev_rows_alone(tmp_path: Path) -> None:
    def ran(name: str, method: str, asked: float | None, start: float | None, dev: float, test: float) -> None:
        content = {"method": method, "asked": asked, "start": start, "dev": dev, "test": {"blend": {"accuracy": test}}}
        (tmp_path / f"table2-d-0-{name}.json").write_text(json.dumps(content))

    assert chosen(tmp_path, "d", "cea") is None
    ran("cea-paper", "cea", None, None, 0.8, 0.99)
    ran("cea-0.0001", "cea", 1e-4, None, 0.9, 0.5)
    ran("cea-softmax-paper", "cea-softmax", None, None, 0.99, 0.9)  # begins with the other CEA model
    ran("cea-softmax-2e-05-0.0001", "cea-softmax", 2e-5, 1e-4, 0.7, 0.9)
    assert chosen(tmp_path, "d", "cea") == 1e-4
    assert chosen(tmp_path, "d", "cea-softmax") == 2e-5


def test_finer_labels_must_be_of_the_same_rows(tmp_path: Path) -> None:
    def write(name: str, first: str) -> None:
        for part in ("train", "test"):
            (tmp_path / name).mkdir(exist_ok=True)
            rows = [{"text": first, "labels": ["A:b"]}, {"text": "two", "labels": ["A:c"]}]
            (tmp_path / name / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    part = Part(["one", "two"], [("A",), ("A",)])
    coarse = SimpleNamespace(data="trec-6", train=part, test=part)
    write("trec-50", "one")
    found = fine_labels(coarse, tmp_path)
    assert found is not None and found[0] == [("A:b",), ("A:c",)]
    write("trec-50", "another")
    with pytest.raises(SystemExit, match="other rows"):
        fine_labels(coarse, tmp_path)
    assert fine_labels(coarse, tmp_path / "nowhere") is None
