"""Classifier, the scikit-learn estimator: a thin adapter that fits a Model, holds it, and speaks that dialect.

What is particular to it is the form of X and y; what it knows and answers is the model's.
"""
# ruff: noqa: N803 (X is scikit-learn's name)

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from likewise.encoding.names import DEFAULT as DEFAULT_ENCODER
from likewise.errors import DataError, LabelError, MissingExtra, SettingError, suggestion
from likewise.files import temporary_root
from likewise.fitting import fit
from likewise.model import Model
from likewise.progress import Progress
from likewise.recipes import recipe_named
from likewise.settings import SETTINGS, Settings, settings_of
from likewise.targets import Shape, check_among, read_targets
from likewise.types import Prediction, Task
from likewise.validation import check_pair

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import DataConversionWarning, NotFittedError
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise MissingExtra(
        f"Classifier needs scikit-learn ({error.name} is not installed); run: pip install 'likewise[train]'"
    ) from error

_TASKS = ("auto", "single", "multi")
_SETTINGS = (*(setting.name for setting in settings_of("fit")), "neighbours")


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Text classification by example, as a scikit-learn estimator.

    Parameters are only stored; `fit` checks them, all at once. Those from `seed` on are settings (see `Settings`):
    None means the environment's `LIKEWISE_<NAME>`, else the table's default.

    - `recipe`, `encoder`, `task` ("auto", "single", "multi"): as in the design. "auto" takes an indicator matrix for
      several labels a text, and anything else for one label a text where every row has exactly one.
    - `classes`: names of the columns of an indicator matrix, in their order. Without it a DataFrame brings its own,
      and the columns of a bare matrix are numbered from 0.
    - `seed`, `epochs`, `batch_size`, `learning_rate`, `max_tokens`, `objective`,
      `contrastive_temperature`, `projection`, `preservation`, `batches`, `per_class`, `gamma`, `shared_labels`,
      `siamese_pairs`, `pooling`, `measure`, `holdout`, `precision`, `storage`, `neighbours`.

    X is a list, tuple, one-dimensional array or Series of texts. y is one of three forms, and `predict` answers in
    the same one:

    - labels, one a text: strings, whole numbers or truth values. The answer is an array of them, of y's type. The
      model itself knows strings only, so to it 3 is "3" and True is "True".
    - label sets: a list of lists of strings. The answer is a list of tuples, each in the order of `classes_`.
      (scikit-learn's own splitters and scorers refuse such a y: give them an indicator matrix.)
      One label a text under `task="multi"` is answered in this form too.
    - an indicator matrix of 0 and 1, also sparse. The answer is a dense one of the same type, with the same columns.

    After `fit`: `model_` (the Model; teach, forget and relabel through it as you like), `task_`, and `classes_`, the
    labels that have examples now, sorted (with an indicator matrix: its columns, in their order, then labels taught
    since). There is no `n_features_in_`: a text has no features.
    """

    model_: Model
    task_: Task
    _shape: Shape

    def __init__(
        self,
        recipe: str = "likewise",
        encoder: str | os.PathLike[str] = DEFAULT_ENCODER,
        task: Literal["auto"] | Task = "auto",
        classes: ArrayLike | None = None,
        seed: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        max_tokens: int | None = None,
        objective: str | None = None,
        contrastive_temperature: float | None = None,
        projection: str | None = None,
        preservation: float | None = None,
        batches: str | None = None,
        per_class: int | None = None,
        gamma: float | None = None,
        shared_labels: str | None = None,
        siamese_pairs: str | None = None,
        pooling: str | None = None,
        measure: str | None = None,
        holdout: float | None = None,
        precision: str | None = None,
        storage: str | None = None,
        neighbours: int | None = None,
    ) -> None:
        self.recipe = recipe
        self.encoder = encoder
        self.task = task
        self.classes = classes
        self.seed = seed
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_tokens = max_tokens
        self.objective = objective
        self.contrastive_temperature = contrastive_temperature
        self.projection = projection
        self.preservation = preservation
        self.batches = batches
        self.per_class = per_class
        self.gamma = gamma
        self.shared_labels = shared_labels
        self.siamese_pairs = siamese_pairs
        self.pooling = pooling
        self.measure = measure
        self.holdout = holdout
        self.precision = precision
        self.storage = storage
        self.neighbours = neighbours

    # Learning

    def fit(
        self,
        X: object,
        y: object,
        *,
        dev: tuple[object, object] | None = None,
        source_task: tuple[Sequence[str], Sequence[object]] | None = None,
        progress: Progress | None = None,
    ) -> Classifier:
        """Fit a new model, with a datastore of its own; a model fitted before and never saved is closed.

        `dev`: a pair (X, y) that chooses the settings and joins neither training nor datastore. `source_task`: texts
        and labels (or lists of labels) of another task, for a recipe that learns from one. SettingError names every
        wrong parameter; DataError, LabelError and EncoderError say what cannot be fitted.
        """
        return self._fit(X, y, self.classes, dev, progress, source_task=source_task)

    def partial_fit(self, X: object, y: object, classes: ArrayLike | None = None) -> Classifier:
        """Teach labelled texts, at once and without training; labels may be new. The first call of all fits.

        `classes` names the columns where y is an indicator matrix; otherwise they are those of the fit, or these and
        all that further calls have brought. With other forms of y a label that is not among `classes` is refused. It
        promises nothing: `classes_` holds what has examples.
        """
        if not self.__sklearn_is_fitted__():
            return self._fit(X, y, self.classes if classes is None else classes, None, None, strict=classes is None)
        taught, sets = self._read(y, self._shape) if classes is None else read_targets(_flat(y), classes)
        check_among(sets, taught, classes)
        shape = self._shape.joined(taught)
        self.model_.teach(_texts(X), sets)
        self._shape = shape
        return self

    def _fit(
        self,
        X: object,
        y: object,
        classes: ArrayLike | None,
        dev: tuple[object, object] | None,
        progress: Progress | None,
        strict: bool = True,
        source_task: tuple[Sequence[str], Sequence[object]] | None = None,
    ) -> Classifier:
        settings = self._checked_parameters()
        if y is None:
            raise LabelError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; give each text's label"
            )
        texts = _texts(X)
        shape, sets = read_targets(_flat(y), classes)
        if classes is not None and shape.form != "indicator" and strict:
            raise SettingError("classes: found them with a list of labels, expected only with an indicator matrix")
        check_among(sets, shape, classes)
        found = sorted({label for row in sets for label in row})
        if len(found) < 2:
            named = f"one class, {found[0]!r}" if found else "no class"
            raise LabelError(f"y: found {named}, expected two or more; add examples of another")
        task = "multi" if self.task == "auto" and shape.form == "indicator" else self.task
        if task == "multi" and shape.form == "labels":
            shape = replace(shape, form="sets")
        held = None if dev is None else self._dev(dev, shape)
        model = fit(
            texts, sets, task=task, recipe=self.recipe, encoder=_path(self.encoder), dev=held,
            source_task=source_task, settings=settings, progress=progress,
        )  # fmt: skip
        old = self.__dict__.get("model_")
        self.model_, self.task_, self._shape = model, model.task, shape
        if old is not None and old.path is None:
            old.close()  # a saved one belongs to whoever `save` handed it to
        return self

    def _read(self, y: object, shape: Shape) -> tuple[Shape, list[tuple[str, ...]]]:
        """A further y: an indicator matrix's columns mean what they did before, a DataFrame's have their own names."""
        if shape.form != "indicator" or (hasattr(y, "columns") and self.classes is None):
            return read_targets(_flat(y), None)
        return read_targets(_flat(y), shape.kind.values(shape.columns), shape.at_fit)

    def _dev(self, dev: tuple[object, object], shape: Shape) -> tuple[list[str], list[tuple[str, ...]]]:
        dev_texts, dev_labels = check_pair(dev, "dev")
        held, sets = self._read(dev_labels, shape)
        shape.joined(held)
        return _texts(dev_texts), sets

    def _checked_parameters(self) -> Settings:
        """The settings; SettingError with everything that is wrong with the parameters."""
        given = {name: getattr(self, name) for name in _SETTINGS if getattr(self, name) is not None}
        checks: list[Callable[[], object]] = [
            lambda: recipe_named(_string("recipe", self.recipe)),
            lambda: _string("encoder", _path(self.encoder)),
            lambda: _choice("task", self.task, _TASKS),
            *(lambda name=name, value=value: SETTINGS[name].check(value) for name, value in given.items()),
        ]
        wrong = []
        for check in checks:
            try:
                check()
            except SettingError as error:
                wrong.append(str(error))
        if len(wrong) > 1:
            raise SettingError(f"{len(wrong)} parameters are wrong: " + " | ".join(wrong))
        if wrong:
            raise SettingError(wrong[0])
        return Settings.resolve(**given)

    # Answers

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels in the order of `predict_proba`'s columns, of the type they have in y."""
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("classes_: this Classifier is not fitted yet; call fit first")
        return self._shape.kind.values(self._names())

    def predict(self, X: object) -> NDArray[Any] | list[tuple[Any, ...]]:
        """The labels of each text, in the form that y had at fit."""
        predictions = self.classify(X, neighbours=0)
        shape = self._shape
        if shape.form == "labels":
            return shape.kind.values([prediction.labels[0] for prediction in predictions])
        names = self._names(label for prediction in predictions for label in prediction.labels)
        column = {name: i for i, name in enumerate(names)}
        rows = [sorted(column[label] for label in prediction.labels) for prediction in predictions]
        if shape.form == "sets":
            labels = shape.kind.values(names).tolist()
            return [tuple(labels[i] for i in row) for row in rows]
        table = np.zeros((len(rows), len(names)), dtype=shape.dtype)
        for i, row in enumerate(rows):
            table[i, row] = 1
        return table

    def predict_proba(self, X: object) -> NDArray[np.float64]:
        """The blended probabilities, (texts, labels), columns as in `classes_`.

        Rows sum to 1 where there is one label a text; with several, each label has a probability of its own.
        """
        predictions = self.classify(X, neighbours=0)
        names = self._names(label for prediction in predictions for label, _ in prediction.scores)
        column = {name: i for i, name in enumerate(names)}
        table = np.zeros((len(predictions), len(names)))
        for row, prediction in zip(table, predictions, strict=True):
            for label, score in prediction.scores:
                row[column[label]] = score
        return table

    def classify(self, X: object, neighbours: int | None = None) -> list[Prediction]:
        """The full answers: both voices and the examples they rest on, at most `neighbours` of them a text."""
        check_is_fitted(self)
        return self.model_.classify(_texts(X), neighbours)

    def score(self, X: object, y: object, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy: the share of texts whose label, or whole set of labels, is right."""
        check_is_fitted(self)
        if self._shape.form == "labels":
            return float(super().score(X, y, sample_weight))
        _, truth = self._read(y, self._shape)
        decided = [tuple(sorted(prediction.labels)) for prediction in self.classify(X, neighbours=0)]
        if len(truth) != len(decided):
            raise LabelError(f"y: found {len(truth)}, expected one entry for each of {len(decided)} texts")
        right = [tuple(sorted(a)) == b for a, b in zip(truth, decided, strict=True)]
        return float(np.average(right, weights=None if sample_weight is None else np.asarray(sample_weight)))

    def _names(self, answered: Iterable[str] = ()) -> list[str]:
        """The model's names of the labels, in order; those just answered with too, should they have gone since."""
        shape = self._shape
        names = {*self.model_.labels, *answered} - set(shape.columns)
        return [*shape.columns, *sorted(names, key=shape.kind.value)]

    # The model directory

    def save(self, path: str | os.PathLike[str]) -> Model:
        """Write the model to a new directory, which `Model.open` opens; see `Model.save`."""
        check_is_fitted(self)
        return self.model_.save(path)

    def __getstate__(self) -> dict[str, Any]:
        """A fitted estimator is pickled with a copy of its model directory, and wakes up with that copy, not saved."""
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = _Packed.of(state["model_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("model_"), _Packed):
            state = {**state, "model_": state["model_"].unpacked()}
        super().__setstate__(state)

    # What scikit-learn asks

    def __sklearn_is_fitted__(self) -> bool:
        return "model_" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.one_d_labels = tags.target_tags.two_d_labels = True
        tags.classifier_tags.multi_label = True
        return tags


# The form of X, and of parameters


def _texts(X: Any) -> list[str]:
    """X as a list; what its members are is checked where they are used."""
    if isinstance(X, list | tuple):
        return list(X)
    if isinstance(X, str):
        raise DataError("X: found one string, expected a list of texts; wrap it in a list")
    if hasattr(X, "nnz"):
        raise DataError(
            "X: found a sparse matrix, expected texts (sparse input is not supported); leave vectorising out"
        )
    array = np.asarray(X)
    if array.ndim == 0:
        raise DataError(f"X: found {type(X).__name__}, expected a list, array or Series of texts")
    if array.ndim > 1:
        raise DataError(f"X: found shape {array.shape}, expected texts in one dimension; give one column of the table")
    return cast(list[str], array.tolist())


def _flat(y: Any) -> Any:
    """y, a column vector made flat with scikit-learn's own warning."""
    if isinstance(y, list | tuple | str) or y is None or hasattr(y, "toarray"):
        return y
    array = np.asarray(y)
    if array.ndim != 2 or array.shape[1] != 1:
        return y
    warnings.warn(
        "A column-vector y was passed when a 1d array was expected. Change its shape to (n_samples,), "
        "for example with ravel().",
        DataConversionWarning,
        stacklevel=4,
    )
    return array.ravel()


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _string(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise SettingError(f"{name}: found {value!r}, expected a string")
    return value


def _choice(name: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        hint = suggestion(str(value), choices)
        raise SettingError(f"{name}: found {value!r}, expected one of {', '.join(choices)}{hint}")


# Models that were never saved


@dataclass(frozen=True)
class _Packed:
    """A copy of a model directory, with its history, as an archive: plain files, no pickled objects among them."""

    archive: bytes
    settings: Settings

    @classmethod
    def of(cls, model: Model) -> _Packed:
        content = io.BytesIO()
        with tempfile.TemporaryDirectory(prefix="likewise-") as folder:
            root = Path(folder) / "model"
            model.copy_to(root)
            with tarfile.open(fileobj=content, mode="w") as archive:
                archive.add(root, ".")
        return cls(content.getvalue(), model.settings)

    def unpacked(self) -> Model:
        root = temporary_root()
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            archive.extractall(root, filter="data")
        return Model(root, self.settings, temporary=True)
