"""scikit-learn's own estimator checks, as far as a classifier of texts can take them.

Those that bring no X of their own run on `Classifier` as it is. The others bring rows of numbers, so they run on a
subclass that writes each row down as a text, a word a number, and is a `Classifier` in everything else. What cannot
apply either way stands in `CANNOT_APPLY` with its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import validate_data

from likewise import Classifier, Prediction

pytestmark = pytest.mark.filterwarnings("ignore::likewise.progress.LikewiseWarning")

CANNOT_APPLY = {
    "check_array_api_input": "about arrays of other libraries, which hold no texts",
    "check_classifiers_multilabel_output_format_decision_function": "there is no decision_function but predict_proba",
    "check_complex_data": "about numbers: a complex one is no text, and is refused as what it is not",
    "check_dtype_object": "about tables of numbers held as objects, which are to be read as numbers",
    "check_estimators_dtypes": "about the types of numbers; a text has none",
    "check_estimators_empty_data_messages": "half of it is about zero features; a text has no features",
    "check_estimators_nan_inf": "about numbers; a missing text is refused in words of its own",
    "check_estimators_partial_fit_n_features": "a text has no features to be counted",
    "check_f_contiguous_array_estimator": "about the memory layout of a table",
    "check_fit2d_1feature": "a text has no features",
    "check_fit2d_predict1d": "texts come in one dimension, so that is no mistake",
    "check_n_features_in": "a text has no features, so there is no n_features_in_",
    "check_n_features_in_after_fitting": "a text has no features, so there is no n_features_in_",
}
"""The checks of the battery that ask for what texts do not have, and why. The documentation repeats this table."""

ON_TEXT = [
    "check_classifiers_one_label_sample_weights",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_non_transformer_estimators_n_iter",
    "check_parameters_default_constructible",
    "check_requires_y_none",
    "check_set_params",
    "check_supervised_y_no_nan",
    "check_valid_tag_types",
]
"""The checks that need no X, or one that a classifier of texts has to refuse."""

# The tiny encoder knows each of these as a word.
WORDS = """
account answer bad bank battery bill bird black blue book box bus car cat change child city code cold customer day
delivery dog door drink eat email error evening family fast find fire food friend game girl good green hand happy
home hot house invoice laugh learn letter light love mail man minute money month morning mother music name night
office order paid parcel park people phone
"""


class ClassifierOfRows(Classifier):
    """A Classifier whose texts are rows of numbers, written out."""

    def fit(self, X: Any, y: Any) -> ClassifierOfRows:  # noqa: N803
        return super().fit(self._written(X, reset=True), y)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> ClassifierOfRows:  # noqa: N803
        first = not self.__sklearn_is_fitted__()
        return super().partial_fit(self._written(X, reset=first), y, classes)

    def classify(self, X: Any, neighbours: int | None = None) -> list[Prediction]:  # noqa: N803
        return super().classify(self._written(X, reset=False), neighbours)

    def _written(self, X: Any, reset: bool) -> Any:  # noqa: N803
        if hasattr(X, "nnz") or np.asarray(X).ndim == 1:
            return X  # left for Classifier to refuse
        words = WORDS.split()
        rows = validate_data(self, X, reset=reset)
        return [" ".join(words[(31 * j + round(2 * x)) % len(words)] for j, x in enumerate(row)) for row in rows]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags


def _named(check: Any) -> str:
    while isinstance(check, partial):
        check = check.func
    return str(getattr(check, "__wrapped__", check).__name__)


def _title(check: Any) -> str:
    arguments = [f"{key}={value}" for key, value in sorted(check.func.keywords.items())] if _is_nested(check) else []
    return ",".join([_named(check), *arguments])


def _is_nested(check: Any) -> bool:
    return isinstance(check, partial) and isinstance(check.func, partial)


BATTERY = [check for _, check in estimator_checks_generator(ClassifierOfRows())]


@pytest.mark.parametrize("name", ON_TEXT)
def test_the_check_passes_on_the_classifier_itself(name: str, tiny_encoder: Path) -> None:
    check: Callable[[str, Classifier], None] = getattr(estimator_checks, name)
    check("Classifier", Classifier(recipe="frozen", encoder=str(tiny_encoder)))


@pytest.mark.parametrize("check", [c for c in BATTERY if _named(c) not in CANNOT_APPLY], ids=_title)
def test_the_check_passes_on_rows_written_as_texts(check: Callable[[Classifier], None], tiny_encoder: Path) -> None:
    check(ClassifierOfRows(recipe="frozen", encoder=str(tiny_encoder)))


def test_the_tables_name_checks_that_the_battery_has() -> None:
    known = {_named(check) for check in BATTERY}
    assert set(CANNOT_APPLY) <= known
    assert set(ON_TEXT) <= known
