"""The answering side is light: a saved model works where nothing of the training side is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from likewise.fitting import fit
from likewise.model import Model

HEAVY = ["torch", "transformers", "sentence_transformers", "sklearn", "scipy", "pandas"]
OPTIONAL = ["datasets", "accelerate", "onnx", "onnxscript", "pyarrow", "huggingface_hub", "openvino", "faiss"]

WITHOUT = """
import importlib.machinery, sys

class Finder(importlib.machinery.PathFinder):
    '''Finds modules as Python does, but for those that are not installed here.'''
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else super().find_spec(name, path, target)

sys.meta_path = [Finder if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
"""

ANSWER = """
import json
import likewise
from likewise.checking import check

with likewise.Model.open(sys.argv[1]) as model:
    first = model.classify("my parcel is late")
    model.teach(["my mother is sick", "the child is sick"], ["health", "health"])
    second = model.classify(["my mother is sick"])
    evaluation = model.evaluate(["my mother is sick", "pay the bill"], ["health", "invoice"]).to_dict()
    model.relabel(1, "invoice")
    model.rename_label("health", "family")
    model.merge_labels(["family", "invoice"], "other")
    model.forget([2])
    labels = model.labels
    model.save(sys.argv[2])
loaded = sorted(set(MISSING) & {name.partition(".")[0] for name in sys.modules})
print(json.dumps([first.to_dict(), second[0].to_dict(), evaluation["n"], labels, check(sys.argv[2]), loaded]))
"""

ROWS = [("my parcel is late", "delivery"), ("where is the parcel", "delivery"), ("a letter was sent", "delivery"),
        ("the ship will arrive late", "delivery"), ("pay the bill", "invoice"), ("a wrong invoice", "invoice"),
        ("money for the bank", "invoice"), ("the price is too high", "invoice")] * 5  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model. Not to be changed."""
    texts, labels = zip(*((f"{text} {i}", label) for i, (text, label) in enumerate(ROWS)), strict=True)
    path = tmp_path_factory.mktemp("fitted") / "model"
    fit(texts, labels, recipe="frozen", encoder=str(tiny_encoder)).save(path).close()
    return path


def test_a_model_answers_learns_and_is_checked_without_the_training_side(fitted: Path, tmp_path: Path) -> None:
    path = shutil.copytree(fitted, tmp_path / "model")
    with Model.open(fitted) as model:
        expected = model.classify("my parcel is late")
    program = f"MISSING = {HEAVY + OPTIONAL}" + WITHOUT + ANSWER
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, path, tmp_path / "copy"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    first, second, evaluated, labels, findings, loaded = json.loads(process.stdout)
    assert first == json.loads(json.dumps(expected.to_dict()))
    assert (second["label"], second["neighbours"][0]["id"], second["revision"]) == ("health", 41, 2)
    assert (evaluated, labels, findings, loaded) == (2, {"delivery": 18, "other": 23}, [], [])


def test_answering_imports_nothing_heavy_that_is_installed(fitted: Path) -> None:
    """Where everything is installed, an answer still loads none of it: it would take seconds."""
    program = """
import sys
from likewise.model import Model
with Model.open(sys.argv[1]) as model:
    model.classify("my parcel")
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    process = subprocess.run([sys.executable, "-c", program, fitted], capture_output=True, text=True, check=True)
    assert not set(process.stdout.split()) & {*HEAVY, *OPTIONAL, "rich", "click"}


@pytest.mark.parametrize("missing", ["torch", "sentence_transformers", "datasets"])
def test_fitting_without_the_training_side_says_what_to_install(tiny_encoder: Path, missing: str) -> None:
    program = f"""
MISSING = [{missing!r}]
{WITHOUT}
import os, tempfile
from likewise.errors import MissingExtra
from likewise.fitting import fit
with tempfile.TemporaryDirectory() as folder:
    tempfile.tempdir = folder
    try:
        fit(["a b", "b c", "c d", "d e"], ["x", "y", "x", "y"], encoder=sys.argv[1], recipe="frozen")
    except MissingExtra as error:
        assert isinstance(error, ImportError)
        print(error)
"""
    process = subprocess.run([sys.executable, "-c", program, tiny_encoder], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout == (
        f"fitting needs the training side ({missing} is not installed); run: pip install 'likewise[train]'\n"
    )
