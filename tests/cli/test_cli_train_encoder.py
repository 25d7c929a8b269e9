"""`likewise train-encoder` from the command line: a folder that other data, and others' programs, start from."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(scope="module")
def trained(likewise, kit, tiny_encoder, tmp_path_factory):
    """An encoder trained on the topics, and what was said."""
    folder = tmp_path_factory.mktemp("encoder")
    data = kit.write_jsonl(folder / "train.jsonl", kit.rows(12))
    arguments = ("train-encoder", folder / "out", data, "--encoder", tiny_encoder, "--epochs", "2", "--dev", data,
                 "--learning-rate", "0.003")  # fmt: skip
    return folder, likewise(*arguments)


def test_what_is_made_is_an_ordinary_sentence_transformers_folder(trained):
    from sentence_transformers import SentenceTransformer

    folder, said = trained
    assert said.status == 0, said
    assert "Trained" in said.out and f"--encoder {folder / 'out'}" in said.out
    assert sorted(path.name for path in folder.iterdir()) == ["out", "train.jsonl"]  # no checkpoints are left
    model = SentenceTransformer(str(folder / "out"), device="cpu", local_files_only=True)
    assert model.encode(["where is my parcel"]).shape == (1, 32)
    assert model[1].pooling_mode == "cls"
    card = (folder / "out" / "README.md").read_text(encoding="utf-8")
    assert "recipe retrofit" in card and "delivery (12)" in card and '"preservation"' in card


def test_other_data_start_from_it(likewise, kit, trained):
    folder, _ = trained
    data = kit.write_jsonl(folder / "other.jsonl", kit.rows(6))
    made = likewise("fit", folder / "model", data, "--encoder", folder / "out", "--recipe", "frozen")
    assert made.status == 0, made
    answer = likewise("classify", folder / "model", "where is my parcel", "--json").json()
    assert answer["neighbours"]


def test_json_tells_of_the_epochs(likewise, kit, tiny_encoder, tmp_path):
    data = kit.write_jsonl(tmp_path / "train.jsonl", kit.rows(12))
    found = likewise(
        "train-encoder", tmp_path / "out", data, "--encoder", tiny_encoder, "--epochs", "2", "--recipe", "cea", "--json"
    ).json()
    assert found["recipe"] == "cea" and found["examples"] == 36
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2]
    assert found["judged_on"] is None and found["kept"] == [2]  # too few to hold some out
    names = [module["type"] for module in json.loads((tmp_path / "out" / "modules.json").read_text())]
    assert names[-1].endswith("Normalize")  # the recipe's embeddings have length 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--recipe", "frozen"], "trains no encoder; recipes that do are likewise"),
        (
            ["--recipe", "cea", "--preservation", "1"],
            "preservation: recipe 'cea' has no use for it; recipes that do are retrofit",
        ),
        (["--per-class", "1"], "--per-class: found 1, expected a whole number, at least 2"),
        (["--batch-size", "6"], "per_class is 4, batch_size 6"),
        (["--per-class", "2", "--batches", "stratified"], "per_class: found it with stratified batches"),
        (["--recipe", "sbert-frozen-softmax"], "trains no encoder"),
    ],
)
def test_what_cannot_be_is_said(likewise, kit, tiny_encoder, tmp_path, arguments, expected):
    data = kit.write_jsonl(tmp_path / "train.jsonl", kit.rows(4))
    done = likewise("train-encoder", tmp_path / "out", data, "--encoder", tiny_encoder, *arguments)
    done.refused(expected)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(likewise, kit, tmp_path):
    data = kit.write_jsonl(tmp_path / "train.jsonl", kit.rows(4))
    likewise("train-encoder", tmp_path, data).refused("there is something already")
