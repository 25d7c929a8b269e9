"""Classifier: scikit-learn's contract where its own checks do not look, and the forms of X and y."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer
from sklearn.utils import get_tags

from likewise import Classifier, Model, Prediction
from likewise.errors import DataError, LabelError, MissingExtra, SettingError
from likewise.settings import SETTINGS, settings_of

pytestmark = pytest.mark.filterwarnings("ignore::likewise.progress.LikewiseWarning")

TOPICS = {
    "pay": "money refund charge bill invoice bank price card",
    "send": "parcel delivery send ship street door mail arrived",
    "fun": "game music play laugh party happy friend love",
}


def words(topic: str, rows: int, seed: int) -> list[str]:
    """Texts of four words of a topic, no two the same."""
    rng, vocabulary = np.random.default_rng(seed), TOPICS[topic].split()
    found: dict[str, None] = {}
    while len(found) < rows:
        found[" ".join(rng.choice(vocabulary, 4))] = None
    return list(found)


PAY, SEND, FUN = (words(topic, 16, seed) for seed, topic in enumerate(TOPICS))
TEXTS = [text for pair in zip(PAY, SEND, strict=True) for text in pair]
LABELS = ["pay", "send"] * len(PAY)
SETS = [["pay"], ["send"], ["send", "pay"], []] * (len(TEXTS) // 4)
MIXED = [
    text if len(labels) == 1 else f"{PAY[i // 2]} {SEND[i // 2]}" if labels else FUN[i // 2]
    for i, (text, labels) in enumerate(zip(TEXTS, SETS, strict=True))
]  # what bears both labels speaks of both, what bears none of neither
INDICATOR = MultiLabelBinarizer().fit_transform(SETS)

Make = Callable[..., Classifier]


@pytest.fixture(scope="module")
def make(tiny_encoder: Path) -> Make:
    def build(**parameters: Any) -> Classifier:
        return Classifier(**{"recipe": "frozen", "encoder": str(tiny_encoder), **parameters})

    return build


@pytest.fixture(scope="module")
def fitted(make: Make) -> Classifier:
    """Strings, one a text. Not to be changed."""
    return make().fit(TEXTS, LABELS)


@pytest.fixture(scope="module")
def several(make: Make) -> Classifier:
    """Label sets. Not to be changed."""
    return make().fit(MIXED, SETS)


# The parameters


def test_every_setting_of_the_fit_is_a_parameter() -> None:
    parameters = set(Classifier().get_params())
    assert {setting.name for setting in settings_of("fit")} <= parameters
    assert parameters - set(SETTINGS) == {"recipe", "encoder", "task", "classes"}


def test_wrong_parameters_are_named_all_at_once_with_suggestions() -> None:
    with pytest.raises(SettingError) as caught:
        Classifier(recipe="frozn", task="singel", epochs=0, measure="acuracy", holdout=2.0).fit(TEXTS, LABELS)
    message = str(caught.value)
    assert message.startswith("5 parameters are wrong")
    for part in ("did you mean 'frozen'", "did you mean 'single'", "epochs", "did you mean 'accuracy'", "holdout"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize("encoder", [3, None, ["a"]])
def test_an_encoder_is_a_name_or_a_path(encoder: Any) -> None:
    with pytest.raises(SettingError, match=r"^encoder: found .* expected a string"):
        Classifier(encoder=encoder).fit(TEXTS, LABELS)


def test_parameters_reach_the_model(make: Make, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_SEED", "7")
    clf = make(encoder=tiny_encoder, measure="accuracy", neighbours=2).fit(TEXTS, LABELS)
    assert clf.model_.info.settings["measure"] == "accuracy"
    assert clf.model_.info.settings["seed"] == 7
    assert clf.get_params()["seed"] is None
    assert len(clf.classify(TEXTS[:1])[0].neighbours) <= 2


def test_the_tags_say_that_it_takes_texts_and_several_labels() -> None:
    tags = get_tags(Classifier())
    assert tags.estimator_type == "classifier"
    assert tags.input_tags.string and tags.input_tags.one_d_array and not tags.input_tags.two_d_array
    assert tags.classifier_tags.multi_label and tags.classifier_tags.multi_class and not tags.target_tags.multi_output


# X


@pytest.mark.parametrize(
    "form", [tuple, np.array, lambda x: np.array(x, dtype=object), pd.Series, lambda x: pd.Series(x, dtype="string")]
)
def test_texts_come_in_many_containers(fitted: Classifier, form: Callable[[list[str]], Any]) -> None:
    assert fitted.predict(form(TEXTS)).tolist() == fitted.predict(TEXTS).tolist()


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("one text", "wrap it in a list"),
        (sparse.csr_matrix([[0, 1]]), "sparse"),
        (np.array([["a", "b"]]), r"shape \(1, 2\)"),
        (pd.DataFrame({"text": ["a"], "more": ["b"]}), "give one column"),
        (["fine", None], r"texts\[1\]: found a missing value"),
        (pd.Series(["fine", np.nan]), r"texts\[1\]: found a missing value"),
        ([["a"]], r"texts\[0\]"),
        (3, "found int"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(fitted: Classifier, texts: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fitted.predict(texts)


def test_no_texts_get_no_answers(fitted: Classifier, several: Classifier) -> None:
    assert fitted.predict([]).shape == (0,)
    assert fitted.predict_proba([]).shape == (0, 2)
    assert several.predict([]) == []


# y, one label a text


def test_strings(fitted: Classifier) -> None:
    assert fitted.task_ == "single"
    assert fitted.classes_.tolist() == ["pay", "send"]
    predicted = fitted.predict(TEXTS)
    assert isinstance(predicted, np.ndarray) and predicted.dtype.kind == "U"
    probabilities = fitted.predict_proba(TEXTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert fitted.classes_[probabilities.argmax(axis=1)].tolist() == predicted.tolist()
    assert fitted.score(TEXTS, LABELS) == np.mean(predicted == LABELS) > 0.9


@pytest.mark.parametrize(
    "labels",
    [
        np.array([10, 2] * 16),
        np.array([10, 2] * 16, dtype=np.int8),
        [True, False] * 16,
        np.array([1.0, -1.0] * 16),
        pd.Series(["b", "a"] * 16, dtype="category"),
        np.array(["b", "a"] * 16, dtype=object),
    ],
)
def test_labels_keep_their_type(make: Make, labels: Any) -> None:
    clf = make().fit(TEXTS, labels)
    expected = np.unique(np.asarray(labels))  # sorted by value, not by spelling: 2 before 10
    assert clf.classes_.tolist() == expected.tolist()
    assert clf.classes_.dtype == expected.dtype == clf.predict(TEXTS).dtype
    assert clf.score(TEXTS, labels) > 0.9
    assert clf.predict_proba(TEXTS)[:, 0].argmax() % 2 == 1


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "requires y to be passed"),
        ("pay", "found str"),
        (LABELS[1:], "expected one entry for each of 32"),
        (["pay"] * 32, "one class, 'pay'"),
        (["pay", None] * 16, r"y\[1\]: found a missing value"),
        (["pay", 3] * 16, r"y\[1\]: found 3 \(int\)"),
        ([3, "pay"] * 16, r"y\[0\]: found"),
        (np.array([1.0, np.nan] * 16), r"y\[1\]: found a missing value"),
        (np.array([1.0, np.inf] * 16), "continuous"),
        (np.linspace(0, 1, 32), "continuous"),
        (np.array([1, 2j] * 16), "Unknown label type"),
        (np.array([[1, 2]] * 32), "indicator matrix of 0 and 1"),
        ([[1, 0], [1]] * 16, "equally long"),
        ([["pay"], [3]] * 16, r"y\[1\]: found the label 3"),
        (np.zeros((4, 4, 2)), "expected a list or array"),
        (["pay", " "] * 16, "found an empty label"),
    ],
)
def test_what_are_no_labels_is_refused(make: Make, labels: Any, said: str) -> None:
    clf = make()
    with pytest.raises((LabelError, DataError), match=said):
        clf.fit(TEXTS, labels)
    with pytest.raises(NotFittedError):
        clf.predict(TEXTS)


# y, several labels a text


def test_label_sets_come_back_as_tuples(several: Classifier) -> None:
    assert several.task_ == "multi"
    assert several.classes_.tolist() == ["pay", "send"]
    predicted = several.predict(MIXED)
    assert isinstance(predicted, list) and all(isinstance(row, tuple) for row in predicted)
    assert {row for row in predicted} <= {(), ("pay",), ("send",), ("pay", "send")}
    right = [set(row) == set(truth) for row, truth in zip(predicted, SETS, strict=True)]
    assert several.score(MIXED, SETS) == np.mean(right) > 0.5
    weights = np.arange(len(right))
    assert several.score(MIXED, SETS, weights) == pytest.approx(np.average(right, weights=weights))
    with pytest.raises(LabelError, match="expected one entry for each of 32"):
        several.score(MIXED, SETS[1:])


def test_sets_of_one_label_stay_sets(make: Make) -> None:
    clf = make().fit(TEXTS, [[label] for label in LABELS])
    assert clf.task_ == "single"
    assert clf.predict(TEXTS[:2]) == [("pay",), ("send",)]


def test_one_label_a_text_under_the_task_multi_is_answered_in_sets(make: Make) -> None:
    clf = make(task="multi").fit(TEXTS, [0, 1] * 16)
    assert clf.task_ == "multi"
    predicted = clf.predict(TEXTS)
    assert set(predicted) <= {(), (0,), (1,), (0, 1)}
    assert clf.score(TEXTS, [0, 1] * 16) > 0.5


@pytest.mark.parametrize(
    "form", [np.asarray, lambda y: y.astype(bool), lambda y: y.tolist(), sparse.csr_matrix, pd.DataFrame]
)
def test_an_indicator_matrix_comes_back_as_one(make: Make, several: Classifier, form: Callable[[Any], Any]) -> None:
    given = form(INDICATOR)
    clf = make().fit(MIXED, given)
    assert clf.task_ == "multi"
    assert clf.classes_.tolist() == [0, 1]
    predicted = clf.predict(MIXED)
    assert isinstance(predicted, np.ndarray) and predicted.shape == INDICATOR.shape
    assert predicted.dtype == getattr(given, "dtype", INDICATOR.dtype)
    sets = several.predict(MIXED)
    assert [tuple(np.array(["pay", "send"])[row.astype(bool)]) for row in predicted] == sets
    np.testing.assert_allclose(clf.predict_proba(MIXED), several.predict_proba(MIXED))


def test_classes_name_the_columns_in_their_order_also_those_without_examples(make: Make) -> None:
    wide = np.column_stack([INDICATOR[:, 1], np.zeros(len(MIXED), int), INDICATOR[:, 0]])
    clf = make(classes=["send", "nobody", "pay"]).fit(MIXED, wide)
    assert clf.classes_.tolist() == ["send", "nobody", "pay"]
    assert list(clf.model_.labels) == ["pay", "send"]
    assert clf.predict(MIXED).shape == wide.shape
    assert (clf.predict_proba(MIXED)[:, 1] == 0).all()
    assert clf.score(MIXED, wide) > 0.5
    frame = make().fit(MIXED, pd.DataFrame(wide, columns=["send", "nobody", "pay"]))
    assert frame.classes_.tolist() == ["send", "nobody", "pay"]


def test_an_indicator_with_one_label_a_text_is_still_several_unless_asked(make: Make) -> None:
    one_hot = np.tile(np.eye(2, dtype=int), (16, 1))
    assert make().fit(TEXTS, one_hot).task_ == "multi"
    clf = make(task="single").fit(TEXTS, one_hot)
    assert clf.task_ == "single"
    assert (clf.predict(TEXTS).sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("classes", "labels", "said"),
    [
        (["pay"], INDICATOR, "found 1, expected a name for each of y's 2 columns"),
        (["pay", "pay"], INDICATOR, "found a name twice"),
        ("pay", INDICATOR, "expected a name for each"),
        (["pay", "send"], LABELS, "only with an indicator matrix"),
    ],
)
def test_classes_that_do_not_fit_are_refused(make: Make, classes: Any, labels: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        make(classes=classes).fit(MIXED, labels)


@pytest.mark.parametrize("dev", [(TEXTS,), 3, "xy", {"a": 1, "b": 2}])
def test_what_is_no_pair_of_texts_and_labels_is_no_dev(make: Make, dev: Any) -> None:
    with pytest.raises(DataError, match=r"^dev: found .*, expected a pair: texts, and a list of their labels"):
        make().fit(TEXTS, LABELS, dev=dev)


def test_a_column_of_labels_is_flattened_with_a_warning(make: Make) -> None:
    with pytest.warns(DataConversionWarning, match="column-vector") as caught:
        clf = make().fit(TEXTS, np.array(LABELS)[:, np.newaxis])
    assert caught[0].filename == __file__
    assert clf.predict(TEXTS[:2]).tolist() == ["pay", "send"]


# Teaching


def test_partial_fit_fits_first_and_teaches_then(make: Make) -> None:
    clf = make()
    assert clf.partial_fit(TEXTS, LABELS, classes=["pay", "send", "fun"]) is clf
    model, before = clf.model_, clf.model_.revision
    assert clf.classes_.tolist() == ["pay", "send"]  # what has examples
    clf.partial_fit(FUN[:8], ["fun"] * 8)
    assert clf.model_ is model and model.revision == before + 1
    assert clf.classes_.tolist() == ["fun", "pay", "send"]
    assert clf.predict_proba(FUN).shape == (16, 3)
    assert np.mean(clf.predict(FUN[8:]) == "fun") > 0.5
    with pytest.raises(LabelError, match=r"y\[0\]: found 'fum', expected one of classes; did you mean 'fun'"):
        clf.partial_fit(FUN[:1], ["fum"], classes=["pay", "send", "fun"])
    with pytest.raises(LabelError, match="found whole numbers, expected strings"):
        clf.partial_fit(FUN[:1], [3])
    assert model.revision == before + 1


def test_numbers_taught_later_widen_their_type(make: Make) -> None:
    clf = make().fit(TEXTS, np.array([0, 1] * 16, dtype=np.int8))
    clf.partial_fit(FUN, [1000] * len(FUN))
    assert clf.classes_.tolist() == [0, 1, 1000]
    assert clf.predict(FUN).tolist().count(1000) > 8
    clf.model_.rename_label("1000", "fun")
    with pytest.raises(LabelError, match="has the label 'fun', y had whole numbers"):
        clf.predict(FUN)


def test_an_indicator_taught_later_may_bring_columns(make: Make) -> None:
    clf = make(classes=["pay", "send"]).fit(MIXED, INDICATOR)
    clf.partial_fit(MIXED[:1], [[1, 1]])  # the columns of the fit
    clf.partial_fit(FUN, np.ones((len(FUN), 1), int).repeat(2, axis=1) * [0, 1], classes=["pay", "fun"])
    assert clf.classes_.tolist() == ["pay", "send", "fun"]
    assert clf.predict(FUN).shape == (16, 3)
    clf.partial_fit(["river boat"], [["all"]])  # label sets do too
    assert clf.classes_.tolist() == ["pay", "send", "fun", "all"]
    clf.partial_fit(["sky and sea"], [[1, 1]])  # still the columns of the fit
    assert clf.model_.examples(contains="sky")[0].labels == ("pay", "send")


def test_a_data_frame_brings_its_own_columns_whatever_their_order(make: Make) -> None:
    frame = pd.DataFrame(INDICATOR, columns=["pay", "send"])
    clf = make().fit(MIXED, frame, dev=(MIXED, frame[["send", "pay"]]))
    assert clf.model_.info.fit["scores"]["frozen"]["blend"] > 0.9  # judged on what the columns say
    turned = frame[["send", "pay"]]
    assert clf.score(MIXED, turned) == clf.score(MIXED, frame) > 0.5
    clf.partial_fit(["a bill of gold"], pd.DataFrame({"send": [0], "pay": [1]}))
    clf.partial_fit(FUN, pd.DataFrame({"fun": [1] * len(FUN), "pay": [0] * len(FUN)}))
    assert [example.labels for example in clf.model_.examples(contains="gold")] == [("pay",)]
    assert clf.classes_.tolist() == ["pay", "send", "fun"]
    assert clf.model_.labels["fun"] == len(FUN)
    named = make(classes=["pay", "send"]).fit(MIXED, pd.DataFrame(INDICATOR, columns=["p", "s"]))
    named.partial_fit(["a bill of gold"], pd.DataFrame({"p": [1], "s": [0]}))  # whoever names them once has named them
    assert [example.labels for example in named.model_.examples(contains="gold")] == [("pay",)]


def test_numbers_stay_whole_and_are_spelled_in_one_way(make: Make) -> None:
    clf = make().fit(TEXTS, np.array([0, 1] * 16, dtype=np.uint64))
    clf.partial_fit(FUN[:4], [2] * 4)
    assert clf.classes_.dtype.kind in "iu"
    small = make().fit(TEXTS, np.array([0, 1] * 16, dtype=np.int8))
    small.model_.teach(FUN[:4], ["300"] * 4)
    assert small.classes_.tolist() == [0, 1, 300]
    small.model_.teach(FUN[4:8], ["007"] * 4)
    with pytest.raises(LabelError, match="has the label '007', y had whole numbers"):
        small.predict(FUN)


def test_further_matrices_have_the_columns_of_the_fit_or_all(make: Make) -> None:
    clf = make(classes=["pay", "send"]).fit(MIXED, INDICATOR)
    with pytest.raises(LabelError, match="y: found 3 columns, expected 2 as at fit; give one for each"):
        clf.score(TEXTS[:1], np.ones((1, 3), int))
    clf.partial_fit(FUN[:1], np.array([[1, 0]]), classes=["fun", "pay"])
    assert clf.classes_.tolist() == ["pay", "send", "fun"]
    clf.partial_fit(MIXED[:1], INDICATOR[:1]).partial_fit(FUN[:1], np.array([[0, 0, 1]]))
    assert clf.model_.examples(contains=FUN[0])[0].labels == ("fun",)
    assert clf.score(MIXED, INDICATOR) == clf.score(MIXED, np.hstack([INDICATOR, np.zeros((len(MIXED), 1), int)]))
    assert clf.fit(MIXED, INDICATOR, dev=(MIXED, INDICATOR)).classes_.tolist() == ["pay", "send"]
    clf.partial_fit(FUN[:1], np.array([[1]]).repeat(2, axis=1), classes=["fun", "pay"])
    with pytest.raises(LabelError, match="found 4 columns, expected 2 as at fit, or 3 with what came later"):
        clf.partial_fit(TEXTS[:1], np.ones((1, 4), int))


def test_classes_follow_the_model(make: Make) -> None:
    clf = make().fit(TEXTS, LABELS)
    clf.model_.rename_label("pay", "zahlen")
    assert clf.classes_.tolist() == ["send", "zahlen"]
    assert set(clf.predict(TEXTS)) == {"send", "zahlen"}
    assert clf.classes_[clf.predict_proba(PAY[:1])[0].argmax()] == "zahlen"


# The model behind it


def test_answers_cite_their_neighbours(fitted: Classifier) -> None:
    (answer,) = fitted.classify(PAY[:1])
    assert isinstance(answer, Prediction)
    assert answer == fitted.model_.classify(PAY[0])
    assert answer.neighbours[0].text == PAY[0]
    assert len(fitted.classify(PAY[:1], neighbours=1)[0].neighbours) == 1


def test_dev_rows_choose_the_settings_and_do_not_join(make: Make) -> None:
    clf = make().fit(TEXTS[:24], LABELS[:24], dev=(pd.Series(TEXTS[24:]), np.array(LABELS[24:])))
    assert clf.model_.info.fit["examples"] == 24
    assert clf.model_.info.fit["judged_on"] == "8 dev rows"
    with pytest.raises(LabelError, match="found whole numbers, expected strings"):
        make().fit(TEXTS[:24], LABELS[:24], dev=(TEXTS[24:], [0, 1] * 4))


def test_save_writes_what_model_open_reads(make: Make, tmp_path: Path) -> None:
    clf = make().fit(TEXTS, LABELS)
    model = clf.save(tmp_path / "model")
    assert model is clf.model_ and model.path == tmp_path / "model"
    with Model.open(tmp_path / "model") as opened:
        assert [answer.label for answer in opened.classify(TEXTS)] == clf.predict(TEXTS).tolist()


def test_a_second_fit_starts_anew_and_closes_what_was_never_saved(make: Make, tmp_path: Path) -> None:
    clf = make().fit(TEXTS, LABELS)
    saved = clf.save(tmp_path / "model")
    clf.fit(PAY + FUN, ["pay"] * 16 + ["fun"] * 16)
    assert clf.classes_.tolist() == ["fun", "pay"]
    assert saved.classify(SEND[0]).label == "send"  # it belongs to whoever saved it
    temporary = clf.model_
    root = temporary._layout.root
    clf.fit(TEXTS, LABELS)
    assert not root.exists()
    saved.close()


def test_a_failed_fit_leaves_the_model_as_it_was(make: Make) -> None:
    clf = make().fit(TEXTS, LABELS)
    with pytest.raises(DataError):
        clf.fit(TEXTS, LABELS[1:])
    assert clf.score(TEXTS, LABELS) > 0.9


def test_an_estimator_that_is_dropped_leaves_nothing_behind(make: Make) -> None:
    clf = make().fit(TEXTS, LABELS)
    model, root = clf.model_, clf.model_._layout.root
    assert root.is_relative_to(tempfile.gettempdir())
    del clf
    gc.collect()
    assert model.classify(PAY[0]).label == "pay"  # still held
    del model
    gc.collect()
    assert not root.exists()


# What scikit-learn does with estimators


@pytest.mark.parametrize("copied", [lambda clf: pickle.loads(pickle.dumps(clf)), copy.deepcopy])
def test_a_copy_answers_alike_and_learns_on_its_own(make: Make, copied: Callable[[Classifier], Classifier]) -> None:
    clf = make().fit(TEXTS, LABELS)
    clf.partial_fit(FUN, ["fun"] * len(FUN))
    twin = copied(clf)
    np.testing.assert_allclose(twin.predict_proba(TEXTS + FUN), clf.predict_proba(TEXTS + FUN))
    assert twin.model_.revision == clf.model_.revision
    assert twin.model_.path is None
    twin.partial_fit(["a river"], ["water"])
    assert "water" in twin.classes_ and "water" not in clf.classes_


def test_an_unfitted_estimator_is_cloned_and_pickled(fitted: Classifier) -> None:
    for twin in (clone(fitted), pickle.loads(pickle.dumps(clone(fitted)))):
        assert twin.get_params() == fitted.get_params()
        with pytest.raises(NotFittedError):
            twin.classify(TEXTS)
        assert not hasattr(twin, "classes_")


def _lower(texts: list[str]) -> list[str]:
    return [text.lower() for text in texts]


def test_it_ends_a_pipeline(make: Make) -> None:
    pipeline = make_pipeline(FunctionTransformer(_lower), make()).fit([text.upper() for text in TEXTS], LABELS)
    assert pipeline.score(TEXTS, LABELS) > 0.9
    assert pipeline.classes_.tolist() == ["pay", "send"]


@pytest.mark.parametrize("scoring", [None, "neg_log_loss", "roc_auc"])
def test_cross_validation_with_one_label(make: Make, scoring: str | None) -> None:
    scores = cross_val_score(make(), pd.Series(TEXTS), np.array(LABELS), cv=2, scoring=scoring, error_score="raise")
    assert np.isfinite(scores).all()


def test_cross_validation_with_an_indicator(make: Make) -> None:
    scores = cross_val_score(make(), MIXED, INDICATOR, cv=2, scoring="f1_macro", error_score="raise")
    assert (scores > 0.5).all()


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_grid_search_over_its_parameters(make: Make, n_jobs: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_THREADS", "1")  # in the worker processes too, which share the cores
    grid = {"measure": ["accuracy", "macro_f1"], "holdout": [0.2]} if n_jobs is None else {"recipe": ["frozen"]}
    search = GridSearchCV(make(), grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(TEXTS, LABELS)
    assert search.best_score_ > 0.8
    assert search.predict(TEXTS[:2]).tolist() == ["pay", "send"]
    assert search.classes_.tolist() == ["pay", "send"]


def test_without_scikit_learn_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['sklearn'] = None\nimport likewise; likewise.Model\nlikewise.Classifier"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"likewise.errors.{MissingExtra.__name__}")
    assert "pip install 'likewise[train]'" in done.stderr
