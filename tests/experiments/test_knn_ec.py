"""KNN-EC's experiment runs on the bundled data; its numbers are those of the model, and of the formulas done slowly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments.data import read
from experiments.knn_ec import LEARNING_RATES, _few
from experiments.knn_ec_store import Asked, Run

from likewise import Model
from likewise.bundle import Layout
from likewise.encoding.runtime import Encoder
from likewise.recipes import KNN_EC
from quick_runs import quick_run, run


def at(work: Path) -> dict[str, str]:
    """Where models are kept for the experiment's later parts."""
    return {"LIKEWISE_EXPERIMENT_WORK": str(work)}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A quick run: the folder that holds `work` and `results`, and what it printed."""
    folder = tmp_path_factory.mktemp("knn_ec")
    return folder, quick_run("knn_ec", folder / "results", **at(folder / "work"))[1]


def found(done: tuple[Path, str], values: str, part: str) -> Any:
    """What a part of the run wrote."""
    return json.loads((done[0] / "results" / f"sample-{values}-0-{part}.json").read_text())


def test_every_table_is_shown_with_what_was_found(done: tuple[Path, str]) -> None:
    page = (done[0] / "results" / "README.md").read_text()
    assert page.strip() == done[1].strip()
    for title in ("What holds", "Table 3", "Table 4", "Table 5", "Figure 3", "More data for retrieval", "Figure 2"):
        assert f"## {title}" in page
    for values in ("paper", "tuned"):
        scores = found(done, values, "table3")
        assert f"| p | {scores['blend']['all']:.3f} |" in page
    assert {row["temperature"] for row in found(done, "paper", "table5")["rows"]} == {2.0}


def test_the_pictures_show_something(done: tuple[Path, str]) -> None:
    from matplotlib import image

    for values in ("paper", "tuned"):
        for part in ("figure2", "figure3", "fractions"):
            pixels = image.imread(done[0] / "results" / f"sample-{values}-0-{part}.png")[:, :, :3]
            assert min(pixels.shape[:2]) > 400
            assert 0.005 < float((pixels.min(axis=2) < 0.9).mean()) < 0.5, (values, part)


def test_the_three_voices_are_those_of_the_model(done: tuple[Path, str]) -> None:
    (folder,) = done[0].glob("work/knn_ec/sample-*/model")
    test = read(None, "sample", "test")
    assert test is not None
    with Model.open(folder) as model:
        expected = model.evaluate(test.texts, test.labels).to_dict()
    table = found(done, "paper", "table3")
    for ours, voice in (("model", "head"), ("blend", "blend")):
        assert table[ours]["all"] == pytest.approx(expected[voice]["macro_f1"], abs=1e-9)
    k = table["settings"]["blend"]["k"]
    (row,) = (row for row in found(done, "paper", "figure3")["rows"] if row["k"] == k)
    assert row["neighbours"]["all"] == pytest.approx(expected["neighbours"]["macro_f1"], abs=1e-9)


def test_whitened_neighbours_by_the_papers_formulas_done_slowly(done: tuple[Path, str]) -> None:
    """Equations 4, 5, 8, 11 and 12 in loops, for a cell of Table 4."""
    train, test = (read(None, "sample", part) for part in ("train", "test"))
    assert train is not None and test is not None
    train, _ = _few(train)
    (model,) = done[0].glob("work/knn_ec/sample-*/model")
    encoder = Encoder(Layout(model).onnx(1))
    rows, queries = (encoder.encode(part.texts).astype(np.float64) for part in (train, test))
    cell = found(done, "paper", "table4")["rows"][0]["with"]
    mean = rows.mean(axis=0)
    u, variances, _ = np.linalg.svd(sum(np.outer(e - mean, e - mean) for e in rows) / len(rows))
    w = (u @ np.diag(variances**-0.5))[:, : cell["n"]]
    keys = (rows - mean) @ w
    labels = sorted({label for (label,) in train.labels})
    decided = []
    for query in queries:
        distances = [float(np.sqrt(((key - (query - mean) @ w) ** 2).sum())) for key in keys]
        votes = dict.fromkeys(labels, 0.0)
        for i in np.argsort(distances)[: cell["k"]]:
            votes[train.labels[i][0]] += np.exp(-distances[i] / cell["temperature"])
        decided.append(max(labels, key=lambda label: votes[label]))
    f1 = []
    for label in labels:
        pairs = [(true == label, said == label) for (true,), said in zip(test.labels, decided, strict=True)]
        f1.append(2 * pairs.count((True, True)) / max(1, sum(a + b for a, b in pairs)))
    assert cell["all"] == pytest.approx(float(np.mean(f1)), abs=0.01)  # one text may lie between two labels


def test_all_of_the_datastore_is_what_was_tuned(done: tuple[Path, str]) -> None:
    """Chosen over keys that were made before, everything comes out as chosen over embeddings."""
    rows = [row for row in found(done, "tuned", "fractions")["rows"] if row["draw"] == 0]
    assert [row["rows"] for row in rows] == sorted((row["rows"] for row in rows), reverse=True)
    table = found(done, "tuned", "table3")
    assert {key: rows[0][key] for key in table["settings"]["blend"]} == table["settings"]["blend"]
    assert rows[0]["share"] == 1.0
    assert rows[0]["blend"] == rows[0]["kept"] == table["blend"]


def test_lambda_zero_is_the_model_and_one_the_neighbours(done: tuple[Path, str]) -> None:
    train, test = (read(None, "sample", part) for part in ("train", "test"))
    assert train is not None and test is not None
    train, dev = _few(train)
    (model,) = done[0].glob("work/knn_ec/sample-*/model")
    asked = Asked(
        "sample", train, dev, test, "all-MiniLM-L6-v2", LEARNING_RATES["tuned"], 1, KNN_EC.grid, 0, model.parent,
        model.parent,
    )  # fmt: skip
    store, tuned = Run(asked).fine_tuned, Run(asked).tuned
    nothing, all_of_it = (store.decide(replace(tuned, lambda_=share)) for share in (0.0, 1.0))
    assert (nothing["blend"] == nothing["model"]).all()
    assert (all_of_it["blend"] == all_of_it["neighbours"]).all()
    assert (nothing["model"] != nothing["neighbours"]).any()


def test_a_second_run_repeats_nothing(done: tuple[Path, str]) -> None:
    again = run(
        "knn_ec",
        "--quick",
        "--results",
        str(done[0] / "results"),
        "--only",
        "table3",
        **at(done[0] / "work"),
    )
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done before") == 2


def test_a_missing_data_set_and_an_unknown_part_are_told(tmp_path: Path) -> None:
    made = run(
        "knn_ec",
        "--folder",
        str(tmp_path),
        "--results",
        str(tmp_path / "results"),
        **at(tmp_path),
    )
    assert made.returncode == 0
    assert made.stderr.count("skipped") == 2
    assert not list(tmp_path.rglob("*.json"))
    wrong = run("knn_ec", "--quick", "--only", "table9", **at(tmp_path))
    assert wrong.returncode == 1
    assert "table9" in wrong.stderr
