"""Model: what it answers, with one label a text and with several."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.bundle import Decision, Layout, read_decision, read_manifest, write_generation, write_manifest
from likewise.decision.head import HeadSettings
from likewise.errors import DataError, LabelError, ModelDamaged, ModelNotFound, SettingError, UsageError
from likewise.fitting import fit
from likewise.model import Model
from likewise.types import Example, Prediction, Scores
from rows import saved

TOPICS = {
    "delivery": "parcel delivery ship street door arrived letter mail late",
    "invoice": "invoice money bill charge price bank card paid refund",
    "leisure": "game music play laugh party happy friend love winter",
}
QUERIES = ["my parcel arrived late", "the bank card", "we play music with a friend", "why", "zebra ? 17 Größe", "a b"]


def messages(topic: str, rows: int, seed: int) -> list[str]:
    """Texts of four words of a topic, no two the same."""
    rng, words = np.random.default_rng(seed), TOPICS[topic].split()
    found: dict[str, None] = {}
    while len(found) < rows:
        found[" ".join(rng.choice(words, 4))] = None
    return list(found)


ROWS = [(text, topic) for seed, topic in enumerate(TOPICS) for text in messages(topic, 16, seed)]


def several_rows() -> list[tuple[str, tuple[str, ...]]]:
    """Texts about delivery, invoices, both, or (leisure) neither."""
    delivery, invoice, leisure = (messages(topic, 16, seed) for seed, topic in enumerate(TOPICS))
    rows: list[tuple[str, tuple[str, ...]]] = [(text, ("delivery",)) for text in delivery]
    rows += [(text, ("invoice",)) for text in invoice]
    rows += [(f"{a} {b}", ("delivery", "invoice")) for a, b in zip(delivery, invoice, strict=True)]
    return [*rows, *((text, ()) for text in leisure)]


def tuned(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a model directory that decides with other tuned values."""
    old, new = Layout(source), Layout(target)
    decision = read_decision(old, 1)
    new.generation(1).parent.mkdir(parents=True)
    other = Decision(decision.whitening, replace(decision.tuned, **changes))
    write_generation(new, 1, encoder=old.encoder(1), decision=other, info={})
    shutil.copy(old.datastore, new.datastore)
    write_manifest(new, read_manifest(source))
    return target


@pytest.fixture(scope="module")
def fitted(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with one label a text."""
    return saved(ROWS, tiny_encoder, tmp_path_factory.mktemp("fitted") / "model")


@pytest.fixture(scope="module")
def several(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with none to two labels a text. Not to be changed."""
    texts, labels = zip(*several_rows(), strict=True)
    path = tmp_path_factory.mktemp("several") / "model"
    fit(texts, labels, recipe="frozen", encoder=str(tiny_encoder)).save(path).close()
    return path


@pytest.fixture(scope="module")
def blended(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """Both voices count: seven neighbours, temperature 0.5, lambda 0.4."""
    path = tmp_path_factory.mktemp("blended") / "model"
    with Model.open(tuned(fitted, path, k=7, temperature=0.5, lambda_=0.4), neighbours=3) as model:
        yield model


@pytest.fixture(scope="module")
def mixed(several: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The same with several labels a text; each label has a threshold of its own."""
    changes = {"k": 7, "temperature": 0.5, "lambda_": 0.4, "thresholds": {"delivery": 0.5, "invoice": 0.27}}
    with Model.open(tuned(several, tmp_path_factory.mktemp("mixed") / "model", **changes)) as model:
        yield model


def assert_ranked(scores: Scores) -> None:
    assert list(scores) == sorted(scores, key=lambda pair: (-pair[1], pair[0]))


# One label a text


@pytest.mark.parametrize("text", QUERIES)
def test_a_prediction_is_the_blend_of_its_own_voices(blended: Model, text: str) -> None:
    found = blended.classify(text)
    assert (found.text, found.task, found.revision, found.stale, found.lambda_) == (text, "single", 1, False, 0.4)
    head, vote = dict(found.head), dict(found.vote)
    assert head.keys() == vote.keys() == dict(found.scores).keys() == TOPICS.keys()
    for scores in (found.scores, found.head, found.vote):
        assert sum(p for _, p in scores) == pytest.approx(1, abs=1e-9)
        assert_ranked(scores)
    for label, score in found.scores:
        assert score == pytest.approx(0.4 * vote[label] + 0.6 * head[label], abs=1e-12)
    assert found.labels == (found.label,) == (found.scores[0][0],)
    assert found.score == found.scores[0][1]


@pytest.mark.parametrize("text", QUERIES)
def test_the_neighbours_are_the_examples_that_voted(blended: Model, text: str) -> None:
    found = blended.classify(text, neighbours=7)
    assert len(found.neighbours) == 7
    distances = np.array([n.distance for n in found.neighbours])
    assert (np.diff(distances) >= 0).all()
    shares = np.exp(-(distances - distances[0]) / 0.5)
    np.testing.assert_allclose([n.weight for n in found.neighbours], shares / shares.sum(), rtol=1e-9)
    examples = {example.id: example for example in blended.examples([n.id for n in found.neighbours])}
    assert all((examples[n.id].text, examples[n.id].labels) == (n.text, n.labels) for n in found.neighbours)
    for label, p in found.vote:
        assert p == pytest.approx(sum(n.weight for n in found.neighbours if label in n.labels), abs=1e-12)


def test_an_example_is_its_own_nearest_neighbour(blended: Model) -> None:
    for text, label in ROWS[::5]:
        first = blended.classify(text).neighbours[0]
        assert (first.text, first.labels) == (text, (label,))
        assert first.distance < 1e-3


def test_how_many_are_cited_changes_nothing_else(blended: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [blended.classify(QUERIES[0], neighbours=n) for n in (0, 2, 7, 100)]
    assert [len(prediction.neighbours) for prediction in found] == [0, 2, 7, 7]
    assert all(replace(p, neighbours=()) == replace(found[0], neighbours=()) for p in found)
    assert found[1].neighbours == found[3].neighbours[:2]
    assert len(blended.classify(QUERIES[0]).neighbours) == 3  # the setting it was opened with
    path = blended.path
    assert path is not None
    monkeypatch.setenv("LIKEWISE_NEIGHBOURS", "1")
    with Model.open(path) as model:
        assert len(model.classify(QUERIES[0]).neighbours) == 1
    with pytest.raises(UsageError, match=r"neighbours: found -1 \(int\), expected a whole number from 0"):
        blended.classify(QUERIES[0], neighbours=-1)


def test_a_list_gives_a_list_and_a_string_one_prediction(blended: Model) -> None:
    one = blended.classify("my parcel")
    assert isinstance(one, Prediction)
    assert blended.classify(["my parcel"]) == [one]
    assert blended.classify(("my parcel",)) == [one]
    assert blended.classify([]) == []


def test_a_batch_answers_like_its_texts_one_by_one(blended: Model) -> None:
    texts = [*QUERIES, " ".join(["parcel bank play"] * 15), *(text for text, _ in ROWS[::3])]
    batch = blended.classify(texts)
    assert [prediction.text for prediction in batch] == texts
    for together in batch:
        alone = blended.classify(together.text)
        for mine, theirs in ((together.scores, alone.scores), (together.vote, alone.vote)):
            assert dict(mine) == pytest.approx(dict(theirs), abs=1e-4)


def test_an_infinite_temperature_is_a_majority_vote(fitted: Path, tmp_path: Path) -> None:
    with Model.open(tuned(fitted, tmp_path / "model", k=4, temperature=math.inf, lambda_=1.0)) as model:
        for found in model.classify(QUERIES):
            assert [n.weight for n in found.neighbours] == [0.25] * 4
            assert found.scores == found.vote
            assert {round(p * 4, 9) % 1 for _, p in found.scores} == {0.0}


def test_more_neighbours_than_examples_means_all_of_them(fitted: Path, tmp_path: Path) -> None:
    with Model.open(tuned(fitted, tmp_path / "model", k=1000, temperature=math.inf)) as model:
        vote = dict(model.classify("why").vote)
        assert vote == pytest.approx({topic: 1 / 3 for topic in TOPICS})


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "an empty text"), (" \n", "whitespace"), (None, "missing"), (7, "int"), ("a\0b", "NUL"), ("\ud800", "lone")],
)
def test_what_is_no_text_is_named(blended: Model, text: Any, found: str) -> None:
    with pytest.raises(DataError, match=rf"^texts\[1\]: .*{found}"):
        blended.classify(["fine", text])


def test_what_is_no_list_is_named(blended: Model) -> None:
    given: Any = 5
    with pytest.raises(DataError, match="texts: found a int, expected a string or a list"):
        blended.classify(given)
    with pytest.raises(LabelError, match="labels: found a int, expected a list"):
        blended.teach(["a text"], given)
    with pytest.raises(LabelError, match="old label: found 5"):
        blended.rename_label(given, "new")
    with pytest.raises(LabelError, match=r"labels: found the label 5 \(int\)"):
        blended.merge_labels([given], "new")


def test_settings_of_the_answering_side(fitted: Path) -> None:
    with Model.open(fitted, max_text=5) as model, pytest.raises(DataError, match="6 characters, at most 5"):
        model.classify("parcel")
    with pytest.raises(SettingError, match="did you mean 'neighbours'"):
        Model.open(fitted, neighbors=3)
    with pytest.raises(SettingError, match=r"holdout: nothing would read it here; expected one of .*neighbours"):
        Model.open(fitted, holdout=0.5)
    with pytest.raises(ModelNotFound):
        Model.open(fitted / "nowhere")


def test_texts_that_are_cut_are_counted(fitted: Path) -> None:
    with Model.open(fitted) as model:
        assert model.truncated == 0
        model.classify(["parcel " * 100, "parcel", "bank " * 100])
        assert model.truncated == 2


def test_what_it_says_of_itself(blended: Model, fitted: Path, tiny_encoder: Path) -> None:
    assert blended.labels == {"delivery": 16, "invoice": 16, "leisure": 16}
    assert (blended.task, blended.revision) == ("single", 1)
    assert (blended.info.recipe, blended.info.encoder) == ("frozen", str(tiny_encoder))
    assert repr(blended) == f"<Model {blended.path}: 3 labels, revision 1>"
    assert blended.examples(label="invoice", limit=1) == [
        Example(17, ROWS[16][0], ("invoice",), source="fit", revision=1)
    ]


def test_a_missing_part_is_named(fitted: Path, tmp_path: Path) -> None:
    for part in ("generations/0001/decision.safetensors", "datastore.db"):
        broken = tmp_path / part.replace("/", "-")
        shutil.copytree(fitted, broken)
        (broken / part).unlink()
        with pytest.raises(ModelDamaged, match=part):
            Model.open(broken)


def test_json_of_one_label(blended: Model) -> None:
    found = blended.classify(QUERIES[0])
    shown = json.loads(json.dumps(found.to_dict()))
    assert list(shown) == ["text", "label", "score", "scores", "head", "neighbours", "lambda", "revision"]
    assert shown["scores"][0] == {"label": shown["label"], "score": shown["score"]}
    assert shown["neighbours"][0] == asdict(found.neighbours[0]) | {"labels": list(found.neighbours[0].labels)}


def test_an_evaluation_counts_what_classify_decides(blended: Model) -> None:
    texts, labels = zip(*ROWS, strict=True)
    wrong = ["leisure", *labels[1:]]
    steps: list[tuple[int, int]] = []
    evaluation = blended.evaluate(texts, wrong, lambda done, total: steps.append((done, total)))
    right = [p.label == label for p, label in zip(blended.classify(texts), wrong, strict=True)]
    assert evaluation.n == 48 and evaluation.revision == 1
    assert evaluation.voices["blend"].overall()["accuracy"] == pytest.approx(np.mean(right))
    votes = [p.vote[0][0] == label for p, label in zip(blended.classify(texts), wrong, strict=True)]
    assert evaluation.voices["neighbours"].overall()["accuracy"] == pytest.approx(np.mean(votes))
    assert steps[-1] == (48, 48)
    with pytest.raises(LabelError, match="found 1, expected one entry for each of 2 texts"):
        blended.evaluate(["a", "b"], ["delivery"])


# Several labels a text


def test_several_labels_are_those_over_their_thresholds(mixed: Model) -> None:
    assert mixed.task == "multi"
    sizes = set()
    for found in mixed.classify([*QUERIES, "parcel delivery bank card money", *TOPICS.values()]):
        scores, head, vote = dict(found.scores), dict(found.head), dict(found.vote)
        for label, score in scores.items():
            assert score == pytest.approx(0.4 * vote[label] + 0.6 * head[label], abs=1e-12)
        assert_ranked(found.scores)
        over = {label for label, threshold in (("delivery", 0.5), ("invoice", 0.27)) if scores[label] >= threshold}
        assert set(found.labels) == over
        assert list(found.labels) == [label for label, _ in found.scores if label in over]
        assert found.label == (found.labels[0] if over else None)
        sizes.add(len(over))
    assert sizes == {0, 1, 2}


def test_an_example_without_labels_votes_for_none(mixed: Model) -> None:
    text = messages("leisure", 16, 2)[3]
    found = mixed.classify(text, neighbours=7)
    assert (found.neighbours[0].text, found.neighbours[0].labels) == (text, ())
    assert sum(p for _, p in found.vote) < 0.5
    assert found.labels == () and found.label is None
    assert "label" not in found.to_dict() and found.to_dict()["labels"] == []


def test_a_label_taught_later_uses_the_pooled_map_and_threshold(several: Path, tmp_path: Path) -> None:
    head = HeadSettings(maps={"delivery": (0.0, -9.0), "invoice": (0.0, -9.0)}, pooled_map=(0.0, 5.0))
    thresholds = {"delivery": 0.1, "invoice": 0.1}
    for threshold, decided in ((0.69, ("health",)), (0.71, ())):
        path = tmp_path / str(threshold)
        changes = {"lambda_": 0.0, "head": head, "thresholds": thresholds, "threshold": threshold}
        with Model.open(tuned(several, path, **changes)) as model:
            assert model.classify("sick").labels == ()
            model.teach("my mother is sick", ["health"])
            found = model.classify("sick")
            # The map's intercept and the log-odds of one example among 65; the others have maps of their own.
            assert dict(found.head)["health"] == pytest.approx(1 / (1 + 64 * math.exp(-5)))
            assert max(dict(found.head)["delivery"], dict(found.head)["invoice"]) < 0.001
            assert found.labels == decided


def test_renaming_labels_changes_no_answer_but_their_names(several: Path, tmp_path: Path) -> None:
    head = HeadSettings(maps={"delivery": (3.0, -1.0), "invoice": (0.5, 1.0)}, pooled_map=(0.1, -2.0))
    changes = {"lambda_": 0.4, "head": head, "thresholds": {"delivery": 0.8, "invoice": 0.2}, "threshold": 0.5}
    new = {"delivery": "shipping", "invoice": "delivery"}  # a name that another label had
    with Model.open(tuned(several, tmp_path / "model", **changes)) as model:
        before = model.classify(QUERIES)
        for old, name in new.items():
            model.rename_label(old, name)
        after = model.classify(QUERIES)
        for one, other in zip(before, after, strict=True):
            assert set(other.labels) == {new[label] for label in one.labels}
            for a, b in ((one.scores, other.scores), (one.head, other.head), (one.vote, other.vote)):
                assert dict(b) == pytest.approx({new[label]: p for label, p in a})
        with model.as_of(1) as past:
            assert [p.scores for p in past.classify(QUERIES)] == [p.scores for p in before]


def test_an_evaluation_of_several_labels(mixed: Model) -> None:
    texts, labels = zip(*several_rows(), strict=True)
    evaluation = mixed.evaluate(texts, labels)
    exact = [set(p.labels) == set(row) for p, row in zip(mixed.classify(texts), labels, strict=True)]
    assert evaluation.task == "multi"
    assert evaluation.voices["blend"].overall()["accuracy"] == pytest.approx(np.mean(exact))
