"""The model directory: what is written into it, and what a kill at any moment leaves."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from likewise.bundle import (
    FORMAT,
    Decision,
    Layout,
    Manifest,
    damaged_files,
    read_decision,
    read_manifest,
    write_generation,
    write_manifest,
)
from likewise.checking import check
from likewise.datastore.ledger import Ledger, NewExample
from likewise.decision.head import HeadSettings
from likewise.decision.tuning import Tuned
from likewise.decision.whitening import Whitening, fit_whitening
from likewise.encoding.runtime import Encoder
from likewise.errors import ModelDamaged, ModelForeign, ModelNewer, ModelNotFound
from likewise.files import digest, write_json
from likewise.model import Model

HEAD = HeadSettings(16, 0.3, 0.5, 2.5, {"á \U0001f600": (1.5, -0.25)}, (0.75, 0.125))
TUNED = Tuned(8, 3, 0.7, 0.4, HEAD, {"á \U0001f600": 0.3}, 0.45, "micro_f1", {"head": 0.5, "blend": 0.75})
ROWS = [("my parcel is late", "delivery"), ("where is the parcel", "delivery"), ("pay the bill", "invoice"),
        ("a wrong invoice", "invoice")]  # fmt: skip


@pytest.fixture(scope="module")
def encoder_folder(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a generation keeps of an encoder."""
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    shutil.copytree(tiny_onnx, folder / "onnx")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def finished(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory put together from its parts. Not to be changed."""
    root = tmp_path_factory.mktemp("finished") / "model"
    layout = Layout(root)
    layout.generation(1).parent.mkdir(parents=True)
    encoder = Encoder(encoder_folder / "onnx")
    texts, labels = zip(*ROWS, strict=True)
    vectors = encoder.encode(texts)
    with Ledger.create(layout.datastore, task="single") as ledger:
        new = [NewExample(*row) for row in zip(texts, ((x,) for x in labels), [None] * 4, vectors, strict=True)]
        ledger.teach(new, encoder.fingerprint)
    decision = Decision(fit_whitening(vectors), replace(TUNED, temperature=math.inf))
    write_generation(layout, 1, encoder=encoder_folder, decision=decision, info={})
    facts = {"fingerprint": encoder.fingerprint, "examples": 4, "kept": "frozen", "judged_on": "nothing"}
    write_manifest(layout, Manifest(1, "single", "frozen", "tiny", {}, facts))
    return root


def generation_in(root: Path, encoder_folder: Path, decision: Decision) -> Layout:
    layout = Layout(root)
    layout.generation(3).parent.mkdir(parents=True)
    write_generation(layout, 3, encoder=encoder_folder, decision=decision, info={"facts": ["é"]})
    return layout


# Generations


def test_where_everything_lies(finished: Path) -> None:
    layout = Layout(finished)
    for path in (layout.manifest, layout.datastore, layout.decision(1), layout.checksums(1)):
        assert path.is_file()
    assert layout.onnx(1) == finished / "generations/0001/encoder/onnx"
    assert Layout(finished).generation(12345) == finished / "generations/12345"
    assert layout.snapshot == finished / "snapshot/state.safetensors"
    with Model.open(finished) as model:
        assert model.classify("the parcel").revision == 1


def test_a_generation_is_complete_and_every_file_has_its_checksum(encoder_folder: Path, tmp_path: Path) -> None:
    layout = generation_in(tmp_path, encoder_folder, Decision(Whitening(np.zeros(2, np.float32), None), TUNED))
    folder = layout.generation(3)
    assert [path.name for path in folder.parent.iterdir()] == ["0003"]  # nothing half made beside it
    expected = json.loads(layout.checksums(3).read_text())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert expected.keys() == files - {"checksums.json"}
    assert {"encoder/config.json", "encoder/onnx/model.onnx", "decision.safetensors", "info.json"} <= files
    for name, checksum in expected.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum == digest(folder / name)
    assert json.loads((folder / "info.json").read_text()) == {"facts": ["é"]}
    assert damaged_files(layout, 3) == []


@pytest.mark.parametrize("temperature", [0.7, math.inf])
@pytest.mark.parametrize("whitened", [True, False])
def test_a_decision_is_read_back_as_it_was(
    encoder_folder: Path, tmp_path: Path, temperature: float, whitened: bool
) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 4)).astype(np.float32) if whitened else None
    tuned = replace(TUNED, temperature=temperature, dimensions=4 if whitened else None)
    written = Decision(Whitening(rng.normal(size=5).astype(np.float32), matrix), tuned)
    read = read_decision(generation_in(tmp_path, encoder_folder, written), 3)
    assert asdict(read.tuned) == asdict(tuned)
    np.testing.assert_array_equal(read.whitening.mean, written.whitening.mean)
    assert (read.whitening.matrix is None) is (matrix is None)
    if matrix is not None:
        np.testing.assert_array_equal(read.whitening.matrix, matrix)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_a_decision_cut_short_is_damage(finished: Path, tmp_path: Path, share: float) -> None:
    layout = Layout(Path(shutil.copytree(finished, tmp_path / "model")))
    content = layout.decision(1).read_bytes()
    layout.decision(1).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelDamaged, match=r"decision\.safetensors: cannot be read .* restore it from a backup"):
        read_decision(layout, 1)


def test_files_that_are_altered_missing_or_strange_are_named(finished: Path, tmp_path: Path) -> None:
    layout = Layout(Path(shutil.copytree(finished, tmp_path / "model")))
    folder = layout.generation(1)
    (folder / "info.json").write_text("{ }\n")
    (folder / "encoder/config.json").unlink()
    (folder / "encoder/strange").write_text("")
    found = damaged_files(layout, 1)
    assert sorted(sentence.split(": ")[0].removeprefix(f"{folder}/") for sentence in found) == [
        "encoder/config.json",
        "encoder/strange",
        "info.json",
    ]
    layout.checksums(1).write_text("{")
    (sentence,) = damaged_files(layout, 1)
    assert sentence.startswith(f"{layout.checksums(1)}: cannot be read")


def test_nothing_in_a_model_directory_can_run_code(finished: Path, tmp_path: Path) -> None:
    """Neither pickles nor the archives that hold them: every file is of a kind that is only data."""
    with Model.open(finished) as model:
        model.save(tmp_path / "model")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".onnx", ".data", ".db", ".md", ".txt"}
    for path in files:
        start = path.read_bytes()[:4]
        assert not start.startswith((b"\x80", b"PK", b"\x1f\x8b")), path


# The manifest


def test_a_manifest_is_read_back_as_it_was(tmp_path: Path) -> None:
    written = Manifest(2, "multi", "frozen", "é", {"seed": 3, "epochs": None}, {"fingerprint": "ab", "scores": [0.5]})
    write_manifest(Layout(tmp_path), written)
    assert read_manifest(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["likewise.json"]


def test_no_model_there(tmp_path: Path) -> None:
    missing = tmp_path / "model"
    with pytest.raises(ModelNotFound, match=f"{missing}: no such model directory; make one with: likewise fit"):
        read_manifest(missing)
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ModelForeign, match="not a Likewise model"):
            read_manifest(path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("", ModelDamaged),
        ('{"format": 1, "gener', ModelDamaged),
        ('{"format": 1}', ModelDamaged),
        ('{"format": 1, "generation": 1, "unknown": 2}', ModelDamaged),
        ("\xff\xfe", ModelDamaged),
        ("[1, 2]", ModelForeign),
        ('{"name": "something else"}', ModelForeign),
        (f'{{"format": {FORMAT + 1}, "whatever": []}}', ModelNewer),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, content: str, kind: type[Exception]) -> None:
    (tmp_path / "likewise.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(kind, match=str(tmp_path)) as caught:
        read_manifest(tmp_path)
    assert type(caught.value) is kind and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "altered",
    [
        {"generation": "1"}, {"generation": None}, {"generation": True}, {"task": "x"}, {"recipe": 5}, {"encoder": []},
        {"settings": None}, {"fit": []}, {"fit": {}}, {"fit": {"fingerprint": 1}}, {"datastore": 5}, {"format": True},
        {"generation": 99},
    ],
)  # fmt: skip
def test_a_manifest_of_other_types_is_damage(finished: Path, tmp_path: Path, altered: dict[str, object]) -> None:
    path = Path(shutil.copytree(finished, tmp_path / "model"))
    write_json(Layout(path).manifest, {**json.loads(Layout(path).manifest.read_text()), **altered})
    with pytest.raises(ModelDamaged, match=str(path)):
        Model.open(path)
    assert any(str(path) in sentence for sentence in check(path))


# Kills: a process is ended just before each thing that it does to a file, one after the other

KILLED = """
import os, sys
from pathlib import Path
from likewise.bundle import Layout, Manifest, read_manifest, write_manifest
from likewise.files import write_json
from likewise.model import Model
from likewise.settings import Settings

TOUCHES = {"open", "os.rename", "os.link", "os.mkdir", "os.rmdir", "os.remove", "sqlite3.connect", "shutil.copyfile"}

def killed_at(moment, work, calls=False):
    '''Whether `work`, in a process of its own, was ended before its moment-th touch of a file (or call into C).'''
    child = os.fork()
    if child == 0:
        left = moment
        def watch(event, arguments):
            nonlocal left
            if event in TOUCHES:
                left -= 1
                if left == 0:
                    os._exit(9)
        status = 1
        try:
            if calls:
                sys.setprofile(lambda frame, event, argument: watch("open", ()) if event == "c_call" else None)
            else:
                sys.addaudithook(watch)
            work()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), status
    return status == 9
"""

SAVE = """
import shutil
from likewise.checking import check

source, folder, temporary = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "first"
moment, left = 0, {"nothing": 0, "a model": 0}
while True:
    moment += 4 if left["a model"] else 1  # once it has its name, little is left to go wrong
    place = folder / str(moment)
    place.mkdir()
    shutil.copytree(source, place / "source")
    def save():
        Model(place / "source", Settings(), temporary=temporary).save(place / "target")
    if not killed_at(moment, save):
        break
    target = place / "target"
    left["a model" if target.exists() else "nothing"] += 1
    if not target.exists() and moment % 4 == 1:  # the model is as it was, and what was left is in nobody's way
        assert check(place / "source") == [], moment
        with Model.open(place / "source") as model:
            model.save(target)
    if target.exists():
        assert check(target) == [], (moment, check(target))
        with Model.open(target) as model:
            assert (model.revision, len(model.examples()), len(model.labels)) == (1, 4, 2), moment
    shutil.rmtree(place)
print(moment, left)
assert left["nothing"] > 10 and left["a model"] > 0
"""

SWITCH = """
root = Path(sys.argv[2])
old = Manifest(1, "single", "frozen", "tiny", {}, {"fingerprint": "x" * 100_000})
new = Manifest(2, "single", "frozen", "tiny", {}, {"fingerprint": "y" * 200_000})
moment, seen = 0, []
while True:
    moment += 1
    write_manifest(Layout(root), old)
    killed = killed_at(moment, lambda: write_manifest(Layout(root), new), calls=True)
    found = read_manifest(root)
    assert found in (old, new)
    seen.append(found.generation)
    if not killed:
        break
assert seen[0] == 1 and seen[-1] == 2 and len(seen) > 20, seen
"""


@pytest.mark.parametrize("kind", ["first", "later"])
def test_a_kill_while_saving_leaves_no_model_or_a_whole_one(finished: Path, tmp_path: Path, kind: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", KILLED + SAVE, finished, tmp_path, kind], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_a_kill_while_switching_generations_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", KILLED + SWITCH, "", tmp_path], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_json_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
