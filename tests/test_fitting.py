"""A fit: the task, the split, the candidates, the warnings, and what is left when it fails."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from likewise import candidates, encoders
from likewise.bundle import Layout
from likewise.checking import check
from likewise.errors import DataError, EncoderError, LabelError, LikewiseError, SettingError
from likewise.fitting import fit
from likewise.model import Model
from likewise.progress import LikewiseWarning, Progress
from likewise.settings import Settings
from rows import moods

TOPICS = {
    "delivery": "parcel delivery ship street door arrived letter mail late",
    "invoice": "invoice money bill charge price bank card paid refund",
}
QUERIES = ["my parcel arrived late", "the bank card", "why", "we play music"]

Fit = Callable[..., Model]


def rows(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """As many different texts of four words, by turns about deliveries and invoices, and their labels."""
    rng = np.random.default_rng(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        topic = list(TOPICS)[len(found) % 2]
        found.setdefault(" ".join(rng.choice(TOPICS[topic].split(), 4)), topic)
    return list(found), list(found.values())


TEXTS, LABELS = rows(80)
DEV = rows(30, seed=1)


@pytest.fixture(scope="module")
def frozen(tiny_encoder: Path) -> Fit:
    """Fits with the frozen recipe. The first of them exports the encoder, which is kept until the process ends."""

    def run(texts: Sequence[str], labels: Sequence[object], **given: Any) -> Model:
        return fit(texts, labels, **{"recipe": "frozen", "encoder": str(tiny_encoder), **given})

    run(TEXTS, LABELS).close()
    return run


@pytest.fixture
def scratch(frozen: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; all but the export of the encoder, which is there already."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Record(Progress):
    """Writes down what is reported; may be told to fail when a stage begins."""

    def __init__(self, fail_at: str | None = None, error: BaseException | None = None) -> None:
        self.stages: list[str] = []
        self.told: list[str] = []
        self.warned: list[str] = []
        self.ended = 0
        self._fail_at, self._error = fail_at, error

    def stage(self, title: str) -> None:
        self.stages.append(title)
        if title == self._fail_at and self._error is not None:
            raise self._error

    def tell(self, message: str) -> None:
        self.told.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)

    def done(self) -> None:
        self.ended += 1


# The task


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (LABELS, "single"),
        ([[label] for label in LABELS], "single"),
        ([[label] if i else [] for i, label in enumerate(LABELS)], "multi"),
        ([[label] if i else list(TOPICS) for i, label in enumerate(LABELS)], "multi"),
    ],
)
def test_the_task_is_read_off_the_labels(frozen: Fit, labels: list[Any], task: str) -> None:
    progress = Record()
    with frozen(TEXTS, labels, progress=progress) as model:
        assert model.task == task == model.info.task
    words = "one label a text" if task == "single" else "none to several labels a text"
    assert progress.told[0] == f"Task: {words}; 80 examples, 2 labels"


def test_the_task_may_be_asked_for(frozen: Fit) -> None:
    with frozen(TEXTS, LABELS, task="multi") as model:
        assert model.task == "multi"
    with pytest.raises(LabelError, match=r"labels\[3\]: found no label, expected exactly one"):
        frozen(TEXTS, [[label] if i != 3 else [] for i, label in enumerate(LABELS)], task="single")


# What cannot be fitted

REFUSED: dict[str, tuple[dict[str, Any], type[LikewiseError], str]] = {
    "one class": ({"labels": ["a"] * 80}, LabelError, r"only the label 'a', expected at least two"),
    "no class": ({"labels": [[]] * 80, "task": "multi"}, LabelError, r"found no labels, expected at least two"),
    "no texts": ({"texts": [], "labels": []}, DataError, r"texts: found none"),
    "fewer labels": ({"labels": LABELS[1:]}, DataError, r"labels: found 79, expected one entry for each of 80 texts"),
    "a string": ({"texts": "a text"}, DataError, r"found one string, expected a list"),
    "an empty text": ({"texts": [*TEXTS[1:], " "]}, DataError, r"^texts\[79\]: found .* whitespace"),
    "a label of another type": ({"labels": [*LABELS[1:], 5]}, LabelError, r"^labels\[79\]: found 5"),
    "all the same": ({"texts": ["Ein Text", "ein  text"] * 40}, DataError, r"all are the same"),
    "fewer refs": ({"refs": ["r"]}, DataError, r"refs: found 1, expected one for each of 80"),
    "a string for refs": ({"refs": "r" * 80}, DataError, r"refs: found .* expected a list"),
    "a dev row without a text": ({"dev": (["x", ""], ["delivery"] * 2)}, DataError, r"^dev texts\[1\]"),
    "dev labels missing": ({"dev": (["x", "y"], ["delivery"])}, DataError, r"^dev labels: found 1"),
    "several labels in a dev row": ({"dev": (["x"], [list(TOPICS)])}, LabelError, r"labels\[0\]"),
    "dev without labels": (
        {"dev": (["x"],)},
        DataError,
        r"^dev: found a tuple of 1, expected a pair: texts, and a list",
    ),
    "a number for dev": ({"dev": 3}, DataError, r"^dev: found 3 \(int\), expected a pair"),
    "a string for dev": ({"dev": "xy"}, DataError, r"^dev: found 'xy' \(str\), expected a pair"),
    "a number for dev texts": ({"dev": (3, ["delivery"])}, DataError, r"^dev texts: found 3 \(int\), expected a list"),
    "a set of labels": ({"labels": set(LABELS)}, DataError, r"^labels: found .*\(set\), expected a list"),
    "an unknown recipe": ({"recipe": "frozn"}, SettingError, r"did you mean 'frozen'"),
    "an unknown task": ({"task": "singel"}, SettingError, r"did you mean 'single'"),
    "an unknown encoder": ({"encoder": "./nowhere"}, EncoderError, r"nowhere"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_fitted_is_said_and_leaves_nothing(frozen: Fit, scratch: Path, what: str) -> None:
    given, kind, message = REFUSED[what]
    progress = Record()
    arguments = {"texts": TEXTS, "labels": LABELS, "progress": progress, **given}
    with pytest.raises(kind, match=message) as caught:
        frozen(arguments.pop("texts"), arguments.pop("labels"), **arguments)
    assert "\n" not in str(caught.value)
    assert list(scratch.iterdir()) == []
    assert progress.ended == 1


# What deserves a warning


def test_a_class_with_one_example(frozen: Fit) -> None:
    texts, labels = [*TEXTS, "my mother is sick"], [*LABELS, "health"]
    with pytest.warns(LikewiseWarning, match=r"1 label\(s\) with one example only: 'health'") as caught:
        model = frozen(texts, labels)
    assert [warning.filename for warning in caught] == [__file__]
    with model:
        assert model.labels["health"] == 1
        assert model.classify("my mother is sick").label == "health"


def test_fewer_examples_than_dimensions(frozen: Fit) -> None:
    progress = Record()
    with frozen(TEXTS[:12], LABELS[:12], progress=progress) as model:
        assert [p.label for p in model.classify(TEXTS[:12])] == LABELS[:12]
    assert progress.warned == [
        "fewer examples (12) than dimensions (32): directions without variance are left out of the whitening"
    ]


def test_a_strongly_unbalanced_set(frozen: Fit) -> None:
    texts, _ = rows(202)
    progress = Record()
    with frozen(texts, ["rare"] * 2 + ["common"] * 200, progress=progress) as model:
        assert model.labels == {"common": 200, "rare": 2}
    (warning,) = progress.warned
    assert warning.startswith("strongly unbalanced: 'common' has 200 examples, 'rare' 2")
    with frozen(texts, ["rare"] * 3 + ["common"] * 199, progress=(balanced := Record())):
        assert balanced.warned == []


def test_texts_that_are_too_long(frozen: Fit) -> None:
    texts = ["parcel " * 80, "invoice " * 90, *TEXTS]
    progress = Record()
    frozen(texts, ["delivery", "invoice", *LABELS], progress=progress).close()
    assert progress.warned == ["2 texts are longer than 64 tokens; their end is not seen"]


def test_an_encoder_that_has_changed_where_it_lies_is_read_again(
    frozen: Fit, tiny_encoder: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))
    (file,) = place.rglob("model.safetensors")
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    with frozen(TEXTS, LABELS, encoder=str(place)) as before:
        save_file({**weights, name: weights[name][::-1].copy()}, file, metadata={"format": "pt"})
        with frozen(TEXTS, LABELS, encoder=str(place)) as after:
            assert before.info.fit["fingerprint"] != after.info.fit["fingerprint"]


def test_of_one_example_a_label_nobody_can_tell_how_sure_the_head_may_be(frozen: Fit) -> None:
    texts = ["my parcel is late", "a refund please", "we play music", "a cold winter", "the sick bird"]
    with frozen(texts, ["delivery", "invoice", "leisure", "weather", "health"], progress=Record()) as model:
        assert max(score for _, score in model.classify("a dog").head) > 0.999
        assert max(score for _, score in model.classify("a dog").scores) < 0.999
        assert [model.classify(text).label for text in texts] == ["delivery", "invoice", "leisure", "weather", "health"]


def test_dev_labels_that_no_example_has(frozen: Fit) -> None:
    progress = Record()
    dev = ([*DEV[0], "my mother is sick"], [*DEV[1], "health"])
    with frozen(TEXTS, LABELS, dev=dev, progress=progress) as model:
        assert "health" not in model.labels
        assert model.info.fit["scores"]["frozen"]["blend"] < 1
    assert progress.warned == ["dev rows bear labels that no example has: health; such rows count as missed"]


# What the scores rest on, and what joins the datastore


def test_few_examples_are_cross_validated_and_all_of_them_kept(frozen: Fit) -> None:
    refs = [f"r{i}" if i % 2 else None for i in range(80)]
    progress = Record()
    with frozen(TEXTS, LABELS, refs=refs, source="messages.csv", progress=progress) as model:
        assert model.info.fit["judged_on"] == "4-fold cross-validation"
        examples = model.examples()
        assert [(e.id, e.text, e.labels[0], e.ref) for e in examples] == list(
            zip(range(1, 81), TEXTS, LABELS, refs, strict=True)
        )
        assert {(e.source, e.revision) for e in examples} == {("messages.csv", 1)}
        (revision,) = model._ledger.revisions()
        assert (revision.note, revision.examples) == ("fit", 80)
    assert progress.stages == ["Encoding with the frozen encoder", "Tuning neighbours, head and blend",
                               "Writing the datastore"]  # fmt: skip
    assert progress.ended == 1


def test_many_examples_are_held_out_and_join_the_datastore(frozen: Fit) -> None:
    texts, labels = rows(300)
    with frozen(texts, labels, settings=Settings(holdout=0.4)) as model:
        fitted = model.info.fit
        assert fitted["judged_on"] == "120 held-out examples"
        assert fitted["examples"] == 300
        assert [example.text for example in model.examples()] == texts
        assert model.info.settings["holdout"] == 0.4


def test_dev_rows_choose_the_settings_and_join_nothing(frozen: Fit) -> None:
    with frozen(TEXTS, LABELS, dev=DEV) as model:
        assert model.info.fit["judged_on"] == "30 dev rows"
        assert {e.text for e in model.examples()} == set(TEXTS)
        assert not set(DEV[0]) <= set(TEXTS)
        fair = model.info.fit["scores"]["frozen"]
    wrong = [{"delivery": "invoice", "invoice": "delivery"}[label] for label in DEV[1]]
    with frozen(TEXTS, LABELS, dev=(DEV[0], wrong)) as model:
        assert model.info.fit["scores"]["frozen"]["head"] < 0.5 < fair["head"]


def test_the_same_rows_twice_are_two_examples(frozen: Fit) -> None:
    with frozen([*TEXTS, TEXTS[0], TEXTS[1]], [*LABELS, LABELS[0], LABELS[0]]) as model:
        assert len(model.examples()) == 82
        assert [e.labels[0] for e in model.examples() if e.text == TEXTS[1]] == [LABELS[1], LABELS[0]]


def test_several_labels_are_fitted_with_their_thresholds(frozen: Fit, tmp_path: Path) -> None:
    sets = [[label] if i % 5 else [] for i, label in enumerate(LABELS)]
    with frozen(TEXTS, sets, settings=Settings(measure="micro_f1")) as model:
        tuned = model._answering.decision.tuned
        assert tuned.measure == "micro_f1"
        assert tuned.thresholds.keys() == tuned.head.maps.keys() == TOPICS.keys()
        assert sum(not e.labels for e in model.examples()) == 16
        model.save(tmp_path / "model")
    assert check(tmp_path / "model") == []


# The same again


def test_the_same_seed_gives_the_same_model(frozen: Fit, tmp_path: Path) -> None:
    texts, labels = moods(80, seed=0)
    found = []
    for seed, name in ((3, "a"), (3, "b"), (4, "c")):
        with frozen(texts, labels, settings=Settings(seed=seed)) as model:
            model.save(tmp_path / name)
            checksums = json.loads(Layout(tmp_path / name).checksums(1).read_text())
            checksums.pop("info.json")  # it holds the time that the fit took
            found.append((model.info.fit["scores"], model.classify(QUERIES), checksums))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]  # other folds


def test_the_global_random_state_is_left_alone(frozen: Fit) -> None:
    before = np.random.get_state(legacy=False)
    frozen(TEXTS, LABELS).close()
    np.testing.assert_equal(np.random.get_state(legacy=False), before)


# Fine-tuning


def test_the_frozen_encoder_stays_where_fine_tuning_does_not_win(tiny_encoder: Path, tmp_path: Path) -> None:
    idle = Settings(epochs=1, learning_rate=1e-12)
    work, progress = tmp_path / "work", Record()
    with fit(TEXTS, LABELS, encoder=str(tiny_encoder), dev=DEV, settings=idle, work=work, progress=progress) as model:
        assert model.info.recipe == "likewise"
        assert model.info.fit["kept"] == "frozen"
        scores = model.info.fit["scores"]
        assert scores.keys() == {"frozen", "fine-tuned"}
        assert scores["frozen"]["blend"] >= scores["fine-tuned"]["blend"]
        with fit(TEXTS, LABELS, encoder=str(tiny_encoder), dev=DEV, recipe="frozen") as frozen:
            assert model.info.fit["fingerprint"] == frozen.info.fit["fingerprint"]
            assert model.classify(QUERIES) == frozen.classify(QUERIES)
            assert frozen.info.fit["scores"].keys() == {"frozen"}
            assert frozen.info.fit["scores"]["frozen"] == scores["frozen"]
    assert not work.exists()
    assert "Training the encoder" in progress.stages


def test_the_fine_tuned_encoder_is_kept_where_it_wins_and_every_time_alike(tiny_encoder: Path, tmp_path: Path) -> None:
    texts, labels = moods(160, seed=0)
    found = []
    for name in ("a", "b"):
        with fit(
            texts,
            labels,
            encoder=str(tiny_encoder),
            dev=moods(100, seed=1),
            settings=Settings(epochs=6, learning_rate=3e-3, batch_size=32, seed=5),
        ) as model:
            assert model.info.fit["kept"] == "fine-tuned"
            scores = model.info.fit["scores"]
            assert scores["fine-tuned"]["blend"] > scores["frozen"]["blend"] + 0.02
            model.save(tmp_path / name)
            found.append((scores, model.info.fit["fingerprint"], model.classify(texts[:20])))
    assert found[0] == found[1]
    assert check(tmp_path / "a") == []
    info = json.loads((Layout(tmp_path / "a").generation(1) / "info.json").read_text())
    assert info["stages"][0]["learning_rate"] == 3e-3
    assert len(info["history"]) > 0 and {"loss", "dev_score"} <= info["history"][0].keys()
    with Model.open(tmp_path / "a") as reopened:
        assert reopened.classify(texts[:20]) == found[0][2]


def test_the_encoder_that_is_kept_was_trained_on_the_held_out_rows_too(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = moods(1040, seed=0)
    trained: list[tuple[int, bool, list[int]]] = []
    really = encoders.trained

    def spy(job: Any, rows: Any, dev: Any, name: str, stop_after: Any = (), start: Any = None) -> Any:
        trained.append((len(rows), dev is not None, list(stop_after)))
        return really(job, rows, dev, name, stop_after, start)

    monkeypatch.setattr(candidates, "trained", spy)
    brisk = Settings(epochs=2, learning_rate=3e-3, batch_size=64)
    with fit(texts, labels, encoder=str(tiny_encoder), settings=brisk) as model:
        assert model.info.fit["kept"] == "fine-tuned"
    (part, scored, _), (everything, unscored, epochs) = trained
    assert (scored, unscored) == (True, False)
    assert part < everything == 1040
    assert epochs in ([1], [2])
    trained.clear()
    with fit(texts, labels, encoder=str(tiny_encoder), dev=moods(100, seed=1), settings=brisk):
        assert trained == [(1040, True, [])]


# Failing


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("Encoding with the frozen encoder", RuntimeError("broken")),
        ("Writing the datastore", KeyboardInterrupt()),
    ],
)
def test_a_fit_that_fails_leaves_nothing(frozen: Fit, scratch: Path, stage: str, error: BaseException) -> None:
    progress = Record(stage, error)
    with pytest.raises(type(error)):
        frozen(TEXTS, LABELS, progress=progress)
    assert list(scratch.iterdir()) == []
    assert progress.ended == 1


def test_a_fit_leaves_the_model_alone_and_nothing_when_it_is_closed(frozen: Fit, scratch: Path) -> None:
    with frozen(TEXTS, LABELS) as model:
        (root,) = scratch.iterdir()
        assert {path.name for path in root.iterdir() if not path.name.endswith(("-wal", "-shm"))} == {
            "generations",
            "datastore.db",
            "likewise.json",
        }
        assert model.path is None
    assert list(scratch.iterdir()) == []


def test_a_fit_writes_nothing_beside_the_encoder(frozen: Fit, tiny_encoder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_encoder.rglob("*")}
    with frozen(TEXTS, LABELS) as model:
        assert dataclasses.asdict(model.settings) == model.info.settings
    assert {path: path.stat().st_mtime_ns for path in tiny_encoder.rglob("*")} == before
